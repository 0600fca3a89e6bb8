//! What lives on a host? A machine of the simulated network: it has an address, tasks, sockets and randomness of its
//! own, and loses all but the address when it crashes.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use quinn::{AsyncUdpSocket, Runtime};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rustls::crypto::CryptoProvider;
use tokio::task::JoinHandle;

use crate::crypto;
use crate::network::{HostId, Life};
use crate::program::Program;
use crate::random;
use crate::runtime::{HostRuntime, Tasks};
use crate::sim::Sim;
use crate::socket::Socket;

/// A machine of the simulated network; clones are the same machine.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    sim: Sim,
    name: String,
    id: HostId,
    tasks: Arc<Tasks>,
    program: Program,
    /// Which life the stream is of, and the stream: another life draws other numbers.
    random: Mutex<(Life, ChaCha20Rng)>,
}

impl Host {
    pub(crate) fn new(sim: Sim, name: &str) -> Self {
        let id = sim.network().add_host(name);
        let life = sim.network().life(id);
        let random = Mutex::new((life, life_stream(&sim, name, life)));
        let tasks = Arc::new(Tasks::new(sim.subject(format!("host `{name}`"))));
        Self(Arc::new(Inner { sim, name: name.to_owned(), id, tasks, program: Program::default(), random }))
    }

    /// Its name, by which others can look it up.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its address; the same in every life.
    pub fn ip(&self) -> IpAddr {
        self.0.id.ip().into()
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
        if self.network().take_down(self.0.id) {
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

    /// Tasks, timers and the clock of the host's present life, for [`quinn::Endpoint::new_with_abstract_socket`].
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.host_runtime())
    }

    /// Binds a UDP socket; port 0 takes a free one. One socket has a port, whatever address it is bound to.
    /// An IPv6 socket is dual-stack and speaks IPv4.
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
        HostRuntime::new(self.network().clone(), self.life(), self.0.tasks.clone())
    }

    fn network(&self) -> &Arc<crate::network::Network> {
        self.0.sim.network()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.0.name).field("ip", &self.ip()).finish_non_exhaustive()
    }
}

fn life_stream(sim: &Sim, name: &str, life: Life) -> ChaCha20Rng {
    random::stream(sim.seed(), &format!("host {name} {}", life.start))
}
