//! Who gets which message, and how long it is somebody's: nodes of one process, over real sockets.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::support::{Place, run, until};
use futures_util::FutureExt;
use meshmq::{Delivery, Node, NodeId, Pull, Push};

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
        pull.wait_for_pushers(3).await.unwrap();
        let mut senders = Vec::new();
        let mut held = Vec::new();
        for _ in 0..60 {
            let job = pull.recv().await.unwrap();
            senders.push(job.sender());
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
        let among = |senders: &[NodeId]| senders.iter().copied().collect::<BTreeSet<_>>().len();
        // The first ones may be here before the others' word that they have some.
        assert_eq!(among(&senders[9..18]), 3, "each has its turn: {senders:?}");
        for node in &nodes {
            assert_eq!(senders.iter().filter(|sender| **sender == node.id()).count(), 20);
        }
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

/// What a pusher says of the puller at this node, in the order: in flight, sent, handled, credit.
fn of_puller(push: &Push, node: &Node) -> [u64; 4] {
    let pullers = push.metrics().pullers;
    let puller = pullers.iter().find(|puller| puller.node == node.id()).expect("it is connected");
    [puller.in_flight, puller.sent, puller.handled, puller.credit]
}

/// What a puller says of the pusher at this node, in the order: received, unanswered.
fn of_pusher(pull: &Pull, node: &Node) -> [u64; 2] {
    let pushers = pull.metrics().pushers;
    let pusher = pushers.iter().find(|pusher| pusher.node == node.id()).expect("it is connected");
    [pusher.received, pusher.unanswered]
}

#[test]
fn each_peer_has_figures_of_its_own() {
    run(async {
        let place = Place::new();
        let (mut nodes, mut pushes, mut pulls) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..4 {
            nodes.push(place.builder().await.unwrap());
        }
        let (pushing, pulling) = nodes.split_at(2);
        for (push, pull) in pushing.iter().zip(pulling) {
            pushes.push(push.push("jobs").await.unwrap());
            pulls.push(pull.pull("jobs").await.unwrap());
        }
        let all = || pushes.iter().flat_map(|push| pulling.iter().map(move |node| (push, node)));
        for push in &pushes {
            push.wait_for_pullers(2).await.unwrap();
        }
        until("each has credit", || all().all(|(push, node)| of_puller(push, node)[3] > 0)).await;
        let credit =
            [0, 1].map(|pusher: usize| [0, 1].map(|puller: usize| of_puller(&pushes[pusher], &pulling[puller])[3]));
        assert!(all().all(|(push, node)| of_puller(push, node)[..3] == [0, 0, 0]));

        // As much as there is credit for: all of it is spent.
        for (push, credit) in pushes.iter().zip(credit) {
            send_numbers(push, credit.iter().sum::<u64>() as u32).await;
        }
        let mut jobs = Vec::new();
        for (nth, pull) in pulls.iter().enumerate() {
            let due = credit[0][nth] + credit[1][nth];
            until("they are here", || pull.metrics().received == due).await;
            for (pusher, node) in pushing.iter().enumerate() {
                let sent = credit[pusher][nth];
                assert_eq!(of_puller(&pushes[pusher], &pulling[nth]), [sent, sent, 0, 0]);
                assert_eq!(of_pusher(pull, node), [sent, sent]);
            }
            let mut here = Vec::new();
            // The second one takes one of them, and leaves the others where they are.
            for _ in 0..if nth == 0 { due } else { 1 } {
                here.push(pull.recv().await.unwrap());
            }
            let handed = here.len() as u64;
            let figures = pull.metrics();
            assert_eq!((figures.handed, figures.in_hand, figures.waiting), (handed, handed, due - handed));
            jobs.push(here);
        }

        // The first one answers what it has of the first pusher, and the second one nothing.
        let (answered, kept): (Vec<_>, Vec<_>) =
            jobs.remove(0).into_iter().partition(|job| job.sender() == pushing[0].id());
        answered.into_iter().for_each(Delivery::ack);
        let [handled, unanswered] = [credit[0][0], credit[1][0]];
        until("the answers have come", || of_puller(&pushes[0], &pulling[0])[2] == handled).await;
        assert_eq!(of_puller(&pushes[0], &pulling[0])[..3], [0, handled, handled]);
        assert_eq!(of_puller(&pushes[1], &pulling[0]), [unanswered, unanswered, 0, 0]);
        assert_eq!(
            [0, 1].map(|pusher| of_pusher(&pulls[0], &pushing[pusher])),
            [[handled, 0], [unanswered, unanswered]]
        );
        for (pusher, credit) in credit.iter().enumerate() {
            assert_eq!(of_puller(&pushes[pusher], &pulling[1]), [credit[1], credit[1], 0, 0]);
            assert_eq!(of_pusher(&pulls[1], &pushing[pusher]), [credit[1], credit[1]]);
        }

        // What waits at the second one goes back when it closes, as not handed out.
        let in_hand = jobs.remove(0).remove(0);
        let back = [0, 1].map(|pusher: usize| credit[pusher][1] - u64::from(in_hand.sender() == pushing[pusher].id()));
        pulls[1].close();
        in_hand.ack();
        kept.into_iter().for_each(Delivery::ack);
        for _ in 0..back.iter().sum() {
            let job = pulls[0].recv().await.unwrap();
            assert_eq!((job.attempt(), job.redelivered()), (2, false));
            job.ack();
        }
        for (push, (credit, back)) in pushes.iter().zip(credit.iter().zip(back)) {
            push.flush().await.unwrap();
            let figures = push.metrics();
            assert_eq!((figures.handled, figures.returned, figures.redelivered), (credit.iter().sum(), back, back));
            assert_eq!((figures.nacked, figures.late), (0, 0));
            assert_eq!(of_puller(push, &pulling[0])[..3], [0, credit[0] + back, credit[0] + back]);
        }
        let [first, second] = [0, 1].map(|nth: usize| pulls[nth].metrics());
        let [all_back, of_first] = [back.iter().sum::<u64>(), credit[0][0] + credit[1][0]];
        assert_eq!((first.received, first.acked, first.returned), (of_first + all_back, of_first + all_back, 0));
        assert_eq!((second.acked, second.returned, second.orphaned), (1, all_back, 0));
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
        assert_eq!(pull.metrics().in_hand, 0);
    });
}
