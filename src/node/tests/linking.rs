//! How two nodes come to one link, and who gets none.

use super::*;
use crate::node::pace::Pace;

/// Both ends have one connection, and it is the link.
fn have_one_link(nodes: [&Node; 2]) -> bool {
    nodes.iter().all(|node| {
        let state = node.host.hall.lock();
        state.connections.len() == 1 && state.connections.values().all(|connected| connected.open)
    })
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_end_with_one_link() {
    let key = key();
    let (a, b) = (node(&key).env(world(None)).await.unwrap(), node(&key).env(world(None)).await.unwrap());
    for (node, other) in [(&a, &b), (&b, &a)] {
        let addresses = vec![other.local_addr()];
        node.host.hall.handle_found(0, Found::Seen { node: None, incarnation: None, in_touch: false, addresses });
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

/// Where both are on one host and know it, a peer that does not dial at once is busy.
#[tokio::test]
async fn the_larger_id_gives_a_peer_on_its_host_two_seconds() {
    let node = node(&key()).env(world(None)).await.unwrap();
    let hall = &node.host.hall;
    let (smaller, larger) = (NodeId::from_bytes([0; 32]), NodeId::from_bytes([255; 32]));
    let seen = |peer| {
        let addresses = vec![(Ipv4Addr::LOCALHOST, 9).into()];
        hall.handle_found(0, Found::Seen { node: Some(peer), incarnation: Some(1), in_touch: true, addresses });
    };
    let before = hall.env.now();
    seen(smaller);
    let due = hall.lock().peers[&smaller].pace.due().expect("nobody dials it yet");
    let wait = Duration::from_secs(2);
    assert!(before + wait <= due && due <= hall.env.now() + wait);
    seen(larger);
    // And the smaller one dials at once.
    until(|| {
        let pace = &hall.lock().peers[&larger].pace;
        pace.is_under_way() || pace.has_failed()
    })
    .await;
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
async fn a_life_that_is_only_heard_of_ends_no_link() {
    let key = key();
    let one = node(&key).env(world(None)).await.unwrap();
    let two = node(&key).env(world(None)).peer(&one.local_addr().to_string()).await.unwrap();
    until(|| have_one_link([&one, &two])).await;
    let (node, incarnation) = (Some(two.id()), Some(two.host.hall.incarnation ^ 1));
    let at = vec![two.local_addr()];
    // Anybody may say so by multicast; and a record of an earlier life is withdrawn when it is old.
    for addresses in [at.clone(), Vec::new()] {
        one.host.hall.handle_found(0, Found::Seen { node, incarnation, in_touch: false, addresses });
        assert_eq!(one.peers().len(), 1);
    }
    one.host.hall.handle_found(0, Found::Seen { node, incarnation, in_touch: true, addresses: at });
    assert!(one.peers().is_empty(), "its process is another one now");
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
