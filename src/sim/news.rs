//! Publishers and subscribers by themselves: the real state machines, joined by lanes that carry bytes in pieces and late,
//! that are lost and come again, while patterns change and applications are slow. One seed is one order of it all.
//!
//! What has to hold is known from outside: who wants a message is found by a naive search, what is retained is kept once
//! more, and each subscriber's messages are compared, one by one, with what it had coming.

mod model;
pub(super) mod tests;
mod world;

use self::world::News;

/// Runs one seed to its end.
///
/// # Errors
/// The rule that was broken.
fn run(seed: u64) -> Result<Outcome, String> {
    News::new(seed).run()
}

/// What a run has met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Outcome {
    published: u64,
    delivered: u64,
    missed: u64,
    /// Lanes that went on where an earlier one was lost.
    resumed: u64,
    /// Retained messages that a pattern has brought.
    retained: u64,
    given_up: u64,
    /// Subscribers that had been away for too long.
    forgotten: u64,
    /// Messages that were missing in between, and not at the end.
    gaps: u64,
}
