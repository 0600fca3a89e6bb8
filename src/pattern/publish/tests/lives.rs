//! Who waits, is lost, leaves or is given up; what makes room, is replaced or is too large; and what is counted of all
//! that.

use std::sync::Arc;
use std::task::Wake;
use std::time::Duration;

use super::*;
use crate::wire::limits::MISSED_EVENTS;

/// A task of its own.
struct Sleeper;

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {}
}

fn sleeper() -> Waker {
    Waker::from(Arc::new(Sleeper))
}

/// How many are to be woken.
fn woken(publisher: &mut Publisher) -> usize {
    publisher.take_effects().wakers.len()
}

/// How often this one is.
fn wakes(publisher: &mut Publisher, waker: &Waker) -> usize {
    publisher.take_effects().wakers.iter().filter(|other| other.will_wake(waker)).count()
}

/// What is in flight, and what has arrived, of the only subscriber.
fn progress(publisher: &Publisher) -> (u64, u64) {
    let figures = &publisher.figures().subscribers[0];
    (figures.in_flight, figures.received)
}

#[test]
fn a_writer_is_woken_when_there_is_something_for_it_and_not_otherwise() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let p = &mut publisher;
    let one = Subscriber::of_limited(p, 1, 10);
    one.sleeps(p);
    one.begin(p, 1, "a");
    assert_eq!(woken(p), 1, "a confirmation");
    one.sleeps(p);
    publish(p, "a", "1");
    assert_eq!(woken(p), 0, "no credit");
    one.credit(p, 1);
    assert_eq!(woken(p), 1, "credit for what waits");
    assert_eq!(one.hear(p).0, ["1"]);
    one.sleeps(p);
    publish(p, "a", "2");
    assert_eq!(woken(p), 0, "the credit is spent");
    one.credit(p, 3);
    one.sleeps(p);
    one.credit(p, 4);
    one.received(p, 2);
    assert_eq!(woken(p), 0, "nothing waits");
    publish(p, "a", "3");
    assert_eq!(woken(p), 1, "a message, and credit");
    one.sleeps(p);
    one.credit(p, 4);
    publish(p, "a", "4");
    one.sleeps(p);
    publish(p, "a", "more than ten");
    assert_eq!(woken(p), 1, "that a message is missing costs no credit");
    assert_eq!(one.hear(p).0, ["gap 1"]);
    one.sleeps(p);
    one.subscribe(p, 2, None, false, &[(true, "b")]).unwrap();
    assert_eq!(woken(p), 1, "a change");
}

#[test]
fn without_credit_for_a_message_none_is_sent() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let one = Subscriber::new(&mut publisher, 1);
    one.begin(&mut publisher, 1, "a");
    one.hear(&mut publisher);
    ["1", "2", "3"].into_iter().for_each(|body| publish(&mut publisher, "a", body));
    for (credit, hears) in [(0, &[][..]), (1, &["1"]), (3, &["2", "3"])] {
        one.credit(&mut publisher, credit);
        assert_eq!(one.hear(&mut publisher).0, hears);
        assert_eq!(one.hear(&mut publisher), (Vec::new(), Next::Wait), "all is sent that may be");
    }
}

#[test]
fn credit_in_bytes_is_exceeded_by_less_than_a_message() {
    for (bytes, messages) in [(1, 1), (99, 1), (100, 1), (101, 2), (250, 3), (300, 3), (301, 4)] {
        let mut publisher = publisher(Policy::DropOldest, 10);
        let one = Subscriber::new(&mut publisher, 1);
        one.begin(&mut publisher, 1, "a");
        // Each counts two bytes more.
        (0..10).for_each(|_| publish(&mut publisher, "a", &"x".repeat(98)));
        one.hear(&mut publisher);
        one.numbers(&mut publisher, to_sender::CREDIT, &[100, bytes]).unwrap();
        assert_eq!(one.hear(&mut publisher).0.len(), messages, "{bytes}");
        assert_eq!(one.hear(&mut publisher).0.len(), 0, "{bytes}");
    }
}

#[test]
fn who_waits_for_room_is_woken_when_some_may_have_come() {
    let full = || {
        let mut publisher = publisher(Policy::Block, 1);
        let slow = Subscriber::at_work(&mut publisher, 1, "a");
        slow.sleeps(&mut publisher);
        publish(&mut publisher, "a", "1");
        let message = NewMessage::new("2");
        assert_eq!(publisher.publish("a", &message, true, Instant::now()), Err(Refused::Full));
        let waker = sleeper();
        publisher.wait(&mut Ticket::default(), &waker);
        publisher.take_effects();
        (publisher, slow, waker)
    };
    type Event = fn(&mut Publisher, &Subscriber);
    for (event, what, expected) in [
        ((|p, slow| drop(slow.hear(p))) as Event, "the message was sent", 1),
        (|p, slow| slow.say(p, to_sender::CLOSING, &[]).unwrap(), "the subscriber leaves", 1),
        (|p, slow| p.close_lane(slow.lane, Instant::now()), "its lane is lost", 1),
        (|p, _| p.close(), "the publisher ends", 1),
        (|p, slow| slow.credit(p, 200), "there is more credit only", 0),
    ] {
        let (mut p, slow, waker) = full();
        event(&mut p, &slow);
        assert_eq!(wakes(&mut p, &waker), expected, "{what}");
    }
    let (mut p, slow, waker) = full();
    slow.hear(&mut p);
    p.take_effects();
    p.wait(&mut Ticket::default(), &waker);
    slow.hear(&mut p);
    assert_eq!(wakes(&mut p, &waker), 0, "nothing was there to be sent");
}

#[test]
fn who_does_not_wait_for_room_any_more_is_not_woken() {
    let mut publisher = publisher(Policy::Block, 1);
    let one = Subscriber::at_work(&mut publisher, 1, "a");
    publish(&mut publisher, "a", "1");
    let (mut stays, mut goes) = (Ticket::default(), Ticket::default());
    let (staying, going) = (sleeper(), sleeper());
    publisher.wait(&mut stays, &staying);
    publisher.wait(&mut goes, &going);
    publisher.forget(&mut goes);
    one.hear(&mut publisher);
    let wakers = publisher.take_effects().wakers;
    assert!(wakers.iter().any(|waker| waker.will_wake(&staying)));
    assert!(!wakers.iter().any(|waker| waker.will_wake(&going)));
}

#[test]
fn a_lane_waits_while_it_has_nothing_to_write_and_ends_only_when_its_publisher_does() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let one = Subscriber::at_work(&mut publisher, 1, "a");
    assert_eq!(one.hear(&mut publisher).1, Next::Write);
    assert_eq!(one.hear(&mut publisher).1, Next::Wait, "all has come, but more may");
    publish(&mut publisher, "a", "1");
    assert_eq!(one.hear(&mut publisher).1, Next::Write);
    one.received(&mut publisher, 1);
    assert_eq!(one.hear(&mut publisher).1, Next::Wait);
    publisher.close_lane(one.lane, Instant::now());
    assert_eq!(one.hear(&mut publisher).1, Next::Finish, "it is not there any more");
}

#[test]
fn a_closed_publisher_ends_each_lane_once_all_has_come() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let p = &mut publisher;
    let (one, done, lost) =
        (Subscriber::at_work(p, 1, "a"), Subscriber::at_work(p, 2, "b"), Subscriber::at_work(p, 3, "a"));
    let new = Subscriber::new(p, 4);
    p.close_lane(lost.lane, Instant::now());
    publish(p, "a", "1");
    [&one, &done, &new].into_iter().for_each(|lane| lane.sleeps(p));
    assert!(!p.is_closed());
    p.close();
    assert!(p.is_closed());
    assert_eq!(woken(p), 3, "each lane that is there");
    assert_eq!(p.publish("a", &NewMessage::new("2"), false, Instant::now()), Err(Refused::Closed));
    assert_eq!(p.views().len(), 2, "nothing is kept for one that is lost");
    assert_eq!(done.hear(p), (Vec::new(), Next::Finish));
    assert_eq!(new.hear(p), (Vec::new(), Next::Finish), "it has nothing coming");
    assert_eq!(one.hear(p), (Vec::new(), Next::Wait), "a message is on its way");
    one.received(p, 1);
    assert_eq!(woken(p), 1);
    assert_eq!(one.hear(p), (Vec::new(), Next::Finish));
    p.close_lane(one.lane, Instant::now());
    assert_eq!(p.views().len(), 1, "nor for one that is lost later");
}

#[test]
fn a_subscriber_that_closes_is_no_more_and_its_lane_ends() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let p = &mut publisher;
    let one = Subscriber::at_work(p, 1, "a");
    publish(p, "a", "1");
    one.sleeps(p);
    assert_eq!((p.subscribers(), p.figures().patterns), (1, 1));
    one.say(p, to_sender::CLOSING, &[]).unwrap();
    assert_eq!((p.subscribers(), p.figures().patterns), (0, 0));
    let effects = p.take_effects();
    assert_eq!((effects.wakers.len(), effects.subscribers, effects.settled), (1, true, true));
    assert_eq!(one.hear(p), (Vec::new(), Next::Finish));
    assert!(one.say(p, 0x3f, &[]).is_ok(), "what it says then is of no account");
}

#[test]
fn who_flushes_waits_for_what_those_who_are_connected_have_coming() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let p = &mut publisher;
    assert!(p.is_settled() && p.settle(&mut p.due()), "nobody is there");
    let (one, two) = (Subscriber::at_work(p, 1, "a"), Subscriber::at_work(p, 2, "a"));
    assert!(p.is_settled());
    publish(p, "a", "1");
    let mut due = p.due();
    assert!(!p.is_settled());
    publish(p, "a", "later");
    [&one, &two].into_iter().for_each(|lane| drop(lane.hear(p)));
    assert!(!p.settle(&mut due));
    one.received(p, 1);
    assert!(!p.settle(&mut due), "the other one has not");
    two.received(p, 1);
    assert!(p.settle(&mut due));
    assert!(!p.is_settled(), "what was published since is on its way");
    [&one, &two].into_iter().for_each(|lane| lane.received(p, 2));
    assert!(p.is_settled());
}

#[test]
fn who_flushes_waits_for_nobody_who_is_gone_nor_for_who_came_in_its_place() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let p = &mut publisher;
    let (lost, left) = (Subscriber::at_work(p, 1, "a"), Subscriber::at_work(p, 2, "a"));
    publish(p, "a", "1");
    publish(p, "a", "2");
    let mut due = p.due();
    p.close_lane(lost.lane, Instant::now());
    assert!(!p.settle(&mut due));
    left.say(p, to_sender::CLOSING, &[]).unwrap();
    let comes = Subscriber::at_work(p, 3, "a");
    assert!(p.settle(&mut due));
    publish(p, "a", "3");
    let mut due = p.due();
    comes.hear(p);
    assert!(!p.settle(&mut due) && !p.is_settled());
    comes.received(p, 1);
    assert!(p.settle(&mut due) && p.is_settled());
}

#[test]
fn only_what_was_sent_and_has_not_come_is_owed() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let one = Subscriber::at_work(&mut publisher, 1, "a");
    publish(&mut publisher, "a", "1");
    assert!(!publisher.owes(one.lane), "it is not sent");
    one.hear(&mut publisher);
    assert!(publisher.owes(one.lane));
    one.received(&mut publisher, 1);
    assert!(!publisher.owes(one.lane));
    assert!(!publisher.owes(99), "no such lane");
}

#[test]
fn those_who_are_connected_are_counted() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let silent = Subscriber::new(&mut publisher, 9);
    assert_eq!(publisher.subscribers(), 0);
    let lanes: Vec<_> = (1..=3).map(|node| Subscriber::at_work(&mut publisher, node, "a")).collect();
    assert_eq!(publisher.subscribers(), 3);
    publisher.close_lane(lanes[0].lane, Instant::now());
    publisher.close_lane(silent.lane, Instant::now());
    assert_eq!(publisher.subscribers(), 2);
}

#[test]
fn who_is_lost_is_forgotten_after_half_a_minute() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let (one, two) = (Subscriber::at_work(&mut publisher, 1, "a"), Subscriber::at_work(&mut publisher, 2, "a"));
    let _stays = Subscriber::at_work(&mut publisher, 3, "a");
    let start = Instant::now();
    let (first, second) = (start + KEPT_FOR, start + Duration::from_secs(1) + KEPT_FOR);
    assert_eq!(publisher.expire(start), None);
    publisher.close_lane(two.lane, start);
    publisher.close_lane(one.lane, start + Duration::from_secs(1));
    let mut look = |now| {
        let next = publisher.expire(now);
        (next, publisher.views().iter().map(|view| view.epoch).collect::<Vec<_>>())
    };
    assert_eq!(look(start + Duration::from_secs(1)), (Some(first), vec![1, 2, 3]));
    assert_eq!(look(first - Duration::from_nanos(1)), (Some(first), vec![1, 2, 3]));
    assert_eq!(look(first), (Some(second), vec![1, 3]));
    assert_eq!(look(second), (None, vec![3]));
}

#[test]
fn of_those_who_are_lost_256_are_kept_and_the_longest_lost_goes_first() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let start = Instant::now();
    let lanes: Vec<_> = (0..=MAX_KEPT as u64)
        .map(|epoch| {
            let lane = Subscriber::new(&mut publisher, 1);
            lane.begin(&mut publisher, epoch, "a");
            lane.lane
        })
        .collect();
    // The last ones are lost first.
    for (nth, lane) in lanes.iter().rev().enumerate() {
        assert_eq!(publisher.views().len(), MAX_KEPT + 1);
        publisher.close_lane(*lane, start + Duration::from_millis(nth as u64));
    }
    let epochs: Vec<_> = publisher.views().iter().map(|view| view.epoch).collect();
    assert_eq!(epochs, (0..MAX_KEPT as u64).collect::<Vec<_>>());
}

#[test]
fn that_a_subscriber_is_slow_is_told_at_once_and_then_once_a_second() {
    let mut publisher = publisher(Policy::DropOldest, 1);
    let one = Subscriber::new(&mut publisher, 1);
    one.begin(&mut publisher, 1, "a");
    let start = Instant::now();
    let moment = Duration::from_nanos(1);
    for (after, slow, what) in [
        (Duration::ZERO, 0, "it had room"),
        (Duration::ZERO, 1, "a message was dropped"),
        (MISSED_EVENTS - moment, 0, "again"),
        (MISSED_EVENTS, 1, "a second later"),
        (MISSED_EVENTS + moment, 0, "again"),
        (MISSED_EVENTS * 3, 1, "much later"),
    ] {
        publisher.publish("a", &NewMessage::new("x"), false, start + after).unwrap();
        assert_eq!(publisher.take_effects().slow.len(), slow, "{after:?}: {what}");
    }
}

#[test]
fn one_that_is_given_up_is_told_all_that_it_misses_and_each_message_is_counted_once() {
    for hole in [false, true] {
        let mut publisher = publisher(Policy::GiveUp, 2);
        let p = &mut publisher;
        let one = Subscriber::of_limited(p, 1, 10);
        one.begin(p, 1, "a");
        one.credit(p, 1);
        publish(p, "a", "1");
        one.hear(p);
        one.received(p, 1);
        if hole {
            publish(p, "a", "more than ten");
        }
        publish(p, "a", "2");
        publish(p, "a", "3");
        assert!(p.take_effects().given_up.is_empty());
        publish(p, "a", "4");
        let (missed, too_large) = (3 + u64::from(hole), u64::from(hole));
        assert_eq!(p.take_effects().given_up, [(NodeId::from_bytes([1; 32]), missed)]);
        assert_eq!(one.hear(p), (vec![format!("given up {missed}")], Next::Finish));
        let figures = p.figures();
        assert_eq!(figures.dropped, Dropped { given_up: 3, too_large, ..Dropped::default() });
        assert_eq!(figures.dropped.total(), missed);
        assert_eq!(figures.published, 4 + too_large);
    }
}

#[test]
fn what_was_dropped_stays_counted_by_its_reason() {
    let some = Dropped { oldest: 1, newest: 2, replaced: 4, lost: 8, given_up: 16, too_large: 32 };
    let mut sum = Dropped::default();
    sum.add(&some);
    assert_eq!((sum, sum.total()), (some, 63));
    sum.add(&some);
    let twice = Dropped { oldest: 2, newest: 4, replaced: 8, lost: 16, given_up: 32, too_large: 64 };
    assert_eq!((sum, sum.total()), (twice, 126));
    // Those of one that is gone, and of one that is there.
    let mut publisher = publisher(Policy::DropNewest, 1);
    let gone = Subscriber::new(&mut publisher, 1);
    gone.begin(&mut publisher, 1, "a");
    publish(&mut publisher, "a", "1");
    publish(&mut publisher, "a", "2");
    gone.say(&mut publisher, to_sender::CLOSING, &[]).unwrap();
    let stays = Subscriber::new(&mut publisher, 2);
    stays.begin(&mut publisher, 2, "a");
    ["3", "4", "5"].into_iter().for_each(|body| publish(&mut publisher, "a", body));
    let figures = publisher.figures();
    assert_eq!(figures.dropped, Dropped { newest: 3, ..Dropped::default() });
    assert_eq!(figures.subscribers[0].dropped.newest, 2);
    assert_eq!(figures.published, 5);
}

#[test]
fn a_body_as_large_as_a_node_takes_is_sent_and_a_larger_one_is_missing() {
    let most = 40_000;
    for retain_last in [0, 1] {
        let mut publisher = Publisher::new(Options { retain_last, ..publisher(Policy::DropOldest, 10).options });
        let one = Subscriber::of_limited(&mut publisher, 1, most);
        let publish_both = |publisher: &mut Publisher| {
            for (topic, length) in [("a", most), ("b", most + 1), ("c", 1)] {
                publish(publisher, topic, &"x".repeat(length));
            }
        };
        if retain_last > 0 {
            publish_both(&mut publisher);
        }
        one.begin(&mut publisher, 1, ">");
        if retain_last == 0 {
            publish_both(&mut publisher);
        }
        one.credit(&mut publisher, 100);
        let (said, _) = one.hear(&mut publisher);
        let said: Vec<_> =
            said.iter().map(|said| if said.len() == most { "the largest" } else { said.as_str() }).collect();
        assert_eq!(said, ["open", "subscribed 1 for 1", "the largest", "gap 1", "x"], "retained: {retain_last}");
        assert_eq!(publisher.figures().dropped, Dropped { too_large: 1, ..Dropped::default() });
    }
}

#[test]
fn what_was_sent_makes_room_and_is_counted_as_it_arrives() {
    let mut publisher = publisher(Policy::DropOldest, 1);
    let one = Subscriber::at_work(&mut publisher, 1, "a");
    for body in ["1", "2", "3", "4", "5"] {
        publish(&mut publisher, "a", body);
        one.hear(&mut publisher);
    }
    assert_eq!(progress(&publisher), (5, 0));
    for position in [1, 2, 3, 5] {
        one.received(&mut publisher, position);
        assert_eq!(progress(&publisher), (5 - position, position));
    }
}

#[test]
fn what_was_missing_between_messages_that_made_room_does_not_count_as_arrived() {
    let mut publisher = publisher(Policy::DropOldest, 1);
    let p = &mut publisher;
    let one = Subscriber::of_limited(p, 1, 10);
    one.begin(p, 1, "a");
    one.credit(p, 100);
    for body in ["1", "more than ten", "2", "3", "4"] {
        publish(p, "a", body);
        one.hear(p);
    }
    one.received(p, 2);
    assert_eq!(progress(p), (3, 1), "the first message, and that the second is missing");
    // Of those on their way only the last one is still there.
    p.close_lane(one.lane, Instant::now());
    let again = Subscriber::again(p, 1, "a", (1, 2));
    assert_eq!(again.hear(p).0, ["open", "subscribed 1 for 1", "gap 2", "4"]);
    assert_eq!(p.figures().dropped, Dropped { too_large: 1, lost: 2, ..Dropped::default() });
    assert_eq!(progress(p), (1, 1));
}

#[test]
fn the_latest_of_each_topic_takes_the_place_of_what_waits_also_while_there_is_room() {
    let mut publisher = publisher(Policy::Latest, 10);
    let one = Subscriber::at_work(&mut publisher, 1, ">");
    one.hear(&mut publisher);
    for (topic, body) in [("a", "a1"), ("b", "b1"), ("c", "c1"), ("a", "a2"), ("b", "b2"), ("b", "b3")] {
        publish(&mut publisher, topic, body);
    }
    // Each counts two bytes more.
    let three = Amount { messages: 3, bytes: 3 * 4 };
    assert_eq!(publisher.views()[0].held, three);
    assert_eq!(publisher.figures().subscribers[0].queued, three);
    assert_eq!(one.hear(&mut publisher).0, ["gap 2", "c1", "a2", "gap 1", "b3"]);
    publish(&mut publisher, "c", "c2");
    assert_eq!(one.hear(&mut publisher).0, ["c2"], "what is sent is not replaced");
    assert_eq!(publisher.figures().dropped, Dropped { replaced: 3, ..Dropped::default() });
}

#[test]
fn the_latest_takes_the_place_of_what_is_to_be_sent_again_too() {
    let mut publisher = publisher(Policy::Latest, 10);
    let one = Subscriber::at_work(&mut publisher, 1, ">");
    publish(&mut publisher, "a", "a1");
    publish(&mut publisher, "b", "b1");
    one.hear(&mut publisher);
    publisher.close_lane(one.lane, Instant::now());
    let again = Subscriber::again(&mut publisher, 1, ">", (1, 0));
    publish(&mut publisher, "a", "a2");
    assert_eq!(again.hear(&mut publisher).0, ["open", "subscribed 1 for 1", "gap 1", "b1", "a2"]);
    assert_eq!(publisher.figures().dropped, Dropped { replaced: 1, ..Dropped::default() });
}

#[test]
fn of_each_topic_only_the_newest_waits_also_after_a_lane_was_lost() {
    let mut publisher = publisher(Policy::Latest, 3);
    let one = Subscriber::at_work(&mut publisher, 1, ">");
    publish(&mut publisher, "a", "a1");
    one.hear(&mut publisher);
    publisher.close_lane(one.lane, Instant::now());
    publish(&mut publisher, "c", "c1");
    publish(&mut publisher, "a", "a2");
    let again = Subscriber::again(&mut publisher, 1, ">", (1, 0));
    // The first one, which would be sent again, makes room; then the second one is replaced.
    publish(&mut publisher, "b", "b1");
    publish(&mut publisher, "a", "a3");
    assert_eq!(again.hear(&mut publisher).0, ["open", "subscribed 1 for 1", "gap 1", "c1", "gap 1", "b1", "a3"]);
}

#[test]
fn of_two_that_are_to_be_sent_again_the_newer_one_is_replaced() {
    let mut publisher = publisher(Policy::Latest, 3);
    let one = Subscriber::at_work(&mut publisher, 1, ">");
    for body in ["a1", "a2"] {
        publish(&mut publisher, "a", body);
        one.hear(&mut publisher);
    }
    publisher.close_lane(one.lane, Instant::now());
    let again = Subscriber::again(&mut publisher, 1, ">", (1, 0));
    publish(&mut publisher, "a", "a3");
    assert_eq!(again.hear(&mut publisher).0, ["open", "subscribed 1 for 1", "a1", "gap 1", "a3"]);
}

#[test]
fn a_retained_body_as_large_as_a_node_takes_is_sent_also_where_it_is_small() {
    let mut publisher = Publisher::new(Options { retain_last: 1, ..publisher(Policy::DropOldest, 10).options });
    publish(&mut publisher, "a", "0123456789");
    let one = Subscriber::of_limited(&mut publisher, 1, 10);
    one.begin(&mut publisher, 1, "a");
    one.credit(&mut publisher, 100);
    assert_eq!(one.hear(&mut publisher).0, ["open", "subscribed 1 for 1", "0123456789"]);
}

#[test]
fn the_bound_in_bytes_is_exact() {
    // Each counts two bytes more.
    for (bytes, fit) in [(9, 1), (10, 2), (14, 2), (15, 3)] {
        let bound = Amount { messages: 10, bytes };
        let mut publisher = Publisher::new(Options { bound, ..publisher(Policy::DropNewest, 10).options });
        let one = Subscriber::new(&mut publisher, 1);
        one.begin(&mut publisher, 1, "a");
        (0..5).for_each(|_| publish(&mut publisher, "a", "xxx"));
        assert_eq!(publisher.views()[0].held, Amount { messages: fit, bytes: 5 * fit }, "{bytes}");
    }
}
