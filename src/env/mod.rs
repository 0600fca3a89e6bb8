//! The world as a value. Everything that a node takes from outside itself comes in here, once.
//!
//! A node built without an [`Env`] uses the operating system; no feature and no environment variable changes that.
//! A simulator passes its own. This room is public, but **exempt from semantic versioning**: besides `link` and
//! `trust` it is the one place that names types of quinn and rustls.

mod busy_poll;
mod coarse;
mod real;
mod threads;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use quinn::{AsyncUdpSocket, ConnectionIdGenerator, Runtime};
use rustls::KeyLog;
use rustls::crypto::CryptoProvider;
use rustls::time_provider::TimeProvider;

use crate::discovery::Source;
use busy_poll::BusyPoll;
use coarse::CoarseClock;

pub(crate) use real::{OwnThread, SystemRandom};
pub(crate) use threads::{block_on, on_threads};

/// A future that can be handed to the runtime.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// All that a node takes from outside: one argument of [`Builder::env`](crate::Builder::env).
#[derive(Clone)]
#[non_exhaustive]
pub struct Env {
    /// Timers, tasks and the monotonic clock. A node spawns nothing in any other way.
    pub runtime: Arc<dyn Runtime>,
    /// UDP sockets and name look-up.
    pub network: Arc<dyn Network>,
    /// Where peers are looked for, besides the fixed peers of the builder.
    pub sources: Vec<Arc<dyn Source>>,
    /// The algorithms of TLS.
    pub crypto: Arc<CryptoProvider>,
    /// Is given the secrets of each connection, so that a recorded trace can be decrypted. `None`: nobody is.
    pub key_log: Option<Arc<dyn KeyLog>>,
    /// What time it is when a certificate's validity is judged.
    pub certificate_time: Arc<dyn TimeProvider>,
    /// Randomness for keys, identities, incarnations and jitter.
    pub random: Arc<dyn Random>,
    /// Makes the generator of QUIC connection ids. `None`: quinn's own, which draws from the operating system.
    pub connection_ids: Option<ConnectionIds>,
    /// `None`: the time may be another one than the operating system's, or that has no such clock.
    coarse: Option<CoarseClock>,
    /// Keeps a node's own thread awake in a dialogue; on other runtimes it does nothing.
    pub(crate) busy_poll: BusyPoll,
}

/// Makes a generator of QUIC connection ids, one for each endpoint.
pub type ConnectionIds = Arc<dyn Fn() -> Box<dyn ConnectionIdGenerator> + Send + Sync>;

/// UDP sockets and name look-up.
pub trait Network: Send + Sync + 'static {
    /// Binds a UDP socket; port 0 takes a free one. `[::]` takes IPv4 as well, where the host has both.
    ///
    /// # Errors
    /// What the operating system says, as a rule that the port is in use.
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Listens for TCP connections, which only serving metrics needs. A world without TCP need not.
    ///
    /// # Errors
    /// What the operating system says, as a rule that the port is in use.
    fn listen(&self, address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
        let _ = address;
        Err(io::Error::new(io::ErrorKind::Unsupported, "there is no TCP in this world"))
    }

    /// All addresses of a host name, in the resolver's order.
    fn resolve(&self, host: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>>;

    /// The addresses of this host that others might reach it at. They are told to peers, who tell them to theirs.
    fn addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    /// How large the packets towards a peer at this address may be.
    fn largest_payload(&self, to: IpAddr) -> Payload {
        let _ = to;
        Payload::AtMost(ETHERNET_PAYLOAD)
    }
}

/// How large packets may be, as UDP payload in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload {
    /// The path takes so much: a connection begins with it. Should it not, the link takes seconds to get going.
    Certain(u16),
    /// No more is worth trying: a connection begins with 1,200, and finds out by itself what the path takes.
    AtMost(u16),
}

/// What an Ethernet takes (1,500) without the headers of IPv6 and UDP.
pub(crate) const ETHERNET_PAYLOAD: u16 = 1452;

/// A source of randomness that is fit for keys.
pub trait Random: Send + Sync + 'static {
    /// Fills `out` with random bytes.
    ///
    /// # Errors
    /// The source has none to give. Nothing may then be made of `out`.
    fn fill(&self, out: &mut [u8]) -> io::Result<()>;
}

impl Env {
    /// An environment of these parts, with no discovery source, no key log and quinn's connection ids; the fields can
    /// be set afterwards.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        network: Arc<dyn Network>,
        crypto: Arc<CryptoProvider>,
        certificate_time: Arc<dyn TimeProvider>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            runtime,
            network,
            sources: Vec::new(),
            crypto,
            key_log: None,
            certificate_time,
            random,
            connection_ids: None,
            coarse: None,
            busy_poll: BusyPoll::default(),
        }
    }

    /// The same environment, whose runtime goes by the time of the operating system.
    pub(crate) fn by_system_time(self) -> Self {
        Self { coarse: CoarseClock::new(), ..self }
    }

    /// The monotonic clock.
    pub(crate) fn now(&self) -> Instant {
        self.runtime.now()
    }

    /// The same to some milliseconds, for what is asked for each message: it costs a quarter of that.
    #[inline]
    pub(crate) fn about_now(&self) -> Instant {
        self.coarse.as_ref().map_or_else(|| self.now(), CoarseClock::now)
    }

    /// The time that will be in so long. What lies beyond the clock's end is as good as never, and not a fault.
    pub(crate) fn after(&self, time: Duration) -> Instant {
        let now = self.now();
        now.checked_add(time).unwrap_or(now + NEVER)
    }

    /// Runs a future on the node's runtime until it ends.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(Box::pin(future));
    }

    /// A timer that is not set: it never fires before [`Timer::set`].
    pub(crate) fn timer(&self) -> Timer {
        Timer { runtime: self.runtime.clone(), inner: None, at: None }
    }

    /// Waits until `at`.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(crate) async fn sleep_until(&self, at: Instant) {
        let mut timer = self.timer();
        timer.set(Some(at));
        timer.fired().await;
    }

    /// Waits for so long.
    pub(crate) async fn sleep(&self, time: Duration) {
        self.sleep_until(self.after(time)).await;
    }

    /// The future's result, or `None` when it has not ended in time; it is dropped then.
    pub(crate) async fn timeout<F: Future>(&self, time: Duration, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            result = future => Some(result),
            () = self.sleep(time) => None,
        }
    }

    /// A random number, for what needs no secrecy but must not repeat.
    pub(crate) fn random_u64(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}

/// Longer than anybody waits, and within every clock: 30 years.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// One timer that is set again and again; the runtime's timer is made when it is first needed.
pub(crate) struct Timer {
    runtime: Arc<dyn Runtime>,
    inner: Option<Pin<Box<dyn quinn::AsyncTimer>>>,
    at: Option<Instant>,
}

impl Timer {
    /// Fires at this time from now on, or never.
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        if self.at == at {
            return;
        }
        self.at = at;
        if let Some(at) = at {
            match &mut self.inner {
                Some(timer) => timer.as_mut().reset(at),
                None => self.inner = Some(self.runtime.new_timer(at)),
            }
        }
    }

    /// Ready at the time that was set; the timer is then unset.
    pub(crate) fn poll_fired(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let (Some(timer), Some(_)) = (&mut self.inner, self.at) else { return Poll::Pending };
        std::task::ready!(timer.as_mut().poll(cx));
        self.at = None;
        Poll::Ready(())
    }

    /// Waits for the time that was set; for ever when none is.
    pub(crate) async fn fired(&mut self) {
        std::future::poll_fn(|cx| self.poll_fired(cx)).await;
    }
}
