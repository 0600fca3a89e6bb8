//! The subscribing side: what is wanted is told to every publisher, and what comes is handed out in each one's order.
//!
//! Receivers claim what has arrived from one queue, under one short lock; a batch of it holds what one read has brought.
//! What a publisher has dropped stands in its place: before the message that follows it, or at the end as long as none
//! does. Patterns are versions: a lane tells what has changed since the version that it told last, and the publisher says
//! which version is in force for all that follows.
//!
//! Here is what all lanes share: what is wanted, and what is claimed. `lane` is what comes and goes over one of them.

mod lane;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Poll, Waker};

pub(crate) use self::lane::{FeedLane, Heard};
use super::batch::{Batch, Source};
use super::lane::LanePeer;
use super::push::{LaneKey, lock};
use super::waiters::{Ticket, Waiters};
use crate::error::Gap;
use crate::id::{NodeId, SocketId};
use crate::sync::Mutex;
use crate::wire::limits::{MAX_REMEMBERED, MAX_SUBSCRIPTIONS};
use crate::wire::subscription;

/// What receivers and lanes of one socket share.
#[derive(Debug)]
pub(crate) struct Feed {
    queue: Mutex<Queue>,
    desk: Mutex<Desk>,
    /// Names the socket to its publishers.
    epoch: u64,
    /// Most messages of a lane that wait here.
    window: u64,
    /// What is missing is an error.
    strict: bool,
    max_message: usize,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    /// What is missing behind everything that is here, by publisher.
    missing: BTreeMap<Source, (Missing, u64)>,
    /// What came first has the smaller number there.
    next_missing: u64,
    receivers: Waiters,
    closed: bool,
    handed: u64,
    /// Counted as it is handed out.
    missed: u64,
}

/// Messages of one publisher that have arrived together.
#[derive(Debug)]
struct Piece {
    batch: Arc<Batch>,
    lane: Arc<FeedLane>,
    /// What is missing before it.
    missing: Option<Missing>,
}

/// How many messages, and whether that is all.
#[derive(Debug, Clone, Copy)]
struct Missing {
    count: u64,
    exact: bool,
}

/// What concerns all lanes.
#[derive(Debug)]
struct Desk {
    patterns: BTreeSet<Box<str>>,
    version: u64,
    /// The last changes; each has made a version, the last of them the present one.
    changes: VecDeque<(bool, Box<str>)>,
    lanes: BTreeMap<LaneKey, Arc<FeedLane>>,
    next_lane: LaneKey,
    /// How far it had got with publishers whose lane is lost, and in which order they were.
    remembered: BTreeMap<Source, (subscription::At, u64)>,
    next_lost: u64,
    /// Publishers that have given this subscriber up.
    given_up: BTreeSet<(u64, NodeId, SocketId)>,
    received: u64,
    draining: bool,
}

/// A publisher, as the node's tables have it: by which link, on which node, and which of its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) link: u64,
    pub(crate) node: NodeId,
    pub(crate) socket: SocketId,
}

/// How many patterns there are is how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// What a receiver was given.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// A message, and what is missing before it.
    Message(Arc<Batch>, u32, Option<Gap>),
    /// A strict socket: messages are missing here.
    Missed(Gap),
}

/// Nothing can be received any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// All that is told of a socket.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) received: u64,
    pub(crate) handed: u64,
    /// Once it is closed, nothing.
    pub(crate) waiting: u64,
    pub(crate) missed: u64,
    pub(crate) patterns: u64,
    pub(crate) publishers: Vec<PublisherFigures>,
}

/// Of one lane.
#[derive(Debug)]
pub(crate) struct PublisherFigures {
    pub(crate) node: NodeId,
    pub(crate) received: u64,
    pub(crate) waiting: u64,
    pub(crate) missed: u64,
    pub(crate) confirmed: bool,
}

/// So many changes are remembered for lanes that have not told them; beyond, a lane tells everything anew.
const CHANGES: usize = 1024;

impl Feed {
    /// `patterns` are the first version.
    pub(crate) fn new(
        epoch: u64,
        patterns: BTreeSet<Box<str>>,
        window: u64,
        strict: bool,
        max_message: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            desk: Mutex::new(Desk {
                patterns,
                version: 1,
                changes: VecDeque::new(),
                lanes: BTreeMap::new(),
                next_lane: 0,
                remembered: BTreeMap::new(),
                next_lost: 0,
                given_up: BTreeSet::new(),
                received: 0,
                draining: false,
            }),
            epoch,
            window: window.max(1),
            strict,
            max_message,
        })
    }

    /// One pattern more or less: the version of which it is so.
    pub(crate) fn change(&self, add: bool, pattern: &str) -> Result<u64, TooMany> {
        let lanes: Vec<_> = {
            let mut desk = lock(&self.desk);
            if desk.patterns.contains(pattern) == add {
                return Ok(desk.version);
            }
            if add && desk.patterns.len() >= MAX_SUBSCRIPTIONS {
                return Err(TooMany);
            }
            let pattern: Box<str> = pattern.into();
            if add {
                desk.patterns.insert(pattern.clone());
            } else {
                desk.patterns.remove(&pattern);
            }
            if desk.changes.len() >= CHANGES {
                desk.changes.pop_front();
            }
            desk.changes.push_back((add, pattern));
            desk.version += 1;
            desk.lanes.values().cloned().collect()
        };
        lanes.iter().for_each(|lane| lane.call());
        Ok(lock(&self.desk).version)
    }

    /// The present version.
    pub(crate) fn version(&self) -> u64 {
        lock(&self.desk).version
    }

    pub(crate) fn patterns(&self) -> Vec<String> {
        lock(&self.desk).patterns.iter().map(|pattern| pattern.to_string()).collect()
    }

    /// The publisher has confirmed this version, or will never: it has given this socket up.
    pub(crate) fn is_confirmed(&self, version: u64, at: At) -> bool {
        let desk = lock(&self.desk);
        let confirmed = |lane: &Arc<FeedLane>| lane.at() == at && lane.confirmed() >= version;
        desk.given_up.contains(&(at.link, at.node, at.socket)) || desk.lanes.values().any(confirmed)
    }

    /// Claims the next message, if there is one.
    #[inline]
    pub(crate) fn try_claim(&self) -> Result<Option<Claimed>, Closed> {
        self.claim(None)
    }

    /// Claims the next message, or wakes the task when there may be one.
    #[inline]
    pub(crate) fn poll_claim(&self, ticket: &mut Ticket, cx: &mut Context<'_>) -> Poll<Result<Claimed, Closed>> {
        match self.claim(Some((ticket, cx.waker()))) {
            Ok(Some(claimed)) => Poll::Ready(Ok(claimed)),
            Ok(None) => Poll::Pending,
            Err(closed) => Poll::Ready(Err(closed)),
        }
    }

    /// A receiver does not wait any more.
    pub(crate) fn forget(&self, ticket: &mut Ticket) {
        if ticket.has_waited() {
            lock(&self.queue).receivers.forget(ticket);
        }
    }

    fn claim(&self, receiver: Option<(&mut Ticket, &Waker)>) -> Result<Option<Claimed>, Closed> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(Closed);
        }
        let Some(piece) = queue.pieces.front_mut() else {
            if self.strict
                && let Some((source, (missing, _))) = queue.missing.pop_first()
            {
                queue.missed = queue.missed.saturating_add(missing.count);
                return Ok(Some(Claimed::Missed(missing.gap(source.node))));
            }
            if let Some((ticket, waker)) = receiver {
                queue.receivers.wait(ticket, waker);
            }
            return Ok(None);
        };
        let node = piece.batch.source().node;
        let missing = piece.missing.take();
        if self.strict
            && let Some(missing) = missing
        {
            queue.missed = queue.missed.saturating_add(missing.count);
            return Ok(Some(Claimed::Missed(missing.gap(node))));
        }
        let batch = piece.batch.clone();
        let index = batch.claimed.load(Relaxed);
        batch.claimed.store(index + 1, Release);
        let full = piece.lane.handed(batch.size(index));
        let lane = full.then(|| piece.lane.clone());
        if index + 1 == batch.count() {
            queue.pieces.pop_front();
        }
        queue.handed += 1;
        queue.missed = queue.missed.saturating_add(missing.map_or(0, |missing| missing.count));
        drop(queue);
        if let Some(lane) = lane {
            lane.call();
        }
        Ok(Some(Claimed::Message(batch, index, missing.map(|missing| missing.gap(node)))))
    }

    /// Nothing is handed out any more, and publishers are told.
    pub(crate) fn drain(&self) {
        let receivers = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            queue.missed = queue.missed();
            queue.pieces.clear();
            queue.missing.clear();
            queue.receivers.take()
        };
        let lanes: Vec<_> = {
            let mut desk = lock(&self.desk);
            desk.draining = true;
            desk.lanes.values().cloned().collect()
        };
        lanes.iter().for_each(|lane| lane.drain());
        receivers.for_each(Waker::wake);
    }

    /// Of how many publishers the present version is in force.
    pub(crate) fn confirmed_lanes(&self) -> usize {
        let desk = lock(&self.desk);
        desk.lanes.values().filter(|lane| lane.confirmed() >= desk.version).count()
    }

    /// What is missing behind everything that was handed out, and whether that is all.
    #[cfg(test)]
    pub(crate) fn missing_from(&self, node: NodeId, epoch: u64) -> (u64, bool) {
        let queue = lock(&self.queue);
        queue.missing.get(&Source { node, epoch }).map_or((0, true), |(missing, _)| (missing.count, missing.exact))
    }

    /// A strict socket: the next call of a receiver says that messages are missing.
    pub(crate) fn is_missed_next(&self) -> bool {
        let queue = lock(&self.queue);
        self.strict
            && match queue.pieces.front() {
                Some(piece) => piece.missing.is_some(),
                None => !queue.missing.is_empty(),
            }
    }

    pub(crate) fn figures(&self) -> Figures {
        let lanes: Vec<_> = lock(&self.desk).lanes.values().cloned().collect();
        let publishers: Vec<_> = lanes.iter().map(|lane| lane.figures()).collect();
        let queue = lock(&self.queue);
        let desk = lock(&self.desk);
        Figures {
            received: desk.received,
            handed: queue.handed,
            waiting: if queue.closed { 0 } else { desk.received - queue.handed },
            missed: queue.missed(),
            patterns: desk.patterns.len() as u64,
            publishers,
        }
    }

    /// Messages have arrived.
    fn publish(&self, batch: Batch, lane: &Arc<FeedLane>) {
        let receivers = {
            let mut queue = lock(&self.queue);
            if queue.closed {
                return;
            }
            let missing = queue.missing.remove(&batch.source()).map(|(missing, _)| missing);
            queue.pieces.push_back(Piece { batch: Arc::new(batch), lane: lane.clone(), missing });
            queue.receivers.take()
        };
        receivers.for_each(Waker::wake);
    }

    /// Messages are missing, behind all that has arrived from this publisher.
    fn miss(&self, source: Source, more: Missing) {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return;
        }
        let number = queue.next_missing;
        queue.next_missing += 1;
        let (missing, _) = queue.missing.entry(source).or_insert((Missing { count: 0, exact: true }, number));
        // A publisher may say whatever it likes, again and again.
        missing.count = missing.count.saturating_add(more.count);
        missing.exact &= more.exact;
        // It waits for a message behind it, for which publishers that are gone have waited for longest.
        if queue.missing.len() > MAX_REMEMBERED {
            let longest = queue.missing.iter().min_by_key(|(_, (_, number))| *number).map(|(source, _)| *source);
            let forgotten = longest.and_then(|source| queue.missing.remove(&source));
            // Its publisher is not named any more, but it is counted.
            queue.missed = queue.missed.saturating_add(forgotten.map_or(0, |(missing, _)| missing.count));
        }
        if self.strict {
            let receivers = queue.receivers.take();
            drop(queue);
            receivers.for_each(Waker::wake);
        }
    }
}

impl Queue {
    /// All that is missing, handed out or not.
    fn missed(&self) -> u64 {
        let before = self.pieces.iter().filter_map(|piece| piece.missing);
        let all = before.chain(self.missing.values().map(|(missing, _)| *missing));
        all.fold(self.missed, |sum, missing| sum.saturating_add(missing.count))
    }
}

impl Missing {
    fn gap(self, publisher: NodeId) -> Gap {
        Gap { publisher, count: self.count, exact: self.exact }
    }
}

impl Desk {
    /// How far it had got with this publisher.
    fn at(&self, source: Source) -> Option<subscription::At> {
        self.remembered.get(&source).map(|(at, _)| *at)
    }

    fn remember(&mut self, source: Source, at: subscription::At) {
        self.next_lost += 1;
        self.remembered.insert(source, (at, self.next_lost));
        if self.remembered.len() > MAX_REMEMBERED {
            let longest = self.remembered.iter().min_by_key(|(_, (_, lost))| *lost).map(|(source, _)| *source);
            longest.map(|source| self.remembered.remove(&source));
        }
    }

    fn was_given_up(&mut self, LanePeer { link, node, socket, .. }: &LanePeer) {
        self.given_up.insert((*link, *node, *socket));
        if self.given_up.len() > MAX_REMEMBERED {
            // Of the oldest link. This node itself has none (0): its publishers are as near as they were.
            let oldest = self.given_up.iter().find(|(link, ..)| *link > 0).or_else(|| self.given_up.first()).copied();
            oldest.map(|oldest| self.given_up.remove(&oldest));
        }
    }
}

#[cfg(test)]
mod tests;
