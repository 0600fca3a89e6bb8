//! What is lost when a future of a publisher or of a subscriber is dropped, at each await: nothing that is not told.

use crate::support::{PATIENCE, Place, run, until};
use futures_util::{FutureExt, SinkExt, StreamExt};
use meshmq::{Node, Publisher, SendErrorKind, Subscriber, WhenFull};

/// A node that does nothing between two polls of a test: it is on the test's own thread.
async fn still() -> Node {
    Place::new().builder().without_local().listen("127.0.0.1:0".parse().unwrap()).on_current_runtime().await.unwrap()
}

/// A publisher whose subscriber takes one message at a time, so that whoever publishes waits.
async fn full(node: &Node) -> (Publisher, Subscriber, usize) {
    let news = node.publisher("news").bound(1, 1 << 20).when_full(WhenFull::Block(PATIENCE)).await.unwrap();
    let sub = node.subscriber("news").prefetch(1).await.unwrap();
    let mut published = 0;
    loop {
        // What the subscriber takes in by itself makes room for one more: from then on it stays full.
        let taken = news.metrics().subscribers[0].received;
        match news.try_publish("a", published.to_string()) {
            Ok(()) => published += 1,
            Err(refused) if taken == 1 => {
                assert_eq!(refused.kind, SendErrorKind::Full);
                return (news, sub, published);
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn text(sub: &Subscriber) -> String {
    String::from_utf8(sub.recv().await.unwrap().to_vec()).unwrap()
}

#[test]
fn builders_that_are_dropped_leave_no_socket() {
    run(async {
        let node = Node::isolated().await.unwrap();
        drop(node.publisher("news").into_future());
        drop(node.subscriber("news").into_future());
        assert!(node.channels().is_empty());
        // A node that is not settled: the subscriber waits, and its socket is there.
        let place = Place::new();
        let node = place.builder().peer("127.0.0.1:1").await.unwrap();
        let mut opening = node.subscriber("news").into_future();
        if (&mut opening).now_or_never().is_none() {
            assert_eq!(node.channels().len(), 1);
        }
        drop(opening);
        assert!(node.channels().is_empty());
    });
}

#[test]
fn a_batch_that_is_dropped_has_published_the_first_ones() {
    run(async {
        let node = still().await;
        let news = node.publisher("news").bound(3, 1 << 20).when_full(WhenFull::Block(PATIENCE)).await.unwrap();
        let sub = node.subscriber("news").prefetch(1).await.unwrap();
        let batch = news.publish_batch((0..100).map(|nth| ("a", nth.to_string())));
        assert!(batch.now_or_never().is_none());
        let published = news.metrics().published;
        assert!((1..100).contains(&published), "{published}");
        for nth in 0..published {
            assert_eq!(text(&sub).await, nth.to_string());
        }
        news.publish("a", "next").await.unwrap();
        assert_eq!(text(&sub).await, "next");
    });
}

#[test]
fn waiting_can_be_given_up() {
    run(async {
        let node = still().await;
        let (news, sub, published) = full(&node).await;
        for _ in 0..3 {
            assert!(news.flush().now_or_never().is_none());
            assert!(news.wait_for_subscribers(2).now_or_never().is_none());
            assert!(sub.wait_for_publishers(2).now_or_never().is_none());
        }
        for nth in 0..published {
            assert_eq!(text(&sub).await, nth.to_string());
        }
        news.flush().await.unwrap();
        news.wait_for_subscribers(1).await.unwrap();
        sub.wait_for_publishers(1).await.unwrap();
    });
}

#[test]
fn a_sink_that_waits_holds_one_message() {
    run(async {
        let node = still().await;
        let (news, sub, published) = full(&node).await;
        let mut sink = news.clone().into_sink();
        // It is taken, and waits in the sink.
        assert!(sink.send(("a", "held")).now_or_never().is_none());
        // Dropped with its future.
        assert!(sink.feed(("a", "dropped")).now_or_never().is_none());
        for nth in 0..published {
            assert_eq!(text(&sub).await, nth.to_string());
        }
        SinkExt::<(&str, &str)>::flush(&mut sink).await.unwrap();
        assert_eq!(text(&sub).await, "held");
        // Dropped with the sink.
        while sink.send(("a", "more")).now_or_never().is_some() {
            tokio::task::yield_now().await;
        }
        drop(sink);
        until("all of it is taken", || {
            let _ = sub.try_recv();
            let figures = &news.metrics().subscribers[0];
            figures.queued + figures.in_flight == 0
        })
        .await;
        news.publish("a", "last").await.unwrap();
        while text(&sub).await != "last" {}
    });
}

#[test]
fn receiving_takes_nothing() {
    run(async {
        let node = still().await;
        let news = node.publisher("news").await.unwrap();
        let mut sub = node.subscriber("news").await.unwrap();
        for nth in 0..100 {
            assert!(sub.recv().now_or_never().is_none());
            assert!(sub.recv_batch(2).now_or_never().is_none());
            assert!(sub.next().now_or_never().is_none());
            // It comes while the futures are not looked at, and they are dropped then.
            {
                let (mut one, mut batch) = (Box::pin(sub.recv()), Box::pin(sub.recv_batch(2)));
                assert!((&mut one).now_or_never().is_none() && (&mut batch).now_or_never().is_none());
                news.publish("a", nth.to_string()).await.unwrap();
                until("it has come", || sub.metrics().waiting == 1).await;
            }
            assert_eq!(text(&sub).await, nth.to_string());
        }
    });
}

#[test]
fn a_dropped_receiver_wakes_the_next_one() {
    run(async {
        let node = still().await;
        let news = node.publisher("news").await.unwrap();
        let sub = node.subscriber("news").await.unwrap();
        let mut first = Box::pin(sub.recv());
        assert!((&mut first).now_or_never().is_none());
        let second = async {
            let got = sub.recv().await.unwrap();
            String::from_utf8(got.to_vec()).unwrap()
        };
        let publish = async {
            news.publish("a", "one").await.unwrap();
            until("it has come", || sub.metrics().received == 1).await;
            drop(first);
        };
        assert_eq!(tokio::join!(second, publish).0, "one");
    });
}

#[test]
fn a_subscription_that_nobody_waits_for_stands() {
    run(async {
        let place = Place::new();
        let node = || place.builder().on_current_runtime();
        let (one, two) = (node().await.unwrap(), node().await.unwrap());
        two.wait_for_peers(1).await.unwrap();
        let news = one.publisher("news").await.unwrap();
        let sub = two.subscriber("news").topic("a").await.unwrap();
        sub.wait_for_publishers(1).await.unwrap();
        assert!(sub.subscribe("b").now_or_never().is_none());
        assert!(sub.unsubscribe("a").now_or_never().is_none());
        assert_eq!(sub.patterns(), ["b"]);
        until("both are in force", || sub.publishers() == 1 && news.metrics().patterns == 1).await;
        news.publish("a", "nobody's").await.unwrap();
        news.publish("b", "wanted").await.unwrap();
        assert_eq!(text(&sub).await, "wanted");
    });
}
