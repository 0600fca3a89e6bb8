//! The pulling side: what arrived is handed out entry by entry, and answers go back.
//!
//! The node's thread splits what it read into a [`Batch`] and queues it in the [`Inbox`]; receivers claim entries of the
//! batch at the front under one short lock; their answers are bytes in the batch. A lane's writer turns them into one
//! acknowledgement and one credit whenever it looks. Answers are state, not a queue: memory is bounded by credit.
//!
//! Here is what all lanes share, and what receivers claim from it. `lane` is what comes in over one lane, `answers` what
//! goes back, `lease` tells how long what waits is new.

mod answers;
mod lane;
mod late;
mod lease;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

pub(crate) use self::lane::PullLane;
use self::late::{Late, LateAnswers};
use self::lease::{Lease, Looked};
use super::batch::{Batch, Draft, Entry, State};
use super::lane::LanePeer;
use super::push::{LaneKey, lock};
use super::slots::Slots;
use super::splitter::Splitter;
use super::waiters::{Ticket, Waiters};
use super::window::Window;
use crate::id::NodeId;
use crate::sync::{AtomicBool, AtomicU64, AtomicWaker, Mutex};

/// What receivers and lanes of one socket share.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    shared: Mutex<Shared>,
    /// A receiver sleeps, as there is nothing to hand out: an answer is told at once.
    hungry: AtomicBool,
    /// With a fixed prefetch every answer frees a slot and is told at once.
    pub(crate) fixed: bool,
    max_message: usize,
    /// That a delivery was dropped without an answer has been said.
    warned: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Arc<Batch>>,
    receivers: Waiters,
    /// No message is handed out any more.
    closed: bool,
    handed: u64,
}

/// What concerns all lanes.
#[derive(Debug)]
struct Shared {
    lanes: BTreeMap<LaneKey, Arc<LaneIn>>,
    next_lane: LaneKey,
    slots: Option<Slots>,
    late: LateAnswers,
    counts: PullCounts,
    draining: bool,
}

/// What became of messages, since the socket was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PullCounts {
    pub(crate) received: u64,
    pub(crate) handed: u64,
    pub(crate) acked: u64,
    pub(crate) nacked: u64,
    pub(crate) rejected: u64,
    pub(crate) returned: u64,
    /// In hand when their lane was lost.
    pub(crate) orphaned: u64,
}

impl PullCounts {
    fn add(&mut self, more: &Self) {
        let Self { received, handed, acked, nacked, rejected, returned, orphaned } = more;
        self.received += received;
        self.handed += handed;
        self.acked += acked;
        self.nacked += nacked;
        self.rejected += rejected;
        self.returned += returned;
        self.orphaned += orphaned;
    }

    /// So many more answers of this kind.
    fn answered(&mut self, state: State, count: u64) {
        *match state {
            State::Acked => &mut self.acked,
            State::Nacked => &mut self.nacked,
            State::Rejected => &mut self.rejected,
            _ => &mut self.returned,
        } += count;
    }
}

/// All that is told of a socket.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) counts: PullCounts,
    /// Not handed out yet.
    pub(crate) waiting: u64,
    /// Handed out over lanes that live, and unanswered.
    pub(crate) in_hand: u64,
    /// When the oldest message arrived that is unanswered.
    pub(crate) oldest: Option<Instant>,
    /// Each lane's sender, with what it has sent and what is unanswered of it.
    pub(crate) lanes: Vec<(NodeId, u64, u64)>,
}

/// Nothing can be received any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// One lane, as the puller sees it.
#[derive(Debug)]
pub(crate) struct LaneIn {
    key: LaneKey,
    inbox: Arc<Inbox>,
    /// Who sends: proven by its certificate.
    pub(crate) peer: LanePeer,
    /// Together with the node and the sequence it names a message for ever.
    pub(crate) epoch: u64,
    /// The pusher wants to know what is handed out before it is.
    gated: bool,
    /// `None`: the lane stays within the node, which gives up nobody.
    lease: Option<Lease>,
    /// Gated: how many messages have arrived, and how many of them receivers have asked for.
    received: AtomicU64,
    asked: AtomicU64,
    heard: AtomicU64,
    /// Fixed prefetch: cumulative credit in messages.
    granted: AtomicU64,
    /// The writer will look again without being told.
    dirty: AtomicBool,
    over: AtomicBool,
    writer: AtomicWaker,
    /// The writer is to look now, whatever it waits for.
    called: AtomicBool,
    /// Batches with an answer since the writer's last look at them.
    touched: Mutex<Vec<u64>>,
    work: Mutex<Work>,
}

/// What only the node's thread touches.
#[derive(Debug)]
struct Work {
    splitter: Splitter,
    looked: Looked,
    /// Gated: has arrived, is not heard yet.
    held: VecDeque<Draft>,
    /// Those that are not answered in full: one that hangs must not keep those behind it.
    batches: BTreeMap<u64, Watched>,
    next_number: u64,
    pool: Vec<(Vec<Entry>, Vec<Bytes>)>,
    /// Everything before it is answered.
    up_to: u64,
    /// Answered ranges beyond it: start to end.
    above: BTreeMap<u64, u64>,
    told_up_to: u64,
    answered: u64,
    answered_bytes: u64,
    received_bytes: u64,
    waived: u64,
    credit: u64,
    credit_bytes: u64,
    asked_told: u64,
    window: Window,
    /// Until then the writer waits for further answers before it looks again.
    gather_until: Option<Instant>,
    out: BytesMut,
    closing_told: bool,
    draining: bool,
}

/// A batch that is not answered in full.
#[derive(Debug)]
struct Watched {
    batch: Arc<Batch>,
    /// When it arrived.
    at: Option<Instant>,
    /// Everything before this entry is told.
    front: u32,
    /// Some beyond `front` are told: their state says which.
    sparse: bool,
    /// No entry from here on is handed out: it was returned.
    end: u32,
}

impl Inbox {
    /// `prefetch`: `None` sizes a window for each lane.
    pub(crate) fn new(prefetch: Option<u64>, max_message: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            shared: Mutex::new(Shared {
                lanes: BTreeMap::new(),
                next_lane: 0,
                slots: prefetch.map(Slots::new),
                late: LateAnswers::default(),
                counts: PullCounts::default(),
                draining: false,
            }),
            hungry: AtomicBool::new(false),
            fixed: prefetch.is_some(),
            max_message,
            warned: AtomicBool::new(false),
        })
    }

    /// Claims the next message, if there is one; `clock` tells the time.
    #[inline]
    pub(crate) fn try_claim(&self, clock: impl FnOnce() -> Instant) -> Result<Option<(Arc<Batch>, u32)>, Closed> {
        self.claim(clock, None)
    }

    /// Claims the next message, or wakes the task when there may be one.
    #[inline]
    pub(crate) fn poll_claim(
        &self,
        clock: impl FnOnce() -> Instant,
        ticket: &mut Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Arc<Batch>, u32), Closed>> {
        match self.claim(clock, Some((ticket, cx.waker()))) {
            Ok(Some(claimed)) => Poll::Ready(Ok(claimed)),
            Ok(None) => Poll::Pending,
            Err(closed) => Poll::Ready(Err(closed)),
        }
    }

    /// A receiver does not wait any more.
    pub(crate) fn forget(&self, ticket: &mut Ticket) {
        if ticket.has_waited() {
            lock(&self.queue).receivers.forget(ticket);
        }
    }

    #[inline]
    fn claim(
        &self,
        clock: impl FnOnce() -> Instant,
        receiver: Option<(&mut Ticket, &Waker)>,
    ) -> Result<Option<(Arc<Batch>, u32)>, Closed> {
        let mut queue = lock(&self.queue);
        if let Some(batch) = queue.batches.front() {
            let batch = batch.clone();
            let index = batch.claimed.load(Relaxed);
            batch.claimed.store(index + 1, Release);
            queue.handed += 1;
            let last = index + 1 == batch.count();
            let used_up = if last { queue.batches.pop_front() } else { None };
            drop(queue);
            if let Some(lease) = &batch.lane().lease
                && !lease.holds(clock())
            {
                batch.doubt();
            }
            if let Some(batch) = used_up {
                // The writer looks when a batch is used up: its answers are due.
                batch.lane().call();
            }
            return Ok(Some((batch, index)));
        }
        if queue.closed {
            return Err(Closed);
        }
        if let Some((ticket, waker)) = receiver {
            queue.receivers.wait(ticket, waker);
            self.hungry.store(true, Release);
        }
        let wanted = queue.receivers.count().max(1);
        drop(queue);
        self.ask(wanted as u64);
        Ok(None)
    }

    /// Receivers wait. Pushers hear of what was answered meanwhile, which may bring more; and those that want to know
    /// are told that some of what has arrived is about to be handed out.
    fn ask(&self, wanted: u64) {
        let control = lock(&self.shared);
        control.lanes.values().filter(|lane| lane.dirty.load(Acquire)).for_each(|lane| lane.call());
        control.announce(wanted);
    }

    /// Something that has to be announced has arrived: as much of it as receivers wait for is.
    fn announce(&self) {
        let wanted = lock(&self.queue).receivers.count() as u64;
        lock(&self.shared).announce(wanted);
    }

    /// Nothing is handed out any more: what waits is returned; what is in hand may still be answered.
    pub(crate) fn drain(&self) {
        let receivers = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            queue.batches.clear();
            queue.receivers.take()
        };
        let lanes: Vec<_> = {
            let mut control = lock(&self.shared);
            control.draining = true;
            if let Some(slots) = &mut control.slots {
                slots.stop();
            }
            control.lanes.values().cloned().collect()
        };
        for lane in lanes {
            lock(&lane.work).draining = true;
            lane.call();
        }
        for waker in receivers {
            waker.wake();
        }
    }

    /// Every delivery that was handed out is answered, and every answer was written.
    pub(crate) fn is_drained(&self) -> bool {
        let lanes: Vec<_> = lock(&self.shared).lanes.values().cloned().collect();
        lanes.iter().all(|lane| {
            let work = lock(&lane.work);
            work.batches.is_empty() && work.held.is_empty() && work.out.is_empty() && work.told_up_to == work.up_to
        })
    }

    pub(crate) fn lane_count(&self) -> usize {
        lock(&self.shared).lanes.len()
    }

    /// Exact figures of now: also of answers that no writer has looked at.
    pub(crate) fn figures(&self) -> Figures {
        let lanes: Vec<_> = lock(&self.shared).lanes.values().cloned().collect();
        // All at once, so that nothing is counted twice or not at all: no lane is read or written meanwhile, and nothing
        // is handed out.
        let works: Vec<_> = lanes.iter().map(|lane| (lane, lock(&lane.work))).collect();
        let queue = lock(&self.queue);
        let shared = lock(&self.shared);
        let mut figures = Figures { counts: shared.counts, ..Figures::default() };
        figures.counts.handed = queue.handed;
        for (lane, work) in works.iter().filter(|(lane, _)| shared.lanes.contains_key(&lane.key)) {
            let received = work.splitter.received();
            let in_hand = work.count_answers(&mut figures.counts);
            let waiting = work.waiting();
            figures.counts.received += received;
            figures.in_hand += in_hand;
            figures.waiting += waiting;
            figures.oldest = figures.oldest.into_iter().chain(work.oldest()).min();
            figures.lanes.push((lane.peer.node, received, waiting + in_hand));
        }
        figures
    }

    /// With a fixed prefetch: each lane, the slots that it was given in total, and whether it waits for one.
    #[cfg(test)]
    pub(crate) fn grants(&self) -> Vec<(LaneKey, u64, bool)> {
        lock(&self.shared).slots.as_ref().map_or_else(Vec::new, Slots::grants)
    }

    fn publish(&self, batch: Arc<Batch>) {
        let receivers = {
            let mut queue = lock(&self.queue);
            // The socket has closed, and the lane is about to hear of it: then all of this goes back.
            if queue.closed {
                return;
            }
            queue.batches.push_back(batch);
            self.hungry.store(false, Release);
            queue.receivers.take()
        };
        for waker in receivers {
            waker.wake();
        }
    }

    /// Takes the batches of a lane out of the queue: from now on none of them is handed out.
    fn withdraw(&self, lane: LaneKey) {
        lock(&self.queue).batches.retain(|batch| batch.lane().key != lane);
    }
}

impl Shared {
    /// So many receivers wait: as much of what has arrived is about to be handed out. All who ask hold this lock, so that
    /// nothing is asked for twice.
    fn announce(&self, wanted: u64) {
        let gated = || self.lanes.values().filter(|lane| lane.gated);
        let mut open: u64 = gated().map(|lane| lane.awaited()).sum();
        for lane in gated() {
            while open < wanted && lane.asked.load(Acquire) < lane.received.load(Acquire) {
                lane.asked.fetch_add(1, AcqRel);
                open += 1;
                lane.call();
            }
        }
    }
}

#[cfg(test)]
mod tests;
