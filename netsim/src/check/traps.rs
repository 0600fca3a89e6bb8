//! The traps that runs have to meet, or their promises are worth nothing.

/// A trap: something that goes wrong rarely, and where a messaging library tends to lose something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trap {
    /// What happens; the mark of [`sometimes!`](crate::sometimes).
    pub name: &'static str,
    /// The pure depth meets it: state machines as messages over links.
    pub pure: bool,
    /// The whole stack meets it: real nodes on a simulated network.
    pub whole: bool,
}

const fn trap(name: &'static str, pure: bool, whole: bool) -> Trap {
    Trap { name, pure, whole }
}

/// What meshmq's own runs have to meet: the traps that what is built can meet.
pub const TRAPS: &[Trap] = &[
    trap("ack lost and redelivered to another puller", true, true),
    trap("nack while the link is down", true, true),
    trap("attempt 1 acknowledged late while attempt 2 runs", true, true),
    trap("host suspended for longer than its links live", true, true),
    trap("link lost while a frame is half written", true, false),
    trap("link replaced with credit of the old one unspent", true, true),
    trap("one-way partition", true, true),
    trap("two nodes dial each other at the same time", true, true),
    trap("peer restarted against its own dead link", true, true),
    trap("receiving future dropped while it waits", true, true),
    trap("sending future dropped while it waits for room", true, true),
    trap("counters near their maximum", true, false),
    trap("bound of 1", true, true),
    trap("prefetch of 1", true, true),
    trap("both ends shut down in the same millisecond", true, true),
    trap("granted slot whose pusher has nothing left", true, false),
    trap("message handed back by a node that ends", true, true),
    trap("accepted message lost with its crashed pusher", true, true),
    trap("message returned by a puller that closes", true, true),
    trap("failures used up", true, true),
    trap("failure counted for a worker that was lost", true, true),
];
