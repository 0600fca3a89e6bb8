//! Who is asked? The better of two that are drawn, by how much each has open and how long its answers take of late.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Exchange, Lane, Lost, Outcome, Place, Requests, Target};
use crate::id::{NodeId, SocketId};
use crate::pattern::push::LaneKey;

/// Taken for the latency of a replier while nobody has answered anything.
const UNKNOWN: Duration = Duration::from_millis(1);
/// Requests that are passed over in one look, as nobody can take them now who could take later ones.
const PASSED_OVER: usize = 64;

/// What became of a look at one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Assigned,
    /// Somebody would take it, and the bound is reached: later ones have no room either.
    NoRoom,
    /// Nobody who may answer it has credit.
    Nobody,
    /// It has ended.
    Over,
}

impl Requests {
    /// Gives what waits to lanes, the oldest first whoever is asked, until one or the other has run out.
    pub(super) fn dispatch(&mut self) {
        let first = |(target, numbers): (&Target, &BTreeSet<u64>)| Some((*numbers.first()?, *target));
        let mut heads: BTreeMap<_, _> = self.waiting.iter().filter_map(first).collect();
        let mut passed: BTreeMap<Target, usize> = BTreeMap::new();
        while let Some((number, target)) = heads.pop_first() {
            match self.look(number) {
                Look::NoRoom => return,
                Look::Nobody => {
                    let passed = passed.entry(target).or_default();
                    *passed += 1;
                    // One that was refused nowhere speaks for all behind it.
                    let picky = self.open.get(&number).is_some_and(|exchange| !exchange.busy.is_empty());
                    if *passed == PASSED_OVER || (!picky && !self.anybody_able(target)) {
                        continue;
                    }
                }
                Look::Assigned | Look::Over => {}
            }
            let next = self.waiting.get(&target).and_then(|numbers| numbers.range(number + 1..).next());
            heads.extend(next.map(|next| (*next, target)));
        }
    }

    /// One that has just come, and that those before it leave a turn.
    pub(super) fn dispatch_one(&mut self, number: u64) {
        if self.waiting.values().filter_map(BTreeSet::first).all(|first| *first == number) {
            self.look(number);
        } else {
            self.dispatch();
        }
        self.effects.look |= self.open.get(&number).is_some_and(|exchange| exchange.place == Place::Waiting);
    }

    fn anybody_able(&self, target: Target) -> bool {
        self.lanes.iter().any(|(key, lane)| lane.is_able() && is_meant(target, *key, lane))
    }

    fn look(&mut self, number: u64) -> Look {
        let Some(exchange) = self.open.get(&number) else { return Look::Over };
        let cost = exchange.cost;
        let full = self.used.messages > 0
            && (self.used.messages >= self.bound.messages || self.used.bytes + cost > self.bound.bytes);
        if full && takers(&self.lanes, exchange).next().is_some() {
            return Look::NoRoom;
        }
        if let Some(key) = self.choose(number) {
            self.assign(number, key);
            return Look::Assigned;
        }
        match self.nobody_left(number) {
            Some(outcome) => {
                self.end(number, outcome, None);
                Look::Over
            }
            None => Look::Nobody,
        }
    }

    /// Power of two choices.
    fn choose(&mut self, number: u64) -> Option<LaneKey> {
        let exchange = self.open.get(&number)?;
        let nth = |at: usize| takers(&self.lanes, exchange).nth(at);
        let count = takers(&self.lanes, exchange).count();
        match count {
            0 => None,
            1 => nth(0),
            _ => {
                let roll = self.dice.roll();
                let first = (roll % count as u64) as usize;
                let second = (first + 1 + ((roll >> 32) % (count as u64 - 1)) as usize) % count;
                let (first, second) = (nth(first)?, nth(second)?);
                Some(if self.load(second) < self.load(first) { second } else { first })
            }
        }
    }

    /// What a request more would wait for there, about.
    fn load(&self, key: LaneKey) -> u128 {
        let Some(lane) = self.lanes.get(&key) else { return u128::MAX };
        // One that nobody knows yet is taken for as fast as the fastest.
        let latency =
            lane.latency.or_else(|| self.lanes.values().filter_map(|lane| lane.latency).min()).unwrap_or(UNKNOWN);
        (lane.unanswered.len() as u128 + 1) * latency.as_nanos().max(1)
    }

    fn assign(&mut self, number: u64, key: LaneKey) {
        let exchange = self.open.get_mut(&number).expect("it was chosen for");
        let lane = self.lanes.get_mut(&key).expect("just chosen");
        exchange.place = Place::Assigned(key);
        lane.spent += exchange.cost;
        lane.queue.insert(number);
        lane.unanswered.insert(number);
        self.effects.wakers.extend(lane.writer.take());
        self.used.messages += 1;
        self.used.bytes += exchange.cost;
        let target = exchange.asked.target;
        self.stop_waiting(number, target);
    }

    /// It waits for a lane once more.
    pub(super) fn wait_again(&mut self, number: u64) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        debug_assert!(exchange.place != Place::Waiting, "it had a lane");
        exchange.place = Place::Waiting;
        self.used.messages -= 1;
        self.used.bytes -= exchange.cost;
        let target = exchange.asked.target;
        self.wait(number, target);
        self.effects.look = true;
    }

    /// How a request ends that no lane can take, also not later. `None`: one can, or somebody may come.
    fn nobody_left(&self, number: u64) -> Option<Outcome> {
        let exchange = self.open.get(&number)?;
        if let Target::Lane(key, _) = exchange.asked.target
            && self.lanes.get(&key).is_none_or(|lane| lane.closing)
        {
            let lost = exchange.lost.map(|node| Outcome::Unknown(Lost::Link(node)));
            return Some(lost.unwrap_or(Outcome::NotSent));
        }
        let theirs =
            || self.lanes.iter().filter(|(key, lane)| !lane.closing && is_meant(exchange.asked.target, **key, lane));
        if theirs().any(|(key, lane)| may_take(exchange, *key, lane)) {
            return None;
        }
        let limit = theirs().map(|(_, lane)| lane.peer.max_message).max()?;
        let size = exchange.asked.content.body.len();
        if size > limit {
            return Some(Outcome::TooLarge { size, limit });
        }
        // Where a handler may have run it is not said that none has.
        Some(exchange.lost.map_or(Outcome::Busy, |node| Outcome::Unknown(Lost::Link(node))))
    }

    /// Who of the mesh answers requests on this channel, as its first complete view shows. Where nobody is there, those end
    /// that do not want to wait.
    pub(crate) fn nobody_there(&mut self, there: &[(NodeId, SocketId)]) {
        self.left.retain(|socket| there.contains(socket));
        let is_there = |wanted: Option<NodeId>, left: &BTreeSet<(NodeId, SocketId)>| {
            there.iter().any(|socket| !left.contains(socket) && wanted.is_none_or(|wanted| wanted == socket.0))
        };
        let targets: Vec<_> = self.waiting.keys().copied().collect();
        for target in targets {
            if !self.is_connected(target) && !is_there(target.node(), &self.left) {
                let numbers = self.waiting.get(&target).into_iter().flatten().copied().collect();
                self.end_impatient(numbers);
            }
        }
    }

    /// It has said that it takes no more, whatever the tables say.
    pub(crate) fn has_left(&self, socket: &(NodeId, SocketId)) -> bool {
        self.left.contains(socket)
    }

    fn end_impatient(&mut self, numbers: Vec<u64>) {
        for number in numbers {
            let Some(exchange) = self.open.get(&number) else { continue };
            // What was lost and may be tried again has its whole time.
            if !exchange.asked.patient && exchange.lost.is_none() {
                self.end(number, Outcome::NoReplier, None);
            }
        }
    }

    /// Something waits, and nobody is connected who could answer it.
    pub(crate) fn looks_for_somebody(&self) -> bool {
        self.waiting.keys().any(|target| !self.is_connected(*target))
    }

    /// With one of the nodes that are asked.
    fn is_connected(&self, target: Target) -> bool {
        let node = target.node();
        self.lanes.values().any(|lane| !lane.closing && node.is_none_or(|node| lane.peer.node == node))
    }
}

impl Lane {
    fn is_able(&self) -> bool {
        !self.closing && self.spent < self.credit
    }
}

/// Lanes that it can be given to now.
fn takers(lanes: &BTreeMap<LaneKey, Lane>, exchange: &Exchange) -> impl Iterator<Item = LaneKey> {
    let able = |(key, lane): &(&LaneKey, &Lane)| lane.is_able() && may_take(exchange, **key, lane);
    lanes.iter().filter(able).map(|(key, _)| *key)
}

/// It is one of those who are asked.
fn is_meant(target: Target, key: LaneKey, lane: &Lane) -> bool {
    match target {
        Target::Anybody => true,
        Target::Node(node) => lane.peer.node == node,
        Target::Lane(only, _) => key == only,
    }
}

/// And could take it, once it has credit.
fn may_take(exchange: &Exchange, key: LaneKey, lane: &Lane) -> bool {
    is_meant(exchange.asked.target, key, lane)
        && !exchange.busy.contains(&key)
        && exchange.asked.content.body.len() <= lane.peer.max_message
}
