//! Peer exchange: who tells whom where others are. One known address is enough to meet a whole mesh by.
//!
//! What a peer should have been told follows from the links there are; now and then it is compared with what it has
//! been told, and the difference is said. Who has told of a link itself is not told of it: in a mesh where all know
//! each other little is said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::hall::{Hall, State};
use super::links::Connected;
use crate::discovery::exchange::{told, usable};
use crate::id::NodeId;
use crate::session::ConnectionId;
use crate::wire::control::PeerEntry;
use crate::wire::limits::MAX_PEERS;

/// What two ends of a link have told each other of others.
#[derive(Default)]
pub(super) struct Gossip {
    told: BTreeMap<NodeId, Vec<SocketAddr>>,
    /// With whom the peer says that it has a link.
    heard: BTreeSet<NodeId>,
}

impl Hall {
    /// A link has come or gone: others are told, together with what else changes within a moment.
    pub(super) fn exchange_soon(&self, state: &mut State, now: Instant) {
        if self.exchange {
            let links = u32::try_from(state.connections.len()).unwrap_or(u32::MAX);
            state.exchange_at.get_or_insert_with(|| now + GATHER + GATHER_A_LINK.saturating_mul(links));
        }
    }

    /// Tells when it is time to, and says when that is.
    pub(super) fn act_exchange(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let at = state.exchange_at?;
        if now < at {
            return Some(at);
        }
        state.exchange_at = None;
        let links: Vec<(NodeId, SocketAddr, Vec<SocketAddr>)> = open(state).map(|(_, link)| place(link)).collect();
        for to in state.connections.values_mut().filter(|connected| connected.open) {
            let from = to.connection.remote_address();
            let mut due: BTreeMap<NodeId, Vec<SocketAddr>> = BTreeMap::new();
            for (node, seen, own_word) in &links {
                if *node != to.peer && !to.gossip.heard.contains(node) {
                    let addresses = told(*seen, own_word, from);
                    if !addresses.is_empty() {
                        due.insert(*node, addresses);
                    }
                }
            }
            let withdrawn = to.gossip.told.keys().filter(|node| !due.contains_key(node)).copied();
            let withdrawn = withdrawn.map(|node| (node, Vec::new())).collect::<Vec<_>>();
            let new = due.iter().filter(|(node, addresses)| to.gossip.told.get(node) != Some(addresses));
            let news = new.map(|(node, addresses)| (*node, addresses.clone())).chain(withdrawn).collect::<Vec<_>>();
            for (node, addresses) in news {
                to.session.tell_peer(node, addresses);
                to.say.notify_one();
            }
            to.gossip.told = due;
        }
        None
    }

    /// A peer has told of its peers.
    pub(super) fn handle_peers(&self, state: &mut State, now: Instant, id: ConnectionId, peers: Vec<PeerEntry>) {
        let Some(connected) = state.connections.get_mut(&id).filter(|_| self.exchange) else { return };
        let (teller, from) = (connected.peer, connected.connection.remote_address());
        for PeerEntry { node, addresses } in peers {
            let Some(connected) = state.connections.get_mut(&id) else { return };
            let heard = &mut connected.gossip.heard;
            match addresses.is_empty() {
                true => heard.remove(&node),
                false => heard.len() < MAX_PEERS && heard.insert(node),
            };
            let addresses = usable(addresses, from);
            if node == self.id || node == teller || !state.has_room_for(node) {
                continue;
            }
            if addresses.is_empty() {
                if let Some(peer) = state.peers.get_mut(&node) {
                    peer.told.remove(&teller);
                }
                state.forget_unknown(now, node);
                continue;
            }
            // Who was talked of before keeps its pace: to take a word back and say it again causes no dial.
            let peer = state.peer(self.id, node, now);
            if peer.told.len() < MAX_TELLERS || peer.told.contains_key(&teller) {
                peer.told.insert(teller, addresses);
            }
        }
    }

    /// The link with a node is lost, and so may be what it has told.
    pub(super) fn teller_lost(&self, state: &mut State, teller: NodeId) {
        let linked: BTreeSet<NodeId> = open(state).map(|(node, _)| node).collect();
        for (node, peer) in &mut state.peers {
            peer.teller_lost(teller, linked.contains(node));
        }
    }
}

fn open(state: &State) -> impl Iterator<Item = (NodeId, &Connected)> {
    state.connections.values().filter(|connected| connected.open).map(|connected| (connected.peer, connected))
}

/// Where a peer was seen, and where it says that it is.
fn place(link: &Connected) -> (NodeId, SocketAddr, Vec<SocketAddr>) {
    let own_word = link.session.peer().map(|hello| hello.addresses.clone()).unwrap_or_default();
    (link.peer, link.connection.remote_address(), own_word)
}

/// How long links that come and go are gathered before others are told.
const GATHER: Duration = Duration::from_millis(250);
/// And how much longer for each link there is, as each is told: a hundred frames a second at the most, however many
/// links begin at once.
const GATHER_A_LINK: Duration = Duration::from_millis(10);
/// Of how many peers it is kept what they say of one other.
const MAX_TELLERS: usize = 8;
