//! How requests end: what is said of them, when it is looked for those whose time is up, and what the end of a lane, of
//! a replier or of the requester means for them.

use super::*;

#[test]
fn one_node_that_is_not_there_is_nobody_though_others_are() {
    let mut hand = Hand::new(10);
    hand.lane(1, FULL);
    hand.lane(3, 0);
    let (nobody, somebody) = (hand.ask_of(Target::Node(node(2))), hand.ask_of(Target::Node(node(3))));
    hand.pass(SECOND);
    assert_eq!(hand.ended(nobody), Some(Outcome::NoReplier));
    assert_eq!(hand.ended(somebody), Some(Outcome::NotSent));
}

#[test]
fn who_was_refused_by_all_hears_it_behind_one_that_waits() {
    let mut hand = Hand::new(10);
    // The one has credit for both, of which it could take no third one; the other has none.
    let (one, other) = (hand.lane_of(1, exchange::cost(0, 1) + 1, MAX_MESSAGE), hand.lane_of(2, 0, 10));
    let (waits, refused) = (hand.ask(b"x"), hand.ask(&[0; 11]));
    assert_eq!(hand.kinds(one), [to_replier::REQUEST, to_replier::REQUEST]);
    hand.say(one, |out| put_numbers(out, to_requester::BUSY, &[waits])).unwrap();
    hand.say(one, |out| put_numbers(out, to_requester::BUSY, &[refused])).unwrap();
    assert_eq!((hand.ended(waits), hand.ended(refused)), (None, Some(Outcome::Busy)));
    hand.say(other, |out| put_numbers(out, to_requester::CREDIT, &[1])).unwrap();
    assert!(hand.requests.asks(other, waits));
}

#[test]
fn what_nobody_takes_any_more_is_said_when_its_turn_has_come() {
    let too_large = Some(Outcome::TooLarge { size: 11, limit: 10 });
    let mut hand = Hand::new(10);
    let (short, long) = (hand.lane_of(1, 0, 10), hand.lane_of(2, 0, MAX_MESSAGE));
    let (first, second) = (hand.ask(b"x"), hand.ask(&[0; 11]));
    hand.requests.close_lane(long);
    hand.say(short, |out| put_numbers(out, to_requester::CREDIT, &[1])).unwrap();
    assert!(hand.requests.asks(short, first));
    assert_eq!(hand.ended(second), too_large);

    // The same where both come back from the lane that is lost.
    let mut hand = Hand::new(10);
    let (short, long) = (hand.lane_of(1, 0, 10), hand.lane_of(2, FULL, MAX_MESSAGE));
    let (first, second) = (hand.ask(b"x"), hand.ask(&[0; 11]));
    hand.say(short, |out| put_numbers(out, to_requester::CREDIT, &[1])).unwrap();
    hand.requests.close_lane(long);
    assert!(hand.requests.asks(short, first));
    assert_eq!(hand.ended(second), too_large);
}

#[test]
fn a_body_of_the_largest_size_is_too_large_for_nobody() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let number = hand.ask(&vec![0; MAX_MESSAGE]);
    hand.kinds(lane);
    hand.say(lane, |out| put_numbers(out, to_requester::BUSY, &[number])).unwrap();
    assert_eq!(hand.ended(number), Some(Outcome::Busy));
}

#[test]
fn the_timer_is_set_anew_only_for_what_ends_sooner() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let (start, now) = (hand.now, hand.now);
    let first = hand.ask(b"x");
    assert!(hand.requests.take_effects().look);
    assert_eq!(hand.requests.arm(now), Some(start + SECOND));
    hand.kinds(lane);
    hand.reply(lane, first, b"y").unwrap();
    hand.pass(SECOND / 2);
    hand.ask(b"ends later");
    assert!(!hand.requests.take_effects().look, "it is looked soon enough");
    let sooner = Asked { deadline: start + SECOND * 3 / 4, ..asked(hand.now, b"sooner") };
    hand.requests.ask(sooner).unwrap();
    assert!(hand.requests.take_effects().look);
    assert_eq!(hand.requests.arm(hand.now), Some(start + SECOND * 3 / 4));
    hand.pass(SECOND / 2);
    assert_eq!(hand.requests.arm(hand.now), Some(start + SECOND * 3 / 2));
}

#[test]
fn the_timer_is_kept_until_its_time_and_no_longer() {
    let mut hand = Hand::new(10);
    hand.lane(1, FULL);
    let start = hand.now;
    let first = hand.ask(b"x");
    assert!(hand.requests.take_effects().look);
    assert_eq!(hand.requests.arm(start), Some(start + SECOND));
    let second = hand.ask(b"ends with it");
    assert!(!hand.requests.take_effects().look, "it is looked then");
    hand.requests.forget(first, start);
    hand.requests.forget(second, start);
    hand.pass(SECOND / 2);
    hand.ask(b"ends later");
    assert_eq!(hand.requests.arm(hand.now), Some(start + SECOND), "rather too soon than set anew");
    assert_eq!(hand.requests.arm(start + SECOND), Some(start + SECOND * 3 / 2));
}

#[test]
fn what_was_begun_and_not_sent_in_full_is_asked_elsewhere() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let number = hand.ask(&vec![7; 8 * PIECE]);
    let mut chunks = Vec::new();
    assert!(hand.requests.take_outgoing(lane, hand.now, Waker::noop(), &mut chunks));
    hand.requests.close_lane(lane);
    let next = hand.lane(2, FULL);
    assert_eq!(hand.kinds(next).len(), 8);
    hand.reply(next, number, b"x").unwrap();
    assert!(matches!(hand.ended(number), Some(Outcome::Replied { .. })), "no handler can have run before");
}

#[test]
fn a_replier_that_closes_answers_what_it_has_and_is_asked_nothing_more() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let sent = hand.ask(b"in hand");
    hand.kinds(lane);
    let assigned = hand.ask(b"not taken");
    hand.say(lane, |out| put_numbers(out, to_requester::CLOSING, &[])).unwrap();
    assert_eq!(hand.requests.lane_count(), 0);
    assert!(!hand.requests.is_finished(lane));
    let there = [(node(1), SocketId(2))];
    let nobody = hand.ask(b"it is in the tables, and takes no more");
    hand.requests.nobody_there(&[there[0], (node(2), SocketId(2))]);
    assert_eq!(hand.ended(nobody), None, "somebody else is there, and not yet connected");
    hand.requests.forget(nobody, hand.now);
    assert!(hand.requests.has_left(&there[0]));
    let next = hand.lane(2, FULL);
    assert_eq!(hand.kinds(next), [to_replier::REQUEST]);
    hand.reply(next, assigned, b"x").unwrap();
    hand.reply(lane, sent, b"x").unwrap();
    assert!(hand.ended(sent).is_some() && hand.ended(assigned).is_some());
    assert!(hand.requests.is_finished(lane) && !hand.requests.is_finished(next));
}

#[test]
fn a_closed_requester_ends_everything_once() {
    let mut hand = Hand::new(1);
    let lane = hand.lane(1, FULL);
    let (sent, waiting) = (hand.ask(b"sent"), hand.ask(b"waiting"));
    hand.kinds(lane);
    assert!(!hand.requests.refuse_more());
    assert_eq!(hand.requests.ask(asked(hand.now, b"x")), Err(Refused::Closed));
    hand.requests.close();
    assert_eq!(hand.ended(sent), Some(Outcome::Unknown(Lost::Closed)));
    assert_eq!(hand.ended(waiting), Some(Outcome::Closed));
    assert!(hand.requests.is_drained() && hand.requests.is_finished(lane));
    assert_eq!((hand.requests.counts.unknown, hand.requests.counts.closed), (1, 1));
}

#[test]
fn a_requester_that_asks_no_more_ends_its_lanes_once_all_is_answered() {
    let mut hand = Hand::new(10);
    let lanes = [hand.lane(1, FULL), hand.lane(2, 0)];
    let number = hand.ask(b"x");
    for lane in lanes {
        hand.kinds(lane);
    }
    assert!(!hand.requests.is_drained() && !hand.requests.is_closed());
    let _ = hand.requests.take_effects();
    assert!(!hand.requests.refuse_more());
    assert_eq!(hand.requests.take_effects().wakers.len(), 2, "its writers look");
    assert!(!hand.requests.is_drained() && hand.requests.is_closed());
    for lane in lanes {
        hand.kinds(lane);
    }
    assert_eq!(lanes.map(|lane| hand.requests.is_finished(lane)), [false, false]);
    hand.reply(lanes[0], number, b"y").unwrap();
    let effects = hand.requests.take_effects();
    assert_eq!((effects.empty, effects.wakers.len()), (true, 2), "and once more");
    assert_eq!(lanes.map(|lane| hand.requests.is_finished(lane)), [true, true]);
    assert!(hand.requests.is_drained() && hand.requests.refuse_more());

    // The node ends.
    let mut hand = Hand::new(10);
    hand.lane(1, 0);
    let _ = hand.requests.take_effects();
    hand.requests.close();
    assert_eq!(hand.requests.take_effects().wakers.len(), 1);
}

#[test]
fn what_was_lost_and_is_to_be_asked_again_is_unknown_when_the_node_ends() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let again = hand.requests.ask(Asked { idempotent: true, ..asked(hand.now, b"again") }).unwrap();
    hand.kinds(lane);
    hand.requests.close_lane(lane);
    assert_eq!(hand.requests.counts.repeated, 1);
    hand.requests.close();
    assert_eq!(hand.ended(again), Some(Outcome::Unknown(Lost::Link(node(1)))));
}
