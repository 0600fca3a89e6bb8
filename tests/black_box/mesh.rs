//! Two processes and the one link between them: restarts, dials that cross each other, and silence.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use crate::support::{Place, Process, Role, address, folder, run, until};
use meshmq::{Node, Push};
use rustix::process::Signal;

/// A role that stays. At each line, the number of a life, it gives two pieces of work to whoever is there, one for that
/// life to keep and one to do, and says who that is, how many links it has had, and how many files it has open.
/// Argument: the file of its identity.
#[test]
fn steady() {
    let Some(role) = Role::of("steady") else { return };
    run(async {
        let builder = role.builder().identity_file(&role.args[0]);
        let node = builder.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let push = node.push("jobs").await.unwrap();
        role.say(node.local_addr());
        let mut given = 0;
        // The node has a thread of its own, and this one may wait.
        for line in std::io::stdin().lines() {
            push.send(line.unwrap()).await.unwrap();
            push.send("do").handled().await.unwrap();
            given += 2;
            until("one link, and one piece kept", || has_one(&node, &push) && push.metrics().handled == given - 1)
                .await;
            let (opened, files) = (node.metrics().links_opened, folder("/proc/self/fd".as_ref()).len());
            role.say(format!("{} {opened} {files}", node.peers()[0].id));
        }
    });
}

/// Nothing but one link, and one lane to one puller.
fn has_one(node: &Node, push: &Push) -> bool {
    let (mesh, jobs) = (node.metrics(), push.metrics());
    (mesh.links, node.peers().len(), jobs.pullers.len(), jobs.in_flight, jobs.queued) == (1, 1, 1, 1, 0)
}

/// A role with a kept identity: keeps what is its own, and does all else. Arguments: the number of this life, the
/// identity's file, and an address, or `folder` where the others are found.
#[test]
fn life() {
    let Some(role) = Role::of("life") else { return };
    run(async {
        let builder = role.builder().identity_file(&role.args[1]);
        let node = match role.args[2].as_str() {
            "folder" => builder.await,
            address => builder.without_local().peer(address).await,
        };
        let pull = node.unwrap().pull("jobs").await.unwrap();
        let mut kept = Vec::new();
        while let Ok(job) = pull.recv().await {
            if job[..] == *role.args[0].as_bytes() { kept.push(job) } else { job.ack() }
        }
    });
}

#[test]
fn a_peer_killed_fifty_times_has_one_link_each_time() {
    let identities = tempfile::tempdir().unwrap();
    // Of the two, the one with the smaller id decides which connection is their link: each of them once.
    for names in [["a", "b"], ["b", "a"]] {
        let place = Place::new();
        let [steady, killed] = names.map(|name| identities.path().join(name));
        kill_again_and_again(&place, &steady, &killed);
        let tag = folder(&place.path()).pop().unwrap();
        let sockets = folder(&place.path().join(tag));
        assert!(sockets.len() <= 2, "only the last lives may have left theirs: {sockets:?}");
    }
}

fn kill_again_and_again(place: &Place, steady: &Path, killed: &Path) {
    let mut steady = place.start("steady", &[&steady.display()]);
    let address = steady.hear();
    let mut ids = BTreeSet::new();
    let mut most_files = [0; 2];
    let mut longest = Duration::ZERO;
    for number in 0..25 {
        // By turns its end is known at once, and the new life finds the dead link of the old one.
        let known = number % 2;
        let began = Instant::now();
        let at = if known == 0 { "folder" } else { address.as_str() };
        let mut life = place.start("life", &[&number, &killed.display(), &at]);
        steady.tell(&number.to_string());
        let said = steady.hear();
        longest = longest.max(began.elapsed());
        let [id, opened, files] = said.split(' ').collect::<Vec<_>>().try_into().unwrap();
        ids.insert(id.to_owned());
        assert_eq!(opened.parse(), Ok(number + 1), "one link each time");
        let files: usize = files.parse().unwrap();
        if number < 2 {
            most_files[known] = files;
        }
        assert!(files <= most_files[known], "{files} files are open in life {number}, {most_files:?} at first");
        life.kill();
    }
    println!("a peer that was killed was back, and at work, after {longest:?} at the most");
    // Less than it takes to give up a silent peer: the dead link was replaced, or ended when the new life was met.
    assert!(longest < Duration::from_millis(2400), "{longest:?}");
    assert_eq!(ids.len(), 1, "it is one peer: {ids:?}");
}

/// A role: at each line, `own address, other's address`, it is a new node, exchanges a message with the other one, and
/// says how many links it has had. Arguments: its name, and the other's.
#[test]
fn dialler() {
    let Some(role) = Role::of("dialler") else { return };
    run(async {
        let mut before = None;
        for line in std::io::stdin().lines().map(Result::unwrap) {
            // It takes its time to leave, and this one need not wait.
            let gone = before.take();
            std::thread::spawn(move || drop(gone));
            let (own, other) = line.split_once(' ').unwrap();
            let builder = role.builder().without_local().listen(own.parse().unwrap()).peer(other);
            let node = builder.await.unwrap();
            let (push, pull) = (node.push(&role.args[1]).await.unwrap(), node.pull(&role.args[0]).await.unwrap());
            push.send("hello").await.unwrap();
            pull.recv().await.unwrap().ack();
            push.flush().await.unwrap();
            // Its own dial has come to an end as well, or takes longer than that.
            node.settled().await;
            until("one link", || node.metrics().links == 1 && node.peers().len() == 1).await;
            role.say(node.metrics().links_opened);
            before = Some((node, push, pull));
        }
    });
}

fn diallers(place: &Place) -> [Process; 2] {
    [place.start("dialler", &[&"one", &"two"]), place.start("dialler", &[&"two", &"one"])]
}

/// Both are told where they are and where the other one is, and say how it went.
fn meet(pair: &mut [Process; 2], lines: [String; 2]) -> [String; 2] {
    pair.iter_mut().zip(&lines).for_each(|(process, line)| process.tell(line));
    [0, 1].map(|nth: usize| pair[nth].hear())
}

#[test]
fn two_processes_that_dial_each_other_have_one_link() {
    let place = Place::new();
    for lives in 0..10 {
        let mut pair = diallers(&place);
        for round in 0..3 {
            let [a, b] = [2, 3].map(|host| address(host, 3 * lives + round));
            let said = meet(&mut pair, [format!("{a} {b}"), format!("{b} {a}")]);
            assert_eq!(said, ["1", "1"], "links in round {round}");
        }
    }
}

#[test]
fn two_processes_whose_dials_cross_have_one_link_each_time() {
    let place = Place::new();
    for lives in 0..3 {
        let mut pair = diallers(&place);
        for round in 0..57 {
            let [a, b, to_b, to_a] = [4, 5, 6, 7].map(|host| address(host, 57 * lives + round));
            let _crossing = Crossing::new([to_b, to_a]);
            let said = meet(&mut pair, [format!("{a} {to_b}"), format!("{b} {to_a}")]);
            assert_eq!(said, ["1", "1"], "links in round {round}");
        }
    }
}

/// Two addresses, each of which leads one node to the other: the first packets of both are held until both are there,
/// so that no dial is answered before the other one has begun.
struct Crossing([Arc<UdpSocket>; 2]);

impl Crossing {
    fn new(addresses: [SocketAddr; 2]) -> Self {
        let sockets = addresses.map(|address| Arc::new(UdpSocket::bind(address).unwrap()));
        let (both, ends) = (Arc::new(Barrier::new(2)), Arc::new([OnceLock::new(), OnceLock::new()]));
        for (nth, socket) in sockets.iter().enumerate() {
            let (socket, both, ends) = (socket.clone(), both.clone(), ends.clone());
            std::thread::spawn(move || relay(&socket, nth, &both, &ends));
        }
        Self(sockets)
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        // An empty packet ends its thread.
        self.0.iter().for_each(|socket| drop(socket.send_to(&[], socket.local_addr().unwrap())));
    }
}

fn relay(socket: &UdpSocket, nth: usize, both: &Barrier, ends: &[OnceLock<SocketAddr>; 2]) {
    let mut packet = [0; 1 << 16];
    let (mut len, mut from) = socket.recv_from(&mut packet).unwrap();
    ends[nth].set(from).unwrap();
    both.wait();
    let [near, far] = [nth, 1 - nth].map(|nth| *ends[nth].get().unwrap());
    while len > 0 {
        let to = if from == near { far } else { near };
        // Whoever has gone does not get it.
        let _ = socket.send_to(&packet[..len], to);
        (len, from) = socket.recv_from(&mut packet).unwrap_or((1, near));
    }
}

/// A role: takes what comes and says `number of the attempt`, and answers when it is told. Argument: how many it takes.
#[test]
fn keeper() {
    let Some(role) = Role::of("keeper") else { return };
    run(async {
        let node = role.builder().await.unwrap();
        let pull = node.pull("jobs").prefetch(role.arg(0)).await.unwrap();
        role.say("ready");
        while let Ok(job) = pull.recv().await {
            role.say(job.attempt());
            std::io::stdin().read_line(&mut String::new()).unwrap();
            job.ack();
        }
    });
}

/// A node whose message is with the first of two keepers.
async fn keepers(place: &Place) -> (Node, Push, [Process; 2]) {
    let node = place.builder().await.unwrap();
    let push = node.push("jobs").await.unwrap();
    let first = place.start("keeper", &[&1]);
    first.hear_this("ready");
    push.send("job").await.unwrap();
    assert_eq!(first.hear(), "1");
    let second = place.start("keeper", &[&1]);
    second.hear_this("ready");
    push.wait_for_pullers(2).await.unwrap();
    (node, push, [first, second])
}

#[test]
fn a_silent_peer_that_owes_something_is_given_up_within_three_seconds() {
    run(async {
        let place = Place::new();
        let (_node, push, [silent, mut second]) = keepers(&place).await;
        silent.signal(Signal::STOP);
        let stopped = Instant::now();
        assert_eq!(second.hear(), "2");
        let took = stopped.elapsed();
        println!("the message of a silent peer was with another one after {took:?}");
        assert!(took > Duration::from_secs(2), "{took:?}: it was not silence that was noticed");
        // Three are promised; other tests keep the machine busy meanwhile.
        assert!(took < Duration::from_millis(3500), "{took:?}");
        second.tell("ack");
        push.flush().await.unwrap();
    });
}

#[test]
fn the_late_answer_of_a_peer_that_was_given_up_counts_and_the_next_one_does_not() {
    run(async {
        let place = Place::new();
        let (node, push, [mut silent, mut second]) = keepers(&place).await;
        silent.stop();
        assert_eq!(second.hear(), "2", "the first one is given up");
        silent.signal(Signal::CONT);
        until("it is back", || node.metrics().links_opened == 3 && push.pullers() == 2).await;
        silent.tell("ack");
        until("the late answer has come", || push.metrics().handled == 1).await;
        let metrics = push.metrics();
        assert_eq!((metrics.late, metrics.redelivered, metrics.in_flight, metrics.queued), (1, 1, 0, 0));
        second.tell("ack");
        assert_eq!(one_more_for_each(&push, [silent, second]).await, 1);
    });
}

#[test]
fn an_answer_that_may_have_gone_with_its_link_is_not_counted_twice() {
    run(async {
        let place = Place::new();
        let (_node, push, [mut silent, mut second]) = keepers(&place).await;
        silent.stop();
        assert_eq!(second.hear(), "2", "the first one is given up");
        // It is answered as the process wakes, which may not know yet that its link is gone.
        silent.tell("ack");
        silent.signal(Signal::CONT);
        second.tell("ack");
        push.flush().await.unwrap();
        assert!(one_more_for_each(&push, [silent, second]).await <= 1);
    });
}

/// Two messages, one for each keeper: their answers come behind all that they have said before. How many came late.
async fn one_more_for_each(push: &Push, mut keepers: [Process; 2]) -> u64 {
    push.wait_for_pullers(2).await.unwrap();
    for _ in 0..2 {
        push.send("job").await.unwrap();
    }
    keepers.iter().for_each(|keeper| assert_eq!(keeper.hear(), "1"));
    keepers.iter_mut().for_each(|keeper| keeper.tell("ack"));
    push.flush().await.unwrap();
    let metrics = push.metrics();
    assert_eq!((metrics.handled, metrics.redelivered, metrics.nacked, metrics.queued), (3, 1, 0, 0));
    metrics.late
}

#[test]
fn a_peer_that_is_silent_for_a_second_is_not_given_up() {
    run(async {
        let place = Place::new();
        let (node, push, [mut silent, second]) = keepers(&place).await;
        for _ in 0..2 {
            silent.signal(Signal::STOP);
            assert_eq!(second.hear_within(Duration::from_secs(1)), None);
            silent.signal(Signal::CONT);
            assert_eq!(second.hear_within(Duration::from_secs(3)), None, "it is with the first one");
        }
        silent.tell("ack");
        push.flush().await.unwrap();
        let metrics = push.metrics();
        assert_eq!((metrics.handled, metrics.redelivered), (1, 0));
        assert_eq!(node.metrics().links_opened, 2, "the first links are the only ones");
    });
}
