//! How does a request end? Once, and by its deadline at the latest.

use std::time::Instant;

use super::{Ended, Lost, Outcome, Place, Requests};
use crate::pattern::push::LaneKey;

impl Requests {
    /// The request has ended like this; whoever waits for it is woken. `held`: the credit that its reply holds.
    pub(super) fn end(&mut self, number: u64, outcome: Outcome, held: Option<(LaneKey, u64)>) {
        let Some(waker) = self.remove(number).or_else(|| planted!(EndsTwice).then_some(None)) else { return };
        *match &outcome {
            Outcome::Replied { .. } => &mut self.counts.replied,
            Outcome::Failed { .. } => &mut self.counts.failed,
            Outcome::NoReplier => &mut self.counts.no_replier,
            Outcome::Busy => &mut self.counts.busy,
            Outcome::NotSent => &mut self.counts.not_sent,
            Outcome::Unknown(_) => &mut self.counts.unknown,
            Outcome::TimedOut => &mut self.counts.timed_out,
            Outcome::TooLarge { .. } => &mut self.counts.too_large,
            Outcome::Closed => &mut self.counts.closed,
        } += 1;
        self.ended.insert(number, Ended { outcome, held });
        self.effects.wakers.extend(waker.filter(|_| !planted!(OutcomeWakesNobody)));
    }

    /// Takes it out of the books; what its lane has of it must be settled. The waker of who waits for it, once.
    pub(super) fn remove(&mut self, number: u64) -> Option<Option<std::task::Waker>> {
        let exchange = self.open.remove(&number)?;
        self.deadlines.remove(&(exchange.asked.deadline, number));
        match exchange.place {
            Place::Waiting => self.stop_waiting(number, exchange.asked.target),
            Place::Assigned(key) | Place::Sent(key) => {
                if !planted!(RequestRoomLost) {
                    self.used.messages -= 1;
                    self.used.bytes -= exchange.cost;
                }
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.unanswered.remove(&number);
                    if lane.closing && lane.unanswered.is_empty() {
                        self.effects.wakers.extend(lane.writer.take());
                    }
                }
            }
        }
        if self.open.is_empty() {
            self.effects.empty = true;
            if self.closed {
                self.wake_writers();
            }
        }
        Some(exchange.waker)
    }

    /// Its lane is to do nothing more for it: what was not taken by the writer is not sent, and who has it is told.
    pub(super) fn retract(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get(&number) else { return };
        let (Place::Assigned(key) | Place::Sent(key)) = exchange.place else { return };
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.queue.remove(&number) {
            // Nothing of it has left: the replier has not counted it.
            lane.spent -= exchange.cost;
            return;
        }
        lane.sending.retain(|rest| rest.id != number);
        if !planted!(CancelLost) {
            lane.cancels.push(number);
        }
        if let Some(sent_at) = exchange.sent_at {
            // So long it has taken at the least.
            lane.took_at_least(now.saturating_duration_since(sent_at));
        }
        self.effects.wakers.extend(lane.writer.take());
        if let Some((_, cost)) = lane.arriving.remove(&number) {
            self.release(key, cost);
        }
    }

    /// Ends those whose time is up.
    pub(crate) fn expire(&mut self, now: Instant) {
        let mut any = false;
        while let Some((_, number)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            any = true;
            let outcome = self.out_of_time(number);
            self.retract(number, now);
            self.end(number, outcome, None);
        }
        if any {
            self.dispatch();
        }
    }

    fn out_of_time(&self, number: u64) -> Outcome {
        let Some(exchange) = self.open.get(&number) else { return Outcome::TimedOut };
        match (exchange.place, exchange.lost) {
            (Place::Sent(_), _) => Outcome::TimedOut,
            (_, Some(node)) => Outcome::Unknown(Lost::Link(node)),
            (Place::Assigned(_), None) => Outcome::NotSent,
            (Place::Waiting, None) => {
                let node = exchange.asked.target.node();
                let mut lanes = self.lanes.values().filter(|lane| !lane.closing);
                if lanes.any(|lane| node.is_none_or(|node| lane.peer.node == node)) {
                    Outcome::NotSent
                } else {
                    Outcome::NoReplier
                }
            }
        }
    }

    /// The lane is over: what was not sent goes to somebody else; of what was it is not known what became, and only if
    /// that does no harm it is asked again.
    pub(crate) fn close_lane(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.remove(&key) else { return };
        let mut left = lane.unanswered;
        while let Some(number) = left.pop_first() {
            let Some(exchange) = self.open.get_mut(&number) else { continue };
            if exchange.place == Place::Sent(key) {
                let node = lane.peer.node;
                if !exchange.asked.idempotent {
                    let unknown = Outcome::Unknown(Lost::Link(node));
                    self.end(number, if planted!(SentIsNotSent) { Outcome::NotSent } else { unknown }, None);
                    continue;
                }
                exchange.lost = Some(node);
                if planted!(AskedAgainForEver) {
                    self.deadlines.remove(&(exchange.asked.deadline, number));
                }
                exchange.attempt = exchange.attempt.saturating_add(1);
                self.counts.repeated += 1;
            }
            self.wait_again(number);
        }
        self.effects.look = true;
        self.dispatch();
    }

    /// The node has ended, and every request with it.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        let numbers: Vec<_> =
            self.open.iter().map(|(number, exchange)| (*number, exchange.place, exchange.lost)).collect();
        for (number, place, lost) in numbers {
            let outcome = match (place, lost) {
                (Place::Sent(_), _) => Outcome::Unknown(Lost::Closed),
                (_, Some(node)) => Outcome::Unknown(Lost::Link(node)),
                _ => Outcome::Closed,
            };
            self.end(number, outcome, None);
        }
        self.wake_writers();
    }
}
