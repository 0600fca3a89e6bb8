//! Connections on their way to being links, and links: what their sessions hear, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, SetOnce, oneshot};

use super::dials::first_dial;
use super::drive::End;
use super::events::Event;
use super::exchange::Gossip;
use super::hall::{Hall, State};
use crate::discovery::exchange::is_host;
use crate::env::Env;
use crate::id::{NodeId, SocketId};
use crate::link::{CloseCode, Connection, LinkLost};
use crate::pattern::lane::LaneEnd;
use crate::session::{ConnectionId, Heard, Session, Verdict};
use crate::wire::control::{Control, Hello, MAX_ADDRESSES, REVISION, SocketEntry, Status};
use crate::wire::limits::MAX_HANDSHAKES;

/// A connection whose peer is proven.
pub(super) struct Connected {
    pub(super) peer: NodeId,
    pub(super) connection: Connection,
    /// Since when the peer is proven.
    pub(super) since: Instant,
    pub(super) session: Session,
    /// The session has something to say.
    pub(super) say: Arc<Notify>,
    /// The session is open: lanes may come, and silence counts.
    opened: Arc<SetOnce<()>>,
    /// Ends the task that drives it.
    close: Option<oneshot::Sender<End>>,
    /// The link is counted and told of.
    pub(super) open: bool,
    /// The lanes that this end has opened, by both ends' sockets.
    pub(super) lanes: BTreeSet<(SocketId, SocketId)>,
    /// How many lanes the peer may open.
    pub(super) allowed: u32,
    /// That it has as many lanes as it may have was said.
    pub(super) told_too_many: bool,
    /// The sockets of this node of which it was said that the peer has one of other types.
    pub(super) told_types: BTreeSet<SocketId>,
    pub(super) carried: Arc<Carried>,
    pub(super) gossip: Gossip,
    /// Since when it is the link.
    pub(super) opened_at: Option<Instant>,
    /// Who waits for the peer's status.
    pub(super) status: Vec<oneshot::Sender<Box<Status>>>,
}

/// The lanes that a link carries, both ways, for the question whether something is owed.
#[derive(Default)]
pub(super) struct Carried(Mutex<BTreeMap<u64, Arc<dyn LaneEnd>>>);

/// A peer in [`Node::peers`](crate::Node::peers).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Peer {
    /// Who it is, as proven by its certificate.
    pub id: NodeId,
    /// What it calls itself; proves nothing.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    /// What has told this node of it first: `local`, `mdns`, `address` (one that was given), or `peer` where the peer has
    /// found this node.
    pub found_by: &'static str,
    /// The current estimate of the time that a packet and its acknowledgement take.
    pub round_trip: Duration,
    /// How many sockets it has told of.
    pub sockets: usize,
}

impl Hall {
    /// Takes connections from outside until the endpoint closes.
    pub(super) async fn accept(self: Arc<Self>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.over.cancelled() => return,
                accepted = self.endpoint.accept() => accepted,
            };
            match accepted {
                Some(Ok(connection)) => self.adopt(connection),
                Some(Err(refused)) => {
                    self.lock().refused += 1;
                    self.emit(Event::Refused { address: refused.address, why: refused.why });
                }
                None => return,
            }
        }
    }

    /// Begins the conversation on a connection whose peer is proven.
    pub(super) fn adopt(self: &Arc<Self>, connection: Connection) {
        let (now, node) = (self.env.now(), connection.peer());
        let mut guard = self.lock();
        let state = &mut *guard;
        if node == self.id || state.leaving {
            connection.close(CloseCode::Done, "");
            return;
        }
        if state.connections.values().filter(|connected| connected.peer == node).count() >= MAX_CONNECTIONS {
            connection.close(CloseCode::Duplicate, "too many connections of one node");
            return;
        }
        // Whoever has the mesh key can be many nodes.
        if state.connections.len() >= self.max_links + MAX_HANDSHAKES || !state.make_room_for(node) {
            connection.close(CloseCode::TooManyLinks, "too many nodes");
            return;
        }
        let peer = state.peer(self.id, node, now);
        if connection.dialled() {
            peer.proven_at(connection.remote_address());
        }
        let (live, links) = peer.arbiter.greeting();
        let hello = Hello {
            revision: REVISION,
            name: self.name.clone(),
            incarnation: self.incarnation,
            live,
            links,
            max_message: self.max_message as u64,
            addresses: own_addresses(&self.env, self.endpoint.local_addr()),
        };
        let id = ConnectionId(state.next_connection);
        state.next_connection += 1;
        let (close, closed) = oneshot::channel();
        let connected = Connected {
            peer: node,
            connection: connection.clone(),
            since: now,
            session: Session::new(now, self.id < node, hello),
            say: Arc::new(Notify::new()),
            opened: Arc::default(),
            close: Some(close),
            open: false,
            lanes: BTreeSet::new(),
            allowed: 0,
            told_too_many: false,
            told_types: BTreeSet::new(),
            carried: Arc::default(),
            gossip: Gossip::default(),
            opened_at: None,
            status: Vec::new(),
        };
        let drive = self.clone().drive(id, connection, connected.say.clone(), connected.opened.clone(), closed);
        state.connections.insert(id, connected);
        self.env.spawn(drive);
    }

    /// The peer has said this.
    pub(super) fn handle_control(self: &Arc<Self>, id: ConnectionId, frame: Control) -> Result<(), End> {
        let now = self.env.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(connected) = state.connections.get_mut(&id) else { return Ok(()) };
        let node = connected.peer;
        match connected.session.handle_frame(now, frame)? {
            Heard::Hello(hello) => {
                self.check_room(state, id, node)?;
                let peer = state.peer(self.id, node, now);
                peer.arbiter.handle_hello(now, id, &hello);
                peer.name = hello.name;
                self.carry_out(state, now, node);
            }
            Heard::Admitted => {
                if let (Some(hello), Some(peer)) = (connected.session.peer(), state.peers.get_mut(&node)) {
                    peer.arbiter.handle_admitted(now, id, hello);
                }
                self.carry_out(state, now, node);
            }
            Heard::Sockets(change) => {
                self.route_theirs(state, id, &change);
                self.tell_news();
                if !change.closed.is_empty() {
                    state.look_for_lonely(now);
                }
                drop(guard);
                self.changed.notify_one();
            }
            Heard::Peers(peers) => {
                self.handle_peers(state, now, id, peers);
                drop(guard);
                self.changed.notify_one();
            }
            Heard::StatusAsk => {
                drop(guard);
                self.answer_status(id);
            }
            Heard::Status(status) => {
                for waiting in connected.status.drain(..) {
                    // Whoever waited may have left.
                    let _ = waiting.send(status.clone());
                }
            }
            Heard::Goodbye(reason) => {
                if let Some(peer) = state.peers.get_mut(&node) {
                    peer.gone(now);
                }
                return Err(End::new(CloseCode::Done, format!("the peer has left: {reason}")));
            }
            Heard::Nothing => {}
        }
        Ok(())
    }

    /// There is room for the link that this connection may become.
    fn check_room(&self, state: &State, id: ConnectionId, node: NodeId) -> Result<(), End> {
        let mut peers: BTreeSet<NodeId> = BTreeSet::new();
        let others = state.connections.iter().filter(|(other, _)| **other != id);
        peers.extend(others.filter(|(_, other)| other.session.peer().is_some()).map(|(_, other)| other.peer));
        if peers.contains(&node) || peers.len() < self.max_links {
            return Ok(());
        }
        let why = format!("this node has {} links, which is the most it may have", self.max_links);
        self.emit(Event::LinkRefused { node, why });
        Err(End::new(CloseCode::TooManyLinks, "too many links"))
    }

    /// Carries out what the peer's arbiter has decided.
    pub(super) fn carry_out(&self, state: &mut State, now: Instant, node: NodeId) {
        while let Some(verdict) = state.peers.get_mut(&node).and_then(|peer| peer.arbiter.poll_verdict()) {
            match verdict {
                Verdict::Admit(id) => {
                    if let Some(connected) = state.connections.get_mut(&id) {
                        connected.session.admit(now);
                        connected.say.notify_one();
                    }
                }
                Verdict::Close(id, ending) => {
                    let End { code, why } = ending.into();
                    self.take_away(state, now, id, code, &why);
                }
            }
        }
        let link = state.peers.get(&node).and_then(|peer| peer.arbiter.link());
        if let Some(id) = link
            && state.connections.get(&id).is_some_and(|connected| connected.session.is_open() && !connected.open)
        {
            self.open(state, now, id);
        }
        self.changed.notify_one();
    }

    /// The connection is the link of the two nodes.
    fn open(&self, state: &mut State, now: Instant, id: ConnectionId) {
        let own: Vec<SocketEntry> = state.sockets.values().map(|socket| socket.entry.clone()).collect();
        let Some(connected) = state.connections.get_mut(&id) else { return };
        connected.open = true;
        connected.opened_at = Some(now);
        connected.connection.admitted();
        let grants = connected.connection.grants();
        let visible = own.into_iter().filter(|entry| grants.allows(entry.kind.matching(), &entry.channel));
        connected.session.tell_all(visible);
        connected.say.notify_one();
        let _ = connected.opened.set(());
        let (node, address) = (connected.peer, connected.connection.remote_address());
        let Some(peer) = state.peers.get_mut(&node) else { return };
        peer.trouble = None;
        peer.is_back();
        peer.proven_at(address);
        let name = peer.name.clone();
        state.links_opened += 1;
        self.links.send_modify(|links| *links += 1);
        tracing::info!(target: "meshmq::node", node = %self.id.short(), peer = %node.short(), %name, %address, "link open");
        self.emit(Event::PeerJoined { node, name, address });
        self.redial_lost(state, now);
        self.exchange_soon(state, now);
    }

    /// Ends a connection, for a reason that its session does not know.
    pub(super) fn end_connection(&self, state: &mut State, now: Instant, id: ConnectionId, code: CloseCode, why: &str) {
        let Some(node) = state.connections.get(&id).map(|connected| connected.peer) else { return };
        self.take_away(state, now, id, code, why);
        if let Some(peer) = state.peers.get_mut(&node) {
            peer.arbiter.handle_lost(now, id);
        }
        self.carry_out(state, now, node);
    }

    /// The connection is no longer there for anybody; its task closes it.
    fn take_away(&self, state: &mut State, now: Instant, id: ConnectionId, code: CloseCode, why: &str) {
        let Some(mut connected) = state.connections.remove(&id) else { return };
        if let Some(close) = connected.close.take() {
            let _ = close.send(End::new(code, why));
        }
        self.taken_away(state, now, &connected, why);
    }

    fn taken_away(&self, state: &mut State, now: Instant, connected: &Connected, why: &str) {
        let node = connected.peer;
        if !connected.open {
            return;
        }
        self.links.send_modify(|links| *links -= 1);
        self.tell_news();
        let mut name = String::new();
        if let Some(peer) = state.peers.get_mut(&node) {
            name.clone_from(&peer.name);
            peer.lost(now, first_dial(self.id, node, now));
        }
        self.hurry_addresses(state, now, node);
        self.teller_lost(state, node);
        self.exchange_soon(state, now);
        state.look_for_lonely(now);
        tracing::info!(target: "meshmq::node", node = %self.id.short(), peer = %node.short(), %name, why, "link lost");
        self.emit(Event::PeerLeft { node, name, why: why.into() });
    }

    /// The task of a connection has ended.
    pub(super) fn connection_over(&self, id: ConnectionId, end: End, lost: Option<LinkLost>) {
        let now = self.env.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        // When it is not there any more, all of this was done by whoever has taken it away.
        if let Some(connected) = state.connections.remove(&id) {
            let node = connected.peer;
            self.taken_away(state, now, &connected, &end.why);
            let code = lost.as_ref().and_then(|lost| lost.code);
            if let Some(peer) = state.peers.get_mut(&node) {
                peer.arbiter.handle_lost(now, id);
                if !connected.open {
                    peer.pace.fail();
                }
                match code {
                    Some(CloseCode::Goodbye) => peer.gone(now),
                    Some(CloseCode::TooManyLinks | CloseCode::Refused) => {
                        self.emit(Event::LinkRefused { node, why: end.why });
                    }
                    // In TLS 1.3 the dialler is done before the other end has judged it.
                    None if lost.is_some() && !connected.open && peer.trouble.as_ref() != Some(&end.why) => {
                        peer.trouble = Some(end.why.clone());
                        let address = connected.connection.remote_address();
                        let refused = lost.is_some_and(|lost| lost.refused);
                        self.emit(Event::NoLink { address, why: end.why, refused });
                    }
                    _ => {}
                }
            }
            self.carry_out(state, now, node);
            state.forget_unknown(now, node);
        }
        drop(guard);
        self.changed.notify_one();
        self.progress.notify_one();
    }

    pub(super) fn peer_infos(&self) -> Vec<Peer> {
        let state = self.lock();
        let open = state.connections.values().filter(|connected| connected.open);
        let info = |connected: &Connected| Peer {
            id: connected.peer,
            name: state.peers.get(&connected.peer).map_or_else(String::new, |peer| peer.name.clone()),
            address: connected.connection.remote_address(),
            found_by: state.peers.get(&connected.peer).and_then(|peer| peer.found_by).unwrap_or(BY_PEER),
            round_trip: connected.connection.round_trip(),
            sockets: connected.session.sockets().len(),
        };
        let mut infos: Vec<_> = open.map(info).collect();
        infos.sort_by_key(|info| info.id);
        infos
    }
}

/// How a peer was found that has found this node.
const BY_PEER: &str = "peer";

impl Carried {
    pub(super) fn insert(&self, lane: u64, end: Arc<dyn LaneEnd>) {
        self.lock().insert(lane, end);
    }

    pub(super) fn remove(&self, lane: u64) {
        let _end = self.lock().remove(&lane);
    }

    /// Somebody waits for something over one of the lanes.
    pub(super) fn owe(&self) -> bool {
        self.lock().values().any(|end| end.owes())
    }

    /// All of them look, at what the peer has acknowledged among other things. Says whether one of them wants a further word
    /// to be sent.
    pub(super) fn look(&self, now: Instant, acked: Option<Instant>) -> bool {
        self.lock().values().filter(|end| end.look(now, acked)).count() > 0
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<dyn LaneEnd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses that others may dial, of those that lead here from elsewhere.
fn own_addresses(env: &Env, bound: SocketAddr) -> Vec<SocketAddr> {
    let ips = if bound.ip().is_unspecified() { env.network.addresses() } else { vec![bound.ip()] };
    let fits = |ip: &IpAddr| (bound.is_ipv6() || ip.is_ipv4()) && !ip.is_loopback() && is_host(*ip);
    ips.into_iter().filter(fits).map(|ip| SocketAddr::new(ip, bound.port())).take(MAX_ADDRESSES).collect()
}

/// Most connections with one peer, of which one can become the link.
const MAX_CONNECTIONS: usize = 8;
