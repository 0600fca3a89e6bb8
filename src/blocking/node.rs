//! A node for threads.

use std::iter::FusedIterator;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    PublisherBuilder, PullBuilder, PushBuilder, ReplierBuilder, RequesterBuilder, SubscriberBuilder, comes_within,
    within,
};
use crate::env::{Env, block_on};
use crate::error::Closed;
use crate::id::NodeId;
use crate::node::{self, Channel, Event, JoinError, Peer, Undelivered};
use crate::observe::{Metrics, NoStatus, NodeStatus, Snapshot};
use crate::trust::MeshKey;

/// Options of a node; [`join`](Self::join) joins the mesh. The defaults are those of [`meshmq::Builder`](crate::Builder).
#[derive(Debug)]
#[must_use = "a builder does nothing until it joins"]
pub struct Builder(node::Builder);

impl Builder {
    /// As [`name`](crate::Builder::name).
    pub fn name(self, name: impl Into<String>) -> Self {
        Self(self.0.name(name))
    }

    /// As [`key`](crate::Builder::key).
    pub fn key(self, key: MeshKey) -> Self {
        Self(self.0.key(key))
    }

    /// As [`key_file`](crate::Builder::key_file).
    pub fn key_file(self, path: impl Into<PathBuf>) -> Self {
        Self(self.0.key_file(path))
    }

    /// As [`identity_file`](crate::Builder::identity_file).
    pub fn identity_file(self, path: impl Into<PathBuf>) -> Self {
        Self(self.0.identity_file(path))
    }

    /// As [`peer`](crate::Builder::peer).
    pub fn peer(self, address: &str) -> Self {
        Self(self.0.peer(address))
    }

    /// As [`listen`](crate::Builder::listen).
    pub fn listen(self, address: SocketAddr) -> Self {
        Self(self.0.listen(address))
    }

    /// As [`without_mdns`](crate::Builder::without_mdns).
    pub fn without_mdns(self) -> Self {
        Self(self.0.without_mdns())
    }

    /// As [`local_folder`](crate::Builder::local_folder).
    pub fn local_folder(self, path: impl Into<PathBuf>) -> Self {
        Self(self.0.local_folder(path))
    }

    /// As [`without_local`](crate::Builder::without_local).
    pub fn without_local(self) -> Self {
        Self(self.0.without_local())
    }

    /// As [`without_exchange`](crate::Builder::without_exchange).
    pub fn without_exchange(self) -> Self {
        Self(self.0.without_exchange())
    }

    /// As [`linger`](crate::Builder::linger).
    pub fn linger(self, time: Duration) -> Self {
        Self(self.0.linger(time))
    }

    /// As [`max_message`](crate::Builder::max_message).
    pub fn max_message(self, bytes: usize) -> Self {
        Self(self.0.max_message(bytes))
    }

    /// As [`max_links`](crate::Builder::max_links).
    pub fn max_links(self, links: usize) -> Self {
        Self(self.0.max_links(links))
    }

    /// Joins the mesh.
    ///
    /// # Errors
    /// An option does not fit, the key can not be read or made, or the operating system gives no port; the error says what
    /// to do.
    pub fn join(self) -> Result<Node, JoinError> {
        block_on(self.0).map(Node)
    }
}

/// A member of a mesh, for threads: [`meshmq::Node`](crate::Node) without `.await`.
///
/// A clone is the same node. It lives as long as a clone or one of its sockets; the last drop waits as that of its
/// namesake does.
///
/// ```
/// use std::time::Duration;
///
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?; // a mesh of this process alone; as a rule `Node::join("shop")`
/// let push = node.push("jobs").bound(100, 1 << 20).open()?;
/// push.send("nobody is there to take it")?;
///
/// let undelivered = node.shutdown(Duration::from_millis(10));
/// assert_eq!(undelivered.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Node(node::Node);

impl Node {
    /// Joins the mesh of this name with this user's key: on this host other programs of this user are found.
    ///
    /// The same as [`builder(mesh)`](Self::builder) with every default.
    ///
    /// # Errors
    /// The key can not be read or made, or the operating system gives no port; the error says what to do.
    pub fn join(mesh: &str) -> Result<Self, JoinError> {
        Self::builder(mesh).join()
    }

    /// All that can be chosen about a node.
    pub fn builder(mesh: &str) -> Builder {
        Builder(node::Node::builder(mesh))
    }

    /// A mesh of this process alone, for tests: as [`meshmq::Node::isolated`](crate::Node::isolated).
    pub fn isolated() -> Builder {
        Builder(node::Node::isolated())
    }

    /// Who this node is.
    pub fn id(&self) -> NodeId {
        self.0.id()
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The name of its mesh.
    pub fn mesh(&self) -> &str {
        self.0.mesh()
    }

    /// The UDP address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// Options of a push socket on this channel.
    pub fn push(&self, channel: impl Into<String>) -> PushBuilder {
        PushBuilder::new(self.0.push(channel))
    }

    /// Options of a pull socket on this channel.
    pub fn pull(&self, channel: impl Into<String>) -> PullBuilder {
        PullBuilder::new(self.0.pull(channel))
    }

    /// Options of a requester on this channel.
    pub fn requester(&self, channel: impl Into<String>) -> RequesterBuilder {
        RequesterBuilder::new(self.0.requester(channel))
    }

    /// Options of a replier on this channel.
    pub fn replier(&self, channel: impl Into<String>) -> ReplierBuilder {
        ReplierBuilder::new(self.0.replier(channel))
    }

    /// Options of a publisher on this channel.
    pub fn publisher(&self, channel: impl Into<String>) -> PublisherBuilder {
        PublisherBuilder::new(self.0.publisher(channel))
    }

    /// Options of a subscriber on this channel.
    pub fn subscriber(&self, channel: impl Into<String>) -> SubscriberBuilder {
        SubscriberBuilder::new(self.0.subscriber(channel))
    }

    /// The peers with which there is a link now, by id.
    pub fn peers(&self) -> Vec<Peer> {
        self.0.peers()
    }

    /// The channels that this node knows of: of its own sockets, and of those of its peers that it may meet. By name.
    pub fn channels(&self) -> Vec<Channel> {
        self.0.channels()
    }

    /// The whole mesh, as far as this node knows it: asks every peer for its links and sockets, all at once, and waits for
    /// their answers, at most for `timeout`; more is told at [`meshmq::Node::snapshot`](crate::Node::snapshot).
    pub fn snapshot(&self, timeout: Duration) -> Snapshot {
        block_on(self.0.snapshot(timeout))
    }

    /// What one node tells of itself: as in a [`snapshot`](Self::snapshot). This node itself answers at once.
    ///
    /// # Errors
    /// [`NoStatus`] says why there is none.
    pub fn status_of(&self, node: NodeId, timeout: Duration) -> Result<NodeStatus, NoStatus> {
        block_on(self.0.status_of(node, timeout))
    }

    /// What this node has done to find others and what came of it, for people who wonder why somebody is missing.
    pub fn search_report(&self) -> String {
        self.0.search_report()
    }

    /// What happens in the mesh, from what is still remembered on.
    pub fn events(&self) -> Events {
        Events { events: self.0.events(), env: self.0.env().clone() }
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> Metrics {
        self.0.metrics()
    }

    /// Serves the figures for Prometheus over HTTP: as [`meshmq::Node::serve_metrics`](crate::Node::serve_metrics).
    ///
    /// # Errors
    /// What the operating system says, as a rule that the port is in use; or that the node is closed.
    #[cfg(feature = "prometheus")]
    pub fn serve_metrics(&self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        self.0.serve_metrics(address)
    }

    /// Waits until the node knows its mesh: each discovery source has finished its first pass, and each candidate found
    /// is linked, its sockets known, or was tried in vain; at most 1.5 s from the start.
    pub fn settled(&self) {
        block_on(self.0.settled());
    }

    /// Waits until there are links with so many peers.
    ///
    /// # Errors
    /// The node has ended first.
    pub fn wait_for_peers(&self, peers: usize) -> Result<(), Closed> {
        block_on(self.0.wait_for_peers(peers))
    }

    /// Like [`wait_for_peers`](Self::wait_for_peers), but no longer than `time`. `false`: there are fewer.
    ///
    /// # Errors
    /// As [`wait_for_peers`](Self::wait_for_peers).
    pub fn wait_for_peers_timeout(&self, peers: usize, time: Duration) -> Result<bool, Closed> {
        comes_within(self.0.env(), time, self.0.wait_for_peers(peers))
    }

    /// Ends the node: from now on sends give their message back, pullers return what they have not handed out, and
    /// deliveries in hand may still be answered by other threads, for at most `drain`. Then it says goodbye to its peers
    /// and hands back what it could not deliver.
    ///
    /// A second call waits for the first, and hands back nothing.
    pub fn shutdown(&self, drain: Duration) -> Undelivered {
        block_on(self.0.shutdown(drain))
    }

    /// The same node, for async code.
    pub fn as_async(&self) -> &node::Node {
        &self.0
    }

    /// The same node, for async code.
    pub fn into_async(self) -> node::Node {
        self.0
    }
}

impl From<node::Node> for Node {
    fn from(node: node::Node) -> Self {
        Self(node)
    }
}

/// What happens in the mesh, from [`Node::events`]: an iterator that waits for each event and ends with the node.
///
/// ```
/// use std::time::Duration;
///
/// use meshmq::Event;
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let (push, pull) = (node.push("jobs").open()?, node.pull("jobs").open()?);
/// push.send("nonsense")?;
/// pull.recv()?.reject("not a job");
/// let rejected = node.events().find(|event| matches!(event, Event::Rejected { reason, .. } if reason == "not a job"));
/// assert!(rejected.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Events {
    events: node::Events,
    env: Env,
}

impl Events {
    /// Waits for the next event; `None` once the node has ended and all was read.
    pub fn recv(&mut self) -> Option<Event> {
        block_on(self.events.recv())
    }

    /// The next event, if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.events.try_recv()
    }

    /// Waits for the next event, but no longer than `time`. `None`: none has come.
    ///
    /// # Errors
    /// The node has ended, and all was read.
    pub fn recv_timeout(&mut self, time: Duration) -> Result<Option<Event>, Closed> {
        match within(&self.env, time, self.events.recv()) {
            Some(Some(event)) => Ok(Some(event)),
            Some(None) => Err(Closed),
            None => Ok(None),
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv()
    }
}

impl FusedIterator for Events {}
