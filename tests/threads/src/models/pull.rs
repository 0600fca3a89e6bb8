//! A pull socket: threads receive, answer and close, and the node's thread brings messages and takes answers.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::explore;
use crate::socket::Push;
use crate::stage::{block_on, lose, poll_once};

/// Sends so many messages, as a task of the node's thread.
async fn send(push: Push, count: usize) {
    for nth in 0..count {
        push.send(vec![nth as u8]).await.expect("it is open");
    }
}

/// Two threads receive: each message wakes one that takes it, no message goes to both, and each answer arrives.
pub fn receivers_wait_for_messages() -> usize {
    explore(2, |node| {
        let (push, pull, _) = node.jobs(|push| push, |pull| pull);
        node.task(send(push.clone(), 2));
        let sum = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let (pull, sum) = (pull.clone(), sum.clone());
            node.thread(move || {
                let job = block_on(pull.recv()).expect("it is open");
                sum.fetch_add(1 << (8 * job[0]), SeqCst);
                job.ack();
            });
        }
        node.run();
        assert_eq!(sum.load(SeqCst), 0x0101, "each message once");
        assert_eq!((push.metrics().handled, pull.metrics().in_hand), (2, 0));
    })
}

/// A receiver that waits and is dropped has taken nothing, and another one has what comes.
pub fn a_dropped_receiver_wakes_the_next_one() -> usize {
    explore(2, |node| {
        let (push, pull, _) = node.jobs(|push| push, |pull| pull);
        node.task(send(push.clone(), 1));
        let giving_up = pull.clone();
        node.thread(move || {
            // What it has after all goes back, as it is dropped without an answer.
            let _ = poll_once(pin!(giving_up.recv()));
        });
        let receiving = pull.clone();
        node.thread(move || block_on(receiving.recv()).expect("it is open").ack());
        node.run();
        assert_eq!((push.metrics().handled, pull.metrics().in_hand), (1, 0));
    })
}

/// Answers of all kinds, from two threads, while the writer looks: each arrives, with all that it says.
pub fn every_answer_arrives() -> usize {
    explore(2, |node| {
        let (push, pull, _) = node.jobs(|push| push, |pull| pull);
        let why = Arc::new(std::sync::Mutex::new(Vec::new()));
        for _ in 0..2 {
            let (push, why) = (push.clone(), why.clone());
            node.task(async move {
                let outcome = push.send("job").handled().await;
                why.lock().expect("no panic").push(format!("{outcome:?}"));
            });
        }
        node.run();
        let job = || pull.try_recv().expect("it is open").expect("two are here");
        let (one, two) = (job(), job());
        node.thread(move || one.reject("no"));
        node.thread(move || two.ack());
        node.run();
        let mut why = std::mem::take(&mut *why.lock().expect("no panic"));
        why.sort();
        assert_eq!(why, [r#"Err(Rejected { reason: "no" })"#, "Ok(())"]);
        assert_eq!(pull.metrics().in_hand, 0);
    })
}

/// One slot: at no time are two messages in hand, and the slot is given again and again. A thread may be interrupted while
/// it has one in hand, or a second one would never come in that time.
pub fn one_slot_is_one_message() -> usize {
    explore(1, |node| {
        let (push, pull, _) = node.jobs(|push| push, |pull| pull.prefetch(1));
        node.task(send(push.clone(), 2));
        let in_hand = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        for _ in 0..2 {
            let (pull, in_hand) = (pull.clone(), in_hand.clone());
            node.thread(move || {
                let job = block_on(pull.recv()).expect("it is open");
                assert_eq!(in_hand.fetch_add(1, SeqCst), 0);
                in_hand.fetch_sub(1, SeqCst);
                job.ack();
            });
        }
        node.run();
        assert_eq!(push.metrics().handled, 2);
    })
}

/// With `max_failures` a message is announced before it is handed out: never more of them than have come.
pub fn what_is_announced_has_come() -> usize {
    explore(3, |node| {
        let (push, pull, _) = node.jobs(|push| push.max_failures(3), |pull| pull);
        node.task(send(push.clone(), 1));
        let receiving = pull.clone();
        node.thread(move || block_on(receiving.recv()).expect("it is open").ack());
        node.run();
        assert_eq!(push.metrics().handled, 1);
    })
}

/// A closed socket hands nothing out, whoever waits is told so, and what was not handed out goes back.
pub fn a_closed_socket_hands_nothing_out() -> usize {
    explore(2, |node| {
        let (push, pull, _) = node.jobs(|push| push, |pull| pull);
        node.task(send(push.clone(), 2));
        let closing = pull.clone();
        node.thread(move || {
            closing.close();
            assert!(closing.try_recv().is_err(), "it was handed out after the close");
        });
        let receiving = pull.clone();
        node.thread(move || {
            while let Ok(job) = block_on(receiving.recv()) {
                job.ack();
            }
        });
        node.run();
        let (sent, here) = (push.metrics(), pull.metrics());
        assert_eq!(sent.in_flight, 0, "all of it was answered or went back");
        assert_eq!((here.received, here.waiting, here.in_hand), (here.handed + here.returned, 0, 0));
        assert_eq!(sent.queued + sent.handled, 2);
    })
}

/// The lane is lost while its delivery is answered: the answer counts once, over the next lane, or the message goes out
/// again; and nothing stays in hand.
pub fn an_answer_to_a_lane_that_is_lost_counts_once() -> usize {
    explore(3, |node| {
        let (push, pull, lane) = node.jobs(|push| push, |pull| pull);
        node.task(send(push.clone(), 1));
        node.run();
        let job = pull.try_recv().expect("it is open").expect("it has come");
        node.thread(move || job.reject("no"));
        node.task(lose(lane.clone()));
        node.run();
        let here = pull.metrics();
        assert_eq!((here.handed, here.in_hand), (1, 0));
        assert!(here.rejected + here.orphaned == 1, "{here:?}");
        node.join_again(&lane);
        let sent = push.metrics();
        match sent.rejected {
            1 => assert_eq!(sent.queued + sent.in_flight, 0),
            _ => assert_eq!(sent.in_flight, 1, "its answer was written, and went with the lane"),
        }
    })
}

/// One thread sends, another receives.
pub fn from_thread_to_thread() -> usize {
    explore(2, |node| {
        let (push, pull, _) = node.jobs(|push| push.bound(1, 1000), |pull| pull);
        let sending = push.clone();
        node.thread(move || {
            for name in ["one", "two"] {
                block_on(sending.send(name)).expect("it is open");
            }
        });
        let receiving = pull.clone();
        node.thread(move || {
            for name in ["one", "two"] {
                let job = block_on(receiving.recv()).expect("it is open");
                assert_eq!(job[..], *name.as_bytes());
                job.ack();
            }
        });
        node.run();
        assert_eq!(push.metrics().handled, 2);
    })
}
