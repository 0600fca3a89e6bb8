//! Push as a sink and pull as a stream: what combinators get, and what is left when they are dropped.

use std::pin::Pin;
use std::time::Duration;

use crate::support::{run, until};
use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use meshmq::{NewMessage, Node, Pull, Push, SendErrorKind};

/// A node with room for `messages` of together `bytes` at its pusher.
async fn ends(messages: usize, bytes: usize) -> (Node, Push, Pull) {
    let node = Node::isolated().max_message(1000).await.unwrap();
    let push = node.push("jobs").bound(messages, bytes).await.unwrap();
    let pull = node.pull("jobs").await.unwrap();
    push.wait_for_pullers(1).await.unwrap();
    (node, push, pull)
}

fn waits<F: Future>(future: &mut Pin<Box<F>>) {
    assert!(future.as_mut().now_or_never().is_none(), "it is ready");
}

fn body(len: usize) -> NewMessage {
    vec![b'x'; len].into()
}

#[test]
fn a_stream_is_forwarded_from_socket_to_socket() {
    run(async {
        let (node, numbers, work) = ends(3, 1000).await;
        let (done, results) = (node.push("done").await.unwrap(), node.pull("done").await.unwrap());
        let input = stream::iter(0..100).map(|number| Ok(NewMessage::from(number.to_string())));
        let doubled = work.map(|job| {
            let number: u32 = String::from_utf8_lossy(&job.ack_into_message()).parse().unwrap();
            Ok(NewMessage::from((2 * number).to_string()))
        });
        let (mut seen, mut doubling) = (Vec::<u32>::new(), doubled.forward(done.into_sink()));
        let (sent, ()) = tokio::join!(input.forward(numbers.clone().into_sink()), async {
            let mut results = results.take(100);
            loop {
                tokio::select! {
                    biased;
                    ended = &mut doubling => ended.unwrap(),
                    result = results.next() => match result {
                        Some(result) => seen.push(String::from_utf8_lossy(&result.ack_into_message()).parse().unwrap()),
                        None => break,
                    },
                }
            }
        });
        sent.unwrap();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq((0..200).step_by(2)), "{seen:?}");
        numbers.flush().await.unwrap();
    });
}

#[test]
fn a_sink_waits_for_room_for_a_message() {
    run(async {
        let (_node, push, pull) = ends(2, 1000).await;
        let mut sink = push.clone().into_sink();
        sink.feed(body(1)).await.unwrap();
        sink.feed(body(1)).await.unwrap();
        {
            let mut third = Box::pin(sink.feed(body(1)));
            waits(&mut third);
            assert_eq!(push.metrics().accepted, 2);
            pull.recv().await.unwrap().ack();
            third.await.unwrap();
        }
        assert_eq!(push.metrics().accepted, 3, "fed is accepted");
    });
}

#[test]
fn a_sink_holds_one_message_until_there_is_room_for_its_bytes() {
    run(async {
        let (_node, push, pull) = ends(10, 100).await;
        let mut sink = push.clone().into_sink();
        sink.send(body(60)).await.unwrap();
        sink.feed(body(50)).await.unwrap();
        assert_eq!((push.metrics().accepted, push.metrics().bytes), (1, 60), "the bound is exact");
        waits(&mut Box::pin(sink.flush()));
        waits(&mut Box::pin(sink.feed(body(1))));
        pull.recv().await.unwrap().ack();
        sink.flush().await.unwrap();
        assert_eq!((push.metrics().accepted, push.metrics().bytes), (2, 50));
        assert_eq!(pull.recv().await.unwrap().len(), 50);
    });
}

#[test]
fn a_flush_of_a_sink_waits_for_no_puller() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let mut sink = node.push("jobs").await.unwrap().into_sink();
        sink.send(body(1)).await.unwrap();
        sink.close().await.unwrap();
        assert_eq!(sink.push().metrics().queued, 1);
    });
}

#[test]
fn a_closed_sink_is_not_a_closed_socket() {
    run(async {
        let (_node, push, _pull) = ends(1, 1000).await;
        let mut sink = push.clone().into_sink();
        std::future::poll_fn(|cx| sink.poll_ready_unpin(cx)).await.unwrap();
        sink.close().await.unwrap();
        assert_eq!(sink.feed(body(1)).await.unwrap_err().kind, SendErrorKind::Closed);
        sink.close().await.unwrap();
        push.try_send("the socket goes on, and the room that the sink had is free").unwrap();
    });
}

#[test]
fn a_sink_gives_back_what_it_can_not_take() {
    run(async {
        let (node, push, _pull) = ends(1, 1000).await;
        let mut sink = push.clone().into_sink();
        let unasked = sink.start_send_unpin(body(1)).unwrap_err();
        assert_eq!((unasked.kind, unasked.message), (SendErrorKind::Full, Some(body(1))));

        let large = sink.feed(body(1001)).await.unwrap_err();
        assert_eq!(large.kind, SendErrorKind::TooLarge { len: 1001, limit: 1000 });
        assert_eq!(large.message, Some(body(1001)));
        sink.send(body(1)).await.expect("it goes on, and the room was free again");

        drop(node.shutdown(Duration::ZERO).await);
        let closed = sink.feed(body(1)).await.unwrap_err();
        assert_eq!((closed.kind, closed.message), (SendErrorKind::Closed, None));
    });
}

#[test]
fn a_sink_gives_back_what_it_holds_when_its_socket_closes() {
    run(async {
        let (node, push, _pull) = ends(10, 100).await;
        let mut sink = push.into_sink();
        sink.send(body(60)).await.unwrap();
        sink.feed(body(50)).await.unwrap();
        let (flushed, undelivered) = tokio::join!(sink.flush(), node.shutdown(Duration::ZERO));
        let closed = flushed.unwrap_err();
        assert_eq!((closed.kind, closed.message), (SendErrorKind::Closed, Some(body(50))));
        assert_eq!(undelivered.len(), 1, "only the other one was accepted");
    });
}

#[test]
fn a_dropped_sink_gives_its_room_back() {
    run(async {
        let (_node, push, _pull) = ends(1, 1000).await;
        let mut sink = push.clone().into_sink();
        std::future::poll_fn(|cx| sink.poll_ready_unpin(cx)).await.unwrap();
        assert_eq!(push.try_send("full").unwrap_err().kind, SendErrorKind::Full);
        let mut next = Box::pin(push.send("next"));
        waits(&mut next);
        drop(sink);
        next.await.unwrap();
    });
}

#[test]
fn what_a_dropped_sink_holds_is_dropped_with_it() {
    run(async {
        let (_node, push, pull) = ends(2, 100).await;
        let mut sink = push.clone().into_sink();
        sink.feed(body(60)).await.unwrap();
        sink.feed(body(50)).await.unwrap();
        drop(sink);
        assert_eq!(push.metrics().accepted, 1);
        push.try_send(body(40)).expect("place and bytes are free");
        pull.recv().await.unwrap().ack();
        pull.recv().await.unwrap().ack();
        push.flush().await.unwrap();
    });
}

#[test]
fn a_feed_that_is_dropped_accepts_nothing() {
    run(async {
        let (_node, push, pull) = ends(1, 1000).await;
        let mut sink = push.clone().into_sink();
        sink.send(body(1)).await.unwrap();
        {
            let mut fed = Box::pin(sink.feed(body(2)));
            waits(&mut fed);
            pull.recv().await.unwrap().ack();
            until("there is room", || push.metrics().handled == 1).await;
        }
        assert_eq!(push.metrics().accepted, 1);
        push.try_send("the room is nobody's").unwrap();
    });
}

#[test]
fn a_send_that_is_dropped_in_its_flush_is_finished_by_the_next_one() {
    run(async {
        let (_node, push, pull) = ends(10, 100).await;
        let mut sink = push.clone().into_sink();
        sink.send(body(60)).await.unwrap();
        waits(&mut Box::pin(sink.send(body(50))));
        waits(&mut Box::pin(sink.close()));
        pull.recv().await.unwrap().ack();
        sink.send(body(3)).await.unwrap();
        assert_eq!(pull.recv().await.unwrap().len(), 50);
        assert_eq!(pull.recv().await.unwrap().len(), 3);
    });
}

#[test]
fn a_stream_ends_when_its_socket_closes() {
    run(async {
        let (node, push, mut pull) = ends(10, 1000).await;
        push.send("job").await.unwrap();
        pull.next().await.unwrap().ack();
        let closing = async {
            push.flush().await.unwrap();
            node.shutdown(Duration::ZERO).await
        };
        let (end, _) = tokio::join!(pull.next(), closing);
        assert!(end.is_none());
        assert!(pull.next().await.is_none(), "and stays ended");
    });
}

#[test]
fn next_takes_nothing() {
    run(async {
        let (_node, push, mut pull) = ends(10, 1000).await;
        {
            let mut next = Box::pin(pull.next());
            waits(&mut next);
            push.send("job").await.unwrap();
            until("the job has arrived", || push.metrics().in_flight == 1).await;
        }
        until("the job is here", || pull.metrics().waiting == 1).await;
        let job = pull.next().now_or_never().expect("it is still here").unwrap();
        assert_eq!((job.attempt(), job.redelivered()), (1, false));
        job.ack();
    });
}
