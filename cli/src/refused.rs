//! Whether a node is without peers because nobody wants it: waiting longer would not have helped.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meshmq::{Event, Node};

/// What everybody said whom this node could have met; `None`: it has met somebody, or may still do so.
///
/// `named` are the addresses that the user gave. One of them that has not answered is no refusal.
pub(crate) fn refusal(node: &Node, named: &[String]) -> Option<String> {
    if node.metrics().links_opened > 0 {
        return None;
    }
    let (mut strangers, mut members) = (BTreeMap::new(), BTreeMap::new());
    // A new reader begins with what the node remembers, and nothing else has happened to one that has met nobody.
    let mut events = node.events();
    while let Some(event) = events.try_recv() {
        match event {
            Event::NoLink { address, why, refused: true } => {
                strangers.insert(address, why);
            }
            Event::LinkRefused { node, why } => {
                members.insert(node, why);
            }
            _ => {}
        }
    }
    // A member that has refused tells no address: it is at one of them that is not accounted for otherwise.
    let silent = named.iter().filter(|named| !strangers.keys().any(|address| may_be(named, *address))).count();
    if silent > members.len() {
        return None;
    }
    let remedy = "to be of one mesh, both need the same key (`meshmq key`) and the same --mesh";
    if let Some((address, why)) = strangers.first_key_value() {
        return Some(format!("refused: no link with {address}: {why}; {remedy}"));
    }
    let (node, why) = members.first_key_value()?;
    Some(format!("refused: no link with node {}: {why}", node.short()))
}

/// The user may have meant this address: its own, or a host name and this port.
fn may_be(named: &str, address: SocketAddr) -> bool {
    match named.parse::<SocketAddr>() {
        Ok(named) => named == address,
        Err(_) => named.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(address.port())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_at_any_address_of_its_port() {
        let address = "192.0.2.1:7400".parse().unwrap();
        assert!(may_be("192.0.2.1:7400", address) && may_be("build-1.lan:7400", address));
        for other in ["192.0.2.1:7401", "192.0.2.2:7400", "build-1.lan:7401", "[2001:db8::1]:7400"] {
            assert!(!may_be(other, address), "{other}");
        }
    }
}
