//! The requesting side: what is asked, who is asked, and how each request ends.
//!
//! ```text
//! ask ─▶ waiting ─▶ assigned to a lane ─▶ sent ─▶ ended: replied, failed, timed out, unknown
//!           ▲              │                 │
//!           └── lane lost ◀┘                 │
//!           └── busy, or lost and idempotent ┘   nobody else: busy, no replier
//! ```
//! A request is in `open` until it ends, and only [`Requests::end`] takes it out: so it ends once. Its outcome lies in
//! `ended` until whoever waits for it has taken it. A lane's writer encodes a request when it takes it: until then nobody
//! can have seen it, and afterwards a handler may have run.
//!
//! Here is what the parts have in common. `choose` finds the lane of a request, `lane` is what goes out and comes in over
//! one, `end` is how requests end.

mod choose;
mod end;
mod lane;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::content::Content;
use super::lane::LanePeer;
use super::pieces::{Allowance, Arriving, Frames, Out, Rest};
use super::push::{Amount, LaneKey};
use crate::id::{NodeId, SocketId};
use crate::wire::control::OpenLane;
use crate::wire::exchange;
use crate::wire::frame;
use crate::wire::limits::{EXCHANGE_WINDOW_BYTES, LANE_WINDOW_BYTES};

/// Everything that a requester has open.
#[derive(Debug)]
pub(crate) struct Requests {
    bound: Amount,
    /// Of this: with lanes.
    used: Amount,
    open: BTreeMap<u64, Exchange>,
    ended: BTreeMap<u64, Ended>,
    next: u64,
    /// Those without a lane, in order, by who may answer them.
    waiting: BTreeMap<Target, BTreeSet<u64>>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Somebody looks at this time for requests whose own is up.
    armed: Option<Instant>,
    lanes: BTreeMap<LaneKey, Lane>,
    next_lane: LaneKey,
    /// Repliers that have said that they take no more.
    left: BTreeSet<(NodeId, SocketId)>,
    dice: Dice,
    closed: bool,
    pub(crate) counts: Counts,
    effects: Effects,
}

/// What is asked, and how.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) content: Content,
    pub(crate) deadline: Instant,
    pub(crate) idempotent: bool,
    /// Where nobody is there, somebody is waited for.
    pub(crate) patient: bool,
    pub(crate) target: Target,
}

/// Who may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Anybody,
    Node(NodeId),
    /// This socket, over this lane, and nobody else.
    Lane(LaneKey, NodeId),
}

impl Target {
    fn node(self) -> Option<NodeId> {
        match self {
            Self::Anybody => None,
            Self::Node(node) | Self::Lane(_, node) => Some(node),
        }
    }
}

#[derive(Debug)]
struct Exchange {
    asked: Asked,
    /// What credit and the bound count.
    cost: u64,
    attempt: u32,
    place: Place,
    /// Lanes whose replier was full.
    busy: Vec<LaneKey>,
    /// It was sent, and its replier was lost: a handler may have run.
    lost: Option<NodeId>,
    sent_at: Option<Instant>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    /// Its lane's writer has not taken all of it.
    Assigned(LaneKey),
    Sent(LaneKey),
}

/// Its outcome waits to be taken.
#[derive(Debug)]
struct Ended {
    outcome: Outcome,
    /// The credit that its reply holds.
    held: Option<(LaneKey, u64)>,
}

/// How a request ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Replied {
        content: Content,
        by: NodeId,
        attempt: u32,
    },
    Failed {
        code: String,
        message: String,
    },
    NoReplier,
    Busy,
    /// Nobody was given it in time, or whoever was has lost it unseen.
    NotSent,
    /// It was sent to this node, and then the lane was lost, or this node closed.
    Unknown(Lost),
    TimedOut,
    TooLarge {
        size: usize,
        limit: usize,
    },
    Closed,
}

/// Why it is not known what became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    Link(NodeId),
    Closed,
}

/// Requests by how they ended, since the socket was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) replied: u64,
    pub(crate) failed: u64,
    pub(crate) no_replier: u64,
    pub(crate) busy: u64,
    pub(crate) not_sent: u64,
    pub(crate) unknown: u64,
    pub(crate) timed_out: u64,
    pub(crate) too_large: u64,
    pub(crate) closed: u64,
    /// Nobody waited any more.
    pub(crate) cancelled: u64,
    /// Not outcomes: repliers that were full, attempts beyond the first, and answers that nobody waited for.
    pub(crate) refused: u64,
    pub(crate) repeated: u64,
    pub(crate) late: u64,
}

/// What has to be done once the requests are unlocked.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) wakers: Vec<Waker>,
    /// Something waits that nobody is there for, or the next deadline has become an earlier one.
    pub(crate) look: bool,
    /// Nothing is open any more.
    pub(crate) empty: bool,
}

/// One lane, as the requester sees it.
#[derive(Debug)]
struct Lane {
    peer: LanePeer,
    frames: Frames,
    /// What the replier gave, and what was begun of it.
    credit: u64,
    spent: u64,
    /// Assigned, and not begun.
    queue: BTreeSet<u64>,
    sending: VecDeque<Rest>,
    /// Assigned and sent.
    unanswered: BTreeSet<u64>,
    answered: u64,
    /// How long an answer takes, of late.
    latency: Option<Duration>,
    cancels: Vec<u64>,
    /// For replies.
    allowance: Allowance,
    arriving: BTreeMap<u64, (Arriving, u64)>,
    /// The replier takes no more.
    closing: bool,
    out: Out,
    /// The writer sleeps.
    writer: Option<Waker>,
}

/// Nothing is asked any more, or it can never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Closed,
    /// Larger than the whole bound.
    TooLarge {
        size: usize,
        limit: usize,
    },
}

/// Figures of one lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneFigures {
    pub(crate) node: NodeId,
    pub(crate) open: u64,
    pub(crate) answered: u64,
    pub(crate) latency: Option<Duration>,
    /// The replier takes more.
    pub(crate) able: bool,
}

impl Requests {
    /// `seed`: of the choices among repliers.
    pub(crate) fn new(bound: Amount, seed: u64) -> Self {
        Self {
            bound,
            used: Amount::default(),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            next: 0,
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            armed: None,
            lanes: BTreeMap::new(),
            next_lane: 0,
            left: BTreeSet::new(),
            dice: Dice(seed),
            closed: false,
            counts: Counts::default(),
            effects: Effects::default(),
        }
    }

    /// Asks: the number of the request. It is given to a lane if one takes it now.
    pub(crate) fn ask(&mut self, asked: Asked) -> Result<u64, Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        let size = asked.content.size();
        if size as u64 > self.bound.bytes {
            return Err(Refused::TooLarge { size, limit: self.bound.bytes as usize });
        }
        let number = self.next;
        self.next += 1;
        let cost = exchange::cost(asked.content.headers.len(), asked.content.body.len());
        self.effects.look |= self.armed.is_none_or(|armed| asked.deadline < armed);
        self.deadlines.insert((asked.deadline, number));
        let (place, lost, sent_at, waker) = (Place::Waiting, None, None, None);
        let exchange = Exchange { asked, cost, attempt: 1, place, busy: Vec::new(), lost, sent_at, waker };
        self.wait(number, exchange.asked.target);
        self.open.insert(number, exchange);
        self.dispatch_one(number);
        Ok(number)
    }

    /// Its outcome, once it has ended; it is forgotten then.
    pub(crate) fn poll(&mut self, number: u64, waker: &Waker) -> Poll<Outcome> {
        if let Some(exchange) = self.open.get_mut(&number) {
            match &mut exchange.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            return Poll::Pending;
        }
        match self.take_ended(number) {
            Some(outcome) => Poll::Ready(outcome),
            // Asked again after it was taken.
            None => Poll::Pending,
        }
    }

    /// Nobody waits for it any more: whoever has it is told.
    pub(crate) fn forget(&mut self, number: u64, now: Instant) {
        if self.take_ended(number).is_some() {
            return;
        }
        self.retract(number, now);
        if self.open.contains_key(&number) {
            self.remove(number);
            self.counts.cancelled += 1;
            self.dispatch();
        }
    }

    fn take_ended(&mut self, number: u64) -> Option<Outcome> {
        let Ended { outcome, held } = self.ended.remove(&number)?;
        if let Some((key, cost)) = held {
            self.release(key, cost);
        }
        Some(outcome)
    }

    /// What a reply has held of its lane's credit is free again.
    fn release(&mut self, key: LaneKey, cost: u64) {
        let window = self.window();
        if let Some(lane) = self.lanes.get_mut(&key)
            && lane.allowance.release(cost, window)
        {
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    /// Of a lane, for replies.
    fn window(&self) -> u64 {
        (EXCHANGE_WINDOW_BYTES / self.lanes.len().max(1) as u64).max(LANE_WINDOW_BYTES)
    }

    /// A lane to a replier; its first frame is the one that opens it.
    pub(crate) fn open_lane(&mut self, peer: LanePeer, open: &OpenLane) -> LaneKey {
        let mut small = BytesMut::new();
        frame::put_open(&mut small, open);
        let mut out = Out::default();
        out.small().unsplit(small);
        let key = self.next_lane;
        self.next_lane += 1;
        let lane = Lane {
            peer,
            frames: Frames::default(),
            credit: 0,
            spent: 0,
            queue: BTreeSet::new(),
            sending: VecDeque::new(),
            unanswered: BTreeSet::new(),
            answered: 0,
            latency: None,
            cancels: Vec::new(),
            allowance: Allowance::default(),
            arriving: BTreeMap::new(),
            closing: false,
            out,
            writer: None,
        };
        self.lanes.insert(key, lane);
        key
    }

    /// Waits for a lane.
    fn wait(&mut self, number: u64, target: Target) {
        self.waiting.entry(target).or_default().insert(number);
    }

    /// It waits no longer.
    fn stop_waiting(&mut self, number: u64, target: Target) {
        if let Some(numbers) = self.waiting.get_mut(&target) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.waiting.remove(&target);
            }
        }
    }

    /// When it is looked next for requests whose time is up: not later than the first of them, and as what was to be looked
    /// at first has ended by then, as a rule, rather too soon than set anew for each request.
    pub(crate) fn arm(&mut self, now: Instant) -> Option<Instant> {
        let first = self.deadlines.first().map(|(at, _)| *at);
        self.armed = self.armed.filter(|armed| *armed > now).into_iter().chain(first).min();
        self.armed
    }

    pub(crate) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Nothing is asked any more. True: nothing is open either.
    pub(crate) fn refuse_more(&mut self) -> bool {
        self.closed = true;
        self.wake_writers();
        self.open.is_empty()
    }

    /// Nothing is open.
    pub(crate) fn is_drained(&self) -> bool {
        self.open.is_empty()
    }

    /// How many repliers there are that take requests.
    pub(crate) fn lane_count(&self) -> usize {
        self.lanes.values().filter(|lane| !lane.closing).count()
    }

    /// The lanes to repliers that take requests, with the sockets at their ends.
    pub(crate) fn repliers(&self) -> impl Iterator<Item = (LaneKey, NodeId, SocketId)> + '_ {
        let able = self.lanes.iter().filter(|(_, lane)| !lane.closing);
        able.map(|(key, lane)| (*key, lane.peer.node, lane.peer.socket))
    }

    /// Something is asked and not answered over this lane.
    pub(crate) fn owes(&self, key: LaneKey) -> bool {
        self.lanes.get(&key).is_some_and(|lane| !lane.unanswered.is_empty())
    }

    /// This lane has the request.
    #[cfg(test)]
    pub(crate) fn asks(&self, key: LaneKey, number: u64) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.unanswered.contains(&number))
    }

    /// What replies hold of a lane's credit.
    #[cfg(test)]
    pub(crate) fn held(&self, key: LaneKey) -> u64 {
        self.lanes.get(&key).map_or(0, |lane| lane.allowance.held())
    }

    /// Nothing more is asked.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Requests that have not ended.
    pub(crate) fn open(&self) -> u64 {
        self.open.len() as u64
    }

    /// Those of them that are with lanes.
    pub(crate) fn used(&self) -> Amount {
        self.used
    }

    pub(crate) fn asked(&self) -> u64 {
        self.next
    }

    pub(crate) fn bound(&self) -> Amount {
        self.bound
    }

    /// Each lane's peer and figures.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneFigures> + '_ {
        self.lanes.values().map(|lane| LaneFigures {
            node: lane.peer.node,
            open: lane.unanswered.len() as u64,
            answered: lane.answered,
            latency: lane.latency,
            able: !lane.closing,
        })
    }

    fn wake_writers(&mut self) {
        for lane in self.lanes.values_mut() {
            self.effects.wakers.extend(lane.writer.take());
        }
    }
}

/// Numbers that look random, for choices that need no secrecy (SplitMix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests;
