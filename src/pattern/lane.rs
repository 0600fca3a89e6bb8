//! The seam between a pattern and whatever carries its lanes: a QUIC stream, the memory of one node, or a test.
//!
//! A [`LaneEnd`] is one end of a lane. Its carrier moves bytes and knows nothing of messages: it writes what
//! [`LaneEnd::poll_outgoing`] gives, hands what it read to [`LaneEnd::handle_incoming`], and says once that it is over.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use super::content::Content;
use crate::id::{NodeId, SocketId};
pub(crate) use crate::wire::Violation;
use crate::wire::control::OpenLane;

/// Where a lane leads: the socket at its other end.
#[derive(Debug, Clone)]
pub(crate) struct LanePeer {
    /// The node that holds the socket, as proven by its certificate.
    pub(crate) node: NodeId,
    /// The socket, in that node's numbering.
    pub(crate) socket: SocketId,
    /// The connection that carries the lane, in this node's numbering; 0: it stays within the node.
    pub(crate) link: u64,
    /// The receiving socket has a fixed `prefetch`: it gives credit only to lanes that say they have work waiting.
    pub(crate) slots: bool,
    /// Largest body, in bytes, that the other node takes.
    pub(crate) max_message: usize,
}

/// One end of a lane, as its carrier sees it. Every call is short and never blocks on anything but a short lock.
pub(crate) trait LaneEnd: Send + Sync + 'static {
    /// Appends what is to be written now to `out`, in order.
    ///
    /// `Ready(Ok)`: something was appended, or the end has said all it will say ([`Outgoing::Finish`]).
    /// `Pending`: nothing now; the waker of `cx` is woken when there is, and the carrier also calls again
    /// at `again`, if that is set.
    fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        now: Instant,
        out: &mut Vec<Bytes>,
        again: &mut Option<Instant>,
    ) -> Poll<Outgoing>;

    /// Takes what was read, in order; the chunks are left empty.
    ///
    /// # Errors
    /// The peer broke the protocol: the carrier closes the whole link, as nothing that the peer says can be trusted.
    fn handle_incoming(&self, now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation>;

    /// Something is owed over this lane (a message in flight, an answer not yet given): a silent peer is given up sooner.
    fn owes(&self) -> bool;

    /// An application answers what comes in over this lane as soon as it can, or asks for more: its node's thread may wait for
    /// that.
    fn is_dialogue(&self) -> bool {
        false
    }

    /// The link's time has come to look, as it does every 250 ms; the other end has acknowledged something that was sent at
    /// `acked`. Says whether a further word should be sent for it to acknowledge.
    fn look(&self, _now: Instant, _acked: Option<Instant>) -> bool {
        false
    }

    /// The lane is over, for whatever reason; called exactly once, nothing else is called afterwards.
    fn closed(&self, now: Instant);
}

/// What a lane end wants its carrier to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// Write the chunks, then ask again.
    Write,
    /// Write the chunks, then end this direction of the lane: nothing will follow.
    Finish,
}

/// A socket, as its node sees it: what lanes are made of and what is told when the node ends.
pub(crate) trait SocketEnd: Send + Sync + 'static {
    /// The sending side: a lane to a matched socket is about to open. The node opens a stream, and the end's
    /// first bytes are the frame that names both sockets.
    fn open_lane(self: Arc<Self>, to: LanePeer, now: Instant) -> Arc<dyn LaneEnd>;

    /// The receiving side: a matched socket has opened a lane to this one; its opening frame has been read.
    fn accept_lane(
        self: Arc<Self>,
        from: LanePeer,
        open: &OpenLane,
        now: Instant,
    ) -> Result<Arc<dyn LaneEnd>, Violation>;

    /// The node shuts down: sends are refused from now on, what was not handed out is returned, lanes finish
    /// once nothing is owed over them.
    fn drain(&self, now: Instant);

    /// Nothing is owed by this socket any more: no message is accepted and unsettled, no delivery is in hand.
    fn is_drained(&self) -> bool;

    /// The node is gone; every waiting call ends with an error. Accepted messages that are still unsettled are
    /// handed back, in the order of acceptance.
    fn close(&self) -> Vec<Content>;

    /// It waits for something over its lanes, also over those that have yet to come: a silent peer is given up sooner.
    fn awaits(&self) -> bool {
        false
    }

    /// Exact figures of now.
    fn metrics(&self) -> crate::observe::SocketMetrics;
}

impl fmt::Debug for dyn SocketEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocketEnd")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An end that says no more of itself than it must.
    struct Plain;

    impl LaneEnd for Plain {
        fn poll_outgoing(
            &self,
            _: &mut Context<'_>,
            _: Instant,
            _: &mut Vec<Bytes>,
            _: &mut Option<Instant>,
        ) -> Poll<Outgoing> {
            Poll::Pending
        }

        fn handle_incoming(&self, _: Instant, _: &mut [Bytes]) -> Result<(), Violation> {
            Ok(())
        }

        fn owes(&self) -> bool {
            false
        }

        fn closed(&self, _: Instant) {}
    }

    impl SocketEnd for Plain {
        fn open_lane(self: Arc<Self>, _: LanePeer, _: Instant) -> Arc<dyn LaneEnd> {
            self
        }

        fn accept_lane(self: Arc<Self>, _: LanePeer, _: &OpenLane, _: Instant) -> Result<Arc<dyn LaneEnd>, Violation> {
            Ok(self)
        }

        fn drain(&self, _: Instant) {}

        fn is_drained(&self) -> bool {
            true
        }

        fn close(&self) -> Vec<Content> {
            Vec::new()
        }

        fn metrics(&self) -> crate::observe::SocketMetrics {
            unreachable!("nobody looks")
        }
    }

    #[test]
    fn who_says_nothing_of_it_waits_for_nothing_and_has_no_thread_wait() {
        let now = Instant::now();
        let (lane, socket): (&dyn LaneEnd, &dyn SocketEnd) = (&Plain, &Plain);
        assert!(!lane.is_dialogue() && !lane.look(now, None) && !lane.look(now, Some(now)));
        assert!(!socket.awaits());
        assert_eq!(format!("{socket:?}"), "SocketEnd");
    }
}
