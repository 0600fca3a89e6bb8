//! The pushing side: what is accepted, who gets it, what is kept until it is answered.
//!
//! Two parts, so that senders and the node's thread hardly ever meet. [`Intake`] is all that a sender touches: the bound
//! and the open segment, into which a message is encoded as it is accepted. [`Flight`] belongs to the node's thread:
//! lanes, credit, what is in flight, what goes out again. Whoever needs both locks the flight first.
//!
//! ```text
//! accept ─▶ open segment ─▶ segments ─▶ in flight on a lane ─▶ handled
//!                                ▲            │  nack, return, lane lost
//!                                └─ returned ◀┘─▶ dead: rejected, failures used up
//! ```
//! A message that was never answered otherwise has no record of its own: it is a range of a segment. One that came back
//! has one, in `returned`, until it is settled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::lane::{LanePeer, Violation};
use super::segment::{Fresh, Segment};
use crate::id::NodeId;
use crate::wire::control::OpenLane;
use crate::wire::frame::{self, Head, MAX_HEAD, Numbers, Payload, own_frame, to_receiver, to_sender};
use crate::wire::limits::BACKOFF;

/// Largest allocation of a segment.
const SEGMENT: usize = 256 << 10;
/// The first allocation: a lone message never pins much.
const FIRST_SEGMENT: usize = 256;
/// Bodies from here on stay the sender's slice. Below it a copy costs less than small chunks cost in QUIC.
const LARGE_BODY: usize = 32 << 10;
/// How much of a lane may lie between the choice of the lane and QUIC: what lies there is bound too early.
const OUTGOING: usize = 256 << 10;
/// Chunks below this are gathered into one.
const SMALL_CHUNK: usize = 2048;
/// Messages that go out again leave in runs of at most so many.
const AGAIN_RUN: usize = 256;
/// Allocations that are kept to be used again.
const SPARES: usize = 8;
/// Of how many earlier hands a message remembers that they may still answer.
const GIVEN: usize = 8;

/// What a sender touches.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Everything the socket owns: queued, in flight, backing off, and room that is reserved.
    used: Amount,
    bound: Amount,
    next_sequence: u64,
    open: BytesMut,
    open_count: u32,
    open_payload: u64,
    sealed: VecDeque<Segment>,
    sealed_count: u64,
    /// The dispatcher found nothing here: the next accept wakes it.
    parked: bool,
    closed: bool,
    waiting: Vec<Waker>,
}

/// Messages and the bytes of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    fn add(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
    }
}

/// Why a message was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

impl Intake {
    pub(crate) fn new(bound: Amount) -> Self {
        Self {
            used: Amount::default(),
            bound,
            next_sequence: 0,
            open: BytesMut::new(),
            open_count: 0,
            open_payload: 0,
            sealed: VecDeque::new(),
            sealed_count: 0,
            parked: true,
            closed: false,
            waiting: Vec::new(),
        }
    }

    /// Takes responsibility for a message. `Ok(true)`: the dispatcher must be woken.
    #[inline]
    pub(crate) fn accept(&mut self, body: &Bytes) -> Result<bool, Refused> {
        self.room(body.len())?;
        self.used.add(1, body.len() as u64);
        self.put(body);
        Ok(std::mem::take(&mut self.parked))
    }

    /// Sets room aside for one message of at most so many bytes.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), Refused> {
        self.room(bytes)?;
        self.used.add(1, bytes as u64);
        Ok(())
    }

    /// Accepts into room that was reserved for `reserved` bytes; also when the socket has closed meanwhile.
    pub(crate) fn accept_reserved(&mut self, body: &Bytes, reserved: usize) -> bool {
        self.used.bytes -= (reserved - body.len()) as u64;
        self.put(body);
        std::mem::take(&mut self.parked)
    }

    /// Gives back what was reserved or is settled; the wakers are those who wait for room.
    #[must_use]
    pub(crate) fn release(&mut self, amount: Amount) -> Vec<Waker> {
        self.used.messages -= amount.messages;
        self.used.bytes -= amount.bytes;
        std::mem::take(&mut self.waiting)
    }

    /// To be woken when there may be room.
    pub(crate) fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    /// From now on nothing is accepted; whoever waits for room is told so.
    #[must_use]
    pub(crate) fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        std::mem::take(&mut self.waiting)
    }

    pub(crate) fn used(&self) -> Amount {
        self.used
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A body larger than the whole bound will never find room: how much would.
    pub(crate) fn fits(&self, bytes: usize) -> Result<(), u64> {
        if bytes as u64 <= self.bound.bytes { Ok(()) } else { Err(self.bound.bytes) }
    }

    /// Whether one more message of so many bytes has to wait.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        self.room(bytes) == Err(Refused::Full)
    }

    /// The first sequence that the flight has not been handed yet.
    pub(crate) fn first_queued(&self) -> u64 {
        self.next_sequence - self.queued()
    }

    #[inline]
    fn room(&self, bytes: usize) -> Result<(), Refused> {
        if self.closed {
            Err(Refused::Closed)
        } else if self.used.messages < self.bound.messages && self.used.bytes + bytes as u64 <= self.bound.bytes {
            Ok(())
        } else {
            Err(Refused::Full)
        }
    }

    #[inline]
    fn put(&mut self, body: &Bytes) {
        if body.len() >= LARGE_BODY {
            return self.put_large(body.clone());
        }
        if self.open.capacity() - self.open.len() < body.len() + MAX_HEAD {
            self.grow(body.len());
        }
        frame::put_plain_head(&mut self.open, body.len());
        self.open.extend_from_slice(body);
        self.open_count += 1;
        self.open_payload += body.len() as u64;
        self.next_sequence += 1;
    }

    #[cold]
    fn put_large(&mut self, body: Bytes) {
        self.seal();
        let mut head = BytesMut::with_capacity(8);
        frame::put_plain_head(&mut head, body.len());
        self.sealed.push_back(Segment {
            bytes: head.freeze(),
            count: 1,
            payload: body.len() as u64,
            first: self.next_sequence,
            body: Some(body),
        });
        self.sealed_count += 1;
        self.next_sequence += 1;
    }

    #[cold]
    fn grow(&mut self, body: usize) {
        let (had, need) = (self.open.len(), body + MAX_HEAD);
        if self.open_count > 0 && had + need <= SEGMENT {
            return self.open.reserve(had.max(need));
        }
        self.seal();
        self.open = BytesMut::with_capacity(if had == 0 { FIRST_SEGMENT } else { SEGMENT }.max(need));
    }

    fn seal(&mut self) {
        if self.open_count == 0 {
            return;
        }
        let count = std::mem::take(&mut self.open_count);
        self.sealed.push_back(Segment {
            bytes: std::mem::take(&mut self.open).freeze(),
            body: None,
            count,
            payload: std::mem::take(&mut self.open_payload),
            first: self.next_sequence - u64::from(count),
        });
        self.sealed_count += u64::from(count);
    }

    fn queued(&self) -> u64 {
        self.sealed_count + u64::from(self.open_count)
    }

    /// Hands over everything accepted so far; the next segment is made as large as this one was.
    fn take(&mut self, to: &mut VecDeque<Segment>, spares: &mut Vec<BytesMut>) -> u64 {
        let had = self.open.len();
        self.seal();
        if had > 0 {
            let want = (had + had / 4).next_power_of_two().clamp(FIRST_SEGMENT, SEGMENT);
            let fits = |spare: &BytesMut| (want..=want * 4).contains(&spare.capacity());
            self.open = match spares.iter().position(fits) {
                Some(index) => spares.swap_remove(index),
                None => BytesMut::with_capacity(want),
            };
        }
        to.extend(self.sealed.drain(..));
        std::mem::take(&mut self.sealed_count)
    }
}

/// A number for each lane of a socket, never used twice.
pub(crate) type LaneKey = u64;

/// What the node's thread touches.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    lanes: BTreeMap<LaneKey, Lane>,
    next_lane: LaneKey,
    /// Never dispatched, in order.
    segments: VecDeque<Segment>,
    queued_fresh: u64,
    /// Messages that came back, by sequence, until they are settled: also while they are in flight again.
    returned: BTreeMap<u64, Returned>,
    /// Those of them that go out next, before everything else, the oldest first.
    ready: BTreeSet<u64>,
    /// Those of them that wait for their time.
    delayed: BTreeSet<(Instant, u64)>,
    /// A lane's part of what was taken last, when several have credit.
    share: u64,
    spares: Vec<BytesMut>,
    max_failures: Option<u32>,
    /// Messages that somebody waits for.
    tracked: BTreeSet<u64>,
    pub(crate) counts: Counts,
    effects: Effects,
}

/// What became of messages, since the socket was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) handled: u64,
    pub(crate) rejected: u64,
    pub(crate) exhausted: u64,
    /// Dispatches beyond the first.
    pub(crate) redelivered: u64,
    pub(crate) nacked: u64,
    /// Came back without having been handed out.
    pub(crate) unhanded: u64,
    /// Answers that came over a later lane and still counted.
    pub(crate) late: u64,
}

/// What has to be done once the flight is unlocked.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Is settled: its room is free.
    pub(crate) freed: Amount,
    /// Writers that have something to write.
    pub(crate) wakers: Vec<Waker>,
    /// Messages that somebody waits for and that are settled.
    pub(crate) settled: Vec<(u64, Outcome)>,
    /// Messages that will not be delivered again.
    pub(crate) dead: Vec<Dead>,
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Handled,
    Rejected(String),
    Exhausted(u32),
}

/// A message that was rejected or has used up its failures.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) sequence: u64,
    pub(crate) body: Bytes,
    pub(crate) outcome: Outcome,
    pub(crate) attempt: u32,
    /// Whose answer, or loss, decided it.
    pub(crate) by: NodeId,
}

/// One lane, as the pusher sees it.
#[derive(Debug)]
struct Lane {
    peer: LanePeer,
    /// Cumulative totals that the puller gave.
    credit: Amount,
    /// Messages of it that were handed back.
    waived: u64,
    /// What was dispatched; the messages are the position of the next frame.
    sent: Amount,
    /// In flight: the lane's load.
    unanswered: u64,
    handled: u64,
    /// What the puller expects next; another sequence needs a delta.
    next_sequence: u64,
    runs: VecDeque<Run>,
    /// The puller was told that something waits.
    told_waiting: bool,
    /// The puller says which messages it has handed out; before this position it has.
    taken: u64,
    /// The puller takes no more.
    closing: bool,
    out: Vec<Bytes>,
    out_bytes: usize,
    small: BytesMut,
    /// The writer sleeps.
    writer: Option<Waker>,
}

/// Consecutive positions of a lane.
#[derive(Debug)]
struct Run {
    first: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    /// First dispatches.
    Fresh(Fresh),
    /// Messages in `returned`, and how many of them this run has still to answer for.
    Again { sequences: Box<[u64]>, left: u32 },
}

impl Run {
    fn end(&self) -> u64 {
        self.first
            + match &self.what {
                What::Fresh(fresh) => u64::from(fresh.count()),
                What::Again { sequences, .. } => sequences.len() as u64,
            }
    }
}

/// A message that came back at least once.
#[derive(Debug)]
struct Returned {
    body: Bytes,
    /// Of its last dispatch.
    attempt: u32,
    failures: u32,
    redelivered: bool,
    /// Whom it was given to and who may still answer, with the attempt.
    given: Vec<(NodeId, u32)>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Delayed(Instant),
    InFlight(LaneKey, u64),
}

/// How one message came back.
#[derive(Debug, Clone, Copy)]
struct Back {
    /// A worker failed with it.
    failed: bool,
    /// An application may have been handed it.
    handed: bool,
    /// It may still be answered by whom it was given to.
    may_answer: bool,
    delay: Option<Duration>,
}

impl Flight {
    pub(crate) fn new(max_failures: Option<u32>) -> Self {
        Self { max_failures, ..Self::default() }
    }

    /// A lane to a puller; its first frame is the one that opens it. Nothing is dispatched to a puller that takes smaller
    /// messages than may come.
    pub(crate) fn open_lane(&mut self, peer: LanePeer, open: &OpenLane, max_message: usize) -> LaneKey {
        let closing = peer.max_message < max_message;
        let mut small = BytesMut::new();
        frame::put_open(&mut small, open);
        let key = self.next_lane;
        self.next_lane += 1;
        self.lanes.insert(
            key,
            Lane {
                peer,
                credit: Amount::default(),
                waived: 0,
                sent: Amount::default(),
                unanswered: 0,
                handled: 0,
                next_sequence: 0,
                runs: VecDeque::new(),
                told_waiting: false,
                taken: 0,
                closing,
                out: Vec::new(),
                out_bytes: 0,
                small,
                writer: None,
            },
        );
        key
    }

    /// Whether messages have to be told apart by whether they were handed out.
    pub(crate) fn wants_taken(&self) -> bool {
        self.max_failures.is_some()
    }

    pub(crate) fn lane_count(&self) -> usize {
        self.lanes.values().filter(|lane| !lane.closing).count()
    }

    /// Each lane's peer and figures.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneFigures> + '_ {
        self.lanes.values().map(|lane| LaneFigures {
            node: lane.peer.node,
            in_flight: lane.unanswered,
            sent: lane.sent.messages,
            handled: lane.handled,
            credit: lane.available(),
        })
    }

    /// Something is in flight on this lane.
    pub(crate) fn owes(&self, key: LaneKey) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.unanswered > 0)
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.lanes.values().map(|lane| lane.unanswered).sum()
    }

    /// The message is settled later: `Effects::settled` will name it.
    pub(crate) fn track(&mut self, sequence: u64) {
        self.tracked.insert(sequence);
    }

    /// When the next message's time comes that has to wait for it.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.delayed.first().map(|(due, _)| *due)
    }

    pub(crate) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// No message below this sequence is unsettled, of those that the intake has handed over; `None`: none at all is.
    pub(crate) fn lowest_unsettled(&self) -> Option<u64> {
        let fresh = self.lanes.values().filter_map(|lane| {
            lane.runs.iter().find_map(|run| match &run.what {
                What::Fresh(fresh) => fresh.first_unanswered().map(|index| fresh.sequence(index)),
                What::Again { .. } => None,
            })
        });
        fresh
            .chain(self.segments.front().map(|segment| segment.first))
            .chain(self.returned.keys().next().copied())
            .min()
    }

    /// Gives waiting messages to lanes until one or the other has run out.
    pub(crate) fn dispatch(&mut self, intake: &Mutex<Intake>, now: Instant) {
        while self.delayed.first().is_some_and(|(due, _)| *due <= now) {
            let (_, sequence) = self.delayed.pop_first().expect("looked at");
            self.returned.get_mut(&sequence).expect("what is delayed came back").place = Place::Ready;
            self.ready.insert(sequence);
        }
        while let Some((key, able)) = self.choose() {
            if self.ready.is_empty() && self.segments.is_empty() {
                let mut intake = lock(intake);
                self.queued_fresh += intake.take(&mut self.segments, &mut self.spares);
                if self.segments.is_empty() {
                    intake.parked = true;
                    break;
                }
                self.share = self.queued_fresh.div_ceil(able);
            }
            let lane = self.lanes.get_mut(&key).expect("just chosen");
            let (credit, bytes) = (lane.available(), lane.credit.bytes - lane.sent.bytes);
            if !self.ready.is_empty() {
                self.send_again(key, credit.min(AGAIN_RUN as u64), bytes);
            } else if let Some(mut segment) = self.segments.pop_front() {
                let share = if able > 1 { self.share.max(1) } else { u64::MAX };
                let most = credit.min(share).min(u64::from(segment.count)) as u32;
                if most < segment.count || (segment.payload > bytes && segment.count > 1) {
                    let rest = segment.split(most, bytes);
                    rest.into_iter().for_each(|rest| self.segments.push_front(rest));
                }
                self.queued_fresh -= u64::from(segment.count);
                lane.send_fresh(segment);
            }
            self.wake_writer(key);
        }
        self.tell_waiting(intake);
    }

    /// Least loaded of the lanes that have credit and are not behind with writing, and how many have credit.
    fn choose(&self) -> Option<(LaneKey, u64)> {
        let (mut best, mut able) = (None::<(LaneKey, u64)>, 0);
        for (key, lane) in &self.lanes {
            if lane.closing || lane.available() == 0 || lane.sent.bytes >= lane.credit.bytes {
                continue;
            }
            able += 1;
            if lane.out_bytes < OUTGOING && best.is_none_or(|(_, load)| lane.unanswered < load) {
                best = Some((*key, lane.unanswered));
            }
        }
        best.map(|(key, _)| (key, able))
    }

    /// Pullers that give credit by slots are told when work waits for them and when none does any more.
    fn tell_waiting(&mut self, intake: &Mutex<Intake>) {
        if !self.lanes.values().any(|lane| lane.peer.slots) {
            return;
        }
        let mut queued = self.ready.len() as u64 + self.queued_fresh;
        {
            let mut intake = lock(intake);
            queued += intake.queued();
            intake.parked |= queued == 0;
        }
        for lane in self.lanes.values_mut().filter(|lane| lane.peer.slots && !lane.closing) {
            let unspent = lane.available();
            if lane.told_waiting == (queued > 0) && (queued > 0 || unspent == 0) {
                continue;
            }
            lane.told_waiting = queued > 0;
            let waiting = Payload::of(&[queued, 0]);
            frame::put_control(&mut lane.small, to_receiver::WAITING, &waiting.0);
            if queued == 0 && unspent > 0 {
                lane.waived += unspent;
                frame::put_control(&mut lane.small, to_receiver::WAIVE, &Payload::of(&[lane.waived]).0);
            }
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    fn wake_writer(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    fn send_again(&mut self, key: LaneKey, most: u64, bytes: u64) {
        let lane = self.lanes.get_mut(&key).expect("just chosen");
        let first = lane.sent.messages;
        let (mut sequences, mut sum) = (Vec::new(), 0);
        while (sequences.len() as u64) < most && sum < bytes {
            let Some(sequence) = self.ready.pop_first() else { break };
            let message = self.returned.get_mut(&sequence).expect("what is ready came back");
            message.attempt = message.attempt.saturating_add(1);
            message.place = Place::InFlight(key, lane.sent.messages);
            sum += message.body.len() as u64;
            lane.send_returned(sequence, message);
            sequences.push(sequence);
        }
        self.counts.redelivered += sequences.len() as u64;
        lane.unanswered += sequences.len() as u64;
        let left = sequences.len() as u32;
        lane.runs.push_back(Run { first, what: What::Again { sequences: sequences.into(), left } });
    }

    /// What this lane's writer takes now. Nothing: its waker is kept.
    pub(crate) fn take_outgoing(&mut self, key: LaneKey, waker: &Waker, out: &mut Vec<Bytes>) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        lane.flush();
        out.append(&mut lane.out);
        if out.is_empty() {
            lane.writer = Some(waker.clone());
        } else {
            lane.out_bytes = 0;
        }
        !out.is_empty()
    }

    /// The writer is about to take: what lay before it is in QUIC's hands.
    pub(crate) fn writer_turn(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.out_bytes = 0;
        }
    }

    /// The lane has nothing to say any more: the puller takes no more and owes nothing.
    pub(crate) fn is_finished(&self, key: LaneKey) -> bool {
        let over = |lane: &Lane| lane.closing && lane.unanswered == 0 && lane.out.is_empty() && lane.small.is_empty();
        self.lanes.get(&key).is_none_or(over)
    }

    /// All lanes look again whether they are finished.
    pub(crate) fn wake_all(&mut self) {
        for lane in self.lanes.values_mut() {
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    /// One frame from a puller.
    pub(crate) fn handle_answer(
        &mut self,
        key: LaneKey,
        kind: u8,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Violation> {
        let Some(lane) = self.lanes.get_mut(&key) else { return Ok(()) };
        let mut numbers = Numbers::new(payload);
        match kind {
            to_sender::CREDIT => {
                let (messages, bytes) = (numbers.next()?, numbers.next()?);
                lane.credit.messages = lane.credit.messages.max(messages);
                lane.credit.bytes = lane.credit.bytes.max(bytes);
            }
            to_sender::ACK_UP_TO => {
                let position = numbers.next()?;
                lane.check(position)?;
                self.ack_up_to(key, position);
            }
            to_sender::ACK => {
                while let Some(range) = numbers.range()? {
                    self.check(key, range.end)?;
                    self.each_in(key, range, |flight, sequence, body, _| {
                        flight.settle_answered(key, sequence, body.map(|body| body.len()));
                    });
                }
            }
            to_sender::NACK => {
                let delay = numbers.next()?.checked_sub(1).map(Duration::from_millis);
                let back = Back { failed: true, handed: true, may_answer: false, delay };
                while let Some(range) = numbers.range()? {
                    self.check(key, range.end)?;
                    self.counts.nacked += self.each_back(key, range, back, now);
                }
            }
            to_sender::REJECT => {
                let position = numbers.next()?;
                self.check(key, position + 1)?;
                let outcome = Outcome::Rejected(numbers.reason()?.to_owned());
                self.each_in(key, position..position + 1, |flight, sequence, body, attempt| {
                    flight.lane_answered(key);
                    flight.bury(key, sequence, body, attempt, outcome.clone());
                });
            }
            to_sender::RETURN => {
                let back = Back { failed: false, handed: false, may_answer: false, delay: None };
                while let Some(range) = numbers.range()? {
                    self.check(key, range.end)?;
                    self.counts.unhanded += self.each_back(key, range, back, now);
                }
            }
            to_sender::TAKEN => {
                let total = numbers.next()?;
                lane.check(total)?;
                lane.taken = lane.taken.max(total);
                frame::put_control(&mut lane.small, to_receiver::HEARD, &Payload::of(&[lane.taken]).0);
                self.wake_writer(key);
            }
            to_sender::LATE => self.late(key, numbers)?,
            to_sender::CLOSING => {
                lane.closing = true;
                self.wake_writer(key);
            }
            0x40.. => {}
            _ => return Err(Violation("an answer is of a kind that this revision does not know")),
        }
        Ok(())
    }

    /// The lane is over: everything that it owes goes to the front of the queue again, in order.
    pub(crate) fn close_lane(&mut self, key: LaneKey, now: Instant) {
        let Some(lane) = self.lanes.remove(&key) else { return };
        let wants_taken = self.wants_taken();
        // What had come back before the lane took it goes by its record, what went out for the first time gets one.
        let back = |flight: &mut Self, position: u64, sequence: u64, fresh: Option<Bytes>| {
            let handed = !wants_taken || position < lane.taken;
            let failed = wants_taken && handed;
            let back = Back { failed, handed, may_answer: handed, delay: failed.then_some(Duration::ZERO) };
            flight.come_back(lane.peer.node, sequence, fresh, back, now);
        };
        for run in lane.runs {
            match run.what {
                What::Fresh(fresh) => {
                    for (sequence, index, body) in fresh.unanswered() {
                        back(self, run.first + u64::from(index), sequence, Some(body));
                    }
                }
                What::Again { sequences, .. } => {
                    for (index, sequence) in sequences.iter().enumerate() {
                        let position = run.first + index as u64;
                        if self.is_at(*sequence, key, position) {
                            back(self, position, *sequence, None);
                        }
                    }
                }
            }
        }
    }

    /// Hands back everything that is unsettled, in the order of acceptance; nothing is owned afterwards.
    pub(crate) fn drain(&mut self, intake: &mut Intake) -> Vec<Bytes> {
        intake.take(&mut self.segments, &mut Vec::new());
        let mut all: BTreeMap<u64, Bytes> = std::mem::take(&mut self.returned)
            .into_iter()
            .map(|(sequence, message)| (sequence, message.body))
            .collect();
        for lane in self.lanes.values_mut() {
            for run in lane.runs.drain(..) {
                if let What::Fresh(fresh) = run.what {
                    all.extend(fresh.unanswered().into_iter().map(|(sequence, _, body)| (sequence, body)));
                }
            }
            lane.unanswered = 0;
        }
        for segment in self.segments.drain(..) {
            all.extend((segment.first..).zip(segment.bodies()));
        }
        self.ready.clear();
        self.delayed.clear();
        self.queued_fresh = 0;
        let bodies: Vec<Bytes> = all.into_values().collect();
        self.effects.freed.add(bodies.len() as u64, bodies.iter().map(|body| body.len() as u64).sum());
        bodies
    }

    fn check(&self, key: LaneKey, end: u64) -> Result<(), Violation> {
        self.lanes.get(&key).map_or(Ok(()), |lane| lane.check(end))
    }

    fn is_at(&self, sequence: u64, key: LaneKey, position: u64) -> bool {
        self.returned.get(&sequence).is_some_and(|message| message.place == Place::InFlight(key, position))
    }

    /// The usual answer: everything before this position that was not answered otherwise is handled.
    fn ack_up_to(&mut self, key: LaneKey, position: u64) {
        loop {
            let Some(lane) = self.lanes.get_mut(&key) else { return };
            let Some(run) = lane.runs.front_mut() else { return };
            if position <= run.first {
                return;
            }
            let (first, end) = (run.first, run.end());
            match &mut run.what {
                What::Fresh(fresh) => {
                    let index = (position.min(end) - first) as u32;
                    let mut settled = Vec::new();
                    if !self.tracked.is_empty() {
                        let unanswered = (0..index).filter(|index| !fresh.is_answered(*index));
                        settled.extend(unanswered.map(|index| fresh.sequence(index)));
                    }
                    let (messages, bytes) = fresh.answer_up_to(index);
                    lane.unanswered -= u64::from(messages);
                    lane.handled += u64::from(messages);
                    self.counts.handled += u64::from(messages);
                    self.effects.freed.add(u64::from(messages), bytes);
                    for sequence in settled {
                        self.tell(sequence, Outcome::Handled);
                    }
                }
                What::Again { sequences, .. } => {
                    let sequences = sequences[..(position.min(end) - first) as usize].to_vec();
                    for (at, sequence) in (first..).zip(sequences) {
                        if self.is_at(sequence, key, at) {
                            self.settle_answered(key, sequence, None);
                        }
                    }
                }
            }
            if position < end {
                return;
            }
            self.drop_front(key);
        }
    }

    fn drop_front(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let Some(Run { what: What::Fresh(fresh), .. }) = lane.runs.pop_front() else { return };
        if self.spares.len() < SPARES {
            self.spares.extend(fresh.into_spare().filter(|spare| spare.capacity() >= SMALL_CHUNK));
        }
    }

    /// Calls `each(sequence, body, attempt)` for the messages at these positions that are unanswered. A run that is
    /// answered in full is let go at once, wherever it stands: one that hangs must not keep those behind it.
    fn each_in(
        &mut self,
        key: LaneKey,
        range: std::ops::Range<u64>,
        mut each: impl FnMut(&mut Self, u64, Option<Bytes>, u32),
    ) -> u64 {
        let mut count = 0;
        let mut position = range.start;
        while position < range.end {
            let Some(lane) = self.lanes.get_mut(&key) else { break };
            let at = lane.runs.partition_point(|run| run.end() <= position);
            let Some(run) = lane.runs.get_mut(at) else { break };
            position = position.max(run.first);
            if position >= range.end {
                break;
            }
            let index = (position - run.first) as usize;
            match &mut run.what {
                What::Fresh(fresh) => {
                    let sequence = fresh.sequence(index as u32);
                    let body = fresh.answer(index as u32);
                    if fresh.left == 0 {
                        lane.runs.remove(at);
                    }
                    if body.is_some() {
                        count += 1;
                        each(self, sequence, body, 1);
                    }
                }
                What::Again { sequences, left } => {
                    let sequence = sequences[index];
                    let message = self.returned.get(&sequence);
                    let message = message.filter(|message| message.place == Place::InFlight(key, position));
                    if let Some(attempt) = message.map(|message| message.attempt) {
                        *left -= 1;
                        if *left == 0 {
                            lane.runs.remove(at);
                        }
                        count += 1;
                        each(self, sequence, None, attempt);
                    }
                }
            }
            position += 1;
        }
        count
    }

    fn each_back(&mut self, key: LaneKey, range: std::ops::Range<u64>, back: Back, now: Instant) -> u64 {
        let node = self.lanes.get(&key).map(|lane| lane.peer.node);
        self.each_in(key, range, |flight, sequence, body, _| {
            flight.lane_answered(key);
            if let Some(node) = node {
                // A single message must not pin the allocation that it came in.
                let body = body.map(|body| if body.len() < LARGE_BODY { Bytes::copy_from_slice(&body) } else { body });
                flight.come_back(node, sequence, body, back, now);
            }
        })
    }

    fn lane_answered(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.unanswered -= 1;
        }
    }

    /// A message is handled. Its room is free.
    fn settle_answered(&mut self, key: LaneKey, sequence: u64, fresh: Option<usize>) {
        self.lane_answered(key);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.handled += 1;
        }
        self.settle(sequence, fresh, Outcome::Handled);
    }

    /// `fresh`: the length of a body that has no record.
    fn settle(&mut self, sequence: u64, fresh: Option<usize>, outcome: Outcome) {
        let returned = self.returned.remove(&sequence).map(|message| message.body.len());
        let bytes = fresh.or(returned).unwrap_or(0);
        match outcome {
            Outcome::Handled => self.counts.handled += 1,
            Outcome::Rejected(_) => self.counts.rejected += 1,
            Outcome::Exhausted(_) => self.counts.exhausted += 1,
        }
        self.effects.freed.add(1, bytes as u64);
        self.tell(sequence, outcome);
    }

    fn tell(&mut self, sequence: u64, outcome: Outcome) {
        if self.tracked.remove(&sequence) {
            self.effects.settled.push((sequence, outcome));
        }
    }

    /// A message will not be delivered again.
    fn bury(&mut self, key: LaneKey, sequence: u64, body: Option<Bytes>, attempt: u32, outcome: Outcome) {
        let Some(by) = self.lanes.get(&key).map(|lane| lane.peer.node) else { return };
        let body =
            body.or_else(|| self.returned.get(&sequence).map(|message| message.body.clone())).unwrap_or_default();
        self.bury_by(by, sequence, body, attempt, outcome);
    }

    fn bury_by(&mut self, by: NodeId, sequence: u64, body: Bytes, attempt: u32, outcome: Outcome) {
        self.settle(sequence, Some(body.len()), outcome.clone());
        self.effects.dead.push(Dead { sequence, body, outcome, attempt, by });
    }

    /// A message goes back to the queue, unless its failures are used up.
    fn come_back(&mut self, from: NodeId, sequence: u64, fresh: Option<Bytes>, back: Back, now: Instant) {
        if let Some(body) = fresh {
            let message =
                Returned { body, attempt: 1, failures: 0, redelivered: false, given: Vec::new(), place: Place::Ready };
            self.returned.insert(sequence, message);
        }
        let Some(message) = self.returned.get_mut(&sequence) else { return };
        message.redelivered |= back.handed;
        if back.failed {
            message.failures = message.failures.saturating_add(1);
        }
        if back.may_answer {
            if message.given.len() == GIVEN {
                message.given.remove(0);
            }
            message.given.push((from, message.attempt));
        }
        if back.failed && self.max_failures.is_some_and(|most| message.failures >= most) {
            let (body, attempt, failures) = (message.body.clone(), message.attempt, message.failures);
            return self.bury_by(from, sequence, body, attempt, Outcome::Exhausted(failures));
        }
        let delay = back.delay.unwrap_or_else(|| match message.failures {
            0 => Duration::ZERO,
            failures => BACKOFF[(failures as usize - 1).min(BACKOFF.len() - 1)],
        });
        if delay.is_zero() || !back.failed {
            message.place = Place::Ready;
            self.ready.insert(sequence);
        } else {
            let due = now + delay;
            message.place = Place::Delayed(due);
            self.delayed.insert((due, sequence));
        }
    }

    /// An answer for a delivery that came over an earlier lane: it counts if it comes first, from a node that was given
    /// that very attempt.
    fn late(&mut self, key: LaneKey, mut numbers: Numbers<'_>) -> Result<(), Violation> {
        let (sequence, attempt) = (numbers.next()?, numbers.next()?);
        let (kind, detail) = (numbers.next()?, numbers);
        let Some(node) = self.lanes.get(&key).map(|lane| lane.peer.node) else { return Ok(()) };
        let Some(message) = self.returned.get_mut(&sequence) else { return Ok(()) };
        let Some(known) = message.given.iter().position(|(to, which)| *to == node && u64::from(*which) == attempt)
        else {
            return Ok(());
        };
        message.given.remove(known);
        let place = message.place;
        let attempt = attempt as u32;
        match kind as u8 {
            to_sender::ACK => {
                self.leave(sequence, place);
                self.counts.late += 1;
                self.settle(sequence, None, Outcome::Handled);
            }
            to_sender::REJECT => {
                let outcome = Outcome::Rejected(detail.reason()?.to_owned());
                self.leave(sequence, place);
                self.counts.late += 1;
                let body = self.returned.get(&sequence).map(|message| message.body.clone()).unwrap_or_default();
                self.bury_by(node, sequence, body, attempt, outcome);
            }
            // It came back already, when the lane was lost.
            to_sender::NACK => {}
            _ => return Err(Violation("a late answer is of a kind that this revision does not know")),
        }
        Ok(())
    }

    /// Takes a message from where it is, before it is settled from elsewhere.
    fn leave(&mut self, sequence: u64, place: Place) {
        match place {
            Place::Ready => {
                self.ready.remove(&sequence);
            }
            Place::Delayed(due) => {
                self.delayed.remove(&(due, sequence));
            }
            Place::InFlight(key, _) => self.lane_answered(key),
        }
    }
}

/// Figures of one lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneFigures {
    pub(crate) node: NodeId,
    pub(crate) in_flight: u64,
    pub(crate) sent: u64,
    pub(crate) handled: u64,
    pub(crate) credit: u64,
}

impl Lane {
    /// Messages that may still be dispatched.
    fn available(&self) -> u64 {
        self.credit.messages.saturating_sub(self.waived + self.sent.messages)
    }

    fn check(&self, end: u64) -> Result<(), Violation> {
        if end > self.sent.messages {
            return Err(Violation("an answer names a message that was never sent"));
        }
        Ok(())
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.out.push(self.small.split().freeze());
        }
    }

    fn send_fresh(&mut self, segment: Segment) {
        let mut wire = segment.bytes.clone();
        let delta = segment.first.wrapping_sub(self.next_sequence) as i64;
        if delta != 0 {
            // Only the lane's copy of the first head says so: what is retained stays plain.
            let (head, body) = own_frame(&wire);
            frame::put_head(&mut self.small, body, Head { delta, ..Head::PLAIN });
            wire.advance(head);
        }
        self.out_bytes += wire.len();
        if wire.len() <= SMALL_CHUNK {
            self.small.extend_from_slice(&wire);
        } else {
            self.flush();
            self.out.push(wire);
        }
        if let Some(body) = &segment.body {
            self.flush();
            self.out_bytes += body.len();
            self.out.push(body.clone());
        }
        let first = self.sent.messages;
        self.next_sequence = segment.first + u64::from(segment.count);
        self.sent.add(u64::from(segment.count), segment.payload);
        self.unanswered += u64::from(segment.count);
        self.runs.push_back(Run { first, what: What::Fresh(Fresh::new(segment)) });
    }

    fn send_returned(&mut self, sequence: u64, message: &Returned) {
        let head = Head {
            delta: sequence.wrapping_sub(self.next_sequence) as i64,
            attempt: message.attempt,
            failures: message.failures,
            redelivered: message.redelivered,
        };
        frame::put_head(&mut self.small, message.body.len(), head);
        if message.body.len() > SMALL_CHUNK {
            self.flush();
            self.out.push(message.body.clone());
        } else {
            self.small.extend_from_slice(&message.body);
        }
        self.next_sequence = sequence + 1;
        self.sent.add(1, message.body.len() as u64);
        self.out_bytes += message.body.len() + MAX_HEAD;
    }
}

/// No code panics while it holds one of these locks unless an invariant is broken already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
