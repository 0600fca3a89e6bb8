//! The subscriber itself, as its node and its lanes' carriers hold it: how do lanes open, speak and end, and who has
//! confirmed what is wanted?

use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::id::{NodeId, Types};
use crate::node::{Event, Hall};
use crate::observe::{FromPublisher, SocketFigures, SocketMetrics, SubscriberMetrics};
use crate::pattern::content::Content;
use crate::pattern::lane::{LaneEnd, LanePeer, Outgoing, SocketEnd, Violation};
use crate::pattern::subscribe::{Feed, FeedLane, Figures, Heard};
use crate::socket::connected::Connected;
use crate::sync::{AtomicBool, AtomicU32};
use crate::wire::control::{OpenLane, SocketKind};

/// The socket itself.
pub(super) struct Core {
    pub(super) channel: String,
    types: Types,
    prefetch: u64,
    pub(super) feed: Arc<Feed>,
    pub(super) publishers: Connected,
    /// Counts what may end the wait for a confirmation.
    changes: watch::Sender<u64>,
    /// How many wait for one.
    waiting: AtomicU32,
    ended: AtomicBool,
    hall: Arc<Hall>,
}

/// Why not everybody has confirmed.
pub(super) enum Wait {
    Closed,
    /// This node has not, for too long.
    TooLong(NodeId),
}

impl Core {
    pub(super) fn new(channel: String, types: Types, prefetch: u64, feed: Arc<Feed>, hall: Arc<Hall>) -> Self {
        Self {
            channel,
            types,
            prefetch,
            feed,
            publishers: Connected::new(),
            changes: watch::Sender::new(0),
            waiting: AtomicU32::new(0),
            ended: AtomicBool::new(false),
            hall,
        }
    }

    /// Waits until every publisher with which there is a link has confirmed this version. It is looked at again whenever
    /// a publisher says something of it, or which sockets there are has changed.
    pub(super) async fn confirmed(&self, version: u64, within: Duration) -> Result<(), Wait> {
        let (mut changes, mut news) = (self.changes.subscribe(), self.hall.news());
        let mut timer = self.hall.env().timer();
        timer.set(Some(self.hall.env().after(within)));
        let _waits = Waits::new(&self.waiting);
        loop {
            changes.borrow_and_update();
            news.borrow_and_update();
            if self.ended.load(Acquire) {
                return Err(Wait::Closed);
            }
            let mut publishers = self.hall.publishers(&self.channel, &self.types).into_iter();
            let unconfirmed = publishers.find(|at| !self.feed.is_confirmed(version, *at)).map(|at| at.node);
            let Some(node) = self.hall.untold().or(unconfirmed) else { return Ok(()) };
            tokio::select! {
                biased;
                // The senders live as long as this does.
                _ = changes.changed() => {}
                _ = news.changed() => {}
                () = timer.fired() => return Err(Wait::TooLong(node)),
            }
        }
    }

    /// Nothing is handed out any more.
    pub(super) fn end(&self) {
        self.ended.store(true, Release);
        self.feed.drain();
        self.changed();
    }

    fn changed(&self) {
        self.publishers.set(self.feed.confirmed_lanes());
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(super) fn figures(&self) -> SubscriberMetrics {
        let Figures { received, handed, waiting, missed, patterns, publishers } = self.feed.figures();
        SubscriberMetrics {
            received,
            handed,
            waiting,
            missed,
            patterns,
            prefetch: self.prefetch,
            publishers: publishers
                .into_iter()
                .map(|from| FromPublisher {
                    node: from.node,
                    received: from.received,
                    waiting: from.waiting,
                    missed: from.missed,
                    confirmed: from.confirmed,
                })
                .collect(),
        }
    }
}

impl SocketEnd for Core {
    fn open_lane(self: Arc<Self>, _: LanePeer, _: Instant) -> Arc<dyn LaneEnd> {
        unreachable!("routes open lanes from publishers only")
    }

    fn accept_lane(
        self: Arc<Self>,
        from: LanePeer,
        open: &OpenLane,
        _now: Instant,
    ) -> Result<Arc<dyn LaneEnd>, Violation> {
        if open.kind != SocketKind::Publisher {
            return Err(Violation("a lane of another kind was opened towards a subscriber"));
        }
        let node = from.node;
        let lane = self.feed.accept(from, open);
        Ok(Arc::new(SubscriberLane { lane, node, core: self }))
    }

    fn drain(&self, _now: Instant) {
        self.end();
    }

    fn is_drained(&self) -> bool {
        // Nobody waits for an answer of it.
        true
    }

    fn close(&self) -> Vec<Content> {
        self.end();
        self.publishers.end();
        Vec::new()
    }

    fn awaits(&self) -> bool {
        self.waiting.load(Acquire) > 0
    }

    fn metrics(&self) -> SocketMetrics {
        SocketMetrics { channel: self.channel.clone(), figures: SocketFigures::Subscriber(self.figures()) }
    }
}

/// The lane in the hands of its carrier.
struct SubscriberLane {
    lane: Arc<FeedLane>,
    node: NodeId,
    core: Arc<Core>,
}

impl LaneEnd for SubscriberLane {
    fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        now: Instant,
        out: &mut Vec<Bytes>,
        again: &mut Option<Instant>,
    ) -> Poll<Outgoing> {
        let told = self.lane.poll_outgoing(cx, now, out, again);
        if let Some(gap) = told.missed {
            self.core.hall.emit(Event::missed(&self.core.channel, gap));
        }
        told.next
    }

    fn handle_incoming(&self, now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation> {
        let Heard { confirmed, missed, given_up } = self.lane.handle_incoming(now, chunks)?;
        if confirmed {
            self.core.changed();
        }
        if let Some(gap) = missed {
            self.core.hall.emit(Event::missed(&self.core.channel, gap));
        }
        if let Some(missed) = given_up {
            self.core.hall.emit(Event::disconnected(&self.core.channel, self.node, missed));
        }
        Ok(())
    }

    fn owes(&self) -> bool {
        self.lane.owes()
    }

    fn closed(&self, _now: Instant) {
        self.lane.closed();
        self.core.changed();
    }
}

/// Somebody waits for a confirmation.
struct Waits<'a>(&'a AtomicU32);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, AcqRel);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}
