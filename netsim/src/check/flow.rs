//! What may be under way: the bound of a sending socket, and the credit of a lane.

use super::Violation;

/// Holds what a sending socket owns against its bound: "messages and bytes, of everything that is accepted and not
/// settled, and of room that is set aside".
#[derive(Debug, Clone, Default)]
pub struct Bound {
    who: String,
    bound: (u64, u64),
    owned: (u64, u64),
}

impl Bound {
    /// The bound of this socket, in messages and bytes.
    pub fn new(who: impl Into<String>, messages: u64, bytes: u64) -> Self {
        Self { who: who.into(), bound: (messages, bytes), owned: (0, 0) }
    }

    /// A message of so many bytes was accepted, or room for one was set aside.
    pub fn took(&mut self, bytes: u64) {
        self.owned.0 += 1;
        self.owned.1 += bytes;
    }

    /// One of so many bytes was settled, or its room was given back.
    pub fn gave(&mut self, bytes: u64) {
        self.owned.0 = self.owned.0.saturating_sub(1);
        self.owned.1 = self.owned.1.saturating_sub(bytes);
    }

    /// What the socket should own: messages and bytes.
    pub fn owned(&self) -> (u64, u64) {
        self.owned
    }

    /// Compares with what the socket says that it owns.
    ///
    /// # Errors
    /// It says something else, or owns more than its bound.
    pub fn check(&self, messages: u64, bytes: u64) -> Result<(), Violation> {
        let Self { who, bound, owned } = self;
        if (messages, bytes) != *owned {
            return Err(Violation::new(
                CONSERVED,
                format!(
                    "{who} says {messages} messages of {bytes} bytes, of which {} of {} are owned",
                    owned.0, owned.1
                ),
            ));
        }
        if messages > bound.0 || bytes > bound.1 {
            return Err(Violation::new(
                WITHIN,
                format!("{who} owns {messages} messages of {bytes} bytes, and may own {} of {}", bound.0, bound.1),
            ));
        }
        Ok(())
    }
}

/// Holds what goes over one lane against the credit that was given for it: "nothing is sent without credit; what is
/// answered was sent, and is answered once".
///
/// Positions count the messages of a lane from 0; totals are cumulative and die with the lane.
#[derive(Debug, Clone)]
pub struct Credit {
    lane: String,
    credit: (u64, u64),
    waived: u64,
    sent: u64,
    bytes: u64,
    /// By position: 64 a word.
    answered: Vec<u64>,
    /// Everything before it is answered.
    front: u64,
    left: u64,
    overshoot: u64,
}

impl Credit {
    /// A new lane: no credit. `overshoot`: by so many bytes one message may exceed its credit in bytes.
    pub fn new(lane: impl Into<String>, overshoot: u64) -> Self {
        let lane = lane.into();
        Self { lane, credit: (0, 0), waived: 0, sent: 0, bytes: 0, answered: Vec::new(), front: 0, left: 0, overshoot }
    }

    /// The receiver gives credit, in total.
    ///
    /// # Errors
    /// A total shrinks.
    pub fn given(&mut self, messages: u64, bytes: u64) -> Result<(), Violation> {
        if messages < self.credit.0 || bytes < self.credit.1 {
            let what = format!("{}: {messages}, {bytes} after {}, {}", self.lane, self.credit.0, self.credit.1);
            return Err(Violation::new(TOTALS, what));
        }
        self.credit = (messages, bytes);
        Ok(())
    }

    /// The sender hands unspent credit back, in total.
    ///
    /// # Errors
    /// It does not have so much.
    pub fn waived(&mut self, total: u64) -> Result<(), Violation> {
        if total < self.waived || total + self.sent > self.credit.0 {
            let what = format!("{}: {total} waived, {} sent, {} given", self.lane, self.sent, self.credit.0);
            return Err(Violation::new(WITHOUT, what));
        }
        self.waived = total;
        Ok(())
    }

    /// The sender sends one message of so many bytes: its position.
    ///
    /// # Errors
    /// There is no credit for it.
    pub fn sent(&mut self, bytes: u64) -> Result<u64, Violation> {
        let position = self.sent;
        if position + self.waived >= self.credit.0 || self.bytes + bytes > self.credit.1 + self.overshoot {
            let Self { lane, credit, waived, bytes: before, .. } = self;
            let what = format!(
                "{lane}: message {position} of {bytes} bytes; {} messages, {} bytes were given, {waived} waived, {before} bytes sent",
                credit.0, credit.1
            );
            return Err(Violation::new(WITHOUT, what));
        }
        self.sent += 1;
        self.left += 1;
        self.bytes += bytes;
        if position.is_multiple_of(64) {
            self.answered.push(0);
        }
        Ok(position)
    }

    /// The receiver answers the message at this position.
    ///
    /// # Errors
    /// It was not sent, or is answered already.
    pub fn answered(&mut self, position: u64) -> Result<(), Violation> {
        if position >= self.sent || self.is_answered(position) {
            let why = if position >= self.sent { "which was not sent" } else { "which is answered already" };
            return Err(Violation::new(ANSWERED, format!("{}: an answer for position {position}, {why}", self.lane)));
        }
        self.answered[position as usize / 64] |= 1 << (position % 64);
        self.left -= 1;
        Ok(())
    }

    /// Everything before this position that was not answered otherwise is answered: those.
    ///
    /// # Errors
    /// It was not sent.
    pub fn answered_up_to(&mut self, position: u64) -> Result<Vec<u64>, Violation> {
        if position > self.sent {
            let what = format!("{}: an answer for all before {position}, of {} sent", self.lane, self.sent);
            return Err(Violation::new(ANSWERED, what));
        }
        let from = self.front;
        self.front = from.max(position);
        let new: Vec<u64> = (from..position).filter(|position| !self.is_answered(*position)).collect();
        new.iter().try_for_each(|position| self.answered(*position))?;
        Ok(new)
    }

    /// How many messages may still be sent.
    pub fn unspent(&self) -> u64 {
        self.credit.0.saturating_sub(self.waived + self.sent)
    }

    /// How many were sent.
    pub fn count(&self) -> u64 {
        self.sent
    }

    /// How many of them are unanswered.
    pub fn unanswered(&self) -> u64 {
        self.left
    }

    /// Whether the one at this position is answered.
    pub fn is_answered(&self, position: u64) -> bool {
        self.answered.get(position as usize / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }
}

const CONSERVED: &str = "a bound counts everything that its socket owns";
const WITHIN: &str = "a socket owns no more than its bound";
const TOTALS: &str = "totals of credit do not shrink";
const WITHOUT: &str = "nothing is sent, or waived, without credit";
const ANSWERED: &str = "what is answered was sent, and is answered once";
