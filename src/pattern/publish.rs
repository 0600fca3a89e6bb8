//! The publishing side: a message is encoded once, and every subscriber that wants it gets the same bytes.
//!
//! ```text
//! publish ─▶ topics: who wants it? ─▶ press: its bytes, once ─▶ a stream for each: runs of bytes, under its own bound
//!                                                                     │ credit
//!                                                              lane ◀─┘
//! ```
//! A [`Stream`] is what one subscriber has coming. It outlives a lane that is lost for a while: positions count what the
//! subscriber had coming from the first message on, and what was dropped leaves a hole among them, which the lane tells in
//! its place. So what was missed is always the difference of two positions, and is never counted apart.
//!
//! Here is what they have in common: who is there, and what happens to a message. `press` encodes, `stream` keeps and
//! drops, `subscriptions` is told who wants what, `retain` keeps the last of each topic for those who come later, `lanes`
//! is what the carriers of lanes touch.

mod lanes;
mod press;
mod retain;
mod stream;
mod subscriptions;

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

use self::lanes::Lane;
pub(crate) use self::lanes::{Next, SubscriberFigures};
use self::press::Press;
use self::retain::Retained;
pub(crate) use self::stream::Dropped;
use self::stream::{Room, Stream};
use super::push::{Amount, LaneKey};
use super::topics::{Place, Topics};
use super::waiters::{Ticket, Waiters};
use crate::id::NodeId;
use crate::message::NewMessage;
use crate::wire::limits::{KEPT_FOR, MAX_KEPT};

/// All of a publisher but its handles: under one short lock.
#[derive(Debug)]
pub(crate) struct Publisher {
    options: Options,
    topics: Topics,
    /// Subscribers, by their places; those whose lane was lost too.
    streams: Vec<Option<Box<Stream>>>,
    free: Vec<Place>,
    /// Where a subscriber is that comes again.
    places: BTreeMap<Who, Place>,
    lanes: BTreeMap<LaneKey, Lane>,
    next_lane: LaneKey,
    next_stream: u64,
    press: Press,
    retained: Retained,
    /// Counts attempts to publish: who was met in this one is not met twice.
    turn: u64,
    /// Used again by each of them.
    matched: Vec<Place>,
    closed: bool,
    waiting: Waiters,
    published: u64,
    /// Of subscribers that are no more.
    past: Dropped,
    effects: Effects,
}

/// How a publisher was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) when_full: Policy,
    /// Of what waits for one subscriber.
    pub(crate) bound: Amount,
    /// Of each topic so many messages are kept for later subscribers.
    pub(crate) retain_last: usize,
    /// Of all that is retained.
    pub(crate) retain_bound: Amount,
    pub(crate) max_message: usize,
}

/// What becomes of a message for which a subscriber has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    DropOldest,
    DropNewest,
    Latest,
    GiveUp,
    /// Whoever publishes waits first; what finds no room afterwards takes the place of the oldest.
    Block,
}

/// A subscriber's name: its node, proven, and a random number of its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    node: NodeId,
    epoch: u64,
}

/// Why a message was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A subscriber has no room, and whoever publishes may wait for it.
    Full,
    Closed,
}

/// What has to be done once the publisher is unlocked.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Writers that have something to write, and those who wait for room.
    pub(crate) wakers: Vec<Waker>,
    /// Subscribers that were given up, with how many messages were dropped.
    pub(crate) given_up: Vec<(NodeId, u64)>,
    /// Subscribers for which a message was dropped.
    pub(crate) slow: Vec<NodeId>,
    /// How many subscribers there are may have changed.
    pub(crate) subscribers: bool,
    /// Something was received, or somebody is gone: who waits until all is received looks again.
    pub(crate) settled: bool,
}

/// What somebody who flushes waits for: a subscriber, and the position that it has to reach.
#[derive(Debug)]
pub(crate) struct Due(Place, u64, u64);

impl Publisher {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            topics: Topics::default(),
            streams: Vec::new(),
            free: Vec::new(),
            places: BTreeMap::new(),
            lanes: BTreeMap::new(),
            next_lane: 0,
            // 0 is no stream.
            next_stream: 1,
            press: Press::new(),
            retained: Retained::new(options.retain_last, options.retain_bound),
            turn: 0,
            matched: Vec::new(),
            closed: false,
            waiting: Waiters::default(),
            published: 0,
            past: Dropped::default(),
            effects: Effects::default(),
        }
    }

    /// Hands the message to everybody who wants it. `may_wait`: where somebody who is connected has no room, nothing is
    /// done, and [`Refused::Full`] says so.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        message: &NewMessage,
        may_wait: bool,
        now: Instant,
    ) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        let size = size(topic, message);
        let mut matched = std::mem::take(&mut self.matched);
        self.find(topic, &mut matched);
        if may_wait && !matched.iter().all(|place| self.has_room(*place, size)) {
            self.matched = matched;
            return Err(Refused::Full);
        }
        matched.retain(|place| self.make_room(*place, topic, message, size, now));
        if !matched.is_empty() {
            self.hand_on(topic, message, size, &matched);
        }
        if self.retained.wants() {
            self.retained.keep(topic, message, size);
        }
        self.published += 1;
        for place in matched.drain(..) {
            self.wake(place);
        }
        self.matched = matched;
        Ok(())
    }

    /// Who wants it, each of them once.
    fn find(&mut self, topic: &str, matched: &mut Vec<Place>) {
        matched.clear();
        self.turn += 1;
        let (streams, turn) = (&mut self.streams, self.turn);
        self.topics.matches(topic, |place| {
            if let Some(stream) = &mut streams[place as usize]
                && stream.turn != turn
            {
                stream.turn = turn;
                matched.push(place);
            }
        });
    }

    fn has_room(&self, place: Place, size: usize) -> bool {
        // For one whose link is lost nobody waits: it may never come back.
        self.stream(place).is_none_or(|stream| stream.lane.is_none() || stream.has_room(size, self.options.bound))
    }

    /// Makes room for one more message of a subscriber, as the policy has it. False: it does not get the message.
    fn make_room(&mut self, place: Place, topic: &str, message: &NewMessage, size: usize, now: Instant) -> bool {
        loop {
            let Some(stream) = self.streams[place as usize].as_mut() else { return false };
            if message.body().len() > stream.max_message {
                stream.skip(|dropped| &mut dropped.too_large);
                self.wake(place);
                return false;
            }
            let before = stream.dropped.total();
            let room = stream.make_room(topic, size, &self.options);
            if stream.dropped.total() != before && stream.tell_slow(now) {
                self.effects.slow.push(stream.who.node);
            }
            match room {
                Room::Free => return true,
                // What is to be dropped has to be found in bytes that are still being written.
                Room::InOpen => self.seal(),
                Room::Skipped => {
                    self.wake(place);
                    return false;
                }
                Room::GiveUp => {
                    self.give_up(place);
                    return false;
                }
            }
        }
    }

    fn hand_on(&mut self, topic: &str, message: &NewMessage, size: usize, matched: &[Place]) {
        let printed = self.print(topic, message);
        let (piece, block) = (self.press.piece, self.press.block);
        for place in matched {
            let stream = self.streams[*place as usize].as_mut().expect("it was matched and has room");
            let first_here = stream.append(&printed, topic, size, piece, block, self.options.when_full);
            if first_here.piece {
                self.press.touched.push(*place);
            }
            if first_here.block {
                self.press.dwellers.push(*place);
            }
        }
    }

    fn stream(&self, place: Place) -> Option<&Stream> {
        self.streams.get(place as usize)?.as_deref()
    }

    /// Has the writer of its lane look, if there is something for it.
    fn wake(&mut self, place: Place) {
        let Some(stream) = &self.streams[place as usize] else { return };
        if let Some(lane) = stream.lane.and_then(|lane| self.lanes.get_mut(&lane))
            && lane.has_something(stream)
        {
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    /// It is too slow, and was opened to be told so.
    fn give_up(&mut self, place: Place) {
        let Some(stream) = &self.streams[place as usize] else { return };
        // The message that found no room is one of them.
        let (count, node) = (stream.next + 1 - stream.cursor, stream.who.node);
        if let Some(lane) = stream.lane.and_then(|lane| self.lanes.get_mut(&lane)) {
            // What it says from now on is of no account.
            (lane.given_up, lane.over) = (Some((stream.id, count)), true);
            self.effects.wakers.extend(lane.writer.take());
        }
        self.effects.given_up.push((node, count));
        self.past.given_up += count - (stream.holes());
        self.remove(place);
    }

    /// The subscriber is no more.
    fn remove(&mut self, place: Place) {
        let Some(stream) = self.streams[place as usize].take() else { return };
        for pattern in &stream.patterns {
            self.topics.remove(pattern, place);
        }
        self.places.remove(&stream.who);
        if let Some(lane) = stream.lane.and_then(|lane| self.lanes.get_mut(&lane)) {
            lane.place = None;
        }
        self.past.add(&stream.dropped);
        self.free.push(place);
        self.effects.subscribers = true;
        self.effects.settled = true;
        self.room_came();
    }

    /// Somebody has more room than before.
    fn room_came(&mut self) {
        if self.waiting.count() > 0 {
            self.effects.wakers.extend(self.waiting.take());
        }
    }

    /// To be woken when there may be room.
    pub(crate) fn wait(&mut self, ticket: &mut Ticket, waker: &Waker) {
        self.waiting.wait(ticket, waker);
    }

    /// It does not wait any more.
    pub(crate) fn forget(&mut self, ticket: &mut Ticket) {
        self.waiting.forget(ticket);
    }

    /// From now on nothing is published; lanes end once all is received that was.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.room_came();
        for place in 0..self.streams.len() as Place {
            if self.stream(place).is_some_and(|stream| stream.lane.is_none()) {
                self.remove(place);
            }
        }
        self.wake_all();
    }

    /// All lanes look again.
    pub(crate) fn wake_all(&mut self) {
        for lane in self.lanes.values_mut() {
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Everybody who is connected has received everything.
    pub(crate) fn is_settled(&self) -> bool {
        self.connected().all(|(_, stream)| stream.received == stream.next)
    }

    /// What everybody who is connected still has to receive.
    pub(crate) fn due(&self) -> Vec<Due> {
        let due = |(place, stream): (Place, &Stream)| Due(place, stream.id, stream.next);
        self.connected().map(due).collect()
    }

    /// Leaves what is still not received; true: nothing is left.
    pub(crate) fn settle(&self, due: &mut Vec<Due>) -> bool {
        due.retain(|Due(place, id, until)| {
            let stream = self.stream(*place);
            stream.is_some_and(|stream| stream.id == *id && stream.lane.is_some() && stream.received < *until)
        });
        due.is_empty()
    }

    fn connected(&self) -> impl Iterator<Item = (Place, &Stream)> {
        let streams = self.streams.iter().enumerate();
        let streams = streams.filter_map(|(place, stream)| Some((place as Place, stream.as_deref()?)));
        streams.filter(|(_, stream)| stream.lane.is_some())
    }

    /// Forgets subscribers that have been away for too long; when the next one will have been.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let lost = self.longest_lost();
            match lost.filter(|(_, at)| now >= *at + KEPT_FOR) {
                Some((place, _)) => self.remove(place),
                None => return lost.map(|(_, at)| at + KEPT_FOR),
            }
        }
    }

    fn longest_lost(&self) -> Option<(Place, Instant)> {
        let lost = self.streams.iter().enumerate();
        lost.filter_map(|(place, stream)| Some((place as Place, stream.as_ref()?.lost_at?))).min_by_key(|(_, at)| *at)
    }

    /// Its lane is lost: what it has coming is kept for a while.
    fn keep(&mut self, place: Place, now: Instant) {
        let Some(stream) = self.streams[place as usize].as_mut() else { return };
        (stream.lane, stream.lost_at) = (None, Some(now));
        self.effects.subscribers = true;
        self.effects.settled = true;
        if self.streams.iter().flatten().filter(|stream| stream.lane.is_none()).count() > MAX_KEPT
            && let Some((place, _)) = self.longest_lost()
        {
            self.remove(place);
        }
        self.room_came();
    }

    pub(crate) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// What is known of each subscriber.
    #[cfg(test)]
    pub(crate) fn views(&self) -> Vec<StreamView> {
        let view = |stream: &Stream| StreamView {
            id: stream.id,
            node: stream.who.node,
            epoch: stream.who.epoch,
            connected: stream.lane.is_some(),
            next: stream.next,
            held: stream.held(),
            dropped: stream.dropped,
            patterns: stream.patterns.iter().map(|pattern| pattern.to_string()).collect(),
        };
        self.streams.iter().flatten().map(|stream| view(stream)).collect()
    }

    pub(crate) fn figures(&self) -> Figures {
        let mut dropped = self.past;
        self.streams.iter().flatten().for_each(|stream| dropped.add(&stream.dropped));
        Figures {
            published: self.published,
            dropped,
            retained: self.retained.used(),
            evicted: self.retained.evicted,
            patterns: self.topics.len() as u64,
            subscribers: self.streams.iter().flatten().map(|stream| self.subscriber_figures(stream)).collect(),
        }
    }
}

/// All that is told of a publisher.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) published: u64,
    /// Of all subscribers together, those that are no more included.
    pub(crate) dropped: Dropped,
    pub(crate) retained: Amount,
    /// Retained messages that made room for others.
    pub(crate) evicted: u64,
    pub(crate) patterns: u64,
    pub(crate) subscribers: Vec<SubscriberFigures>,
}

/// A subscriber, as tests see it.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamView {
    pub(crate) id: u64,
    pub(crate) node: NodeId,
    pub(crate) epoch: u64,
    pub(crate) connected: bool,
    pub(crate) next: u64,
    pub(crate) held: Amount,
    pub(crate) dropped: Dropped,
    pub(crate) patterns: Vec<String>,
}

/// What bounds and credit count of a message.
pub(crate) fn size(topic: &str, message: &NewMessage) -> usize {
    1 + topic.len() + message.size()
}

#[cfg(test)]
mod tests;
