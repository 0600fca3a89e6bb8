//! The pulling side: what arrived is handed out entry by entry, and answers go back.
//!
//! The node's thread splits what it read into a [`Batch`] and queues it in the [`Inbox`]; receivers claim entries of the
//! batch at the front under one short lock; their answers are bytes in the batch. A lane's writer turns them into one
//! acknowledgement and one credit whenever it looks. Answers are state, not a queue: memory is bounded by credit.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use bytes::{Bytes, BytesMut};

use super::batch::{Batch, Detail, Draft, Entry, Mark, State};
use super::lane::{LaneEnd, LanePeer, Outgoing, Violation};
use super::push::{LaneKey, lock};
use super::slots::Slots;
use super::splitter::{Control, Splitter};
use super::window::Window;
use crate::id::NodeId;
use crate::wire::control::OpenLane;
use crate::wire::frame::{self, Numbers, Payload, to_receiver, to_sender};
use crate::wire::limits::{LANE_WINDOW_BYTES, MAX_REASON, PULL_WINDOW_BYTES};

/// Most entries of a batch, give or take a chunk: it stays small enough for the cache, and for its last answer to come soon.
const BATCH: usize = 4096;
/// The longest that an answer waits for others, and only right after others.
const GATHER: Duration = Duration::from_millis(1);
/// Vectors of answered batches that a lane keeps to use again.
const POOL: usize = 16;
/// Answers that wait for their pusher to come back; the oldest are forgotten, as their messages go out again anyway.
const LATE: usize = 65_536;

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
    receivers: Vec<Waker>,
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
    late: VecDeque<Late>,
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

/// The answer to a delivery that came over a lane that is over.
#[derive(Debug)]
struct Late {
    node: NodeId,
    epoch: u64,
    sequence: u64,
    attempt: u32,
    state: State,
    reason: Option<String>,
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
    /// Batches with an answer since the writer's last look at them.
    touched: Mutex<Vec<u64>>,
    work: Mutex<Work>,
}

/// What only the node's thread touches.
#[derive(Debug)]
struct Work {
    splitter: Splitter,
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
    /// Everything before this entry is told.
    front: u32,
    /// Some beyond `front` are told: their state says which.
    sparse: bool,
    /// No entry from here on is handed out: it was returned.
    end: u32,
}

/// Positions with the same answer.
struct Answered {
    start: u64,
    count: u64,
    state: State,
    detail: Option<Detail>,
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
                late: VecDeque::new(),
                counts: PullCounts::default(),
                draining: false,
            }),
            hungry: AtomicBool::new(false),
            fixed: prefetch.is_some(),
            max_message,
            warned: AtomicBool::new(false),
        })
    }

    /// Claims the next message, if there is one.
    #[inline]
    pub(crate) fn try_claim(&self) -> Result<Option<(Arc<Batch>, u32)>, Closed> {
        self.claim(None)
    }

    /// Claims the next message, or wakes the task when there may be one.
    #[inline]
    pub(crate) fn poll_claim(&self, cx: &mut Context<'_>) -> Poll<Result<(Arc<Batch>, u32), Closed>> {
        match self.claim(Some(cx.waker())) {
            Ok(Some(claimed)) => Poll::Ready(Ok(claimed)),
            Ok(None) => Poll::Pending,
            Err(closed) => Poll::Ready(Err(closed)),
        }
    }

    #[inline]
    fn claim(&self, waker: Option<&Waker>) -> Result<Option<(Arc<Batch>, u32)>, Closed> {
        let mut queue = lock(&self.queue);
        if let Some(batch) = queue.batches.front() {
            let batch = batch.clone();
            let index = batch.claimed.load(Relaxed);
            batch.claimed.store(index + 1, Release);
            queue.handed += 1;
            let last = index + 1 == batch.count();
            let used_up = if last { queue.batches.pop_front() } else { None };
            drop(queue);
            if let Some(batch) = used_up {
                // The writer looks when a batch is used up: its answers are due.
                batch.lane.writer.wake();
            }
            return Ok(Some((batch, index)));
        }
        if queue.closed {
            return Err(Closed);
        }
        if let Some(waker) = waker {
            if !queue.receivers.iter().any(|waiting| waiting.will_wake(waker)) {
                queue.receivers.push(waker.clone());
            }
            self.hungry.store(true, Release);
        }
        let wanted = queue.receivers.len().max(1);
        drop(queue);
        self.ask(wanted as u64);
        Ok(None)
    }

    /// Receivers wait: pushers that want to know are told that some of what has arrived is about to be handed out.
    fn ask(&self, wanted: u64) {
        let control = lock(&self.shared);
        let gated = || control.lanes.values().filter(|lane| lane.gated);
        let mut open: u64 = gated().map(|lane| lane.asked.load(Acquire) - lane.heard.load(Acquire)).sum();
        for lane in gated() {
            while open < wanted && lane.asked.load(Acquire) < lane.received.load(Acquire) {
                lane.asked.fetch_add(1, AcqRel);
                open += 1;
                lane.writer.wake();
            }
        }
    }

    /// A lane from a pusher.
    pub(crate) fn accept(self: &Arc<Self>, peer: LanePeer, open: &OpenLane, now: Instant) -> Arc<LaneIn> {
        let mut control = lock(&self.shared);
        let key = control.next_lane;
        control.next_lane += 1;
        let draining = control.draining;
        let lane = Arc::new(LaneIn {
            key,
            inbox: self.clone(),
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
            touched: Mutex::default(),
            work: Mutex::new(Work {
                splitter: Splitter::new(open.base, self.max_message),
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

    /// Nothing is handed out any more: what waits is returned; what is in hand may still be answered.
    pub(crate) fn drain(&self) {
        let receivers = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            queue.batches.clear();
            std::mem::take(&mut queue.receivers)
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
            lane.writer.wake();
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

    /// What became of messages so far; what waits to be handed out; what is in hand on live lanes.
    pub(crate) fn figures(&self) -> (PullCounts, u64, u64) {
        let (mut counts, lanes) = {
            let control = lock(&self.shared);
            (control.counts, control.lanes.values().cloned().collect::<Vec<_>>())
        };
        let mut unanswered = 0;
        for lane in &lanes {
            let work = lock(&lane.work);
            counts.received += work.splitter.received();
            unanswered += work.splitter.received() - work.answered;
        }
        counts.handed = lock(&self.queue).handed;
        let answered = counts.acked + counts.nacked + counts.rejected;
        let in_hand = counts.handed.saturating_sub(answered + counts.orphaned);
        (counts, unanswered.saturating_sub(in_hand), in_hand)
    }

    /// Each lane's sender, with what it has sent and what is unanswered of it.
    pub(crate) fn lanes(&self) -> Vec<(NodeId, u64, u64)> {
        let lanes: Vec<_> = lock(&self.shared).lanes.values().cloned().collect();
        let figures = |lane: &Arc<LaneIn>| {
            let work = lock(&lane.work);
            (lane.peer.node, work.splitter.received(), work.splitter.received() - work.answered)
        };
        lanes.iter().map(figures).collect()
    }

    fn publish(&self, batch: Arc<Batch>) {
        let receivers = {
            let mut queue = lock(&self.queue);
            queue.batches.push_back(batch);
            self.hungry.store(false, Release);
            std::mem::take(&mut queue.receivers)
        };
        for waker in receivers {
            waker.wake();
        }
    }

    /// Takes the batches of a lane out of the queue: from now on none of them is handed out.
    fn withdraw(&self, lane: LaneKey) {
        lock(&self.queue).batches.retain(|batch| batch.lane.key != lane);
    }

    fn remember(&self, late: Late) {
        let mut control = lock(&self.shared);
        let (node, epoch) = (late.node, late.epoch);
        if control.late.len() == LATE {
            control.late.pop_front();
        }
        control.late.push_back(late);
        for lane in control.lanes.values().filter(|lane| lane.peer.node == node && lane.epoch == epoch) {
            lane.writer.wake();
        }
    }
}

impl LaneIn {
    /// The first answer since the writer's last look.
    #[cold]
    pub(super) fn answered(&self, batch: &Arc<Batch>, index: u32) {
        if self.over.load(Acquire) {
            return self.answered_late(batch, index);
        }
        if batch.disarm() {
            lock(&self.touched).push(batch.number);
        }
        let told = self.dirty.swap(true, AcqRel);
        if !told || self.inbox.fixed || self.inbox.hungry.load(Acquire) {
            self.writer.wake();
        }
    }

    /// A delivery was dropped without an answer: worth a word, once a socket.
    pub(crate) fn dropped_unanswered(&self, message: &crate::message::Message) {
        if !self.inbox.warned.swap(true, Relaxed) {
            tracing::warn!(
                target: "meshmq::pattern",
                id = %message.id(),
                "a delivery was dropped without an answer and goes back; call ack, nack or reject, or open the socket \
                 with ack_on_receive; this is said once a socket"
            );
        }
    }

    fn answered_late(&self, batch: &Arc<Batch>, index: u32) {
        let state = batch.state(index);
        let reason = match (state, batch.detail(index)) {
            (State::Rejected, Some(Detail::Reason(reason))) => Some(reason),
            _ => None,
        };
        batch.told(index);
        let Mark { attempt, .. } = batch.mark(index);
        let sequence = batch.sequence(index);
        self.inbox.remember(Late { node: self.peer.node, epoch: self.epoch, sequence, attempt, state, reason });
    }
}

impl Work {
    /// What was read becomes a batch that can be handed out.
    fn publish(&mut self, lane: &Arc<LaneIn>, draft: Draft) {
        if draft.entries.is_empty() {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        let batch = Arc::new(Batch::new(draft, number, lane.clone()));
        let end = batch.count();
        self.batches.insert(number, Watched { batch: batch.clone(), front: 0, sparse: false, end });
        if self.draining {
            return;
        }
        lane.inbox.publish(batch);
    }

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

    /// What is not handed out goes back.
    fn give_back(&mut self, lane: &LaneIn, answered: &mut Vec<Answered>) {
        lane.inbox.withdraw(lane.key);
        for watched in self.batches.values_mut() {
            let batch = &watched.batch;
            let claimed = batch.claimed.load(Acquire).min(watched.end);
            if claimed < watched.end {
                let count = u64::from(watched.end - claimed);
                let start = batch.first_position + u64::from(claimed);
                answered.push(Answered { start, count, state: State::Returned, detail: None });
                self.answered_bytes += (claimed..watched.end).map(|index| batch.len(index)).sum::<u64>();
                watched.end = claimed;
            }
        }
        self.batches.retain(|_, watched| watched.front < watched.end);
        for draft in self.held.drain(..) {
            let count = draft.entries.len() as u64;
            self.answered_bytes += draft.bytes;
            answered.push(Answered { start: draft.first_position, count, state: State::Returned, detail: None });
        }
    }

    /// Looks at one batch for answers that were not told yet.
    fn look(watched: &mut Watched, bytes: &mut u64, answered: &mut Vec<Answered>) {
        let batch = &watched.batch;
        // First how many are answered, then how many were handed out: equal means all of those.
        let count = batch.arm();
        let end = batch.claimed.load(Acquire).min(watched.end);
        if count == end && !watched.sparse && batch.only_acks() {
            if end > watched.front {
                let whole = watched.front == 0 && end == batch.count();
                *bytes += if whole { batch.bytes } else { (watched.front..end).map(|index| batch.len(index)).sum() };
                let start = batch.first_position + u64::from(watched.front);
                let count = u64::from(end - watched.front);
                answered.push(Answered { start, count, state: State::Acked, detail: None });
                watched.front = end;
            }
            return;
        }
        let mut in_front = true;
        for index in watched.front..end {
            let state = batch.state(index);
            if state == State::Open {
                in_front = false;
                continue;
            }
            if in_front {
                watched.front = index + 1;
            }
            if state == State::Told {
                continue;
            }
            if in_front {
                // `front` says it.
            } else {
                batch.told(index);
                watched.sparse = true;
            }
            *bytes += batch.len(index);
            let position = batch.first_position + u64::from(index);
            let detail = if state == State::Acked { None } else { batch.detail(index) };
            match answered.last_mut() {
                Some(last)
                    if last.state == state
                        && last.start + last.count == position
                        && last.detail == detail
                        && state != State::Rejected =>
                {
                    last.count += 1;
                }
                _ => answered.push(Answered { start: position, count: 1, state, detail }),
            }
        }
    }

    /// Everything that is to be told now, encoded. True: there was something new.
    fn collect(&mut self, lane: &LaneIn, now: Instant) -> bool {
        let mut answered = Vec::new();
        if self.draining {
            self.give_back(lane, &mut answered);
        }
        let mut touched = std::mem::take(&mut *lock(&lane.touched));
        touched.sort_unstable();
        touched.dedup();
        for number in touched {
            if let Some(watched) = self.batches.get_mut(&number) {
                Self::look(watched, &mut self.answered_bytes, &mut answered);
                if watched.front >= watched.end {
                    self.forget(number);
                }
            }
        }
        let any = !answered.is_empty();
        if any {
            self.put_answers(lane, answered);
        }
        self.put_late(lane);
        self.put_credit(lane, now);
        any
    }

    /// A batch is answered in full: its vectors serve the next one.
    fn forget(&mut self, number: u64) {
        let batch = self.batches.remove(&number).and_then(|watched| Arc::into_inner(watched.batch));
        if let Some(batch) = batch.filter(|_| self.pool.len() < POOL) {
            self.pool.push(batch.into_parts());
        }
    }

    /// Failures and returns first: what is acknowledged "up to" passes over them.
    fn put_answers(&mut self, lane: &LaneIn, answered: Vec<Answered>) {
        let mut acks = Payload::default();
        let mut back: BTreeMap<(u8, u64), Payload> = BTreeMap::new();
        {
            let mut control = lock(&lane.inbox.shared);
            let counts = &mut control.counts;
            for range in &answered {
                let count = match range.state {
                    State::Acked => &mut counts.acked,
                    State::Nacked => &mut counts.nacked,
                    State::Rejected => &mut counts.rejected,
                    _ => &mut counts.returned,
                };
                *count += range.count;
            }
        }
        for range in answered {
            self.answered += range.count;
            match (range.state, &range.detail) {
                (State::Rejected, detail) => {
                    let reason = if let Some(Detail::Reason(reason)) = detail { cut(reason) } else { "" };
                    let mut payload = Payload::of(&[range.start]);
                    payload.0.extend_from_slice(reason.as_bytes());
                    frame::put_answer(&mut self.out, to_sender::REJECT, &payload.0);
                }
                (State::Nacked | State::Returned, detail) => {
                    let delay = match detail {
                        Some(Detail::Delay(delay)) => (delay.as_millis() as u64).min(u64::from(u32::MAX)) + 1,
                        _ => 0,
                    };
                    let kind = if range.state == State::Nacked { to_sender::NACK } else { to_sender::RETURN };
                    let payload = back.entry((kind, delay)).or_insert_with(|| {
                        if kind == to_sender::NACK { Payload::of(&[delay]) } else { Payload::default() }
                    });
                    payload.push(range.start);
                    payload.push(range.count);
                    if payload.is_full() {
                        let full = back.remove(&(kind, delay)).expect("just filled");
                        frame::put_answer(&mut self.out, kind, &full.0);
                    }
                }
                _ => {}
            }
            if range.start == self.up_to {
                self.up_to += range.count;
                while let Some(next) = self.above.first_entry() {
                    if *next.key() > self.up_to {
                        break;
                    }
                    self.up_to = self.up_to.max(next.remove());
                }
            } else {
                if range.state == State::Acked {
                    acks.push(range.start);
                    acks.push(range.count);
                    if acks.is_full() {
                        // In front of nothing: an acknowledgement by range needs no order.
                        frame::put_answer(&mut self.out, to_sender::ACK, &std::mem::take(&mut acks).0);
                    }
                }
                let end = range.start + range.count;
                match self.above.range_mut(..range.start).next_back().filter(|(_, until)| **until == range.start) {
                    Some((_, until)) => *until = end,
                    None => {
                        self.above.insert(range.start, end);
                    }
                }
            }
        }
        for ((kind, _), payload) in back {
            frame::put_answer(&mut self.out, kind, &payload.0);
        }
        if !acks.0.is_empty() {
            frame::put_answer(&mut self.out, to_sender::ACK, &acks.0);
        }
        if self.up_to > self.told_up_to {
            self.told_up_to = self.up_to;
            frame::put_answer(&mut self.out, to_sender::ACK_UP_TO, &Payload::of(&[self.up_to]).0);
        }
        lane.with_slots(|slots| slots.answered(lane.key, self.answered));
    }

    fn put_late(&mut self, lane: &LaneIn) {
        let mut control = lock(&lane.inbox.shared);
        if control.late.is_empty() {
            return;
        }
        let late = std::mem::take(&mut control.late);
        for late in late {
            if late.node != lane.peer.node || late.epoch != lane.epoch {
                control.late.push_back(late);
                continue;
            }
            let kind = match late.state {
                State::Acked => to_sender::ACK,
                State::Rejected => to_sender::REJECT,
                _ => to_sender::NACK,
            };
            let mut payload = Payload::of(&[late.sequence, u64::from(late.attempt), u64::from(kind)]);
            payload.0.extend_from_slice(cut(late.reason.as_deref().unwrap_or("")).as_bytes());
            frame::put_answer(&mut self.out, to_sender::LATE, &payload.0);
        }
    }

    fn put_credit(&mut self, lane: &LaneIn, now: Instant) {
        if self.draining {
            if !self.closing_told {
                self.closing_told = true;
                frame::put_answer(&mut self.out, to_sender::CLOSING, &[]);
            }
            return;
        }
        let asked = lane.asked.load(Acquire);
        if asked > self.asked_told {
            self.asked_told = asked;
            frame::put_answer(&mut self.out, to_sender::TAKEN, &Payload::of(&[asked]).0);
        }
        let messages = if lane.inbox.fixed {
            lane.granted.load(Acquire)
        } else {
            self.answered + self.window.at(now, self.answered)
        };
        let lanes = lock(&lane.inbox.shared).lanes.len().max(1) as u64;
        let window = (PULL_WINDOW_BYTES / lanes).max(LANE_WINDOW_BYTES);
        let bytes = (self.answered_bytes + window).max(self.credit_bytes);
        let short = self.received_bytes + window / 2 >= self.credit_bytes && bytes > self.credit_bytes;
        if messages > self.credit || short {
            self.credit = self.credit.max(messages);
            self.credit_bytes = bytes;
            frame::put_answer(&mut self.out, to_sender::CREDIT, &Payload::of(&[self.credit, bytes]).0);
        }
    }
}

impl LaneIn {
    /// Changes the slots, then grants what is free, and wakes the lanes that got something.
    fn with_slots(&self, change: impl FnOnce(&mut Slots)) {
        let mut control = lock(&self.inbox.shared);
        let Some(slots) = &mut control.slots else { return };
        change(slots);
        for (key, total) in slots.grant() {
            if let Some(lane) = control.lanes.get(&key) {
                lane.granted.store(total, Release);
                lane.writer.wake();
            }
        }
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
        if work.collect(lane, now) {
            work.gather_until = Some(now + GATHER);
        } else if work.gather_until.is_some_and(|until| now < until) {
            // Answers are coming: the next look is at the reader's turn, a used-up batch, a hungry receiver, or soon.
            *again = work.gather_until;
        } else {
            work.gather_until = None;
            // From here on an answer wakes; cleared by a swap, as it must see what the last one to set it saw.
            lane.dirty.swap(false, AcqRel);
            if work.collect(lane, now) {
                work.gather_until = Some(now + GATHER);
            }
        }
        let finished = work.draining && work.closing_told && work.batches.is_empty();
        if !work.out.is_empty() {
            out.push(work.out.split().freeze());
            return Poll::Ready(if finished { Outgoing::Finish } else { Outgoing::Write });
        }
        if finished { Poll::Ready(Outgoing::Finish) } else { Poll::Pending }
    }

    fn handle_incoming(&self, _now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation> {
        let lane = &self.0;
        let mut work = lock(&lane.work);
        let work = &mut *work;
        let mut control = Vec::new();
        let mut draft = work.splitter.draft(work.pool.pop().unwrap_or_default());
        for chunk in chunks {
            work.splitter.feed(&mut draft, std::mem::take(chunk), &mut control)?;
            if draft.entries.len() >= BATCH {
                let next = work.splitter.draft(work.pool.pop().unwrap_or_default());
                work.arrived(lane, std::mem::replace(&mut draft, next))?;
            }
        }
        work.arrived(lane, draft)?;
        for frame in control {
            work.handle_control(lane, &frame)?;
        }
        // Answers leave together with QUIC's acknowledgement of this read.
        lane.writer.wake();
        Ok(())
    }

    fn owes(&self) -> bool {
        let work = lock(&self.0.work);
        work.answered < work.splitter.received()
    }

    fn closed(&self, _now: Instant) {
        let lane = &self.0;
        lane.over.store(true, Release);
        lane.inbox.withdraw(lane.key);
        let mut work = lock(&lane.work);
        // What is in hand may still be answered: it is told over the next lane to the same socket. What was answered
        // and perhaps not heard is told again.
        let mut orphaned = 0;
        for watched in std::mem::take(&mut work.batches).into_values() {
            let batch = &watched.batch;
            batch.arm();
            for index in 0..batch.claimed.load(Acquire) {
                match batch.state(index) {
                    State::Open => orphaned += 1,
                    State::Told => {}
                    _ if index < watched.front => {}
                    _ => {
                        orphaned += 1;
                        lane.answered_late(batch, index);
                    }
                }
            }
        }
        work.held.clear();
        let received = work.splitter.received();
        drop(work);
        let mut control = lock(&lane.inbox.shared);
        control.counts.received += received;
        control.counts.orphaned += orphaned;
        control.lanes.remove(&lane.key);
        drop(control);
        lane.with_slots(|slots| slots.close(lane.key));
    }
}

impl Work {
    /// What one read brought; more than the credit allows is a breach.
    fn arrived(&mut self, lane: &Arc<LaneIn>, draft: Draft) -> Result<(), Violation> {
        self.received_bytes += draft.bytes;
        if self.splitter.received() > self.credit - self.waived
            || self.received_bytes > self.credit_bytes + lane.inbox.max_message as u64
        {
            return Err(Violation("the sender has spent more credit than it had"));
        }
        lane.received.store(self.splitter.received(), Release);
        if lane.gated && !self.draining {
            if !draft.entries.is_empty() {
                self.held.push_back(draft);
                let waiting = lock(&lane.inbox.queue).receivers.len() as u64;
                let open = lane.asked.load(Acquire) - lane.heard.load(Acquire);
                if waiting > open {
                    let more = (waiting - open).min(self.splitter.received() - lane.asked.load(Acquire));
                    lane.asked.fetch_add(more, AcqRel);
                }
            }
        } else {
            self.publish(lane, draft);
        }
        Ok(())
    }
}

/// A reason at the length that the wire takes.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
