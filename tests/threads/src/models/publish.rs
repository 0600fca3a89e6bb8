//! A publisher: threads publish, wait for room and flush, and the node's thread writes what each subscriber has coming.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::explore;
use crate::error::RecvError;
use crate::observe::PublisherMetrics;
use crate::socket::{Publisher, Subscriber, WhenFull};
use crate::stage::{Lane, NodeThread, block_on, lose};

/// Waiting for room comes to no end by itself.
const BLOCK: WhenFull = WhenFull::Block(PATIENCE);
const PATIENCE: Duration = Duration::from_secs(1);

/// A publisher that waits for room, and a subscriber that has none: one message lies there, and one waits for it.
pub(super) fn full(node: &mut NodeThread) -> (Publisher, Arc<Subscriber>, Lane) {
    let (publisher, subscriber, lane) =
        node.news(|publisher| publisher.bound(1, 1000).when_full(BLOCK), |subscriber| subscriber.prefetch(1).strict());
    for name in ["lies there", "waits"] {
        publisher.try_publish("a", name).expect("there is room");
        node.run();
    }
    (publisher, subscriber, lane)
}

/// Receives, and counts what was handed out and what is missing.
#[derive(Clone, Default)]
struct Reader(Arc<Counts>);

#[derive(Default)]
struct Counts {
    handed: AtomicU64,
    missed: AtomicU64,
}

impl Reader {
    /// Until it has heard of so many messages.
    async fn read(self, subscriber: Arc<Subscriber>, count: u64) {
        while self.handed() + self.missed() < count {
            match subscriber.recv().await {
                Ok(_) => _ = self.0.handed.fetch_add(1, Relaxed),
                Err(RecvError::Missed(gap)) => _ = self.0.missed.fetch_add(gap.count, Relaxed),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn handed(&self) -> u64 {
        self.0.handed.load(Relaxed)
    }

    fn missed(&self) -> u64 {
        self.0.missed.load(Relaxed)
    }
}

/// A thread publishes so many messages on one topic.
fn publish(node: &mut NodeThread, publisher: &Publisher, count: u8) {
    let publisher = publisher.clone();
    node.thread(move || {
        for nth in 0..count {
            block_on(publisher.publish("a", vec![nth])).expect("it is open");
            keeps_to_its_bound(&publisher.metrics());
        }
    });
}

/// What waits for the subscriber is within a bound of one, and each of its messages is in one place.
fn keeps_to_its_bound(figures: &PublisherMetrics) {
    for to in &figures.subscribers {
        assert!(to.queued <= figures.bound_messages, "{to:?}");
        assert_eq!(to.matched, to.queued + to.in_flight + to.received + to.dropped.total(), "{to:?}");
    }
}

/// Two threads publish, one of them twice, where there is room for one message, and no more is under way: the subscriber is
/// handed each message or told once that it is missing, also where nothing comes behind it.
fn what_has_no_room(when_full: WhenFull) -> usize {
    explore(2, move |node| {
        let (publisher, subscriber, _) = node.news(
            |publisher| publisher.bound(1, 1000).when_full(when_full),
            |subscriber| subscriber.prefetch(1).strict(),
        );
        publish(node, &publisher, 2);
        publish(node, &publisher, 1);
        let reader = Reader::default();
        node.task(reader.clone().read(subscriber.clone(), 3));
        node.run();
        let figures = publisher.metrics();
        keeps_to_its_bound(&figures);
        assert_eq!((figures.published, reader.handed() + reader.missed()), (3, 3), "{figures:?}");
        assert_eq!((figures.dropped.total(), subscriber.metrics().missed), (reader.missed(), reader.missed()));
        // Somebody who waits for room drops nothing.
        assert!(when_full != BLOCK || reader.missed() == 0);
    })
}

/// The oldest message makes room while the writer looks.
pub fn the_oldest_is_dropped_and_told_once() -> usize {
    what_has_no_room(WhenFull::DropOldest)
}

/// The new message is dropped while the writer looks.
pub fn the_newest_is_dropped_and_told_once() -> usize {
    what_has_no_room(WhenFull::DropNewest)
}

/// A message is replaced by a newer one while the writer looks.
pub fn the_replaced_is_dropped_and_told_once() -> usize {
    what_has_no_room(WhenFull::Latest)
}

/// Who publishes waits until there is room: nothing is dropped.
pub fn who_publishes_waits_for_room() -> usize {
    what_has_no_room(BLOCK)
}

/// A subscriber is given up while it receives: it is told so once, with how much it misses, also where the writer of its
/// lane sleeps, as it may send nothing more.
pub fn a_slow_subscriber_is_given_up_and_told_once() -> usize {
    explore(2, |node| {
        let (publisher, subscriber, _) = node.news(
            |publisher| publisher.bound(1, 1000).when_full(WhenFull::Disconnect),
            |subscriber| subscriber.prefetch(1).strict(),
        );
        publish(node, &publisher, 2);
        publish(node, &publisher, 1);
        let reader = Reader::default();
        node.task(reader.clone().read(subscriber.clone(), 3));
        node.run();
        let figures = publisher.metrics();
        assert_eq!((figures.published, figures.dropped.given_up), (3, reader.missed()));
        assert_eq!(figures.subscribers.len(), usize::from(reader.missed() == 0));
        // What is published afterwards it does not want any more.
        assert!(reader.missed() > 0 || reader.handed() == 3);
    })
}

/// Who has waited for room for long enough publishes all the same, once, also where room comes at that time.
pub fn who_has_waited_for_long_enough_publishes_once() -> usize {
    explore(2, |node| {
        let (publisher, subscriber, _) = full(node);
        publish(node, &publisher, 1);
        let env = node.hall().env().clone();
        node.task(async move { env.ring(env.after(PATIENCE)) });
        let reader = Reader::default();
        node.task(reader.clone().read(subscriber.clone(), 3));
        node.run();
        assert_eq!((publisher.metrics().published, reader.handed() + reader.missed()), (3, 3));
        assert_eq!(publisher.metrics().dropped.total(), reader.missed());
    })
}

/// Who flushes is told once all has come that was published before.
pub fn who_flushes_is_told() -> usize {
    explore(2, |node| {
        let (publisher, subscriber, _) = node.news(|publisher| publisher, |subscriber| subscriber);
        for _ in 0..2 {
            let publisher = publisher.clone();
            node.thread(move || {
                block_on(publisher.publish("a", "news")).expect("it is open");
                block_on(publisher.flush()).expect("the node lives");
                assert!(publisher.metrics().subscribers[0].received >= 1);
            });
        }
        node.run();
        assert_eq!(subscriber.metrics().received, 2);
    })
}

/// The lane is lost while somebody flushes: nobody waits for it; and over the next one all comes, once.
pub fn a_flush_waits_for_no_lane_that_is_lost() -> usize {
    explore(3, |node| {
        let (publisher, subscriber, lane) = node.news(|publisher| publisher, |subscriber| subscriber.strict());
        let flushing = publisher.clone();
        node.thread(move || {
            for name in ["one", "two"] {
                block_on(flushing.publish("a", name)).expect("it is open");
            }
            block_on(flushing.flush()).expect("the node lives");
        });
        node.task(lose(lane.clone()));
        node.run();
        node.join_again(&lane);
        for name in ["one", "two"] {
            let news = subscriber.try_recv().expect("nothing is missing").expect("it has come");
            assert_eq!(news[..], *name.as_bytes());
        }
        assert!(subscriber.try_recv().expect("nothing is missing").is_none(), "it has come twice");
    })
}

/// The last handle is dropped: what was published still comes, and then the lane and the socket end.
pub fn a_publisher_without_handles_ends_once_all_has_come() -> usize {
    explore(3, |node| {
        let (publisher, subscriber, _) = node.news(|publisher| publisher, |subscriber| subscriber);
        node.thread(move || block_on(publisher.publish("a", "news")).expect("it is open"));
        node.run();
        assert_eq!((subscriber.metrics().received, node.hall().ended().len()), (1, 1));
        // The tasks: the publisher's, and of the lane the way there.
        assert!(node.is_over(0) && node.is_over(1));
    })
}

/// The end of the node ends every wait, for room and for what was published.
pub fn the_end_wakes_who_publishes() -> usize {
    explore(2, |node| {
        let (publisher, _subscriber, lane) = full(node);
        node.task(async move { drop(lane.from.close()) });
        let waiting = publisher.clone();
        node.thread(move || assert!(block_on(waiting.publish("a", "news")).is_err(), "there was no room"));
        let flushing = publisher.clone();
        node.thread(move || assert!(block_on(flushing.flush()).is_err(), "not all of it has come"));
        node.run();
    })
}
