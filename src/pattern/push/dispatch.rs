//! Who gets what waits, and what lies ready for a lane's writer?
//!
//! Messages that came back go first, the oldest before the others; then fresh ones, by ranges of segments.

use std::task::Waker;
use std::time::Instant;

use bytes::{Buf, Bytes};

use super::{Again, Flight, Intake, Lane, LaneKey, Place, Returned, Run, SMALL_CHUNK, SentAgain, What, lock};
use crate::pattern::segment::{Fresh, Segment};
use crate::sync::Mutex;
use crate::wire::frame::{self, Head, MAX_HEAD, Payload, own_flags, own_frame, to_receiver};
use crate::wire::headers;

#[cfg(test)]
mod tests;

/// How much of a lane may lie between the choice of the lane and QUIC: what lies there is bound too early.
const OUTGOING: usize = 256 << 10;
/// Messages that go out again leave in runs of at most so many.
pub(super) const AGAIN_RUN: usize = 256;

impl Flight {
    /// Gives waiting messages to lanes until one or the other has run out.
    pub(crate) fn dispatch(&mut self, intake: &Mutex<Intake>, now: Instant) {
        while self.delayed.first().is_some_and(|(due, _)| *due <= now) {
            let (_, sequence) = self.delayed.pop_first().expect("looked at");
            self.returned.get_mut(&sequence).expect("what is delayed came back").place = Place::Ready;
            self.ready.insert(sequence);
        }
        while let Some((key, able)) = self.choose() {
            if self.ready.is_empty() && self.segments.is_empty() {
                let mut intake = lock(intake);
                self.queued_fresh += intake.take(&mut self.segments, &mut self.spares);
                if self.segments.is_empty() {
                    intake.parked = true;
                    break;
                }
                self.share = self.queued_fresh.div_ceil(able);
            }
            let lane = self.lanes.get_mut(&key).expect("just chosen");
            let (credit, bytes) = (lane.available(), lane.credit.bytes - lane.sent.bytes);
            if !self.ready.is_empty() && (!planted!(RequeuedAtBack) || self.segments.is_empty()) {
                self.send_again(key, credit.min(AGAIN_RUN as u64), bytes);
            } else if let Some(mut segment) = self.segments.pop_front() {
                let share = if able > 1 { self.share.max(1) } else { u64::MAX };
                let most = credit.min(share).min(u64::from(segment.count)) as u32;
                if most < segment.count || (segment.payload > bytes && segment.count > 1) {
                    let rest = segment.split(most, bytes);
                    rest.into_iter().for_each(|rest| self.segments.push_front(rest));
                }
                self.queued_fresh -= u64::from(segment.count);
                lane.send_fresh(segment);
            }
            self.wake_writer(key);
        }
        self.tell_waiting(intake);
    }

    /// Least loaded of the lanes that have credit and are not behind with writing, and how many have credit.
    fn choose(&self) -> Option<(LaneKey, u64)> {
        let (mut best, mut able) = (None::<(LaneKey, u64)>, 0);
        for (key, lane) in &self.lanes {
            if lane.closing || lane.available() == 0 || lane.sent.bytes >= lane.credit.bytes {
                continue;
            }
            able += 1;
            if lane.out_bytes < OUTGOING && best.is_none_or(|(_, load)| lane.unanswered < load) {
                best = Some((*key, lane.unanswered));
            }
        }
        best.map(|(key, _)| (key, able))
    }

    /// Pullers that give credit by slots are told when work waits for them and when none does any more.
    fn tell_waiting(&mut self, intake: &Mutex<Intake>) {
        if !self.lanes.values().any(|lane| lane.peer.slots) {
            return;
        }
        let mut queued = self.ready.len() as u64 + self.queued_fresh;
        {
            let mut intake = lock(intake);
            queued += intake.queued();
            intake.parked |= queued == 0;
        }
        for lane in self.lanes.values_mut().filter(|lane| lane.peer.slots && !lane.closing) {
            let unspent = lane.available();
            if lane.told_waiting == (queued > 0) && (queued > 0 || unspent == 0) {
                continue;
            }
            // A puller that does not read is told once it does: its writer asks again whenever it has written.
            if lane.small.len() >= OUTGOING {
                continue;
            }
            lane.told_waiting = queued > 0;
            let waiting = Payload::of(&[queued, 0]);
            frame::put_control(&mut lane.small, to_receiver::WAITING, &waiting.0);
            if queued == 0 && unspent > 0 {
                lane.waived += unspent;
                frame::put_control(&mut lane.small, to_receiver::WAIVE, &Payload::of(&[lane.waived]).0);
            }
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    pub(super) fn wake_writer(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    fn send_again(&mut self, key: LaneKey, most: u64, bytes: u64) {
        let lane = self.lanes.get_mut(&key).expect("just chosen");
        let first = lane.sent.messages;
        let (mut sequences, mut sum) = (Vec::new(), 0);
        while (sequences.len() as u64) < most && sum < bytes {
            let Some(sequence) = self.ready.pop_first() else { break };
            let message = self.returned.get_mut(&sequence).expect("what is ready came back");
            message.attempt = message.attempt.saturating_add(u32::from(!planted!(AttemptNotRaised)));
            message.place = Place::InFlight(key, lane.sent.messages);
            sum += message.content.size() as u64;
            lane.send_returned(sequence, message);
            if self.tell_again {
                let Returned { attempt, failures, redelivered, .. } = *message;
                let (headers, to) = (message.content.headers.clone(), lane.peer.node);
                let sent = SentAgain { sequence, headers, attempt, failures, redelivered, to };
                self.effects.again.push(sent);
            }
            sequences.push(sequence);
        }
        self.counts.redelivered += sequences.len() as u64;
        lane.unanswered += sequences.len() as u64;
        lane.runs.push_back(Run { first, what: What::Again(Again::new(sequences)) });
    }

    /// What this lane's writer takes now. Nothing: its waker is kept.
    pub(crate) fn take_outgoing(&mut self, key: LaneKey, waker: &Waker, out: &mut Vec<Bytes>) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        if lane.taken > lane.told_heard {
            lane.told_heard = lane.taken;
            frame::put_control(&mut lane.small, to_receiver::HEARD, &Payload::of(&[lane.taken]).0);
        }
        lane.flush();
        out.append(&mut lane.out);
        lane.written = lane.sent.messages;
        if out.is_empty() {
            lane.writer = Some(waker.clone());
        } else {
            lane.out_bytes = 0;
        }
        !out.is_empty()
    }

    /// The writer is about to take: what lay before it is in QUIC's hands.
    pub(crate) fn writer_turn(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.out_bytes = 0;
        }
    }

    /// The lane has nothing to say any more: the puller takes no more and owes nothing.
    pub(crate) fn is_finished(&self, key: LaneKey) -> bool {
        let over = |lane: &Lane| lane.closing && lane.unanswered == 0 && lane.out.is_empty() && lane.small.is_empty();
        self.lanes.get(&key).is_none_or(over)
    }

    /// All lanes look again whether they are finished.
    pub(crate) fn wake_all(&mut self) {
        for lane in self.lanes.values_mut() {
            self.effects.wakers.extend(lane.writer.take());
        }
    }
}

impl Lane {
    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.out.push(self.small.split().freeze());
        }
    }

    fn send_fresh(&mut self, segment: Segment) {
        let mut wire = segment.bytes.clone();
        let delta = segment.first.wrapping_sub(self.next_sequence) as i64;
        if delta != 0 {
            // Only the lane's copy of the first head says so: what is retained stays as it is.
            let (head, length) = own_frame(&wire);
            frame::put_head(&mut self.small, own_flags(&wire, head), length, Head { delta, ..Head::PLAIN });
            wire.advance(head);
        }
        self.out_bytes += wire.len();
        if wire.len() <= SMALL_CHUNK {
            self.small.extend_from_slice(&wire);
        } else {
            self.flush();
            self.out.push(wire);
        }
        if let Some(body) = &segment.body {
            self.flush();
            self.out_bytes += body.len();
            self.out.push(body.clone());
        }
        let first = self.sent.messages;
        self.next_sequence = segment.first + u64::from(segment.count);
        self.sent.add(u64::from(segment.count), segment.payload);
        self.unanswered += u64::from(segment.count);
        self.runs.push_back(Run { first, what: What::Fresh(Fresh::new(segment)) });
    }

    fn send_returned(&mut self, sequence: u64, message: &Returned) {
        let head = Head {
            delta: sequence.wrapping_sub(self.next_sequence) as i64,
            attempt: message.attempt,
            failures: message.failures,
            redelivered: message.redelivered,
        };
        let content = &message.content;
        frame::put_head(&mut self.small, content.flags(), content.size(), head);
        headers::put_section(&mut self.small, &content.headers);
        if content.body.len() > SMALL_CHUNK {
            self.flush();
            self.out.push(content.body.clone());
        } else {
            self.small.extend_from_slice(&content.body);
        }
        self.next_sequence = sequence + 1;
        self.sent.add(1, content.size() as u64);
        self.out_bytes += content.size() + MAX_HEAD;
    }
}
