//! The way of a packet: over a host's cable, a LAN, perhaps routers and more LANs, and another cable, each of which may
//! lose it, hold it up or change it.

use std::net::IpAddr;
use std::task::Waker;
use std::time::Duration;

use super::state::{InterfaceId, State};
use super::{HostId, LanId, RouterId};
use crate::clock::Clock;
use crate::inbox::Packet;
use crate::link::{Link, Passage, Pipe, corrupt};
use crate::trace::{Fate, Stage};

/// A packet on its way.
#[derive(Clone)]
pub(crate) struct Flight {
    packet: Packet,
    sender: HostId,
    place: Place,
    /// The packet is in the trace.
    told: bool,
}

/// Where a packet is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// On the sender, before its cable.
    Leaving(InterfaceId),
    /// At the end of a LAN, sent from there by a host or a router.
    OnLan(LanId, From),
    /// In a router, on its way to this LAN.
    InRouter(RouterId, LanId, LanId),
    /// Before the receiver's cable.
    Entering(InterfaceId),
    /// On the receiver's host; the interface that it came by, unless it has never left the host.
    Home(HostId, Option<InterfaceId>),
}

#[derive(Debug, Clone, Copy)]
enum From {
    Host(InterfaceId),
    Router(RouterId),
}

/// Where a packet goes next.
enum Next {
    /// Through a link, to a place.
    Through(Stage, Place),
    /// Nowhere.
    Ends(Fate),
}

impl Flight {
    /// A packet that a host sends by one of its interfaces.
    pub(super) fn by(interface: InterfaceId, sender: HostId, packet: Packet) -> Self {
        Self { packet, sender, place: Place::Leaving(interface), told: false }
    }
}

impl State {
    /// What a host sends to itself.
    pub(super) fn loop_back(&mut self, host: HostId, packet: Packet, clock: &Clock) {
        let now = clock.now();
        let link = Link::loopback();
        let passage = Pipe::default().pass(&link, now, packet.size(), &mut self.random);
        let flight = Flight { packet, sender: host, place: Place::Home(host, None), told: false };
        self.send_on(Box::new(flight), Stage::Loopback, passage, now, clock);
    }

    /// It ends before it has begun.
    pub(super) fn refuse(&mut self, sender: HostId, packet: &Packet, fate: Fate, now: Duration) {
        self.tell_first(sender, packet, Stage::Lan, fate, now);
    }

    /// Takes a packet as far as it gets at this instant; gives who is to be woken for it.
    #[must_use]
    pub(super) fn fly(&mut self, mut flight: Box<Flight>, clock: &Clock) -> Option<Waker> {
        let now = clock.now();
        loop {
            if let Place::Home(host, interface) = flight.place {
                return self.deliver(host, interface, flight.packet);
            }
            let (stage, place) = match self.next(&flight) {
                Next::Through(stage, place) => (stage, place),
                Next::Ends(fate) => {
                    self.tell(&mut flight, Stage::Lan, fate, now);
                    return None;
                }
            };
            let passage = self.pass(&flight, stage, now);
            flight.place = place;
            match passage {
                // As if it was not there.
                None => {}
                Some(passage) => {
                    self.send_on(flight, stage, passage, now, clock);
                    return None;
                }
            }
        }
    }

    fn next(&self, flight: &Flight) -> Next {
        let to = flight.packet.to.ip();
        match flight.place {
            Place::Leaving(id) => Next::Through(Stage::Uplink, Place::OnLan(self.interface(id).lan, From::Host(id))),
            Place::OnLan(lan, from) => self.next_on(lan, from, flight.sender, to),
            Place::InRouter(router, _, out) => {
                if !self.routers[usize::from(router.0)].up {
                    return Next::Ends(Fate::Cut);
                }
                Next::Through(Stage::Router, Place::OnLan(out, From::Router(router)))
            }
            Place::Entering(id) => Next::Through(Stage::Downlink, Place::Home(self.interface(id).host, Some(id))),
            Place::Home(..) => unreachable!("what is at home is delivered"),
        }
    }

    fn next_on(&self, lan: LanId, from: From, sender: HostId, to: IpAddr) -> Next {
        if !self.lan(lan).up {
            return Next::Ends(Fate::Cut);
        }
        let target = self.owner(to);
        if let Some(id) = target {
            let receiver = self.interface(id).host;
            if self.cuts.is_cut(sender, receiver) {
                return Next::Ends(Fate::Cut);
            }
            let has_own = matches!(from, From::Host(_)) && !self.pairs.is_empty();
            if has_own && self.pairs.contains_key(&(sender, receiver)) {
                return Next::Through(Stage::Pair(receiver), Place::Entering(id));
            }
        }
        match self.lan_of(to) {
            Some(behind) if behind != lan => match self.routes.next(lan, behind) {
                Some((router, out)) => Next::Through(Stage::Lan, Place::InRouter(router, lan, out)),
                None => Next::Ends(Fate::NoRoute),
            },
            _ => match target {
                Some(id) => Next::Through(Stage::Lan, Place::Entering(id)),
                None => Next::Ends(Fate::NobodyThere),
            },
        }
    }

    /// What the link does that the packet comes to; `None` where it is as if it was not there.
    fn pass(&mut self, flight: &Flight, stage: Stage, now: Duration) -> Option<Passage> {
        let size = flight.packet.size();
        let random = &mut self.random;
        let (link, pipe) = match (stage, flight.place) {
            (Stage::Pair(receiver), _) => {
                let (link, pipe) = self.pairs.get_mut(&(flight.sender, receiver))?;
                (*link, pipe)
            }
            (_, Place::Leaving(id)) => {
                let interface = &mut self.interfaces[id.0 as usize];
                let link = self.hosts[usize::from(interface.host.0)].worse.apply(interface.uplink.0, false);
                (link, &mut interface.uplink.1)
            }
            (_, Place::Entering(id)) => {
                let interface = &mut self.interfaces[id.0 as usize];
                let link = self.hosts[usize::from(interface.host.0)].worse.apply(interface.downlink.0, true);
                (link, &mut interface.downlink.1)
            }
            (_, Place::InRouter(router, lan, out)) => {
                let router = &mut self.routers[usize::from(router.0)];
                (router.link, router.through.entry((lan, out)).or_default())
            }
            (_, Place::OnLan(lan, from)) => {
                let link = self.lans[usize::from(lan.0)].link;
                let pipe = match from {
                    From::Host(id) => &mut self.interfaces[id.0 as usize].pipe,
                    From::Router(id) => self.routers[usize::from(id.0)].onto.entry(lan).or_default(),
                };
                return Some(pipe.pass(&link, now, size, random));
            }
            (_, Place::Home(..)) => return None,
        };
        if link.is_ideal() && !matches!(stage, Stage::Pair(_)) {
            return None;
        }
        Some(pipe.pass(&link, now, size, random))
    }

    /// What becomes of a packet behind a link.
    fn send_on(&mut self, mut flight: Box<Flight>, stage: Stage, passage: Passage, now: Duration, clock: &Clock) {
        let (delay, again, is_corrupt, ecn) = match passage {
            Passage::Through { delay, again, corrupt, ecn } => (delay, again, corrupt, ecn),
            Passage::Lost => return self.tell(&mut flight, stage, Fate::Lost, now),
            Passage::Dropped => return self.tell(&mut flight, stage, Fate::Dropped, now),
            Passage::TooLarge => return self.tell(&mut flight, stage, Fate::TooLarge, now),
        };
        self.tell(&mut flight, stage, Fate::Arrives { delay, again, corrupt: is_corrupt }, now);
        if is_corrupt {
            corrupt(&mut flight.packet.bytes, &mut self.random);
        }
        if !ecn {
            flight.packet.ecn = None;
        }
        if let Some(again) = again {
            clock.at_landing(now + again, flight.clone());
        }
        clock.at_landing(now + delay, flight);
    }

    fn tell(&mut self, flight: &mut Flight, stage: Stage, fate: Fate, now: Duration) {
        let Flight { packet, told, sender, .. } = flight;
        if std::mem::replace(told, true) {
            self.trace.hop(now, stage, packet.from, packet.to, packet.bytes.len(), fate);
        } else {
            self.tell_first(*sender, packet, stage, fate, now);
        }
    }

    fn tell_first(&mut self, sender: HostId, packet: &Packet, stage: Stage, fate: Fate, now: Duration) {
        self.trace.packet(now, stage, packet.from, packet.to, &packet.bytes, fate);
        if let Some(capture) = &mut self.capture {
            let name = &self.hosts[usize::from(sender.0)].name;
            if let Err(error) = capture.packet(now, sender, name, packet, fate.why_not()) {
                self.stop_capture(&error);
            }
        }
    }

    fn deliver(&mut self, host: HostId, interface: Option<InterfaceId>, packet: Packet) -> Option<Waker> {
        // Its address may have gone meanwhile.
        let is_here = interface.is_none_or(|id| self.owner(packet.to.ip()) == Some(id));
        let host = &mut self.hosts[usize::from(host.0)];
        let inbox = host.inboxes.iter_mut().find(|inbox| inbox.hears(packet.to));
        let Some(inbox) = inbox.filter(|inbox| is_here && inbox.has_room(&packet, host.capacity)) else {
            self.trace.unheard();
            return None;
        };
        inbox.put(packet)
    }
}
