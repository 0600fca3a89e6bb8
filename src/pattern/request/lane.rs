//! One lane to a replier: what goes out over it, and what comes in?

use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Lane, Outcome, Place, Requests};
use crate::pattern::content::Content;
use crate::pattern::lane::Violation;
use crate::pattern::pieces::{Arrival, Rest, is_part, most_of_node};
use crate::pattern::push::LaneKey;
use crate::wire::exchange::{self, MORE, OVERFLOW, RequestHead, to_replier, to_requester};
use crate::wire::limits::MAX_LANES;

impl Requests {
    /// What this lane's writer takes now. Nothing: its waker is kept.
    pub(crate) fn take_outgoing(&mut self, key: LaneKey, now: Instant, waker: &Waker, out: &mut Vec<Bytes>) -> bool {
        let window = self.window();
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        if let Some(total) = lane.allowance.tell(window) {
            exchange::put_numbers(lane.out.small(), to_replier::CREDIT, &[total]);
        }
        for number in lane.cancels.drain(..) {
            exchange::put_numbers(lane.out.small(), to_replier::CANCEL, &[number]);
        }
        // A new one and a piece of an old one in turn: neither holds up the other for long.
        while !lane.out.is_full() {
            let next = lane.queue.pop_first();
            if let Some(number) = next {
                let exchange = self.open.get_mut(&number).expect("what a lane has queued is open");
                let deadline =
                    if planted!(DeadlineStays) { now + Duration::from_secs(3600) } else { exchange.asked.deadline };
                let remaining = deadline.saturating_duration_since(now).as_millis();
                let head = RequestHead {
                    id: number,
                    remaining: remaining.min(1 << 60) as u64,
                    idempotent: exchange.asked.idempotent,
                    attempt: exchange.attempt,
                };
                let Content { headers, body } = &exchange.asked.content;
                let (first, rest) = Rest::of(number, body);
                exchange::put_request(lane.out.small(), head, headers, body.len(), first.len());
                lane.out.body(first);
                exchange.sent_at = Some(now);
                match rest {
                    None => exchange.place = Place::Sent(key),
                    Some(rest) => lane.sending.push_back(rest),
                }
            }
            match lane.sending.pop_front() {
                Some(mut rest) => {
                    if rest.put(&mut lane.out) {
                        lane.sending.push_back(rest);
                    } else if let Some(exchange) = self.open.get_mut(&rest.id) {
                        exchange.place = Place::Sent(key);
                    }
                }
                None if next.is_none() => break,
                None => {}
            }
        }
        let any = lane.out.take(out);
        if !any {
            lane.writer = Some(waker.clone());
        }
        any
    }

    /// The lane has nothing to say any more: nothing more is asked over it, and nothing is open.
    pub(crate) fn is_finished(&self, key: LaneKey) -> bool {
        let nothing = |lane: &Lane| lane.unanswered.is_empty() && lane.cancels.is_empty();
        let over = |lane: &Lane| nothing(lane) && (lane.closing || self.closed && self.open.is_empty());
        self.lanes.get(&key).is_none_or(over)
    }

    /// Takes what was read.
    pub(crate) fn handle_incoming(
        &mut self,
        key: LaneKey,
        chunks: &mut [Bytes],
        now: Instant,
        max_message: usize,
    ) -> Result<(), Violation> {
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
        let mut frames = std::mem::take(&mut lane.frames);
        for chunk in chunks {
            frames.feed(std::mem::take(chunk), |kind, payload| {
                self.handle_frame(key, kind, &payload, now, max_message)
            })?;
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.frames = frames;
        }
        Ok(())
    }

    /// The replier has said this.
    fn handle_frame(
        &mut self,
        key: LaneKey,
        kind: u8,
        payload: &Bytes,
        now: Instant,
        max_message: usize,
    ) -> Result<(), Violation> {
        match kind {
            to_requester::REPLY => self.handle_reply(key, payload, now, max_message),
            MORE => self.handle_more(key, payload, now),
            to_requester::FAILED => {
                let (number, code, message) = exchange::read_failed(payload)?;
                if self.lanes.get(&key).is_some_and(|lane| lane.arriving.contains_key(&number)) {
                    return Err(Violation("a request fails after its reply has begun"));
                }
                if self.answers(key, number)? {
                    self.answered(key, number, now);
                    self.end(number, Outcome::Failed { code, message }, None);
                    self.dispatch();
                }
                Ok(())
            }
            to_requester::BUSY => {
                let number = exchange::read_number(payload)?;
                self.handle_busy(key, number)
            }
            to_requester::CREDIT => {
                let total = exchange::read_number(payload)?;
                let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
                if total < lane.credit {
                    return Err(Violation("credit that was given is taken back"));
                }
                lane.credit = total;
                self.dispatch();
                Ok(())
            }
            to_requester::CLOSING => {
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.closing = true;
                    self.left.insert((lane.peer.node, lane.peer.socket));
                    if self.left.len() > MAX_LANES as usize {
                        // Of one that is forgotten too soon it is only later said that it takes no more.
                        self.left.pop_first();
                    }
                    self.effects.wakers.extend(lane.writer.take());
                    self.call_back(key);
                }
                Ok(())
            }
            0x40.. => Ok(()),
            _ => Err(Violation("a frame of a reply is of a kind that this revision does not know")),
        }
    }

    /// What is only assigned goes to somebody else.
    fn call_back(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let called = std::mem::take(&mut lane.queue);
        lane.unanswered.retain(|number| !called.contains(number));
        for number in called {
            self.wait_again(number);
        }
        self.effects.look = true;
        self.dispatch();
    }

    /// Whether this is an answer to an open request; of one that has ended it is passed over.
    fn answers(&mut self, key: LaneKey, number: u64) -> Result<bool, Violation> {
        if number >= self.next {
            return Err(Violation("an answer to what was never asked"));
        }
        match self.open.get(&number).map(|exchange| (exchange.place, exchange.attempt)) {
            Some((Place::Sent(lane), _)) if lane == key => Ok(true),
            Some((Place::Assigned(lane), attempt)) if lane == key => {
                let begun = self.lanes.get_mut(&key).filter(|lane| !lane.queue.contains(&number));
                let Some(lane) = begun.filter(|_| attempt > 1) else {
                    return Err(Violation("an answer to what was not asked in full"));
                };
                // It has the work in hand since an earlier attempt, or has kept the answer: the rest is of no use to it.
                lane.sending.retain(|rest| rest.id != number);
                Ok(true)
            }
            // It has ended, or somebody else is asked now: their answers count, and no one else's.
            _ => {
                self.counts.late += 1;
                Ok(planted!(EndsTwice) && !self.open.contains_key(&number))
            }
        }
    }

    fn handle_reply(
        &mut self,
        key: LaneKey,
        payload: &Bytes,
        now: Instant,
        max_message: usize,
    ) -> Result<(), Violation> {
        let begun = exchange::read_reply(payload)?;
        if begun.body > max_message {
            return Err(Violation("a reply is longer than this node takes"));
        }
        let (number, cost) = (begun.head, exchange::cost(begun.headers.len(), begun.body));
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
        lane.allowance.spend(cost)?;
        if lane.arriving.contains_key(&number) {
            return Err(Violation("a second reply to one request"));
        }
        if !self.answers(key, number)? {
            self.release(key, cost);
            return Ok(());
        }
        if is_part(&begun, payload) && self.held_for(key) - cost >= most_of_node(max_message) {
            self.answered(key, number, now);
            if let Some(lane) = self.lanes.get_mut(&key) {
                // Nobody takes the rest of it.
                lane.cancels.push(number);
                self.effects.wakers.extend(lane.writer.take());
            }
            self.release(key, cost);
            let message = "this node holds too many bytes of replies of the one that has answered".into();
            self.end(number, Outcome::Failed { code: OVERFLOW.into(), message }, None);
            self.dispatch();
            return Ok(());
        }
        match Arrival::of(&begun, payload) {
            Arrival::Whole(content) => self.replied(key, number, content, cost, now),
            Arrival::Part(part) => {
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.arriving.insert(number, (part, cost));
                }
            }
        }
        Ok(())
    }

    /// What replies hold, over all lanes to the node of this one.
    fn held_for(&self, key: LaneKey) -> u64 {
        let Some(node) = self.lanes.get(&key).map(|lane| lane.peer.node) else { return 0 };
        self.lanes.values().filter(|lane| lane.peer.node == node).map(|lane| lane.allowance.held()).sum()
    }

    fn handle_more(&mut self, key: LaneKey, payload: &Bytes, now: Instant) -> Result<(), Violation> {
        let (number, at) = exchange::read_more(payload)?;
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
        // The rest of a reply that nobody waits for any more.
        let Some((part, cost)) = lane.arriving.get_mut(&number) else { return Ok(()) };
        let cost = *cost;
        if let Some(content) = part.feed(&payload[at..])? {
            lane.arriving.remove(&number);
            self.replied(key, number, content, cost, now);
        }
        Ok(())
    }

    fn replied(&mut self, key: LaneKey, number: u64, content: Content, cost: u64, now: Instant) {
        self.answered(key, number, now);
        let by = self.lanes.get(&key).map(|lane| lane.peer.node);
        let attempt = self.open.get(&number).map_or(1, |exchange| exchange.attempt);
        let Some(by) = by else { return };
        self.end(number, Outcome::Replied { content, by, attempt }, Some((key, cost)));
        self.dispatch();
    }

    /// Notes how long it took.
    fn answered(&mut self, key: LaneKey, number: u64, now: Instant) {
        let sent_at = self.open.get(&number).and_then(|exchange| exchange.sent_at);
        let (Some(lane), Some(sent_at)) = (self.lanes.get_mut(&key), sent_at) else { return };
        lane.answered += 1;
        lane.took(now.saturating_duration_since(sent_at));
    }

    /// The replier is full and has handed it to nobody: somebody else is asked.
    fn handle_busy(&mut self, key: LaneKey, number: u64) -> Result<(), Violation> {
        if number >= self.next {
            return Err(Violation("an answer to what was never asked"));
        }
        let Some(exchange) = self.open.get_mut(&number) else { return Ok(()) };
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
        match exchange.place {
            Place::Sent(at) | Place::Assigned(at) if at == key => {}
            _ => return Ok(()),
        }
        if lane.queue.contains(&number) {
            return Err(Violation("an answer to what was not asked"));
        }
        if lane.arriving.contains_key(&number) {
            return Err(Violation("a replier is busy after it has begun to reply"));
        }
        lane.sending.retain(|rest| rest.id != number);
        lane.unanswered.remove(&number);
        if lane.closing && lane.unanswered.is_empty() {
            self.effects.wakers.extend(lane.writer.take());
        }
        exchange.busy.push(key);
        exchange.sent_at = None;
        self.counts.refused += 1;
        if planted!(BusyIsTheEnd) {
            self.end(number, Outcome::Busy, None);
            return Ok(());
        }
        self.wait_again(number);
        self.dispatch();
        Ok(())
    }
}

impl Lane {
    /// An eighth of each answer's time counts, so that one slow one does not decide.
    fn took(&mut self, time: Duration) {
        self.latency = Some(self.latency.map_or(time, |latency| (latency * 7 + time) / 8));
    }

    /// It has not answered for so long: if that is more than it takes as a rule, it is slower now.
    pub(super) fn took_at_least(&mut self, time: Duration) {
        if self.latency.is_none_or(|latency| latency < time) {
            self.took(time);
        }
    }
}
