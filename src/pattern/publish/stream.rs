//! What one subscriber has coming: which messages, from where, and which were dropped?
//!
//! ```text
//!      received         cursor                next       positions
//! ───────┼── ghosts, sent ──┼── waits ──────────┼──▶
//! ```
//! What was sent and is not received stays as long as there is room, for a lane that goes on after a loss; it makes room
//! first, and leaves a ghost: its count without its bytes. A hole between runs is what was dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use super::press::Printed;
use super::{Options, Policy, Who};
use crate::pattern::push::{Amount, LaneKey};
use crate::wire::Violation;
use crate::wire::frame::own_frame;
use crate::wire::limits::MISSED_EVENTS;

#[derive(Debug)]
pub(super) struct Stream {
    /// Never used twice.
    pub(super) id: u64,
    pub(super) who: Who,
    /// `None`: it is lost, and may come again.
    pub(super) lane: Option<LaneKey>,
    pub(super) lost_at: Option<Instant>,
    pub(super) max_message: usize,
    pub(super) patterns: BTreeSet<Box<str>>,
    /// The last attempt to publish that has met it.
    pub(super) turn: u64,
    /// The position of the next message that it wants.
    pub(super) next: u64,
    /// Everything before it is on the lane, or was told there to be missing.
    pub(super) cursor: u64,
    /// Everything before it has arrived, or its absence has.
    pub(super) received: u64,
    /// Sent, and evicted since: first position and count. All before the runs.
    ghosts: VecDeque<(u64, u64)>,
    runs: VecDeque<Run>,
    /// How many of them are sent.
    sent_runs: usize,
    /// How many, of the last ones, lie in the open piece.
    open_runs: usize,
    /// Of runs that are not sent.
    pub(super) queued: Amount,
    /// Of all runs.
    held: Amount,
    /// Sent and not received, ghosts among them.
    pub(super) in_flight: u64,
    /// Messages that have arrived.
    pub(super) arrived: u64,
    pub(super) dropped: Dropped,
    /// With `Latest`: of each topic the message that waits.
    latest: BTreeMap<Box<str>, u64>,
    /// Runs whose message was replaced by a newer one, and that lie around.
    dead: usize,
    /// The last block that it has something in.
    block: u64,
    told_slow: Option<Instant>,
}

/// Messages that were dropped, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Made room for newer ones.
    pub(crate) oldest: u64,
    /// Found no room.
    pub(crate) newest: u64,
    /// A newer one of the same topic came.
    pub(crate) replaced: u64,
    /// Was sent, its link was lost, and it had made room before it could be sent again.
    pub(crate) lost: u64,
    /// Its subscriber was given up.
    pub(crate) given_up: u64,
    /// Is larger than the subscriber's node takes.
    pub(crate) too_large: u64,
}

impl Dropped {
    pub(super) fn add(&mut self, more: &Self) {
        let Self { oldest, newest, replaced, lost, given_up, too_large } = more;
        self.oldest += oldest;
        self.newest += newest;
        self.replaced += replaced;
        self.lost += lost;
        self.given_up += given_up;
        self.too_large += too_large;
    }

    pub(crate) fn total(&self) -> u64 {
        let Self { oldest, newest, replaced, lost, given_up, too_large } = self;
        oldest + newest + replaced + lost + given_up + too_large
    }
}

/// Messages of consecutive positions that lie one behind the other.
#[derive(Debug)]
pub(super) struct Run {
    first: u64,
    count: u32,
    payload: u64,
    /// The piece it lies in, while that is open, and where. 0: its bytes are here.
    piece: u64,
    start: u32,
    end: u32,
    /// The block that it was written in, or that was there when it was written elsewhere.
    block: u64,
    pub(super) bytes: Bytes,
    /// A large body.
    body: Option<Bytes>,
    /// With `Latest`.
    topic: Option<Box<str>>,
    /// It was replaced, and only lies around.
    dead: bool,
}

/// Whether there is room for one more message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// Once the open piece is sealed.
    InOpen,
    /// The message was dropped.
    Skipped,
    /// The subscriber has to go.
    GiveUp,
}

/// What is the stream's first in its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstHere {
    pub(super) piece: bool,
    pub(super) block: bool,
}

impl Stream {
    pub(super) fn new(id: u64, who: Who) -> Self {
        Self {
            id,
            who,
            lane: None,
            lost_at: None,
            max_message: usize::MAX,
            patterns: BTreeSet::new(),
            turn: 0,
            next: 0,
            cursor: 0,
            received: 0,
            ghosts: VecDeque::new(),
            runs: VecDeque::new(),
            sent_runs: 0,
            open_runs: 0,
            queued: Amount::default(),
            held: Amount::default(),
            in_flight: 0,
            arrived: 0,
            dropped: Dropped::default(),
            latest: BTreeMap::new(),
            dead: 0,
            block: 0,
            told_slow: None,
        }
    }

    /// One more message can wait without that another one is dropped.
    pub(super) fn has_room(&self, size: usize, bound: Amount) -> bool {
        fits(self.queued, size, bound)
    }

    pub(super) fn make_room(&mut self, topic: &str, size: usize, options: &Options) -> Room {
        if options.when_full == Policy::Latest {
            if planted!(LatestKeepsOlder) && self.latest.contains_key(topic) {
                self.skip(|dropped| &mut dropped.replaced);
                return Room::Skipped;
            }
            self.replace(topic);
        }
        while !fits(self.held, size, options.bound) && !planted!(BoundUncounted) {
            if self.sent_runs > 0 {
                self.evict();
                continue;
            }
            match options.when_full {
                Policy::DropOldest | Policy::Latest | Policy::Block => {
                    if self.drop_oldest() {
                        continue;
                    }
                    return Room::InOpen;
                }
                Policy::DropNewest => {
                    self.skip(|dropped| &mut dropped.newest);
                    return Room::Skipped;
                }
                Policy::GiveUp => return Room::GiveUp,
            }
        }
        Room::Free
    }

    /// The next message is dropped.
    pub(super) fn skip(&mut self, why: impl FnOnce(&mut Dropped) -> &mut u64) {
        self.next += 1;
        *why(&mut self.dropped) += 1;
    }

    /// Whether it is to be told now that messages are dropped for it.
    pub(super) fn tell_slow(&mut self, now: Instant) -> bool {
        let due = self.told_slow.is_none_or(|told| now >= told + MISSED_EVENTS);
        if due {
            self.told_slow = Some(now);
        }
        due
    }

    /// The message of this topic that waits, if one does, makes room for a newer one.
    fn replace(&mut self, topic: &str) {
        let Some(position) = self.latest.remove(topic) else { return };
        let at = self.runs.partition_point(|run| run.first < position);
        let Some(run) = self.runs.get_mut(at).filter(|run| run.first == position && !run.dead) else { return };
        (run.dead, run.bytes, run.body, run.topic) = (true, Bytes::new(), None, None);
        let payload = run.payload;
        self.queued.take(1, payload);
        self.held.take(1, payload);
        self.dropped.replaced += 1;
        self.dead += 1;
        if self.dead > 64 && self.dead > self.runs.len() / 2 {
            // None of those that are sent is dead.
            let open = self.runs.iter().rev().take(self.open_runs).filter(|run| run.dead).count();
            self.open_runs -= open;
            self.runs.retain(|run| !run.dead);
            self.dead = 0;
        }
    }

    /// What was sent first makes room: no message is lost by it, only what could be sent again.
    fn evict(&mut self) {
        let run = &mut self.runs[0];
        let (first, payload) = (run.first, run.trim_front(1));
        if run.count == 0 {
            self.runs.pop_front();
            self.sent_runs -= 1;
        }
        self.held.take(1, payload);
        match self.ghosts.back_mut() {
            Some((start, count)) if *start + *count == first => *count += 1,
            _ => self.ghosts.push_back((first, 1)),
        }
    }

    /// The oldest that waits is dropped. False: it lies among others in the open piece.
    fn drop_oldest(&mut self) -> bool {
        while self.runs.front().is_some_and(|run| run.dead) {
            self.pop_unsent();
            self.dead -= 1;
        }
        let Some(run) = self.runs.front_mut() else { return true };
        if run.count > 1 && run.piece > 0 {
            return false;
        }
        // A newer one of its topic waits as well, where this one is to be sent again.
        if let Some(topic) = &run.topic
            && self.latest.get(topic) == Some(&run.first)
        {
            self.latest.remove(topic);
        }
        let payload = if run.count > 1 {
            run.trim_front(1)
        } else {
            let payload = run.payload;
            self.pop_unsent();
            payload
        };
        self.queued.take(1, payload);
        self.held.take(1, payload);
        self.dropped.oldest += 1;
        true
    }

    fn pop_unsent(&mut self) {
        self.runs.pop_front();
        self.open_runs = self.open_runs.min(self.runs.len());
    }

    /// One more message, for which there is room.
    pub(super) fn append(
        &mut self,
        printed: &Printed,
        topic: &str,
        size: usize,
        piece: u64,
        block: u64,
        when_full: Policy,
    ) -> FirstHere {
        let position = self.next;
        self.next += 1;
        self.queued.add(1, size as u64);
        self.held.add(1, size as u64);
        let mut first = FirstHere { piece: false, block: std::mem::replace(&mut self.block, block) != block };
        let mut run = Run {
            first: position,
            count: 1,
            payload: size as u64,
            piece: 0,
            start: 0,
            end: 0,
            block,
            bytes: Bytes::new(),
            body: None,
            topic: None,
            dead: false,
        };
        match printed {
            Printed::Open { start, end } => {
                if self.open_runs > 0
                    && when_full != Policy::Latest
                    && let Some(last) = self.runs.back_mut()
                    && last.end == *start
                    && last.piece == piece
                    && last.first + u64::from(last.count) == position
                {
                    last.count += 1;
                    last.payload += size as u64;
                    last.end = *end;
                    return first;
                }
                (run.piece, run.start, run.end) = (piece, *start, *end);
                first.piece = self.open_runs == 0;
                self.open_runs += 1;
            }
            Printed::Own { head, body } => {
                // Behind what lies in the open piece: those stay the last ones.
                self.open_runs += usize::from(self.open_runs > 0);
                (run.bytes, run.body) = (head.clone(), body.clone());
            }
        }
        if when_full == Policy::Latest {
            let topic: Box<str> = topic.into();
            run.topic = Some(topic.clone());
            self.latest.insert(topic, position);
        }
        self.runs.push_back(run);
        first
    }

    /// The piece is sealed: these are its bytes.
    pub(super) fn resolve(&mut self, piece: u64, bytes: &Bytes) {
        for run in self.runs.iter_mut().rev().take(self.open_runs) {
            if run.piece == piece {
                run.piece = 0;
                if !run.dead {
                    run.bytes = bytes.slice(run.start as usize..run.end as usize);
                }
            }
        }
        self.open_runs = 0;
    }

    /// Something that waits lies in the open piece.
    pub(super) fn is_open(&self) -> bool {
        self.open_runs > 0
    }

    /// Of a block that is full: where this holds less than so many bytes of it, they move to allocations of their own.
    pub(super) fn move_out(&mut self, block: u64, least: usize, apart: bool) {
        let here = || self.runs.iter().rev().take_while(|run| run.block == block);
        let mine = |run: &&Run| run.body.is_none() && !run.dead;
        let bytes: usize = here().filter(mine).map(|run| run.bytes.len()).sum();
        let count = here().count();
        if !apart && bytes >= least {
            return;
        }
        let mut copy = BytesMut::with_capacity(if apart { 0 } else { bytes });
        for run in self.runs.iter_mut().rev().take(count).filter(|run| run.body.is_none() && !run.dead) {
            if apart {
                run.copied();
            } else {
                copy.extend_from_slice(&run.bytes);
                run.bytes = copy.split().freeze();
            }
        }
    }

    /// Whether something waits that could be sent, or has to be told.
    pub(super) fn waits(&self) -> bool {
        self.queued.messages > 0
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> Amount {
        self.held
    }

    /// How many bytes of allocations are kept for it, at the least: in each block all that lies between its messages.
    #[cfg(test)]
    pub(super) fn pinned(&self) -> usize {
        let mut blocks: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        for run in self.runs.iter().filter(|run| run.piece == 0) {
            let (start, end) = (run.bytes.as_ptr() as usize, run.bytes.as_ptr() as usize + run.bytes.len());
            let span = blocks.entry(run.block).or_insert((start, end));
            *span = (span.0.min(start), span.1.max(end));
        }
        blocks.values().map(|(start, end)| end - start).sum()
    }

    /// What is missing at the end, with nothing behind it.
    pub(super) fn missing_at_end(&self) -> u64 {
        if self.waits() { 0 } else { self.next - self.cursor }
    }

    /// It was told.
    pub(super) fn told_end(&mut self) {
        self.cursor = self.next;
    }

    /// How many positions from the cursor on are holes.
    pub(super) fn holes(&self) -> u64 {
        self.next - self.cursor - self.queued.messages
    }

    /// The next run, of at most so many messages and about so many bytes, with how many messages are missing before it.
    /// Whatever waits is sealed.
    pub(super) fn take(&mut self, messages: u64, bytes: u64) -> Option<(u64, Sent)> {
        while self.runs.get(self.sent_runs).is_some_and(|run| run.dead) {
            self.runs.remove(self.sent_runs);
            self.dead -= 1;
        }
        let run = self.runs.get_mut(self.sent_runs)?;
        let most = messages.min(u64::from(run.count)) as u32;
        if (most < run.count || run.payload > bytes) && run.count > 1 {
            let rest = run.split(most, bytes);
            rest.into_iter().for_each(|rest| self.runs.insert(self.sent_runs + 1, rest));
        }
        let run = &mut self.runs[self.sent_runs];
        if let Some(topic) = &run.topic
            && self.latest.get(topic) == Some(&run.first)
        {
            self.latest.remove(topic);
        }
        let missing = run.first - self.cursor;
        let sent = Sent {
            bytes: run.bytes.clone(),
            body: run.body.clone(),
            count: u64::from(run.count),
            payload: run.payload,
        };
        self.cursor = run.first + sent.count;
        self.sent_runs += 1;
        self.queued.take(sent.count, sent.payload);
        self.in_flight += sent.count;
        Some((missing, sent))
    }

    /// The subscriber has everything before this position.
    pub(super) fn received(&mut self, position: u64) -> Result<(), Violation> {
        if position < self.received || position > self.cursor {
            return Err(Violation("a subscriber has received what it was not sent"));
        }
        self.received = position;
        let arrived = self.let_go(position);
        self.in_flight -= arrived;
        self.arrived += arrived;
        Ok(())
    }

    /// Forgets what was sent before this position: how many messages.
    fn let_go(&mut self, position: u64) -> u64 {
        let mut gone = 0;
        while let Some((first, count)) = self.ghosts.front_mut().filter(|(first, _)| *first < position) {
            let part = (position - *first).min(*count);
            gone += part;
            (*first, *count) = (*first + part, *count - part);
            if *count == 0 {
                self.ghosts.pop_front();
            }
        }
        while self.sent_runs > 0 && self.runs[0].first < position {
            let run = &mut self.runs[0];
            let part = (position - run.first).min(u64::from(run.count));
            let payload = run.trim_front(part as u32);
            if run.count == 0 {
                self.runs.pop_front();
                self.sent_runs -= 1;
            }
            gone += part;
            self.held.take(part, payload);
        }
        gone
    }

    /// Another lane goes on from this position: what was sent behind it is sent again, as far as it is here.
    pub(super) fn resume(&mut self, position: u64) -> Result<(), Violation> {
        let position = position + u64::from(planted!(ResumeOffByOne) && position < self.cursor);
        self.received(position)?;
        let lost: u64 = self.ghosts.drain(..).map(|(_, count)| count).sum();
        self.dropped.lost += lost;
        // From the last one on: of a topic it is the newest that the next one replaces.
        for run in self.runs.iter().take(self.sent_runs).rev() {
            self.queued.add(u64::from(run.count), run.payload);
            if let Some(topic) = &run.topic
                && !self.latest.contains_key(topic)
            {
                self.latest.insert(topic.clone(), run.first);
            }
        }
        self.in_flight = 0;
        self.sent_runs = 0;
        self.cursor = position;
        Ok(())
    }
}

/// A run on its way.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    pub(super) body: Option<Bytes>,
    pub(super) count: u64,
    pub(super) payload: u64,
}

impl Run {
    /// Takes its first messages away: how large they were. All of them: it is left empty.
    fn trim_front(&mut self, messages: u32) -> u64 {
        if messages == self.count {
            self.count = 0;
            return std::mem::take(&mut self.payload);
        }
        let (mut at, mut payload) = (0, 0);
        for _ in 0..messages {
            let (head, carried) = own_frame(&self.bytes[at..]);
            at += head + carried;
            payload += carried as u64;
        }
        self.bytes.advance(at);
        self.first += u64::from(messages);
        self.count -= messages;
        self.payload -= payload;
        payload
    }

    /// Keeps at most `messages` messages and about `bytes` bytes, but at least one; gives back the rest, if there is one.
    fn split(&mut self, messages: u32, bytes: u64) -> Option<Self> {
        let (mut kept, mut at, mut payload) = (0, 0, 0);
        while kept < messages.max(1) && kept < self.count && (kept == 0 || payload < bytes) {
            let (head, carried) = own_frame(&self.bytes[at..]);
            at += head + carried;
            payload += carried as u64;
            kept += 1;
        }
        if kept == self.count {
            return None;
        }
        let rest = Self {
            first: self.first + u64::from(kept),
            count: self.count - kept,
            payload: self.payload - payload,
            piece: 0,
            start: 0,
            end: 0,
            block: self.block,
            bytes: self.bytes.split_off(at),
            body: None,
            topic: None,
            dead: false,
        };
        self.count = kept;
        self.payload = payload;
        Some(rest)
    }
}

fn fits(used: Amount, size: usize, bound: Amount) -> bool {
    used.messages < bound.messages && used.bytes + size as u64 <= bound.bytes
}

#[cfg(test)]
mod tests;
