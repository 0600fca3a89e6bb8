//! Who of this host is there: one connection, at least, to each. It ends with the process, however that ends.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use super::advert;
use super::folder::{self, Folder, OwnSocket, Unusable};
use crate::discovery::{Advert, Finder, Found};
use crate::env::{BoxFuture, Env};
use crate::id::NodeId;

/// Most connections, held and tried; others wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How long an introduction may take.
const INTRODUCTION: Duration = Duration::from_secs(1);
/// Until a socket that did not answer is called again; doubled up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// How long nobody is let in after the operating system had no file descriptor to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One life of a node.
type Life = (NodeId, u64);

/// A socket of the folder that is called, and why.
struct Call {
    socket: PathBuf,
    /// It was there when this node came.
    first_pass: bool,
    /// Its last connection has ended, which alone does not prove that its process has.
    missed: Option<Life>,
    /// How long to wait before the next call.
    retry: Duration,
}

/// What a connection, or the attempt at one, came to.
enum Outcome {
    /// Introduced: the connection is held from now on.
    Met { peer: Advert, stream: UnixStream, call: Option<Call> },
    /// A held connection has ended.
    Parted(Life),
    /// Somebody is there but says nothing: stopped, busy, or about to end.
    Silent(Option<Call>),
    /// Nobody listens on the socket, or nobody of ours.
    Nobody(Option<Call>),
}

#[derive(Default)]
struct Peer {
    connections: usize,
    retry: Duration,
}

pub(super) struct Presence {
    // Dropped in this order: when a connection ends, the socket is gone already, and nobody has to ask twice.
    socket: OwnSocket,
    talks: FuturesUnordered<BoxFuture<Outcome>>,
    peers: HashMap<Life, Peer>,
    first_pass: usize,
    folder: Folder,
    own: Advert,
    introduction: Vec<u8>,
    env: Env,
    found: Finder,
}

impl Presence {
    /// Listens, and then calls everybody who is there: of two that start together, at least one finds the other.
    pub(super) fn enter(folder: Folder, own: Advert, env: Env, found: Finder) -> Result<Self, Unusable> {
        let path = folder.socket_of(own.node, own.incarnation);
        let socket = OwnSocket::bind(path.clone())?;
        let mut present = folder.sockets().map_err(|source| Unusable::Io { path: folder.path().to_owned(), source })?;
        present.retain(|socket| *socket != path);
        present.truncate(MAX_CONNECTIONS);
        let this = Self {
            socket,
            talks: FuturesUnordered::new(),
            peers: HashMap::new(),
            first_pass: present.len(),
            introduction: advert::encode(&own),
            folder,
            own,
            env,
            found,
        };
        for socket in present {
            this.call(Call { socket, first_pass: true, missed: None, retry: FIRST_RETRY }, Duration::ZERO);
        }
        Ok(this)
    }

    /// Tells who comes and who goes, until it is dropped.
    pub(super) async fn watch(mut self) {
        if self.first_pass == 0 {
            self.tell_first_pass().await;
        }
        loop {
            let room = self.talks.len() < MAX_CONNECTIONS;
            tokio::select! {
                biased;
                Some(outcome) = self.talks.next() => self.handle(outcome).await,
                stream = accept(&self.socket.listener, &self.env), if room => self.answer(stream),
            }
        }
    }

    async fn handle(&mut self, outcome: Outcome) {
        let call = match outcome {
            Outcome::Met { peer, stream, call } => {
                self.meet(&peer, stream).await;
                call
            }
            Outcome::Parted(life) => {
                self.part(life);
                None
            }
            Outcome::Silent(call) => {
                if let Some(call) = &call {
                    let retry = (call.retry * 2).min(LAST_RETRY);
                    let again = Call { socket: call.socket.clone(), first_pass: false, missed: call.missed, retry };
                    self.call(again, call.retry);
                }
                call
            }
            Outcome::Nobody(call) => {
                if let Some(life) = call.as_ref().and_then(|call| call.missed) {
                    self.mourn(life).await;
                }
                call
            }
        };
        if call.is_some_and(|call| call.first_pass) {
            self.first_pass -= 1;
            if self.first_pass == 0 {
                self.tell_first_pass().await;
            }
        }
    }

    /// Calls a socket after a while, and introduces this node.
    fn call(&self, call: Call, wait: Duration) {
        let (env, own, introduction) = (self.env.clone(), self.own.clone(), self.introduction.clone());
        self.talks.push(Box::pin(async move {
            if !wait.is_zero() {
                env.sleep(wait).await;
            }
            match UnixStream::connect(&call.socket).await {
                Ok(stream) => introduce(stream, &own, &introduction, &env, Some(call)).await,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    folder::discard(&call.socket);
                    Outcome::Nobody(Some(call))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Outcome::Nobody(Some(call)),
                // As a rule: its queue is full, or there is no file descriptor.
                Err(_) => Outcome::Silent(Some(call)),
            }
        }));
    }

    /// Introduces this node to one that has called.
    fn answer(&self, stream: UnixStream) {
        let (env, own, introduction) = (self.env.clone(), self.own.clone(), self.introduction.clone());
        self.talks.push(Box::pin(async move { introduce(stream, &own, &introduction, &env, None).await }));
    }

    /// Holds the connection; tells of the peer unless it is known, as when both have called each other.
    async fn meet(&mut self, peer: &Advert, stream: UnixStream) {
        let life = (peer.node, peer.incarnation);
        self.talks.push(Box::pin(hold(stream, life)));
        let known = self.peers.contains_key(&life);
        self.peers.entry(life).or_default().connections += 1;
        if !known {
            tracing::debug!(target: "meshmq::discovery", peer = %peer.node.short(), port = peer.port, "met on this host");
            let (node, incarnation) = (Some(peer.node), Some(peer.incarnation));
            self.found
                .tell(Found::Seen {
                    node,
                    incarnation,
                    in_touch: true,
                    addresses: vec![advert::address(&self.own, peer)],
                })
                .await;
        }
    }

    /// Asks after a peer when its last connection has ended: it may only have been too slow with its introduction.
    fn part(&mut self, life: Life) {
        let Some(peer) = self.peers.get_mut(&life) else { return };
        peer.connections -= 1;
        if peer.connections == 0 {
            let wait = peer.retry;
            peer.retry = (wait * 2).clamp(FIRST_RETRY, LAST_RETRY);
            let socket = self.folder.socket_of(life.0, life.1);
            self.call(Call { socket, first_pass: false, missed: Some(life), retry: FIRST_RETRY }, wait);
        }
    }

    /// Nobody listens where this peer did.
    async fn mourn(&mut self, life: Life) {
        if self.peers.get(&life).is_some_and(|peer| peer.connections == 0) {
            self.peers.remove(&life);
            tracing::debug!(target: "meshmq::discovery", peer = %life.0.short(), "gone from this host");
            self.found.tell(Found::Gone { node: life.0, incarnation: life.1 }).await;
        }
    }

    async fn tell_first_pass(&mut self) {
        let (folder, met) = (self.folder.path().display(), self.peers.len());
        let report = format!("other processes of this user and mesh in {folder}: {met}");
        self.found.tell(Found::Report(report)).await;
        self.found.tell(Found::FirstPass).await;
    }
}

async fn introduce(mut stream: UnixStream, own: &Advert, text: &[u8], env: &Env, call: Option<Call>) -> Outcome {
    match env.timeout(INTRODUCTION, advert::exchange(&mut stream, text)).await {
        Some(Ok(peer)) if peer.mesh_tag == own.mesh_tag && peer.node != own.node => Outcome::Met { peer, stream, call },
        Some(Ok(_)) => Outcome::Nobody(call),
        Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::debug!(target: "meshmq::discovery", %error, "a process of this user speaks something else");
            Outcome::Nobody(call)
        }
        Some(Err(_)) | None => Outcome::Silent(call),
    }
}

/// Ends with the connection. What else the other sends is for later versions.
async fn hold(mut stream: UnixStream, life: Life) -> Outcome {
    let mut ignored = [0; 64];
    while stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
    Outcome::Parted(life)
}

/// The next one who calls.
///
/// # Cancel safety
/// Nobody is lost when it is dropped.
async fn accept(listener: &UnixListener, env: &Env) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => env.sleep(ACCEPT_PAUSE).await,
        }
    }
}
