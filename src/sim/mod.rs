//! The pure depth of our tests: pushers and pullers whose state machines are the real ones (`pattern`, `session`, `wire`),
//! joined by simulated links, with everything that can go wrong drawn from a seed. A thousand of them and more take a
//! second, where a whole node takes tenths of one.
//!
//! ```text
//!  app.rs         applications: send, receive, answer, give up waiting
//!    │
//!  sockets.rs     sockets, and what their machines do in turn                                 (in place of `socket`)
//!  host.rs        what a node does around them: it starts, crashes, leaves                    (in place of `node`)
//!    │
//!  connection.rs  connections come about and end
//!  talk.rs        sessions and arbiters over them
//!  lane.rs        lanes over them: bytes in pieces, late, half lost                           (in place of `link`)
//!    │
//!  tap.rs         what is seen on the wire, for the checkers of netsim
//! ```
//! `plan.rs` draws what goes wrong, `queue.rs` has what happens next, `world.rs` lets it happen. What is real here: every
//! byte of a lane and of the control stream, all wakers, all credit, all answers. What is not: QUIC and TLS (a stream
//! keeps its order, a connection may be lost with any part of what is under way), discovery, threads.

mod app;
mod connection;
mod exchange;
mod host;
mod lane;
mod news;
mod plan;
mod queue;
mod random;
mod sockets;
mod talk;
mod tap;
mod tests;
mod world;

use std::fmt;

use netsim::check::{Summary, Violation};

/// Microseconds since the start of a run.
type Time = u64;
const MS: Time = 1000;
const SECOND: Time = 1000 * MS;

/// Runs one seed to its end.
///
/// # Errors
/// The rule that was broken.
fn run(seed: u64) -> Result<Outcome, Failure> {
    world::World::new(seed, false).run()
}

/// What a run leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outcome {
    messages: Summary,
    /// Of everything that has happened.
    hash: u64,
    events: u64,
    time: Time,
}

/// A rule was broken.
#[derive(Debug)]
struct Failure {
    violation: Violation,
    time: Time,
    /// What has happened, where it was asked for.
    log: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.log {
            writeln!(f, "  {line}")?;
        }
        write!(f, "at {}.{:06}: {}", self.time / SECOND, self.time % SECOND, self.violation)
    }
}

/// Something happens. Numbers name hosts, connections, ends (0: of the dialler, or of the pusher), lanes; a host's life is
/// told where a later life must not see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Start(usize),
    Hardship(usize),
    Leave(usize, u32, Time),
    Leaving(usize, u32),
    Gone(usize, u32),
    Dial(usize, u32, usize),
    DialArrives(usize),
    DiallerUp(usize),
    AcceptorUp(usize),
    DialOver(usize),
    Control(usize, usize),
    Heard(usize, usize),
    Closed(usize, usize),
    Close(usize, usize),
    Session(usize, usize),
    Arbiter(usize, u32, usize),
    Arrives(usize, usize),
    Writer(usize, usize),
    LaneOver(usize, usize),
    LaneAgain(usize, usize, u64, u64),
    Dispatch(usize, u32),
    Receive(usize, u32, usize),
    Done(usize, u32, usize),
    Forget(usize, u32, usize),
    Send(usize, u32, usize),
    GiveUp(usize, u32, usize),
    Lie(usize),
    Calm,
    Check,
}
