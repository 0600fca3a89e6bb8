//! Who is in the mesh, and where they may be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::dials::{first_dial, first_dial_near};
use super::events::Event;
use super::hall::{Hall, State};
use super::pace::Pace;
use crate::discovery::Found;
use crate::id::NodeId;
use crate::link::CloseCode;
use crate::session::Arbiter;
use crate::wire::control::MAX_ADDRESSES;
use crate::wire::limits::{MAX_PEERS, REDIAL};

/// Another node: linked, lost, or only heard of.
pub(super) struct Peer {
    pub(super) arbiter: Arbiter,
    /// What it called itself.
    pub(super) name: String,
    /// Where each source says that it is.
    pub(super) hints: BTreeMap<usize, Hint>,
    /// Where its other peers say that it is.
    pub(super) told: BTreeMap<NodeId, Vec<SocketAddr>>,
    /// Where it was authenticated in this life of ours, the latest first.
    pub(super) proven: Vec<SocketAddr>,
    pub(super) pace: Pace,
    /// What has told of it first; `None`: it has found this node.
    pub(super) found_by: Option<&'static str>,
    /// Since when there is no link.
    unlinked: Instant,
    /// It has left or died, and nobody has seen it since: others may not have noticed yet, and go on telling of it.
    left: bool,
    /// What went wrong at last, so that the same is told once.
    pub(super) trouble: Option<String>,
}

/// What a source has said of it.
pub(super) struct Hint {
    incarnation: Option<u64>,
    in_touch: bool,
    pub(super) addresses: Vec<SocketAddr>,
}

/// Somebody is said to be here; who, a handshake tells.
pub(super) struct Address {
    pub(super) source: usize,
    /// Who was here at last; this node itself is not dialled again.
    pub(super) node: Option<NodeId>,
    pub(super) pace: Pace,
    pub(super) trouble: Option<String>,
}

impl Peer {
    fn new(own: NodeId, node: NodeId, now: Instant) -> Self {
        Self {
            arbiter: Arbiter::new(own < node),
            name: String::new(),
            hints: BTreeMap::new(),
            told: BTreeMap::new(),
            proven: Vec::new(),
            found_by: None,
            pace: Pace::new(first_dial(own, node, now)),
            unlinked: now,
            left: false,
            trouble: None,
        }
    }

    /// The link has ended, but not because the peer has left.
    pub(super) fn lost(&mut self, now: Instant, first: Instant) {
        self.unlinked = now;
        self.pace.hurry(now, first);
    }

    /// It has left or died: dialled again only when a source sees it again, or a peer that is linked says that it is
    /// there.
    pub(super) fn gone(&mut self, now: Instant) {
        self.unlinked = now;
        self.left = true;
        self.hints.clear();
        self.told.clear();
        self.proven.clear();
    }

    /// It is there.
    pub(super) fn is_back(&mut self) {
        self.left = false;
    }

    /// The link with one that has told of it is lost. What it said is kept, as it may have been the only one to know,
    /// unless this peer is linked, or has left: what it said then was not true, or soon would not have been.
    pub(super) fn teller_lost(&mut self, teller: NodeId, linked: bool) {
        if linked || self.left {
            self.told.remove(&teller);
        }
    }

    pub(super) fn proven_at(&mut self, address: SocketAddr) {
        self.proven.retain(|known| *known != address);
        self.proven.insert(0, address);
        self.proven.truncate(MAX_ADDRESSES);
    }

    /// Some source is in touch with its process, on this host.
    pub(super) fn is_near(&self) -> bool {
        self.hints.values().any(|hint| hint.in_touch)
    }

    /// It is not known where it may be.
    pub(super) fn is_nowhere(&self) -> bool {
        self.proven.is_empty() && self.hints.is_empty() && self.told.is_empty()
    }

    /// Nothing is known of it that would help to reach it, and it is not being dialled.
    fn is_useless(&self, now: Instant) -> bool {
        let remembered = self.left && now.saturating_duration_since(self.unlinked) < NOTICED_AFTER;
        self.is_nowhere() && !remembered && !self.pace.is_under_way() && self.pace.due().is_some_and(|due| due <= now)
    }

    /// Nobody but others' word says that it is there.
    pub(super) fn is_hearsay(&self) -> bool {
        self.proven.is_empty() && self.hints.is_empty()
    }

    pub(super) fn is_tried_on_hearsay(&self) -> bool {
        self.is_hearsay() && self.pace.is_under_way()
    }

    /// Where to dial, the likeliest first.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses = self.proven.clone();
        let hints = self.hints.values().flat_map(|hint| &hint.addresses);
        for address in hints.chain(self.told.values().flatten()) {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        addresses.truncate(MAX_ADDRESSES);
        addresses
    }
}

impl State {
    /// The peer, which may be new.
    pub(super) fn peer(&mut self, own: NodeId, node: NodeId, now: Instant) -> &mut Peer {
        self.peers.entry(node).or_insert_with(|| Peer::new(own, node, now))
    }

    /// The node is known, or may become so.
    pub(super) fn has_room_for(&self, node: NodeId) -> bool {
        self.peers.len() < MAX_PEERS || self.peers.contains_key(&node)
    }

    /// The same for a node that is there itself, or that a source has seen: one that others only talk of gives way. A
    /// single peer can talk of as many as there is room for.
    pub(super) fn make_room_for(&mut self, node: NodeId) -> bool {
        if self.has_room_for(node) {
            return true;
        }
        let connected = self.connected();
        let mut others = self.peers.iter().filter(|(other, _)| !connected.contains(other));
        let Some(hearsay) = others.find(|(_, peer)| peer.is_hearsay()).map(|(other, _)| *other) else { return false };
        self.peers.remove(&hearsay);
        true
    }

    /// Forgets a node of which nothing is known that would help to reach it again. Who was dialled a moment ago is kept
    /// until the next dial would be due: told again, it is not dialled sooner.
    pub(super) fn forget_unknown(&mut self, now: Instant, node: NodeId) {
        if !self.is_connected(node) && self.peers.get(&node).is_some_and(|peer| peer.is_useless(now)) {
            self.peers.remove(&node);
        }
    }

    /// The sources that have found this node.
    pub(super) fn found_by(&self, node: NodeId) -> BTreeSet<&'static str> {
        let hinted = self.peers.get(&node).into_iter().flat_map(|peer| peer.hints.keys());
        let named = self.addresses.values().filter(|address| address.node == Some(node)).map(|address| &address.source);
        hinted.chain(named).filter_map(|source| self.sources.get(*source)).map(|source| source.name).collect()
    }

    /// There is a connection with the peer, whether it is the link or may become it.
    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.connections.values().any(|connected| connected.peer == node)
    }

    /// All of whom that is true: for whoever asks after many.
    pub(super) fn connected(&self) -> BTreeSet<NodeId> {
        self.connections.values().map(|connected| connected.peer).collect()
    }

    /// All of them, each with the time until which it is expected to become the link: whoever is not linked by then is
    /// dialled once more, beside it. `None`: it is the link, or within this host, where nothing is lost on the way.
    ///
    /// A first word that is lost is sent again when QUIC thinks so. After a handshake of which the first packets were
    /// lost, it takes the time until they were sent again for the way's own, and thinks so after seconds.
    pub(super) fn talks(&self) -> BTreeMap<NodeId, Option<Instant>> {
        let mut talks = BTreeMap::new();
        for connected in self.connections.values() {
            let near = self.peers.get(&connected.peer).is_some_and(Peer::is_near);
            let until = (!connected.open && !near).then(|| connected.since + REDIAL);
            let known = talks.entry(connected.peer).or_insert(until);
            *known = known.zip(until).map(|(one, other)| one.max(other));
        }
        talks
    }

    /// Until each source has finished its first pass, and each candidate is open or was tried in vain. Of two connections
    /// with the same peer one comes to nothing, which says nothing about the other.
    pub(super) fn is_settled(&self) -> bool {
        if !self.sources.iter().all(|source| source.first_pass) {
            return false;
        }
        let open = self.connections.values().filter(|connected| connected.session.knows_sockets());
        let (connected, open) = (self.connected(), open.map(|connected| connected.peer).collect::<BTreeSet<_>>());
        self.peers.iter().all(|(node, peer)| {
            open.contains(node) || !connected.contains(node) && (peer.pace.has_failed() || peer.is_nowhere())
        }) && self.addresses.values().all(|address| address.node.is_some() || address.pace.has_failed())
    }

    /// Forgets whom nobody has vouched for in a long time, and who was only talked of.
    pub(super) fn forget(&mut self, now: Instant, connected: &BTreeSet<NodeId>) {
        self.peers.retain(|node, peer| {
            let vouched = !peer.hints.is_empty() || peer.told.keys().any(|teller| connected.contains(teller));
            let kept = connected.contains(node) || vouched;
            let since = now.saturating_duration_since(peer.unlinked);
            let recent = since < if peer.left { NOTICED_AFTER } else { FORGOTTEN_AFTER };
            kept || recent && !peer.is_useless(now)
        });
    }
}

impl Hall {
    /// A discovery source has said something.
    pub(super) fn handle_found(&self, source: usize, found: Found) {
        let now = self.env.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        match found {
            Found::Seen { node: Some(node), .. } if node == self.id => {}
            Found::Seen { node: Some(node), incarnation, in_touch, addresses } => {
                self.seen(state, now, source, node, Hint { incarnation, in_touch, addresses });
            }
            Found::Seen { node: None, addresses, .. } => {
                let addresses = &addresses[..addresses.len().min(MAX_ADDRESSES)];
                state.addresses.retain(|at, address| address.source != source || addresses.contains(at));
                for at in addresses {
                    let new = || Address { source, node: None, pace: Pace::new(now), trouble: None };
                    state.addresses.entry(*at).or_insert_with(new);
                }
            }
            Found::Gone { node, incarnation } => self.gone(state, now, node, incarnation),
            Found::FirstPass => {
                if let Some(looking) = state.sources.get_mut(source) {
                    looking.first_pass = true;
                }
            }
            Found::Report(report) => {
                if let Some(looking) = state.sources.get_mut(source) {
                    tracing::debug!(target: "meshmq::node", source = looking.name, %report);
                    looking.report = Some(report);
                }
            }
            Found::Trouble(why) => {
                if let Some(looking) = state.sources.get_mut(source)
                    && looking.report.as_ref() != Some(&why)
                {
                    looking.report = Some(why.clone());
                    self.emit(Event::DiscoveryTrouble { source: looking.name, why });
                }
            }
        }
        drop(guard);
        self.changed.notify_one();
    }

    fn seen(&self, state: &mut State, now: Instant, source: usize, node: NodeId, mut hint: Hint) {
        if !state.make_room_for(node) {
            return;
        }
        hint.addresses.truncate(MAX_ADDRESSES);
        if let Some(life) = hint.incarnation
            && hint.in_touch
        {
            // No source need have told of the lives before; their links would be taken for alive for seconds.
            self.end_connections(state, now, node, |incarnation| incarnation != life);
        }
        let linked = state.is_connected(node);
        let found_by = state.sources.get(source).map(|looking| looking.name);
        let peer = state.peer(self.id, node, now);
        if hint.addresses.is_empty() {
            peer.hints.remove(&source);
            return;
        }
        peer.is_back();
        peer.found_by = peer.found_by.or(found_by);
        // One source after the other tells of it, and of one address after the other: a dial that is under way is enough,
        // unless it was tried in vain before, perhaps in another life.
        let known = peer.hints.values().any(|known| known.incarnation == hint.incarnation);
        let elsewhere = peer.pace.has_failed() && hint.addresses.iter().any(|at| !peer.addresses().contains(at));
        peer.hints.insert(source, hint);
        if !linked && (!known || elsewhere) {
            peer.pace.anew(if peer.is_near() {
                first_dial_near(self.id, node, now)
            } else {
                first_dial(self.id, node, now)
            });
        }
    }

    /// The process is dead: its links are closed now instead of after seconds of silence.
    fn gone(&self, state: &mut State, now: Instant, node: NodeId, incarnation: u64) {
        let Some(peer) = state.peers.get_mut(&node) else { return };
        peer.hints.retain(|_, hint| hint.incarnation.is_some_and(|life| life != incarnation));
        if peer.arbiter.incarnation().is_none_or(|life| life == incarnation) {
            let hints = std::mem::take(&mut peer.hints);
            peer.gone(now);
            peer.hints = hints;
        }
        self.end_connections(state, now, node, |life| life == incarnation);
        let _ = state.doubts.send(node);
    }

    /// Closes the connections with the lives of a node that have ended.
    fn end_connections(&self, state: &mut State, now: Instant, node: NodeId, has_ended: impl Fn(u64) -> bool) {
        let of_node = state.connections.iter().filter(|(_, connected)| connected.peer == node);
        let dead: Vec<_> = of_node
            .filter(|(_, connected)| connected.session.peer().is_some_and(|hello| has_ended(hello.incarnation)))
            .map(|(id, _)| *id)
            .collect();
        for connection in dead {
            self.end_connection(state, now, connection, CloseCode::Done, "its process has ended");
        }
    }

    /// What was tried, and what to do, for whoever wonders why nobody is there.
    pub(super) fn lonely_report(&self, state: &State) -> String {
        let mut lines = vec![format!("mesh `{}`: nobody found yet", self.mesh)];
        for source in &state.sources {
            lines.push(format!("  {}: {}", source.name, source.report.as_deref().unwrap_or("nobody seen")));
        }
        let troubles = state.addresses.values().filter_map(|address| address.trouble.as_ref());
        let troubles = troubles.chain(state.peers.values().filter_map(|peer| peer.trouble.as_ref()));
        lines.extend(troubles.map(|trouble| format!("  tried {trouble}")));
        if state.sources.is_empty() {
            lines.push("  nobody was looked for: discovery is off and no peer is named".into());
        }
        lines.push(format!(
            "to do: start another node of mesh `{}` with the same key, or name the address of one as a peer; this node listens on {}",
            self.mesh,
            self.endpoint.local_addr()
        ));
        lines.join("\n")
    }
}

/// How long a lost peer is dialled that no source vouches for.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// How long it is remembered that a peer has left: by then whoever had a link with it has noticed, also an idle one.
const NOTICED_AFTER: Duration = Duration::from_secs(30);
