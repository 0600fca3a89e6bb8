//! What lives on a host? A machine of the simulated network: it has an address, tasks, sockets and randomness of its
//! own, and loses all but the address when it crashes.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use quinn::{AsyncUdpSocket, Runtime};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rustls::crypto::CryptoProvider;
use tokio::task::JoinHandle;

use crate::clock::HostClock;
use crate::crypto;
use crate::network::{HostId, LanId, Life};
use crate::program::Program;
use crate::random;
use crate::runtime::HostRuntime;
use crate::sim::Sim;
use crate::socket::Socket;
use crate::tasks::Tasks;
use crate::topology::Lan;

/// A machine of the simulated network; clones are the same machine.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    sim: Sim,
    name: String,
    id: HostId,
    tasks: Arc<Tasks>,
    program: Program,
    clock: Arc<HostClock>,
    /// Which life the stream is of, and the stream: another life draws other numbers.
    random: Mutex<(Life, ChaCha20Rng)>,
}

impl Host {
    pub(crate) fn new(sim: Sim, name: &str, lan: LanId) -> Self {
        let id = sim.network().add_host(name, lan);
        let life = sim.network().life(id);
        let random = Mutex::new((life, life_stream(&sim, name, life)));
        let tasks = Arc::new(Tasks::new(sim.subject(format!("host `{name}`"))));
        let clock = Arc::new(HostClock::new(sim.network().clock.clone()));
        let name = name.to_owned();
        Self(Arc::new(Inner { sim, name, id, tasks, program: Program::default(), clock, random }))
    }

    /// Its name, by which others can look it up.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its address: the first of [`ips`](Host::ips). It is the same in every life.
    ///
    /// # Panics
    /// It has none now, having left its LANs.
    pub fn ip(&self) -> IpAddr {
        let ip = self.ips().first().copied();
        ip.unwrap_or_else(|| panic!("host `{}` is on no LAN and has no address", self.0.name))
    }

    /// All addresses that it has now: those on the LAN that it has joined first come first, and IPv4 before IPv6.
    pub fn ips(&self) -> Vec<IpAddr> {
        self.network().addresses(self.0.id)
    }

    /// Attaches it to another LAN as well; nothing happens when it is there. On a LAN that it has been on, it gets the
    /// address it had.
    pub fn join(&self, lan: &Lan) {
        self.network().attach(self.0.id, lan.id());
    }

    /// Takes it off a LAN: the address is gone, and what is sent to it. Sockets stay; those that are bound to the address
    /// are silent until it is back. Nothing happens when it is not there.
    pub fn leave(&self, lan: &Lan) {
        self.network().detach(self.0.id, lan.id());
    }

    /// Takes it off all LANs and attaches it to this one: a laptop that is carried home.
    pub fn move_to(&self, lan: &Lan) {
        for old in self.network().lans_of(self.0.id).into_iter().filter(|old| *old != lan.id()) {
            self.network().detach(self.0.id, old);
        }
        self.join(lan);
    }

    /// Gives it other addresses on this LAN, which nobody has had before.
    ///
    /// # Panics
    /// It has never been on this LAN.
    pub fn renumber(&self, lan: &Lan) {
        self.network().renumber(self.0.id, lan.id());
    }

    /// How many bytes of datagrams each of its sockets holds unreceived before further ones are dropped; 2 MiB by
    /// default.
    pub fn set_socket_buffer(&self, bytes: usize) {
        self.network().set_socket_buffer(self.0.id, bytes);
    }

    /// Whether it sends and hears multicast, as it does by default: a firewall may keep it out.
    pub fn set_multicast(&self, multicast: bool) {
        self.network().set_multicast(self.0.id, multicast);
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.network().is_up(self.life())
    }

    /// Runs a future on this host until it ends or the host crashes; the handle then says that it was cancelled.
    ///
    /// A panic in it fails the whole run. On a host that is down nothing starts.
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.host_runtime().start(future)
    }

    /// Power failure: every task of the host is dropped at this instant and its sockets are gone; what it had sent is
    /// on its way, and not a word follows. Nothing happens when it is down.
    ///
    /// It ends what was started through the host: [`Host::spawn`] and [`Host::runtime`]. Handles that the scenario
    /// itself holds go silent.
    pub fn crash(&self) {
        if self.network().take_down(self.0.id, "crashes") {
            self.0.tasks.abort();
        }
    }

    /// Starts it again, with the same address and [program](Self::run), and nothing else of its former life. Nothing happens
    /// when it is up.
    pub fn restart(&self) {
        if self.network().bring_up(self.0.id) {
            let life = self.life();
            *self.0.random.lock().unwrap_or_else(PoisonError::into_inner) =
                (life, life_stream(&self.0.sim, &self.0.name, life));
            self.start_program();
        }
    }

    /// How many of its tasks have not ended, in the life that it is in. One that was dropped at this instant may still be
    /// counted: wait a moment first.
    pub fn tasks(&self) -> usize {
        self.0.tasks.count()
    }

    /// Waits until none of its [tasks](Self::tasks) is left.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn ended(&self) {
        self.0.tasks.ended().await;
    }

    /// Holds it, as `SIGSTOP` holds a process: none of its tasks goes on until [`Host::resume`], what arrives waits in its
    /// sockets as far as these have room, and its clocks go on. Nothing happens when it is down or held already.
    ///
    /// It holds what was started through the host. What the scenario itself does with its handles goes on.
    pub fn pause(&self) {
        if self.is_up() && self.0.tasks.hold() {
            self.0.sim.note(format!("{} is paused", self.0.name));
        }
    }

    /// Lets it go on where it was. Nothing happens when it is not held.
    pub fn resume(&self) {
        if self.0.tasks.is_held() {
            self.0.sim.note(format!("{} goes on", self.0.name));
            self.0.tasks.resume();
        }
    }

    /// Whether it is held.
    pub fn is_paused(&self) -> bool {
        self.0.tasks.is_held()
    }

    /// Stops it in peace, as a service is stopped: asks its tasks to end ([`Host::asked_to_stop`]) and waits until all
    /// have, at most for `grace`. Then it is down; what has not ended by then is dropped, as in a crash. True when all
    /// have ended. [`Host::restart`] starts it again. Nothing happens when it is down: its next life is not asked.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, its tasks are asked to end and the host stays up.
    pub async fn stop(&self, grace: Duration) -> bool {
        if !self.is_up() {
            return true;
        }
        self.0.sim.note(format!("{} is asked to stop", self.0.name));
        self.0.tasks.ask_to_stop();
        let in_peace = tokio::select! {
            biased;
            () = self.0.tasks.ended() => true,
            () = self.0.sim.sleep(grace) => false,
        };
        if self.network().take_down(self.0.id, if in_peace { "has stopped" } else { "is stopped by force" }) {
            self.0.tasks.abort();
        }
        in_peace
    }

    /// Waits until the host is asked to stop; a task that has something to do then waits for it.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn asked_to_stop(&self) {
        self.0.tasks.asked_to_stop().await;
    }

    /// The calendar of this host, by which certificates are judged: every run starts at 2026-01-01 00:00:00 UTC.
    pub fn calendar(&self) -> SystemTime {
        self.0.clock.calendar()
    }

    /// Sets the calendar ahead by so much. The monotonic clock does not notice.
    pub fn step_calendar_ahead(&self, by: Duration) {
        self.0.sim.note(format!("{}'s calendar jumps {by:?} ahead", self.0.name));
        self.0.clock.step(by.as_nanos() as i128);
    }

    /// Sets the calendar back by so much, but not before 1970. The monotonic clock does not notice.
    pub fn step_calendar_back(&self, by: Duration) {
        self.0.sim.note(format!("{}'s calendar jumps {by:?} back", self.0.name));
        self.0.clock.step(-(by.as_nanos() as i128));
    }

    /// From now on both clocks of this host, the calendar and the monotonic one of [`Host::runtime`], are too fast by so
    /// many millionths, or too slow. Good clocks are within 50, bad ones within 500. A timer that is set already fires
    /// no earlier for it, but later where the clock has become slower. tokio's own timers don't take part.
    ///
    /// # Panics
    /// The clock would stand still or go backwards.
    pub fn set_clock_drift(&self, millionths: i32) {
        self.0.sim.note(format!("{}'s clock drifts by {millionths} ppm", self.0.name));
        self.0.clock.drift(millionths);
    }

    /// Tasks, timers and the clock of the host's present life, for [`quinn::Endpoint::new_with_abstract_socket`].
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.host_runtime())
    }

    /// Binds a UDP socket; port 0 takes a free one. One that is bound to `[::]` is dual-stack: it speaks IPv4 as well,
    /// and sees its addresses mapped.
    ///
    /// # Errors
    /// The port is in use, the address is not this host's, or the host is down.
    pub fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Socket::bind(self.network().clone(), self.life(), address)?))
    }

    /// The algorithms of TLS with seeded randomness; they work on the run's thread alone.
    pub fn crypto(&self) -> Arc<CryptoProvider> {
        Arc::new(crypto::provider())
    }

    /// Fills `out` with random bytes of this host.
    pub fn fill_random(&self, out: &mut [u8]) {
        self.0.random.lock().unwrap_or_else(PoisonError::into_inner).1.fill_bytes(out);
    }

    /// So many random bytes of this host.
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_random(&mut bytes);
        bytes
    }

    /// A generator of its own, seeded by this host's.
    pub(crate) fn stream(&self) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(self.random_bytes())
    }

    pub(crate) fn sim(&self) -> &Sim {
        &self.0.sim
    }

    pub(crate) fn id(&self) -> HostId {
        self.0.id
    }

    pub(crate) fn program(&self) -> &Program {
        &self.0.program
    }

    pub(crate) fn life(&self) -> Life {
        self.network().life(self.0.id)
    }

    fn host_runtime(&self) -> HostRuntime {
        HostRuntime::new(self.network().clone(), self.life(), self.0.tasks.clone(), self.0.clock.clone())
    }

    fn network(&self) -> &Arc<crate::network::Network> {
        self.0.sim.network()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.0.name).field("ips", &self.ips()).finish_non_exhaustive()
    }
}

fn life_stream(sim: &Sim, name: &str, life: Life) -> ChaCha20Rng {
    random::stream(sim.seed(), &format!("host {name} {}", life.start))
}
