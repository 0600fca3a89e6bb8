//! Futures that are dropped before they are ready: each test drops one at each point where it can wait, also when what it
//! waits for has come meanwhile.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::task::{Context, Wake};
use std::time::Duration;

use crate::support::{PATIENCE, Place, folder, run, until};
use futures_util::{FutureExt, SinkExt, StreamExt};
use meshmq::{Event, Node, Pull, Push, Replier, RequestError, Requester, SendErrorKind};

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
        let (requester, replier) = exchange(&node, 10).await;
        waits(&mut Box::pin(requester.wait_for_repliers(2)));
        waits(&mut Box::pin(replier.wait_for_requesters(2)));
        requester.wait_for_repliers(1).await.unwrap();
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

        let (requester, replier) = exchange(&node, 10).await;
        leaves_nothing("a request", requester.request("x").into_future());
        leaves_nothing("a request that waits", requester.request("x").to(stranger()).wait_for_replier().into_future());
        leaves_nothing("wait_for_repliers", requester.wait_for_repliers(2));
        leaves_nothing("wait_for_requesters", replier.wait_for_requesters(2));
        until("the request is given up", || replier.metrics().waiting == 0).await;
        leaves_nothing("a replier's recv", replier.recv());
        leaves_nothing("a replier's serve", replier.serve(2, async |_| Ok::<_, String>("y")));
        let mut asking = Box::pin(requester.request("x").into_future());
        waits(&mut asking);
        let request = replier.recv().await.unwrap();
        leaves_nothing("cancelled", request.cancelled());
        drop(asking);
        until("all is given up", || requester.metrics().open == 0 && replier.metrics().in_hand == 0).await;
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

/// A requester and a replier of one node, connected.
async fn exchange(node: &Node, limit: usize) -> (Requester, Replier) {
    let (requester, replier) =
        (node.requester("work").await.unwrap(), node.replier("work").limit(limit).await.unwrap());
    requester.wait_for_repliers(1).await.unwrap();
    (requester, replier)
}

/// Somebody who is not there.
fn stranger() -> meshmq::NodeId {
    "a".repeat(52).parse().unwrap()
}

#[test]
fn a_request_that_is_dropped_before_it_is_awaited_is_not_sent() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let (requester, replier) = exchange(&node, 10).await;
        drop(requester.request("x"));
        drop(requester.request("x").into_future());
        let (asked, ()) = tokio::join!(requester.request("after them").into_future(), async {
            replier.recv().await.unwrap().reply("y").unwrap();
        });
        assert!(asked.is_ok());
        assert_eq!((requester.metrics().asked, replier.metrics().received), (1, 1));
    });
}

#[test]
fn a_request_that_is_dropped_leaves_nothing_wherever_it_has_come_to() {
    run(async {
        // On this thread: it does nothing between two polls here.
        let node = Place::new().builder().without_local().on_current_runtime().await.unwrap();
        let (requester, replier) = exchange(&node, 10).await;
        let figures = || (requester.metrics(), replier.metrics());
        // Not taken by the lane's writer, which has had no turn.
        let mut asking = Box::pin(requester.request("not sent").into_future());
        waits(&mut asking);
        drop(asking);
        // Waiting at the replier.
        let mut asking = Box::pin(requester.request("waits").into_future());
        waits(&mut asking);
        until("it waits there", || replier.metrics().waiting == 1).await;
        drop(asking);
        until("it is given up", || replier.metrics().cancelled == 1).await;
        // In hand.
        let mut asking = Box::pin(requester.request("in hand").into_future());
        waits(&mut asking);
        let request = replier.recv().await.unwrap();
        drop(asking);
        request.cancelled().await;
        request.reply("nobody hears it").unwrap();
        // Answered, and not looked at.
        let mut asking = Box::pin(requester.request("answered").into_future());
        waits(&mut asking);
        replier.recv().await.unwrap().reply(vec![0; 1 << 20]).unwrap();
        until("the answer is here", || requester.metrics().replied == 1).await;
        drop(asking);
        // Waiting for somebody.
        let mut asking = Box::pin(requester.request("x").to(stranger()).wait_for_replier().into_future());
        waits(&mut asking);
        drop(asking);
        until("nothing is held", || figures().0.open == 0 && figures().0.bytes == 0 && figures().1.bytes == 0).await;
        let (asked, answered) = figures();
        assert_eq!((asked.asked, asked.cancelled, asked.replied), (5, 4, 1));
        assert_eq!((answered.received, answered.cancelled, answered.replied), (3, 2, 1));
    });
}

#[test]
fn asking_all_sends_nothing_until_it_is_ready() {
    run(async {
        let place = Place::new();
        // It looks for somebody who does not answer, and is not settled meanwhile.
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let node = place.builder().peer(&nobody.local_addr().unwrap().to_string()).await.unwrap();
        let requester = node.requester("work").await.unwrap();
        let mut asking = Box::pin(requester.request_all("x").into_future());
        waits(&mut asking);
        drop(asking);
        assert_eq!(requester.metrics().asked, 0);
        assert_eq!(requester.request_all("x").await.unwrap_err(), RequestError::NoReplier);
    });
}

#[test]
fn replies_take_nothing_and_tell_the_rest() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let (requester, one) = exchange(&node, 10).await;
        let two = node.replier("work").await.unwrap();
        let mut replies = requester.request_all("x").await.unwrap();
        let (first, second) = (one.recv().await.unwrap(), two.recv().await.unwrap());
        let mut recv = Box::pin(replies.recv());
        waits(&mut recv);
        first.reply("y").unwrap();
        until("it has come", || requester.metrics().replied == 1).await;
        drop(recv);
        assert_eq!(replies.recv().now_or_never().flatten().expect("it is still here").body(), "y");
        drop(replies);
        second.cancelled().await;
    });
}

#[test]
fn a_replier_takes_nothing() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let (requester, mut replier) = exchange(&node, 10).await;
        for as_stream in [false, true] {
            let mut asking = Box::pin(requester.request("x").into_future());
            if as_stream {
                let mut next = Box::pin(replier.next());
                waits(&mut next);
                waits(&mut asking);
                until("it is asked", || requester.metrics().repliers[0].open == 1).await;
                drop(next);
            } else {
                let mut recv = Box::pin(replier.recv());
                waits(&mut recv);
                waits(&mut asking);
                until("it is here", || replier.metrics().waiting == 1).await;
                drop(recv);
            }
            until("it is here", || replier.metrics().waiting == 1).await;
            replier.try_recv().unwrap().expect("it is still here").reply("y").unwrap();
            assert!(asking.await.is_ok());
        }
    });
}

#[test]
fn a_dropped_replying_receiver_wakes_the_next_one() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let (requester, replier) = exchange(&node, 10).await;
        let (mut first, mut second) = (Box::pin(replier.recv()), Box::pin(replier.recv()));
        waits(&mut first);
        waits(&mut second);
        let mut asking = Box::pin(requester.request("x").into_future());
        waits(&mut asking);
        until("it is here", || replier.metrics().waiting == 1).await;
        drop(first);
        second.await.unwrap().reply("y").unwrap();
        assert!(asking.await.is_ok());
    });
}

#[test]
fn a_serving_replier_fails_what_it_has_in_hand() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let (requester, replier) = exchange(&node, 10).await;
        let begun = AtomicUsize::new(0);
        let mut serving = Box::pin(replier.serve(2, |_| {
            begun.fetch_add(1, AcqRel);
            std::future::pending::<Result<&str, String>>()
        }));
        let mut asking: Vec<_> = (0..3).map(|_| Box::pin(requester.request("x").into_future())).collect();
        asking.iter_mut().for_each(waits);
        until("two are in hand", || {
            waits(&mut serving);
            begun.load(Acquire) == 2
        })
        .await;
        drop(serving);
        let dropped = |ended: Option<&RequestError>| matches!(ended, Some(RequestError::Remote { code, .. }) if code == "dropped");
        let third = asking.pop().unwrap();
        for asking in asking {
            assert!(dropped(asking.await.err().as_ref()));
        }
        replier.recv().await.unwrap().reply("by the next one").unwrap();
        assert!(third.await.is_ok());
    });
}

#[test]
fn waiting_for_a_cancel_can_be_given_up() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let (requester, replier) = exchange(&node, 10).await;
        let mut asking = Box::pin(requester.request("x").into_future());
        waits(&mut asking);
        let request = replier.recv().await.unwrap();
        waits(&mut Box::pin(request.cancelled()));
        drop(asking);
        request.cancelled().await;
    });
}
