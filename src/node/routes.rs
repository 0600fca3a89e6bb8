//! Which lanes have to be: one for each matched pair of sockets, opened by the sending side.

use std::sync::Arc;
use std::time::Duration;

use super::events::Event;
use super::hall::{Hall, State};
use super::links::Connected;
use crate::id::{NodeId, SocketId, Types};
use crate::link::{self, Carried, CloseCode, Connection, LaneStream, OpeningError};
use crate::pattern::lane::{LanePeer, SocketEnd, Violation};
use crate::pattern::subscribe::At;
use crate::session::{Change, ConnectionId};
use crate::wire::control::{SocketEntry, SocketKind};
use crate::wire::limits::{LANES_AT_FIRST, MAX_LANES};

/// A lane that was lost while its link lives is opened anew after this long.
const LANE_AGAIN: Duration = Duration::from_secs(1);

impl Hall {
    /// A socket of this node has opened: peers are told, and it meets those that match.
    pub(super) fn route_own(self: &Arc<Self>, state: &mut State, own: &SocketEntry) {
        for other in facing(state, own) {
            if !own.types.meet(&other.types) {
                self.tell_mismatch(self.id, own, &other);
                continue;
            }
            let (sender, receiver) = if own.kind.opens_lane() { (own.id, other.id) } else { (other.id, own.id) };
            self.open_in_memory(state, sender, receiver);
        }
        let open: Vec<_> =
            state.connections.iter().filter(|(_, connected)| connected.open).map(|(id, _)| *id).collect();
        for id in open {
            let Some(connected) = state.connections.get_mut(&id) else { continue };
            if connected.connection.grants().allows(own.kind.matching(), &own.channel) {
                connected.session.tell_opened(own.clone());
                connected.say.notify_one();
            }
            let theirs: Vec<_> =
                connected.session.sockets().values().filter(|their| face(own, their)).cloned().collect();
            for their in theirs {
                self.match_pair(state, id, own, &their);
            }
        }
    }

    /// The peer's sockets have changed.
    pub(super) fn route_theirs(self: &Arc<Self>, state: &mut State, id: ConnectionId, change: &Change) {
        for their in &change.opened {
            let Some(connected) = state.connections.get(&id) else { return };
            if !connected.connection.grants().allows(their.kind, &their.channel) {
                self.emit(Event::NotGranted { node: connected.peer, channel: their.channel.clone() });
                continue;
            }
            for own in facing(state, their) {
                self.match_pair(state, id, &own, their);
            }
        }
    }

    /// A socket of this node and one of the peer are on the same channel, and their kinds match.
    fn match_pair(self: &Arc<Self>, state: &mut State, id: ConnectionId, own: &SocketEntry, their: &SocketEntry) {
        let Some(connected) = state.connections.get_mut(&id) else { return };
        if !connected.connection.grants().allows(their.kind, &their.channel) {
            return;
        }
        if !own.types.meet(&their.types) {
            // Once a socket and link: a peer that opens sockets without end must not push out what else has happened.
            if connected.told_types.insert(own.id) {
                self.tell_mismatch(connected.peer, own, their);
            }
            return;
        }
        if their.kind.opens_lane() {
            // Some more than there are pairs: one that ends and one that begins may overlap.
            connected.allowed = connected.allowed.saturating_add(1);
            connected.connection.allow_lanes(connected.allowed.saturating_add(LANES_AT_FIRST).min(MAX_LANES));
            return;
        }
        if connected.lanes.contains(&(own.id, their.id)) {
            return;
        }
        if connected.lanes.len() >= MAX_LANES as usize {
            // Once a link: a peer that opens sockets without end must not push out what else has happened.
            if !std::mem::replace(&mut connected.told_too_many, true) {
                self.emit(Event::TooManyLanes { node: connected.peer, channel: their.channel.clone() });
            }
            return;
        }
        connected.lanes.insert((own.id, their.id));
        self.env.spawn(self.clone().lane_out(id, connected.connection.clone(), own.id, their.clone()));
    }

    /// These two do not meet.
    fn tell_mismatch(&self, node: NodeId, own: &SocketEntry, their: &SocketEntry) {
        let (channel, kind) = (own.channel.clone(), own.kind.name());
        tracing::warn!(
            target: "meshmq::node",
            node = %node.short(),
            channel,
            "a {kind} socket of this node has {}, the {} socket of the other has {}: they do not meet",
            own.types,
            their.kind.name(),
            their.types
        );
        let (here, there) = (own.types.clone(), their.types.clone());
        self.emit(Event::TypeMismatch { node, channel, kind, here, there });
    }

    /// Opens a lane to a peer's socket and carries it to its end.
    async fn lane_out(self: Arc<Self>, id: ConnectionId, connection: Connection, own: SocketId, their: SocketEntry) {
        while let Ok(stream) = connection.open_lane().await {
            // The socket, or the link, may have ended while the lane waited for its turn.
            let Some((end, peer)) = self.ends_of(id, own, &their) else { break };
            let end = end.open_lane(peer, self.env.now());
            if self.carry_lane(id, stream, end).await != Carried::Lost {
                break;
            }
            // Where the link lives on, the peer was too slow, or gave the lane up: without one its socket gets nothing.
            tokio::select! {
                biased;
                () = self.over.cancelled() => break,
                _ = connection.closed() => break,
                () = self.env.sleep(LANE_AGAIN) => {}
            }
        }
        if let Some(connected) = self.lock().connections.get_mut(&id) {
            connected.lanes.remove(&(own, their.id));
        }
    }

    /// Both ends of a lane, while they are there.
    fn ends_of(&self, id: ConnectionId, own: SocketId, their: &SocketEntry) -> Option<(Arc<dyn SocketEnd>, LanePeer)> {
        let state = self.lock();
        let connected = state.connections.get(&id)?;
        connected.session.sockets().get(&their.id)?;
        let end = state.sockets.get(&own)?.end.clone();
        Some((end, self.lane_peer(id, connected, their.id, their.slots)))
    }

    /// A peer has opened a lane.
    pub(super) async fn lane_in(self: Arc<Self>, id: ConnectionId, mut stream: LaneStream) {
        let open = match link::read_open(&mut stream, &self.env).await {
            Ok(open) => open,
            Err(OpeningError::Violation(violation)) => return self.violated(id, violation),
            Err(error) => {
                tracing::debug!(target: "meshmq::node", %error, "a lane did not come about");
                return;
            }
        };
        let accepted = {
            let state = self.lock();
            let Some(connected) = state.connections.get(&id) else { return };
            // The socket may have closed meanwhile, which the peer could not know: the lane is dropped, the link stays.
            let Some(socket) = state.sockets.get(&open.to) else { return };
            if socket.entry.kind != open.kind.matching() {
                Err(Violation("a lane to a socket of another kind"))
            } else if !connected.connection.grants().allows(open.kind, &socket.entry.channel) {
                Err(Violation("a lane that the peer has no grant for"))
            } else if connected
                .session
                .sockets()
                .get(&open.from)
                .is_some_and(|their| !their.types.meet(&socket.entry.types))
            {
                Err(Violation("a lane between sockets of different types"))
            } else {
                Ok((socket.end.clone(), self.lane_peer(id, connected, open.from, false)))
            }
        };
        let end = accepted.and_then(|(end, peer)| end.accept_lane(peer, &open, self.env.now()));
        match end {
            // Whoever opened the lane opens the next one.
            Ok(end) => drop(self.carry_lane(id, stream, end).await),
            Err(violation) => self.violated(id, violation),
        }
    }

    async fn carry_lane(
        &self,
        id: ConnectionId,
        stream: LaneStream,
        end: Arc<dyn crate::pattern::lane::LaneEnd>,
    ) -> Carried {
        let (number, carried) = {
            let mut state = self.lock();
            state.lanes += 1;
            state.lanes_carried += 1;
            (state.lanes_carried, state.connections.get(&id).map(|connected| connected.carried.clone()))
        };
        if let Some(carried) = &carried {
            carried.insert(number, end.clone());
        }
        let over = tokio::select! {
            biased;
            () = self.over.cancelled() => Carried::Lost,
            over = link::carry(stream, end, self.env.clone()) => over,
        };
        if let Some(carried) = &carried {
            carried.remove(number);
        }
        self.lane_over();
        if let Carried::Violation(violation) = over {
            self.violated(id, violation);
        }
        over
    }

    fn open_in_memory(self: &Arc<Self>, state: &mut State, sender: SocketId, receiver: SocketId) {
        let (Some(from), Some(to)) = (state.sockets.get(&sender), state.sockets.get(&receiver)) else { return };
        let (from, to, slots) = (from.end.clone(), to.end.clone(), to.entry.slots);
        state.lanes += 1;
        self.env.spawn(self.clone().lane_in_memory(from, sender, to, receiver, slots));
    }

    async fn lane_in_memory(
        self: Arc<Self>,
        from: Arc<dyn SocketEnd>,
        sender: SocketId,
        to: Arc<dyn SocketEnd>,
        receiver: SocketId,
        slots: bool,
    ) {
        let peer = |socket, slots| LanePeer { node: self.id, socket, link: 0, slots, max_message: self.max_message };
        let sending = from.open_lane(peer(receiver, slots), self.env.now());
        let (sender, env) = (peer(sender, false), self.env.clone());
        let carried =
            link::carry_in_memory(sending, move |open| to.accept_lane(sender, open, env.now()), self.env.clone());
        tokio::select! {
            biased;
            () = self.over.cancelled() => {}
            _ = carried => {}
        }
        self.lane_over();
    }

    fn lane_over(&self) {
        self.lock().lanes -= 1;
        self.progress.notify_one();
    }

    fn lane_peer(&self, id: ConnectionId, connected: &Connected, socket: SocketId, slots: bool) -> LanePeer {
        let max_message = connected.session.peer().map_or(0, |hello| hello.max_message);
        let max_message = usize::try_from(max_message).unwrap_or(usize::MAX);
        LanePeer { node: connected.peer, socket, link: id.0, slots, max_message }
    }

    /// The peer broke the protocol on a lane: its link closes.
    fn violated(&self, id: ConnectionId, violation: Violation) {
        let mut guard = self.lock();
        self.end_connection(&mut guard, self.env.now(), id, CloseCode::Violation, &violation.to_string());
    }

    /// Somebody whom the socket meets is there, here or at a peer.
    pub(super) fn has_match(&self, state: &State, own: &SocketEntry) -> bool {
        opposite(state, own).iter().any(|types| own.types.meet(types))
    }

    /// The types of somebody whom the socket would meet but for them.
    pub(super) fn mismatch_of(&self, state: &State, own: &SocketEntry) -> Option<Types> {
        opposite(state, own).into_iter().find(|types| !own.types.meet(types))
    }

    /// Whom a socket of this node may meet: here, and at peers.
    pub(crate) fn sockets_facing(&self, own: SocketId) -> Vec<(NodeId, SocketId)> {
        let state = self.lock();
        // It may have closed meanwhile.
        let Some(own) = state.sockets.get(&own).map(|socket| &socket.entry) else { return Vec::new() };
        let here = facing(&state, own).into_iter().filter(|other| meet(own, other)).map(|other| (self.id, other.id));
        let open = state.connections.values().filter(|connected| connected.open);
        let granted = open.filter(|connected| connected.connection.grants().allows(own.kind.matching(), &own.channel));
        let theirs = granted.flat_map(|connected| {
            let sockets = connected.session.sockets().values();
            sockets.filter(|their| meet(own, their)).map(|their| (connected.peer, their.id))
        });
        here.chain(theirs).collect()
    }

    /// The publishers that a subscriber of these types on this channel has to hear from: of this node, and of peers, by the
    /// tables of open links.
    pub(crate) fn publishers(&self, channel: &str, types: &Types) -> Vec<At> {
        let state = self.lock();
        let own = matches(&state, SocketKind::Publisher, channel).into_iter();
        let own = own.filter(|id| state.sockets.get(id).is_some_and(|own| types.meet(&own.entry.types)));
        let mut all: Vec<_> = own.map(|socket| At { link: 0, node: self.id, socket }).collect();
        for (id, connected) in state.connections.iter().filter(|(_, connected)| connected.open) {
            if !connected.connection.grants().allows(SocketKind::Publisher, channel) {
                continue;
            }
            let theirs = connected.session.sockets().values();
            let theirs = theirs.filter(|their| their.kind == SocketKind::Publisher && their.channel == channel);
            let theirs = theirs.filter(|their| types.meet(&their.types));
            all.extend(theirs.map(|their| At { link: id.0, node: connected.peer, socket: their.id }));
        }
        all
    }

    /// A peer with an open link that has not told its sockets yet: there may be somebody among them who is looked for.
    pub(crate) fn untold(&self) -> Option<NodeId> {
        let state = self.lock();
        let mut open = state.connections.values().filter(|connected| connected.open);
        open.find(|connected| !connected.session.knows_sockets()).map(|connected| connected.peer)
    }

    /// The sockets of this node that have to hear from one of this peer's, and may wait for it.
    pub(super) fn may_await(state: &State, connected: &Connected) -> Vec<Arc<dyn SocketEnd>> {
        let subscribers = state.sockets.values().filter(|socket| socket.entry.kind == SocketKind::Subscriber);
        let theirs = |own: &SocketEntry| connected.session.sockets().values().any(|their| meet(own, their));
        subscribers.filter(|socket| theirs(&socket.entry)).map(|socket| socket.end.clone()).collect()
    }

    /// The channels on which there is a socket of this kind.
    pub(super) fn channels_of(state: &State, kind: SocketKind) -> Vec<&str> {
        let own = state.by_channel.keys().filter(|(of, _)| *of == kind).map(|(_, channel)| channel.as_str());
        let open = state.connections.values().filter(|connected| connected.open);
        let theirs = open.flat_map(|connected| connected.session.sockets().values());
        let theirs = theirs.filter(|their| their.kind == kind).map(|their| their.channel.as_str());
        own.chain(theirs).collect()
    }
}

/// This node's sockets of a kind on a channel.
fn matches(state: &State, kind: SocketKind, channel: &str) -> Vec<SocketId> {
    let ids = state.by_channel.get(&(kind, channel.to_owned()));
    ids.into_iter().flatten().copied().collect()
}

/// This node's sockets of the matching kind on the channel of this one.
fn facing(state: &State, socket: &SocketEntry) -> Vec<SocketEntry> {
    let ids = matches(state, socket.kind.matching(), &socket.channel);
    ids.iter().filter_map(|id| Some(state.sockets.get(id)?.entry.clone())).collect()
}

/// They have a lane.
fn meet(own: &SocketEntry, their: &SocketEntry) -> bool {
    face(own, their) && own.types.meet(&their.types)
}

/// They have one unless their messages are of different types.
fn face(own: &SocketEntry, their: &SocketEntry) -> bool {
    own.kind.matching() == their.kind && own.channel == their.channel
}

/// What those say of their messages that are of the matching kind and on the channel of this one, here or at a peer.
fn opposite(state: &State, own: &SocketEntry) -> Vec<Types> {
    let open = state.connections.values().filter(|connected| connected.open);
    let theirs = open.flat_map(|connected| connected.session.sockets().values()).filter(|their| face(own, their));
    let theirs = theirs.map(|their| their.types.clone());
    facing(state, own).into_iter().map(|own| own.types).chain(theirs).collect()
}
