//! What a run has met. A property that holds over a thousand runs says nothing of a trap that none of them has met: the
//! code under test and the scenario mark what happens, and a test asks that all of it has happened.
//!
//! ```
//! use netsim::{check::sometimes, sometimes};
//!
//! sometimes::take();
//! let (sent, lost) = (3, 1);
//! sometimes!("something was sent");
//! sometimes!("something was lost", lost > 0);
//! sometimes!("everything was lost", lost == sent);
//! let visits = sometimes::take();
//! assert_eq!(visits.count("something was lost"), 1);
//! assert_eq!(visits.missing(["something was sent", "everything was lost"]), ["everything was lost"]);
//! ```
//!
//! Marks are kept for each thread. A [`Sim`](crate::Sim) runs on a thread of its own and hands what it has met to the
//! thread that has run it.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Marks that something happens, or that it does if the second argument is true: see [`check::sometimes`](self).
#[macro_export]
macro_rules! sometimes {
    ($what:literal) => {
        $crate::check::sometimes::visit($what)
    };
    ($what:literal, $happens:expr) => {
        if $happens {
            $crate::check::sometimes::visit($what)
        }
    };
}

thread_local! {
    static VISITS: RefCell<Visits> = RefCell::default();
}

/// How often what has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visits(BTreeMap<&'static str, u64>);

/// It happens. [`sometimes!`](crate::sometimes) does the same.
pub fn visit(what: &'static str) {
    VISITS.with_borrow_mut(|visits| *visits.0.entry(what).or_default() += 1);
}

/// What has happened on this thread, and in the simulations that it has run, since the last call.
pub fn take() -> Visits {
    VISITS.take()
}

/// Adds what has happened elsewhere to what has happened on this thread.
pub fn add(others: Visits) {
    VISITS.with_borrow_mut(|visits| visits.add(others));
}

impl Visits {
    /// How often it has happened.
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Each of these that has never happened.
    pub fn missing<'a>(&self, all: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        all.into_iter().filter(|what| self.count(what) == 0).collect()
    }

    /// What has happened, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(what, count)| (*what, *count))
    }

    /// Adds what has happened elsewhere.
    pub fn add(&mut self, others: Self) {
        for (what, count) in others.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}
