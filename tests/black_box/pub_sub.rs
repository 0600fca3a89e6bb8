//! Publishers and subscribers between real processes over real sockets.

use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Place, Role, run, until};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use meshmq::{
    Event, InvalidTopic, Node, OpenError, Publisher, RecvError, SendErrorKind, Subscriber, SubscriberBuilder, WhenFull,
};

/// A role: subscribes, says `ready`, and then `topic number missed` of each message. Arguments: patterns, by spaces, and
/// how many messages it takes before it hangs; 0: all.
#[test]
fn subscriber() {
    let Some(role) = Role::of("subscriber") else { return };
    run(async {
        let node = role.builder().name("subscriber").await.unwrap();
        let mut sub = node.subscriber("news").prefetch(100);
        for pattern in role.args[0].split_whitespace() {
            sub = sub.topic(pattern);
        }
        let sub = sub.await.unwrap();
        role.say(format!("ready {}", sub.publishers()));
        let most: u64 = role.arg(1);
        for taken in 1.. {
            let Ok(news) = sub.recv().await else { return };
            let missed = news.missed().map_or(0, |gap| gap.count);
            role.say(format!("{} {} {missed}", news.topic(), number(&news)));
            if taken == most {
                std::future::pending::<()>().await;
            }
        }
    });
}

/// A role: publishes numbers as fast as it can, from when it was told `go`, until it is told `stop`; says `published N`.
/// Arguments: topics, by spaces, in turn.
#[test]
fn publisher() {
    let Some(role) = Role::of("publisher") else { return };
    run(async {
        let node = role.builder().name("publisher").await.unwrap();
        let news = node.publisher("news").await.unwrap();
        role.say("ready");
        let topics: Vec<_> = role.args[0].split_whitespace().collect();
        let told = std::thread::spawn(|| std::io::read_to_string(std::io::stdin()));
        let mut published = 0;
        while !told.is_finished() {
            news.publish(topics[published as usize % topics.len()], body(published)).await.unwrap();
            published += 1;
            if published % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        role.say(format!("published {published}"));
        news.flush().await.unwrap();
        role.say("flushed");
    });
}

fn body(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().unwrap())
}

/// Topic, number and what was missed of what a subscriber said.
fn heard(line: &str) -> (String, u64, u64) {
    let parts: Vec<_> = line.split(' ').collect();
    (parts[0].into(), parts[1].parse().unwrap(), parts[2].parse().unwrap())
}

/// Two nodes that have a link.
async fn two_nodes(place: &Place) -> (Node, Node) {
    let one = place.builder().name("one").await.unwrap();
    let two = place.builder().name("two").await.unwrap();
    two.wait_for_peers(1).await.unwrap();
    (one, two)
}

/// A subscriber on another node, of which the publisher has word: what it publishes from now on comes.
async fn met(news: &Publisher, sub: SubscriberBuilder) -> Subscriber {
    let before = news.subscribers();
    let sub = sub.await.unwrap();
    news.wait_for_subscribers(before + 1).await.unwrap();
    sub
}

async fn recv(sub: &Subscriber) -> (String, u64, u64) {
    let news = tokio::time::timeout(PATIENCE, sub.recv()).await.expect("a message comes").unwrap();
    (news.topic().to_owned(), number(&news), news.missed().map_or(0, |gap| gap.count))
}

#[test]
fn what_is_published_after_a_subscription_is_confirmed_comes_in_whatever_order_they_start() {
    for subscriber_first in [false, true] {
        let place = Place::new();
        run(async {
            let node = place.builder().await.unwrap();
            let started = if subscriber_first {
                let subscriber = place.start("subscriber", &[&"a.> b", &0]);
                assert_eq!(subscriber.hear(), "ready 0");
                Some(subscriber)
            } else {
                None
            };
            let news = node.publisher("news").await.unwrap();
            let subscriber = match started {
                Some(subscriber) => {
                    // Met later: it is known when its subscriptions are in force.
                    news.wait_for_subscribers(1).await.unwrap();
                    subscriber
                }
                None => {
                    let subscriber = place.start("subscriber", &[&"a.> b", &0]);
                    // Here it is the subscriber that knows.
                    assert_eq!(subscriber.hear(), "ready 1");
                    subscriber
                }
            };
            for (nth, topic) in ["a.x", "a", "b", "b.x", "a.x.y", "c"].iter().enumerate() {
                news.publish(topic, body(nth as u64)).await.unwrap();
            }
            news.flush().await.unwrap();
            let lines: Vec<_> = (0..3).map(|_| subscriber.hear()).collect();
            assert_eq!(lines, ["a.x 0 0", "b 2 0", "a.x.y 4 0"]);
            let metrics = news.metrics();
            assert_eq!((metrics.published, metrics.subscribers[0].matched), (6, 3), "what nobody wants is not sent");
        });
    }
}

#[test]
fn sockets_of_one_node_meet_too() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let news = node.publisher("news").await.unwrap();
        let sub = node.subscriber("news").topic("a.*").await.unwrap();
        assert_eq!((sub.publishers(), news.subscribers()), (1, 1));
        news.publish("a.b", body(1)).await.unwrap();
        news.publish("b.a", body(2)).await.unwrap();
        news.publish("a.c", body(3)).await.unwrap();
        assert_eq!(recv(&sub).await, ("a.b".into(), 1, 0));
        assert_eq!(recv(&sub).await, ("a.c".into(), 3, 0));
        let published = sub.recv().now_or_never();
        assert!(published.is_none(), "nothing else");
    });
}

#[test]
fn everything_that_goes_with_a_message_comes() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let news = one.publisher("news").await.unwrap();
        let sub = met(&news, two.subscriber("news")).await;
        let large = vec![7; 3 << 20];
        let message = meshmq::NewMessage::new(large.clone()).header("kind", "large").header("kind", "again");
        news.publish("a.large.one", message).await.unwrap();
        news.publish("a", "").await.unwrap();
        let got = sub.recv().await.unwrap();
        assert_eq!((got.topic(), got.sender(), &got[..]), ("a.large.one", one.id(), &large[..]));
        assert_eq!(got.headers().iter().collect::<Vec<_>>(), [("kind", "large"), ("kind", "again")]);
        assert_eq!((got.id().node, got.id().sequence), (one.id(), 0));
        let got = sub.recv().await.unwrap();
        assert_eq!((got.topic(), got.len(), got.headers().len(), got.id().sequence), ("a", 0, 0, 1));
    });
}

#[test]
fn subscriptions_change_on_a_live_subscriber() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let news = one.publisher("news").await.unwrap();
        let sub = met(&news, two.subscriber("news").topic("a")).await;
        let mut published = 0;
        let mut publish = async |topic: &str| {
            published += 1;
            news.publish(topic, body(published)).await.unwrap();
            published
        };
        publish("b").await;
        sub.subscribe("b").await.unwrap();
        sub.subscribe("*").await.unwrap();
        let (b, a) = (publish("b").await, publish("a").await);
        assert_eq!((recv(&sub).await.1, recv(&sub).await.1), (b, a), "each once, however many patterns match");
        sub.unsubscribe("b").await.unwrap();
        sub.unsubscribe("*").await.unwrap();
        publish("b").await;
        let a = publish("a").await;
        assert_eq!(recv(&sub).await.1, a);
        assert_eq!(sub.patterns(), ["a"]);
        sub.unsubscribe("a").await.unwrap();
        sub.unsubscribe("never").await.unwrap();
        publish("a").await;
        sub.subscribe(">").await.unwrap();
        let last = publish("x.y.z").await;
        assert_eq!(recv(&sub).await.1, last);
    });
}

#[test]
fn retained_messages_come_first_and_once() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let news = one.publisher("news").retain_last(2).await.unwrap();
        for (nth, topic) in ["a", "b", "a", "a", "c"].iter().enumerate() {
            news.publish(topic, body(nth as u64)).await.unwrap();
        }
        let sub = met(&news, two.subscriber("news").topic("a")).await;
        news.publish("a", body(5)).await.unwrap();
        for number in [2, 3, 5] {
            assert_eq!(recv(&sub).await, ("a".into(), number, 0));
        }
        // What another pattern has brought does not come again.
        sub.subscribe(">").await.unwrap();
        news.publish("b", body(6)).await.unwrap();
        assert_eq!(recv(&sub).await, ("b".into(), 1, 0));
        assert_eq!(recv(&sub).await, ("c".into(), 4, 0));
        assert_eq!(recv(&sub).await, ("b".into(), 6, 0));
        assert_eq!(news.metrics().retained, 5);
    });
}

#[test]
fn a_slow_subscriber_is_told_what_it_missed_to_the_message() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let news = one.publisher("news").bound(10, 1 << 20).await.unwrap();
        let sub = met(&news, two.subscriber("news").prefetch(5)).await;
        let strict = met(&news, two.subscriber("news").prefetch(5).strict()).await;
        let mut events = two.events();
        for nth in 0..1000 {
            news.publish("a", body(nth)).await.unwrap();
        }
        let slow = news.metrics();
        let slow = &slow.subscribers[0];
        assert_eq!((slow.queued <= 10, slow.matched), (true, 1000));
        let (mut handed, mut missed, mut next) = (0, 0, 0);
        while next < 1000 {
            let (_, number, gap) = recv(&sub).await;
            assert_eq!(number, next + gap, "the gap is exact and in its place");
            (handed, missed, next) = (handed + 1, missed + gap, number + 1);
        }
        assert_eq!(handed + missed, 1000);
        assert!(missed > 900, "{missed}");
        let metrics = news.metrics();
        let figures = metrics.subscribers.iter().find(|one| one.dropped.total() == missed);
        assert!(figures.is_some(), "{missed} were dropped: {metrics:?}");
        assert_eq!(sub.metrics().missed, missed);
        // The strict one is told by errors.
        let (mut seen, mut next) = (0, 0);
        while next < 1000 {
            match strict.recv().await {
                Ok(news) => {
                    assert_eq!((number(&news), news.missed()), (next, None));
                    (seen, next) = (seen + 1, next + 1);
                }
                Err(RecvError::Missed(gap)) => {
                    assert_eq!((gap.publisher, gap.exact), (one.id(), true));
                    next += gap.count;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(seen < 100);
        let mut told = 0;
        while let Some(event) = events.try_recv() {
            if let Event::MessagesMissed { publisher, channel, .. } = event {
                assert_eq!((publisher, &channel[..]), (one.id(), "news"));
                told += 1;
            }
        }
        assert!((2..10).contains(&told), "at once, and not for each message: {told}");
    });
}

#[test]
fn a_subscriber_that_hangs_costs_the_others_nothing() {
    let place = Place::new();
    run(async {
        let node = place.builder().await.unwrap();
        let news = node.publisher("news").bound(100, 1 << 20).await.unwrap();
        let hung = place.start("subscriber", &[&">", &1]);
        let well = place.start("subscriber", &[&">", &0]);
        hung.hear_this("ready 1");
        well.hear_this("ready 1");
        for nth in 0..5000 {
            news.publish("a", body(nth)).await.unwrap();
            // The one that is well is never behind by its bound.
            if nth % 50 == 49 {
                let arrived = || {
                    let metrics = news.metrics();
                    metrics.subscribers.iter().map(|one| one.received).max().unwrap_or(0) + 50 > nth
                };
                until("it arrives", arrived).await;
            }
        }
        for nth in 0..5000 {
            assert_eq!(heard(&well.hear()), ("a".into(), nth, 0));
        }
        let slow = news.metrics().subscribers.iter().map(|one| one.dropped.oldest).max();
        assert!(slow > Some(4000), "{slow:?}");
    });
}

#[test]
fn policies_do_what_they_say() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let open = async |channel: &str, policy| {
            let news = one.publisher(channel).bound(10, 1 << 20).when_full(policy).await.unwrap();
            let sub = met(&news, two.subscriber(channel).prefetch(1)).await;
            (news, sub)
        };
        let publish = async |news: &Publisher| {
            for nth in 0..100 {
                news.publish(["a", "b"][nth as usize % 2], body(nth)).await.unwrap();
            }
        };
        let all = async |sub: &Subscriber, until: u64| {
            let (mut numbers, mut next) = (Vec::new(), 0);
            while next < until {
                let (_, number, gap) = recv(sub).await;
                assert_eq!(number, next + gap);
                numbers.push(number);
                next = number + 1;
            }
            numbers
        };

        let (news, sub) = open("oldest", WhenFull::DropOldest).await;
        publish(&news).await;
        let numbers = all(&sub, 100).await;
        assert!((10..20).contains(&numbers.len()) && numbers.ends_with(&[97, 98, 99]), "{numbers:?}");

        let (news, sub) = open("newest", WhenFull::DropNewest).await;
        publish(&news).await;
        until("what waits has gone", || {
            let _ = sub.try_recv();
            news.metrics().subscribers[0].queued == 0
        })
        .await;
        let figures = &news.metrics().subscribers[0];
        assert!(figures.dropped.newest >= 80 && figures.dropped.oldest == 0, "{figures:?}");

        let (news, sub) = open("latest", WhenFull::Latest).await;
        publish(&news).await;
        let numbers = all(&sub, 100).await;
        assert!(numbers.len() <= 6 && numbers.ends_with(&[98, 99]), "{numbers:?}");

        let (news, sub) = open("disconnect", WhenFull::Disconnect).await;
        let (mut here, mut there) = (one.events(), two.events());
        publish(&news).await;
        let given_up = async |events: &mut meshmq::Events| loop {
            match events.recv().await.unwrap() {
                Event::SubscriberDisconnected { subscriber, dropped, .. } => return (subscriber, dropped),
                Event::Disconnected { publisher, missed, .. } => return (publisher, missed),
                _ => {}
            }
        };
        let (subscriber, dropped) = given_up(&mut here).await;
        assert_eq!(subscriber, two.id());
        assert_eq!(given_up(&mut there).await, (one.id(), dropped));
        assert_eq!(news.subscribers(), 0);
        // It is not waited for, and nothing comes from it.
        sub.subscribe("c").await.unwrap();

        let (news, sub) = open("block", WhenFull::Block(PATIENCE)).await;
        let (published, numbers) = tokio::join!(publish(&news), all(&sub, 100));
        assert_eq!(((), numbers), (published, (0..100).collect::<Vec<_>>()), "nothing is dropped");
        assert_eq!(news.metrics().dropped.total(), 0);

        let (news, sub) = open("impatient", WhenFull::Block(Duration::from_millis(20))).await;
        let full = loop {
            // What the subscriber takes in by itself makes room for one more: from then on it stays full.
            let taken = news.metrics().subscribers[0].received;
            match news.try_publish("a", body(0)) {
                Err(refused) if taken == 1 => break refused,
                _ => tokio::task::yield_now().await,
            }
        };
        assert_eq!((full.kind, &full.message.body()[..]), (SendErrorKind::Full, &body(0)[..]));
        let began = Instant::now();
        news.publish("a", body(1)).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert_eq!(news.metrics().dropped.oldest, 1);
        drop(sub);
    });
}

#[test]
fn a_publish_that_waits_and_is_dropped_has_handed_the_message_to_nobody() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let news = node.publisher("news").bound(1, 1 << 20).when_full(WhenFull::Block(PATIENCE)).await.unwrap();
        let slow = node.subscriber("news").prefetch(1).await.unwrap();
        let other = node.subscriber("news").await.unwrap();
        let mut published = 0;
        loop {
            // What the slow one takes in by itself makes room for one more: from then on it stays full.
            let taken = news.metrics().subscribers.iter().map(|one| one.received).min();
            if news.try_publish("a", body(published)).is_ok() {
                published += 1;
                let all = || news.metrics().subscribers.iter().any(|one| one.received == published);
                until("the other one has it", all).await;
            } else if taken == Some(1) {
                break;
            } else {
                tokio::task::yield_now().await;
            }
        }
        let waiting = news.publish("a", body(1000));
        assert!(waiting.now_or_never().is_none(), "it waits");
        for _ in 0..published {
            recv(&other).await;
            recv(&slow).await;
        }
        news.publish("a", body(1001)).await.unwrap();
        assert_eq!(recv(&other).await.1, 1001);
        assert_eq!(recv(&slow).await.1, 1001);
    });
}

#[test]
fn a_killed_publisher_ends_the_wait_for_it_and_another_one_is_heard() {
    let place = Place::new();
    let mut stopped = place.start("publisher", &[&"a"]);
    stopped.hear_this("ready");
    run(async {
        let node = place.builder().await.unwrap();
        node.wait_for_peers(1).await.unwrap();
        node.settled().await;
        stopped.stop();
        let began = Instant::now();
        let opening = node.subscriber("news");
        let opened = tokio::spawn(async move { opening.await });
        // A stopped publisher does not hold it for longer than something that is owed may be.
        let sub = opened.await.unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        stopped.kill();
        let mut other = place.start("publisher", &[&"a"]);
        other.hear_this("ready");
        sub.wait_for_publishers(1).await.unwrap();
        let first = recv(&sub).await.1;
        let second = recv(&sub).await.1;
        assert!(second > first);
        other.wait();
    });
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let news = node.publisher("news").bound(10, 1000).await.unwrap();
        for (topic, why) in [
            ("", InvalidTopic::Empty { part: 1 }),
            ("a.", InvalidTopic::Empty { part: 2 }),
            (".a", InvalidTopic::Empty { part: 1 }),
            ("a..b", InvalidTopic::Empty { part: 2 }),
            ("a.*", InvalidTopic::Wildcard { character: '*', at: 2 }),
            ("a.>", InvalidTopic::Wildcard { character: '>', at: 2 }),
            ("a\n", InvalidTopic::Control { at: 1 }),
            ("a\u{85}", InvalidTopic::Control { at: 1 }),
            (&"x".repeat(256), InvalidTopic::TooLong { len: 256 }),
            (&["x"; 33].join("."), InvalidTopic::TooManyParts),
        ] {
            let refused = news.publish(topic, "body").await.unwrap_err();
            assert_eq!(
                (refused.kind, &refused.message.body()[..]),
                (SendErrorKind::Topic(why), &b"body"[..]),
                "{topic}"
            );
        }
        for topic in ["x".repeat(255), ["x"; 32].join("."), "ä.\u{1f600}".into()] {
            news.publish(topic, "body").await.unwrap();
        }
        let refused = news.publish("a", vec![0; 999]).await.unwrap_err();
        assert_eq!(refused.kind, SendErrorKind::TooLarge { len: 1001, limit: 1000 });
        for (pattern, why) in [
            ("a*", InvalidTopic::Misplaced { character: '*', at: 1 }),
            ("*a", InvalidTopic::Misplaced { character: '*', at: 0 }),
            ("a.>.b", InvalidTopic::Misplaced { character: '>', at: 2 }),
            ("a..>", InvalidTopic::Empty { part: 2 }),
        ] {
            let refused = node.subscriber("news").topic(pattern).await.unwrap_err();
            assert_eq!(refused, OpenError::Topic(why), "{pattern}");
        }
        let zero = [
            node.publisher("x").bound(0, 1).await.unwrap_err(),
            node.publisher("x").bound(1, 0).await.unwrap_err(),
            node.publisher("x").retain_bound(0, 1).await.unwrap_err(),
            node.subscriber("x").prefetch(0).await.unwrap_err(),
        ];
        assert!(zero.iter().all(|error| matches!(error, OpenError::Zero { .. })), "{zero:?}");
        let sub = node.subscriber("many").await.unwrap();
        let many = (0..10_001).fold(node.subscriber("many"), |sub, nth| sub.topic(format!("t{nth}")));
        assert_eq!(many.await.unwrap_err(), OpenError::TooManyPatterns { limit: 10_000 });
        drop(sub);
    });
}

#[test]
fn the_end_of_a_node_ends_its_sockets() {
    run(async {
        let place = Place::new();
        let (one, two) = two_nodes(&place).await;
        let news = one.publisher("news").await.unwrap();
        let mut sub = met(&news, two.subscriber("news")).await;
        news.publish("a", body(1)).await.unwrap();
        // What was published arrives before the node is gone.
        let (undelivered, got) = tokio::join!(one.shutdown(PATIENCE), sub.recv());
        assert!(undelivered.is_empty());
        assert_eq!(number(&got.unwrap()), 1);
        let refused = news.publish("a", body(2)).await.unwrap_err();
        assert_eq!(refused.kind, SendErrorKind::Closed);
        assert!(news.wait_for_subscribers(5).await.is_err());
        two.shutdown(Duration::ZERO).await;
        assert!(matches!(sub.recv().await, Err(RecvError::Closed)));
        assert!(sub.next().await.is_none());
        assert!(sub.subscribe("b").await.is_err());
    });
}

#[test]
fn a_subscriber_is_a_stream() {
    run(async {
        let node = Node::isolated().await.unwrap();
        let news = node.publisher("news").await.unwrap();
        let sub = node.subscriber("news").await.unwrap();
        news.publish_batch((0..10).map(|nth| ("a", body(nth)))).await.unwrap();
        let numbers: Vec<_> = sub.take(10).map_ok(|news| number(&news)).try_collect().await.unwrap();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    });
}

/// A thousand subscribers come while somebody publishes without end: whoever has its socket misses nothing from then on.
#[test]
fn nothing_is_missed_after_joining_under_load() {
    let place = Place::new();
    let mut source = place.start("publisher", &[&"a b"]);
    source.hear_this("ready");
    run(async {
        let node = place.builder().await.unwrap();
        node.wait_for_peers(1).await.unwrap();
        node.settled().await;
        for join in 0..200 {
            let sub = node.subscriber("news").topic("a").prefetch(1000).await.unwrap();
            assert_eq!(sub.publishers(), 1, "join {join}");
            let mut last = None;
            for _ in 0..5 {
                let (_, number, missed) = recv(&sub).await;
                assert_eq!(missed, 0, "join {join}");
                assert!(last.is_none_or(|last| number == last + 2), "join {join}: {number} after {last:?}");
                last = Some(number);
            }
        }
    });
    let _ = source.wait();
}
