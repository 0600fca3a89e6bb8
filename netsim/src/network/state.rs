//! What there is: hosts, LANs, and what joins them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use rand_chacha::ChaCha20Rng;

use super::cuts::Cuts;
use super::routes::Routes;
use super::worse::Worse;
use crate::capture::{Capture, Sink};
use crate::inbox::{CAPACITY, Inbox};
use crate::link::{Link, Pipe};
use crate::trace::Recorder;

/// A host's number, in the order of making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostId(pub(super) u16);

impl HostId {
    /// The host that was made after so many others.
    #[cfg(feature = "mesh")]
    pub(crate) fn nth(index: usize) -> Self {
        Self(index.try_into().expect("at most 65,536 hosts"))
    }
}

/// A LAN's number, in the order of making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LanId(pub(super) u8);

#[cfg(all(test, feature = "mesh"))]
impl LanId {
    pub(crate) fn nth(index: u8) -> Self {
        Self(index)
    }
}

/// A router's number, in the order of making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouterId(pub(super) u16);

/// The number of a place where a host is, or was, attached to a LAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InterfaceId(pub(super) u32);

/// A host from a start to its crash. What was made in one life is dead in the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) host: HostId,
    pub(crate) start: u32,
}

pub(super) struct State {
    pub(super) random: ChaCha20Rng,
    pub(super) hosts: Vec<Host>,
    pub(super) lans: Vec<Lan>,
    pub(super) routers: Vec<Router>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) routes: Routes,
    /// What a new LAN begins with.
    pub(super) link: Link,
    /// Links of their own, by sender and receiver.
    pub(super) pairs: BTreeMap<(HostId, HostId), (Link, Pipe)>,
    pub(super) cuts: Cuts,
    pub(super) sockets: u64,
    pub(super) trace: Recorder,
    pub(super) capture: Option<Capture>,
    pub(super) keys: Option<Sink>,
}

pub(super) struct Host {
    pub(super) name: String,
    pub(super) up: bool,
    /// How often it was started.
    pub(super) starts: u32,
    pub(super) interfaces: Vec<InterfaceId>,
    pub(super) inboxes: Vec<Inbox>,
    /// Bytes that a socket holds unreceived.
    pub(super) capacity: usize,
    pub(super) multicast: bool,
    pub(super) worse: Worse,
    next_port: u16,
}

pub(super) struct Lan {
    pub(super) name: String,
    pub(super) link: Link,
    pub(super) up: bool,
    pub(super) families: Families,
    /// How likely a multicast is lost, for each who should hear it, on top of what is lost on the link.
    pub(super) multicast_loss: f64,
    /// Who has which number on it, from 1 on.
    pub(super) members: Vec<Option<InterfaceId>>,
}

/// Which addresses a LAN gives out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Families {
    Both,
    V4,
    V6,
}

pub(super) struct Router {
    pub(super) name: String,
    pub(super) lans: Vec<LanId>,
    pub(super) up: bool,
    pub(super) link: Link,
    /// Through the router, by the LANs in and out.
    pub(super) through: BTreeMap<(LanId, LanId), Pipe>,
    /// From the router onto a LAN.
    pub(super) onto: BTreeMap<LanId, Pipe>,
}

/// Where a host is, or was, attached to a LAN.
pub(super) struct Interface {
    pub(super) host: HostId,
    pub(super) lan: LanId,
    /// Its number on the LAN, and so its addresses.
    pub(super) number: u16,
    pub(super) up: bool,
    /// The LAN's link, for what is sent from here.
    pub(super) pipe: Pipe,
    /// The host's cable towards the LAN, and from it.
    pub(super) uplink: (Link, Pipe),
    pub(super) downlink: (Link, Pipe),
}

impl State {
    pub(super) fn new(random: ChaCha20Rng, trace: Recorder) -> Self {
        Self {
            random,
            hosts: Vec::new(),
            lans: Vec::new(),
            routers: Vec::new(),
            interfaces: Vec::new(),
            routes: Routes::default(),
            link: Link::lan(),
            pairs: BTreeMap::new(),
            cuts: Cuts::default(),
            sockets: 0,
            trace,
            capture: None,
            keys: None,
        }
    }

    /// A new LAN. Panics when the name is taken or no subnet is left.
    pub(super) fn add_lan(&mut self, name: &str) -> LanId {
        assert!(self.lans.iter().all(|lan| lan.name != name), "there is a LAN `{name}` already");
        let id = LanId(self.lans.len().try_into().expect("at most 256 LANs"));
        self.lans.push(Lan {
            name: name.to_owned(),
            link: self.link,
            up: true,
            families: Families::Both,
            multicast_loss: 0.0,
            members: Vec::new(),
        });
        self.find_routes();
        id
    }

    /// A new host on no LAN. Panics when the name is taken.
    pub(super) fn add_host(&mut self, name: &str) -> HostId {
        assert!(self.hosts.iter().all(|host| host.name != name), "there is a host `{name}` already");
        let id = HostId(self.hosts.len().try_into().expect("at most 65,536 hosts"));
        self.hosts.push(Host {
            name: name.to_owned(),
            up: true,
            starts: 1,
            interfaces: Vec::new(),
            inboxes: Vec::new(),
            capacity: CAPACITY,
            multicast: true,
            worse: Worse::default(),
            next_port: EPHEMERAL,
        });
        id
    }

    pub(super) fn add_router(&mut self, name: &str, lans: &[LanId]) -> RouterId {
        assert!(self.routers.iter().all(|router| router.name != name), "there is a router `{name}` already");
        let id = RouterId(self.routers.len().try_into().expect("at most 65,536 routers"));
        self.routers.push(Router {
            name: name.to_owned(),
            lans: lans.to_vec(),
            up: true,
            link: Link::ideal(),
            through: BTreeMap::new(),
            onto: BTreeMap::new(),
        });
        self.find_routes();
        id
    }

    /// Attaches a host to a LAN, with the address that it has had there before, or a new one.
    pub(super) fn attach(&mut self, host: HostId, lan: LanId) {
        if let Some(id) = self.interface_on(host, lan) {
            self.interface_mut(id).up = true;
            return;
        }
        let id = InterfaceId(self.interfaces.len().try_into().expect("fewer attachments than 2^32"));
        let number = self.lan_mut(lan).take_number(id);
        let ideal = || (Link::ideal(), Pipe::default());
        let (uplink, downlink) = (ideal(), ideal());
        self.interfaces.push(Interface { host, lan, number, up: true, pipe: Pipe::default(), uplink, downlink });
        self.host_mut(host).interfaces.push(id);
    }

    /// Gives a host another address on a LAN.
    pub(super) fn renumber(&mut self, id: InterfaceId) {
        let (lan, old) = (self.interface(id).lan, self.interface(id).number);
        let lan = self.lan_mut(lan);
        lan.members[usize::from(old) - 1] = None;
        let number = lan.take_number(id);
        self.interface_mut(id).number = number;
    }

    /// Where the host is attached to the LAN, or was.
    pub(super) fn interface_on(&self, host: HostId, lan: LanId) -> Option<InterfaceId> {
        self.host(host).interfaces.iter().copied().find(|id| self.interface(*id).lan == lan)
    }

    /// Panics when the host has never been there.
    pub(super) fn expect_interface(&self, host: HostId, lan: LanId) -> InterfaceId {
        let (host_name, lan_name) = (&self.host(host).name, &self.lan(lan).name);
        self.interface_on(host, lan)
            .unwrap_or_else(|| panic!("host `{host_name}` has never been on LAN `{lan_name}`; let it join first"))
    }

    /// Where the host is attached.
    pub(super) fn attached(&self, host: HostId) -> impl Iterator<Item = InterfaceId> {
        self.host(host).interfaces.iter().copied().filter(|id| self.interface(*id).up)
    }

    pub(super) fn find_routes(&mut self) {
        let routers = self.routers.iter().enumerate().filter(|(_, router)| router.up);
        let routers: Vec<_> = routers.map(|(id, router)| (RouterId(id as u16), router.lans.as_slice())).collect();
        self.routes = Routes::find(self.lans.len(), &routers);
    }

    /// The next port in turn, so that a new socket does not get the packets of the last one.
    pub(super) fn free_port(&mut self, host: HostId, ip: IpAddr) -> io::Result<u16> {
        let host = self.host_mut(host);
        for _ in EPHEMERAL..=u16::MAX {
            let port = host.next_port;
            host.next_port = port.checked_add(1).unwrap_or(EPHEMERAL);
            if !host.inboxes.iter().any(|inbox| inbox.occupies(ip, port)) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    pub(super) fn is_up(&self, life: Life) -> bool {
        let host = self.host(life.host);
        host.up && host.starts == life.start
    }

    pub(super) fn host(&self, id: HostId) -> &Host {
        &self.hosts[usize::from(id.0)]
    }

    pub(super) fn host_mut(&mut self, id: HostId) -> &mut Host {
        &mut self.hosts[usize::from(id.0)]
    }

    pub(super) fn lan(&self, id: LanId) -> &Lan {
        &self.lans[usize::from(id.0)]
    }

    pub(super) fn lan_mut(&mut self, id: LanId) -> &mut Lan {
        &mut self.lans[usize::from(id.0)]
    }

    pub(super) fn router_mut(&mut self, id: RouterId) -> &mut Router {
        &mut self.routers[usize::from(id.0)]
    }

    pub(super) fn interface(&self, id: InterfaceId) -> &Interface {
        &self.interfaces[id.0 as usize]
    }

    pub(super) fn interface_mut(&mut self, id: InterfaceId) -> &mut Interface {
        &mut self.interfaces[id.0 as usize]
    }
}

impl Lan {
    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Numbers are not given again: who has left is not mistaken for another.
    fn take_number(&mut self, id: InterfaceId) -> u16 {
        self.members.push(Some(id));
        let number = u16::try_from(self.members.len()).ok().filter(|number| *number < u16::MAX);
        number.unwrap_or_else(|| panic!("LAN `{}` has given out all of its 65,534 addresses", self.name))
    }
}

/// The first port that is given out by itself, as the registry of ports has it.
const EPHEMERAL: u16 = 49_152;
