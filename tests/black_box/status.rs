//! What the mesh does, seen from any node of it.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Place, Role, run, until};
use meshmq::{MeshKey, NoStatus, Node, NodeSnapshot, Snapshot, SocketStatus};
use rustix::process::Signal;

/// Long enough for every answer.
const ANSWER: Duration = PATIENCE;

fn of<'a>(snapshot: &'a Snapshot, node: &Node) -> &'a NodeSnapshot {
    snapshot.nodes.iter().find(|seen| seen.id == node.id()).expect("the node is in the picture")
}

fn socket<'a>(node: &'a NodeSnapshot, kind: &str) -> &'a SocketStatus {
    let sockets = &node.status.as_ref().expect("it has answered").sockets;
    sockets.iter().find(|socket| socket.kind == kind).expect("it has such a socket")
}

#[test]
fn any_node_sees_the_whole_mesh() {
    run(async {
        let place = Place::new();
        let pusher = place.builder().name("pusher").await.unwrap();
        let worker = place.builder().name("worker").await.unwrap();
        let watcher = place.builder().name("watcher").await.unwrap();
        let push = pusher.push("jobs").bound(10, 1000).max_failures(1).await.unwrap();
        let pull = worker.pull("jobs").prefetch(2).await.unwrap();
        watcher.wait_for_peers(2).await.unwrap();
        push.wait_for_pullers(1).await.unwrap();
        for body in ["handled", "rejected", "exhausted", "in hand", "waits there", "waits here"] {
            push.send(body).await.unwrap();
        }
        pull.recv().await.unwrap().ack();
        pull.recv().await.unwrap().reject("no");
        pull.recv().await.unwrap().nack();
        let in_hand = pull.recv().await.unwrap();
        until("the answers arrive", || {
            let now = push.metrics();
            (now.handled, now.rejected, now.exhausted, now.in_flight, now.queued) == (1, 1, 1, 2, 1)
        })
        .await;

        let seen = watcher.snapshot(ANSWER).await;
        assert_eq!((&seen.mesh[..], seen.taken_by, seen.nodes.len()), ("test", watcher.id(), 3));
        let names: BTreeMap<_, _> = seen.nodes.iter().map(|node| (node.id, &node.name[..])).collect();
        assert_eq!(
            names,
            BTreeMap::from([(pusher.id(), "pusher"), (worker.id(), "worker"), (watcher.id(), "watcher")])
        );
        let (pushing, pulling) = (socket(of(&seen, &pusher), "push"), socket(of(&seen, &worker), "pull"));
        assert_eq!((&pushing.channel[..], pushing.peers, pushing.queued, pushing.in_flight), ("jobs", 1, 1, 2));
        assert_eq!((pushing.total, pushing.handled, pushing.rejected, pushing.exhausted), (6, 1, 1, 1));
        assert_eq!(pushing.bytes as usize, ["in hand", "waits there", "waits here"].concat().len());
        assert_eq!((pushing.bound_messages, pushing.bound_bytes), (Some(10), Some(1000)));
        assert_eq!((&pulling.channel[..], pulling.peers, pulling.queued, pulling.in_flight), ("jobs", 1, 1, 1));
        assert_eq!((pulling.total, pulling.handled, pulling.nacked, pulling.rejected), (5, 1, 1, 1));
        assert_eq!((pulling.bound_messages, pulling.bound_bytes), (Some(2), None));
        assert!(pushing.oldest.is_some() && pulling.oldest.is_some());

        for node in [&pusher, &worker, &watcher] {
            let links = &of(&seen, node).status.as_ref().unwrap().links;
            let mut others: Vec<_> = links.iter().map(|link| (link.node, &link.name[..])).collect();
            others.push((node.id(), node.name()));
            assert_eq!(BTreeMap::from_iter(others), names, "each is linked with all others");
            assert!(links.iter().all(|link| link.address.port() != 0 && link.age < PATIENCE * 4));
        }
        assert!(
            seen.nodes.iter().filter(|node| node.id != watcher.id()).any(|node| node.found == ["local"]),
            "whoever came first was found: {seen:?}"
        );
        in_hand.ack();
    });
}

#[test]
fn requests_are_in_the_picture() {
    run(async {
        let place = Place::new();
        let (asking, answering) = (place.builder().await.unwrap(), place.builder().await.unwrap());
        let requester = asking.requester("work").bound(10, 1000).await.unwrap();
        let replier = answering.replier("work").limit(3).await.unwrap();
        requester.wait_for_repliers(1).await.unwrap();
        let open: Vec<_> = (0..3).map(|_| tokio::spawn(requester.request("x").into_future())).collect();
        replier.recv().await.unwrap().reply("y").unwrap();
        let in_hand = replier.recv().await.unwrap();
        until("the reply is here", || requester.metrics().replied == 1 && replier.metrics().waiting == 1).await;
        let seen = asking.snapshot(ANSWER).await;
        let (asked, answered) = (socket(of(&seen, &asking), "requester"), socket(of(&seen, &answering), "replier"));
        assert_eq!((asked.peers, asked.queued, asked.in_flight, asked.total, asked.handled), (1, 0, 2, 3, 1));
        assert_eq!((asked.bound_messages, asked.bound_bytes), (Some(10), Some(1000)));
        assert_eq!((answered.peers, answered.queued, answered.in_flight, answered.total), (1, 1, 1, 3));
        assert_eq!((answered.handled, answered.bound_messages), (1, Some(3)));
        let kinds: Vec<_> = asking.channels()[0].sockets.iter().map(|sockets| sockets.kind).collect();
        assert!(kinds.contains(&"requester") && kinds.contains(&"replier"), "{kinds:?}");
        drop(in_hand);
        open.into_iter().for_each(|open| open.abort());
    });
}

#[test]
fn rates_are_told_between_two_looks_which_are_a_second_apart() {
    run(async {
        let place = Place::new();
        let (pusher, watcher) = (place.builder().await.unwrap(), place.builder().await.unwrap());
        let push = pusher.push("jobs").await.unwrap();
        watcher.wait_for_peers(1).await.unwrap();
        let first = watcher.snapshot(ANSWER).await;
        for _ in 0..1000 {
            push.send("job").await.unwrap();
        }
        let mut second = watcher.snapshot(ANSWER).await;
        let uptime = |snapshot: &Snapshot| of(snapshot, &pusher).status.as_ref().unwrap().uptime;
        let between = uptime(&second) - uptime(&first);
        assert!(between >= Duration::from_secs(1), "{between:?}");
        second.compare(&first);
        let rates = socket(of(&second, &pusher), "push").rates.expect("it was there before");
        assert!((rates.taken_in * between.as_secs_f64() - 1000.0).abs() < 1e-6, "{rates:?}");
        assert_eq!(rates.handled, 0.0);
    });
}

#[test]
fn stops_when_told() {
    let Some(role) = Role::of("stops_when_told") else { return };
    run(async {
        let node = role.builder().name("stopped").await.unwrap();
        node.wait_for_peers(2).await.unwrap();
        role.say("here");
        std::future::pending::<()>().await;
    });
}

#[test]
fn who_does_not_answer_is_shown_without_a_status() {
    run(async {
        let place = Place::new();
        let (one, two) = (place.builder().await.unwrap(), place.builder().await.unwrap());
        let stopped = place.start("stops_when_told", &[]);
        stopped.hear_this("here");
        one.wait_for_peers(2).await.unwrap();
        stopped.stop();
        // Far below what a silent peer is given up after on an idle link.
        let seen = one.snapshot(Duration::from_millis(500)).await;
        let silent = seen.nodes.iter().find(|node| node.name == "stopped").expect("its link is still there");
        assert_eq!(silent.status, Err(NoStatus::TimedOut));
        assert!(of(&seen, &one).status.is_ok() && of(&seen, &two).status.is_ok());
        stopped.signal(Signal::CONT);
        let status = one.status_of(silent.id, ANSWER).await;
        assert_eq!(status.unwrap().links.len(), 2, "the answer to the first question");

        let nobody = meshmq::NodeId::from_bytes([0; 32]);
        assert_eq!(one.status_of(nobody, ANSWER).await, Err(NoStatus::NotLinked));
        assert!(one.status_of(one.id(), Duration::ZERO).await.is_ok(), "itself");
    });
}

#[test]
fn a_node_behind_another_one_is_shown() {
    run(async {
        let key = MeshKey::generate().unwrap();
        let alone = || Node::builder("test").key(key.clone()).without_local().without_mdns();
        let builder = || alone().listen("127.0.0.1:0".parse().unwrap());
        let middle = builder().name("middle").await.unwrap();
        let address = middle.local_addr().to_string();
        let far = builder().name("far").peer(&address).max_links(1).await.unwrap();
        far.wait_for_peers(1).await.unwrap();
        let near = builder().peer(&address).await.unwrap();
        near.wait_for_peers(1).await.unwrap();
        middle.wait_for_peers(2).await.unwrap();
        let seen = near.snapshot(ANSWER).await;
        assert_eq!(of(&seen, &middle).found, ["fixed"]);
        let behind = of(&seen, &far);
        assert_eq!((&behind.name[..], &behind.status), ("far", &Err(NoStatus::NotLinked)));
        assert_eq!(behind.address, far.local_addr());
    });
}

#[test]
fn channels_are_known_with_who_is_on_them() {
    run(async {
        let place = Place::new();
        let (one, two) = (place.builder().await.unwrap(), place.builder().await.unwrap());
        let _pushes = (one.push("jobs").await.unwrap(), one.push("jobs").await.unwrap());
        let pull = two.pull("jobs").await.unwrap();
        let _other = two.push("answers").await.unwrap();
        let shown = || {
            let channels = one.channels();
            let row = |channel: &meshmq::Channel| {
                let sockets = channel.sockets.iter();
                (channel.name.clone(), sockets.map(|sockets| (sockets.node, sockets.kind, sockets.count)).collect())
            };
            channels.iter().map(row).collect::<Vec<(String, Vec<_>)>>()
        };
        let mut jobs = vec![(one.id(), "push", 2), (two.id(), "pull", 1)];
        jobs.sort_unstable();
        let answers = ("answers".to_owned(), vec![(two.id(), "push", 1)]);
        until("all are known", || shown() == [answers.clone(), ("jobs".to_owned(), jobs.clone())]).await;
        drop(pull);
        until("one is gone", || shown()[1].1 == [(one.id(), "push", 2)]).await;
    });
}

/// How far a told age may be off: its resolution, and a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(1);

#[test]
fn the_age_of_the_oldest_unsettled_message_is_known() {
    run(async {
        let place = Place::new();
        let node = place.builder().await.unwrap();
        let push = node.push("jobs").await.unwrap();
        assert_eq!(push.metrics().oldest, None);
        // Long after the socket was opened, and with others behind it, which come all the time.
        let opened = Instant::now();
        until("some time has passed", || opened.elapsed() > SLACK * 2).await;
        let sent = Instant::now();
        push.send("first").await.unwrap();
        let mut second = None;
        until("it has waited", || {
            if sent.elapsed() > SLACK * 2 && second.is_none() {
                second = Some(Instant::now());
                push.try_send("second").unwrap();
            }
            let (told, real) = (push.metrics().oldest.expect("it waits"), sent.elapsed());
            assert!(told <= real, "{told:?} for {real:?}");
            real > SLACK * 4 && told + SLACK >= real
        })
        .await;

        let pull = node.pull("jobs").prefetch(2).await.unwrap();
        let first = pull.recv().await.unwrap();
        let real = sent.elapsed();
        let told = push.metrics().oldest.expect("it is in flight");
        assert!(told + SLACK >= real, "{told:?} for {real:?}");
        let arrived = Instant::now();
        until("it is held", || arrived.elapsed() > SLACK / 2).await;
        let held = pull.metrics().oldest.expect("it is in hand");
        assert!(held >= SLACK / 2 && held < real, "{held:?}");
        first.ack();
        let second = second.unwrap();
        until("the first is settled", || push.metrics().handled == 1).await;
        let real = second.elapsed();
        let told = push.metrics().oldest.expect("one is left");
        assert!(told + SLACK >= real, "{told:?} for {real:?}");
        let told = push.metrics().oldest.expect("one is left");
        assert!(told <= second.elapsed() + SLACK, "{told:?}");
        pull.recv().await.unwrap().ack();
        until("all is settled", || push.metrics().oldest.is_none() && pull.metrics().oldest.is_none()).await;
    });
}
