//! The replier itself, as its node and its lanes' carriers hold it: how do lanes open, speak and end, and whose time is up?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use crate::env::Env;
use crate::id::NodeId;
use crate::node::{Event, Hall};
use crate::observe::{AskingRequesterMetrics, ReplierMetrics, SocketFigures, SocketMetrics};
use crate::pattern::content::Content;
use crate::pattern::lane::{LaneEnd, LanePeer, Outgoing, SocketEnd, Violation};
use crate::pattern::push::{LaneKey, lock};
use crate::pattern::reply::{Effects, Figures, WorkKey, Works};
use crate::socket::connected::Connected;
use crate::sync::{AtomicBool, Mutex, Notify};
use crate::wire::control::{OpenLane, SocketKind};
use crate::wire::limits::TOO_LARGE_EVENTS;

/// The socket itself.
pub(super) struct Core {
    pub(super) channel: String,
    pub(super) max_message: usize,
    pub(super) works: Mutex<Works>,
    /// The next deadline has changed, or this is over.
    pub(super) work: Notify,
    pub(super) requesters: Connected,
    /// The handle is gone, or the node has ended.
    pub(super) orphaned: AtomicBool,
    /// That a request was dropped without an answer has been said.
    pub(super) warned: AtomicBool,
    /// When it was told last of a node that replies were too large for it.
    pub(super) told_too_large: Mutex<BTreeMap<NodeId, Instant>>,
    pub(super) env: Env,
    pub(super) hall: Arc<Hall>,
}

impl Core {
    /// Gives up requests whose time is up.
    pub(super) async fn run(self: Arc<Self>) {
        let mut timer = self.env.timer();
        loop {
            let (next, idle) = self.turn(|works, now| {
                works.expire(now);
                (works.arm(now), works.is_idle())
            });
            // Without a handle nothing more is taken in.
            if self.orphaned.load(Acquire) && idle {
                return;
            }
            timer.set(next);
            tokio::select! {
                biased;
                () = self.work.notified() => {}
                () = timer.fired() => {}
            }
        }
    }

    /// Changes the works, and does what follows from it once the lock is free.
    pub(super) fn turn<T>(&self, change: impl FnOnce(&mut Works, Instant) -> T) -> T {
        let now = self.env.now();
        let mut works = lock(&self.works);
        let result = change(&mut works, now);
        let Effects { wakers, look } = works.take_effects();
        let closed = works.is_closed();
        let over = self.orphaned.load(Acquire) && closed && works.is_idle();
        let drained = closed && works.is_drained();
        drop(works);
        for waker in wakers {
            waker.wake();
        }
        if look || over {
            self.work.notify_one();
        }
        if drained {
            self.hall.drained();
        }
        result
    }

    /// The largest reply to this request, in bytes.
    pub(super) fn largest_reply(&self, key: WorkKey) -> usize {
        let theirs = lock(&self.works).largest_reply(key);
        theirs.map_or(self.max_message, |theirs| theirs.min(self.max_message))
    }

    /// A reply was too large for this node: told at once, and then as often as is of use.
    pub(super) fn too_large(&self, requester: NodeId, len: usize, limit: usize) {
        let now = self.env.now();
        {
            let mut told = lock(&self.told_too_large);
            told.retain(|_, at| now < *at + TOO_LARGE_EVENTS);
            if told.contains_key(&requester) {
                return;
            }
            told.insert(requester, now);
        }
        self.hall.emit(Event::too_large(&self.channel, requester, len, limit));
    }

    /// The handle is gone: what is not handed out goes elsewhere.
    pub(super) fn leave(&self) {
        self.orphaned.store(true, Release);
        self.turn(|works, _| works.drain());
    }

    pub(super) fn figures(&self) -> ReplierMetrics {
        let works = lock(&self.works);
        let (counts, limit) = (works.counts, works.limit());
        let Figures { arriving, waiting, in_hand, bytes, lanes } = works.figures();
        ReplierMetrics {
            received: counts.received,
            arriving,
            waiting,
            in_hand,
            replied: counts.replied,
            failed: counts.failed,
            cancelled: counts.cancelled,
            expired: counts.expired,
            lost: counts.lost,
            returned: counts.returned,
            handed: counts.handed,
            busy: counts.busy,
            repeated: counts.repeated,
            bytes,
            limit,
            requesters: lanes
                .into_iter()
                .map(|(node, received, open)| AskingRequesterMetrics { node, received, open })
                .collect(),
        }
    }
}

impl SocketEnd for Core {
    fn open_lane(self: Arc<Self>, _: LanePeer, _: Instant) -> Arc<dyn LaneEnd> {
        unreachable!("routes open lanes from requesters only")
    }

    fn accept_lane(
        self: Arc<Self>,
        from: LanePeer,
        open: &OpenLane,
        _now: Instant,
    ) -> Result<Arc<dyn LaneEnd>, Violation> {
        if open.kind != SocketKind::Requester {
            return Err(Violation("a lane of another kind was opened towards a replier"));
        }
        let (key, requesters) = self.turn(|works, _| (works.accept_lane(from, open), works.lane_count()));
        self.requesters.set(requesters);
        Ok(Arc::new(ReplyLane { core: self, key }))
    }

    fn drain(&self, _now: Instant) {
        self.turn(|works, _| works.drain());
    }

    fn is_drained(&self) -> bool {
        lock(&self.works).is_drained()
    }

    fn close(&self) -> Vec<Content> {
        self.orphaned.store(true, Release);
        self.turn(|works, _| works.close());
        self.requesters.end();
        self.work.notify_one();
        Vec::new()
    }

    fn metrics(&self) -> SocketMetrics {
        SocketMetrics { channel: self.channel.clone(), figures: SocketFigures::Replier(self.figures()) }
    }
}

/// The lane in the hands of its carrier.
struct ReplyLane {
    core: Arc<Core>,
    key: LaneKey,
}

impl LaneEnd for ReplyLane {
    fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        _now: Instant,
        out: &mut Vec<Bytes>,
        _again: &mut Option<Instant>,
    ) -> Poll<Outgoing> {
        let mut works = lock(&self.core.works);
        let any = works.take_outgoing(self.key, cx.waker(), out);
        let drained = any && works.is_drained();
        drop(works);
        if drained {
            self.core.hall.drained();
        }
        // The requester ends the lane: until it has heard that this end closes, more may be under way, which goes elsewhere.
        if any { Poll::Ready(Outgoing::Write) } else { Poll::Pending }
    }

    fn handle_incoming(&self, _now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation> {
        self.core.turn(|works, now| works.handle_incoming(self.key, chunks, now, self.core.max_message))
    }

    fn is_dialogue(&self) -> bool {
        true
    }

    fn owes(&self) -> bool {
        lock(&self.core.works).owes(self.key)
    }

    fn closed(&self, _now: Instant) {
        let requesters = self.core.turn(|works, _| {
            works.close_lane(self.key);
            works.lane_count()
        });
        self.core.requesters.set(requesters);
    }
}
