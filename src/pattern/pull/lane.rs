//! One lane from a pusher: what comes in over it, and what does its carrier do next?

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::lease::Lease;
use super::{Inbox, LaneIn, PullCounts, Watched, Work};
use crate::pattern::batch::{Batch, Draft, State};
use crate::pattern::lane::{LaneEnd, LanePeer, Outgoing, Violation};
use crate::pattern::push::lock;
use crate::pattern::slots::Slots;
use crate::pattern::splitter::{Control, Splitter};
use crate::pattern::window::Window;
use crate::sync::{AtomicBool, AtomicU64, AtomicWaker, Mutex};
use crate::wire::control::OpenLane;
use crate::wire::frame::{Numbers, to_receiver};
use crate::wire::headers::section_len;
use crate::wire::limits::MAX_HEADERS;

/// Most entries of a batch, give or take a chunk: it stays small enough for the cache, and for its last answer to come soon.
const BATCH: usize = 4096;
/// The longest that an answer waits for others, and only right after others.
pub(super) const GATHER: Duration = Duration::from_millis(1);

impl Inbox {
    /// A lane from a pusher.
    pub(crate) fn accept(self: &Arc<Self>, peer: LanePeer, open: &OpenLane, now: Instant) -> Arc<LaneIn> {
        let mut control = lock(&self.shared);
        let key = control.next_lane;
        control.next_lane += 1;
        let draining = control.draining;
        let (lease, looked) = Lease::new(now);
        let lane = Arc::new(LaneIn {
            key,
            inbox: self.clone(),
            lease: (peer.link != 0).then_some(lease),
            peer,
            epoch: open.epoch,
            gated: open.taken,
            received: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            granted: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            over: AtomicBool::new(false),
            writer: AtomicWaker::new(),
            called: AtomicBool::new(false),
            touched: Mutex::default(),
            work: Mutex::new(Work {
                splitter: Splitter::new(open.base, self.max_message),
                looked,
                held: VecDeque::new(),
                batches: BTreeMap::new(),
                next_number: 0,
                pool: Vec::new(),
                up_to: 0,
                above: BTreeMap::new(),
                told_up_to: 0,
                answered: 0,
                answered_bytes: 0,
                received_bytes: 0,
                waived: 0,
                credit: 0,
                credit_bytes: 0,
                asked_told: 0,
                window: Window::new(now),
                gather_until: None,
                out: BytesMut::new(),
                closing_told: false,
                draining,
            }),
        });
        if let Some(slots) = &mut control.slots {
            slots.open(key);
        }
        control.lanes.insert(key, lane.clone());
        lane
    }
}

/// The lane in the hands of its carrier.
#[derive(Debug)]
pub(crate) struct PullLane(pub(crate) Arc<LaneIn>);

impl LaneEnd for PullLane {
    fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        now: Instant,
        out: &mut Vec<Bytes>,
        again: &mut Option<Instant>,
    ) -> Poll<Outgoing> {
        let lane = &self.0;
        lane.writer.register(cx.waker());
        let mut work = lock(&lane.work);
        let called = lane.called.swap(false, AcqRel);
        let gathering = work.gather_until.is_some_and(|until| now < until);
        if gathering && !called {
            // Answers are coming: the next look is at the reader's turn, a used-up batch, a hungry receiver, or soon. To
            // look after each write would tell of a few each time, and the transport walks over all that it keeps.
            *again = work.gather_until;
        } else if work.collect(lane, now) {
            work.gather_until = Some(now + GATHER);
        } else if gathering {
            *again = work.gather_until;
        } else {
            work.gather_until = None;
            // From here on an answer wakes; cleared by a swap, as it must see what the last one to set it saw.
            lane.dirty.swap(false, AcqRel);
            if work.collect(lane, now) {
                work.gather_until = Some(now + GATHER);
            }
        }
        // The pusher ends the lane: until it has heard that this end closes, more may be under way, which goes back.
        if work.out.is_empty() {
            return Poll::Pending;
        }
        out.push(work.out.split().freeze());
        Poll::Ready(Outgoing::Write)
    }

    fn handle_incoming(&self, now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation> {
        let lane = &self.0;
        let mut work = lock(&lane.work);
        let work = &mut *work;
        if let Some(lease) = &lane.lease
            && work.answered == work.splitter.received()
        {
            work.looked.first_arrived(lease, now);
        }
        let mut control = Vec::new();
        let mut draft = work.splitter.draft(work.pool.pop().unwrap_or_default());
        for chunk in chunks {
            work.splitter.feed(&mut draft, std::mem::take(chunk), &mut control)?;
            if draft.entries.len() >= BATCH || control.len() >= BATCH {
                let next = work.splitter.draft(work.pool.pop().unwrap_or_default());
                work.arrived(lane, std::mem::replace(&mut draft, next), now)?;
                for frame in control.drain(..) {
                    work.handle_control(lane, &frame)?;
                }
            }
        }
        work.arrived(lane, draft, now)?;
        for frame in control {
            work.handle_control(lane, &frame)?;
        }
        // Answers leave together with QUIC's acknowledgement of this read.
        lane.call();
        Ok(())
    }

    fn owes(&self) -> bool {
        let (lane, work) = (&self.0, lock(&self.0.work));
        let received = work.splitter.received();
        // A pusher that has said that work waits spends a slot within a round trip, or waives it. One that is gone would
        // keep it from all others until an idle link is given up.
        let unspent = lane.inbox.fixed && work.waived + received < lane.granted.load(Acquire);
        unspent || work.answered < received
    }

    fn look(&self, now: Instant, acked: Option<Instant>) -> bool {
        let (lane, mut work) = (&self.0, lock(&self.0.work));
        let waiting = work.answered < work.splitter.received();
        lane.lease.as_ref().is_some_and(|lease| work.looked.look(lease, now, acked, waiting))
    }

    fn closed(&self, _now: Instant) {
        let lane = &self.0;
        lane.over.store(true, Release);
        lane.inbox.withdraw(lane.key);
        let mut work = lock(&lane.work);
        if planted!(HalfFrameWhole) {
            work.take_half(lane);
        }
        // What is in hand may still be answered: it is told over the next lane to the same socket; so is what was answered
        // and not written. What was written on a link that had ended unnoticed is not told again: that work is done twice,
        // as work is whose answer was on its way.
        let mut counts = PullCounts::default();
        for watched in std::mem::take(&mut work.batches).into_values() {
            let batch = &watched.batch;
            batch.arm();
            for index in 0..batch.claimed.load(Acquire) {
                match batch.state(index) {
                    State::Open => counts.orphaned += 1,
                    State::Told => {}
                    _ if index < watched.front => {}
                    state => {
                        counts.answered(state, 1);
                        lane.answered_late(batch, index);
                    }
                }
            }
        }
        work.held.clear();
        counts.received = work.splitter.received();
        // Still with the work in hand: who takes the figures finds it on the lane or here.
        let mut control = lock(&lane.inbox.shared);
        control.counts.add(&counts);
        control.lanes.remove(&lane.key);
        drop((control, work));
        if lane.gated {
            // What was announced over it does not come: others have something, perhaps.
            lane.inbox.announce();
        }
        lane.with_slots(|slots| slots.close(lane.key));
    }
}

impl Work {
    /// What one read brought; more than the credit allows is a breach.
    fn arrived(&mut self, lane: &Arc<LaneIn>, mut draft: Draft, now: Instant) -> Result<(), Violation> {
        draft.at = Some(now);
        self.received_bytes += draft.bytes;
        // A message that has begun counts: it is held while the rest of it is waited for.
        if self.splitter.begun() > self.credit - self.waived
            || self.received_bytes > self.credit_bytes + (lane.inbox.max_message + section_len(MAX_HEADERS)) as u64
        {
            return Err(Violation("the sender has spent more credit than it had"));
        }
        lane.received.store(self.splitter.received(), Release);
        if lane.gated && !self.draining && !planted!(GateOpen) {
            if !draft.entries.is_empty() {
                self.held.push_back(draft);
                lane.inbox.announce();
            }
        } else {
            self.publish(lane, draft);
        }
        Ok(())
    }

    /// What was read becomes a batch that can be handed out.
    fn publish(&mut self, lane: &Arc<LaneIn>, draft: Draft) {
        if draft.entries.is_empty() {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        let at = draft.at;
        let batch = Arc::new(Batch::new(draft, number, lane.clone()));
        let end = batch.count();
        self.batches.insert(number, Watched { batch: batch.clone(), at, front: 0, sparse: false, end });
        if self.draining {
            return;
        }
        lane.inbox.publish(batch);
    }

    /// The planted bug: what has arrived of a frame is handed out as if it were all of it.
    #[cfg(any(test, feature = "planted"))]
    fn take_half(&mut self, lane: &Arc<LaneIn>) {
        let mut draft = self.splitter.draft(Default::default());
        if self.splitter.complete(&mut draft) {
            let batch = Arc::new(Batch::new(draft, self.next_number, lane.clone()));
            lane.inbox.publish(batch);
        }
    }

    #[cfg(not(any(test, feature = "planted")))]
    fn take_half(&mut self, _: &Arc<LaneIn>) {}

    /// Gated: what the pusher has heard of may be handed out.
    fn heard(&mut self, lane: &Arc<LaneIn>, total: u64) -> Result<(), Violation> {
        if total > self.asked_told {
            return Err(Violation("the sender has heard of more than was taken"));
        }
        let mut heard = lane.heard.load(Acquire);
        while heard < total {
            let Some(mut draft) = self.held.pop_front() else { break };
            let count = draft.entries.len() as u64;
            let fits = (total - heard).min(count);
            if fits < count {
                let rest = draft.split(fits as usize);
                self.held.push_front(rest);
            }
            heard += fits;
            lane.heard.store(heard, Release);
            self.publish(lane, draft);
        }
        Ok(())
    }

    fn handle_control(&mut self, lane: &Arc<LaneIn>, frame: &Control) -> Result<(), Violation> {
        let mut numbers = Numbers::new(&frame.payload);
        match frame.kind {
            to_receiver::WAITING => {
                let waiting = numbers.next()? > 0;
                lane.with_slots(|slots| slots.waiting(lane.key, waiting));
            }
            to_receiver::WAIVE => {
                let total = numbers.next()?;
                let received = self.splitter.received();
                let mut honest = total >= self.waived && total + received <= self.credit;
                lane.with_slots(|slots| honest &= slots.waived(lane.key, total, received));
                if !honest {
                    return Err(Violation("the sender waives credit that it does not have"));
                }
                self.waived = total;
            }
            to_receiver::HEARD => self.heard(lane, numbers.next()?)?,
            0x40.. => {}
            _ => return Err(Violation("a control frame is of a kind that this revision does not know")),
        }
        Ok(())
    }
}

impl LaneIn {
    /// Gated: how many messages receivers have asked for and the pusher has not heard of.
    pub(super) fn awaited(&self) -> u64 {
        // In this order: what is heard was asked for before, so the difference is never below zero.
        let heard = self.heard.load(Acquire);
        self.asked.load(Acquire) - heard
    }

    /// The credit in messages, and how many are answered, in total.
    #[cfg(test)]
    pub(crate) fn window(&self) -> (u64, u64) {
        let work = lock(&self.work);
        (work.credit, work.answered)
    }

    /// Its carrier has said that it is over.
    #[cfg(test)]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// Has the writer look.
    pub(super) fn call(&self) {
        self.called.store(true, Release);
        self.writer.wake();
    }

    /// Changes the slots, then grants what is free, and wakes the lanes that got something.
    pub(super) fn with_slots(&self, change: impl FnOnce(&mut Slots)) {
        let mut control = lock(&self.inbox.shared);
        let Some(slots) = &mut control.slots else { return };
        change(slots);
        for (key, total) in slots.grant() {
            if let Some(lane) = control.lanes.get(&key) {
                lane.granted.store(total, Release);
                lane.call();
            }
        }
    }
}
