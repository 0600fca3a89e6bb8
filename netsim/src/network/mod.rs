//! Who gets which packet, and when? Hosts on LANs, routers between these, and what is cut.

mod addresses;
mod cuts;
mod flight;
mod layout;
#[cfg(feature = "mesh")]
mod multicast;
mod record;
mod routes;
mod state;
mod worse;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::EcnCodepoint;

pub(crate) use cuts::CutId;
pub(crate) use flight::Flight;
pub(crate) use state::{Families, HostId, LanId, Life, RouterId};
pub(crate) use worse::Way;

use crate::clock::Clock;
use crate::inbox::{Inbox, Packet, SocketId};
use crate::random;
use crate::trace::{Fate, Recorder};
use state::State;

/// The network of a run.
pub(crate) struct Network {
    pub(crate) clock: Arc<Clock>,
    state: Mutex<State>,
}

/// A datagram, or several of `segment` bytes each, as a socket hands them over.
pub(crate) struct Outgoing<'a> {
    /// Where the socket is bound.
    pub(crate) bound: SocketAddr,
    /// The address that it is to be sent from, if the sender has one in mind.
    pub(crate) source: Option<IpAddr>,
    pub(crate) to: SocketAddr,
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) contents: &'a [u8],
    pub(crate) segment: usize,
}

impl Outgoing<'_> {
    fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        // Nothing to send is one datagram, which is empty.
        let empty = self.contents.is_empty().then_some(self.contents);
        empty.into_iter().chain(self.contents.chunks(self.segment.max(1)))
    }
}

impl Network {
    pub(crate) fn new(clock: Arc<Clock>, seed: u64, trace: Recorder) -> Self {
        let mut state = State::new(random::stream(seed, "network"), trace);
        state.add_lan(DEFAULT_LAN);
        Self { clock, state: Mutex::new(state) }
    }

    /// Binds a port, or a free one for port 0. `0.0.0.0` takes what comes to any IPv4 address of the host, `[::]` what
    /// comes to any at all.
    pub(crate) fn bind(&self, life: Life, ip: IpAddr, port: u16) -> io::Result<(SocketId, u16)> {
        let mut state = self.lock();
        if !state.is_up(life) {
            return Err(io::Error::new(io::ErrorKind::NetworkDown, "the simulated host is down"));
        }
        if !ip.is_unspecified() && !ip.is_loopback() && !state.has_address(life.host, ip) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = if port == 0 { state.free_port(life.host, ip)? } else { port };
        if state.host(life.host).inboxes.iter().any(|inbox| inbox.occupies(ip, port)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let socket = SocketId(state.sockets);
        state.sockets += 1;
        state.host_mut(life.host).inboxes.push(Inbox::new(socket, ip, port));
        Ok((socket, port))
    }

    /// Gives a port back.
    pub(crate) fn unbind(&self, life: Life, socket: SocketId) {
        let mut state = self.lock();
        let inboxes = &mut state.host_mut(life.host).inboxes;
        if let Some(place) = inboxes.iter().position(|inbox| inbox.socket == socket) {
            let inbox = inboxes.remove(place);
            drop(state);
            drop(inbox);
        }
    }

    /// Sends from a host. What a dead life sends has never been there, nor what is sent as the run is taken down.
    pub(crate) fn send(&self, life: Life, outgoing: &Outgoing<'_>) {
        let mut state = self.lock();
        if !state.is_up(life) || self.clock.is_over() {
            return;
        }
        let to = outgoing.to;
        let way = state.way(life.host, outgoing);
        for bytes in outgoing.datagrams() {
            let packet = |ip| Packet {
                from: SocketAddr::new(ip, outgoing.bound.port()),
                to,
                ecn: outgoing.ecn,
                bytes: bytes.to_vec(),
            };
            match way {
                Some((source, None)) => state.loop_back(life.host, packet(source), &self.clock),
                Some((source, Some(interface))) => {
                    let flight = Flight::by(interface, life.host, packet(source));
                    let woken = state.fly(Box::new(flight), &self.clock);
                    debug_assert!(woken.is_none(), "a packet takes its time");
                }
                None => {
                    let packet = packet(outgoing.bound.ip());
                    state.refuse(life.host, &packet, Fate::NoRoute, self.clock.now());
                }
            }
        }
    }

    /// A packet comes to the end of a link.
    pub(crate) fn land(&self, flight: Box<Flight>) {
        let mut state = self.lock();
        let woken = state.fly(flight, &self.clock);
        drop(state);
        if let Some(waker) = woken {
            waker.wake();
        }
    }

    /// The next packet for a socket, if there is one; wakes the task later if not. Never for a dead life.
    pub(crate) fn poll_receive(&self, life: Life, socket: SocketId, cx: &mut Context<'_>) -> Poll<Packet> {
        let mut state = self.lock();
        let mut inboxes = state.host_mut(life.host).inboxes.iter_mut();
        let Some(inbox) = inboxes.find(|inbox| inbox.socket == socket) else { return Poll::Pending };
        let (packet, before) = inbox.poll_take(cx);
        drop(state);
        drop(before);
        packet
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the LAN of hosts that name none.
const DEFAULT_LAN: &str = "lan";
