//! The hall: what a node knows of itself, its sockets, its peers and its connections, under one lock.
//!
//! Nothing of the message path comes here: lanes are carried by tasks of their own. No method of a
//! [`SocketEnd`] is called with the lock held, as a socket may call back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::Host;
use super::events::{Event, Ring};
use super::links::Connected;
use super::peers::{Address, Peer};
use crate::env::Env;
use crate::error::OpenError;
use crate::id::{NodeId, SocketId, Types};
use crate::link::Endpoint;
use crate::observe::Metrics;
use crate::pattern::lane::SocketEnd;
use crate::session::ConnectionId;
use crate::wire::control::{SocketEntry, SocketKind};
use crate::wire::limits::{LONELY_AFTER, MAX_SOCKETS};

/// The inside of a node; sockets and tasks hold it, and it ends with [`Hall::leave`].
pub(crate) struct Hall {
    pub(super) env: Env,
    pub(super) id: NodeId,
    pub(super) name: String,
    pub(super) mesh: String,
    pub(super) incarnation: u64,
    pub(super) max_message: usize,
    pub(super) max_links: usize,
    /// Peers tell each other about others.
    pub(super) exchange: bool,
    pub(super) endpoint: Endpoint,
    pub(super) ring: Arc<Ring>,
    state: Mutex<State>,
    /// Something has changed that the supervisor may have to act on.
    pub(super) changed: Notify,
    /// A lane or a connection has ended, or a socket that takes no more owes nothing any more.
    pub(super) progress: Notify,
    /// How many links are open.
    pub(super) links: watch::Sender<usize>,
    pub(super) settled: watch::Sender<bool>,
    /// Counts what may change the answer to who is there: tables, links, and that the node is settled.
    news: watch::Sender<u64>,
    /// Every task of the node ends with it.
    pub(super) over: CancellationToken,
    /// What the application holds on to; the node leaves when it is dropped.
    host: Mutex<Weak<Host>>,
}

pub(super) struct State {
    pub(super) started: Instant,
    /// No socket opens any more. Peers are still looked for: accepted messages may only now find somebody.
    pub(super) closing: bool,
    /// Nobody is dialled or let in any more: what could be delivered is.
    pub(super) leaving: bool,
    pub(super) sockets: BTreeMap<SocketId, Socket>,
    /// The same by what they are matched by.
    pub(super) by_channel: BTreeMap<(SocketKind, String), BTreeSet<SocketId>>,
    next_socket: u64,
    pub(super) next_connection: u64,
    pub(super) connections: BTreeMap<ConnectionId, Connected>,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    /// Where somebody is said to be, without saying who.
    pub(super) addresses: BTreeMap<SocketAddr, Address>,
    pub(super) sources: Vec<Looking>,
    /// When peers are told about others.
    pub(super) exchange_at: Option<Instant>,
    /// Who is not where a source says, for the sources.
    pub(super) doubts: broadcast::Sender<NodeId>,
    /// Lanes that are carried now, of links and in memory.
    pub(super) lanes: usize,
    /// How many there have been, of links.
    pub(super) lanes_carried: u64,
    pub(super) links_opened: u64,
    pub(super) refused: u64,
    /// The lonely report was made, or is not needed.
    pub(super) reported: bool,
}

impl State {
    /// Sockets may have lost the last of those that they met.
    pub(super) fn look_for_lonely(&mut self, now: Instant) {
        for socket in self.sockets.values_mut() {
            socket.alone_at = Some(now + LONELY_AFTER);
        }
    }
}

/// A socket of this node.
pub(super) struct Socket {
    pub(super) entry: SocketEntry,
    pub(super) end: Arc<dyn SocketEnd>,
    /// When it is looked whether it has found somebody.
    pub(super) alone_at: Option<Instant>,
    /// It was told that it has not; once, until it has.
    pub(super) told_alone: bool,
}

/// A discovery source at work.
pub(super) struct Looking {
    pub(super) name: &'static str,
    pub(super) first_pass: bool,
    pub(super) report: Option<String>,
}

/// What a socket tells of itself.
pub(crate) struct SocketSpec {
    pub(crate) kind: SocketKind,
    pub(crate) channel: String,
    /// A puller with a fixed prefetch.
    pub(crate) slots: bool,
    pub(crate) types: Types,
}

/// The application's hold on its node by way of a socket: kept with the handle, so that a node lives as long as one of
/// its sockets.
#[must_use = "the node may leave while the application still holds the socket"]
pub(crate) struct Registered {
    _host: Arc<Host>,
}

impl Hall {
    #[expect(clippy::too_many_arguments, reason = "one caller, which has just found all of them out")]
    pub(super) fn new(
        env: Env,
        id: NodeId,
        name: String,
        mesh: String,
        incarnation: u64,
        max_message: usize,
        max_links: usize,
        exchange: bool,
        endpoint: Endpoint,
        sources: Vec<Looking>,
    ) -> Arc<Self> {
        let state = State {
            started: env.now(),
            closing: false,
            leaving: false,
            sockets: BTreeMap::new(),
            by_channel: BTreeMap::new(),
            next_socket: 1,
            next_connection: 1,
            connections: BTreeMap::new(),
            peers: BTreeMap::new(),
            addresses: BTreeMap::new(),
            sources,
            exchange_at: None,
            doubts: broadcast::Sender::new(MAX_DOUBTS),
            lanes: 0,
            lanes_carried: 0,
            links_opened: 0,
            refused: 0,
            reported: false,
        };
        Arc::new(Self {
            env,
            id,
            name,
            mesh,
            incarnation,
            max_message,
            max_links,
            exchange,
            endpoint,
            ring: Arc::default(),
            state: Mutex::new(state),
            changed: Notify::new(),
            progress: Notify::new(),
            links: watch::Sender::new(0),
            settled: watch::Sender::new(false),
            news: watch::Sender::new(0),
            over: CancellationToken::new(),
            host: Mutex::default(),
        })
    }

    pub(super) fn held_by(&self, host: &Arc<Host>) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(host);
    }

    /// Opens a socket: peers are told, and lanes to the matched sockets open.
    ///
    /// # Errors
    /// The node is closing, or has as many sockets as it may have.
    pub(crate) fn register(
        self: &Arc<Self>,
        spec: SocketSpec,
        make: impl FnOnce(SocketId) -> Arc<dyn SocketEnd>,
    ) -> Result<Registered, OpenError> {
        let host = self.host.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        let host = host.ok_or(OpenError::Closed)?;
        let id = {
            let mut state = self.lock();
            let id = SocketId(state.next_socket);
            state.next_socket += 1;
            id
        };
        // Not under the lock, as nothing of a socket is: until it is in the table nobody knows it.
        let end = make(id);
        let SocketSpec { kind, channel, slots, types } = spec;
        let entry = SocketEntry { id, kind, channel, slots, types };

        let mut guard = self.lock();
        let state = &mut *guard;
        let refused = match state.sockets.len() {
            _ if state.closing => Some(OpenError::Closed),
            MAX_SOCKETS.. => Some(OpenError::TooManySockets { limit: MAX_SOCKETS }),
            _ => None,
        };
        if let Some(error) = refused {
            drop(guard);
            end.close();
            return Err(error);
        }
        let alone_at = Some(self.env.now() + LONELY_AFTER);
        state.by_channel.entry((kind, entry.channel.clone())).or_default().insert(id);
        state.sockets.insert(id, Socket { entry: entry.clone(), end, alone_at, told_alone: false });
        self.route_own(state, &entry);
        drop(guard);
        self.tell_news();
        self.changed.notify_one();
        Ok(Registered { _host: host })
    }

    /// The socket is no more: peers are told. Its lanes end by themselves, once nothing is owed over them.
    pub(crate) fn unregister(&self, id: SocketId) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(socket) = state.sockets.remove(&id) else { return };
        let key = (socket.entry.kind, socket.entry.channel.clone());
        if let Some(ids) = state.by_channel.get_mut(&key) {
            ids.remove(&id);
            if ids.is_empty() {
                state.by_channel.remove(&key);
            }
        }
        for connected in state.connections.values_mut().filter(|connected| connected.session.is_open()) {
            connected.session.tell_closed(id);
            connected.say.notify_one();
        }
        state.look_for_lonely(self.env.now());
        drop(guard);
        self.tell_news();
        self.progress.notify_one();
        // The socket itself goes only now: what its end drops may call back.
        drop(socket);
    }

    /// Changes whenever [`is_settled`](Self::is_settled), [`sockets_facing`](Self::sockets_facing), [`publishers`](Self::publishers)
    /// or [`untold`](Self::untold) may have.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    pub(super) fn tell_news(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The first view of the mesh is complete.
    pub(crate) fn is_settled(&self) -> bool {
        *self.settled.borrow()
    }

    /// Waits until the node knows its mesh, or has ended.
    pub(crate) async fn until_settled(&self) {
        // The sender lives here.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    /// Largest body that is sent or taken, in bytes.
    pub(crate) fn max_message(&self) -> usize {
        self.max_message
    }

    /// Tells whoever reads the node's events.
    pub(crate) fn emit(&self, event: Event) {
        tracing::debug!(target: "meshmq::node", node = %self.id.short(), ?event);
        self.ring.push(event);
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.numbered_metrics().1
    }

    /// The figures, and the number of each socket in them.
    pub(super) fn numbered_metrics(&self) -> (Vec<u64>, Metrics) {
        let (ids, ends, mut metrics) = {
            let state = self.lock();
            let ids = state.sockets.keys().map(|id| id.0).collect();
            let ends: Vec<_> = state.sockets.values().map(|socket| socket.end.clone()).collect();
            let metrics = Metrics {
                links: *self.links.borrow(),
                links_opened: state.links_opened,
                refused: state.refused,
                events_missed: self.ring.missed(),
                ..Metrics::default()
            };
            (ids, ends, metrics)
        };
        metrics.sockets = ends.iter().map(|end| end.metrics()).collect();
        (ids, metrics)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Doubts that wait for a busy source; older ones are dropped, and raised again at the next dial.
const MAX_DOUBTS: usize = 64;

impl std::fmt::Debug for Hall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hall").field("id", &self.id).finish_non_exhaustive()
    }
}
