//! A push socket: threads send, reserve and wait, and the node's thread dispatches and settles.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;

use futures_sink::Sink;

use super::explore;
use crate::error::SendErrorKind;
use crate::socket::{Pull, Push, PushSink};
use crate::stage::{NodeThread, block_on, poll_once};

/// Takes and acknowledges so many messages, as a task of the node's thread.
async fn work(pull: Arc<Pull>, count: usize) {
    for _ in 0..count {
        pull.recv().await.expect("it is open").ack();
    }
}

/// Two messages go through a socket with room for one: each is handled once, and no room is lost on the way.
fn two_through_room_for_one(send: impl Fn(&mut NodeThread, &Push) + Sync + Send + 'static) -> usize {
    explore(2, move |node| {
        let (push, pull, _) = node.jobs(|push| push.bound(1, 1000), |pull| pull);
        node.task(work(pull.clone(), 2));
        send(node, &push);
        node.run();
        let figures = push.metrics();
        assert_eq!((figures.accepted, figures.handled, figures.bytes), (2, 2, 0));
    })
}

/// A thread sends one message, and waits for room first.
fn send(node: &mut NodeThread, push: &Push, name: &'static str) {
    let push = push.clone();
    node.thread(move || block_on(push.send(name)).expect("it is open"));
}

/// Two threads send: both get through.
pub fn senders_wait_for_room() -> usize {
    two_through_room_for_one(|node, push| {
        send(node, push, "one");
        send(node, push, "two");
    })
}

/// Room that was set aside and is given back is found by whoever waits for it.
pub fn room_that_was_set_aside_comes_back() -> usize {
    two_through_room_for_one(|node, push| {
        let reserving = push.clone();
        node.thread(move || {
            let permit = block_on(reserving.reserve(10)).expect("it is open");
            permit.send("one").expect("there is room");
            drop(block_on(reserving.reserve(10)).expect("it is open"));
        });
        send(node, push, "two");
    })
}

/// A sink waits like a sender, and holds no room when it is gone.
pub fn a_sink_waits_for_room() -> usize {
    two_through_room_for_one(|node, push| {
        let mut sink = push.clone().into_sink();
        node.thread(move || {
            let ready = |sink: &mut PushSink| block_on(std::future::poll_fn(|cx| Pin::new(&mut *sink).poll_ready(cx)));
            ready(&mut sink).expect("it is open");
            Pin::new(&mut sink).start_send("one".into()).expect("there is room");
            ready(&mut sink).expect("it is open");
        });
        send(node, push, "two");
    })
}

/// A sender that waits and is dropped keeps nobody else waiting.
pub fn a_dropped_sender_wakes_the_next_one() -> usize {
    two_through_room_for_one(|node, push| {
        push.try_send("first").expect("there is room");
        let giving_up = push.clone();
        node.thread(move || {
            let _ = poll_once(pin!(giving_up.reserve(10)));
        });
        send(node, push, "second");
    })
}

/// Whatever two threads do at once, a bound of one is one; and no room is lost on the way.
pub fn a_bound_is_exact() -> usize {
    explore(2, |node| {
        let (push, _) = node.push(|push| push.bound(1, 1000));
        for name in ["one", "two"] {
            let push = push.clone();
            node.thread(move || {
                if let Poll::Ready(Ok(permit)) = poll_once(pin!(push.reserve(10))) {
                    assert!(push.try_send(name).is_err(), "all room is set aside");
                    drop(permit);
                }
                let _ = push.try_send(name);
            });
        }
        node.run();
        assert_eq!((push.metrics().accepted, push.metrics().bytes), (1, 3));
        assert!(push.try_send("three").is_err());
    })
}

/// The end of the node ends every wait, and whatever was accepted is handed back.
pub fn the_end_wakes_every_sender() -> usize {
    explore(2, |node| {
        let (push, end) = node.push(|push| push.bound(1, 1000));
        let (back, came) = std::sync::mpsc::channel();
        node.task(async move {
            back.send(end.close().len()).expect("somebody counts");
        });
        let accepted = Arc::new(AtomicUsize::new(0));
        for tracked in [false, true] {
            let (push, accepted) = (push.clone(), accepted.clone());
            node.thread(move || {
                let done = match tracked {
                    // Accepted and then ended, it says no more than that.
                    true => block_on(push.send("one").handled()).is_ok(),
                    false => match block_on(push.send("two")) {
                        Ok(()) => true,
                        Err(refused) => {
                            assert_eq!(refused.kind, SendErrorKind::Closed);
                            false
                        }
                    },
                };
                accepted.fetch_add(usize::from(done), Relaxed);
            });
        }
        let flushing = push.clone();
        node.thread(move || {
            // Nothing was accepted before, or all of it came to its end.
            let _ = block_on(flushing.flush());
        });
        node.run();
        let back = came.try_recv().expect("the node has ended");
        assert_eq!(back as u64, push.metrics().accepted, "what was accepted came back");
        assert!(accepted.load(Relaxed) <= back);
    })
}

/// Whoever waits for an answer, or for everything to be settled, is told.
pub fn who_waits_for_an_answer_is_told() -> usize {
    explore(2, |node| {
        let (push, pull, _) = node.jobs(|push| push.bound(2, 1000), |pull| pull);
        node.task(work(pull.clone(), 2));
        let tracking = push.clone();
        node.thread(move || block_on(tracking.send("one").handled()).expect("it is acknowledged"));
        let flushing = push.clone();
        node.thread(move || {
            block_on(flushing.send("two")).expect("it is open");
            block_on(flushing.flush()).expect("the node lives");
            assert!(flushing.metrics().handled >= 1);
        });
        node.run();
        assert_eq!(push.metrics().handled, 2);
    })
}

/// The last handle is dropped: what was accepted is still delivered, and then the lane and the dispatcher end.
pub fn a_socket_without_handles_ends_once_nothing_is_owed() -> usize {
    let owed = explore(3, |node| {
        let (push, pull, _) = node.jobs(|push| push.bound(2, 1000), |pull| pull);
        node.task(work(pull.clone(), 1));
        node.thread(move || block_on(push.send("one")).expect("it is open"));
        node.run();
        assert_eq!(node.hall().ended().len(), 1);
        assert!(node.is_over(DISPATCHER) && node.is_over(WRITER) && node.is_over(WORKER));
    });
    let idle = explore(3, |node| {
        let (push, _pull, _) = node.jobs(|push| push, |pull| pull);
        node.thread(move || drop(push));
        node.run();
        assert_eq!(node.hall().ended().len(), 1);
        assert!(node.is_over(DISPATCHER) && node.is_over(WRITER));
    });
    owed + idle
}

/// The node drains while room is still set aside: once that is given back the lane ends.
pub fn a_draining_socket_ends_its_lane_with_the_last_permit() -> usize {
    explore(3, |node| {
        let (push, from) = node.push(|push| push);
        let (_pull, to) = node.pull(|pull| pull);
        let (now, draining) = (node.hall().env().now(), from.clone());
        node.task(async move { draining.drain(now) });
        node.join(&from, &to);
        let reserving = push.clone();
        node.thread(move || {
            if let Ok(permit) = block_on(reserving.reserve(10)) {
                drop(permit);
            }
        });
        node.run();
        assert!(node.is_over(WRITER + 1));
    })
}

// The tasks of a node's thread, in the order in which a model makes them.
const DISPATCHER: usize = 0;
const WRITER: usize = 1;
const WORKER: usize = 3;
