//! Who is dialled now, and what came of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::events::Event;
use super::hall::{Hall, State};
use super::pace::Pace;
use crate::id::NodeId;
use crate::link::DialError;

impl Hall {
    /// Dials whom it is time to dial, and says when that is next.
    pub(super) fn dial_due(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Instant> {
        state.forget(now, &state.connected());
        let talks = state.talks();
        let due = |node: NodeId, pace: &Pace| match talks.get(&node) {
            None => pace.due(),
            Some(until) => Some(pace.due_beside((*until)?)),
        };
        let mut next: Option<Instant> = None;
        let mut later = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        for (at, address) in &mut state.addresses {
            let due = match address.node {
                Some(node) if node == self.id => None,
                Some(node) => due(node, &address.pace),
                None => address.pace.due(),
            };
            let Some(due) = due else { continue };
            if due > now {
                later(due);
                continue;
            }
            let limit = address.pace.begin(now, 1, false, self.jitter());
            self.dial(Wanted::Anybody, *at, Duration::ZERO, limit);
            later(address.pace.due().unwrap_or(now + limit));
        }
        let mut room =
            MAX_HEARSAY.saturating_sub(state.peers.values().filter(|peer| peer.is_tried_on_hearsay()).count());
        let mut unlinked: Vec<_> = state.peers.iter_mut().filter(|(node, _)| talks.get(node) != Some(&None)).collect();
        // Who has waited longest comes first, or the dead would always be before the others.
        unlinked.sort_by_key(|(_, peer)| peer.pace.due());
        for (node, peer) in unlinked {
            let Some(due) = due(*node, &peer.pace) else { continue };
            if due > now {
                later(due);
                continue;
            }
            // Where an address is dialled for its own sake, once is enough.
            let mut addresses = peer.addresses();
            addresses
                .retain(|at| state.addresses.get(at).is_none_or(|address| address.node.is_some_and(|n| n != *node)));
            if addresses.is_empty() {
                continue;
            }
            // Of those who are shaking hands here it may be one.
            if self.id > *node
                && self.endpoint.is_shaking_hands()
                && let Some(due) = peer.pace.put_off(now, YIELD)
            {
                later(due);
                continue;
            }
            if peer.is_hearsay() {
                // The end of another dial wakes the supervisor.
                if room == 0 {
                    continue;
                }
                room -= 1;
            }
            let limit = peer.pace.begin(now, addresses.len(), peer.is_near(), self.jitter());
            for (nth, at) in addresses.into_iter().enumerate() {
                self.dial(Wanted::Peer(*node), at, STAGGER * nth as u32, limit);
            }
            later(peer.pace.due().unwrap_or(now + limit));
        }
        next
    }

    fn dial(self: &Arc<Self>, wanted: Wanted, at: SocketAddr, after: Duration, limit: Duration) {
        let hall = self.clone();
        self.env.spawn(async move {
            let result = tokio::select! {
                biased;
                () = hall.over.cancelled() => return,
                result = hall.dialled(wanted, at, after, limit) => result,
            };
            let adopted = match result {
                Some(Ok(connection)) => {
                    let peer = connection.peer();
                    tracing::debug!(target: "meshmq::node", node = %hall.id.short(), peer = %peer.short(), %at, "dialled");
                    hall.adopt(connection);
                    Some(peer)
                }
                Some(Err(error)) => {
                    tracing::debug!(target: "meshmq::node", node = %hall.id.short(), %error, "a dial came to nothing");
                    hall.dial_failed(wanted, at, error);
                    None
                }
                None => None,
            };
            hall.dial_ended(wanted, at, adopted);
        });
    }

    async fn dialled(
        &self,
        wanted: Wanted,
        at: SocketAddr,
        after: Duration,
        limit: Duration,
    ) -> Option<Result<crate::link::Connection, DialError>> {
        if after > Duration::ZERO {
            self.env.sleep(after).await;
            if let Wanted::Peer(node) = wanted
                && self.lock().is_connected(node)
            {
                return None;
            }
        }
        let time = limit.saturating_sub(after);
        let silent = || Err(DialError::Silent { address: at, time });
        Some(self.env.timeout(time, self.endpoint.dial(at)).await.unwrap_or_else(silent))
    }

    fn dial_failed(&self, wanted: Wanted, at: SocketAddr, error: DialError) {
        if matches!(error, DialError::Closing) {
            return;
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        let trouble = match wanted {
            Wanted::Anybody => state.addresses.get_mut(&at).map(|address| &mut address.trouble),
            Wanted::Peer(node) => state.peers.get_mut(&node).map(|peer| &mut peer.trouble),
        };
        let Some(trouble) = trouble else { return };
        let told = error.to_string();
        let new = trouble.as_ref() != Some(&told);
        *trouble = Some(told);
        // Silence is no news: the report of a node that stays alone tells of it.
        if new && let DialError::Failed { address, why, refused } = error {
            self.emit(Event::NoLink { address, why, refused });
        }
    }

    fn dial_ended(&self, wanted: Wanted, at: SocketAddr, adopted: Option<NodeId>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        match wanted {
            Wanted::Anybody => {
                if let Some(address) = state.addresses.get_mut(&at) {
                    address.pace.end(adopted.is_some());
                    address.node = adopted.or(address.node);
                }
                if let Some(peer) = adopted.and_then(|node| state.peers.get_mut(&node)) {
                    peer.found_by.get_or_insert(BY_ADDRESS);
                }
            }
            Wanted::Peer(node) => {
                let linked = state.is_connected(node);
                if let Some(peer) = state.peers.get_mut(&node) {
                    peer.pace.end(adopted == Some(node));
                    if !linked && !peer.pace.is_under_way() {
                        // Nobody is there, or nobody that it was said to be: whoever has said so may look again.
                        let _ = state.doubts.send(node);
                    }
                    if adopted.is_some_and(|other| other != node) {
                        // Somebody else is there now.
                        peer.proven.retain(|known| *known != at);
                        peer.hints.values_mut().for_each(|hint| hint.addresses.retain(|known| *known != at));
                        peer.hints.retain(|_, hint| !hint.addresses.is_empty());
                    }
                }
            }
        }
        drop(guard);
        self.changed.notify_one();
    }

    /// One link is back: so may be the others.
    pub(super) fn redial_lost(&self, state: &mut State, now: Instant) {
        let connected = state.connected();
        for (node, peer) in &mut state.peers {
            if !connected.contains(node) && !peer.proven.is_empty() {
                peer.pace.hasten(now, first_dial(self.id, *node, now));
            }
        }
        for address in state.addresses.values_mut() {
            if address.node.is_some_and(|node| !connected.contains(&node)) {
                address.pace.hasten(now, now);
            }
        }
    }

    /// The link with a node was lost: who dials it by address does so afresh as well.
    pub(super) fn hurry_addresses(&self, state: &mut State, now: Instant, node: NodeId) {
        for address in state.addresses.values_mut().filter(|address| address.node == Some(node)) {
            address.pace.hurry(now, now);
        }
    }

    pub(super) fn jitter(&self) -> u64 {
        // Without randomness all wait equally long, which is no harm to what is right.
        self.env.random_u64().unwrap_or(0)
    }
}

/// When a node first dials a peer that it has found, or lost.
pub(super) fn first_dial(own: NodeId, peer: NodeId, now: Instant) -> Instant {
    if own < peer { now } else { now + YIELD }
}

/// The same for a peer that a source is in touch with on this host. It knows of this node as well, and nothing is lost
/// on the way: where it does not dial at once, the host is busy, and a second handshake would only add to that.
pub(super) fn first_dial_near(own: NodeId, peer: NodeId, now: Instant) -> Instant {
    if own < peer { now } else { now + YIELD_NEAR }
}

/// Whom a dial is for.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Anybody,
    Peer(NodeId),
}

/// How a peer was found that a fixed address has led to: as the source of such addresses is called.
const BY_ADDRESS: &str = "fixed";
/// How much later the larger id dials, so that one handshake is the normal case.
const YIELD: Duration = Duration::from_millis(250);
const YIELD_NEAR: Duration = Duration::from_secs(2);
/// Between the dials to two addresses of one peer.
const STAGGER: Duration = Duration::from_millis(100);
/// Most peers that are dialled at a time on nothing but the word of others: whoever holds the mesh key could send a
/// node to dial anybody.
const MAX_HEARSAY: usize = 32;
