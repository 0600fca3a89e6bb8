//! Which of the addresses that are heard of a peer are worth dialling, and in which order; pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::wire::limits::MDNS_ADDRESSES;

/// An address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// The number of its interface.
    pub(super) interface: u32,
    pub(super) ip: IpAddr,
    /// How many leading bits it shares with all addresses of its link.
    pub(super) prefix: u8,
}

/// An address that somebody says to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) ip: IpAddr,
    /// The interfaces on which it was said.
    pub(super) interfaces: Vec<u32>,
}

/// How far away an address is; the nearest are dialled first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    ThisHost,
    OnLink,
    /// On a link, but with an address that only lives there.
    LinkLocal,
    Elsewhere,
}

/// Where to dial a peer with this port, from a node that is bound to `bound`. What cannot be reached from there is left
/// out, as are a loopback address that did not come from this host itself, and what is no address of one node.
pub(super) fn choose(heard: &[Heard], port: u16, own: &[Own], bound: IpAddr) -> Vec<SocketAddr> {
    let mut chosen = Vec::new();
    for address in heard.iter().filter(|address| port != 0 && is_dialable(address.ip, bound)) {
        for (distance, scope) in places(address, own) {
            let at = match address.ip {
                IpAddr::V4(ip) => (ip, port).into(),
                IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
            };
            chosen.push((distance, at));
        }
    }
    // Within a distance IPv4 comes first, and the order is always the same.
    chosen.sort_unstable();
    let mut once = BTreeSet::new();
    let near = chosen.into_iter().map(|(_, at)| at).filter(|at| once.insert(*at));
    near.take(MDNS_ADDRESSES).collect()
}

/// A socket that is bound to `bound` can send to it.
fn is_dialable(ip: IpAddr, bound: IpAddr) -> bool {
    let bound = bound.to_canonical();
    let one_node = !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast(ip);
    let same_family = ip.is_ipv4() == bound.is_ipv4();
    one_node && if bound.is_loopback() { ip.is_loopback() && same_family } else { same_family || takes_both(bound) }
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

fn takes_both(bound: IpAddr) -> bool {
    bound.is_ipv6() && bound.is_unspecified()
}

/// How far away the address is, and the scope that says on which link, where it needs one; more than once where it may
/// be on several links.
fn places(heard: &Heard, own: &[Own]) -> Vec<(Distance, u32)> {
    if heard.ip.is_loopback() {
        // Another host that says so would have us talk to ourselves.
        let from_here = own.iter().any(|own| own.ip.is_loopback() && heard.interfaces.contains(&own.interface));
        return if from_here { vec![(Distance::ThisHost, 0)] } else { Vec::new() };
    }
    match heard.ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            let links = heard.interfaces.iter().filter(|interface| **interface != 0);
            links.map(|interface| (Distance::LinkLocal, *interface)).collect()
        }
        IpAddr::V4(ip) if ip.is_link_local() => vec![(Distance::LinkLocal, 0)],
        ip => {
            let near = own.iter().any(|own| heard.interfaces.contains(&own.interface) && on_link(ip, own));
            vec![(if near { Distance::OnLink } else { Distance::Elsewhere }, 0)]
        }
    }
}

fn on_link(ip: IpAddr, own: &Own) -> bool {
    let differs = match (ip, own.ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differs >= u32::from(own.prefix)
}
