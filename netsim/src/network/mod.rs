//! Who gets which packet, and when? Hosts on LANs, routers between these, and what is cut.

mod cuts;
mod flight;
mod routes;
mod state;
mod worse;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::udp::EcnCodepoint;
#[cfg(feature = "mesh")]
use rand::RngCore;

pub(crate) use cuts::CutId;
pub(crate) use flight::Flight;
pub(crate) use state::{Families, HostId, LanId, Life, RouterId};
pub(crate) use worse::Way;

use crate::capture::{Capture, Sink};
use crate::clock::Clock;
use crate::inbox::{Inbox, Packet, SocketId};
use crate::link::{Link, Pipe};
use crate::random;
use crate::trace::{Fate, Recorder, Trace};
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

    // --- LANs and routers ---

    /// The LAN that hosts are on which name none.
    pub(crate) fn default_lan(&self) -> LanId {
        LanId(0)
    }

    pub(crate) fn add_lan(&self, name: &str) -> LanId {
        self.lock().add_lan(name)
    }

    pub(crate) fn lan_name(&self, lan: LanId) -> String {
        self.lock().lan(lan).name.clone()
    }

    /// Panics when the LAN has given out addresses already.
    pub(crate) fn set_families(&self, lan: LanId, families: Families) {
        let mut state = self.lock();
        let lan = state.lan_mut(lan);
        assert!(!lan.has_members(), "LAN `{}` has given out addresses already", lan.name);
        lan.families = families;
    }

    pub(crate) fn change_lan_link(&self, lan: LanId, change: impl FnOnce(Link) -> Link) {
        let mut state = self.lock();
        let lan = state.lan_mut(lan);
        lan.link = change(lan.link);
    }

    pub(crate) fn set_lan_up(&self, lan: LanId, up: bool) {
        let now = self.clock.now();
        let mut state = self.lock();
        if std::mem::replace(&mut state.lan_mut(lan).up, up) != up {
            let text = format!("LAN {} is {}", state.lan(lan).name, if up { "up again" } else { "down" });
            state.trace.note(now, text);
        }
    }

    pub(crate) fn set_multicast_loss(&self, lan: LanId, loss: f64) {
        self.lock().lan_mut(lan).multicast_loss = loss;
    }

    pub(crate) fn add_router(&self, name: &str, lans: &[LanId]) -> RouterId {
        self.lock().add_router(name, lans)
    }

    pub(crate) fn router_name(&self, router: RouterId) -> String {
        self.lock().router_mut(router).name.clone()
    }

    pub(crate) fn change_router_link(&self, router: RouterId, change: impl FnOnce(Link) -> Link) {
        let mut state = self.lock();
        let router = state.router_mut(router);
        router.link = change(router.link);
    }

    pub(crate) fn set_router_up(&self, router: RouterId, up: bool) {
        let now = self.clock.now();
        let mut state = self.lock();
        if std::mem::replace(&mut state.router_mut(router).up, up) != up {
            let text = format!("router {} is {}", state.router_mut(router).name, if up { "up again" } else { "down" });
            state.trace.note(now, text);
            state.find_routes();
        }
    }

    // --- hosts ---

    /// A new host on this LAN, which is up. Panics when the name is taken or no address is left.
    pub(crate) fn add_host(&self, name: &str, lan: LanId) -> HostId {
        let mut state = self.lock();
        let host = state.add_host(name);
        state.attach(host, lan);
        host
    }

    /// The host of this name.
    #[cfg(feature = "mesh")]
    pub(crate) fn host_named(&self, name: &str) -> Option<HostId> {
        let state = self.lock();
        let found = state.hosts.iter().position(|host| host.name == name);
        found.map(HostId::nth)
    }

    /// The addresses that a host has now, IPv4 first on each LAN.
    pub(crate) fn addresses(&self, host: HostId) -> Vec<IpAddr> {
        self.lock().addresses(host).collect()
    }

    pub(crate) fn attach(&self, host: HostId, lan: LanId) {
        let now = self.clock.now();
        let mut state = self.lock();
        let attached = state.interface_on(host, lan).is_some_and(|id| state.interface(id).up);
        if !attached {
            state.attach(host, lan);
            let text = format!("{} joins LAN {}", state.host(host).name, state.lan(lan).name);
            state.trace.note(now, text);
        }
    }

    pub(crate) fn detach(&self, host: HostId, lan: LanId) {
        let now = self.clock.now();
        let mut state = self.lock();
        if let Some(id) = state.interface_on(host, lan)
            && std::mem::take(&mut state.interface_mut(id).up)
        {
            let text = format!("{} leaves LAN {}", state.host(host).name, state.lan(lan).name);
            state.trace.note(now, text);
        }
    }

    /// The LANs that the host is on.
    pub(crate) fn lans_of(&self, host: HostId) -> Vec<LanId> {
        let state = self.lock();
        state.attached(host).map(|id| state.interface(id).lan).collect()
    }

    /// Panics when the host has never been on the LAN.
    pub(crate) fn renumber(&self, host: HostId, lan: LanId) {
        let now = self.clock.now();
        let mut state = self.lock();
        let id = state.expect_interface(host, lan);
        state.renumber(id);
        let text = format!("{} gets another address on LAN {}", state.host(host).name, state.lan(lan).name);
        state.trace.note(now, text);
    }

    /// Panics when the host has never been on the LAN.
    pub(crate) fn set_uplink(&self, host: HostId, lan: LanId, link: Link) {
        let mut state = self.lock();
        let id = state.expect_interface(host, lan);
        state.interface_mut(id).uplink.0 = link;
    }

    /// Panics when the host has never been on the LAN.
    pub(crate) fn set_downlink(&self, host: HostId, lan: LanId, link: Link) {
        let mut state = self.lock();
        let id = state.expect_interface(host, lan);
        state.interface_mut(id).downlink.0 = link;
    }

    pub(crate) fn set_socket_buffer(&self, host: HostId, bytes: usize) {
        self.lock().host_mut(host).capacity = bytes;
    }

    pub(crate) fn set_multicast(&self, host: HostId, multicast: bool) {
        self.lock().host_mut(host).multicast = multicast;
    }

    /// The life that a host is in, or the last one.
    pub(crate) fn life(&self, host: HostId) -> Life {
        Life { host, start: self.lock().host(host).starts }
    }

    pub(crate) fn is_up(&self, life: Life) -> bool {
        self.lock().is_up(life)
    }

    /// The host is down and its sockets are gone; false when it was down already.
    pub(crate) fn take_down(&self, host: HostId, how: &str) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        if !std::mem::take(&mut state.host_mut(host).up) {
            return false;
        }
        let text = format!("{} {how}", state.host(host).name);
        state.trace.note(now, text);
        let gone = std::mem::take(&mut state.host_mut(host).inboxes);
        drop(state);
        drop::<Vec<Inbox>>(gone); // Their wakers go outside of the lock.
        true
    }

    /// The host is up again; false when it was up already.
    pub(crate) fn bring_up(&self, host: HostId) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        if std::mem::replace(&mut state.host_mut(host).up, true) {
            return false;
        }
        state.host_mut(host).starts += 1;
        let text = format!("{} starts again", state.host(host).name);
        state.trace.note(now, text);
        true
    }

    // --- what lies between them ---

    /// On all LANs, and those to come.
    pub(crate) fn set_link(&self, link: Link) {
        let mut state = self.lock();
        state.link = link;
        for lan in &mut state.lans {
            lan.link = link;
        }
    }

    pub(crate) fn set_link_one_way(&self, from: HostId, to: HostId, link: Link) {
        let mut state = self.lock();
        state.pairs.entry((from, to)).or_insert_with(|| (link, Pipe::default())).0 = link;
    }

    /// Nothing gets from any of the first to any of the second.
    pub(crate) fn cut(&self, from: &[HostId], to: &[HostId], both_ways: bool) -> CutId {
        let now = self.clock.now();
        let mut state = self.lock();
        let mut pairs = Vec::with_capacity(from.len() * to.len() * 2);
        for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b) {
            pairs.push((a, b));
            if both_ways {
                pairs.push((b, a));
            }
        }
        let names = |hosts: &[HostId]| -> String {
            hosts.iter().map(|id| state.host(*id).name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let text = format!("cut from {} to {}{}", names(from), names(to), if both_ways { " and back" } else { "" });
        state.trace.note(now, text);
        state.cuts.add(pairs)
    }

    pub(crate) fn heal_cut(&self, cut: CutId) {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.cuts.heal(cut) {
            state.trace.note(now, "a cut is healed".to_owned());
        }
    }

    pub(crate) fn heal(&self) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.cuts.heal_all();
        state.trace.note(now, "healed".to_owned());
    }

    // --- multicast ---

    /// Who hears a multicast of this host, on which LAN, and after how long. It draws from `random`, so that packets have
    /// the same fate whatever is said meanwhile.
    #[cfg(feature = "mesh")]
    pub(crate) fn multicast(&self, host: HostId, random: &mut impl RngCore) -> Vec<(HostId, LanId, Duration)> {
        self.lock().multicast(host, self.clock.now(), random)
    }

    /// Whether the host takes part in multicast.
    #[cfg(feature = "mesh")]
    pub(crate) fn has_multicast(&self, host: HostId) -> bool {
        self.lock().host(host).multicast
    }

    /// The addresses that a host has now on this LAN.
    #[cfg(feature = "mesh")]
    pub(crate) fn addresses_on(&self, host: HostId, lan: LanId) -> Vec<IpAddr> {
        let state = self.lock();
        let here = state.attached(host).find(|id| state.interface(*id).lan == lan);
        here.map_or_else(Vec::new, |id| state.addresses_at(id).collect())
    }

    #[cfg(feature = "mesh")]
    pub(crate) fn host_name(&self, host: HostId) -> String {
        self.lock().host(host).name.clone()
    }

    // --- sockets ---

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

    // --- the trace ---

    pub(crate) fn note(&self, text: String) {
        let now = self.clock.now();
        self.lock().trace.note(now, text);
    }

    /// What has happened up to now; files are complete up to now as well.
    pub(crate) fn trace(&self) -> Trace {
        self.trace_at(self.clock.now())
    }

    /// The trace, for who is on another thread, where the clock can't be read.
    pub(crate) fn trace_at(&self, now: Duration) -> Trace {
        let mut state = self.lock();
        if let Some(Err(error)) = state.capture.as_mut().map(Capture::flush) {
            state.stop_capture(&error);
        }
        if let Some(Err(error)) = state.keys.as_mut().map(Write::flush) {
            state.stop_keys(&error);
        }
        state.trace.trace(now)
    }

    // --- files ---

    pub(crate) fn set_capture(&self, capture: Capture) {
        self.lock().capture = Some(capture);
    }

    pub(crate) fn set_keys(&self, keys: Sink) {
        self.lock().keys = Some(keys);
    }

    pub(crate) fn wants_secrets(&self) -> bool {
        let state = self.lock();
        state.capture.is_some() || state.keys.is_some()
    }

    /// A line of a key log.
    pub(crate) fn log_secret(&self, line: &str) {
        let mut state = self.lock();
        if let Some(Err(error)) = state.capture.as_mut().map(|capture| capture.secret(line)) {
            state.stop_capture(&error);
        }
        if let Some(Err(error)) = state.keys.as_mut().map(|keys| keys.write_all(line.as_bytes())) {
            state.stop_keys(&error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn stop_capture(&mut self, error: &io::Error) {
        tracing::error!(target: "netsim", %error, "packets are no longer captured");
        self.capture = None;
    }

    fn stop_keys(&mut self, error: &io::Error) {
        tracing::error!(target: "netsim", %error, "keys are no longer logged");
        self.keys = None;
    }
}

/// The name of the LAN of hosts that name none.
const DEFAULT_LAN: &str = "lan";
