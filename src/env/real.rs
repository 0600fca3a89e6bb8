//! The real world: tokio, the operating system's sockets, randomness and clocks.

mod udp;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use rustix::net::sockopt::{ip_mtu, ipv6_mtu};
use rustls::crypto::CryptoProvider;
use rustls::time_provider::DefaultTimeProvider;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::busy_poll::BusyPoll;
use super::{BoxFuture, ETHERNET_PAYLOAD, Env, Network, Payload, Random};
use crate::discovery::{Local, Mdns};

impl Env {
    /// The operating system's world, with tasks and timers on this tokio runtime. Both I/O and time have to be enabled
    /// on it. Peers are looked for among the user's processes on this host, and on its networks by mDNS.
    pub fn real(handle: Handle) -> Self {
        Self::on(RealRuntime { handle, ended: Arc::default() })
    }

    fn on(runtime: RealRuntime) -> Self {
        let network = Arc::new(RealNetwork { handle: runtime.handle.clone(), addresses: Mutex::default() });
        Self {
            sources: vec![Arc::new(Local::of_user()), Arc::new(Mdns::new())],
            ..Self::new(
                Arc::new(runtime),
                network,
                Arc::new(crypto()),
                Arc::new(DefaultTimeProvider),
                Arc::new(SystemRandom),
            )
        }
    }
}

/// A thread of the node's own, with a runtime on which an application that blocks can not hold up a link.
#[derive(Debug)]
pub(crate) struct OwnThread {
    runtime: RealRuntime,
    busy_poll: BusyPoll,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl OwnThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system gives no thread, or no file descriptor for the runtime.
    pub(crate) fn start() -> io::Result<Self> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let runtime = RealRuntime { handle: tokio.handle().clone(), ended: Arc::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let busy_poll = BusyPoll::where_there_are_cores();
        tokio.spawn(busy_poll.clone().run());
        let ended = runtime.ended.clone();
        let thread = thread::Builder::new().name("meshmq".into()).spawn(move || {
            // Stopped, or forgotten: both end the thread.
            let _ = tokio.block_on(stopped);
            *ended.write().unwrap_or_else(PoisonError::into_inner) = true;
            // A name look-up may hang for half a minute; nobody waits for it any more.
            tokio.shutdown_background();
        })?;
        Ok(Self { runtime, busy_poll, stop: Mutex::new(Some(stop)), thread: Mutex::new(Some(thread)) })
    }

    /// The real world with its tasks and timers on this thread.
    pub(crate) fn env(&self) -> Env {
        Env { busy_poll: self.busy_poll.clone(), ..Env::on(self.runtime.clone()) }
    }

    /// The caller runs on this thread: waiting for it would never end.
    pub(crate) fn is_current(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
    }

    /// Ends the thread with all tasks on it, and waits until they are dropped; called on the thread itself, it does
    /// not wait. The second call does nothing.
    pub(crate) fn join(&self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            // A panic of a task stays in its task.
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Clone)]
struct RealRuntime {
    handle: Handle,
    /// tokio panics when a timer is polled after its runtime has ended, which a sender on another thread may do.
    ended: Arc<RwLock<bool>>,
}

impl Runtime for RealRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        let _guard = self.handle.enter();
        Box::pin(RealTimer { sleep: Box::pin(tokio::time::sleep_until(at.into())), ended: self.ended.clone() })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.handle.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let _guard = self.handle.enter();
        Ok(Arc::new(udp::Socket::new(socket)?))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[derive(Debug)]
struct RealTimer {
    sleep: Pin<Box<Sleep>>,
    ended: Arc<RwLock<bool>>,
}

impl AsyncTimer for RealTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.sleep.as_mut().reset(at.into());
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let ended = this.ended.read().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits on a runtime that is gone has waited long enough.
        if !*ended {
            ready!(Future::poll(this.sleep.as_mut(), cx));
        }
        Poll::Ready(())
    }
}

struct RealNetwork {
    handle: Handle,
    /// What this host's addresses were, and when that was asked.
    addresses: Mutex<Option<(Instant, Vec<IpAddr>)>>,
}

impl Network for RealNetwork {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let _guard = self.handle.enter();
        Ok(Arc::new(udp::Socket::new(udp::bind(address)?)?))
    }

    fn listen(&self, address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
        let _guard = self.handle.enter();
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    }

    fn resolve(&self, host: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        let lookup = self.handle.spawn_blocking(move || Ok((host.as_str(), port).to_socket_addrs()?.collect()));
        Box::pin(async move { lookup.await.map_err(io::Error::other)? })
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|(asked, _)| asked.elapsed() >= ADDRESSES_FOR) {
            *known = Some((Instant::now(), own_addresses()));
        }
        known.as_ref().map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    fn largest_payload(&self, to: IpAddr) -> Payload {
        match own_payload(to.to_canonical()) {
            Some(LOOPBACK_PAYLOAD..) => Payload::Certain(LOOPBACK_PAYLOAD as u16),
            _ => Payload::AtMost(ETHERNET_PAYLOAD),
        }
    }
}

fn own_addresses() -> Vec<IpAddr> {
    // What can not be found out, nobody is told: peers are met at the addresses where they were seen.
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.into_iter().filter(|interface| !interface.is_loopback()).map(|interface| interface.ip()).collect()
}

/// How long this host's addresses are taken to be what they were: while many links begin at once, the kernel is not
/// asked for each.
const ADDRESSES_FOR: Duration = Duration::from_secs(1);

/// What the kernel takes in one packet to an address of this host; `None`: it is another host's. An address of this host
/// is one that can be bound; packets to it take the loopback interface.
fn own_payload(to: IpAddr) -> Option<u32> {
    let socket = UdpSocket::bind((to, 0)).ok()?;
    socket.connect(socket.local_addr().ok()?).ok()?;
    // Less the headers of IP and UDP.
    if to.is_ipv4() { ip_mtu(&socket).ok()?.checked_sub(28) } else { ipv6_mtu(&socket).ok()?.checked_sub(48) }
}

/// What Linux's loopback interface takes (65,536) without the headers of IPv6 and UDP; also below IPv4's limit, 65,507.
const LOOPBACK_PAYLOAD: u32 = 65_488;

/// The randomness of the operating system.
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        getrandom::fill(out).map_err(|error| io::Error::other(error.to_string()))
    }
}

#[cfg(feature = "aws-lc-rs")]
fn crypto() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn crypto() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("meshmq needs one of its features `aws-lc-rs` (the default) and `ring` for its cryptography");

#[cfg(test)]
mod tests;
