//! What does a puller's answer change?
//!
//! Answers name positions of the lane that they come over. Only a late one names sequence and attempt: the lane of its
//! delivery is over.

use std::time::{Duration, Instant};

use super::settle::Back;
use super::{Flight, LARGE_BODY, Lane, LaneKey, Outcome, Place, Run, SMALL_CHUNK, What};
use crate::pattern::content::Content;
use crate::pattern::lane::Violation;
use crate::wire::frame::{Numbers, to_sender};

/// Allocations that are kept to be used again.
const SPARES: usize = 8;

impl Flight {
    /// One frame from a puller.
    pub(crate) fn handle_answer(
        &mut self,
        key: LaneKey,
        kind: u8,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Violation> {
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
        let mut numbers = Numbers::new(payload);
        match kind {
            to_sender::CREDIT => {
                let (messages, bytes) = (numbers.next()?, numbers.next()?);
                lane.credit.messages = lane.credit.messages.max(messages);
                lane.credit.bytes = lane.credit.bytes.max(bytes);
            }
            to_sender::ACK_UP_TO => {
                let position = numbers.next()?;
                lane.check(position)?;
                self.ack_up_to(key, position);
            }
            to_sender::ACK => {
                while let Some(range) = numbers.range()? {
                    self.check(key, range.end)?;
                    self.each_in(key, range, |flight, sequence, fresh, _| {
                        flight.settle_answered(key, sequence, fresh.map(|content| content.size()));
                    });
                }
            }
            to_sender::NACK => {
                let delay = numbers.next()?.checked_sub(1).map(Duration::from_millis);
                let back = Back { failed: true, handed: true, may_answer: false, delay };
                while let Some(range) = numbers.range()? {
                    self.check(key, range.end)?;
                    self.counts.nacked += self.each_back(key, range, back, now);
                }
            }
            to_sender::REJECT => {
                let position = numbers.next()?;
                self.check(key, position + 1)?;
                let outcome = Outcome::Rejected(numbers.reason()?.to_owned());
                self.each_in(key, position..position + 1, |flight, sequence, fresh, attempt| {
                    flight.lane_answered(key);
                    flight.bury(key, sequence, fresh, attempt, outcome.clone());
                });
            }
            to_sender::RETURN => {
                let back = Back { failed: false, handed: false, may_answer: false, delay: None };
                while let Some(range) = numbers.range()? {
                    self.check(key, range.end)?;
                    self.counts.unhanded += self.each_back(key, range, back, now);
                }
            }
            to_sender::TAKEN => {
                let total = numbers.next()?;
                lane.check(total)?;
                lane.taken = lane.taken.max(total);
                self.wake_writer(key);
            }
            to_sender::LATE => self.late(key, numbers)?,
            to_sender::CLOSING => {
                lane.closing = true;
                self.wake_writer(key);
            }
            0x40.. => {}
            _ => return Err(Violation("an answer is of a kind that this revision does not know")),
        }
        Ok(())
    }

    fn check(&self, key: LaneKey, end: u64) -> Result<(), Violation> {
        self.lanes.get(&key).map_or(Ok(()), |lane| lane.check(end))
    }

    /// The usual answer: everything before this position that was not answered otherwise is handled.
    fn ack_up_to(&mut self, key: LaneKey, position: u64) {
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.up_to < position) else { return };
        // Nothing is looked at twice, however often a puller says the same.
        let from = std::mem::replace(&mut lane.up_to, position);
        loop {
            let Some(lane) = self.lanes.get_mut(&key) else { return };
            let Some(run) = lane.runs.front_mut() else { return };
            if position <= run.first {
                return;
            }
            let (first, end) = (run.first, run.end());
            match &mut run.what {
                What::Fresh(fresh) => {
                    let index = (position.min(end) - first) as u32;
                    let mut settled = Vec::new();
                    if !self.tracked.is_empty() {
                        let new = from.saturating_sub(first) as u32..index;
                        let unanswered = new.filter(|index| !fresh.is_answered(*index));
                        settled.extend(unanswered.map(|index| fresh.sequence(index)));
                    }
                    let (messages, bytes) = fresh.answer_up_to(index);
                    lane.unanswered -= u64::from(messages);
                    lane.handled += u64::from(messages);
                    self.counts.handled += u64::from(messages);
                    self.effects.freed.add(u64::from(messages), bytes);
                    for sequence in settled {
                        self.tell(sequence, Outcome::Handled);
                    }
                }
                What::Again(again) => {
                    let new = from.max(first)..position.min(end);
                    let answered = new.filter_map(|at| Some((at, again.answer((at - first) as usize)?)));
                    for (at, sequence) in answered.collect::<Vec<_>>() {
                        if self.is_at(sequence, key, at) {
                            self.settle_answered(key, sequence, None);
                        }
                    }
                }
            }
            if position < end {
                return;
            }
            self.drop_front(key);
        }
    }

    fn drop_front(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let Some(Run { what: What::Fresh(fresh), .. }) = lane.runs.pop_front() else { return };
        if self.spares.len() < SPARES {
            self.spares.extend(fresh.into_spare().filter(|spare| spare.capacity() >= SMALL_CHUNK));
        }
    }

    /// Calls `each(sequence, content, attempt)` for the messages at these positions that are unanswered; the content is
    /// that of messages without a record. A run that is answered in full is let go at once, wherever it stands: one that hangs must not keep those behind it.
    fn each_in(
        &mut self,
        key: LaneKey,
        range: std::ops::Range<u64>,
        mut each: impl FnMut(&mut Self, u64, Option<Content>, u32),
    ) -> u64 {
        let mut count = 0;
        let mut position = range.start;
        while position < range.end {
            let Some(lane) = self.lanes.get_mut(&key) else { break };
            let at = lane.runs.partition_point(|run| run.end() <= position);
            let Some(run) = lane.runs.get_mut(at) else { break };
            // What is answered is passed over in strides: to name it again costs a puller more than this node.
            position = position.max(run.first);
            let Some(index) = run.next_unanswered((position - run.first) as u32) else {
                position = run.end();
                continue;
            };
            position = run.first + u64::from(index);
            if position >= range.end {
                break;
            }
            match &mut run.what {
                What::Fresh(fresh) => {
                    let sequence = fresh.sequence(index);
                    let content = fresh.answer(index);
                    if fresh.left == 0 {
                        lane.runs.remove(at);
                    }
                    if content.is_some() {
                        count += 1;
                        each(self, sequence, content, 1);
                    }
                }
                What::Again(again) => {
                    let sequence = again.answer(index as usize);
                    if again.left == 0 {
                        lane.runs.remove(at);
                    }
                    let message = sequence.and_then(|sequence| Some((sequence, self.returned.get(&sequence)?)));
                    let message = message.filter(|(_, message)| message.place == Place::InFlight(key, position));
                    if let Some((sequence, attempt)) = message.map(|(sequence, message)| (sequence, message.attempt)) {
                        count += 1;
                        each(self, sequence, None, attempt);
                    }
                }
            }
            position += 1;
        }
        count
    }

    fn each_back(&mut self, key: LaneKey, range: std::ops::Range<u64>, back: Back, now: Instant) -> u64 {
        let node = self.lanes.get(&key).map(|lane| lane.peer.node);
        self.each_in(key, range, |flight, sequence, fresh, _| {
            flight.lane_answered(key);
            if let Some(node) = node {
                // A single message must not pin the allocation that it came in.
                let fresh =
                    fresh.map(|content| if content.body.len() < LARGE_BODY { content.copied() } else { content });
                flight.come_back(node, sequence, fresh, back, now);
            }
        })
    }

    /// An answer for a delivery that came over an earlier lane: it counts if it comes first, from a node that was given
    /// that very attempt.
    fn late(&mut self, key: LaneKey, mut numbers: Numbers<'_>) -> Result<(), Violation> {
        let (sequence, attempt) = (numbers.next()?, numbers.next()?);
        let (kind, detail) = (numbers.next()?, numbers);
        let Some(node) = self.lanes.get(&key).map(|lane| lane.peer.node) else { return Ok(()) };
        let Some(message) = self.returned.get_mut(&sequence) else { return Ok(()) };
        let Some(known) = message
            .given
            .iter()
            .position(|(to, which)| (*to == node || planted!(LateFromAnybody)) && u64::from(*which) == attempt)
        else {
            return Ok(());
        };
        message.given.remove(known);
        let place = message.place;
        let attempt = attempt as u32;
        match u8::try_from(kind) {
            Ok(to_sender::ACK) => {
                self.leave(sequence, place);
                self.counts.late += 1;
                self.settle(sequence, None, Outcome::Handled);
            }
            Ok(to_sender::REJECT) => {
                let outcome = Outcome::Rejected(detail.reason()?.to_owned());
                self.leave(sequence, place);
                self.counts.late += 1;
                let content = self.returned.get(&sequence).map(|message| message.content.clone()).unwrap_or_default();
                self.bury_by(node, sequence, content, attempt, outcome);
            }
            // It came back already, when the lane was lost.
            Ok(to_sender::NACK) => {}
            _ => return Err(Violation("a late answer is of a kind that this revision does not know")),
        }
        Ok(())
    }
}

impl Lane {
    fn check(&self, end: u64) -> Result<(), Violation> {
        if end > self.written {
            return Err(Violation("an answer names a message that was never sent"));
        }
        Ok(())
    }
}
