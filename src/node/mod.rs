//! The hall: a node, who it knows, and which of its sockets meet whom.
//!
//! | file | question |
//! |---|---|
//! | `builder` | what does a node need to start? |
//! | `hall` | what does it know of itself? |
//! | `peers` | who is there, and where? |
//! | `dials`, `pace` | who is dialled, and when? |
//! | `links`, `drive` | what is said on a connection, and what becomes of it? |
//! | `exchange` | what do peers tell each other about others? |
//! | `routes` | which lanes have to be? |
//! | `scrape` | who collects its figures? |
//! | `status` | what does the mesh do? |
//! | `supervisor` | what is it time for? |
//! | `events`, `nearest` | what is worth telling? |
//! | `leave` | how does it end? |

mod builder;
mod dials;
mod drive;
mod events;
mod exchange;
mod hall;
mod leave;
mod links;
mod nearest;
mod pace;
mod peers;
mod routes;
#[cfg(feature = "prometheus")]
mod scrape;
mod status;
mod supervisor;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub use builder::{Builder, JoinError};
pub use events::{Event, Events};
pub(crate) use hall::{Hall, Registered, SocketSpec};
pub use leave::{Undelivered, UndeliveredMessage};
pub use links::Peer;
pub use status::{Channel, ChannelSockets};

use crate::env::{Env, OwnThread};
use crate::id::NodeId;
use crate::observe::{Metrics, NoStatus, NodeStatus, Snapshot};
use crate::socket::{PublisherBuilder, PullBuilder, PushBuilder, ReplierBuilder, RequesterBuilder, SubscriberBuilder};
use crate::trust::Identity;
use leave::Leaving;

/// A member of a mesh: an identity, one UDP port, and the sockets that are opened on it.
///
/// A clone is the same node. It lives as long as a clone or one of its sockets. When the last of them is dropped while
/// accepted messages are unsettled, the drop **waits** for them, up to [`Builder::linger`]; then it logs and counts what
/// was lost. It does not wait while panicking, nor where the node runs on the caller's runtime
/// ([`Builder::on_current_runtime`], [`Builder::env`]) and waiting would stop the node itself: there it drains in the
/// background. [`shutdown`](Self::shutdown) does the same without blocking, and hands the rest back.
#[derive(Clone)]
pub struct Node {
    host: Arc<Host>,
}

impl Node {
    /// Joins the mesh of this name with this user's key: other programs of this user are found on this host, and those
    /// with the same key on its networks.
    ///
    /// The same as [`builder(mesh)`](Self::builder) with every default.
    ///
    /// # Errors
    /// The key can not be read or made, or the operating system gives no port; the error says what to do.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no node was started, or it has left again.
    pub async fn join(mesh: &str) -> Result<Self, JoinError> {
        Self::builder(mesh).await
    }

    /// All that can be chosen about a node; await it to join.
    pub fn builder(mesh: &str) -> Builder {
        Builder::new(mesh)
    }

    /// A mesh of this process alone, for tests: a key that nobody else has, a port on the loopback interface only, nobody
    /// looked for, and no file touched. Sockets of the node meet each other as they do anywhere. Two such nodes never meet;
    /// for several nodes give a [`builder`](Self::builder) a key of the test's own and a folder.
    ///
    /// It does not linger, as nobody else could take what is left. Every other option can be set before it is awaited.
    ///
    /// Code that is handed its node can be tested like this:
    ///
    /// ```
    /// use meshmq::{Node, Result};
    ///
    /// /// What is to be tested: doubles numbers.
    /// async fn double(node: &Node) -> Result<()> {
    ///     let (numbers, doubled) = (node.pull("numbers").await?, node.push("doubled").await?);
    ///     while let Ok(job) = numbers.recv().await {
    ///         let number: u64 = std::str::from_utf8(&job)?.parse()?;
    ///         doubled.send((number * 2).to_string()).handled().await?;
    ///         job.ack();
    ///     }
    ///     Ok(())
    /// }
    ///
    /// #[tokio::main(flavor = "current_thread")] // in a test: #[tokio::test]
    /// async fn main() -> Result<()> {
    ///     let node = Node::isolated().await?;
    ///     let (numbers, doubled) = (node.push("numbers").await?, node.pull("doubled").await?);
    ///     numbers.send("21").await?;
    ///     tokio::select! {
    ///         ended = double(&node) => ended?,
    ///         answer = doubled.recv() => assert_eq!(answer?.ack_into_message().body(), "42"),
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn isolated() -> Builder {
        Builder::isolated()
    }

    /// Who this node is.
    pub fn id(&self) -> NodeId {
        self.host.hall.id
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.host.hall.name
    }

    /// The name of its mesh.
    pub fn mesh(&self) -> &str {
        &self.host.hall.mesh
    }

    /// The UDP address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.host.hall.endpoint.local_addr()
    }

    /// Options of a push socket on this channel; await it to open the socket.
    pub fn push(&self, channel: impl Into<String>) -> PushBuilder {
        PushBuilder::new(self.host.hall.clone(), channel.into())
    }

    /// Options of a pull socket on this channel; await it to open the socket.
    pub fn pull(&self, channel: impl Into<String>) -> PullBuilder {
        PullBuilder::new(self.host.hall.clone(), channel.into())
    }

    /// Options of a requester on this channel; await it to open the socket.
    pub fn requester(&self, channel: impl Into<String>) -> RequesterBuilder {
        RequesterBuilder::new(self.host.hall.clone(), channel.into())
    }

    /// Options of a replier on this channel; await it to open the socket.
    pub fn replier(&self, channel: impl Into<String>) -> ReplierBuilder {
        ReplierBuilder::new(self.host.hall.clone(), channel.into())
    }

    /// Options of a publisher on this channel; await it to open the socket.
    pub fn publisher(&self, channel: impl Into<String>) -> PublisherBuilder {
        PublisherBuilder::new(self.host.hall.clone(), channel.into())
    }

    /// Options of a subscriber on this channel; await it to open the socket, which then has the word of every publisher
    /// there is.
    pub fn subscriber(&self, channel: impl Into<String>) -> SubscriberBuilder {
        SubscriberBuilder::new(self.host.hall.clone(), channel.into())
    }

    /// The peers with which there is a link now, by id.
    pub fn peers(&self) -> Vec<Peer> {
        self.host.hall.peer_infos()
    }

    /// The channels that this node knows of: of its own sockets, and of those of its peers that it may meet. By name.
    pub fn channels(&self) -> Vec<Channel> {
        self.host.hall.channels()
    }

    /// The whole mesh, as far as this node knows it: asks every peer for its links and sockets, all at once, and waits for
    /// their answers, at most for `timeout`. Who has not answered by then is in it without a [status](NodeStatus).
    ///
    /// A node answers the same peer once a second at most: who asks sooner waits for the rest of it, so `timeout` should be
    /// above that. After a start, [`settled`](Self::settled) first waits until the peers are there.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn snapshot(&self, timeout: Duration) -> Snapshot {
        self.host.hall.snapshot(timeout).await
    }

    /// What one node tells of itself: as in a [`snapshot`](Self::snapshot). This node itself answers at once.
    ///
    /// # Errors
    /// [`NoStatus`] says why there is none.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn status_of(&self, node: NodeId, timeout: Duration) -> Result<NodeStatus, NoStatus> {
        self.host.hall.status_of(node, timeout).await
    }

    /// What this node has done to find others and what came of it, for people who wonder why somebody is missing.
    pub fn search_report(&self) -> String {
        let hall = &self.host.hall;
        hall.lonely_report(&hall.lock())
    }

    /// What happens in the mesh, from what is still remembered on.
    pub fn events(&self) -> Events {
        self.host.hall.ring.reader()
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> Metrics {
        self.host.hall.metrics()
    }

    /// Serves the figures of [`metrics`](Self::metrics), and the round trips of links, over plain HTTP for Prometheus and
    /// those who read its text format, at `http://ADDRESS/metrics`, until the node ends. Says where: port 0 takes a free one.
    ///
    /// **Whoever can reach the address can read them**: names of nodes, of channels and of the mesh, and how much passes.
    /// Nothing can be changed there. Most often `127.0.0.1:PORT` is the right one.
    ///
    /// At most 16 collectors are served at a time, each for at most 5 s; further ones are turned away.
    ///
    /// # Errors
    /// What the operating system says, as a rule that the port is in use; or that the node is closed. In a simulated
    /// world, that there is no TCP.
    #[cfg(feature = "prometheus")]
    pub fn serve_metrics(&self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        self.host.hall.serve_metrics(address)
    }

    /// Waits until the node knows its mesh: each discovery source has finished its first pass, and each candidate found
    /// is linked, its sockets known, or was tried in vain; at most 1.5 s from the start.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn settled(&self) {
        // The sender lives in the hall, which we hold.
        let _ = self.host.hall.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// Waits until there are links with so many peers.
    ///
    /// # Errors
    /// The node has ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn wait_for_peers(&self, peers: usize) -> Result<(), crate::Closed> {
        let mut links = self.host.hall.links.subscribe();
        tokio::select! {
            biased;
            Ok(_) = links.wait_for(|links| *links >= peers) => Ok(()),
            () = self.host.hall.over.cancelled() => Err(crate::Closed),
        }
    }

    /// Ends the node: from now on sends give their message back, pullers return what they have not handed out, and
    /// deliveries in hand may still be answered, for at most `drain`. Then it says goodbye to its peers, which takes a
    /// second at the most, and hands back what it could not deliver.
    ///
    /// A second call waits for the first, and hands back nothing.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the node ends all the same, and what it could not deliver is dropped.
    pub async fn shutdown(&self, drain: Duration) -> Undelivered {
        let hall = self.host.hall.clone();
        // Here already: what is sent after this call is not accepted, however busy the node's thread is.
        hall.refuse();
        let (done, undelivered) = oneshot::channel();
        self.host.hall.env.spawn(async move {
            let undelivered = hall.leave(drain, Leaving::Shutdown).await;
            if let Err(undelivered) = done.send(undelivered)
                && !undelivered.is_empty()
            {
                let (node, lost) = (hall.id.short(), undelivered.len());
                tracing::warn!(target: "meshmq::node", %node, lost, "accepted messages are lost: nobody waited for them");
            }
        });
        // Without a sender the node's runtime has ended, and the node with it.
        undelivered.await.unwrap_or_default()
    }
}

impl Node {
    pub(crate) fn env(&self) -> &Env {
        &self.host.hall.env
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.id()).field("mesh", &self.mesh()).finish_non_exhaustive()
    }
}

/// What the application holds of a node: the hall, and the thread that it runs on. Its drop is the last drop.
pub(crate) struct Host {
    hall: Arc<Hall>,
    linger: Duration,
    /// `None`: it runs on a runtime of somebody else.
    thread: Option<OwnThread>,
    /// A kept one is locked for as long as the node lives.
    _identity: Identity,
}

impl Drop for Host {
    fn drop(&mut self) {
        let (hall, panicking) = (self.hall.clone(), std::thread::panicking());
        if hall.over.is_cancelled() {
            self.thread.take().iter().for_each(OwnThread::join);
            return;
        }
        let linger = if panicking { Duration::ZERO } else { self.linger };
        let inside = self.thread.as_ref().is_none_or(OwnThread::is_current);
        if inside && hall.owes() {
            let node = hall.id.short();
            tracing::warn!(
                target: "meshmq::node", %node, ?linger,
                "a node was dropped that owes accepted messages: it drains in the background, as waiting here would stop \
                 it, and they are lost if its runtime ends first; await shutdown before"
            );
        }
        let leave = async move {
            let lost = hall.leave(linger, Leaving::LastDrop).await.len();
            if lost > 0 {
                let node = hall.id.short();
                tracing::warn!(target: "meshmq::node", %node, lost, "accepted messages are lost: the node was dropped");
            }
        };
        let env = &self.hall.env;
        match self.thread.take() {
            // Waiting would stop the node itself.
            None => env.spawn(leave),
            Some(thread) if panicking || thread.is_current() => env.spawn(async move {
                leave.await;
                drop(thread);
            }),
            Some(thread) => {
                let (done, left) = std::sync::mpsc::channel();
                env.spawn(async move {
                    leave.await;
                    let _ = done.send(());
                });
                // Bounded by the timers of `leave`; it fails where the task has panicked.
                let _ = left.recv();
                thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests;
