//! Processes of one user on one host, with no network: a folder in which each node has a Unix-domain socket.
//!
//! A node that starts binds its own socket first, then connects to every other one that is there. Both ends introduce
//! themselves and hold the connection: its end tells at once that the process is gone, however it ended. Whoever starts
//! later connects, so nobody has to watch the folder. A socket that refuses belongs to nobody any more, and is removed.

mod folder;
mod greeting;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use super::{Advert, Finder, Found, Source};
use crate::env::{BoxFuture, Env};
use crate::id::NodeId;
use greeting::Greeting;

/// Most processes that are held on to at a time.
const MAX_PEERS: usize = 1024;
/// How long an introduction may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// The end of a socket's name.
const ENDING: &str = ".sock";

/// The source of processes of this user on this host.
#[derive(Debug)]
pub struct Local {
    folder: Option<PathBuf>,
}

impl Local {
    /// In the folder of this user: `$XDG_RUNTIME_DIR/meshmq`, else `/tmp/meshmq-<uid>`.
    pub fn of_user() -> Self {
        Self { folder: None }
    }

    /// In another folder, which has to belong to this user, with mode 0700.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// The folder of the mesh, made if it is not there.
    fn folder(&self, tag: [u8; 8]) -> Result<PathBuf, String> {
        let above = match &self.folder {
            Some(folder) => folder.clone(),
            None => folder::of_user(),
        };
        folder::prepare(&above)?;
        let folder = above.join(data_encoding::HEXLOWER.encode(&tag));
        folder::prepare(&folder)?;
        Ok(folder)
    }
}

impl Source for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn run(self: Arc<Self>, own: Advert, env: Env, found: Finder) -> BoxFuture<()> {
        Box::pin(async move {
            let listening = self.folder(own.mesh_tag).and_then(|folder| Listening::bind(folder, &own));
            match listening {
                Ok(listening) => listening.run(own, env, found).await,
                Err(why) => {
                    tracing::warn!(target: "meshmq::discovery", "processes on this host are not found: {why}");
                    found.tell(Found::Report(why)).await;
                    found.tell(Found::FirstPass).await;
                }
            }
        })
    }
}

/// Our own socket. Its file goes with it.
struct Listening {
    folder: PathBuf,
    path: PathBuf,
    listener: UnixListener,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Somebody may have cleaned the folder already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What a connection has come to.
enum Met {
    /// The other end has introduced itself.
    Peer(UnixStream, Greeting),
    /// Nobody is there, or nobody of ours.
    Nobody,
    /// The process at the other end is gone.
    Ended(NodeId, u64),
}

impl Listening {
    fn bind(folder: PathBuf, own: &Advert) -> Result<Self, String> {
        let path = folder.join(format!("{}-{:016x}{ENDING}", own.node.short(), own.incarnation));
        let listener = UnixListener::bind(&path).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => format!(
                "the path {} is too long for a Unix-domain socket; set XDG_RUNTIME_DIR to a shorter folder",
                path.display()
            ),
            _ => format!("cannot make the socket {}: {error}", path.display()),
        })?;
        Ok(Self { folder, path, listener })
    }

    /// The sockets of others that are there now.
    fn others(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let sockets = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        sockets.filter(|path| *path != self.path && path.to_string_lossy().ends_with(ENDING)).take(MAX_PEERS).collect()
    }

    async fn run(self, own: Advert, env: Env, found: Finder) {
        let mine = Greeting::of(&own, addresses(&own));
        let mut peers = BTreeMap::<(NodeId, u64), usize>::new();
        let mut meeting = FuturesUnordered::<BoxFuture<Met>>::new();
        let others = self.others();
        let mut first_pass = others.len();
        for path in others {
            let (mine, env) = (mine.clone(), env.clone());
            meeting.push(Box::pin(async move { connect(&path, &mine, &env).await }));
        }
        // Those who connect to us meanwhile do not count for the first pass.
        let mut accepted = FuturesUnordered::<BoxFuture<Met>>::new();
        let mut held = FuturesUnordered::<BoxFuture<Met>>::new();
        self.report(&found, 0).await;
        if first_pass == 0 {
            found.tell(Found::FirstPass).await;
        }
        loop {
            let room = held.len() + accepted.len() < MAX_PEERS;
            let (met, of_first_pass) = tokio::select! {
                biased;
                Some(met) = held.next() => (met, false),
                Some(met) = meeting.next() => (met, true),
                Some(met) = accepted.next() => (met, false),
                connected = self.listener.accept(), if room => {
                    match connected {
                        Ok((stream, _)) => {
                            let (mine, env) = (mine.clone(), env.clone());
                            accepted.push(Box::pin(async move { introduce(stream, &mine, &env).await }));
                        }
                        // As a rule no descriptor is left: there will be one again.
                        Err(_) => env.sleep(PATIENCE).await,
                    }
                    continue;
                }
            };
            match met {
                Met::Nobody => {}
                Met::Peer(stream, peer) if peer.node != own.node && peer.mesh_tag == own.mesh_tag => {
                    let key = (peer.node, peer.incarnation);
                    let connections = peers.entry(key).or_default();
                    *connections += 1;
                    if *connections == 1 {
                        let (node, incarnation) = (Some(peer.node), Some(peer.incarnation));
                        found.tell(Found::Seen { node, incarnation, addresses: peer.addresses }).await;
                    }
                    held.push(Box::pin(hold(stream, key)));
                }
                Met::Peer(..) => {}
                Met::Ended(node, incarnation) => {
                    let key = (node, incarnation);
                    if let Some(connections) = peers.get_mut(&key) {
                        *connections -= 1;
                        if *connections == 0 {
                            peers.remove(&key);
                            found.tell(Found::Gone { node, incarnation }).await;
                        }
                    }
                }
            }
            if of_first_pass {
                first_pass -= 1;
                if first_pass == 0 {
                    found.tell(Found::FirstPass).await;
                }
            }
            self.report(&found, peers.len()).await;
        }
    }

    async fn report(&self, found: &Finder, peers: usize) {
        let folder = self.folder.display();
        found.tell(Found::Report(format!("{peers} other processes of this user are in {folder}"))).await;
    }
}

async fn connect(path: &Path, mine: &Greeting, env: &Env) -> Met {
    match env.timeout(PATIENCE, UnixStream::connect(path)).await {
        Some(Ok(stream)) => introduce(stream, mine, env).await,
        Some(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            // The process that bound it is gone: nobody else can have taken its name.
            let _ = std::fs::remove_file(path);
            Met::Nobody
        }
        _ => Met::Nobody,
    }
}

/// Both ends tell who they are.
async fn introduce(mut stream: UnixStream, mine: &Greeting, env: &Env) -> Met {
    match env.timeout(PATIENCE, greeting::exchange(&mut stream, mine)).await {
        Some(Ok(peer)) => Met::Peer(stream, peer),
        _ => Met::Nobody,
    }
}

/// Nothing more is said: whatever happens is the end.
async fn hold(mut stream: UnixStream, (node, incarnation): (NodeId, u64)) -> Met {
    let mut byte = [0];
    let _ = stream.read(&mut byte).await;
    Met::Ended(node, incarnation)
}

/// Where processes of this host reach us.
fn addresses(own: &Advert) -> Vec<SocketAddr> {
    match own.bound.ip() {
        ip if !ip.is_unspecified() => vec![own.bound],
        ip if ip.is_ipv4() => vec![(Ipv4Addr::LOCALHOST, own.port).into()],
        _ => vec![(Ipv4Addr::LOCALHOST, own.port).into(), (Ipv6Addr::LOCALHOST, own.port).into()],
    }
}
