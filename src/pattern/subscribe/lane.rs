//! One lane from a publisher: what comes in over it, and what does its carrier say next?

use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::{At, Desk, Feed, Missing, PublisherFigures};
use crate::error::Gap;
use crate::pattern::batch::{Batch, Draft, Source};
use crate::pattern::lane::{LanePeer, Outgoing, Violation};
use crate::pattern::push::{Amount, LaneKey, lock};
use crate::pattern::splitter::{Control, Splitter};
use crate::sync::{AtomicBool, AtomicU64, AtomicWaker, Mutex};
use crate::wire::control::OpenLane;
use crate::wire::frame::{self, Numbers, Payload, to_receiver, to_sender};
use crate::wire::headers::section_len;
use crate::wire::limits::{
    LANE_WINDOW_BYTES, MAX_HEADERS, MAX_SEQUENCE_SAID, MAX_TOPIC, MISSED_EVENTS, SUBSCRIBER_WINDOW_BYTES,
};
use crate::wire::subscription::{self, Change, Who};

/// The longest that the report of what has arrived waits for more, and only right after another one.
const GATHER: Duration = Duration::from_millis(1);
/// A part of its window that was handed out is worth telling: one part in so many.
const PARTS: u64 = 4;

/// One lane, as the subscriber sees it.
#[derive(Debug)]
pub(crate) struct FeedLane {
    key: LaneKey,
    feed: Arc<Feed>,
    peer: LanePeer,
    source: Source,
    /// The version that is in force for all that comes.
    confirmed: AtomicU64,
    /// Handed out, in total.
    handed: AtomicU64,
    handed_bytes: AtomicU64,
    /// From here on the writer has more credit to tell.
    worth: AtomicU64,
    worth_bytes: AtomicU64,
    writer: AtomicWaker,
    over: AtomicBool,
    work: Mutex<Work>,
}

/// What only the node's thread touches.
#[derive(Debug)]
struct Work {
    splitter: Splitter,
    next_number: u64,
    /// Where it asked to go on.
    asked: Option<subscription::At>,
    /// What the publisher calls what this socket has coming.
    stream: u64,
    /// A version is in force: messages may come.
    live: bool,
    /// The version that was told last; 0: none.
    told: u64,
    reported: u64,
    credit: Amount,
    /// Bytes that have come over this lane.
    bytes: u64,
    gather_until: Option<Instant>,
    missed: u64,
    /// Of these no event has told.
    untold: u64,
    tell_at: Option<Instant>,
    out: BytesMut,
    draining: bool,
    closing_told: bool,
    /// The same publisher has come over another lane, which goes on where this one was.
    superseded: bool,
    given_up: bool,
}

/// What became of what was read, for whoever holds the socket.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// A subscription was confirmed, or never will be.
    pub(crate) confirmed: bool,
    /// Messages are missing, which is to be told.
    pub(crate) missed: Option<Gap>,
    /// The publisher has given this socket up: so many messages are missing.
    pub(crate) given_up: Option<u64>,
}

/// What the carrier does next, and what is to be told beside.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) next: Poll<Outgoing>,
    pub(crate) missed: Option<Gap>,
}

impl Feed {
    /// A lane from a publisher.
    pub(crate) fn accept(self: &Arc<Self>, peer: LanePeer, open: &OpenLane) -> Arc<FeedLane> {
        let source = Source { node: peer.node, epoch: open.epoch };
        let earlier: Vec<_> = {
            let desk = lock(&self.desk);
            desk.lanes.values().filter(|lane| lane.source == source).cloned().collect()
        };
        // One that does not know yet that it is over: what still comes over it comes over this one too.
        for lane in earlier {
            let mut work = lock(&lane.work);
            if work.live && !std::mem::replace(&mut work.superseded, true) {
                lock(&self.desk).remember(source, work.at());
            }
        }
        let mut desk = lock(&self.desk);
        let asked = desk.at(source);
        let position = asked.map_or(0, |at| at.position);
        let key = desk.next_lane;
        desk.next_lane += 1;
        let lane = Arc::new(FeedLane {
            key,
            feed: self.clone(),
            peer,
            source,
            confirmed: AtomicU64::new(0),
            handed: AtomicU64::new(0),
            handed_bytes: AtomicU64::new(0),
            worth: AtomicU64::new(u64::MAX),
            worth_bytes: AtomicU64::new(u64::MAX),
            writer: AtomicWaker::new(),
            over: AtomicBool::new(false),
            work: Mutex::new(Work {
                splitter: Splitter::published(position, self.max_message),
                next_number: 0,
                asked,
                stream: 0,
                live: false,
                told: 0,
                reported: position,
                credit: Amount::default(),
                bytes: 0,
                gather_until: None,
                missed: 0,
                untold: 0,
                tell_at: None,
                out: BytesMut::new(),
                draining: desk.draining,
                closing_told: false,
                superseded: false,
                given_up: false,
            }),
        });
        desk.lanes.insert(key, lane.clone());
        lane
    }
}

impl FeedLane {
    pub(super) fn at(&self) -> At {
        At { link: self.peer.link, node: self.peer.node, socket: self.peer.socket }
    }

    pub(super) fn confirmed(&self) -> u64 {
        if planted!(ConfirmedEarly) {
            return lock(&self.work).told;
        }
        self.confirmed.load(Acquire)
    }

    /// A message of it was handed out. True: enough to tell the publisher.
    #[inline]
    pub(super) fn handed(&self, bytes: u64) -> bool {
        let handed = self.handed.fetch_add(1, AcqRel) + 1;
        let handed_bytes = self.handed_bytes.fetch_add(bytes, AcqRel) + bytes;
        handed >= self.worth.load(Acquire) || handed_bytes >= self.worth_bytes.load(Acquire)
    }

    /// Has the writer look.
    pub(super) fn call(&self) {
        self.writer.wake();
    }

    pub(super) fn drain(&self) {
        lock(&self.work).draining = true;
        self.call();
    }

    pub(super) fn figures(&self) -> PublisherFigures {
        let work = lock(&self.work);
        let received = work.splitter.received();
        PublisherFigures {
            node: self.peer.node,
            received,
            waiting: if work.draining { 0 } else { received - self.handed.load(Acquire).min(received) },
            missed: work.missed,
            confirmed: work.live && self.confirmed.load(Acquire) >= self.feed.version(),
        }
    }

    /// What is to be written now.
    pub(crate) fn poll_outgoing(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        now: Instant,
        out: &mut Vec<Bytes>,
        again: &mut Option<Instant>,
    ) -> Told {
        self.writer.register(cx.waker());
        let mut work = lock(&self.work);
        let work = &mut *work;
        if work.draining || work.given_up {
            if !std::mem::replace(&mut work.closing_told, true) {
                frame::put_answer(&mut work.out, to_sender::CLOSING, &[]);
            }
        } else {
            work.put_subscriptions(self);
            // At once, so that messages follow right behind the confirmation.
            work.put_credit(self);
            if work.live {
                work.put_received(now, again);
            }
        }
        let mut missed = None;
        if let Some(at) = work.tell_at {
            if now >= at {
                missed = work.tell_missed(self, now);
            } else if work.untold > 0 {
                *again = Some(again.map_or(at, |other| other.min(at)));
            }
        }
        // The publisher ends the lane.
        let next = if work.out.is_empty() {
            Poll::Pending
        } else {
            out.push(work.out.split().freeze());
            Poll::Ready(Outgoing::Write)
        };
        Told { next, missed }
    }

    /// What was read.
    ///
    /// # Errors
    /// It is not what a publisher may say.
    pub(crate) fn handle_incoming(self: &Arc<Self>, now: Instant, chunks: &mut [Bytes]) -> Result<Heard, Violation> {
        let mut work = lock(&self.work);
        let work = &mut *work;
        let mut heard = Heard::default();
        if work.superseded || work.draining {
            return Ok(heard);
        }
        let (mut control, mut draft) = (Vec::new(), work.splitter.draft(Default::default()));
        for chunk in chunks {
            work.splitter.feed(&mut draft, std::mem::take(chunk), &mut control)?;
            for frame in control.drain(..) {
                let before = (frame.at - draft.first_position) as usize;
                if before > 0 {
                    let rest = draft.split(before);
                    work.arrived(self, std::mem::replace(&mut draft, rest))?;
                }
                work.handle_control(self, &frame, &mut draft, &mut heard)?;
            }
        }
        work.arrived(self, draft)?;
        heard.missed =
            if work.untold > 0 && work.tell_at.is_none_or(|at| now >= at) { work.tell_missed(self, now) } else { None };
        self.call();
        Ok(heard)
    }

    /// A subscription has been told and is not confirmed.
    pub(crate) fn owes(&self) -> bool {
        let work = lock(&self.work);
        !work.draining && !work.given_up && work.told > self.confirmed.load(Acquire)
    }

    /// The lane is over.
    pub(crate) fn closed(&self) {
        self.over.store(true, Release);
        let work = lock(&self.work);
        let mut desk = lock(&self.feed.desk);
        desk.lanes.remove(&self.key);
        if work.given_up || work.draining {
            desk.remembered.remove(&self.source);
        } else if work.live && !work.superseded {
            desk.remember(self.source, work.at());
        }
    }
}

impl Work {
    /// Messages that came before anything else that was said.
    fn arrived(&mut self, lane: &Arc<FeedLane>, draft: Draft) -> Result<(), Violation> {
        if !self.live && self.splitter.begun() > 0 {
            return Err(Violation("a publisher sends messages before it has confirmed a subscription"));
        }
        self.bytes += draft.bytes;
        let more = (lane.feed.max_message + section_len(MAX_HEADERS) + 1 + MAX_TOPIC) as u64;
        if self.splitter.begun() > self.credit.messages || self.bytes > self.credit.bytes + more {
            return Err(Violation("the sender has spent more credit than it had"));
        }
        if draft.entries.is_empty() {
            return Ok(());
        }
        lock(&lane.feed.desk).received += draft.entries.len() as u64;
        let number = self.next_number;
        self.next_number += 1;
        lane.feed.publish(Batch::published(draft, number, lane.source), lane);
        Ok(())
    }

    fn handle_control(
        &mut self,
        lane: &Arc<FeedLane>,
        frame: &Control,
        draft: &mut Draft,
        heard: &mut Heard,
    ) -> Result<(), Violation> {
        let mut numbers = Numbers::new(&frame.payload);
        match frame.kind {
            to_receiver::SUBSCRIBED => {
                let (version, stream) = (numbers.next()?, numbers.next()?);
                if version > self.told || version <= lane.confirmed.load(Acquire) {
                    return Err(Violation("a publisher confirms what it was not asked for"));
                }
                if !std::mem::replace(&mut self.live, true) {
                    self.begin(lane, draft, stream)?;
                } else if stream != self.stream {
                    return Err(Violation("a lane changes its stream"));
                }
                lane.confirmed.store(version, Release);
                heard.confirmed = true;
            }
            to_receiver::GAP => self.missing(lane, draft, numbers.next()?)?,
            to_receiver::GIVEN_UP => {
                let count = numbers.next()?;
                self.missing(lane, draft, count)?;
                self.given_up = true;
                lock(&lane.feed.desk).was_given_up(&lane.peer);
                (heard.confirmed, heard.given_up) = (true, Some(count));
            }
            0x40.. => {}
            _ => return Err(Violation("a control frame is of a kind that this revision does not know")),
        }
        Ok(())
    }

    /// The first subscription is in force: messages count from where the lane before was, or anew.
    fn begin(&mut self, lane: &Arc<FeedLane>, draft: &mut Draft, stream: u64) -> Result<(), Violation> {
        self.stream = stream;
        if let Some(asked) = self.asked.filter(|asked| asked.stream != stream) {
            let back = -(asked.position as i64);
            self.splitter.shift(back)?;
            draft.shift(back);
            self.reported = 0;
            // It had something coming, and nobody knows how much.
            lane.feed.miss(lane.source, Missing { count: 0, exact: false });
        }
        Ok(())
    }

    /// How far it has got.
    fn at(&self) -> subscription::At {
        subscription::At { stream: self.stream, position: self.splitter.next_sequence() }
    }

    fn missing(&mut self, lane: &Arc<FeedLane>, draft: &mut Draft, count: u64) -> Result<(), Violation> {
        if !self.live {
            return Err(Violation("a publisher misses messages before it has confirmed a subscription"));
        }
        if count == 0 || count > MAX_SEQUENCE_SAID {
            return Err(Violation("no messages, or more than there can be, are missing"));
        }
        self.splitter.shift(count as i64)?;
        draft.shift(count as i64);
        self.missed += count;
        self.untold += count;
        lane.feed.miss(lane.source, Missing { count, exact: true });
        Ok(())
    }

    /// What is missing since the last time, for an event.
    fn tell_missed(&mut self, lane: &FeedLane, now: Instant) -> Option<Gap> {
        let count = std::mem::take(&mut self.untold);
        self.tell_at = (count > 0).then(|| now + MISSED_EVENTS);
        (count > 0).then_some(Gap { publisher: lane.peer.node, count, exact: true })
    }

    /// What is wanted, as far as the publisher has not been told.
    fn put_subscriptions(&mut self, lane: &FeedLane) {
        let desk = lock(&lane.feed.desk);
        let Desk { patterns, version, changes, .. } = &*desk;
        if self.told == *version {
            return;
        }
        let behind = *version - self.told;
        let mut put = |payload: &[u8]| frame::put_answer(&mut self.out, to_sender::SUBSCRIBE, payload);
        if self.told > 0 && behind <= changes.len() as u64 {
            let changes = changes.iter().skip(changes.len() - behind as usize);
            let changes = changes.map(|(add, pattern)| Change { add: *add, pattern });
            subscription::write(*version, false, None, changes, &mut put);
        } else {
            let who = (self.told == 0).then_some(Who { epoch: lane.feed.epoch, at: self.asked });
            let all = patterns.iter().map(|pattern| Change { add: true, pattern });
            subscription::write(*version, true, who, all, &mut put);
        }
        self.told = *version;
    }

    fn put_credit(&mut self, lane: &FeedLane) {
        let lanes = lock(&lane.feed.desk).lanes.len().max(1) as u64;
        let (messages, bytes) = (lane.feed.window, (SUBSCRIBER_WINDOW_BYTES / lanes).max(LANE_WINDOW_BYTES));
        let (part, part_bytes) = ((messages / PARTS).max(1), bytes / PARTS);
        let (handed, handed_bytes) = (lane.handed.load(Acquire), lane.handed_bytes.load(Acquire));
        let credit = Amount {
            messages: (handed + messages).max(self.credit.messages),
            bytes: (handed_bytes + bytes).max(self.credit.bytes),
        };
        if credit.messages >= self.credit.messages + part || credit.bytes >= self.credit.bytes + part_bytes {
            self.credit = credit;
            frame::put_answer(&mut self.out, to_sender::CREDIT, &Payload::of(&[credit.messages, credit.bytes]).0);
        }
        // Whoever hands out so many calls.
        lane.worth.store((self.credit.messages + part).saturating_sub(messages), Release);
        lane.worth_bytes.store((self.credit.bytes + part_bytes).saturating_sub(bytes), Release);
    }

    fn put_received(&mut self, now: Instant, again: &mut Option<Instant>) {
        let position = self.splitter.next_sequence();
        if position == self.reported {
            return;
        }
        if let Some(until) = self.gather_until.filter(|until| now < *until) {
            *again = Some(until);
            return;
        }
        self.reported = position;
        self.gather_until = Some(now + GATHER);
        frame::put_answer(&mut self.out, to_sender::RECEIVED, &Payload::of(&[position]).0);
    }
}
