//! A subscriber: threads receive, subscribe and close, and the node's thread brings what was published.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;

use super::explore;
use super::publish::full;
use crate::error::RecvError;
use crate::message::Publication;
use crate::socket::Publisher;
use crate::stage::{block_on, lose, poll_once};

/// Publishes so many messages, as a task of the node's thread.
async fn publish(publisher: Publisher, count: u8) {
    for nth in 0..count {
        publisher.publish("a", vec![nth]).await.expect("it is open");
    }
}

/// Two threads receive: each message wakes one that takes it, and no message goes to both.
pub fn who_receives_news_waits_for_it() -> usize {
    explore(2, |node| {
        let (publisher, subscriber, _) = node.news(|publisher| publisher, |subscriber| subscriber);
        node.task(publish(publisher.clone(), 2));
        let sum = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let (subscriber, sum) = (subscriber.clone(), sum.clone());
            node.thread(move || {
                let news = block_on(subscriber.recv()).expect("it is open");
                sum.fetch_add(1 << (8 * news[0]), Relaxed);
            });
        }
        node.run();
        assert_eq!(sum.load(Relaxed), 0x0101, "each message once");
    })
}

/// A receiver that waits and is dropped has taken nothing, and another one has what comes.
pub fn a_dropped_receiver_of_news_wakes_the_next_one() -> usize {
    explore(2, |node| {
        let (publisher, subscriber, _) = node.news(|publisher| publisher, |subscriber| subscriber);
        node.task(publish(publisher.clone(), 2));
        let giving_up = subscriber.clone();
        node.thread(move || {
            let _ = poll_once(pin!(giving_up.recv()));
        });
        let receiving = subscriber.clone();
        node.thread(move || drop(block_on(receiving.recv()).expect("it is open")));
        node.run();
        let figures = subscriber.metrics();
        assert_eq!((figures.received, figures.handed + figures.waiting), (2, 2));
    })
}

/// One thread publishes, another receives, with room for one message on the way: it is given again and again.
pub fn news_from_thread_to_thread() -> usize {
    explore(1, |node| {
        let (publisher, subscriber, _) = node.news(|publisher| publisher, |subscriber| subscriber.prefetch(1).strict());
        let publishing = publisher.clone();
        node.thread(move || block_on(publish(publishing, 3)));
        let receiving = subscriber.clone();
        node.thread(move || {
            for nth in 0..3 {
                assert_eq!(block_on(receiving.recv()).expect("nothing is missing")[0], nth);
            }
        });
        node.run();
        assert_eq!(publisher.metrics().dropped.total(), 0);
    })
}

/// A closed subscriber hands nothing out, whoever waits is told so, and its publisher forgets it.
pub fn a_closed_subscriber_hands_nothing_out() -> usize {
    explore(2, |node| {
        let (publisher, subscriber, _) = node.news(|publisher| publisher, |subscriber| subscriber);
        node.task(publish(publisher.clone(), 1));
        let closing = subscriber.clone();
        node.thread(move || {
            closing.close();
            assert!(closing.try_recv().is_err(), "it was handed out after the close");
        });
        let receiving = subscriber.clone();
        node.thread(move || while block_on(receiving.recv()).is_ok() {});
        node.run();
        assert_eq!((publisher.subscribers(), publisher.metrics().published), (0, 1));
        assert_eq!(subscriber.metrics().waiting, 0);
        // Of the lane the way there.
        assert!(node.is_over(1));
    })
}

/// A subscriber leaves while somebody waits for its room: nobody waits any more.
pub fn who_waits_for_the_room_of_one_that_leaves_goes_on() -> usize {
    explore(3, |node| {
        let (publisher, subscriber, _) = full(node);
        let waiting = publisher.clone();
        node.thread(move || block_on(waiting.publish("a", "news")).expect("it is open"));
        node.thread(move || drop(subscriber));
        node.run();
        assert_eq!((publisher.subscribers(), publisher.metrics().published), (0, 3));
    })
}

/// A subscription is in force when who has asked for it is told so: what is published then comes.
pub fn a_subscription_is_in_force_when_that_is_told() -> usize {
    explore(2, |node| {
        let (publisher, subscriber, _) = node.news(|publisher| publisher, |subscriber| subscriber.topic("a"));
        let (publishing, subscribing) = (publisher.clone(), subscriber.clone());
        node.thread(move || {
            block_on(subscribing.subscribe("b")).expect("its publisher confirms");
            block_on(publishing.publish("b", "news")).expect("it is open");
        });
        let publishing = publisher.clone();
        node.thread(move || block_on(publish(publishing, 1)));
        node.run();
        assert_eq!((subscriber.metrics().received, publisher.metrics().subscribers[0].patterns), (2, 2));
    })
}

/// The lane is lost while messages come and are received: over the next one the rest of them comes, each once.
pub fn a_lane_that_is_lost_loses_no_news() -> usize {
    explore(2, |node| {
        let (publisher, subscriber, lane) =
            node.news(|publisher| publisher, |subscriber| subscriber.prefetch(1).strict());
        let publishing = publisher.clone();
        node.thread(move || block_on(publish(publishing, 2)));
        node.task(lose(lane.clone()));
        let (receiving, count) = (subscriber.clone(), Arc::new(AtomicUsize::new(0)));
        let counting = count.clone();
        node.thread(move || {
            if let Poll::Ready(next) = poll_once(pin!(receiving.recv())) {
                in_turn(next, &counting);
            }
        });
        node.run();
        node.join_again(&lane);
        while let Some(next) = subscriber.try_recv().transpose() {
            in_turn(next, &count);
            // There is room for another one.
            node.run();
        }
        assert_eq!(count.load(Relaxed), 2);
    })
}

/// The next message, with nothing missing before it.
fn in_turn(next: Result<Publication, RecvError>, count: &AtomicUsize) {
    let next = next.expect("nothing is missing");
    assert_eq!(usize::from(next[0]), count.fetch_add(1, Relaxed));
}
