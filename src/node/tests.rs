//! Whole nodes over real loopback sockets.

mod hostile;
mod leaving;
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
use super::pace::Pace;
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
                    found.tell(Found::Seen { node, incarnation, addresses }).await;
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

/// Both ends have one connection, and it is the link.
fn have_one_link(nodes: [&Node; 2]) -> bool {
    nodes.iter().all(|node| {
        let state = node.host.hall.lock();
        state.connections.len() == 1 && state.connections.values().all(|connected| connected.open)
    })
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

/// Says that somebody is where nobody is, tells of the doubts that come of it, and then the truth.
struct Liar {
    node: NodeId,
    truth: SocketAddr,
    doubted: watch::Sender<Option<NodeId>>,
}

impl Source for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn run(self: Arc<Self>, _: Advert, _: Env, found: Finder) -> BoxFuture<()> {
        Box::pin(async move {
            let mut doubts = found.doubts();
            let mut addresses = vec![(Ipv4Addr::LOCALHOST, 9).into()];
            let seen = |addresses| Found::Seen { node: Some(self.node), incarnation: None, addresses };
            found.tell(seen(addresses.clone())).await;
            self.doubted.send_replace(Some(doubts.next().await));
            addresses.push(self.truth);
            found.tell(seen(addresses)).await;
        })
    }
}

#[tokio::test]
async fn a_source_hears_of_it_when_nobody_is_where_it_says() {
    let key = key();
    let peer = node(&key).env(world(None)).await.unwrap();
    let liar = Arc::new(Liar { node: peer.id(), truth: peer.local_addr(), doubted: watch::Sender::new(None) });
    let mut doubted = liar.doubted.subscribe();
    let mut env = world(None);
    env.sources.push(liar);
    let node = node(&key).env(env).await.unwrap();
    let doubted = tokio::time::timeout(Duration::from_secs(20), doubted.wait_for(Option::is_some)).await;
    assert_eq!(*doubted.expect("nobody is doubted").unwrap(), Some(peer.id()));
    // The next dial in vain is under way by now; one to the new address does not wait for its end.
    let linked = tokio::time::timeout(Duration::from_secs(2), node.wait_for_peers(1)).await;
    linked.expect("it is dialled at once where it was not tried yet").unwrap();
}

#[tokio::test]
async fn a_peer_tells_how_it_was_found() {
    let (key, board) = (key(), Board::default());
    let seen = on_board(&key, &board).await;
    let seeing = on_board(&key, &board).await;
    let address = seen.local_addr().to_string();
    let told = node(&key).env(world(None)).peer(&address).await.unwrap();
    for (node, peers) in [(&seen, 2), (&seeing, 1), (&told, 1)] {
        node.wait_for_peers(peers).await.unwrap();
    }
    let found_by = |node: &Node, peer: &Node| node.peers().iter().find(|found| found.id == peer.id()).unwrap().found_by;
    assert_eq!(found_by(&seeing, &seen), "board");
    assert_eq!(found_by(&told, &seen), "fixed");
    assert_eq!(found_by(&seen, &told), "peer", "it has found this node");
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

#[tokio::test]
async fn processes_of_one_host_meet_in_a_folder_and_notice_an_end_at_once() {
    let (key, place) = (key(), tempfile::tempdir().unwrap());
    // Made by the first of them, for this user alone.
    let folder = place.path().join("run");
    // Each on a thread of its own, all at once.
    let joining =
        (0..8).map(|_| Node::builder("test").key(key.clone()).without_mdns().local_folder(&folder).into_future());
    let nodes: Vec<Node> = futures_util::future::join_all(joining).await.into_iter().map(Result::unwrap).collect();
    for node in &nodes {
        node.wait_for_peers(7).await.unwrap();
    }
    // As when the process is killed: nothing of it says goodbye.
    let mut events = nodes[0].events();
    nodes[7].host.hall.over.cancel();
    let dead = nodes[7].id();
    event(
        &mut events,
        |event| matches!(event, Event::PeerLeft { node, why, .. } if *node == dead && why.contains("process")),
    )
    .await;
    for node in &nodes[..7] {
        node.host.hall.links.subscribe().wait_for(|links| *links == 6).await.unwrap();
    }
}

#[tokio::test]
async fn a_fixed_peer_may_start_later_and_restart() {
    let key = key();
    let listener = node(&key).env(world(None)).await.unwrap();
    let at = listener.local_addr();
    listener.shutdown(Duration::ZERO).await;
    drop(listener);
    let early = node(&key).env(world(None)).peer(&at.to_string()).await.unwrap();
    for round in 0..3 {
        let mut turns = turns();
        let late = loop {
            // The port is free once the tasks of the one before have let go of it.
            match node(&key).env(world(None)).listen(at).await {
                Ok(node) => break node,
                Err(JoinError::Listen(_)) => turns.next().await,
                Err(error) => panic!("{error}"),
            }
        };
        late.wait_for_peers(1).await.unwrap();
        early.wait_for_peers(1).await.unwrap();
        assert_eq!(late.peers()[0].id, early.id(), "round {round}");
        late.shutdown(Duration::ZERO).await;
        until(|| early.peers().is_empty()).await;
    }
}

#[tokio::test]
async fn one_known_peer_is_enough_and_may_leave() {
    let key = key();
    let seed = node(&key).env(world(None)).await.unwrap();
    let at = seed.local_addr().to_string();
    let knows_seed = || node(&key).env(world(None)).peer(&at);
    let (a, b) = (knows_seed().await.unwrap(), knows_seed().await.unwrap());
    let deaf = [knows_seed().without_exchange().await.unwrap(), knows_seed().without_exchange().await.unwrap()];
    seed.wait_for_peers(4).await.unwrap();
    // These two dial the deaf ones as well, which are told of each other at the same time.
    for node in [&a, &b] {
        node.wait_for_peers(4).await.unwrap();
    }
    seed.shutdown(Duration::ZERO).await;
    for (node, other) in [(&a, &b), (&b, &a)] {
        until(|| node.peers().iter().all(|peer| peer.id != seed.id())).await;
        assert!(node.peers().iter().any(|peer| peer.id == other.id()));
    }
    assert!(deaf[0].peers().iter().all(|peer| peer.id != deaf[1].id()), "they do not listen to what they are told");
    // Who comes later is met by way of any of them.
    let late = node(&key).env(world(None)).peer(&b.local_addr().to_string()).await.unwrap();
    until(|| late.peers().iter().any(|peer| peer.id == a.id())).await;
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_end_with_one_link() {
    let key = key();
    let (a, b) = (node(&key).env(world(None)).await.unwrap(), node(&key).env(world(None)).await.unwrap());
    for (node, other) in [(&a, &b), (&b, &a)] {
        let addresses = vec![other.local_addr()];
        node.host.hall.handle_found(0, Found::Seen { node: None, incarnation: None, addresses });
    }
    for round in 0..200 {
        until(|| have_one_link([&a, &b])).await;
        assert_eq!((a.peers().len(), b.peers().len()), (1, 1), "round {round}");
        // One end, or both at once, lose it.
        for node in [&a, &b].into_iter().take(1 + round % 2) {
            let hall = &node.host.hall;
            let mut state = hall.lock();
            let id = *state.connections.keys().next().unwrap();
            // As after a link that has lasted: it is sought again at once.
            state.addresses.values_mut().for_each(|address| address.pace = Pace::new(hall.env.now()));
            state.peers.values_mut().for_each(|peer| peer.pace = Pace::new(hall.env.now()));
            hall.end_connection(&mut state, hall.env.now(), id, crate::link::CloseCode::Silent, "for the test");
            drop(state);
            hall.changed.notify_one();
        }
        until(|| !have_one_link([&a, &b])).await;
    }
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
async fn a_peer_that_restarts_with_its_identity_replaces_its_dead_link() {
    let key = key();
    let steady = node(&key).env(world(None)).await.unwrap();
    let mut lives = Vec::new();
    for life in 0..20 {
        let mut env = world(None);
        env.random = Arc::new(SameIdentity(AtomicBool::new(false), env.random));
        let node = node(&key).env(env).peer(&steady.local_addr().to_string()).await.unwrap();
        node.wait_for_peers(1).await.unwrap();
        until(|| steady.metrics().links_opened > life && have_one_link([&steady, &node])).await;
        assert_eq!(steady.peers()[0].id, node.id());
        // Dead without a word: its sockets stay, and nothing of it runs any more.
        node.host.hall.over.cancel();
        let connections: Vec<_> = node.host.hall.lock().connections.keys().copied().collect();
        assert_eq!(connections.len(), 1);
        std::mem::take(&mut node.host.hall.lock().addresses);
        lives.push(node);
        let last = lives.last().unwrap();
        if life % 2 == 0 {
            continue;
        }
        // Now and then it is known to be dead before it comes back.
        let (id, incarnation) = (last.id(), last.host.hall.incarnation);
        steady.host.hall.handle_found(0, Found::Gone { node: id, incarnation });
        assert!(steady.peers().is_empty(), "closed at once");
    }
}

#[tokio::test]
async fn nodes_of_two_meshes_refuse_each_other_and_say_so() {
    let ours = node(&key()).env(world(None)).await.unwrap();
    let mut seen = ours.events();
    let stranger = node(&key()).env(world(None)).peer(&ours.local_addr().to_string()).await.unwrap();
    let mut told = stranger.events();
    let no_link = event(&mut told, |event| matches!(event, Event::NoLink { .. })).await;
    let Event::NoLink { address, why, refused } = no_link else { unreachable!() };
    assert_eq!((address, refused), (ours.local_addr(), true));
    assert!(why.contains("another mesh"), "{why}");
    let refused = event(&mut seen, |event| matches!(event, Event::Refused { .. })).await;
    let Event::Refused { address, .. } = refused else { unreachable!() };
    assert_eq!(address, stranger.local_addr());
    assert!(ours.peers().is_empty() && stranger.peers().is_empty());
}

#[tokio::test]
async fn a_peer_beyond_the_limit_is_refused_at_both_ends() {
    let (key, board) = (key(), Board::default());
    let full = node(&key).env(world(Some(&board))).max_links(1).await.unwrap();
    let mut full_events = full.events();
    let first = on_board(&key, &board).await;
    first.wait_for_peers(1).await.unwrap();
    let alone = Board::default();
    let second = node(&key).env(world(Some(&alone))).peer(&full.local_addr().to_string()).await.unwrap();
    let mut second_events = second.events();
    let refused = |event: &Event| matches!(event, Event::LinkRefused { .. });
    let Event::LinkRefused { node, .. } = event(&mut full_events, refused).await else { unreachable!() };
    assert_eq!(node, second.id());
    let Event::LinkRefused { node, .. } = event(&mut second_events, refused).await else { unreachable!() };
    assert_eq!(node, full.id());
    assert_eq!(full.peers().len(), 1);
}

#[tokio::test]
async fn a_node_settles_when_who_was_there_is_open() {
    let (key, board) = (key(), Board::default());
    let mut nodes = Vec::new();
    for count in 0..6 {
        let node = on_board(&key, &board).await;
        node.settled().await;
        assert_eq!(node.peers().len(), count);
        nodes.push(node);
    }
}

#[tokio::test]
async fn a_shut_down_node_says_goodbye_and_hands_back_what_nobody_took() {
    let (key, board) = (key(), Board::default());
    let (a, b) = (on_board(&key, &board).await, on_board(&key, &board).await);
    b.wait_for_peers(1).await.unwrap();
    a.wait_for_peers(1).await.unwrap();
    let mut events = b.events();
    let push = a.push("jobs").await.unwrap();
    push.send("one").await.unwrap();
    push.send("two").await.unwrap();
    let again = a.clone();
    let (undelivered, second) =
        tokio::join!(a.shutdown(Duration::from_millis(50)), again.shutdown(Duration::from_secs(9)));
    let bodies: Vec<_> = undelivered.into_iter().map(|message| (message.channel, message.body)).collect();
    assert_eq!(bodies, [("jobs".into(), "one".into()), ("jobs".into(), "two".into())]);
    assert!(second.is_empty());
    let metrics = push.metrics();
    assert_eq!((metrics.accepted, metrics.queued, metrics.in_flight, metrics.handed_back), (2, 0, 0, 2));
    assert_eq!((metrics.bytes, metrics.oldest), (0, None));
    assert!(push.send("three").await.is_err());
    assert!(a.pull("jobs").await.is_err());
    assert!(a.wait_for_peers(9).await.is_err());
    let Event::PeerLeft { node, why, .. } = event(&mut events, |event| matches!(event, Event::PeerLeft { .. })).await
    else {
        unreachable!()
    };
    assert_eq!(node, a.id());
    assert!(why.contains("shut down"), "{why}");
    assert!(b.peers().is_empty());
}

#[tokio::test]
async fn what_is_in_hand_can_be_answered_while_its_node_drains() {
    let (key, board) = (key(), Board::default());
    let (a, b) = (on_board(&key, &board).await, on_board(&key, &board).await);
    let push = a.push("jobs").await.unwrap();
    let pull = b.pull("jobs").await.unwrap();
    push.send("one").await.unwrap();
    let job = pull.recv().await.unwrap();
    let shutdown = b.shutdown(Duration::from_secs(30));
    let answered = async {
        assert!(pull.recv().await.is_err(), "nothing more is handed out");
        job.ack();
    };
    assert!(tokio::join!(shutdown, answered).0.is_empty());
    push.flush().await.unwrap();
    assert_eq!(push.metrics().handled, 1);
    assert!(a.shutdown(Duration::from_secs(30)).await.is_empty());
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

#[tokio::test]
async fn the_last_drop_waits_for_what_somebody_can_take() {
    let key = key();
    let worker = node(&key).env(world(None)).await.unwrap();
    let at = worker.local_addr().to_string();
    let pull = worker.pull("jobs").await.unwrap();
    // An application without a runtime, whose node has a thread of its own.
    let application = std::thread::spawn(move || {
        let run = tokio::runtime::Builder::new_current_thread().build().unwrap();
        run.block_on(async {
            let node = Node::builder("test")
                .key(key)
                .without_mdns()
                .without_local()
                .listen(loopback())
                .peer(&at)
                .await
                .unwrap();
            let push = node.push("jobs").await.unwrap();
            for job in 0..1_000 {
                push.send(format!("{job}")).await.unwrap();
            }
            drop(push);
            drop(node);
        });
    });
    for job in 0..1_000 {
        let delivery = pull.recv().await.unwrap();
        assert_eq!(&delivery[..], format!("{job}").as_bytes());
        delivery.ack();
    }
    // This runtime is the worker's: it has to go on.
    tokio::task::spawn_blocking(|| application.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn who_is_alone_is_told_what_was_tried_and_what_was_meant() {
    let (key, board) = (key(), Board::default());
    let lonely = node(&key).env(world(Some(&Board::default()))).peer("127.0.0.1:9").await.unwrap();
    let (a, b) = (on_board(&key, &board).await, on_board(&key, &board).await);
    let _jobs = a.pull("jobs").await.unwrap();
    let _ticks = a.push("jbso").await.unwrap();
    let _slip = b.push("jbos").await.unwrap();
    let mut events = b.events();
    let told = event(&mut events, |event| matches!(event, Event::ChannelAlone { .. })).await;
    let Event::ChannelAlone { channel, missing, nearest } = told else { unreachable!() };
    assert_eq!((&channel[..], missing, nearest.as_deref()), ("jbos", "pull", Some("jobs")));
    let told = event(&mut lonely.events(), |event| matches!(event, Event::Alone { .. })).await;
    let Event::Alone { report } = told else { unreachable!() };
    for part in ["`test`", "board:", "fixed:", "127.0.0.1:9", "to do:"] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
}

#[tokio::test]
async fn a_node_that_can_not_start_says_why() {
    let taken = node(&key()).env(world(None)).await.unwrap();
    let error = node(&key()).env(world(None)).listen(taken.local_addr()).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    for builder in [
        node(&key()).peer("nonsense"),
        node(&key()).max_message(0),
        node(&key()).max_message(1 << 30),
        node(&key()).max_links(257),
        node(&key()).name("n".repeat(256)),
        node(&key()).name("line\nfeed"),
    ] {
        assert!(builder.env(world(None)).await.is_err());
    }
}
