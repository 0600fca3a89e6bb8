//! Who gets which message, and how long it is somebody's: nodes of one process, over real sockets.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use meshmq::{Node, Pull, Push};
use support::{Place, run, until};

/// A node that pushes and one that pulls, in one mesh.
async fn two_nodes(place: &Place) -> (Node, Node) {
    (place.builder().await.unwrap(), place.builder().await.unwrap())
}

async fn send_numbers(push: &Push, count: u32) {
    for number in 0..count {
        push.send(number.to_string()).await.unwrap();
    }
}

#[test]
fn prefetch_holds_over_all_pushers() {
    run(async {
        let place = Place::new();
        let node = place.builder().await.unwrap();
        let pull = node.pull("jobs").prefetch(2).await.unwrap();
        let mut nodes = Vec::new();
        let mut pushers = Vec::new();
        for _ in 0..3 {
            let node = place.builder().await.unwrap();
            let push = node.push("jobs").await.unwrap();
            push.wait_for_pullers(1).await.unwrap();
            send_numbers(&push, 20).await;
            nodes.push(node);
            pushers.push(push);
        }
        let mut senders = std::collections::BTreeMap::new();
        let mut held = Vec::new();
        for _ in 0..60 {
            let job = pull.recv().await.unwrap();
            *senders.entry(job.sender()).or_insert(0) += 1;
            held.push(job);
            let here = pull.metrics();
            assert!(here.waiting + here.in_hand <= 2, "{here:?}");
            if held.len() == 2 {
                assert!(pull.try_recv().unwrap().is_none(), "two are in hand");
                held.remove(0).ack();
            }
        }
        held.remove(0).ack();
        for push in &pushers {
            push.flush().await.unwrap();
        }
        assert!(senders.values().all(|count| *count == 20), "{senders:?}");
    });
}

#[test]
fn a_late_puller_gets_what_waits_at_the_pusher() {
    run(async {
        let place = Place::new();
        let (pushing, pulling) = two_nodes(&place).await;
        let push = pushing.push("jobs").await.unwrap();
        let busy = pulling.pull("jobs").prefetch(1).await.unwrap();
        send_numbers(&push, 50).await;
        let long_job = busy.recv().await.unwrap();
        assert_eq!(&**long_job, b"0");

        let late = place.builder().await.unwrap();
        let idle = late.pull("jobs").prefetch(1).await.unwrap();
        for number in 1..50 {
            let job = idle.recv().await.unwrap();
            assert_eq!(&**job, number.to_string().as_bytes(), "no job waits behind the long one");
            job.ack();
        }
        until("only the long one is left", || push.metrics().in_flight == 1).await;
        long_job.ack();
        push.flush().await.unwrap();
    });
}

/// One node with both ends: what is promised there is promised everywhere.
async fn both_ends() -> (Place, Node, Push, Pull) {
    let place = Place::new();
    let node = place.builder().without_local().linger(Duration::ZERO).await.unwrap();
    let (push, pull) = (node.push("jobs").await.unwrap(), node.pull("jobs").await.unwrap());
    push.wait_for_pullers(1).await.unwrap();
    (place, node, push, pull)
}

#[test]
fn flush_waits_for_what_was_accepted_before_it() {
    run(async {
        let (_place, _node, push, pull) = both_ends().await;
        push.flush().await.unwrap();
        push.send("before").await.unwrap();
        let mut flush = push.flush();
        push.send("after").await.unwrap();
        let before = pull.recv().await.unwrap();
        let _after = pull.recv().await.unwrap();
        assert!((&mut flush).now_or_never().is_none());
        before.ack();
        flush.await.unwrap();
    });
}

#[test]
fn handled_waits_for_the_answer() {
    run(async {
        let (_place, _node, push, pull) = both_ends().await;
        let mut sent = Box::pin(push.send("job").handled());
        assert!(sent.as_mut().now_or_never().is_none());
        let job = pull.recv().await.unwrap();
        assert!(sent.as_mut().now_or_never().is_none(), "received is not handled");
        job.nack();
        let job = pull.recv().await.unwrap();
        assert!(sent.as_mut().now_or_never().is_none(), "nor is failed");
        job.ack();
        sent.await.unwrap();
    });
}

#[test]
fn a_redelivered_message_keeps_its_id() {
    run(async {
        let place = Place::new();
        let (pushing, pulling) = two_nodes(&place).await;
        let push = pushing.push("jobs").await.unwrap();
        let pull = pulling.pull("jobs").await.unwrap();
        send_numbers(&push, 2).await;
        let (first, second) = (pull.recv().await.unwrap(), pull.recv().await.unwrap());
        let id = first.id();
        assert_ne!(id, second.id());
        assert_eq!((id.node, first.attempt(), first.redelivered()), (pushing.id(), 1, false));
        first.nack();
        let again = pull.recv().await.unwrap();
        assert_eq!((again.id(), again.attempt(), again.redelivered()), (id, 2, true));
        again.ack();
        second.ack();
        push.flush().await.unwrap();
    });
}

#[test]
fn a_failed_message_backs_off() {
    run(async {
        let (_place, _node, push, pull) = both_ends().await;
        push.send("job").await.unwrap();
        for (failures, wait) in [(0, 0), (1, 0), (2, 10), (3, 100)] {
            let began = Instant::now();
            let job = pull.recv().await.unwrap();
            assert_eq!(job.failures(), failures);
            assert!(began.elapsed() >= Duration::from_millis(wait), "{:?} after {failures} failures", began.elapsed());
            job.nack();
        }
        until("it backs off again", || push.metrics().queued == 1).await;
        assert_eq!((push.metrics().nacked, push.metrics().redelivered), (4, 3));
    });
}

#[test]
fn ack_on_receive_answers_at_once() {
    run(async {
        let place = Place::new();
        let node = place.builder().without_local().await.unwrap();
        let push = node.push("jobs").await.unwrap();
        let pull = node.pull("jobs").ack_on_receive().await.unwrap();
        push.send("job").await.unwrap();
        let job = pull.recv().await.unwrap();
        push.flush().await.unwrap();
        drop(job);
        assert_eq!(push.metrics().handled, 1, "dropping it afterwards changes nothing");
        until("nothing is in hand", || pull.metrics().in_hand == 0).await;
    });
}
