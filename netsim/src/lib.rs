//! A network in a box: real QUIC, real TLS, real tasks, on a simulated network under virtual time, and **the same again
//! for the same seed**, down to the payload bytes.
//!
//! A [`Sim`] is one run of one scenario. It has [`Host`]s on one LAN, and between each two of them a [`Link`] that
//! delays, loses and duplicates packets, or is cut. The code under test runs as it is: it is only given a host's
//! clock, sockets, tasks and randomness instead of the operating system's.
//!
//! ```
//! use std::time::Duration;
//! use netsim::{Link, Sim};
//!
//! let scenario = async |sim: Sim| {
//!     sim.set_link(Link::lan().loss(0.02));
//!     let (a, b) = (sim.host("a"), sim.host("b"));
//!     a.spawn(async { /* the code under test */ });
//!     sim.sleep(Duration::from_secs(60)).await; // a minute that takes no time
//!     b.crash();
//!     b.restart();
//! };
//! assert_eq!(Sim::run(7, scenario).trace.hash, Sim::run(7, scenario).trace.hash);
//! ```
//!
//! # How a packet travels
//!
//! ```text
//!  the code under test
//!    │  quinn: try_send
//!  socket.rs     a UDP socket of a host                     ┐ a host: host.rs (its life), runtime.rs (its tasks
//!    │                                                      │ and timers), crypto.rs (its randomness)
//!  network.rs    which link? lost, cut, twice, how late? ───┼─▶ trace.rs   every packet and its fate, hashed
//!    │                                                      │
//!  clock/        the queue of all that is going to happen ──┘
//!    │  at that nanosecond
//!  inbox.rs      of the other host's socket; its task is woken
//!    │  quinn: poll_recv
//!  the code under test
//! ```
//!
//! | file | answers |
//! |---|---|
//! | `sim.rs` | one run: thread, runtime, scenario, what comes out |
//! | `clock/` | what time is it, and what happens next? |
//! | `network.rs`, `link.rs`, `inbox.rs` | who gets which packet, and when? |
//! | `host.rs`, `runtime.rs` | what lives on a host, and what ends when it crashes? |
//! | `socket.rs` | quinn's socket traits, in this file alone |
//! | `crypto.rs`, `random.rs` | where do keys and random numbers come from? |
//! | `endpoint.rs` | what else of quinn must be seeded? |
//! | `trace.rs` | what has happened, and was it the same? |
//! | [`check`] | was every promise kept, and which traps were met? |
//! | `mesh.rs`, `discovery.rs` | the world as meshmq takes it (feature `mesh`; nothing above needs it) |
//!
//! # What is the same again
//!
//! Two runs with one seed send the same packets at the same nanosecond, in one process or in two, as long as the code
//! under test takes time, tasks and randomness from its host. What breaks it: the wall clock, `rand::rng()`, the order
//! of a `HashMap`, threads, and tokio's own dice, whose seed can't be set: `select!` without `biased;`, and the order in
//! which several receivers of one `sync::watch` wake. A run proves it: compare
//! [`Trace::hash`].
//!
//! # What is not simulated
//!
//! Bandwidth, queues in the network, corruption, IPv6 (an IPv6 socket is dual-stack and speaks IPv4), NAT, routers,
//! multicast, disks, clock skew and processing time: code takes no time, and everything that is due at one instant
//! happens in that instant. A task that spins without ever waiting stops the world, as it would any runtime.

pub mod check;
mod clock;
mod crypto;
#[cfg(feature = "mesh")]
mod discovery;
mod endpoint;
mod failures;
mod faults;
pub mod hardship;
mod host;
mod inbox;
mod link;
#[cfg(feature = "mesh")]
mod mesh;
mod network;
mod program;
mod random;
mod run;
mod runtime;
mod same;
mod sim;
mod socket;
mod source;
#[doc(hidden)]
pub mod suite;
mod tasks;
mod topology;
mod trace;
mod units;
mod watch;

pub use faults::{Every, Fault, Faults, RestartAfter, every, restart_after};
pub use hardship::Hardship;
pub use host::Host;
pub use link::{Latency, Link, Queue};
pub use meshmq_netsim_macros::test;
pub use run::{Builder, Failed, Run};
pub use same::assert_same;
pub use sim::Sim;
pub use suite::seeds;
pub use topology::{Cut, Lan, Router};
pub use trace::{Counts, Hash, Trace};
pub use units::Units;
