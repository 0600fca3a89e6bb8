//! WHERE: sources of hints about who may be reached at which address. A hint is only a hint: who a peer is gets
//! proven in the handshake, and whether it lives is the link's business.

pub(crate) mod exchange;
mod fixed;
mod local;
mod mdns;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};

use crate::env::{BoxFuture, Env};
use crate::id::NodeId;

pub use fixed::{Fixed, InvalidPeer, PeerAddress};
pub use local::Local;
pub use mdns::Mdns;

/// What a node tells others about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Advert {
    /// The mesh, without saying which: 8 bytes of a hash of its CA's public key.
    pub mesh_tag: [u8; 8],
    /// Who advertises.
    pub node: NodeId,
    /// This life of the node: another number after each start.
    pub incarnation: u64,
    /// The UDP port that the node listens on.
    pub port: u16,
    /// The address that the node is bound to; unspecified when it listens on all.
    pub bound: SocketAddr,
}

/// Where hints come from. Each source runs as one task of the node and is dropped with it.
pub trait Source: Send + Sync + 'static {
    /// One word for people: `local`, `mdns`, `fixed`.
    fn name(&self) -> &'static str;

    /// Advertises `own`, and tells what is found until it is dropped. Dropping the future withdraws the advert.
    ///
    /// A node is there once each of its sources has come to where it waits for the first time: what is advertised before
    /// that, whoever starts afterwards can find.
    fn run(self: Arc<Self>, own: Advert, env: Env, found: Finder) -> BoxFuture<()>;
}

/// What a source tells its node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// Somebody may be reached at one of these addresses, the likeliest first. `node`: who the source believes it is.
    Seen {
        /// Who it is said to be; `None` where only an address is known.
        node: Option<NodeId>,
        /// Which life of it; `None` where that is not known.
        incarnation: Option<u64>,
        /// The source is in touch with its process, which is on this host: certain, not a guess. Every other life of the node
        /// has ended.
        in_touch: bool,
        /// Where to dial. Empty: the hint is withdrawn.
        addresses: Vec<SocketAddr>,
    },
    /// The process of this node has ended: certain, not a guess.
    Gone {
        /// Who has ended.
        node: NodeId,
        /// Which life of it.
        incarnation: u64,
    },
    /// The first pass is finished: who was there at the start has been told.
    FirstPass,
    /// For people: what the source has tried and seen, replacing what it said before. Shown when the node stays alone.
    Report(String),
    /// A report that is told at once: the source cannot do its work, why, and what to do about it.
    Trouble(String),
}

/// A source's way to its node.
#[derive(Debug, Clone)]
pub struct Finder {
    source: usize,
    found: mpsc::Sender<(usize, Found)>,
    doubts: broadcast::Sender<NodeId>,
}

impl Finder {
    pub(crate) fn new(source: usize, found: mpsc::Sender<(usize, Found)>, doubts: broadcast::Sender<NodeId>) -> Self {
        Self { source, found, doubts }
    }

    /// Tells the node; waits while the node is busy with earlier hints.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing was told.
    pub async fn tell(&self, found: Found) {
        // The node has ended: so will the source.
        let _ = self.found.send((self.source, found)).await;
    }

    /// What the node doubts from now on.
    pub fn doubts(&self) -> Doubts {
        Doubts(self.doubts.subscribe())
    }
}

/// The nodes that are not where they are said to be, or no more: whoever keeps hints may want to look again.
#[derive(Debug)]
pub struct Doubts(broadcast::Receiver<NodeId>);

impl Doubts {
    /// Waits for the next one; for ever once the node has ended. It is told again as long as the node cannot be reached.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no doubt is lost.
    pub async fn next(&mut self) -> NodeId {
        loop {
            match self.0.recv().await {
                Ok(node) => return node,
                // It is told again.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_stops_telling_has_told_nothing() {
        let (sender, mut found) = mpsc::channel(1);
        let finder = Finder::new(7, sender, broadcast::Sender::new(1));
        assert!(finder.tell(Found::FirstPass).now_or_never().is_some());
        {
            let mut telling = Box::pin(finder.tell(Found::Report("dropped".into())));
            assert!(telling.as_mut().now_or_never().is_none());
            assert_eq!(found.try_recv(), Ok((7, Found::FirstPass)));
        }
        assert!(found.try_recv().is_err());
        assert!(finder.tell(Found::FirstPass).now_or_never().is_some(), "the place is nobody's");
    }

    #[test]
    fn who_stops_listening_loses_no_doubt() {
        let doubts = broadcast::Sender::new(1);
        let mut listening = Finder::new(7, mpsc::channel(1).0, doubts.clone()).doubts();
        let node = NodeId::from_bytes([1; 32]);
        {
            let mut next = Box::pin(listening.next());
            assert!(next.as_mut().now_or_never().is_none());
            doubts.send(node).unwrap();
        }
        assert_eq!(listening.next().now_or_never(), Some(node));
    }
}
