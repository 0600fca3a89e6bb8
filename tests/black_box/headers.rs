//! Headers: what stands beside a body, and goes wherever its message goes.

use std::time::Duration;

use crate::support::{Place, run, until};
use futures_util::SinkExt;
use meshmq::{Event, HandleError, InvalidHeader, Message, NewMessage, Node, Pull, Push, SendErrorKind};

const PAIRS: [(&str, &str); 4] = [("kind", "resize"), ("tag", "a"), ("größe", "×2"), ("tag", "")];
/// Large enough to be sent as the sender's own slice.
const LARGE: usize = 100_000;

/// A message of this size with the headers above, and one that tells it from others.
fn message(body: usize) -> NewMessage {
    NewMessage::new(vec![b'x'; body]).with_headers(PAIRS).header("size", body.to_string())
}

fn check(message: &Message) {
    let size = message.len().to_string();
    let expected = PAIRS.into_iter().chain([("size", &size[..])]);
    assert!(message.headers().iter().eq(expected), "{:?}", message.headers());
    assert!(message.iter().all(|byte| *byte == b'x'), "the body is the body alone");
    assert_eq!((message.header("tag"), message.header("size")), (Some("a"), Some(&size[..])));
    assert_eq!((message.header("Kind"), message.header("x")), (None, None));
}

/// Handed out, failed, given back, and handled in the end.
async fn all_ways(push: &Push, pull: Pull, other: &Node) {
    let sizes = [0, 3, LARGE, 5, 70, LARGE + 1];
    for size in sizes {
        push.send(message(size)).await.unwrap();
        push.send("nothing beside it").await.unwrap();
    }
    until("all have arrived", || pull.metrics().waiting == 2 * sizes.len() as u64).await;
    for round in 1..=2 {
        let (mut with, mut held) = (0, Vec::new());
        for _ in 0..2 * sizes.len() {
            let job = pull.recv().await.unwrap();
            assert_eq!(job.attempt(), round);
            match job.header("size") {
                Some(_) => {
                    check(&job);
                    with += 1;
                }
                None => {
                    assert_eq!((&**job, job.headers().len()), (&b"nothing beside it"[..], 0));
                }
            }
            held.push(job);
        }
        assert_eq!(with, sizes.len());
        // Answered out of order, so that what is left does not lie together.
        let (first, second): (Vec<_>, Vec<_>) = held.into_iter().enumerate().partition(|(at, _)| at % 3 == 0);
        for (_, job) in second.into_iter().chain(first) {
            if round == 1 { job.nack_after(Duration::ZERO) } else { job.nack() }
        }
    }
    // Returned without having been handed out.
    until("all are back there", || pull.metrics().waiting == 2 * sizes.len() as u64).await;
    drop(pull);
    let pull = other.pull("jobs").await.unwrap();
    for _ in 0..2 * sizes.len() {
        let job = pull.recv().await.unwrap();
        if job.header("size").is_some() {
            check(&job);
        }
        job.ack();
    }
    push.flush().await.unwrap();
    assert_eq!(push.metrics().bytes, 0, "each byte that was counted is free again");
}

#[test]
fn headers_go_where_their_message_goes() {
    run(async {
        let place = Place::new();
        let (pushing, pulling) = (place.builder().await.unwrap(), place.builder().await.unwrap());
        let push = pushing.push("jobs").await.unwrap();
        let pull = pulling.pull("jobs").prefetch(20).await.unwrap();
        push.wait_for_pullers(1).await.unwrap();
        all_ways(&push, pull, &pulling).await;
    });
}

#[test]
fn headers_go_through_memory_too() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let push = node.push("jobs").await.unwrap();
        let pull = node.pull("jobs").prefetch(20).await.unwrap();
        push.wait_for_pullers(1).await.unwrap();
        all_ways(&push, pull, &node).await;
    });
}

#[test]
fn a_lost_puller_leaves_the_headers_to_the_next_one() {
    run(async {
        let place = Place::new();
        let pushing = place.builder().await.unwrap();
        let push = pushing.push("jobs").await.unwrap();
        let lost = place.builder().await.unwrap();
        let pull = lost.pull("jobs").prefetch(2).await.unwrap();
        for size in [3, LARGE] {
            push.send(message(size)).await.unwrap();
        }
        let held = [pull.recv().await.unwrap(), pull.recv().await.unwrap()];
        assert!(lost.shutdown(Duration::ZERO).await.is_empty());
        let pull = pushing.pull("jobs").await.unwrap();
        for _ in 0..2 {
            let job = pull.recv().await.unwrap();
            assert!(job.redelivered());
            check(&job);
            job.ack();
        }
        push.flush().await.unwrap();
        held.iter().for_each(|job| check(job));
    });
}

#[test]
fn who_ends_a_message_is_told_with_its_headers() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let mut events = node.events();
        let (push, pull) = (node.push("jobs").max_failures(1).await.unwrap(), node.pull("jobs").await.unwrap());
        for size in [3, LARGE] {
            let (sent, ()) = tokio::join!(push.send(message(size)).handled(), async {
                pull.recv().await.unwrap().reject("no");
            });
            assert_eq!(sent, Err(HandleError::Rejected { reason: "no".into() }));
            let (sent, ()) = tokio::join!(push.send(message(size)).handled(), async {
                pull.recv().await.unwrap().nack();
            });
            assert_eq!(sent, Err(HandleError::Exhausted { failures: 1 }));
        }
        let mut dead = 0;
        while dead < 4 {
            match events.recv().await.unwrap() {
                Event::Rejected { headers, message: body, .. } | Event::Exhausted { headers, message: body, .. } => {
                    assert_eq!(headers, message(body.len()).headers());
                    dead += 1;
                }
                _ => {}
            }
        }
    });
}

#[test]
fn what_a_shutdown_hands_back_has_its_headers() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let push = node.push("jobs").await.unwrap();
        for size in [3, LARGE, 4] {
            push.send(message(size)).await.unwrap();
        }
        push.send("nothing beside it").await.unwrap();
        let undelivered = node.shutdown(Duration::ZERO).await;
        let sizes: Vec<_> = undelivered.messages.iter().map(|left| left.body.len()).collect();
        assert_eq!(sizes, [3, LARGE, 4, 17]);
        for left in &undelivered.messages[..3] {
            assert_eq!(left.headers, message(left.body.len()).headers());
        }
        assert!(undelivered.messages[3].headers.is_empty());
    });
}

#[test]
fn headers_that_do_not_fit_are_refused_and_given_back() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let push = node.push("jobs").await.unwrap();
        let good = || NewMessage::new("body").header("a", "1");
        let large = "x".repeat(64 << 10);
        for (bad, why, words) in [
            (good().header("", "2"), InvalidHeader::NoName { number: 2 }, "header 2 has no name"),
            (
                good().header("b", "2\n3"),
                InvalidHeader::Control { number: 2, character: '\n' },
                "header 2 has the control character '\\n'",
            ),
            (
                good().header("b\0", "2"),
                InvalidHeader::Control { number: 2, character: '\0' },
                "header 2 has the control character '\\0'",
            ),
            (
                good().header("b", large),
                InvalidHeader::TooLarge { len: 65_546, limit: 65_536 },
                "the headers have 65546 bytes in all; at most 65536 are possible",
            ),
            (
                good().header("traceparent", "00-0-0-0"),
                InvalidHeader::TraceParent { number: 2 },
                "header 2 is not a traceparent",
            ),
        ] {
            let kind = SendErrorKind::Header(why);
            assert!(kind.to_string().starts_with(words), "{kind}");
            let given_back = [
                push.send(bad.clone()).await.unwrap_err(),
                push.try_send(bad.clone()).unwrap_err(),
                push.send_timeout(bad.clone(), Duration::MAX).await.unwrap_err(),
                push.send_batch([bad.clone()]).await.unwrap_err(),
                push.reserve(100_000).await.unwrap().send(bad.clone()).unwrap_err(),
                meshmq::blocking::Push::from(push.clone()).try_send(bad.clone()).unwrap_err(),
            ];
            for refused in given_back {
                assert_eq!((refused.kind, &refused.message), (kind, &bad));
            }
            assert_eq!(push.send(bad.clone()).handled().await, Err(HandleError::Refused(kind)));
            let mut sink = push.clone().into_sink();
            let refused = sink.feed(bad.clone()).await.unwrap_err();
            assert_eq!((refused.kind, refused.message), (kind, Some(bad)));
        }
        assert_eq!((push.metrics().accepted, push.metrics().bytes), (0, 0), "nothing was queued, no room was kept");
        push.try_send(good()).unwrap();
    });
}

#[test]
fn bounds_count_headers() {
    run(async {
        let node = Node::isolated().max_message(10).await.unwrap();
        let push = node.push("jobs").bound(10, 100).await.unwrap();
        // A length for each name and value, and one for all of them.
        let message = |value: usize| NewMessage::new("0123456789").header("n", "v".repeat(value));
        push.send(message(36)).await.unwrap();
        assert_eq!(push.metrics().bytes, 10 + 1 + 1 + 1 + 1 + 36);
        assert_eq!(push.try_send(message(37)).unwrap_err().kind, SendErrorKind::Full);
        let permit = push.reserve(50).await.unwrap();
        let refused = permit.send(message(37)).unwrap_err();
        assert_eq!(refused.kind, SendErrorKind::TooLarge { len: 51, limit: 50 });
        push.reserve(50).await.unwrap().send(message(36)).unwrap();
        assert_eq!(push.metrics().bytes, 100);
        let refused = push.try_send(message(90)).unwrap_err();
        assert_eq!(refused.kind, SendErrorKind::TooLarge { len: 106, limit: 100 }, "it would never find room");
        let pull = node.pull("jobs").await.unwrap();
        for _ in 0..2 {
            let job = pull.recv().await.unwrap();
            assert_eq!((job.len(), job.header("n").map(str::len)), (10, Some(36)));
            job.ack();
        }
        push.flush().await.unwrap();
        assert_eq!(push.metrics().bytes, 0);
    });
}

#[test]
fn the_largest_headers_pass_with_the_largest_body() {
    run(async {
        let place = Place::new();
        let (pushing, pulling) =
            (place.builder().max_message(1000).await.unwrap(), place.builder().max_message(1000).await.unwrap());
        let (push, pull) = (pushing.push("jobs").await.unwrap(), pulling.pull("jobs").prefetch(1).await.unwrap());
        // What the lengths leave: 1 of the name, 4 of the value.
        let value = "v".repeat((64 << 10) - 1 - 1 - 4);
        for _ in 0..3 {
            push.send(NewMessage::new(vec![1; 1000]).header("n", &value)).await.unwrap();
        }
        for _ in 0..3 {
            let job = pull.recv().await.unwrap();
            assert_eq!((job.len(), job.header("n")), (1000, Some(&value[..])));
            job.ack();
        }
        push.flush().await.unwrap();
    });
}

#[test]
fn a_delivery_stays_small() {
    assert!(size_of::<meshmq::Delivery>() <= 64);
}
