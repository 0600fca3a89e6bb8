//! The sockets without async: threads that wait, and no runtime in the test either, unless it says so.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use meshmq::blocking::{Node, Pull, Push};
use meshmq::{Event, HandleError, MeshKey, RemoteError, RequestError, SendErrorKind};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{PATIENCE, Place, Role};

/// Longer than anything here takes, and no wait that is meant to end by its time.
const LONG: Duration = Duration::MAX;
/// A wait that is meant to end by its time.
const SHORT: Duration = Duration::from_millis(20);

/// A node with room for `bound` messages at its pusher.
fn ends(bound: usize) -> (Node, Push, Pull) {
    let node = Node::isolated().join().unwrap();
    let push = node.push("jobs").bound(bound, 1 << 20).open().unwrap();
    let pull = node.pull("jobs").open().unwrap();
    push.wait_for_pullers(1).unwrap();
    (node, push, pull)
}

#[test]
fn work_passes_between_two_nodes() {
    let (key, place) = (MeshKey::generate().unwrap(), Place::new());
    let join = || Node::builder("test").key(key.clone()).without_mdns().local_folder(place.path()).join().unwrap();
    let (pushing, pulling) = (join(), join());
    pushing.wait_for_peers(1).unwrap();
    pulling.settled();
    let (push, pull) = (pushing.push("jobs").open().unwrap(), pulling.pull("jobs").prefetch(2).open().unwrap());
    push.wait_for_pullers(1).unwrap();
    pull.wait_for_pushers(1).unwrap();
    assert_eq!((push.pullers(), pulling.peers()[0].id), (1, pushing.id()));
    assert!(pulling.snapshot(PATIENCE).nodes.iter().all(|node| node.status.is_ok()));

    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(push.send_batch(["0", "1"]).unwrap(), 2);
            push.send_handled("2").unwrap();
            push.reserve(1).unwrap().send("3").unwrap();
            push.try_send("4").unwrap();
            push.flush().unwrap();
            assert_eq!(push.metrics().handled, 5);
            pulling.shutdown(LONG);
        });
        let mut seen = BTreeSet::new();
        // The shutdown of its node ends it.
        for job in &pull {
            assert_eq!(job.sender(), pushing.id());
            seen.insert(String::from_utf8(job.to_vec()).unwrap());
            job.ack();
        }
        assert!(seen.iter().eq(["0", "1", "2", "3", "4"]), "{seen:?}");
    });
}

#[test]
fn a_full_socket_waits_for_room() {
    let (_node, push, pull) = ends(1);
    push.send("first").unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| push.send("second"));
        assert_eq!(&*pull.recv().unwrap().ack_into_message(), b"first");
        waits.join().unwrap().unwrap();
    });
    assert_eq!(&**pull.recv_batch(10).unwrap().into_iter().next().unwrap(), b"second");
}

#[test]
fn what_became_of_a_message_is_told() {
    let (_node, push, pull) = ends(10);
    thread::scope(|scope| {
        let sent = scope.spawn(|| push.send_handled("nonsense"));
        pull.recv().unwrap().reject("no job");
        assert_eq!(sent.join().unwrap(), Err(HandleError::Rejected { reason: "no job".into() }));
    });
}

#[test]
fn waits_end_by_their_time() {
    let (node, push, pull) = ends(1);
    let mut events = node.events();
    while events.try_recv().is_some() {}
    let waits = |what: &str, wait: &mut dyn FnMut() -> bool| {
        let began = Instant::now();
        assert!(wait(), "{what}");
        let took = began.elapsed();
        assert!((SHORT..PATIENCE).contains(&took), "{what}: {took:?}");
    };
    waits("recv", &mut || pull.recv_timeout(SHORT).unwrap().is_none());
    push.send("first").unwrap();
    waits("send", &mut || push.send_timeout("second", SHORT).unwrap_err().kind == SendErrorKind::Full);
    waits("flush", &mut || !push.flush_timeout(SHORT).unwrap());
    waits("wait_for_pullers", &mut || !push.wait_for_pullers_timeout(2, SHORT).unwrap());
    waits("wait_for_pushers", &mut || !pull.wait_for_pushers_timeout(2, SHORT).unwrap());
    waits("wait_for_peers", &mut || !node.wait_for_peers_timeout(1, SHORT).unwrap());
    waits("events", &mut || events.recv_timeout(SHORT).unwrap().is_none());

    // What is there needs no time, and more time than a clock has is no fault.
    for time in [Duration::ZERO, LONG] {
        pull.recv_timeout(time).unwrap().unwrap().reject("no job");
        assert!(push.flush_timeout(LONG).unwrap());
        assert!(matches!(events.recv_timeout(LONG).unwrap(), Some(Event::Rejected { .. })));
        push.send_timeout("next", time).unwrap();
        assert!(push.wait_for_pullers_timeout(1, time).unwrap());
        assert!(pull.wait_for_pushers_timeout(1, time).unwrap());
        assert!(node.wait_for_peers_timeout(0, time).unwrap());
        while pull.metrics().waiting == 0 {
            thread::yield_now();
        }
    }
}

#[test]
fn a_shutdown_ends_every_wait() {
    let (node, push, pull) = ends(1);
    push.send("first").unwrap();
    let in_hand = pull.recv().unwrap();
    let all_wait = Barrier::new(10);
    thread::scope(|scope| {
        let start = |wait: fn(&Node, &Push, &Pull) -> bool| {
            let (node, push, pull, all_wait) = (&node, &push, &pull, &all_wait);
            scope.spawn(move || {
                all_wait.wait();
                wait(node, push, pull)
            })
        };
        let waits = [
            start(|_, push, _| push.send("late").unwrap_err().kind == SendErrorKind::Closed),
            start(|_, push, _| push.send_timeout("late", LONG).unwrap_err().kind == SendErrorKind::Closed),
            start(|_, push, _| push.send_handled("late").is_err()),
            start(|_, push, _| push.flush().is_err()),
            start(|_, push, _| push.wait_for_pullers(2).is_err()),
            start(|_, _, pull| pull.recv().is_err()),
            start(|_, _, pull| pull.serve(2, |_| Ok::<_, String>(())).is_ok()),
            start(|node, _, _| node.wait_for_peers(1).is_err()),
            start(|node, _, _| node.events().all(|event| !matches!(event, Event::Missed { .. }))),
        ];
        all_wait.wait();
        assert_eq!(node.shutdown(SHORT).len(), 1, "what is in hand is not settled");
        for (nth, wait) in waits.into_iter().enumerate() {
            assert!(wait.join().unwrap(), "wait {nth}");
        }
    });
    drop(in_hand);
}

#[test]
fn serve_answers_by_the_handlers_result_on_several_threads() {
    let (node, push, _) = ends(10);
    let pull = node.pull("jobs").prefetch(3).open().unwrap();
    push.send_batch(["error", "panic", "fine"]).unwrap();
    // Passed only when three handlers run at the same time.
    let three = Barrier::new(3);
    let threads = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            push.flush().unwrap();
            pull.close();
        });
        pull.serve(3, |job| {
            threads.lock().unwrap().insert(format!("{:?}", thread::current().id()));
            if job.attempt() > 1 {
                return Ok(());
            }
            three.wait();
            match &*job {
                b"error" => Err("no"),
                b"panic" => panic!("as the test wants it"),
                _ => Ok(()),
            }
        })
        .unwrap();
    });
    let (sent, threads) = (push.metrics(), threads.into_inner().unwrap());
    assert_eq!((sent.handled, sent.nacked, sent.redelivered), (3, 2, 2));
    assert_eq!(threads.len(), 3);
    assert!(threads.contains(&format!("{:?}", thread::current().id())), "this thread is one of them");
}

/// A role: its process has no room for a thousand threads.
#[test]
fn cramped() {
    let Some(role) = Role::of("cramped") else { return };
    let (_node, push, pull) = ends(10);
    push.send("job").unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB")).unwrap();
    let limit = Some((size.parse::<u64>().unwrap() + 100_000) << 10);
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();
    let failed = pull.serve(1000, |_| -> Result<(), String> { unreachable!("no message is taken") });
    assert!(failed.is_err());
    role.say(pull.metrics().handed);
}

#[test]
fn serve_says_when_there_are_not_enough_threads() {
    let mut process = Place::new().start("cramped", &[]);
    process.hear_this("0");
    assert!(process.wait().success());
}

#[test]
fn it_may_be_called_within_a_task_of_a_runtime() {
    let (done, is_done) = channel();
    // On a thread of its own, as nothing could end a task that has come to a stand.
    thread::spawn(move || {
        support::run(async {
            let (_node, push, pull) = ends(10);
            thread::spawn(move || pull.serve(1, |_| Ok::<_, String>(())));
            // One task, which never gives way: more often than tokio lets a task be ready in one turn.
            for _ in 0..1000 {
                push.send_handled("job").unwrap();
                push.flush().unwrap();
            }
            push.into_async().send("and async again").handled().await.unwrap();
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(PATIENCE).expect("it does not come to a stand");
}

#[test]
fn async_and_blocking_handles_are_of_the_same_sockets() {
    support::run(async {
        let node = meshmq::Node::isolated().await.unwrap();
        let (push, pull) = (node.push("jobs").await.unwrap(), node.pull("jobs").await.unwrap());
        let worker = thread::spawn(move || {
            let pull = Pull::from(pull);
            pull.recv().unwrap().ack();
            assert_eq!(pull.as_async().metrics().handed, 1);
            pull.into_async()
        });
        push.send("one").handled().await.unwrap();
        let pull = worker.join().unwrap();
        let push = Push::from(push);
        push.send("two").unwrap();
        pull.recv().await.unwrap().ack();
        push.as_async().flush().await.unwrap();
        assert_eq!(Node::from(node.clone()).into_async().metrics().sockets.len(), 2);
    });
}

#[test]
fn a_programs_end_delivers_what_was_sent() {
    let place = Place::new();
    let puller = place.start("taker", &[]);
    puller.hear_this("ready");
    let mut sender = place.start("sender", &[]);
    puller.hear_this("job");
    assert!(sender.wait().success());
}

/// A role: takes one message.
#[test]
fn taker() {
    let Some(role) = Role::of("taker") else { return };
    let node = Node::from(support::run(async { role.builder().await.unwrap() }));
    let pull = node.pull("jobs").open().unwrap();
    role.say("ready");
    let job = pull.recv().unwrap();
    role.say(String::from_utf8_lossy(&job));
    job.ack();
}

/// A role: sends one message and ends at once.
#[test]
fn sender() {
    let Some(role) = Role::of("sender") else { return };
    let node = Node::from(support::run(async { role.builder().await.unwrap() }));
    node.push("jobs").open().unwrap().send("job").unwrap();
}

#[test]
fn an_isolated_node_touches_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "alone", "--test-threads=1"])
        .env("MESHMQ_TEST_ROLE", "alone")
        .env("XDG_CONFIG_HOME", folder.path())
        .env("XDG_RUNTIME_DIR", folder.path())
        .env("HOME", folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(support::folder(folder.path()), [""; 0]);
}

/// A role: an isolated node at work.
#[test]
fn alone() {
    let Some(_role) = Role::of("alone") else { return };
    let (node, push, pull) = ends(10);
    node.settled();
    push.send("job").unwrap();
    pull.recv().unwrap().ack();
    push.flush().unwrap();
}

#[test]
fn isolated_nodes_never_meet() {
    let one = Node::isolated().join().unwrap();
    assert!(one.local_addr().ip().is_loopback());
    // Told where the other one is, it still gets no link.
    let other = Node::isolated().peer(&one.local_addr().to_string()).join().unwrap();
    assert!(one.events().any(|event| matches!(event, Event::Refused { .. })));
    assert!(other.events().any(|event| matches!(event, Event::NoLink { .. })));
    assert!(one.peers().is_empty() && other.peers().is_empty());
}

/// The options and methods of the async types, without those that make no sense here.
#[test]
fn requests_are_asked_and_answered_by_threads() {
    let (key, place) = (MeshKey::generate().unwrap(), Place::new());
    let join = || Node::builder("test").key(key.clone()).without_mdns().local_folder(place.path()).join().unwrap();
    let (asking, answering) = (join(), join());
    let requester = asking.requester("work").open().unwrap();
    let replier = answering.replier("work").limit(10).open().unwrap();
    requester.wait_for_repliers(1).unwrap();
    assert!(replier.wait_for_requesters_timeout(1, PATIENCE).unwrap());
    assert!(!requester.wait_for_repliers_timeout(2, Duration::from_millis(10)).unwrap());
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            replier.serve(2, |request| match &request[..] {
                b"no" => Err(RemoteError::new("no", "never")),
                _ => Ok(request.to_ascii_uppercase()),
            })
        });
        let asking: Vec<_> = (0..4)
            .map(|number| {
                let requester = requester.clone();
                scope.spawn(move || {
                    for nth in 0..50 {
                        let reply = requester.request(format!("n{number}.{nth}")).timeout(PATIENCE).send().unwrap();
                        assert_eq!(reply.body(), format!("N{number}.{nth}"));
                    }
                })
            })
            .collect();
        asking.into_iter().for_each(|asking| asking.join().unwrap());
        let Err(RequestError::Remote { code, .. }) = requester.request("no").to(answering.id()).send() else {
            panic!("it fails")
        };
        assert_eq!(code, "no");
        let mut all = requester.request_all("all").header("a", "b").timeout(PATIENCE).send().unwrap();
        assert_eq!(all.next().unwrap().body(), "ALL");
        assert!(all.recv().is_none() && all.missing().is_empty());
        replier.close();
        serving.join().unwrap().unwrap();
    });
    assert!(replier.recv().is_err() && replier.iter().next().is_none());
    let none = requester.request("x").idempotent().send().unwrap_err();
    assert_eq!(none, RequestError::NoReplier, "it has closed, though it is still there");
}

#[test]
fn nothing_is_missing() {
    let of = |source: &str| -> BTreeSet<String> {
        let names = source.lines().filter_map(|line| {
            let line = line.trim().strip_prefix("pub ")?;
            let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
            Some(rest.split(['(', '<']).next()?.to_owned())
        });
        names.collect()
    };
    for (file, own, not_here) in [
        ("src/node/mod.rs", include_str!("../src/blocking/node.rs"), &[][..]),
        ("src/node/builder.rs", include_str!("../src/blocking/node.rs"), &["on_current_runtime", "env"]),
        ("src/socket/push.rs", include_str!("../src/blocking/push.rs"), &["handled", "into_sink"]),
        ("src/socket/pull.rs", include_str!("../src/blocking/pull.rs"), &["ack_all", "len", "is_empty"]),
        ("src/socket/request.rs", include_str!("../src/blocking/request.rs"), &[]),
        ("src/socket/request/asking.rs", include_str!("../src/blocking/request.rs"), &["into_message"]),
        ("src/socket/reply.rs", include_str!("../src/blocking/reply.rs"), &[]),
        ("src/typed/push.rs", include_str!("../src/blocking/typed/push.rs"), &["handled", "into_sink"]),
        ("src/typed/pull.rs", include_str!("../src/blocking/typed/pull.rs"), &[]),
        ("src/typed/publish.rs", include_str!("../src/blocking/typed/publish.rs"), &["into_sink"]),
        ("src/typed/subscribe.rs", include_str!("../src/blocking/typed/subscribe.rs"), &[]),
        ("src/typed/request.rs", include_str!("../src/blocking/typed/request.rs"), &["into_value", "may_have_run"]),
        ("src/typed/reply.rs", include_str!("../src/blocking/typed/reply.rs"), &["reply", "fail"]),
    ] {
        let source = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let (there, here) = (of(&source), of(own));
        assert!(there.len() > 4, "{file}: {there:?}");
        let missing: Vec<_> = there.difference(&here).filter(|name| !not_here.contains(&name.as_str())).collect();
        assert!(missing.is_empty(), "{file} has what `blocking` has not: {missing:?}");
    }
}
