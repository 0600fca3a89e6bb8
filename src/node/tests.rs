//! Whole nodes over real loopback sockets.

mod finding;
mod hostile;
mod leaving;
mod linking;
mod starting;
mod turns;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use self::turns::{turns, until};
use super::*;
use crate::discovery::{Advert, Finder, Found, Source};
use crate::env::{BoxFuture, Env, Random};
use crate::trust::MeshKey;

/// A place where nodes of one test find each other.
#[derive(Clone, Default)]
struct Board(Arc<watch::Sender<BTreeMap<NodeId, Advert>>>);

impl Source for Board {
    fn name(&self) -> &'static str {
        "board"
    }

    fn run(self: Arc<Self>, own: Advert, _: Env, found: Finder) -> BoxFuture<()> {
        Box::pin(async move {
            let mut board = self.0.subscribe();
            self.0.send_modify(|board| {
                board.insert(own.node, own.clone());
            });
            let mut known: BTreeMap<NodeId, Advert> = BTreeMap::new();
            loop {
                let now = board.borrow_and_update().clone();
                for (node, Advert { incarnation, .. }) in &known {
                    if now.get(node).is_none_or(|advert| advert.incarnation != *incarnation) {
                        found.tell(Found::Gone { node: *node, incarnation: *incarnation }).await;
                    }
                }
                for (node, advert) in now.iter().filter(|(node, _)| !known.contains_key(node)) {
                    let (node, incarnation) = (Some(*node), Some(advert.incarnation));
                    let addresses = vec![(Ipv4Addr::LOCALHOST, advert.port).into()];
                    found.tell(Found::Seen { node, incarnation, in_touch: true, addresses }).await;
                }
                found.tell(Found::FirstPass).await;
                known = now;
                if board.changed().await.is_err() {
                    return;
                }
            }
        })
    }
}

fn world(board: Option<&Board>) -> Env {
    let mut env = Env::real(Handle::current());
    env.runtime = turns::told_by(env.runtime);
    env.sources = board.map(|board| Arc::new(board.clone()) as Arc<dyn Source>).into_iter().collect();
    env
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn node(key: &MeshKey) -> Builder {
    Node::builder("test").key(key.clone()).without_mdns().listen(loopback())
}

async fn on_board(key: &MeshKey, board: &Board) -> Node {
    node(key).env(world(Some(board))).await.unwrap()
}

fn key() -> MeshKey {
    MeshKey::generate().unwrap()
}

async fn event(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = events.recv().await.expect("the node lives");
        if wanted(&event) {
            return event;
        }
    }
}

/// Runs an ignored test in a process of its own.
fn alone(test: &str) {
    alone_with(test, &[]);
}

/// The same with these variables.
fn alone_with(test: &str, variables: &[(&str, &OsStr)]) {
    let program = std::env::current_exe().unwrap();
    let mut alone = std::process::Command::new(program);
    alone.args(["--exact", "--ignored", test]).envs(variables.iter().copied());
    let alone = alone.output().unwrap();
    let said = String::from_utf8_lossy(&alone.stdout);
    assert!(alone.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn sockets_meet_in_every_order() {
    let (key, board) = (key(), Board::default());
    let early = on_board(&key, &board).await;
    let push = early.push("jobs").await.unwrap();
    push.send("one").await.unwrap();
    let late = on_board(&key, &board).await;
    late.wait_for_peers(1).await.unwrap();
    let pull = late.pull("jobs").await.unwrap();
    let job = pull.recv().await.unwrap();
    assert_eq!((&job[..], job.sender()), (&b"one"[..], early.id()));
    job.ack();
    push.flush().await.unwrap();

    let back = early.pull("answers").await.unwrap();
    late.push("answers").await.unwrap().send("two").await.unwrap();
    let job = back.recv().await.unwrap();
    assert_eq!(&job[..], b"two");
    job.ack();
    assert!(late.shutdown(Duration::from_secs(5)).await.is_empty());
}

/// What is drawn of it first is always the same, so that a node comes back with its identity.
struct SameIdentity(AtomicBool, Arc<dyn Random>);

impl Random for SameIdentity {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        if self.0.swap(true, Ordering::Relaxed) {
            return self.1.fill(out);
        }
        out.fill(7);
        Ok(())
    }
}

#[tokio::test]
async fn sockets_of_one_node_meet_in_memory() {
    let node = node(&key()).env(world(None)).await.unwrap();
    let pull = node.pull("jobs").prefetch(1).await.unwrap();
    let push = node.push("jobs").await.unwrap();
    push.wait_for_pullers(1).await.unwrap();
    for job in 0..100_u32 {
        push.send(job.to_string()).await.unwrap();
    }
    for job in 0..100_u32 {
        let delivery = pull.recv().await.unwrap();
        assert_eq!(&delivery[..], job.to_string().as_bytes());
        assert_eq!(delivery.sender(), node.id());
        delivery.ack();
    }
    push.flush().await.unwrap();
    assert!(node.shutdown(Duration::from_secs(5)).await.is_empty());
}
