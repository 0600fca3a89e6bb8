//! What the mesh does: what this node tells of itself, and what it asks of others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::oneshot;

use super::hall::{Hall, State};
use super::links::Connected;
use crate::id::NodeId;
use crate::observe::{
    LinkStatus, NoStatus, NodeSnapshot, NodeStatus, Snapshot, SocketFigures, SocketMetrics, SocketStatus,
};
use crate::pattern::lane::SocketEnd;
use crate::session::ConnectionId;
use crate::trust::Grants;
use crate::wire::control::{FiguresEntry, LinkEntry, MAX_FOUND, SocketEntry, SocketText, Status};
use crate::wire::limits::{MAX_LINKS, MAX_STATUS_SOCKETS};

/// A channel on which there are sockets, from [`Node::channels`](crate::Node::channels).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Who has sockets on it: by node, and for each by kind.
    pub sockets: Vec<ChannelSockets>,
}

/// The sockets of one kind that a node has on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ChannelSockets {
    /// Whose they are.
    pub node: NodeId,
    /// `push` or `pull`; later versions have further kinds.
    pub kind: &'static str,
    /// How many there are.
    pub count: usize,
}

impl Hall {
    /// The channels of this node's sockets and of those that its peers have told of.
    pub(super) fn channels(&self) -> Vec<Channel> {
        let state = self.lock();
        let own = state.sockets.values().map(|socket| (self.id, &socket.entry));
        let open = state.connections.values().filter(|connected| connected.open);
        let theirs =
            open.flat_map(|connected| connected.session.sockets().values().map(|entry| (connected.peer, entry)));
        let mut counts: BTreeMap<&str, BTreeMap<(NodeId, &'static str), usize>> = BTreeMap::new();
        for (node, SocketEntry { channel, kind, .. }) in own.chain(theirs) {
            *counts.entry(channel).or_default().entry((node, kind.name())).or_default() += 1;
        }
        let sockets = |counts: BTreeMap<(NodeId, &'static str), usize>| {
            counts.into_iter().map(|((node, kind), count)| ChannelSockets { node, kind, count }).collect()
        };
        counts.into_iter().map(|(name, counts)| Channel { name: name.to_owned(), sockets: sockets(counts) }).collect()
    }

    /// Asks every peer at the same time; who does not answer within this time is in it without a status.
    pub(super) async fn snapshot(&self, time: Duration) -> Snapshot {
        let mut nodes: BTreeMap<NodeId, NodeSnapshot> = BTreeMap::new();
        let own = NodeSnapshot {
            id: self.id,
            name: self.name.clone(),
            address: self.endpoint.local_addr(),
            found: Vec::new(),
            status: Ok(self.own_status()),
        };
        nodes.insert(self.id, own);
        let peers: Vec<NodeId> = self.peer_infos().into_iter().map(|peer| peer.id).collect();
        let answers = join_all(peers.iter().map(|peer| self.status_of(*peer, time))).await;
        let mut known = Vec::new();
        for (id, status) in peers.into_iter().zip(answers) {
            let links = status.as_ref().map(|status| &status.links[..]).unwrap_or_default();
            known.extend(links.iter().map(|link| (link.node, link.name.clone(), link.address)));
            let state = self.lock();
            let connected = state.link_of(id).map(|(_, connected)| connected);
            // Gone while others were waited for: whoever is still linked to it tells of it.
            let Some(address) = connected.map(|connected| connected.connection.remote_address()) else { continue };
            let name = state.name_of(id);
            let found = state.found_by(id).into_iter().map(str::to_owned).collect();
            nodes.insert(id, NodeSnapshot { id, name, address, found, status });
        }
        for (id, name, address) in known {
            let status = Err(NoStatus::NotLinked);
            nodes.entry(id).or_insert(NodeSnapshot { id, name, address, found: Vec::new(), status });
        }
        Snapshot { mesh: self.mesh.clone(), taken_by: self.id, nodes: nodes.into_values().collect() }
    }

    pub(super) async fn status_of(&self, node: NodeId, time: Duration) -> Result<NodeStatus, NoStatus> {
        if node == self.id {
            return Ok(self.own_status());
        }
        let answer = {
            let mut state = self.lock();
            let link = state.peers.get(&node).and_then(|peer| peer.arbiter.link());
            let connected = link.and_then(|id| state.connections.get_mut(&id)).filter(|connected| connected.open);
            let connected = connected.ok_or(NoStatus::NotLinked)?;
            let (tell, answer) = oneshot::channel();
            connected.status.retain(|waiting| !waiting.is_closed());
            connected.status.push(tell);
            connected.session.ask_status();
            connected.say.notify_one();
            answer
        };
        match self.env.timeout(time, answer).await {
            Some(Ok(status)) => Ok(heard(*status)),
            Some(Err(_)) => Err(NoStatus::LinkLost),
            None => Err(NoStatus::TimedOut),
        }
    }

    fn own_status(&self) -> NodeStatus {
        heard(self.status(&Grants::everything()))
    }

    /// Tells the peer, if it has asked and it is time to.
    pub(super) fn answer_status(&self, id: ConnectionId) {
        let owed = |state: &State, now: Instant| {
            let connected = state.connections.get(&id)?;
            connected.session.owes_status(now).then(|| connected.connection.grants().clone())
        };
        let Some(grants) = owed(&self.lock(), self.env.now()) else { return };
        let status = self.status(&grants);
        if let Some(connected) = self.lock().connections.get_mut(&id) {
            connected.session.answer_status(self.env.now(), status);
            connected.say.notify_one();
        }
    }

    /// What somebody with these grants may know. Sockets are asked without the lock, as they may call back.
    fn status(&self, grants: &Grants) -> Status {
        let now = self.env.now();
        let (mut status, sockets) = {
            let state = self.lock();
            let sockets: Vec<(SocketEntry, Arc<dyn SocketEnd>)> = state
                .sockets
                .values()
                .filter(|socket| may_know(grants, &socket.entry))
                .map(|socket| (socket.entry.clone(), socket.end.clone()))
                .collect();
            let open: Vec<_> = state.connections.values().filter(|connected| connected.open).collect();
            let mut links: Vec<LinkEntry> = open.iter().map(|connected| link_entry(&state, connected, now)).collect();
            links.sort_by_key(|link| link.node);
            let links_left_out = links.len().saturating_sub(MAX_LINKS) as u64;
            links.truncate(MAX_LINKS);
            let status = Status {
                version: env!("CARGO_PKG_VERSION").into(),
                uptime_ms: millis(now.saturating_duration_since(state.started)),
                links,
                links_left_out,
                sockets_left_out: sockets.len().saturating_sub(MAX_STATUS_SOCKETS) as u64,
                ..Status::default()
            };
            (status, sockets)
        };
        let told = sockets.iter().take(MAX_STATUS_SOCKETS);
        status.sockets = told.map(|(entry, end)| figures(entry, &end.metrics())).collect();
        status
    }
}

impl State {
    /// The link with a node.
    fn link_of(&self, node: NodeId) -> Option<(ConnectionId, &Connected)> {
        let mut links = self.connections.iter().filter(|(_, connected)| connected.open && connected.peer == node);
        links.next().map(|(id, connected)| (*id, connected))
    }

    fn name_of(&self, node: NodeId) -> String {
        self.peers.get(&node).map_or_else(String::new, |peer| peer.name.clone())
    }
}

/// Somebody with these grants may have a socket on the channel that meets this one, or one like it.
fn may_know(grants: &Grants, entry: &SocketEntry) -> bool {
    grants.allows(entry.kind.matching(), &entry.channel) || grants.allows(entry.kind, &entry.channel)
}

fn link_entry(state: &State, connected: &Connected, now: Instant) -> LinkEntry {
    let found = state.found_by(connected.peer);
    LinkEntry {
        node: connected.peer,
        name: state.name_of(connected.peer),
        address: SocketText(connected.connection.remote_address()),
        round_trip_us: connected.connection.round_trip().as_micros().try_into().unwrap_or(u64::MAX),
        age_ms: connected.opened_at.map_or(0, |at| millis(now.saturating_duration_since(at))),
        found: found.into_iter().take(MAX_FOUND).map(str::to_owned).collect(),
    }
}

fn figures(entry: &SocketEntry, metrics: &SocketMetrics) -> FiguresEntry {
    let head = FiguresEntry {
        id: entry.id,
        kind: entry.kind.name().into(),
        channel: entry.channel.clone(),
        types: entry.types.clone(),
        ..FiguresEntry::default()
    };
    match &metrics.figures {
        SocketFigures::Push(push) => FiguresEntry {
            peers: push.pullers.len() as u64,
            queued: push.queued,
            in_flight: push.in_flight,
            bytes: push.bytes,
            bound_messages: push.bound_messages,
            bound_bytes: push.bound_bytes,
            total: push.accepted,
            handled: push.handled,
            nacked: push.nacked,
            returned: push.returned,
            redelivered: push.redelivered,
            rejected: push.rejected,
            exhausted: push.exhausted,
            oldest_ms: push.oldest.map(millis),
            ..head
        },
        SocketFigures::Pull(pull) => FiguresEntry {
            peers: pull.pushers.len() as u64,
            queued: pull.waiting,
            in_flight: pull.in_hand,
            bound_messages: pull.prefetch.unwrap_or(0),
            total: pull.received,
            handled: pull.acked,
            nacked: pull.nacked,
            returned: pull.returned,
            rejected: pull.rejected,
            oldest_ms: pull.oldest.map(millis),
            ..head
        },
        SocketFigures::Requester(requester) => FiguresEntry {
            peers: requester.repliers.len() as u64,
            queued: requester.waiting,
            in_flight: requester.open - requester.waiting,
            bytes: requester.bytes,
            bound_messages: requester.bound_messages,
            bound_bytes: requester.bound_bytes,
            total: requester.asked,
            handled: requester.replied,
            nacked: requester.failed,
            returned: requester.refused,
            redelivered: requester.repeated,
            ..head
        },
        SocketFigures::Replier(replier) => FiguresEntry {
            peers: replier.requesters.len() as u64,
            queued: replier.waiting + replier.arriving,
            in_flight: replier.in_hand,
            bytes: replier.bytes,
            bound_messages: replier.limit,
            total: replier.received,
            handled: replier.replied,
            nacked: replier.failed,
            returned: replier.returned,
            redelivered: replier.repeated,
            ..head
        },
        SocketFigures::Publisher(publisher) => FiguresEntry {
            peers: publisher.subscribers.iter().filter(|subscriber| subscriber.connected).count() as u64,
            queued: publisher.subscribers.iter().map(|subscriber| subscriber.queued).sum(),
            in_flight: publisher.subscribers.iter().map(|subscriber| subscriber.in_flight).sum(),
            bytes: publisher.subscribers.iter().map(|subscriber| subscriber.queued_bytes).sum(),
            bound_messages: publisher.bound_messages,
            bound_bytes: publisher.bound_bytes,
            total: publisher.published,
            missed: publisher.dropped.total(),
            ..head
        },
        SocketFigures::Subscriber(subscriber) => FiguresEntry {
            peers: subscriber.publishers.len() as u64,
            queued: subscriber.waiting,
            bound_messages: subscriber.prefetch,
            total: subscriber.received,
            handled: subscriber.handed,
            missed: subscriber.missed,
            ..head
        },
    }
}

/// What a node has told, as it is shown.
fn heard(status: Status) -> NodeStatus {
    let link = |link: LinkEntry| LinkStatus {
        node: link.node,
        name: link.name,
        address: link.address.0,
        found: link.found,
        round_trip: Duration::from_micros(link.round_trip_us),
        age: Duration::from_millis(link.age_ms),
    };
    let socket = |socket: FiguresEntry| SocketStatus {
        id: socket.id.0,
        kind: socket.kind,
        channel: socket.channel,
        message_type: socket.types.message,
        reply_type: socket.types.reply,
        peers: socket.peers,
        queued: socket.queued,
        in_flight: socket.in_flight,
        bytes: socket.bytes,
        bound_messages: Some(socket.bound_messages).filter(|bound| *bound > 0),
        bound_bytes: Some(socket.bound_bytes).filter(|bound| *bound > 0),
        total: socket.total,
        handled: socket.handled,
        nacked: socket.nacked,
        returned: socket.returned,
        redelivered: socket.redelivered,
        rejected: socket.rejected,
        exhausted: socket.exhausted,
        missed: socket.missed,
        oldest: socket.oldest_ms.map(Duration::from_millis),
        rates: None,
    };
    NodeStatus {
        version: status.version,
        uptime: Duration::from_millis(status.uptime_ms),
        links: status.links.into_iter().map(link).collect(),
        links_left_out: status.links_left_out,
        sockets: status.sockets.into_iter().map(socket).collect(),
        sockets_left_out: status.sockets_left_out,
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}
