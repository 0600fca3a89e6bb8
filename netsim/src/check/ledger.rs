//! What becomes of every message.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Violation;
use super::books::Books;

/// The name of a node, a host or a socket; cheap to clone.
pub type Name = Arc<str>;

/// Holds what becomes of every message of a run; clones are the same ledger.
///
/// Whoever sees something tells it: the sender what was accepted and how it ended, the receiver what an application was
/// handed and what it answered, the scenario what has crashed. The rules:
///
/// - a message is accepted once
/// - only what was accepted is delivered
/// - `redelivered` is false only for what no application was handed before
/// - an attempt is handed out once
/// - a failure is counted only for what was handed out
/// - an answer is for a delivery, and each has one
/// - handled is only what an application has acknowledged, rejected only what one has rejected
/// - a message ends once, and nothing of it goes out again afterwards
/// - nothing goes out before its time
/// - every accepted message ends in exactly one state
///
/// The first rule that is broken is kept: [`check`](Self::check) and [`finish`](Self::finish) tell it. `Id` is whatever
/// names a message in the test, a text unless it says otherwise.
pub struct Ledger<Id = &'static str>(Arc<Mutex<Books<Id>>>);

/// How a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// 1 for the first dispatch.
    pub attempt: u32,
    /// How often it has failed before.
    pub failures: u32,
    /// False is a guarantee: no application was handed it before, or only a moment ago, when the word that this one was
    /// given up was on its way.
    pub redelivered: bool,
}

impl Delivered {
    /// With no failures.
    pub const fn new(attempt: u32, redelivered: bool) -> Self {
        Self { attempt, failures: 0, redelivered }
    }

    /// It has failed so often before.
    pub const fn failures(self, failures: u32) -> Self {
        Self { failures, ..self }
    }
}

/// What an application said to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It is handled.
    Acked,
    /// It failed.
    Nacked,
    /// It must never be delivered again.
    Rejected,
    /// Nothing: the delivery was dropped, and goes back.
    Dropped,
}

/// How a message ended, as its sender was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// An application has acknowledged it.
    Handled,
    /// An application has rejected it.
    Rejected,
    /// It has failed so often, which is as often as it may.
    Exhausted(u32),
    /// The sender's node has ended and handed it back.
    HandedBack,
    /// The sender has crashed and held it only in memory.
    Lost,
}

/// How many messages were where, at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The sender took responsibility.
    pub accepted: u64,
    /// Handed to an application, each time counted.
    pub delivered: u64,
    /// Answers: acknowledged, each time counted.
    pub acknowledged: u64,
    /// Answers: failed.
    pub nacked: u64,
    /// Answers: never again.
    pub refused: u64,
    /// Dropped without an answer.
    pub dropped: u64,
    /// Messages that were handed out more than once.
    pub duplicated: u64,
    /// The highest attempt that was handed out.
    pub attempts: u32,
    /// Ended: handled.
    pub handled: u64,
    /// Ended: rejected.
    pub rejected: u64,
    /// Ended: failures used up.
    pub exhausted: u64,
    /// Ended: handed back.
    pub handed_back: u64,
    /// Ended: lost with its sender.
    pub lost: u64,
}

impl<Id> Clone for Ledger<Id> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Id: Ord + Clone + fmt::Display> Default for Ledger<Id> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Id> fmt::Debug for Ledger<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl<Id: Ord + Clone + fmt::Display> Ledger<Id> {
    /// Nothing is accepted.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Books::new())))
    }

    /// A sender took responsibility for a message.
    pub fn accepted(&self, now: Duration, id: Id, by: impl Into<Name>) {
        self.books().accepted(now, id, by.into());
    }

    /// Seen at the sender: the message goes out, as this attempt. A test that can't see this leaves it out.
    pub fn dispatched(&self, now: Duration, id: Id, to: impl Into<Name>, attempt: u32) {
        self.books().dispatched(now, &id, to.into(), attempt);
    }

    /// Seen at the sender: it was told that an application is about to be handed this attempt, so that it counts as
    /// failed when the receiver is lost now. A test that can't see this leaves it out, and counts no failures.
    pub fn announced(&self, now: Duration, id: Id, to: impl Into<Name>, attempt: u32) {
        self.books().announced(now, &id, to.into(), attempt);
    }

    /// Seen at the sender: the message waits until then, as whoever has failed with it has asked for.
    pub fn delayed(&self, now: Duration, id: Id, until: Duration) {
        self.books().delayed(now, &id, until);
    }

    /// A sender has given a receiver up and says so, and its word arrives at that time only. Without this it is taken for
    /// heard a moment later: what the receiver takes for new after that, nobody else may have been handed.
    pub fn given_up(&self, receiver: impl Into<Name>, heard: Duration) {
        self.books().given_up(receiver.into(), heard);
    }

    /// An application was handed a message.
    pub fn delivered(&self, now: Duration, id: Id, to: impl Into<Name>, how: Delivered) {
        self.books().delivered(now, &id, to.into(), how);
    }

    /// An application has answered a delivery.
    pub fn answered(&self, now: Duration, id: Id, by: impl Into<Name>, attempt: u32, answer: Answer) {
        self.books().answered(now, &id, by.into(), attempt, answer);
    }

    /// An application has acknowledged a delivery.
    pub fn acknowledged(&self, now: Duration, id: Id, by: impl Into<Name>, attempt: u32) {
        self.answered(now, id, by, attempt, Answer::Acked);
    }

    /// The sender was told how a message ended.
    pub fn settled(&self, now: Duration, id: Id, end: End) {
        self.books().settled(now, &id, end);
    }

    /// The sender was told that everything it had accepted is settled (`flush`): what an application has acknowledged
    /// counts as handled, what one has rejected as rejected, and nothing else may be open.
    pub fn flushed(&self, now: Duration, by: impl Into<Name>) {
        self.books().flushed(now, &by.into());
    }

    /// A node has crashed: what it had accepted is lost unless it is settled, what its applications had in hand is gone.
    pub fn crashed(&self, now: Duration, who: impl Into<Name>) {
        self.books().crashed(now, &who.into());
    }

    /// How many messages are accepted and have not ended.
    pub fn open(&self) -> usize {
        self.books().open()
    }

    /// How a message has ended, if it has.
    pub fn end(&self, id: &Id) -> Option<End> {
        self.books().end(id)
    }

    /// All that has happened to a message, a line each.
    pub fn history(&self, id: &Id) -> Vec<String> {
        self.books().history(id)
    }

    /// How many messages are where by now.
    pub fn summary(&self) -> Summary {
        self.books().summary()
    }

    /// # Errors
    /// The first rule that was broken up to now.
    pub fn check(&self) -> Result<(), Violation> {
        self.books().check()
    }

    /// The run is over.
    ///
    /// # Errors
    /// The first rule that was broken, or a message that has not ended.
    pub fn finish(&self, now: Duration) -> Result<Summary, Violation> {
        self.books().finish(now)
    }

    fn books(&self) -> MutexGuard<'_, Books<Id>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handled => f.write_str("handled"),
            Self::Rejected => f.write_str("rejected"),
            Self::Exhausted(failures) => write!(f, "dead after {failures} failures"),
            Self::HandedBack => f.write_str("handed back"),
            Self::Lost => f.write_str("lost with its sender"),
        }
    }
}
