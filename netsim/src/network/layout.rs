//! Which hosts, LANs and routers are there, what lies between them, and what changes of that?

use std::net::IpAddr;

use super::Network;
use super::cuts::CutId;
use super::state::{Families, HostId, LanId, Life, RouterId};
use crate::inbox::Inbox;
use crate::link::{Link, Pipe};

impl Network {
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
}
