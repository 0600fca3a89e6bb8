//! Peer exchange: what a node says of one peer to another, and what it believes of what it is told.
//!
//! An address is passed on only where it may mean the same: one of loopback within the host, none of a single link.

use std::net::{IpAddr, SocketAddr};

/// Where a peer may be reached by somebody else: where it was seen, then what it says of itself.
pub(crate) fn told(seen: SocketAddr, own_word: &[SocketAddr], to: SocketAddr) -> Vec<SocketAddr> {
    usable(std::iter::once(seen).chain(own_word.iter().copied()), to)
}

/// Those of the addresses that may be dialled on the word of the peer at `from`, or told to it.
pub(crate) fn usable(addresses: impl IntoIterator<Item = SocketAddr>, from: SocketAddr) -> Vec<SocketAddr> {
    let mut usable = Vec::new();
    for address in addresses {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let here = !address.ip().is_loopback() || from.ip().to_canonical().is_loopback();
        if here && is_host(address.ip()) && address.port() != 0 && !usable.contains(&address) {
            usable.push(address);
        }
    }
    usable
}

/// One host's address, and no matter on which link it is read.
pub(crate) fn is_host(ip: IpAddr) -> bool {
    !ip.is_unspecified()
        && !ip.is_multicast()
        && match ip {
            IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_leaves_neither_its_host_nor_its_link() {
        let all = addresses(&[
            "127.0.0.1:7000",
            "[::1]:7000",
            "[::ffff:127.0.0.1]:7000",
            "10.1.2.3:7000",
            "[2001:db8::7]:7000",
            "169.254.1.1:7000",
            "[fe80::1]:7000",
        ]);
        let near = ["127.0.0.1:7000", "[::1]:7000", "10.1.2.3:7000", "[2001:db8::7]:7000"];
        for (from, expected) in [("127.0.0.1:9", &near[..]), ("[::1]:9", &near), ("10.1.2.9:9", &near[2..])] {
            assert_eq!(usable(all.clone(), from.parse().unwrap()), addresses(expected), "from {from}");
        }
    }

    #[test]
    fn what_is_no_hosts_address_is_not_dialled() {
        let nobody = ["0.0.0.0:1", "[::]:1", "224.0.0.251:5353", "[ff02::fb]:5353", "255.255.255.255:1", "10.1.2.3:0"];
        assert_eq!(usable(addresses(&nobody), "10.0.0.1:1".parse().unwrap()), []);
    }

    #[test]
    fn where_a_peer_was_seen_comes_first_and_once() {
        let own_word = addresses(&["10.1.2.3:7000", "192.0.2.7:7000"]);
        let to = "10.1.2.9:1".parse().unwrap();
        assert_eq!(
            told("192.0.2.7:7000".parse().unwrap(), &own_word, to),
            addresses(&["192.0.2.7:7000", "10.1.2.3:7000"])
        );
        assert_eq!(told("127.0.0.1:7000".parse().unwrap(), &own_word, to), own_word, "it is on the teller's host");
    }
}
