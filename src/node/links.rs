//! Connections on their way to being links, and links: one task drives each, and the session says what it does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::sync::{Notify, SetOnce, oneshot};

use super::events::Event;
use super::hall::{Hall, State};
use crate::id::{NodeId, SocketId};
use crate::link::{CloseCode, Connection, ControlReader, ControlWriter, LinkLost};
use crate::pattern::lane::{LaneEnd, Violation};
use crate::session::{ConnectionId, Ending, Heard, Session, Verdict};
use crate::wire::control::{self, Control, Hello, REVISION, SocketEntry};
use crate::wire::limits::{ADMISSION_DEADLINE, MAX_HANDSHAKES};

/// A connection whose peer is proven.
pub(super) struct Connected {
    pub(super) peer: NodeId,
    pub(super) connection: Connection,
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
    pub(super) carried: Arc<Carried>,
}

/// The lanes that a link carries, both ways, for the question whether something is owed.
#[derive(Default)]
pub(super) struct Carried(Mutex<BTreeMap<u64, Arc<dyn LaneEnd>>>);

/// Why a connection ends.
struct End {
    code: CloseCode,
    why: String,
}

impl End {
    fn new(code: CloseCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into() }
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::new(CloseCode::Violation, violation.to_string())
    }
}

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
        if state.connections.len() >= self.max_links + MAX_HANDSHAKES || !state.has_room_for(node) {
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
            addresses: Vec::from_iter(own_address(self.endpoint.local_addr())),
        };
        let id = ConnectionId(state.next_connection);
        state.next_connection += 1;
        let (close, closed) = oneshot::channel();
        let connected = Connected {
            peer: node,
            connection: connection.clone(),
            session: Session::new(now, self.id < node, hello),
            say: Arc::new(Notify::new()),
            opened: Arc::default(),
            close: Some(close),
            open: false,
            lanes: BTreeSet::new(),
            allowed: 0,
            carried: Arc::default(),
        };
        let drive = self.clone().drive(id, connection, connected.say.clone(), connected.opened.clone(), closed);
        state.connections.insert(id, connected);
        self.env.spawn(drive);
    }

    /// Drives one connection to its end.
    async fn drive(
        self: Arc<Self>,
        id: ConnectionId,
        connection: Connection,
        say: Arc<Notify>,
        opened: Arc<SetOnce<()>>,
        closed: oneshot::Receiver<End>,
    ) {
        let mut lost = None;
        // Lives until the connection is closed: streams that were dropped before would have something to say of that,
        // and a transport that has, and is held back by pacing, does not get to say that the connection is closed.
        let mut conversation = pin!(self.converse(id, &connection, &say, &opened));
        let end = tokio::select! {
            biased;
            Ok(end) = closed => end,
            end = connection.closed() => {
                let why = end.why.clone();
                lost = Some(end);
                End::new(CloseCode::Done, why)
            }
            end = &mut conversation => end,
        };
        connection.close(end.code, &end.why);
        self.connection_over(id, end, lost);
    }

    async fn converse(
        self: &Arc<Self>,
        id: ConnectionId,
        connection: &Connection,
        say: &Notify,
        opened: &SetOnce<()>,
    ) -> End {
        let (mut writer, mut reader) = match self.env.timeout(ADMISSION_DEADLINE, connection.control()).await {
            Some(Ok(control)) => control,
            Some(Err(lost)) => return self.broken(lost).await,
            None => return ending_words(Ending::Admission),
        };
        let end = tokio::select! {
            biased;
            end = self.read(id, &mut reader) => end,
            end = self.write(id, &mut writer, say) => end,
            end = self.watch(id, connection, opened) => end,
            end = self.take_lanes(id, connection, opened) => end,
        };
        connection.close(end.code, &end.why);
        end
    }

    /// A stream has failed. As a rule the connection has, and tells why in a moment, which ends this.
    async fn broken(&self, lost: LinkLost) -> End {
        self.env.sleep(WHY).await;
        End::new(CloseCode::Violation, lost.why)
    }

    /// Reads what the peer says; does not wait for what it does not read.
    async fn read(self: &Arc<Self>, id: ConnectionId, reader: &mut ControlReader) -> End {
        let mut buffer = BytesMut::new();
        loop {
            loop {
                match control::split(&mut buffer) {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        if let Err(end) = self.handle_control(id, frame) {
                            return end;
                        }
                    }
                    Err(violation) => return violation.into(),
                }
            }
            match reader.read().await {
                Ok(Some(bytes)) => buffer.extend_from_slice(&bytes),
                // Only a node that leaves ends its direction, after its Goodbye.
                Ok(None) => return Violation("the control stream has ended").into(),
                Err(lost) => return self.broken(lost).await,
            }
        }
    }

    async fn write(&self, id: ConnectionId, writer: &mut ControlWriter, say: &Notify) -> End {
        let mut buffer = BytesMut::new();
        loop {
            let leaving = self.gather(id, &mut buffer);
            if buffer.is_empty() {
                say.notified().await;
                continue;
            }
            if let Err(lost) = writer.write(buffer.split().freeze()).await {
                return self.broken(lost).await;
            }
            if let Some(reason) = leaving {
                // The peer closes when it has read that; if it does not, this end does.
                let _ = self.env.timeout(GOODBYE, writer.finish()).await;
                return End::new(CloseCode::Goodbye, reason);
            }
        }
    }

    /// Gathers what there is to say, for one write; the reason, when the last of it is a Goodbye.
    fn gather(&self, id: ConnectionId, buffer: &mut BytesMut) -> Option<String> {
        let mut state = self.lock();
        let session = &mut state.connections.get_mut(&id)?.session;
        while buffer.len() < WRITE_BYTES
            && let Some(frame) = session.poll_frame()
        {
            control::encode(&frame, buffer);
            if let Control::Goodbye { reason } = frame {
                return Some(reason);
            }
        }
        None
    }

    /// Looks after the connection's time: first that it is admitted, then that the peer lives.
    async fn watch(&self, id: ConnectionId, connection: &Connection, opened: &SetOnce<()>) -> End {
        let mut timer = self.env.timer();
        loop {
            let at = self.lock().connections.get(&id).map(|connected| connected.session.poll_timeout());
            // Where it was taken away, the task is about to be ended.
            timer.set(at);
            tokio::select! {
                biased;
                _ = opened.wait(), if !opened.initialized() => continue,
                () = timer.fired() => {}
            }
            if let Some(end) = self.tick(id, connection) {
                return end;
            }
        }
    }

    fn tick(&self, id: ConnectionId, connection: &Connection) -> Option<End> {
        let carried = self.lock().connections.get(&id)?.carried.clone();
        let owed = carried.owe();
        let mut state = self.lock();
        let connected = state.connections.get_mut(&id)?;
        let ending = connected.session.handle_timeout(self.env.now(), connection.received(), owed);
        connected.say.notify_one();
        ending.map(ending_words)
    }

    /// Takes the lanes that the peer opens, once it is admitted.
    async fn take_lanes(self: &Arc<Self>, id: ConnectionId, connection: &Connection, opened: &SetOnce<()>) -> End {
        opened.wait().await;
        loop {
            match connection.accept_lane().await {
                Ok(stream) => self.env.spawn(self.clone().lane_in(id, stream)),
                Err(lost) => return self.broken(lost).await,
            }
        }
    }

    /// The peer has said this.
    fn handle_control(self: &Arc<Self>, id: ConnectionId, frame: Control) -> Result<(), End> {
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
                if !change.closed.is_empty() {
                    state.look_for_lonely(now);
                }
                drop(guard);
                self.changed.notify_one();
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
                    let End { code, why } = ending_words(ending);
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
        connected.connection.admitted();
        let grants = connected.connection.grants();
        let visible = own.into_iter().filter(|entry| grants.allows(entry.kind.matching(), &entry.channel));
        connected.session.tell_all(visible);
        connected.say.notify_one();
        let _ = connected.opened.set(());
        let (node, address) = (connected.peer, connected.connection.remote_address());
        let Some(peer) = state.peers.get_mut(&node) else { return };
        peer.trouble = None;
        peer.proven_at(address);
        let name = peer.name.clone();
        state.links_opened += 1;
        self.links.send_modify(|links| *links += 1);
        tracing::info!(target: "meshmq::node", node = %self.id.short(), peer = %node.short(), %name, %address, "link open");
        self.emit(Event::PeerJoined { node, name, address });
        self.redial_lost(state, now);
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
        let mut name = String::new();
        if let Some(peer) = state.peers.get_mut(&node) {
            name.clone_from(&peer.name);
            peer.lost(now, self.id < node);
        }
        self.hurry_addresses(state, now, node);
        state.look_for_lonely(now);
        tracing::info!(target: "meshmq::node", node = %self.id.short(), peer = %node.short(), %name, why, "link lost");
        self.emit(Event::PeerLeft { node, name, why: why.into() });
    }

    /// The task of a connection has ended.
    fn connection_over(&self, id: ConnectionId, end: End, lost: Option<LinkLost>) {
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
                        self.emit(Event::NoLink { address, why: end.why });
                    }
                    _ => {}
                }
            }
            self.carry_out(state, now, node);
            state.forget_unknown(node);
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
            round_trip: connected.connection.round_trip(),
            sockets: connected.session.sockets().len(),
        };
        let mut infos: Vec<_> = open.map(info).collect();
        infos.sort_by_key(|info| info.id);
        infos
    }
}

impl Carried {
    pub(super) fn insert(&self, lane: u64, end: Arc<dyn LaneEnd>) {
        self.lock().insert(lane, end);
    }

    pub(super) fn remove(&self, lane: u64) {
        let _end = self.lock().remove(&lane);
    }

    /// Somebody waits for something over one of the lanes.
    fn owe(&self) -> bool {
        self.lock().values().any(|end| end.owes())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<dyn LaneEnd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ending_words(ending: Ending) -> End {
    match ending {
        Ending::Duplicate => End::new(CloseCode::Duplicate, "the two nodes have another link"),
        Ending::Replaced => End::new(CloseCode::Replaced, "another connection has become the link"),
        Ending::Admission => End::new(CloseCode::Admission, "the connection was not admitted in time"),
        Ending::Silent => End::new(CloseCode::Silent, "the peer was silent for too long"),
    }
}

/// The address that others may dial, where one is known that leads here from elsewhere.
fn own_address(bound: SocketAddr) -> Option<SocketAddr> {
    (!bound.ip().is_unspecified() && !bound.ip().is_loopback()).then_some(bound)
}

/// Most connections with one peer, of which one can become the link.
const MAX_CONNECTIONS: usize = 8;
/// Bytes of control frames that are gathered for one write.
const WRITE_BYTES: usize = 64 << 10;
/// How long the peer may take to acknowledge a Goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long it may take after a stream has failed until the connection says why.
const WHY: Duration = Duration::from_millis(100);
