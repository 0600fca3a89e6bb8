//! The replying side: what is taken in, handed out, and answered.
//!
//! ```text
//! request ─▶ arriving ─▶ waiting ─▶ in hand ─▶ answered ─▶ on its way back
//!    │ no room       cancelled, late, lane lost │
//!    └─▶ busy        └─▶ nobody waits: the work ends
//! ```
//! Each piece of work is in `works` from its first byte until it is answered or nobody waits for it; so many there may be,
//! and beyond them a replier says that it is busy. An idempotent request may come twice, when a lane was lost in between:
//! then it joins the work that goes on, or is given the answer that was kept.
//!
//! Here is what the parts have in common and what the application does; `lane` is what comes in and goes out over one lane,
//! `kept` are the answers that are kept.

mod kept;
mod lane;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Poll, Waker};
use std::time::Instant;

use self::kept::{Kept, Origin};
use super::content::Content;
use super::lane::LanePeer;
use super::pieces::{Allowance, Arriving, Frames, Out, Rest};
use super::push::LaneKey;
use super::waiters::{Ticket, Waiters};
use crate::id::NodeId;
use crate::wire::exchange::OVERFLOW;
use crate::wire::limits::{EXCHANGE_WINDOW_BYTES, LANE_WINDOW_BYTES};

/// Everything that a replier has taken in and not answered.
#[derive(Debug)]
pub(crate) struct Works {
    limit: u64,
    works: BTreeMap<WorkKey, Work>,
    next_work: WorkKey,
    /// What each node has of them.
    places: BTreeMap<NodeId, Places>,
    /// Here in full, and not handed out.
    waiting: BTreeSet<WorkKey>,
    receivers: Waiters,
    deadlines: BTreeSet<(Instant, WorkKey)>,
    /// Somebody looks at this time for work whose own is up.
    armed: Option<Instant>,
    lanes: BTreeMap<LaneKey, Lane>,
    next_lane: LaneKey,
    /// Idempotent work.
    repeatable: BTreeMap<Origin, WorkKey>,
    kept: Kept,
    closed: bool,
    pub(crate) counts: Counts,
    effects: Effects,
}

/// A number for each piece of work, never used twice.
pub(crate) type WorkKey = u64;

#[derive(Debug)]
struct Work {
    /// Who waits for it. `None`: its lane was lost, and the request may come again.
    asker: Option<Asker>,
    origin: Origin,
    idempotent: bool,
    attempt: u32,
    deadline: Instant,
    stage: Stage,
    /// A repeat has joined it: what still comes of a body is the same once more.
    joined: bool,
    /// Who wants to know when nobody waits for it any more.
    watchers: Waiters,
}

/// The work of one node's requests.
#[derive(Debug, Default)]
struct Places {
    works: usize,
    /// Those whose bodies are on their way.
    arriving: BTreeSet<WorkKey>,
}

/// Over which lane an answer is waited for.
#[derive(Debug, Clone, Copy)]
struct Asker {
    lane: LaneKey,
    /// What the request holds of the lane's credit.
    cost: u64,
}

#[derive(Debug)]
enum Stage {
    Arriving(Arriving),
    Waiting(Content),
    /// In hand.
    Handed,
}

/// One lane, as the replier sees it.
#[derive(Debug)]
struct Lane {
    peer: LanePeer,
    epoch: u64,
    frames: Frames,
    /// The work of each request that is open here.
    works: BTreeMap<u64, WorkKey>,
    /// For requests.
    allowance: Allowance,
    /// Of answers that lie ready: their requests' part of the credit, which is free once they are written.
    answered_cost: u64,
    /// What the requester gave for replies, and what was begun of it.
    credit: u64,
    spent: u64,
    /// Answers that are not begun.
    replies: VecDeque<Reply>,
    replies_bytes: u64,
    sending: VecDeque<Rest>,
    closing_told: bool,
    received: u64,
    out: Out,
    /// The writer sleeps.
    writer: Option<Waker>,
}

#[derive(Debug)]
struct Reply {
    id: u64,
    answer: Answer,
    /// Of the request.
    cost: u64,
}

/// What an application has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Reply(Content),
    Failed { code: String, message: String },
}

impl Answer {
    fn size(&self) -> u64 {
        match self {
            Self::Reply(content) => content.size() as u64,
            Self::Failed { code, message } => (code.len() + message.len()) as u64,
        }
    }
}

/// Requests by what became of them, since the socket was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Taken in; busy and repeated ones are not.
    pub(crate) received: u64,
    pub(crate) handed: u64,
    pub(crate) replied: u64,
    pub(crate) failed: u64,
    /// Their requesters gave them up, or said so by their deadline.
    pub(crate) cancelled: u64,
    pub(crate) expired: u64,
    /// Their lane was lost.
    pub(crate) lost: u64,
    /// Taken in, and sent away unhanded: the replier closed, or had no room and their bodies were still on their way.
    pub(crate) returned: u64,
    /// There was no room for them.
    pub(crate) busy: u64,
    /// Repeats that joined work in hand, or were given the answer that was kept.
    pub(crate) repeated: u64,
}

/// What has to be done once the works are unlocked.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) wakers: Vec<Waker>,
    /// The next deadline has become an earlier one.
    pub(crate) look: bool,
}

/// What an application is handed.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) key: WorkKey,
    pub(crate) content: Content,
    pub(crate) deadline: Instant,
    pub(crate) idempotent: bool,
    pub(crate) attempt: u32,
    pub(crate) node: NodeId,
    pub(crate) epoch: u64,
    pub(crate) id: u64,
}

/// Nothing is handed out any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// All that is told of a replier beside its counts.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) arriving: u64,
    pub(crate) waiting: u64,
    pub(crate) in_hand: u64,
    /// Bytes of requests and replies, and what their books take.
    pub(crate) bytes: u64,
    /// Each lane's requester, with what it has asked and what is open of it.
    pub(crate) lanes: Vec<(NodeId, u64, u64)>,
}

impl Works {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            works: BTreeMap::new(),
            next_work: 0,
            places: BTreeMap::new(),
            waiting: BTreeSet::new(),
            receivers: Waiters::default(),
            deadlines: BTreeSet::new(),
            armed: None,
            lanes: BTreeMap::new(),
            next_lane: 0,
            repeatable: BTreeMap::new(),
            kept: Kept::default(),
            closed: false,
            counts: Counts::default(),
            effects: Effects::default(),
        }
    }

    /// The oldest request that waits, if there is one; else the receiver is woken when there is.
    pub(crate) fn claim(&mut self, receiver: Option<(&mut Ticket, &Waker)>) -> Result<Option<Handed>, Closed> {
        if let Some(key) = self.waiting.pop_first() {
            let work = self.works.get_mut(&key).expect("what waits is work");
            let Stage::Waiting(content) = std::mem::replace(&mut work.stage, Stage::Handed) else {
                unreachable!("what waits is here in full");
            };
            self.counts.handed += 1;
            let (deadline, idempotent, attempt) = (work.deadline, work.idempotent, work.attempt);
            let Origin { node, epoch, id } = work.origin;
            return Ok(Some(Handed { key, content, deadline, idempotent, attempt, node, epoch, id }));
        }
        if self.closed {
            return Err(Closed);
        }
        if let Some((ticket, waker)) = receiver {
            self.receivers.wait(ticket, waker);
        }
        Ok(None)
    }

    /// A receiver does not wait any more.
    pub(crate) fn forget_receiver(&mut self, ticket: &mut Ticket) {
        self.receivers.forget(ticket);
    }

    /// Ready once nobody waits for this work any more, or it is answered.
    pub(crate) fn poll_over(&mut self, key: WorkKey, ticket: &mut Ticket, waker: &Waker) -> Poll<()> {
        match self.works.get_mut(&key) {
            None => Poll::Ready(()),
            Some(work) => {
                work.watchers.wait(ticket, waker);
                Poll::Pending
            }
        }
    }

    /// Somebody does not want to know any more.
    pub(crate) fn forget_watcher(&mut self, key: WorkKey, ticket: &mut Ticket) {
        if let Some(work) = self.works.get_mut(&key) {
            work.watchers.forget(ticket);
        }
    }

    pub(crate) fn is_open(&self, key: WorkKey) -> bool {
        self.works.contains_key(&key)
    }

    /// Largest reply that whoever asked takes. `None`: nobody waits, or may only ask again.
    pub(crate) fn largest_reply(&self, key: WorkKey) -> Option<usize> {
        let asker = self.works.get(&key)?.asker?;
        self.lanes.get(&asker.lane).map(|lane| lane.peer.max_message)
    }

    /// The application's answer. False: nobody waits for it any more.
    pub(crate) fn answer(&mut self, key: WorkKey, answer: Answer) -> bool {
        let Some(work) = self.take_out(key) else { return false };
        match &answer {
            Answer::Reply(_) => self.counts.replied += 1,
            Answer::Failed { .. } => self.counts.failed += 1,
        }
        if work.idempotent {
            self.kept.keep(work.origin, answer.clone());
        }
        if let Some(Asker { lane, cost }) = work.asker {
            let mut id = work.origin.id;
            if planted!(ReplyToAnother) {
                id = self.lanes.get(&lane).and_then(|lane| lane.works.keys().next().copied()).unwrap_or(id);
            }
            self.send(lane, Reply { id, answer, cost });
        }
        true
    }

    /// Lays an answer ready for a lane's writer.
    fn send(&mut self, key: LaneKey, mut reply: Reply) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let before = lane.replies_bytes + lane.sending.iter().map(Rest::left).sum::<u64>();
        if before > 0 && before + reply.answer.size() > EXCHANGE_WINDOW_BYTES {
            let message = "too many bytes of replies wait for this requester to take them".into();
            reply.answer = Answer::Failed { code: OVERFLOW.into(), message };
        }
        lane.replies_bytes += reply.answer.size();
        lane.replies.push_back(reply);
        self.effects.wakers.extend(lane.writer.take());
    }

    /// Takes work out of the books, and tells those who watch it.
    fn take_out(&mut self, key: WorkKey) -> Option<Work> {
        let mut work = self.works.remove(&key)?;
        if let Some(places) = self.places.get_mut(&work.origin.node) {
            places.works -= 1;
            places.arriving.remove(&key);
            if places.works == 0 {
                self.places.remove(&work.origin.node);
            }
        }
        self.deadlines.remove(&(work.deadline, key));
        self.waiting.remove(&key);
        if self.repeatable.get(&work.origin) == Some(&key) {
            self.repeatable.remove(&work.origin);
        }
        if let Some(lane) = work.asker.and_then(|asker| self.lanes.get_mut(&asker.lane)) {
            lane.works.remove(&work.origin.id);
        }
        self.effects.wakers.extend(work.watchers.take());
        Some(work)
    }

    /// Takes it out where no answer follows: its part of the credit is free again.
    fn give_up(&mut self, key: WorkKey) {
        if let Some(Work { asker: Some(Asker { lane, cost }), .. }) = self.take_out(key) {
            self.release(lane, cost);
        }
    }

    fn release(&mut self, key: LaneKey, cost: u64) {
        let window = self.window();
        if let Some(lane) = self.lanes.get_mut(&key)
            && lane.allowance.release(cost, window)
        {
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    /// Of a lane, for requests.
    fn window(&self) -> u64 {
        (EXCHANGE_WINDOW_BYTES / self.lanes.len().max(1) as u64).max(LANE_WINDOW_BYTES)
    }

    /// Gives up what nobody can be waiting for any more.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((_, key)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.counts.expired += 1;
            let work = &self.works[&key];
            if work.idempotent && matches!(work.stage, Stage::Handed) {
                // A repeat may still be under way, and would be worked on anew. Whoever asked has long given up.
                let message = "its time was up while it was worked on".into();
                self.kept.keep(work.origin, Answer::Failed { code: EXPIRED.into(), message });
            }
            self.give_up(key);
        }
    }

    /// When it is looked next for work whose time is up: rather too soon than set anew for each request.
    pub(crate) fn arm(&mut self, now: Instant) -> Option<Instant> {
        let first = self.deadlines.first().map(|(at, _)| *at);
        self.armed = self.armed.filter(|armed| *armed > now).into_iter().chain(first).min();
        self.armed
    }

    /// Nothing is here that could run out of time.
    pub(crate) fn is_idle(&self) -> bool {
        self.deadlines.is_empty()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing is handed out any more: what waits goes elsewhere, what is in hand may still be answered.
    pub(crate) fn drain(&mut self) {
        self.closed = true;
        self.effects.wakers.extend(self.receivers.take());
        let unhanded: Vec<_> =
            self.works.iter().filter(|(_, work)| !matches!(work.stage, Stage::Handed)).map(|(key, _)| *key).collect();
        for key in unhanded {
            self.counts.returned += 1;
            self.turn_away(key);
        }
        for lane in self.lanes.values_mut() {
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    /// Every request that was handed out is answered, and every answer was written.
    pub(crate) fn is_drained(&self) -> bool {
        let told = |lane: &Lane| lane.closing_told && lane.out.is_empty();
        self.works.is_empty()
            && self.lanes.values().all(|lane| lane.replies.is_empty() && lane.sending.is_empty() && told(lane))
    }

    /// The node has ended: nobody hears answers any more.
    pub(crate) fn close(&mut self) {
        self.drain();
        let keys: Vec<_> = self.works.keys().copied().collect();
        for key in keys {
            self.counts.lost += 1;
            self.give_up(key);
        }
    }

    pub(crate) fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn figures(&self) -> Figures {
        let in_hand = self.works.values().filter(|work| matches!(work.stage, Stage::Handed)).count();
        let arriving = self.works.values().filter(|work| matches!(work.stage, Stage::Arriving(_))).count();
        Figures {
            arriving: arriving as u64,
            waiting: self.waiting.len() as u64,
            in_hand: in_hand as u64,
            bytes: self.lanes.values().map(|lane| lane.allowance.held() + lane.replies_bytes).sum(),
            lanes: self.lanes.values().map(|lane| (lane.peer.node, lane.received, lane.works.len() as u64)).collect(),
        }
    }
}

/// The code of a request that comes again when its time was up.
const EXPIRED: &str = "expired";

#[cfg(test)]
mod tests;
