//! A network in a box: real QUIC, real TLS, real tasks, on a simulated network under virtual time, and **the same again
//! for the same seed**, down to the payload bytes.
//!
//! A [`Sim`] is one run of one scenario. It has [`Host`]s on [LANs](Lan), and between each two of them a [`Link`] that
//! delays, loses and duplicates packets, or is cut. The code under test runs as it is: it is only given a host's
//! clock, sockets, tasks and randomness instead of the operating system's.
//!
//! A test kills workers and cuts the network, over a hundred seeds:
//!
//! ```no_run
//! # #[cfg(feature = "mesh")] mod shop {
//! use meshmq::{MeshKey, Node};
//! use netsim::{Sim, Units, every, restart_after};
//!
//! #[netsim::test(seeds = 100)]
//! async fn no_job_is_lost_when_workers_die(sim: Sim) {
//!     let lan = sim.lan("office").latency(1.ms()..5.ms()).loss(0.01);
//!     let (producer, workers) = (lan.host("producer"), lan.hosts("worker", 5));
//!     workers.iter().for_each(|worker| worker.run(work)); // an async fn(Host): it begins anew with each life
//!     sim.faults().crash_random(&workers, every(2.s()), restart_after(500.ms())).during(30.s());
//!     sim.partition(&workers[..2], &[producer.clone()]).during(3.s());
//!     let node = Node::builder("shop").key(MeshKey::from_bytes([7; 32])).env(producer.env()).await.unwrap();
//!     let push = node.push("jobs").await.unwrap();
//!     for job in 0..100 {
//!         push.send(job.to_string()).await.unwrap();
//!         sim.run_for(50.ms()).await;
//!     }
//!     push.flush().await.unwrap(); // ready when each of them was handled
//! }
//!
//! async fn work(host: netsim::Host) {
//!     let node = Node::builder("shop").key(MeshKey::from_bytes([7; 32])).env(host.env()).await.unwrap();
//!     let pull = node.pull("jobs").await.unwrap();
//!     while let Ok(job) = pull.recv().await {
//!         host.work(5.ms()).await;
//!         job.ack();
//!     }
//! }
//! # }
//! ```
//!
//! The first seed that fails is told with the command that runs it again: see [`macro@test`]. Single runs are made by
//! hand:
//!
//! ```
//! use netsim::{Link, Sim, Units};
//!
//! let scenario = async |sim: Sim| {
//!     sim.set_link(Link::lan().loss(0.02));
//!     let (a, b) = (sim.host("a"), sim.host("b"));
//!     a.spawn(async { /* the code under test */ });
//!     sim.run_for(60.s()).await; // a minute that takes no time
//!     b.crash();
//!     b.restart();
//! };
//! netsim::assert_same(7, scenario);
//! ```
//!
//! # How a packet travels
//!
//! ```text
//!  the code under test
//!    │  quinn: try_send
//!  socket.rs     a UDP socket of a host                     ┐ a host: host.rs (its life), runtime.rs (its tasks
//!    │                                                      │ and timers), crypto.rs (its randomness)
//!  network/      which link? lost, cut, twice, how late? ───┼─▶ trace.rs   every packet and its fate, hashed
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
//! | `sim.rs`, `run.rs` | one run: thread, runtime, scenario, what comes out |
//! | `suite.rs`, `macros/` | a test over many seeds, and what the first that fails says |
//! | `same.rs` | was it the same again, and where do two runs part? |
//! | `watch.rs`, `failures.rs` | does a task do what no simulation can show? |
//! | `program.rs`, `faults.rs`, [`hardship`] | what hosts do, and what they go through |
//! | `clock/` | what time is it, and what happens next? |
//! | `network/`, `inbox.rs` | who gets which packet, and when? |
//! | `link/` | what becomes of a packet on one link? |
//! | `topology.rs` | how is a network laid out? |
//! | `host.rs`, `runtime.rs`, `tasks.rs` | what lives on a host, and what ends when it crashes? |
//! | `socket.rs` | quinn's socket traits, in this file alone |
//! | `crypto.rs`, `random.rs` | where do keys and random numbers come from? |
//! | `endpoint.rs` | what else of quinn must be seeded? |
//! | `trace.rs`, `capture.rs` | what has happened, was it the same, and what does Wireshark see? |
//! | [`check`] | was every promise kept, and which traps were met? |
//! | `mesh.rs`, `discovery/` | the world as meshmq takes it (feature `mesh`; nothing above needs it) |
//!
//! # What is the same again
//!
//! Two runs with one seed send the same packets at the same nanosecond, in one process or in two, as long as the code
//! under test takes time, tasks and randomness from its host. What breaks it: the wall clock, `rand::rng()`, the order
//! of a `HashMap`, threads, and tokio's own dice, whose seed can't be set: `select!` without `biased;`, and the order in
//! which several receivers of one `sync::watch` wake. A run proves it: [`assert_same`], and every [test](macro@test), whose
//! first seed runs twice.
//!
//! # What is not simulated
//!
//! NAT, TCP, disks, link-local addresses, DHCP and ICMP: a packet that is too large, or that no way leads for, vanishes, as
//! it does for quinn's own sockets. Multicast is a model of mDNS, for nodes of meshmq. A burst of losses is counted in
//! packets and not in time, and a LAN is a switch and no shared medium: each sender has its whole bandwidth. A clock that
//! drifts takes timers of [`Host::runtime`] along, and not those of tokio.
//!
//! Nor is processing time: code takes none, and everything that is due at one instant happens in that instant;
//! [`Host::work`] is for jobs. A task that spins without ever waiting stops the world, as it would any runtime, and is
//! told.

mod capture;
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
pub use suite::{fresh_seeds, seeds};
pub use topology::{Cut, Lan, Router};
pub use trace::{Counts, Hash, Trace};
pub use units::Units;
