//! Was every promise kept? Checkers that know nothing of how a message travels: they are told in plain numbers and names
//! what was seen at each end, and say which rule is broken, for which message, and all that has happened to it.
//!
//! | checker | what it holds |
//! |---|---|
//! | [`Ledger`] | what becomes of every message: accepted, delivered, answered, settled, by attempt |
//! | [`Bound`] | what a sending socket owns is never more than its bound, and nothing of it is forgotten |
//! | [`Credit`] | what goes over a lane was allowed before; what is answered was sent, and is answered once |
//! | [`Fair`] | who waits for a slot is not passed over |
//! | [`Order`] | a lane carries in order what goes out for the first time |
//! | [`Links`] | links are within a mesh, and one for each two nodes |
//! | [`Left`] | what is left of a node after its end: nothing |
//! | [`sometimes!`](crate::sometimes) | which of the [traps](TRAPS) a run has met; a test that never meets one proves nothing of it |
//!
//! None of them needs the feature `mesh`. The times that they are told are since the start of the run, as
//! [`Sim::elapsed`](crate::Sim::elapsed) gives them.
//!
//! ```
//! use std::time::Duration;
//! use netsim::check::{Delivered, End, Ledger};
//!
//! let ms = Duration::from_millis;
//! let ledger = Ledger::new(); // clones are the same ledger
//! ledger.accepted(ms(1), "job 7", "producer");
//! ledger.delivered(ms(5), "job 7", "worker", Delivered::new(1, false));
//! ledger.crashed(ms(6), "worker");
//! ledger.delivered(ms(9), "job 7", "other worker", Delivered::new(2, true));
//! ledger.acknowledged(ms(9), "job 7", "other worker", 2);
//! ledger.settled(ms(12), "job 7", End::Handled);
//! let summary = ledger.finish(ms(20)).unwrap();
//! assert_eq!((summary.handled, summary.duplicated), (1, 1));
//! ```

mod books;
mod flow;
mod ledger;
mod left;
mod links;
mod order;
pub mod sometimes;
mod traps;

use std::error::Error;
use std::fmt;

pub use flow::{Bound, Credit};
pub use ledger::{Answer, Delivered, End, Ledger, Name, Summary};
pub use left::Left;
pub use links::Links;
pub use order::{Fair, Order};
pub use traps::{TRAPS, Trap};

/// A rule that was broken, by what, and everything that has led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    rule: &'static str,
    what: String,
    history: Vec<String>,
}

impl Violation {
    /// A rule of one's own, and how it was broken.
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into(), history: Vec::new() }
    }

    pub(crate) fn with_history(self, history: Vec<String>) -> Self {
        Self { history, ..self }
    }

    /// The rule, as it stands in the documentation of its checker.
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// What was done to the message, or whatever else the rule is about, with the time of each step.
    pub fn history(&self) -> &[String] {
        &self.history
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)?;
        for line in &self.history {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl Error for Violation {}

#[cfg(test)]
mod tests;
