//! What a node needs to start.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::hall::{Hall, Looking};
use super::{Host, Node};
use crate::discovery::{Advert, Finder, Fixed, InvalidPeer, Local, PeerAddress, Source};
use crate::env::{BoxFuture, Env, OwnThread};
use crate::link::{BindError, Endpoint};
use crate::trust::{Credentials, Identity, IdentityError, KeyError, Mesh, MeshKey};
use crate::wire::limits::{LINGER, MAX_LINKS, MAX_MESH_NAME, MAX_MESSAGE, MAX_MESSAGE_CEILING, MAX_NODE_NAME};

/// Options of a node; await it to join the mesh.
///
/// | option | default |
/// |---|---|
/// | [`name`](Self::name) | the first characters of the node's id |
/// | [`key`](Self::key), [`key_file`](Self::key_file) | the key in the user's configuration folder, made on first use |
/// | [`identity_file`](Self::identity_file) | none: another identity after each start |
/// | [`peer`](Self::peer) | none |
/// | [`listen`](Self::listen) | a free port, on all addresses |
/// | [`without_mdns`](Self::without_mdns) | nodes on the same network find each other |
/// | [`local_folder`](Self::local_folder) | a folder of this user that goes with the session |
/// | [`without_exchange`](Self::without_exchange) | peers tell each other where others are |
/// | [`linger`](Self::linger) | 5 s |
/// | [`max_message`](Self::max_message) | 16 MiB |
/// | [`max_links`](Self::max_links) | 256 |
///
/// It is ready once the node can be found: whoever starts on this host after that looks for it. [`Node::settled`] waits until
/// those who are there already are linked.
///
/// # Cancel safety
/// Dropped before it is ready, no node was started, or it has left again.
#[must_use = "a builder does nothing until it is awaited"]
pub struct Builder {
    mesh: String,
    name: Option<String>,
    key: Key,
    identity: Option<PathBuf>,
    peers: Vec<String>,
    listen: Option<SocketAddr>,
    mdns: bool,
    local: Where,
    linger: Duration,
    max_message: usize,
    max_links: usize,
    exchange: bool,
    runtime: Place,
    /// Of a node that is a mesh by itself: where the environment would look for peers is left out.
    looks: bool,
}

enum Key {
    OfUser,
    OfNobody,
    File(PathBuf),
    Given(MeshKey),
}

enum Where {
    Default,
    Folder(PathBuf),
    Nowhere,
}

enum Place {
    OwnThread,
    CurrentRuntime,
    Given(Env),
}

/// The node could not be started. Nothing was left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The mesh key can not be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The kept identity can not be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address of a peer is not one.
    #[error(transparent)]
    Peer(#[from] InvalidPeer),
    /// The port can not be opened.
    #[error("{0}")]
    Listen(String),
    /// The mesh's name is empty, too long, or has control characters.
    #[error("the name of a mesh has 1 to {MAX_MESH_NAME} bytes and no control characters")]
    MeshName,
    /// The node's name is too long, or has control characters.
    #[error("the name of a node has at most {MAX_NODE_NAME} bytes and no control characters")]
    Name,
    /// A limit is out of its range.
    #[error("{what} is {value}; it has to be from 1 to {most}")]
    Limit {
        /// Which one.
        what: &'static str,
        /// What was asked for.
        value: usize,
        /// The most that is possible.
        most: usize,
    },
    /// There is no tokio runtime here. Call from within one, or leave out `on_current_runtime`.
    #[error("no tokio runtime is running here: await this within one, or leave out on_current_runtime()")]
    NoRuntime,
    /// The operating system gives no thread, or no randomness.
    #[error("the operating system has no thread or no randomness for the node: {0}")]
    System(#[from] io::Error),
    /// The environment's cryptography is not fit for a mesh.
    #[error("the node's certificate can not be made: {0}")]
    Trust(String),
}

impl Builder {
    pub(super) fn new(mesh: &str) -> Self {
        Self {
            mesh: mesh.into(),
            name: None,
            key: Key::OfUser,
            identity: None,
            peers: Vec::new(),
            listen: None,
            mdns: true,
            local: Where::Default,
            linger: LINGER,
            max_message: MAX_MESSAGE,
            max_links: MAX_LINKS,
            exchange: true,
            runtime: Place::OwnThread,
            looks: true,
        }
    }

    pub(super) fn isolated() -> Self {
        Self {
            key: Key::OfNobody,
            listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
            linger: Duration::ZERO,
            looks: false,
            ..Self::new("isolated")
        }
    }

    /// What the node calls itself, for people: at most 255 bytes. It proves nothing.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The mesh key.
    pub fn key(mut self, key: MeshKey) -> Self {
        self.key = Key::Given(key);
        self
    }

    /// A file with the mesh key, which only its owner may read.
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key = Key::File(path.into());
        self
    }

    /// Keeps the node's identity in this file, which is made if it is not there: the node has the same id after a
    /// restart. The file is locked for as long as the node lives.
    pub fn identity_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.identity = Some(path.into());
        self
    }

    /// A peer to dial, `host:port`; can be called again for more. It need not be there yet. One is enough:
    /// peers tell each other where others are. The text is checked when the builder is awaited.
    pub fn peer(mut self, address: &str) -> Self {
        self.peers.push(address.into());
        self
    }

    /// The UDP address to listen on; port 0 takes a free one.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Neither advertises itself on the networks of this host nor looks for others there.
    ///
    /// By default it does both, by multicast DNS. Everybody there can then see that it is there; what it says is its id,
    /// its port and the tag of its mesh.
    pub fn without_mdns(mut self) -> Self {
        self.mdns = false;
        self
    }

    /// The folder in which processes of this host find each other, instead of the user's own. It has to belong to the
    /// user, with nobody else allowed in.
    pub fn local_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.local = Where::Folder(path.into());
        self
    }

    /// Does not look for processes on this host.
    pub fn without_local(mut self) -> Self {
        self.local = Where::Nowhere;
        self
    }

    /// Neither tells peers where others are, nor dials on their word.
    pub fn without_exchange(mut self) -> Self {
        self.exchange = false;
        self
    }

    /// How long the last drop of the node waits for accepted messages to be settled; zero: not at all.
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// Largest body of a message that is sent or taken, in bytes; at most 512 MiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Most links at a time, at most 256; a further peer is refused, with an event at both ends.
    pub fn max_links(mut self, links: usize) -> Self {
        self.max_links = links;
        self
    }

    /// Runs the node on the tokio runtime that this is awaited in, instead of a thread of its own. It saves a hand-over between
    /// threads, but whatever blocks that runtime blocks the node, and the last drop can not wait.
    ///
    /// A thread of its own stays awake for up to 200 µs at a time where requests and replies follow each other fast: that more
    /// than halves a round trip, for a core that is busy meanwhile. A runtime of yours is left to sleep.
    pub fn on_current_runtime(mut self) -> Self {
        self.runtime = Place::CurrentRuntime;
        self
    }

    /// Runs the node in another world than the operating system's, for instance a simulated one.
    pub fn env(mut self, env: Env) -> Self {
        self.runtime = Place::Given(env);
        self
    }

    async fn join(self) -> Result<Node, JoinError> {
        self.check()?;
        let peers: Vec<PeerAddress> = self.peers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let (env, thread) = match self.runtime {
            Place::OwnThread => {
                let thread = OwnThread::start()?;
                (thread.env().by_system_time(), Some(thread))
            }
            Place::CurrentRuntime => {
                let handle = Handle::try_current().map_err(|_| JoinError::NoRuntime)?;
                (Env::real(handle).by_system_time(), None)
            }
            Place::Given(env) => (env, None),
        };
        let key = match self.key {
            Key::OfUser => MeshKey::load_or_create_from(&MeshKey::config_path()?, &*env.random)?.0,
            Key::File(path) => MeshKey::load(&path)?,
            Key::Given(key) => key,
            // Told to nobody, and forgotten with the node.
            Key::OfNobody => MeshKey::generate_from(&*env.random)?,
        };
        let mut sources = if self.looks { env.sources.clone() } else { Vec::new() };
        match self.local {
            Where::Default => {}
            Where::Folder(path) => {
                sources.retain(|source| source.name() != LOCAL);
                sources.push(Arc::new(Local::in_folder(path)));
            }
            Where::Nowhere => sources.retain(|source| source.name() != LOCAL),
        }
        if !self.mdns {
            sources.retain(|source| source.name() != MDNS);
        }
        sources.extend(peers.into_iter().map(|peer| Arc::new(Fixed::new(peer)) as Arc<dyn Source>));

        let mesh = Mesh::derive(&key, &self.mesh).map_err(|error| JoinError::Trust(error.to_string()))?;
        let identity = match self.identity {
            Some(path) => Identity::kept(&path, &*env.random)?,
            None => Identity::ephemeral(&*env.random)?,
        };
        let credentials =
            Credentials::new(&mesh, &identity, &env).map_err(|error| JoinError::Trust(error.to_string()))?;
        let endpoint = open(&env, &credentials, self.listen)?;
        let id = credentials.node;
        let advert = Advert {
            mesh_tag: mesh.tag(),
            node: id,
            incarnation: env.random_u64()?,
            port: endpoint.local_addr().port(),
            bound: endpoint.local_addr(),
        };
        let looking =
            sources.iter().map(|source| Looking { name: source.name(), first_pass: false, report: None }).collect();
        let hall = Hall::new(
            env.clone(),
            id,
            self.name.unwrap_or_else(|| id.short()),
            self.mesh,
            advert.incarnation,
            self.max_message,
            self.max_links,
            self.exchange,
            endpoint,
            looking,
        );
        // Whoever looks for nobody need not be told that nobody was found.
        hall.lock().reported = !self.looks;
        let host = Arc::new(Host { hall: hall.clone(), linger: self.linger, thread, _identity: identity });
        hall.held_by(&host);
        // Dropped meanwhile, it ends.
        let node = Node { host };
        start(&hall, sources, &advert).await;
        Ok(node)
    }

    fn check(&self) -> Result<(), JoinError> {
        let fits = |name: &str, most: usize| name.len() <= most && !name.chars().any(char::is_control);
        if self.mesh.is_empty() || !fits(&self.mesh, MAX_MESH_NAME) {
            return Err(JoinError::MeshName);
        }
        if !self.name.as_ref().is_none_or(|name| fits(name, MAX_NODE_NAME)) {
            return Err(JoinError::Name);
        }
        for (what, value, most) in
            [("max_message", self.max_message, MAX_MESSAGE_CEILING), ("max_links", self.max_links, MAX_LINKS)]
        {
            if !(1..=most).contains(&value) {
                return Err(JoinError::Limit { what, value, most });
            }
        }
        Ok(())
    }
}

/// The port; where none is asked for, on all addresses of this host, which may have no IPv6.
fn open(env: &Env, credentials: &Credentials, listen: Option<SocketAddr>) -> Result<Endpoint, JoinError> {
    let opened = match listen {
        Some(listen) => Endpoint::open(env, credentials, listen),
        None => Endpoint::open(env, credentials, (Ipv6Addr::UNSPECIFIED, 0).into())
            .or_else(|_| Endpoint::open(env, credentials, (Ipv4Addr::UNSPECIFIED, 0).into())),
    };
    opened.map_err(|error: BindError| JoinError::Listen(error.to_string()))
}

/// Every task of a node but those of its connections, dials and lanes. Ready when each source has begun: whoever starts after
/// that finds what it advertises.
async fn start(hall: &Arc<Hall>, sources: Vec<Arc<dyn Source>>, advert: &Advert) {
    let env = &hall.env;
    let (tell, found) = mpsc::channel(HINTS);
    let doubts = hall.lock().doubts.clone();
    let mut beginning = Vec::with_capacity(sources.len());
    for (nth, source) in sources.into_iter().enumerate() {
        let mut running = source.run(advert.clone(), env.clone(), Finder::new(nth, tell.clone(), doubts.clone()));
        let over = hall.over.clone();
        let (begins, begun) = oneshot::channel();
        env.spawn(async move {
            let first = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await;
            let _ = begins.send(());
            if first.is_ready() {
                return;
            }
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                () = running => {}
            }
        });
        beginning.push(begun);
    }
    env.spawn(hall.clone().accept());
    env.spawn(hall.clone().supervise(found));
    for begun in beginning {
        // A runtime that has ended begins nothing.
        let _ = begun.await;
    }
}

impl IntoFuture for Builder {
    type Output = Result<Node, JoinError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.join())
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("mesh", &self.mesh).finish_non_exhaustive()
    }
}

/// The name of the source that finds processes of this host.
const LOCAL: &str = "local";
/// The name of the one that finds nodes on the network.
const MDNS: &str = "mdns";
/// Hints that wait for a busy node; their sources wait then.
const HINTS: usize = 64;
