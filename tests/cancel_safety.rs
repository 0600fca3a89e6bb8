//! Futures that are dropped before they are ready: each test drops one at each point where it can wait, also when what it
//! waits for has come meanwhile.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use meshmq::{Event, Node, Pull, Push, SendErrorKind};
use support::{PATIENCE, Place, folder, run, until};

/// A node with room for `bound` messages at its pusher.
async fn ends(bound: usize) -> (Node, Push, Pull) {
    let node = Node::isolated().await.unwrap();
    let push = node.push("jobs").bound(bound, 1 << 20).await.unwrap();
    let pull = node.pull("jobs").await.unwrap();
    push.wait_for_pullers(1).await.unwrap();
    (node, push, pull)
}

/// Polls once: it waits.
fn waits<F: Future>(future: &mut Pin<Box<F>>) {
    assert!(future.as_mut().now_or_never().is_none(), "it is ready");
}

#[test]
fn recv_takes_nothing() {
    run(async {
        let (_node, push, pull) = ends(10).await;
        let mut recv = Box::pin(pull.recv());
        waits(&mut recv);
        push.send("job").await.unwrap();
        until("the job is here", || pull.metrics().waiting == 1).await;
        drop(recv);
        let job = pull.recv().now_or_never().expect("it is still here").unwrap();
        assert_eq!((job.attempt(), job.redelivered()), (1, false));
        job.ack();
    });
}

#[test]
fn recv_batch_takes_nothing() {
    run(async {
        let (_node, push, pull) = ends(10).await;
        let mut recv = Box::pin(pull.recv_batch(10));
        waits(&mut recv);
        push.send_batch(["one", "two"]).await.unwrap();
        until("the jobs are here", || pull.metrics().waiting == 2).await;
        drop(recv);
        let jobs = pull.recv_batch(10).now_or_never().expect("they are still here").unwrap();
        assert_eq!(jobs.len(), 2);
        jobs.ack_all();
    });
}

#[test]
fn a_dropped_receiver_wakes_the_next_one() {
    run(async {
        let (_node, push, pull) = ends(10).await;
        let (mut first, mut second) = (Box::pin(pull.recv()), Box::pin(pull.recv()));
        waits(&mut first);
        waits(&mut second);
        push.send("job").await.unwrap();
        until("the job is here", || pull.metrics().waiting == 1).await;
        // Whoever of the two was woken: the other one must not sleep on.
        drop(first);
        second.await.unwrap().ack();
    });
}

/// Fills the socket, lets `wait` wait for room, makes room and drops it unpolled.
async fn drop_while_room_comes<F: Future>(push: &Push, pull: &Pull, wait: F) {
    let mut wait = Box::pin(wait);
    waits(&mut wait);
    pull.recv().await.unwrap().ack();
    until("there is room", || push.metrics().handled == 1).await;
    drop(wait);
    assert_eq!(push.metrics().accepted, 1, "nothing was accepted");
    push.try_send("next").expect("the room is nobody's");
    assert_eq!(push.try_send("one too many").unwrap_err().kind, SendErrorKind::Full);
    let job = pull.recv().await.unwrap();
    assert_eq!(&**job, b"next");
    job.ack();
    push.flush().await.unwrap();
}

#[test]
fn send_accepts_nothing() {
    run(async {
        let (_node, push, pull) = ends(1).await;
        push.send("first").await.unwrap();
        drop_while_room_comes(&push, &pull, push.send("dropped")).await;
    });
}

#[test]
fn send_timeout_accepts_nothing() {
    run(async {
        let (_node, push, pull) = ends(1).await;
        push.send("first").await.unwrap();
        drop_while_room_comes(&push, &pull, push.send_timeout("dropped", Duration::from_secs(60))).await;
    });
}

#[test]
fn reserve_sets_nothing_aside() {
    run(async {
        let (_node, push, pull) = ends(1).await;
        push.send("first").await.unwrap();
        drop_while_room_comes(&push, &pull, push.reserve(10)).await;
    });
}

#[test]
fn handled_accepts_nothing_while_it_waits_for_room() {
    run(async {
        let (_node, push, pull) = ends(1).await;
        push.send("first").await.unwrap();
        drop_while_room_comes(&push, &pull, push.send("dropped").handled()).await;
    });
}

#[test]
fn a_dropped_sender_wakes_the_next_one() {
    run(async {
        let (_node, push, pull) = ends(1).await;
        push.send("first").await.unwrap();
        let (mut dropped, mut next) = (Box::pin(push.send("dropped")), Box::pin(push.send("next")));
        waits(&mut dropped);
        waits(&mut next);
        pull.recv().await.unwrap().ack();
        until("there is room", || push.metrics().handled == 1).await;
        drop(dropped);
        next.await.unwrap();
        assert_eq!(&**pull.recv().await.unwrap(), b"next");
    });
}

#[test]
fn a_permit_that_is_dropped_gives_its_room_back() {
    run(async {
        let (_node, push, _pull) = ends(1).await;
        let permit = push.reserve(10).await.unwrap();
        assert_eq!(push.try_send("full").unwrap_err().kind, SendErrorKind::Full);
        let mut next = Box::pin(push.send("next"));
        waits(&mut next);
        drop(permit);
        next.await.unwrap();
    });
}

#[test]
fn send_batch_accepts_the_first_ones() {
    run(async {
        let (_node, push, pull) = ends(2).await;
        let mut batch = Box::pin(push.send_batch(["one", "two", "three"]));
        waits(&mut batch);
        drop(batch);
        assert_eq!(push.metrics().accepted, 2);
        pull.recv().await.unwrap().ack();
        pull.recv().await.unwrap().ack();
        push.flush().await.unwrap();
        assert!(pull.try_recv().unwrap().is_none());
    });
}

#[test]
fn what_handled_has_accepted_is_delivered() {
    run(async {
        let (_node, push, pull) = ends(10).await;
        let mut sent = Box::pin(push.send("job").handled());
        waits(&mut sent);
        drop(sent);
        pull.recv().await.unwrap().ack();
        push.flush().await.unwrap();
        assert_eq!(push.metrics().handled, 1);
    });
}

#[test]
fn events_recv_takes_nothing() {
    run(async {
        let (node, push, pull) = ends(10).await;
        let mut events = node.events();
        while events.try_recv().is_some() {}
        for _ in 0..2 {
            push.send("nonsense").await.unwrap();
            let job = pull.recv().await.unwrap();
            {
                let mut recv = Box::pin(events.recv());
                waits(&mut recv);
                job.reject("no job");
                push.flush().await.unwrap();
            }
            assert!(matches!(events.try_recv(), Some(Event::Rejected { .. })), "it is still here");
        }
        waits(&mut Box::pin(events.next()));
        assert!(events.try_recv().is_none());
    });
}

#[test]
fn waiting_can_be_given_up() {
    run(async {
        let (node, push, pull) = ends(10).await;
        push.send("job").await.unwrap();
        waits(&mut Box::pin(push.flush()));
        waits(&mut Box::pin(push.wait_for_pullers(2)));
        waits(&mut Box::pin(pull.wait_for_pushers(2)));
        waits(&mut Box::pin(node.wait_for_peers(1)));
        let place = Place::new();
        let (asking, asked) = (place.builder().await.unwrap(), place.builder().await.unwrap());
        asking.wait_for_peers(1).await.unwrap();
        waits(&mut Box::pin(asking.snapshot(PATIENCE)));
        waits(&mut Box::pin(asking.status_of(asked.id(), PATIENCE)));
        asking.status_of(asked.id(), PATIENCE).await.unwrap();
        pull.recv().await.unwrap().ack();
        push.flush().await.unwrap();
        push.wait_for_pullers(1).await.unwrap();
        pull.wait_for_pushers(1).await.unwrap();
    });
}

#[test]
fn settled_can_be_given_up() {
    run(async {
        // A peer that never answers: the node looks for it for as long as it may.
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let node = Node::isolated().peer(&silent.local_addr().unwrap().to_string()).await.unwrap();
        waits(&mut Box::pin(node.settled()));
        node.settled().await;
    });
}

/// Counts who could wake it.
struct Counted;

impl Wake for Counted {
    fn wake(self: Arc<Self>) {}
}

/// Polls once, drops, and looks whether the waker was kept.
fn leaves_nothing(what: &str, future: impl Future) {
    let waker = Arc::new(Counted);
    {
        let mut future = Box::pin(future);
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker.clone().into())).is_pending(), "{what} is ready");
        assert!(Arc::strong_count(&waker) > 1, "{what} waits for nothing");
    }
    assert_eq!(Arc::strong_count(&waker), 1, "{what} is still waited for");
}

#[test]
fn whoever_stops_waiting_leaves_nothing_behind() {
    run(async {
        let (node, push, pull) = ends(1).await;
        leaves_nothing("recv", pull.recv());
        leaves_nothing("recv_batch", pull.recv_batch(2));
        leaves_nothing("serve", pull.serve(2, async |_| Ok::<_, String>(())));
        leaves_nothing("wait_for_pushers", pull.wait_for_pushers(2));
        leaves_nothing("wait_for_pullers", push.wait_for_pullers(2));
        leaves_nothing("wait_for_peers", node.wait_for_peers(1));
        let mut events = node.events();
        while events.try_recv().is_some() {}
        leaves_nothing("events", async move { events.recv().await });

        push.send("first").await.unwrap();
        leaves_nothing("send", push.send("second"));
        leaves_nothing("send_timeout", push.send_timeout("second", PATIENCE));
        leaves_nothing("send_batch", push.send_batch(["second"]));
        leaves_nothing("handled", push.send("second").handled());
        leaves_nothing("reserve", push.reserve(1));
        let mut sink = push.clone().into_sink();
        leaves_nothing("a sink", async move { sink.feed("second".into()).await });
    });
}

#[test]
fn a_flush_that_was_given_up_is_forgotten_by_the_next_one() {
    run(async {
        let (_node, push, _pull) = ends(1).await;
        push.send("job").await.unwrap();
        let waker = Arc::new(Counted);
        for _ in 0..10 {
            let mut flush = push.flush();
            assert!(flush.poll_unpin(&mut Context::from_waker(&waker.clone().into())).is_pending());
        }
        let _last = push.flush();
        assert_eq!(Arc::strong_count(&waker), 1);
    });
}

#[test]
fn serve_takes_nothing_while_it_waits() {
    run(async {
        let (_node, push, pull) = ends(10).await;
        {
            let mut serving = Box::pin(pull.serve(2, async |_| Ok::<_, String>(())));
            waits(&mut serving);
            push.send("job").await.unwrap();
            until("the job is here", || pull.metrics().waiting == 1).await;
        }
        let job = pull.recv().now_or_never().expect("it is still here").unwrap();
        assert!(!job.redelivered());
        job.ack();
    });
}

#[test]
fn serve_gives_back_what_it_has_in_hand() {
    run(async {
        let (_node, push, pull) = ends(10).await;
        push.send_batch(["one", "two"]).await.unwrap();
        let mut started = 0;
        {
            let mut serving = Box::pin(pull.serve(2, |_| {
                started += 1;
                std::future::pending::<Result<(), &str>>()
            }));
            until("both are in hand", || {
                waits(&mut serving);
                pull.metrics().in_hand == 2
            })
            .await;
        }
        assert_eq!(started, 2);
        for _ in 0..2 {
            let job = pull.recv().await.unwrap();
            assert_eq!((job.attempt(), job.redelivered()), (2, true));
            job.ack();
        }
        push.flush().await.unwrap();
    });
}

#[test]
fn a_node_that_is_dropped_while_it_joins_leaves_nothing() {
    run(async {
        let place = Place::new();
        let other = place.builder().await.unwrap();
        for polls in 0..4 {
            let mut joining = Box::pin(place.builder().into_future());
            for _ in 0..polls {
                if joining.as_mut().now_or_never().is_some() {
                    break;
                }
            }
            drop(joining);
        }
        until("only one node is left", || other.peers().is_empty() && sockets(&place) == 1).await;
    });
}

#[test]
fn a_builder_that_is_dropped_opens_nothing() {
    run(async {
        let (node, push, _pull) = ends(10).await;
        drop(node.push("jobs"));
        drop(node.pull("jobs").into_future());
        drop(Node::isolated());
        push.wait_for_pullers(1).await.unwrap();
        // The future of a socket's builder has opened the socket, which ended with it.
        until("two sockets are left", || node.metrics().sockets.len() == 2).await;
    });
}

/// Nodes that show themselves in the folder through which those of one host meet.
fn sockets(place: &Place) -> usize {
    let tags = folder(&place.path());
    tags.iter().map(|tag| folder(&place.path().join(tag)).iter().filter(|name| name.ends_with(".sock")).count()).sum()
}

#[test]
fn shutdown_goes_on_without_its_future() {
    run(async {
        let (node, push, _pull) = ends(10).await;
        push.send("job").await.unwrap();
        let mut leaving = Box::pin(node.shutdown(Duration::from_millis(10)));
        waits(&mut leaving);
        drop(leaving);
        assert_eq!(push.send("late").await.unwrap_err().kind, SendErrorKind::Closed);
        let _ = node.shutdown(Duration::ZERO).await;
    });
}

#[test]
fn a_second_shutdown_can_be_given_up() {
    run(async {
        let (node, push, pull) = ends(10).await;
        push.send("job").await.unwrap();
        let job = pull.recv().await.unwrap();
        let mut first = Box::pin(node.shutdown(PATIENCE));
        waits(&mut first);
        waits(&mut Box::pin(node.shutdown(Duration::ZERO)));
        waits(&mut first);
        job.ack();
        assert_eq!(first.await.len(), 0);
    });
}

#[test]
fn a_permit_of_an_ended_node_takes_nothing() {
    run(async {
        let (node, push, _pull) = ends(10).await;
        let permit = push.reserve(10).await.unwrap();
        drop(node.shutdown(Duration::ZERO).await);
        let refused = permit.send("late").unwrap_err();
        assert_eq!((refused.kind, &refused.message.body()[..]), (SendErrorKind::Closed, &b"late"[..]));
        assert_eq!(push.metrics().accepted, 0);
    });
}
