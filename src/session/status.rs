//! Questions for the other node's status and their answers: at most one open each way, so nothing queues.

use std::collections::VecDeque;
use std::time::Instant;

use crate::wire::Violation;
use crate::wire::control::Status;
use crate::wire::limits::STATUS_INTERVAL;

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Asks {
    ask: Ask,
    /// The parts of the peer's answer so far.
    heard: Option<Box<Status>>,
    /// The peer has asked, and no answer is made yet.
    asked: bool,
    /// The rest of the answer on its way to the peer.
    parts: VecDeque<Status>,
    /// When the last answer was made.
    answered: Option<Instant>,
}

/// This end's question.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Ask {
    #[default]
    None,
    /// It is to be written.
    Wanted,
    /// The answer is to come.
    Open,
}

impl Asks {
    /// Asks the peer, unless its answer to an earlier question is still to come.
    pub(super) fn ask(&mut self) {
        if self.ask == Ask::None {
            self.ask = Ask::Wanted;
        }
    }

    /// The question is to be written now.
    pub(super) fn poll_ask(&mut self) -> bool {
        let wanted = self.ask == Ask::Wanted;
        if wanted {
            self.ask = Ask::Open;
        }
        wanted
    }

    /// Takes a part of the answer; all of it, when it was the last.
    pub(super) fn handle_status(&mut self, part: Box<Status>) -> Result<Option<Box<Status>>, Violation> {
        if self.ask != Ask::Open {
            return Err(Violation("a status that nobody asked for"));
        }
        let whole = match self.heard.take() {
            None => part,
            Some(mut whole) => {
                whole.extend(*part)?;
                whole
            }
        };
        if whole.more {
            self.heard = Some(whole);
            return Ok(None);
        }
        self.ask = Ask::None;
        Ok(Some(whole))
    }

    /// The peer asks.
    pub(super) fn handle_ask(&mut self) -> Result<(), Violation> {
        if self.asked || !self.parts.is_empty() {
            return Err(Violation("a question for the status before the last one was answered"));
        }
        self.asked = true;
        Ok(())
    }

    /// An answer is owed, and the time for it has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.asked && self.answered.is_none_or(|answered| now.saturating_duration_since(answered) >= STATUS_INTERVAL)
    }

    pub(super) fn answer(&mut self, now: Instant, status: Status) {
        // Made without the session's lock: the question may have been answered meanwhile.
        if self.is_due(now) {
            self.asked = false;
            self.answered = Some(now);
            self.parts = status.into_parts().into();
        }
    }

    pub(super) fn next_part(&mut self) -> Option<Status> {
        self.parts.pop_front()
    }
}
