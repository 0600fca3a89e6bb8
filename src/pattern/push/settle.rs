//! What becomes of a message that leaves its lane: is it settled, does it go back to the queue, or is it dead?

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Dead, Flight, Intake, LaneKey, Outcome, Place, Returned, Run, What};
use crate::id::NodeId;
use crate::pattern::content::Content;
use crate::wire::limits::BACKOFF;

/// Of how many earlier hands a message remembers that they may still answer.
const GIVEN: usize = 8;

/// How one message came back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Back {
    /// A worker failed with it.
    pub(super) failed: bool,
    /// An application may have been handed it.
    pub(super) handed: bool,
    /// It may still be answered by whom it was given to.
    pub(super) may_answer: bool,
    pub(super) delay: Option<Duration>,
}

impl Flight {
    /// A message is handled. Its room is free.
    pub(super) fn settle_answered(&mut self, key: LaneKey, sequence: u64, fresh: Option<usize>) {
        self.lane_answered(key);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.handled += 1;
        }
        self.settle(sequence, fresh, Outcome::Handled);
    }

    /// `fresh`: the size of a message that has no record.
    pub(super) fn settle(&mut self, sequence: u64, fresh: Option<usize>, outcome: Outcome) {
        let returned = self.returned.remove(&sequence).map(|message| message.content.size());
        let bytes = fresh.or(returned).unwrap_or(0);
        match outcome {
            Outcome::Handled => self.counts.handled += 1,
            Outcome::Rejected(_) => self.counts.rejected += 1,
            Outcome::Exhausted(_) => self.counts.exhausted += 1,
        }
        self.effects.freed.add(1, bytes as u64);
        self.tell(sequence, outcome);
    }

    pub(super) fn tell(&mut self, sequence: u64, outcome: Outcome) {
        if planted!(MissedSettling) && matches!(outcome, Outcome::Rejected(_)) {
            return;
        }
        if self.tracked.remove(&sequence) {
            self.effects.settled.push((sequence, outcome));
        }
    }

    /// A message will not be delivered again.
    pub(super) fn bury(&mut self, key: LaneKey, sequence: u64, fresh: Option<Content>, attempt: u32, outcome: Outcome) {
        let Some(by) = self.lanes.get(&key).map(|lane| lane.peer.node) else { return };
        let known = || self.returned.get(&sequence).map(|message| message.content.clone());
        let content = fresh.or_else(known).unwrap_or_default();
        self.bury_by(by, sequence, content, attempt, outcome);
    }

    pub(super) fn bury_by(&mut self, by: NodeId, sequence: u64, content: Content, attempt: u32, outcome: Outcome) {
        self.settle(sequence, Some(content.size()), outcome.clone());
        self.effects.dead.push(Dead { sequence, content, outcome, attempt, by });
    }

    /// A message goes back to the queue, unless its failures are used up.
    pub(super) fn come_back(&mut self, from: NodeId, sequence: u64, fresh: Option<Content>, back: Back, now: Instant) {
        if let Some(content) = fresh {
            let (given, place) = (Vec::new(), Place::Ready);
            let message = Returned { content, attempt: 1, failures: 0, redelivered: false, given, place };
            self.returned.insert(sequence, message);
        }
        let Some(message) = self.returned.get_mut(&sequence) else { return };
        message.redelivered |= back.handed && !planted!(RedeliveredForgotten);
        if back.failed {
            message.failures = message.failures.saturating_add(1);
        }
        if back.may_answer {
            if message.given.len() == GIVEN {
                message.given.remove(0);
            }
            message.given.push((from, message.attempt));
        }
        if back.failed && self.max_failures.is_some_and(|most| message.failures >= most) {
            let (content, attempt, failures) = (message.content.clone(), message.attempt, message.failures);
            return self.bury_by(from, sequence, content, attempt, Outcome::Exhausted(failures));
        }
        let delay = back.delay.unwrap_or_else(|| match message.failures {
            0 => Duration::ZERO,
            failures => BACKOFF[(failures as usize - 1).min(BACKOFF.len() - 1)],
        });
        if delay.is_zero() || !back.failed || planted!(DelayIgnored) {
            message.place = Place::Ready;
            self.ready.insert(sequence);
        } else {
            let due = now + delay;
            message.place = Place::Delayed(due);
            self.delayed.insert((due, sequence));
        }
    }

    /// Takes a message from where it is, before it is settled from elsewhere.
    pub(super) fn leave(&mut self, sequence: u64, place: Place) {
        match place {
            Place::Ready => {
                self.ready.remove(&sequence);
            }
            Place::Delayed(due) => {
                self.delayed.remove(&(due, sequence));
            }
            Place::InFlight(key, position) => {
                self.lane_answered(key);
                self.strike(key, position);
            }
        }
    }

    /// The message at this place of a lane needs no answer any more: a run of such is let go.
    fn strike(&mut self, key: LaneKey, position: u64) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let at = lane.runs.partition_point(|run| run.end() <= position);
        let Some(Run { first, what: What::Again(again) }) = lane.runs.get_mut(at) else { return };
        again.answer((position - *first) as usize);
        if again.left == 0 {
            lane.runs.remove(at);
        }
    }

    /// The lane is over: everything that it owes goes to the front of the queue again, in order.
    pub(crate) fn close_lane(&mut self, key: LaneKey, now: Instant) {
        let Some(lane) = self.lanes.remove(&key) else { return };
        let wants_taken = self.wants_taken();
        // What had come back before the lane took it goes by its record, what went out for the first time gets one.
        let back = |flight: &mut Self, position: u64, sequence: u64, fresh: Option<Content>| {
            let handed = !wants_taken || position < lane.taken || planted!(FailureOfTheUnhanded);
            let failed = wants_taken && handed;
            let back = Back { failed, handed, may_answer: handed, delay: failed.then_some(Duration::ZERO) };
            flight.come_back(lane.peer.node, sequence, fresh, back, now);
        };
        for run in lane.runs {
            match run.what {
                What::Fresh(fresh) => {
                    for (sequence, index, content) in fresh.unanswered() {
                        back(self, run.first + u64::from(index), sequence, Some(content));
                    }
                }
                What::Again(again) => {
                    for (index, sequence) in again.sequences().iter().enumerate() {
                        let position = run.first + index as u64;
                        if self.is_at(*sequence, key, position) {
                            back(self, position, *sequence, None);
                        }
                    }
                }
            }
        }
    }

    /// Hands back everything that is unsettled, in the order of acceptance; nothing is owned afterwards.
    pub(crate) fn drain(&mut self, intake: &mut Intake) -> Vec<Content> {
        intake.take(&mut self.segments, &mut Vec::new());
        let mut all: BTreeMap<u64, Content> = std::mem::take(&mut self.returned)
            .into_iter()
            .map(|(sequence, message)| (sequence, message.content))
            .collect();
        for lane in self.lanes.values_mut() {
            for run in lane.runs.drain(..) {
                if let What::Fresh(fresh) = run.what {
                    all.extend(fresh.unanswered().into_iter().map(|(sequence, _, content)| (sequence, content)));
                }
            }
            lane.unanswered = 0;
        }
        for segment in self.segments.drain(..) {
            all.extend((segment.first..).zip(segment.contents()));
        }
        self.ready.clear();
        self.delayed.clear();
        self.queued_fresh = 0;
        let contents: Vec<Content> = all.into_values().collect();
        self.counts.handed_back += contents.len() as u64;
        self.effects.freed.add(contents.len() as u64, contents.iter().map(|content| content.size() as u64).sum());
        contents
    }

    pub(super) fn is_at(&self, sequence: u64, key: LaneKey, position: u64) -> bool {
        self.returned.get(&sequence).is_some_and(|message| message.place == Place::InFlight(key, position))
    }

    pub(super) fn lane_answered(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.unanswered -= 1;
        }
    }
}
