//! Who has which address, and from which one is sent?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Outgoing;
use super::state::{Families, HostId, Interface, InterfaceId, LanId, State};

impl State {
    /// The addresses of a host, IPv4 first on each LAN.
    pub(super) fn addresses(&self, host: HostId) -> impl Iterator<Item = IpAddr> {
        self.attached(host).flat_map(|id| self.addresses_at(id))
    }

    pub(super) fn addresses_at(&self, id: InterfaceId) -> impl Iterator<Item = IpAddr> + use<> {
        let Interface { lan, number, .. } = *self.interface(id);
        self.lan(lan).families.each().map(move |family| family.address(lan, number))
    }

    /// The address there of the same family.
    pub(super) fn address_like(&self, id: InterfaceId, like: IpAddr) -> Option<IpAddr> {
        self.addresses_at(id).find(|ip| ip.is_ipv4() == like.is_ipv4())
    }

    /// Whether the host is reached at this address, from itself or from others.
    pub(super) fn has_address(&self, host: HostId, ip: IpAddr) -> bool {
        self.owner(ip).is_some_and(|id| self.interface(id).host == host)
    }

    /// Where this address is, now.
    pub(super) fn owner(&self, ip: IpAddr) -> Option<InterfaceId> {
        let (lan, number) = self.parse(ip)?;
        let id = (*self.lan(lan).members.get(usize::from(number).checked_sub(1)?)?)?;
        self.interface(id).up.then_some(id)
    }

    /// How a host sends this: from which address, and by which interface; by none where it does not leave the host.
    /// `None` where there is no way: as with a real socket, the packet is gone.
    pub(super) fn way(&self, host: HostId, outgoing: &Outgoing<'_>) -> Option<(IpAddr, Option<InterfaceId>)> {
        let to = outgoing.to.ip();
        let bound = Some(outgoing.bound.ip()).filter(|ip| !ip.is_unspecified());
        if outgoing.bound.is_ipv4() && to.is_ipv6() {
            return None;
        }
        let wanted = outgoing.source.filter(|ip| !ip.is_unspecified());
        let source = bound.or(wanted);
        if let Some(source) = source {
            let is_own = source.is_loopback() || self.has_address(host, source);
            if !is_own || source.is_ipv4() != to.is_ipv4() {
                return None;
            }
        }
        if to.is_loopback() || self.has_address(host, to) {
            return Some((source.unwrap_or(to), None));
        }
        if source.is_some_and(|ip| ip.is_loopback()) {
            return None;
        }
        let lan = self.lan_of(to);
        let has_family = |id: &InterfaceId| self.address_like(*id, to).is_some();
        let directly = self.attached(host).filter(has_family).find(|id| lan == Some(self.interface(*id).lan));
        let reaches =
            |id: &InterfaceId| lan.is_some_and(|lan| self.routes.next(self.interface(*id).lan, lan).is_some());
        let interface = directly.or_else(|| self.attached(host).filter(has_family).find(reaches));
        // Whom nobody knows is sent the first way there is, as to a default router.
        let interface = interface.or_else(|| self.attached(host).find(has_family))?;
        Some((source.or_else(|| self.address_like(interface, to))?, Some(interface)))
    }

    /// The LAN that this address belongs to, whether or not anybody has it.
    pub(super) fn lan_of(&self, ip: IpAddr) -> Option<LanId> {
        self.parse(ip).map(|(lan, _)| lan)
    }

    fn parse(&self, ip: IpAddr) -> Option<(LanId, u16)> {
        let (lan, number) = match ip {
            IpAddr::V4(ip) => match ip.octets() {
                [10, lan, high, low] => (LanId(lan), u16::from_be_bytes([high, low])),
                _ => return None,
            },
            IpAddr::V6(ip) => match ip.segments() {
                [ULA, 0, 0, lan, 0, 0, 0, number] => (LanId(u8::try_from(lan).ok()?), number),
                _ => return None,
            },
        };
        let families = self.lans.get(usize::from(lan.0))?.families;
        families.each().any(|family| family.is_of(ip)).then_some((lan, number))
    }
}

impl Families {
    fn each(self) -> impl Iterator<Item = Family> {
        let families: &[Family] = match self {
            Self::Both => &[Family::V4, Family::V6],
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
        };
        families.iter().copied()
    }
}

#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn address(self, lan: LanId, number: u16) -> IpAddr {
        match self {
            Self::V4 => {
                let [high, low] = number.to_be_bytes();
                Ipv4Addr::new(10, lan.0, high, low).into()
            }
            Self::V6 => Ipv6Addr::new(ULA, 0, 0, lan.0.into(), 0, 0, 0, number).into(),
        }
    }

    fn is_of(self, ip: IpAddr) -> bool {
        matches!(self, Self::V4) == ip.is_ipv4()
    }
}

/// Unique local addresses (RFC 4193) begin with it; the subnet is the LAN's number.
const ULA: u16 = 0xfd00;
