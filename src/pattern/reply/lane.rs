//! One lane from a requester: what comes in over it, and what goes back?

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::kept::Origin;
use super::{Answer, Asker, Lane, Reply, Stage, Work, WorkKey, Works};
use crate::id::NodeId;
use crate::pattern::content::Content;
use crate::pattern::lane::{LanePeer, Violation};
use crate::pattern::pieces::{Allowance, Arrival, Frames, Out, Rest, is_part, most_of_node};
use crate::pattern::push::LaneKey;
use crate::pattern::waiters::Waiters;
use crate::wire::control::OpenLane;
use crate::wire::exchange::{self, MORE, to_replier, to_requester};
use crate::wire::limits::MAX_REMAINING;

impl Works {
    /// A lane from a requester.
    pub(crate) fn accept_lane(&mut self, peer: LanePeer, open: &OpenLane) -> LaneKey {
        let key = self.next_lane;
        self.next_lane += 1;
        let lane = Lane {
            peer,
            epoch: open.epoch,
            frames: Frames::default(),
            works: BTreeMap::new(),
            allowance: Allowance::default(),
            answered_cost: 0,
            credit: 0,
            spent: 0,
            replies: VecDeque::new(),
            replies_bytes: 0,
            sending: VecDeque::new(),
            closing_told: false,
            received: 0,
            out: Out::default(),
            writer: None,
        };
        self.lanes.insert(key, lane);
        key
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

    fn handle_frame(
        &mut self,
        key: LaneKey,
        kind: u8,
        payload: &Bytes,
        now: Instant,
        max_message: usize,
    ) -> Result<(), Violation> {
        match kind {
            to_replier::REQUEST => self.handle_request(key, payload, now, max_message),
            MORE => self.handle_more(key, payload),
            to_replier::CANCEL => {
                let id = exchange::read_number(payload)?;
                self.handle_cancel(key, id);
                Ok(())
            }
            to_replier::CREDIT => {
                let total = exchange::read_number(payload)?;
                let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
                if total < lane.credit {
                    return Err(Violation("credit that was given is taken back"));
                }
                lane.credit = total;
                self.effects.wakers.extend(lane.writer.take());
                Ok(())
            }
            0x40.. => Ok(()),
            _ => Err(Violation("a frame of a request is of a kind that this revision does not know")),
        }
    }

    fn handle_request(
        &mut self,
        key: LaneKey,
        payload: &Bytes,
        now: Instant,
        max_message: usize,
    ) -> Result<(), Violation> {
        let begun = exchange::read_request(payload)?;
        if begun.body > max_message {
            return Err(Violation("a request is longer than this node takes"));
        }
        let head = begun.head;
        let cost = exchange::cost(begun.headers.len(), begun.body);
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
        lane.allowance.spend(cost)?;
        if lane.works.contains_key(&head.id) {
            return Err(OPEN);
        }
        lane.received += 1;
        let origin = Origin { node: lane.peer.node, epoch: lane.epoch, id: head.id };
        let deadline = now + Duration::from_millis(head.remaining.min(MAX_REMAINING));
        if head.idempotent && !planted!(RunsAgain) && self.repeat(key, origin, cost, deadline)? {
            return Ok(());
        }
        let is_much = is_part(&begun, payload) && self.held_for(origin.node) - cost >= most_of_node(max_message);
        let is_full = self.owed() >= self.limit && !planted!(LimitIgnored);
        if self.closed || is_much || is_full && !self.make_room_for(origin.node) {
            self.counts.busy += u64::from(!self.closed);
            self.say_busy(key, head.id, cost);
            return Ok(());
        }
        self.counts.received += 1;
        let work = self.next_work;
        self.next_work += 1;
        let stage = match Arrival::of(&begun, payload) {
            Arrival::Whole(content) => Stage::Waiting(content),
            Arrival::Part(part) => Stage::Arriving(part),
        };
        let whole = matches!(stage, Stage::Waiting(_));
        let places = self.places.entry(origin.node).or_default();
        places.works += 1;
        if !whole {
            places.arriving.insert(work);
        }
        let asker = Some(Asker { lane: key, cost });
        let (idempotent, attempt) = (head.idempotent, head.attempt);
        self.effects.look |= self.armed.is_none_or(|armed| deadline < armed);
        self.deadlines.insert((deadline, work));
        if idempotent {
            self.repeatable.insert(origin, work);
        }
        let (joined, watchers) = (false, Waiters::default());
        self.works.insert(work, Work { asker, origin, idempotent, attempt, deadline, stage, joined, watchers });
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.works.insert(head.id, work);
        }
        if whole {
            self.ready(work);
        }
        Ok(())
    }

    /// Work, and answers that wait for their requester to take them.
    fn owed(&self) -> u64 {
        let waiting: usize = self.lanes.values().map(|lane| lane.replies.len() + lane.sending.len()).sum();
        (self.works.len() + waiting) as u64
    }

    /// Of a node that has more places than this one, and would still have as many, one whose body is on its way goes to this
    /// one: who announces many bodies and sends none keeps nobody out. False: there is none.
    fn make_room_for(&mut self, node: NodeId) -> bool {
        let own = self.places.get(&node).map_or(0, |places| places.works);
        let richer = self.places.values().filter(|places| places.works > own + 1 && !places.arriving.is_empty());
        // The one that came last, of which as a rule the least is here.
        let last = richer.max_by_key(|places| places.works).and_then(|places| places.arriving.last().copied());
        let Some(key) = last else { return false };
        self.counts.returned += 1;
        self.turn_away(key);
        true
    }

    /// What requests of this node hold, over all its lanes.
    fn held_for(&self, node: NodeId) -> u64 {
        self.lanes.values().filter(|lane| lane.peer.node == node).map(|lane| lane.allowance.held()).sum()
    }

    /// What was asked before: it joins the work in hand, or is given the answer that was kept.
    fn repeat(&mut self, key: LaneKey, origin: Origin, cost: u64, deadline: Instant) -> Result<bool, Violation> {
        if let Some(answer) = self.kept.get(&origin).cloned() {
            // Over another lane it may come again, and over this one not before it has its answer: who does not take that
            // could else make this one hold more and more of them.
            if self.lanes.get(&key).is_some_and(|lane| lane.is_answering(origin.id)) {
                return Err(OPEN);
            }
            self.counts.repeated += 1;
            self.send(key, Reply { id: origin.id, answer, cost });
            return Ok(true);
        }
        let Some(work_key) = self.repeatable.get(&origin).copied() else { return Ok(false) };
        let Some(work) = self.works.get_mut(&work_key) else { return Ok(false) };
        if matches!(work.stage, Stage::Arriving(_)) {
            // The rest of it never comes: it begins anew.
            self.counts.lost += 1;
            self.give_up(work_key);
            return Ok(false);
        }
        self.counts.repeated += 1;
        let before = work.asker.replace(Asker { lane: key, cost });
        work.joined = true;
        self.deadlines.remove(&(work.deadline, work_key));
        work.deadline = deadline;
        self.effects.look |= self.armed.is_none_or(|armed| deadline < armed);
        self.deadlines.insert((deadline, work_key));
        if let Some(Asker { lane, cost }) = before {
            // The lane that is gone for its requester, and of which that is not known here yet.
            if let Some(lane) = self.lanes.get_mut(&lane) {
                lane.works.remove(&origin.id);
            }
            self.release(lane, cost);
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.works.insert(origin.id, work_key);
        }
        Ok(true)
    }

    fn handle_more(&mut self, key: LaneKey, payload: &Bytes) -> Result<(), Violation> {
        let (id, at) = exchange::read_more(payload)?;
        let Some(lane) = self.lanes.get(&key) else { return Ok(()) };
        // The rest of what was refused, given up, or had run out of time.
        let Some(work_key) = lane.works.get(&id).copied() else { return Ok(()) };
        let work = self.works.get_mut(&work_key).expect("a lane's works are open");
        match &mut work.stage {
            Stage::Arriving(part) => {
                if let Some(content) = part.feed(&payload[at..])? {
                    work.stage = Stage::Waiting(content);
                    self.ready(work_key);
                }
                Ok(())
            }
            _ if work.joined => Ok(()),
            _ => Err(Violation("a body is longer than was announced")),
        }
    }

    /// It is here in full.
    fn ready(&mut self, key: WorkKey) {
        let node = self.works.get(&key).map(|work| work.origin.node);
        if let Some(places) = node.and_then(|node| self.places.get_mut(&node)) {
            places.arriving.remove(&key);
        }
        self.waiting.insert(key);
        self.effects.wakers.extend(self.receivers.take());
    }

    fn handle_cancel(&mut self, key: LaneKey, id: u64) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if let Some(work) = lane.works.get(&id).copied() {
            self.counts.cancelled += 1;
            self.give_up(work);
            return;
        }
        // Answered meanwhile: what is not written of that is not.
        lane.sending.retain(|rest| rest.id != id);
        if let Some(at) = lane.replies.iter().position(|reply| reply.id == id)
            && let Some(reply) = lane.replies.remove(at)
        {
            lane.replies_bytes -= reply.answer.size();
            self.release(key, reply.cost);
        }
    }

    /// Says that there is no room. Its part of the credit is free once that is written: who does not read cannot make this
    /// say more and more.
    fn say_busy(&mut self, key: LaneKey, id: u64, cost: u64) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if self.closed {
            // So that who reads this does not take a socket that is gone for one that is full.
            lane.tell_closing();
        }
        exchange::put_numbers(lane.out.small(), to_requester::BUSY, &[id]);
        lane.answered_cost += cost;
        self.effects.wakers.extend(lane.writer.take());
    }

    /// What was taken in and not handed out goes elsewhere.
    pub(super) fn turn_away(&mut self, key: WorkKey) {
        let Some(work) = self.take_out(key) else { return };
        if let Some(Asker { lane, cost }) = work.asker {
            self.say_busy(lane, work.origin.id, cost);
        }
    }

    /// What this lane's writer takes now. Nothing: its waker is kept.
    pub(crate) fn take_outgoing(&mut self, key: LaneKey, waker: &Waker, out: &mut Vec<Bytes>) -> bool {
        let window = self.window();
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        if self.closed {
            lane.tell_closing();
        }
        while !lane.out.is_full() {
            let next = lane.next_reply();
            let any = next.is_some();
            if let Some(reply) = next {
                lane.begin(reply);
            }
            if let Some(mut rest) = lane.sending.pop_front() {
                if rest.put(&mut lane.out) {
                    lane.sending.push_back(rest);
                }
            } else if !any {
                break;
            }
        }
        // Whatever was answered is now in the hands of the writer.
        let cost = std::mem::take(&mut lane.answered_cost);
        lane.allowance.release(cost, window);
        if let Some(total) = lane.allowance.tell(window) {
            exchange::put_numbers(lane.out.small(), to_requester::CREDIT, &[total]);
        }
        let any = lane.out.take(out);
        if !any {
            lane.writer = Some(waker.clone());
        }
        any
    }

    /// The numbers of the requests that are open on a lane.
    #[cfg(test)]
    pub(crate) fn open_on(&self, key: LaneKey) -> Vec<u64> {
        self.lanes.get(&key).into_iter().flat_map(|lane| lane.works.keys().copied()).collect()
    }

    /// Somebody waits for an answer over this lane.
    pub(crate) fn owes(&self, key: LaneKey) -> bool {
        self.lanes.get(&key).is_some_and(|lane| !lane.works.is_empty())
    }

    /// The lane is over: nobody hears of its work any more. What may be asked again goes on until its time is up.
    pub(crate) fn close_lane(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.remove(&key) else { return };
        for work_key in lane.works.into_values() {
            let Some(work) = self.works.get_mut(&work_key) else { continue };
            work.asker = None;
            if !(work.idempotent && matches!(work.stage, Stage::Handed)) {
                self.counts.lost += 1;
                self.give_up(work_key);
            }
        }
    }
}

impl Lane {
    /// Once.
    fn tell_closing(&mut self) {
        if !std::mem::replace(&mut self.closing_told, true) {
            exchange::put_numbers(self.out.small(), to_requester::CLOSING, &[]);
        }
    }

    /// It has an answer to this request that is not written.
    fn is_answering(&self, id: u64) -> bool {
        self.replies.iter().any(|reply| reply.id == id) || self.sending.iter().any(|rest| rest.id == id)
    }

    /// The next answer that may be begun. What has failed needs no credit, and keeps its place all the same.
    fn next_reply(&mut self) -> Option<Reply> {
        let able = match &self.replies.front()?.answer {
            Answer::Reply(_) => self.spent < self.credit,
            Answer::Failed { .. } => true,
        };
        if !able {
            return None;
        }
        let reply = self.replies.pop_front()?;
        self.replies_bytes -= reply.answer.size();
        Some(reply)
    }

    fn begin(&mut self, Reply { id, answer, cost }: Reply) {
        self.answered_cost += cost;
        match answer {
            Answer::Failed { code, message } => exchange::put_failed(self.out.small(), id, &code, &message),
            Answer::Reply(Content { headers, body }) => {
                self.spent += exchange::cost(headers.len(), body.len());
                let (first, rest) = Rest::of(id, &body);
                exchange::put_reply(self.out.small(), id, &headers, body.len(), first.len());
                self.out.body(first);
                self.sending.extend(rest);
            }
        }
    }
}

const OPEN: Violation = Violation("a request of a number that is open");
