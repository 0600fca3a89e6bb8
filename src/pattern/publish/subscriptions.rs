//! Who wants what? What a subscriber says of that takes effect in one step, together with what is retained for it.

use std::collections::BTreeMap;

use super::stream::{Room, Stream};
use super::{Publisher, Who};
use crate::id::NodeId;
use crate::pattern::push::LaneKey;
use crate::pattern::topics::Place;
use crate::wire::Violation;
use crate::wire::limits::{MAX_SUBSCRIPTIONS, MAX_SUBSCRIPTIONS_OF_NODE};
use crate::wire::subscription::{self, Change};

/// Most changes of one version, in all its parts: each pattern removed, and as many added.
const MAX_CHANGES: usize = 2 * MAX_SUBSCRIPTIONS;

/// Subscriptions that have not come in full.
#[derive(Debug)]
pub(super) struct Partial {
    version: u64,
    whole: bool,
    who: Option<subscription::Who>,
    changes: Vec<(bool, Box<str>)>,
}

impl Publisher {
    /// A part of what a subscriber wants.
    pub(super) fn subscribe(&mut self, key: LaneKey, payload: &[u8]) -> Result<(), Violation> {
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
        let mut partial = lane.partial.take();
        let mut changes = partial.as_mut().map(|partial| std::mem::take(&mut partial.changes)).unwrap_or_default();
        let head = subscription::read(payload, |Change { add, pattern }| {
            changes.push((add, pattern.into()));
            if changes.len() > MAX_CHANGES { Err(TOO_MANY) } else { Ok(()) }
        })?;
        let first = lane.place.is_none() && partial.is_none();
        if first != head.who.is_some() || first && !head.whole {
            return Err(Violation("a subscriber says who it is once, and first, and all that it wants"));
        }
        let fits = match &partial {
            Some(partial) => (partial.version, partial.whole) == (head.version, head.whole),
            None => head.version > lane.version,
        };
        if !fits {
            return Err(Violation("subscriptions are of a version that is not their turn"));
        }
        let who = partial.and_then(|partial| partial.who).or(head.who);
        let partial = Partial { version: head.version, whole: head.whole, who, changes };
        if head.more {
            let node = lane.peer.node;
            lane.partial = Some(partial);
            // As many as there may be in force: a node may have many lanes, of which none ever says the rest.
            let of_node = self.lanes.values().filter(|lane| lane.peer.node == node);
            let waiting: usize = of_node.filter_map(|lane| lane.partial.as_ref()).map(|part| part.changes.len()).sum();
            return if waiting > MAX_SUBSCRIPTIONS_OF_NODE { Err(TOO_MANY) } else { Ok(()) };
        }
        let place = match (lane.place, partial.who) {
            (Some(place), _) => place,
            (None, Some(who)) => self.welcome(key, who)?,
            (None, None) => return Err(Violation("a subscriber does not say who it is")),
        };
        self.change(place, partial)?;
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.version = head.version;
        }
        self.wake(place);
        Ok(())
    }

    /// A lane's subscriber: a new one, or one that comes again.
    fn welcome(&mut self, key: LaneKey, told: subscription::Who) -> Result<Place, Violation> {
        let Some(lane) = self.lanes.get(&key) else { return Err(Violation("a lane that is over")) };
        let (node, max_message) = (lane.peer.node, lane.peer.max_message);
        let who = Who { node, epoch: told.epoch };
        let known = self.places.get(&who).copied();
        let stream = known.and_then(|place| self.stream(place)).map(|stream| stream.id);
        let goes_on = told.at.filter(|at| Some(at.stream) == stream);
        let place = match (known, goes_on) {
            (Some(place), Some(at)) => {
                // Its earlier lane may not know yet that it is over.
                self.leave_lane(place);
                let stream = self.streams[place as usize].as_mut().expect("it is where it is said to be");
                stream.resume(at.position)?;
                place
            }
            (known, _) => {
                // It has forgotten what it had, or never knew of it: what is here may be of a lane that was never confirmed.
                if let Some(place) = known {
                    self.leave_lane(place);
                    self.remove(place);
                }
                self.settle_in(who)
            }
        };
        let stream = self.streams[place as usize].as_mut().expect("just seen or made");
        (stream.lane, stream.lost_at, stream.max_message) = (Some(key), None, max_message);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.place = Some(place);
        }
        self.effects.subscribers = true;
        Ok(place)
    }

    fn leave_lane(&mut self, place: Place) {
        let lane = self.stream(place).and_then(|stream| stream.lane);
        if let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(&lane)) {
            (lane.place, lane.over) = (None, true);
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    fn settle_in(&mut self, who: Who) -> Place {
        let stream = Box::new(Stream::new(self.next_stream, who));
        self.next_stream += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.streams[place as usize] = Some(stream);
                place
            }
            None => {
                self.streams.push(Some(stream));
                (self.streams.len() - 1) as Place
            }
        };
        self.places.insert(who, place);
        place
    }

    /// Its subscriptions change, and what is retained of the new ones is due to it: what is published from now on comes
    /// behind that, and nothing twice.
    fn change(&mut self, place: Place, partial: Partial) -> Result<(), Violation> {
        let Partial { whole, changes, .. } = partial;
        let Some(Stream { who, patterns: old, .. }) = self.stream(place) else { return Ok(()) };
        // The work is that of the changes, however many patterns there are: whoever floods changes pays for each.
        let mut told = BTreeMap::new();
        for (add, pattern) in changes {
            let before = told.insert(pattern, add);
            if whole && !(add && before.is_none()) {
                return Err(Violation("a whole set of patterns removes some, or names one twice"));
            }
        }
        let mut removed: Vec<Box<str>> = match whole {
            true => old.iter().filter(|pattern| !told.contains_key(*pattern)).cloned().collect(),
            false => Vec::new(),
        };
        let mut added: Vec<Box<str>> = Vec::new();
        for (pattern, add) in told {
            match (add, old.contains(&pattern)) {
                (true, false) => added.push(pattern),
                (false, true) => removed.push(pattern),
                _ => {}
            }
        }
        let of_others = self.patterns_of(who.node) - old.len();
        let wanted = old.len() + added.len() - removed.len();
        if wanted > MAX_SUBSCRIPTIONS || !added.is_empty() && of_others + wanted > MAX_SUBSCRIPTIONS_OF_NODE {
            return Err(TOO_MANY);
        }
        if self.retained.wants() {
            self.give_retained(place, &added);
        }
        // Its policy may have given it up for what is retained.
        let Some(stream) = &mut self.streams[place as usize] else { return Ok(()) };
        for pattern in &removed {
            stream.patterns.remove(pattern);
            self.topics.remove(pattern, place);
        }
        for pattern in added {
            self.topics.add(&pattern, place);
            stream.patterns.insert(pattern);
        }
        Ok(())
    }

    /// How many patterns all subscribers of a node have.
    fn patterns_of(&self, node: NodeId) -> usize {
        let theirs = self.places.range(Who { node, epoch: 0 }..=Who { node, epoch: u64::MAX });
        theirs.filter_map(|(_, place)| self.stream(*place)).map(|stream| stream.patterns.len()).sum()
    }

    /// What is retained and matches one of the patterns, unless a pattern that it had before has brought it.
    fn give_retained(&mut self, place: Place, added: &[Box<str>]) {
        let mut numbers = self.retained.find(added.iter().map(|pattern| &**pattern));
        if planted!(HoleAtSeam) {
            numbers.pop();
        }
        for number in numbers {
            let Some((topic, printed, size, body)) = self.retained.message(number) else { continue };
            let mut had = false;
            self.topics.matches(topic, |other| had |= other == place);
            if had && !planted!(OverlapAtSeam) {
                continue;
            }
            let Some(stream) = self.streams[place as usize].as_mut() else { return };
            if body > stream.max_message {
                stream.skip(|dropped| &mut dropped.too_large);
                continue;
            }
            let mut room = stream.make_room(topic, size, &self.options);
            if room == Room::InOpen {
                self.seal();
                let Some((topic, ..)) = self.retained.message(number) else { continue };
                let Some(stream) = self.streams[place as usize].as_mut() else { return };
                room = stream.make_room(topic, size, &self.options);
            }
            match room {
                Room::Free => {}
                Room::GiveUp => {
                    self.give_up(place);
                    return;
                }
                Room::InOpen | Room::Skipped => continue,
            }
            let Some((topic, ..)) = self.retained.message(number) else { continue };
            let (piece, block) = (self.press.piece, self.press.block);
            let Some(stream) = self.streams[place as usize].as_mut() else { return };
            let first = stream.append(&printed, topic, size, piece, block, self.options.when_full);
            if first.block {
                self.press.dwellers.push(place);
            }
        }
    }
}

const TOO_MANY: Violation = Violation("a subscriber has more patterns than it may have");
