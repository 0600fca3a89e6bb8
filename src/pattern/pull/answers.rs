//! What goes back to a pusher: which answers, and how much credit?
//!
//! An answer is first a byte in its batch, written by whoever gives it. The lane's writer looks at the batches that were
//! touched, and says what it finds in as few frames as it can.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::time::Instant;

use super::{Inbox, LaneIn, Late, PullCounts, Watched, Work};
use crate::id::NodeId;
use crate::pattern::batch::{Batch, Detail, Mark, State};
use crate::pattern::push::lock;
use crate::wire::frame::{self, Payload, to_sender};
use crate::wire::limits::{LANE_WINDOW_BYTES, MAX_REASON, PULL_WINDOW_BYTES};

/// Vectors of answered batches that a lane keeps to use again.
const POOL: usize = 16;

impl LaneIn {
    /// The first answer since the writer's last look.
    #[cold]
    pub(in crate::pattern) fn answered(&self, batch: &Arc<Batch>, index: u32) {
        if self.over.load(Acquire) {
            // While the batch is still here, the end of the lane is about to find the answer.
            if !lock(&self.work).batches.contains_key(&batch.number) {
                self.answered_late(batch, index);
            }
            return;
        }
        if batch.disarm() {
            lock(&self.touched).push(batch.number);
        }
        let told = self.dirty.swap(true, AcqRel);
        if planted!(AnswerWakesNobody) {
            return;
        }
        if !told || self.inbox.fixed || self.inbox.hungry.load(Acquire) {
            self.call();
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

    pub(super) fn answered_late(&self, batch: &Arc<Batch>, index: u32) {
        let state = batch.state(index);
        if state == State::Told {
            return;
        }
        let reason = match (state, batch.detail(index)) {
            (State::Rejected, Some(Detail::Reason(reason))) => Some(reason),
            _ => None,
        };
        batch.told(index);
        let Mark { attempt, .. } = batch.mark(index);
        let sequence = batch.sequence(index);
        self.inbox.remember(self.peer.node, self.epoch, Late { sequence, attempt, state, reason });
    }
}

impl Watched {
    /// How many of its entries are handed out.
    fn claimed(&self) -> u32 {
        self.batch.claimed.load(Acquire).min(self.end)
    }
}

/// Positions with the same answer.
struct Answered {
    start: u64,
    count: u64,
    state: State,
    detail: Option<Detail>,
}

impl Work {
    /// Everything that is to be told now, encoded. True: there was something new.
    pub(super) fn collect(&mut self, lane: &LaneIn, now: Instant) -> bool {
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
                watched.end = claimed;
            }
        }
        self.batches.retain(|_, watched| watched.front < watched.end);
        for draft in self.held.drain(..) {
            let count = draft.entries.len() as u64;
            answered.push(Answered { start: draft.first_position, count, state: State::Returned, detail: None });
        }
        // What was held back lies before what has arrived since this end closes.
        answered.sort_unstable_by_key(|range| range.start);
    }

    /// Looks at one batch for answers that were not told yet.
    fn look(watched: &mut Watched, bytes: &mut u64, answered: &mut Vec<Answered>) {
        let batch = &watched.batch;
        // First how many are answered, then how many were handed out: equal means all of those.
        let count = batch.arm();
        let end = batch.claimed.load(Acquire).min(watched.end);
        let (count, end) =
            if planted!(AckBeforeHandOver) && count > 0 { (watched.end, watched.end) } else { (count, end) };
        if count == end && !watched.sparse && batch.only_acks() {
            if end > watched.front {
                let whole = watched.front == 0 && end == batch.count();
                *bytes += if whole { batch.bytes } else { (watched.front..end).map(|index| batch.size(index)).sum() };
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
            *bytes += batch.size(index);
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

    /// Counts the answers that the writer has not looked at; how many messages are in hand.
    pub(super) fn count_answers(&self, counts: &mut PullCounts) -> u64 {
        let mut in_hand = 0;
        for watched in self.batches.values() {
            for index in watched.front..watched.claimed() {
                match watched.batch.state(index) {
                    State::Open => in_hand += 1,
                    State::Told => {}
                    state => counts.answered(state, 1),
                }
            }
        }
        in_hand
    }

    /// How many messages wait to be handed out.
    pub(super) fn waiting(&self) -> u64 {
        let held: usize = self.held.iter().map(|draft| draft.entries.len()).sum();
        held as u64 + self.batches.values().map(|watched| u64::from(watched.end - watched.claimed())).sum::<u64>()
    }

    /// When the first message arrived that is not answered.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let mut open = self.batches.values().filter(|watched| {
            let claimed = watched.claimed();
            claimed < watched.end || (watched.front..claimed).any(|index| watched.batch.state(index) == State::Open)
        });
        open.next().map(|watched| watched.at).or_else(|| self.held.front().map(|draft| draft.at))?
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
                counts.answered(range.state, range.count);
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
                        Some(Detail::Delay(delay)) => delay.as_millis().min(u128::from(u32::MAX)) as u64 + 1,
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
        for late in control.late.take(lane.peer.node, lane.epoch) {
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

impl Inbox {
    pub(super) fn remember(&self, node: NodeId, epoch: u64, late: Late) {
        let mut control = lock(&self.shared);
        control.late.push(node, epoch, late);
        for lane in control.lanes.values().filter(|lane| lane.peer.node == node && lane.epoch == epoch) {
            lane.call();
        }
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
