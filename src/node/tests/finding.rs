//! How nodes find each other, and what they say when they do not.

use super::*;

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
            let seen = |addresses| Found::Seen { node: Some(self.node), incarnation: None, in_touch: false, addresses };
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

/// On this runtime, whose only thread has had nothing else to do since: what is not there yet has to wait for another turn.
#[tokio::test]
async fn a_node_that_is_there_can_be_found() {
    let (key, place) = (key(), tempfile::tempdir().unwrap());
    let folder = place.path().join("run");
    let alone = Node::builder("test").key(key.clone()).without_mdns().local_folder(&folder).on_current_runtime();
    let alone = alone.await.unwrap();
    let meshes: Vec<_> = std::fs::read_dir(&folder).expect("it was made").map(|mesh| mesh.unwrap().path()).collect();
    let sockets = meshes.iter().flat_map(|mesh| std::fs::read_dir(mesh).unwrap());
    assert_eq!(sockets.count(), 1, "whoever starts now connects to it");
    drop(alone);
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
async fn who_is_alone_is_told_what_was_tried_and_what_was_meant() {
    let (key, board) = (key(), Board::default());
    let lonely = node(&key).env(world(Some(&Board::default()))).peer("127.0.0.1:9").await.unwrap();
    let (a, b) = (on_board(&key, &board).await, on_board(&key, &board).await);
    let _jobs = a.pull("jobs").await.unwrap();
    let _ticks = a.push("jbso").await.unwrap();
    let _slip = b.push("jbos").await.unwrap();
    let mut events = b.events();
    let told = event(&mut events, |event| matches!(event, Event::ChannelAlone { .. })).await;
    let Event::ChannelAlone { channel, missing, nearest, mismatch: None } = told else { unreachable!() };
    assert_eq!((&channel[..], missing, nearest.as_deref()), ("jbos", "pull", Some("jobs")));
    let told = event(&mut lonely.events(), |event| matches!(event, Event::Alone { .. })).await;
    let Event::Alone { report } = told else { unreachable!() };
    for part in ["`test`", "board:", "fixed:", "127.0.0.1:9", "to do:"] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
}
