//! Who hears what a host says by multicast?

use std::net::IpAddr;
use std::time::Duration;

use rand::RngCore;

use super::Network;
use super::state::{HostId, LanId, State};
use crate::link::{Passage, Pipe};

impl Network {
    /// Who hears a multicast of this host, on which LAN, and after how long. It draws from `random`, so that packets have
    /// the same fate whatever is said meanwhile.
    pub(crate) fn multicast(&self, host: HostId, random: &mut impl RngCore) -> Vec<(HostId, LanId, Duration)> {
        self.lock().multicast(host, self.clock.now(), random)
    }

    /// Whether the host takes part in multicast.
    pub(crate) fn has_multicast(&self, host: HostId) -> bool {
        self.lock().host(host).multicast
    }

    /// The addresses that a host has now on this LAN.
    pub(crate) fn addresses_on(&self, host: HostId, lan: LanId) -> Vec<IpAddr> {
        let state = self.lock();
        let here = state.attached(host).find(|id| state.interface(*id).lan == lan);
        here.map_or_else(Vec::new, |id| state.addresses_at(id).collect())
    }

    pub(crate) fn host_name(&self, host: HostId) -> String {
        self.lock().host(host).name.clone()
    }
}

impl State {
    fn multicast(&self, host: HostId, now: Duration, random: &mut impl RngCore) -> Vec<(HostId, LanId, Duration)> {
        let mut heard = Vec::new();
        for from in self.attached(host).filter(|_| self.host(host).multicast).map(|id| self.interface(id)) {
            let lan = self.lan(from.lan);
            let uplink = self.host(host).worse.apply(from.uplink.0, false);
            for to in lan.members.iter().flatten().map(|member| self.interface(*member)) {
                let other = self.host(to.host);
                let hears = lan.up && to.up && other.up && other.multicast && to.host != host;
                if !hears || self.cuts.is_cut(host, to.host) {
                    continue;
                }
                let downlink = other.worse.apply(to.downlink.0, true);
                // Queues and bursts are those of unicast: what little is said by multicast adds nothing to them.
                let links = [uplink, lan.link.loss_on_top(lan.multicast_loss), downlink];
                let delays = links.map(|link| match Pipe::default().pass(&link, now, MULTICAST, random) {
                    Passage::Through { delay, .. } => Some(delay),
                    _ => None,
                });
                if let [Some(up), Some(across), Some(down)] = delays {
                    heard.push((to.host, from.lan, up + across + down));
                }
            }
        }
        heard
    }
}

/// The size of a multicast, in bytes: an advert with its headers.
const MULTICAST: usize = 400;
