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
//!
//! Here is what the parts have in common: the books and their figures. `intake` is what a sender touches, `dispatch` gives
//! what waits to lanes, `answers` reads what pullers say, `settle` ends a message or takes it back.

mod again;
mod answers;
mod dispatch;
mod intake;
mod settle;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::PoisonError;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use self::again::Again;
pub(crate) use self::intake::{Accepted, Intake, Refused};
use super::age::Ages;
use super::content::Content;
use super::lane::LanePeer;
use super::segment::{Fresh, Segment};
use crate::id::NodeId;
use crate::sync::{Mutex, MutexGuard};
use crate::wire::control::OpenLane;
use crate::wire::frame;

/// Bodies from here on stay the sender's slice. Below it a copy costs less than small chunks cost in QUIC.
const LARGE_BODY: usize = 32 << 10;
/// Chunks below this are gathered into one.
const SMALL_CHUNK: usize = 2048;

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
    ages: Ages,
    /// When it is looked next how far the sequences have come; `None`: at the next accept, which wakes the dispatcher.
    look: Option<Instant>,
    /// Messages that somebody waits for.
    tracked: BTreeSet<u64>,
    /// Somebody may want to know what goes out again.
    tell_again: bool,
    pub(crate) counts: Counts,
    effects: Effects,
}

/// A number for each lane of a socket, never used twice.
pub(crate) type LaneKey = u64;

/// Messages, and the bytes of their headers and bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
    }

    pub(super) fn take(&mut self, messages: u64, bytes: u64) {
        self.messages -= messages;
        self.bytes -= bytes;
    }
}

/// What became of messages, since the socket was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) handled: u64,
    pub(crate) rejected: u64,
    pub(crate) exhausted: u64,
    /// Unsettled when the node ended.
    pub(crate) handed_back: u64,
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
    /// Messages that went out again, where somebody may want to know.
    pub(crate) again: Vec<SentAgain>,
}

/// A message that was dispatched, and not for the first time.
#[derive(Debug)]
pub(crate) struct SentAgain {
    pub(crate) sequence: u64,
    pub(crate) headers: Bytes,
    pub(crate) attempt: u32,
    pub(crate) failures: u32,
    pub(crate) redelivered: bool,
    pub(crate) to: NodeId,
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
    pub(crate) content: Content,
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
    /// Of these the writer knows: what it was never given the puller cannot answer.
    written: u64,
    /// Everything before this position was passed over by an acknowledgement.
    up_to: u64,
    /// The puller says which messages it has handed out; before this position it has.
    taken: u64,
    /// Up to here the puller knows that this is known. A level: a puller that reads nothing makes nothing grow.
    told_heard: u64,
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
    /// Messages in `returned`.
    Again(Again),
}

impl Run {
    fn end(&self) -> u64 {
        self.first
            + match &self.what {
                What::Fresh(fresh) => u64::from(fresh.count()),
                What::Again(again) => again.sequences().len() as u64,
            }
    }

    /// The first unanswered place from this one on.
    fn next_unanswered(&self, from: u32) -> Option<u32> {
        match &self.what {
            What::Fresh(fresh) => fresh.next_unanswered(from),
            What::Again(again) => again.next_unanswered(from),
        }
    }
}

/// A message that came back at least once.
#[derive(Debug)]
struct Returned {
    content: Content,
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
                credit: if planted!(CreditFromNowhere) { Amount { messages: 1, bytes: 1 } } else { Amount::default() },
                waived: 0,
                sent: Amount::default(),
                unanswered: 0,
                handled: 0,
                next_sequence: 0,
                runs: VecDeque::new(),
                told_waiting: false,
                written: 0,
                up_to: 0,
                taken: 0,
                told_heard: 0,
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

    /// How many messages were given to the lanes that there are, each time counted.
    #[cfg(test)]
    pub(crate) fn dispatched(&self) -> u64 {
        self.lanes.values().map(|lane| lane.sent.messages).sum()
    }

    /// How many messages have come back and may go out at once.
    #[cfg(test)]
    pub(crate) fn waiting_again(&self) -> usize {
        self.ready.len()
    }

    /// Whether `Effects::again` is to tell what goes out again.
    pub(crate) fn tell_again(&mut self, tell: bool) {
        self.tell_again = tell;
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
                What::Again(_) => None,
            })
        });
        fresh
            .chain(self.segments.front().map(|segment| segment.first))
            .chain(self.returned.keys().next().copied())
            .min()
    }

    /// Looks, if it is time to, how far the sequences have come, and says when that is next. With `None` the next accept
    /// wakes the dispatcher, which is to ask again then.
    pub(crate) fn look(&mut self, intake: &Mutex<Intake>, now: Instant) -> Option<Instant> {
        if self.look.is_none_or(|at| at <= now) {
            let mut intake = lock(intake);
            let unsettled = self.lowest_unsettled().unwrap_or(u64::MAX).min(intake.first_queued());
            self.look = self.ages.note(now, intake.next_sequence(), unsettled);
            intake.parked |= self.look.is_none();
        }
        self.look
    }

    /// How long ago the oldest message was accepted that is unsettled; `None`: none is.
    pub(crate) fn oldest(&self, intake: &Intake, now: Instant) -> Option<Duration> {
        let unsettled = self.lowest_unsettled().unwrap_or(u64::MAX).min(intake.first_queued());
        (unsettled < intake.next_sequence()).then(|| self.ages.age(now, unsettled))
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
}

/// No code panics while it holds one of these locks unless an invariant is broken already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
