//! Who was seen on the network, within bounds; pure. A record is a hint: that it is there says nothing about whether
//! its node lives, and that it is gone says nothing about whether it is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::advert::{self, Told};
use crate::discovery::{Advert, Found};
use crate::id::NodeId;
use crate::wire::limits::MDNS_PEERS;

/// After a record was verified, how long doubts about it are not heard; doubled each time up to [`LAST_PATIENCE`].
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
const LAST_PATIENCE: Duration = Duration::from_secs(600);

/// The adverts that are there.
pub(super) struct Sightings {
    own: NodeId,
    mesh_tag: [u8; 8],
    peers: BTreeMap<NodeId, Peer>,
    /// Nodes of other meshes, by the names of their instances.
    strangers: BTreeMap<String, [u8; 8]>,
    /// Instances whose records make no advert.
    unclear: BTreeSet<String>,
    /// There was no room for another one.
    overrun: bool,
}

struct Peer {
    incarnation: u64,
    addresses: Vec<SocketAddr>,
    /// Until when a doubt is not heard.
    trusted_until: Option<Instant>,
    patience: Duration,
}

impl Sightings {
    pub(super) fn new(own: &Advert) -> Self {
        Self {
            own: own.node,
            mesh_tag: own.mesh_tag,
            peers: BTreeMap::new(),
            strangers: BTreeMap::new(),
            unclear: BTreeSet::new(),
            overrun: false,
        }
    }

    /// An instance has been resolved, perhaps once more, with all addresses that are known of it by now. `told`: its
    /// advert, where it makes one.
    pub(super) fn resolved(&mut self, name: &str, told: Option<Told>, addresses: Vec<SocketAddr>) -> Option<Found> {
        if advert::node(name) == Some(self.own) {
            return None;
        }
        let told = match told {
            Some(told) if told.mesh_tag == self.mesh_tag => told,
            other => return self.is_no_peer(name, other),
        };
        self.forget_name(name);
        let room = self.peers.len() < MDNS_PEERS;
        let Some(peer) = self.peers.get_mut(&told.node) else {
            if !room {
                self.overrun = true;
                return None;
            }
            let peer = Peer {
                incarnation: told.incarnation,
                addresses: addresses.clone(),
                trusted_until: None,
                patience: FIRST_PATIENCE,
            };
            self.peers.insert(told.node, peer);
            return (!addresses.is_empty()).then(|| seen(told.node, told.incarnation, addresses));
        };
        if peer.incarnation != told.incarnation {
            (peer.trusted_until, peer.patience) = (None, FIRST_PATIENCE);
        } else if peer.addresses == addresses {
            return None;
        }
        (peer.incarnation, peer.addresses) = (told.incarnation, addresses.clone());
        Some(seen(told.node, told.incarnation, addresses))
    }

    /// An instance's records have run out, were withdrawn, or were not confirmed.
    pub(super) fn removed(&mut self, name: &str) -> Option<Found> {
        self.forget_name(name);
        let node = advert::node(name)?;
        let peer = self.peers.remove(&node)?;
        Some(seen(node, peer.incarnation, Vec::new()))
    }

    /// Nobody is in sight any more: the hints that are withdrawn.
    pub(super) fn clear(&mut self) -> Vec<Found> {
        self.strangers.clear();
        self.unclear.clear();
        self.overrun = false;
        let peers = std::mem::take(&mut self.peers);
        peers.into_iter().map(|(node, peer)| seen(node, peer.incarnation, Vec::new())).collect()
    }

    /// A node is not where its record says: the name of the instance whose record is to be verified.
    pub(super) fn doubted(&mut self, now: Instant, node: NodeId) -> Option<String> {
        let peer = self.peers.get_mut(&node)?;
        if peer.trusted_until.is_some_and(|until| now < until) {
            return None;
        }
        peer.trusted_until = Some(now + peer.patience);
        peer.patience = (peer.patience * 2).min(LAST_PATIENCE);
        Some(advert::name(node))
    }

    /// How many instances are known, of all meshes.
    pub(super) fn len(&self) -> usize {
        self.peers.len() + self.strangers.len() + self.unclear.len()
    }

    /// For people.
    pub(super) fn report(&self, asked: &str) -> String {
        let unreachable = self.peers.values().filter(|peer| peer.addresses.is_empty()).count();
        let meshes: BTreeSet<_> = self.strangers.values().collect();
        let mut report = format!("asked {asked}; seen of this mesh: {}", self.peers.len());
        if unreachable > 0 {
            report += &format!(", without an address that this node can dial: {unreachable}");
        }
        report += &format!("; other meshes on this LAN: {}", meshes.len());
        if self.peers.is_empty() && !meshes.is_empty() {
            report += " (to join one, give this node its key and its name)";
        }
        if !self.unclear.is_empty() {
            report += &format!("; adverts that this version does not understand: {}", self.unclear.len());
        }
        if self.overrun {
            report += &format!("; more than {MDNS_PEERS} nodes advertise here, and the others are not looked at");
        }
        report
    }

    fn is_no_peer(&mut self, name: &str, told: Option<Told>) -> Option<Found> {
        let withdrawn = self.removed(name);
        // Whoever is of no use to this node takes no room from its peers.
        if self.strangers.len() + self.unclear.len() >= MDNS_PEERS {
            self.overrun = true;
        } else if let Some(told) = told {
            self.strangers.insert(name.to_owned(), told.mesh_tag);
        } else {
            self.unclear.insert(name.to_owned());
        }
        withdrawn
    }

    fn forget_name(&mut self, name: &str) {
        self.strangers.remove(name);
        self.unclear.remove(name);
    }
}

fn seen(node: NodeId, incarnation: u64, addresses: Vec<SocketAddr>) -> Found {
    Found::Seen { node: Some(node), incarnation: Some(incarnation), in_touch: false, addresses }
}
