//! Who gets which packet, and when? Hosts on one LAN, a link between each two of them, and what is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;

use crate::clock::Clock;
use crate::inbox::{Inbox, Packet};
use crate::link::Link;
use crate::random;
use crate::trace::{Fate, Recorder, Trace};

/// The network of a run.
pub(crate) struct Network {
    pub(crate) clock: Arc<Clock>,
    state: Mutex<State>,
}

struct State {
    random: ChaCha20Rng,
    hosts: Vec<HostState>,
    link: Link,
    /// Links of their own, by the two hosts in order.
    links: BTreeMap<(HostId, HostId), Link>,
    /// From whom to whom nothing gets through.
    cuts: BTreeSet<(HostId, HostId)>,
    inboxes: BTreeMap<(HostId, u16), Inbox>,
    trace: Recorder,
}

/// A host's number, in the order of making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostId(u16);

impl HostId {
    /// `10.0.0.1` is the first host.
    pub(crate) fn ip(self) -> Ipv4Addr {
        let [high, low] = (self.0 + 1).to_be_bytes();
        Ipv4Addr::new(10, 0, high, low)
    }
}

/// A host from a start to its crash. What was made in one life is dead in the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) host: HostId,
    pub(crate) start: u32,
}

struct HostState {
    name: String,
    up: bool,
    /// How often it was started.
    starts: u32,
    next_port: u16,
}

impl Network {
    pub(crate) fn new(clock: Arc<Clock>, seed: u64, trace: Recorder) -> Self {
        let state = State {
            random: random::stream(seed, "network"),
            hosts: Vec::new(),
            link: Link::lan(),
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            inboxes: BTreeMap::new(),
            trace,
        };
        Self { clock, state: Mutex::new(state) }
    }

    // --- hosts ---

    /// A new host, which is up. Panics when the name is taken or no address is left.
    pub(crate) fn add_host(&self, name: &str) -> HostId {
        let mut state = self.lock();
        assert!(state.hosts.iter().all(|host| host.name != name), "there is a host `{name}` already");
        let id = u16::try_from(state.hosts.len()).ok().filter(|id| *id < u16::MAX);
        let id = HostId(id.expect("at most 65,535 hosts"));
        state.hosts.push(HostState { name: name.to_owned(), up: true, starts: 1, next_port: EPHEMERAL });
        id
    }

    /// The host of this name.
    #[cfg(feature = "mesh")]
    pub(crate) fn host_named(&self, name: &str) -> Option<HostId> {
        let found = self.lock().hosts.iter().position(|host| host.name == name);
        found.map(|id| HostId(id.try_into().expect("host numbers fit")))
    }

    /// The life that a host is in, or the last one.
    pub(crate) fn life(&self, host: HostId) -> Life {
        Life { host, start: self.lock().host(host).starts }
    }

    pub(crate) fn is_up(&self, life: Life) -> bool {
        self.lock().is_up(life)
    }

    /// The host is down and its sockets are gone; false when it was down already.
    pub(crate) fn take_down(&self, host: HostId) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        if !std::mem::take(&mut state.host_mut(host).up) {
            return false;
        }
        let text = format!("{} crashes", state.host(host).name);
        state.trace.note(now, text);
        let (gone, left) = std::mem::take(&mut state.inboxes).into_iter().partition(|((owner, _), _)| *owner == host);
        state.inboxes = left;
        drop(state);
        drop::<BTreeMap<_, Inbox>>(gone); // Their wakers go outside of the lock.
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

    /// Between all hosts that have no link of their own.
    pub(crate) fn set_link(&self, link: Link) {
        self.lock().link = link;
    }

    pub(crate) fn set_link_between(&self, a: HostId, b: HostId, link: Link) {
        self.lock().links.insert((a.min(b), a.max(b)), link);
    }

    pub(crate) fn cut(&self, from: HostId, to: HostId) {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.cuts.insert((from, to)) {
            let text = format!("cut from {} to {}", state.host(from).name, state.host(to).name);
            state.trace.note(now, text);
        }
    }

    pub(crate) fn heal(&self) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.cuts.clear();
        state.trace.note(now, "healed".to_owned());
    }

    /// Whether packets get from one to the other.
    #[cfg(feature = "mesh")]
    pub(crate) fn reaches(&self, from: HostId, to: HostId) -> bool {
        !self.lock().cuts.contains(&(from, to))
    }

    // --- sockets ---

    /// Binds a port, or a free one for port 0. An unspecified `ip` takes what comes to any address of the host.
    pub(crate) fn bind(&self, life: Life, ip: Ipv4Addr, port: u16) -> io::Result<u16> {
        let mut state = self.lock();
        if !state.is_up(life) {
            return Err(io::Error::new(io::ErrorKind::NetworkDown, "the simulated host is down"));
        }
        if !ip.is_unspecified() && !ip.is_loopback() && ip != life.host.ip() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = if port == 0 { state.free_port(life.host)? } else { port };
        if state.inboxes.contains_key(&(life.host, port)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.inboxes.insert((life.host, port), Inbox::new(ip));
        Ok(port)
    }

    /// Gives a port back.
    pub(crate) fn unbind(&self, life: Life, port: u16) {
        let mut state = self.lock();
        if state.is_up(life) {
            let inbox = state.inboxes.remove(&(life.host, port));
            drop(state);
            drop(inbox);
        }
    }

    /// Sends a packet from a host. What a dead life sends has never been there, nor what is sent as the run is taken
    /// down.
    pub(crate) fn send(self: &Arc<Self>, life: Life, packet: Packet) {
        let now = self.clock.now();
        let mut state = self.lock();
        if !state.is_up(life) || self.clock.is_over() {
            return;
        }
        let (receiver, fate) = state.fate(life.host, &packet);
        state.trace.packet(now, packet.from, packet.to, &packet.bytes, fate.clone());
        drop(state);
        if let (Some(host), Fate::Arrives(delays)) = (receiver, fate) {
            for delay in delays {
                let (network, packet) = (self.clone(), packet.clone());
                self.clock.at(now + delay, move || network.deliver(host, packet));
            }
        }
    }

    /// The next packet for a port, if there is one; wakes the task later if not. Never for a dead life.
    pub(crate) fn poll_receive(&self, life: Life, port: u16, cx: &mut Context<'_>) -> Poll<Packet> {
        let mut state = self.lock();
        if !state.is_up(life) {
            return Poll::Pending;
        }
        let Some(inbox) = state.inboxes.get_mut(&(life.host, port)) else { return Poll::Pending };
        let (packet, before) = inbox.poll_take(cx);
        drop(state);
        drop(before);
        packet
    }

    fn deliver(&self, host: HostId, packet: Packet) {
        let mut state = self.lock();
        let inbox = state.inboxes.get_mut(&(host, packet.to.port())).filter(|inbox| inbox.takes(&packet));
        let Some(inbox) = inbox else { return state.trace.unheard() };
        let waiting = inbox.put(packet);
        drop(state);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    // --- the trace ---

    pub(crate) fn note(&self, text: String) {
        let now = self.clock.now();
        self.lock().trace.note(now, text);
    }

    pub(crate) fn trace(&self) -> Trace {
        self.trace_at(self.clock.now())
    }

    /// The trace, for who is on another thread, where the clock can't be read.
    pub(crate) fn trace_at(&self, now: Duration) -> Trace {
        self.lock().trace.trace(now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn host(&self, id: HostId) -> &HostState {
        &self.hosts[usize::from(id.0)]
    }

    fn host_mut(&mut self, id: HostId) -> &mut HostState {
        &mut self.hosts[usize::from(id.0)]
    }

    fn is_up(&self, life: Life) -> bool {
        let host = self.host(life.host);
        host.up && host.starts == life.start
    }

    /// Who has this address, as seen by a host.
    fn owner(&self, ip: Ipv4Addr, seen_by: HostId) -> Option<HostId> {
        if ip.is_loopback() {
            return Some(seen_by);
        }
        let number = u32::from(ip).checked_sub(u32::from(HostId(0).ip()))?;
        let number = u16::try_from(number).ok()?;
        (usize::from(number) < self.hosts.len()).then_some(HostId(number))
    }

    fn fate(&mut self, sender: HostId, packet: &Packet) -> (Option<HostId>, Fate) {
        let Some(receiver) = self.owner(*packet.to.ip(), sender) else { return (None, Fate::NobodyThere) };
        let link = match sender == receiver {
            true => Link::loopback(),
            false => *self.links.get(&(sender.min(receiver), sender.max(receiver))).unwrap_or(&self.link),
        };
        let fate = if self.cuts.contains(&(sender, receiver)) {
            Fate::Cut
        } else if !link.carries(packet.bytes.len()) {
            Fate::TooLarge
        } else {
            match link.delays(&mut self.random) {
                delays if delays.is_empty() => Fate::Lost,
                delays => Fate::Arrives(delays),
            }
        };
        (Some(receiver), fate)
    }

    /// The next port in turn, so that a new socket does not get the packets of the last one.
    fn free_port(&mut self, host: HostId) -> io::Result<u16> {
        for _ in EPHEMERAL..=u16::MAX {
            let port = self.host(host).next_port;
            self.host_mut(host).next_port = port.checked_add(1).unwrap_or(EPHEMERAL);
            if !self.inboxes.contains_key(&(host, port)) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// The first port that is given out by itself, as the registry of ports has it.
const EPHEMERAL: u16 = 49_152;
