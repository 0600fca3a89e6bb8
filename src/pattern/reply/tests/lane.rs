//! What comes in and goes out over a lane: credit, cancels, and what no requester may say.

use super::*;
use crate::wire::exchange::MORE;

#[test]
fn lanes_share_the_window_for_requests_and_each_has_its_least_part() {
    let mut hand = Hand::new(1);
    for lanes in 1..EXCHANGE_WINDOW_BYTES / LANE_WINDOW_BYTES + 3 {
        let (_, payload) = hand.accept(1).1.remove(0);
        let share = (EXCHANGE_WINDOW_BYTES / lanes).max(LANE_WINDOW_BYTES);
        assert_eq!(exchange::read_number(&payload), Ok(share), "of {lanes}");
    }
}

#[test]
fn replies_wait_for_credit_and_failures_do_not() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, 1);
    for id in 0..3 {
        hand.ask(lane, head(id), b"x").unwrap();
    }
    let works: Vec<_> = (0..3).map(|_| hand.claim().unwrap().key).collect();
    hand.works.answer(works[0], reply(&vec![0; 3 * PIECE]));
    hand.works.answer(works[1], reply(b"waits"));
    assert_eq!(hand.kinds(lane), [to_requester::REPLY, MORE, MORE], "one may overshoot");
    hand.say(lane, |out| put_numbers(out, to_replier::CREDIT, &[FULL])).unwrap();
    assert_eq!(hand.kinds(lane), [to_requester::REPLY]);
    hand.works.answer(works[2], Answer::Failed { code: "a".into(), message: "b".into() });
    assert_eq!(hand.kinds(lane), [to_requester::FAILED]);
}

#[test]
fn a_reply_is_begun_while_there_is_credit_left() {
    let cost = exchange::cost(0, 1);
    for (credit, begun) in [(0, 0), (1, 1), (cost, 1), (cost + 1, 2), (2 * cost, 2), (2 * cost + 1, 3)] {
        let mut hand = Hand::new(10);
        let lane = hand.lane(1, credit);
        for id in 0..3 {
            hand.ask(lane, head(id), b"x").unwrap();
            let work = hand.claim().unwrap().key;
            hand.works.answer(work, reply(b"y"));
        }
        assert_eq!(hand.kinds(lane).len(), begun, "{credit}");
        // To say the same once more takes nothing back.
        hand.say(lane, |out| put_numbers(out, to_replier::CREDIT, &[credit])).unwrap();
        assert_eq!(hand.kinds(lane), Vec::<u8>::new());
    }
}

#[test]
fn a_cancel_stops_a_reply_that_is_on_its_way() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    hand.ask(lane, head(0), b"x").unwrap();
    hand.ask(lane, head(1), b"x").unwrap();
    let works: Vec<_> = (0..2).map(|_| hand.claim().unwrap().key).collect();
    hand.works.answer(works[0], reply(&vec![0; 100 * PIECE]));
    let mut chunks = Vec::new();
    assert!(hand.works.take_outgoing(lane, Waker::noop(), &mut chunks));
    hand.works.answer(works[1], reply(b"not begun"));
    hand.say(lane, |out| {
        put_numbers(out, to_replier::CANCEL, &[0]);
        put_numbers(out, to_replier::CANCEL, &[1]);
    })
    .unwrap();
    assert_eq!(hand.kinds(lane), Vec::<u8>::new());
    assert_eq!(hand.works.figures().bytes, 0);
}

#[test]
fn a_cancel_stops_its_own_answer_and_no_other_one() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    for id in 0..4 {
        hand.ask(lane, head(id), b"x").unwrap();
    }
    let works: Vec<_> = (0..4).map(|_| hand.claim().unwrap().key).collect();
    for work in &works[..2] {
        hand.works.answer(*work, reply(&vec![0; 20 * PIECE]));
    }
    // Both are begun.
    assert!(hand.works.take_outgoing(lane, Waker::noop(), &mut Vec::new()));
    hand.works.answer(works[2], reply(b"not begun"));
    hand.works.answer(works[3], reply(b"neither"));
    for id in [1, 3] {
        hand.say(lane, |out| put_numbers(out, to_replier::CANCEL, &[id])).unwrap();
    }
    let mut answered = BTreeSet::new();
    for (kind, payload) in hand.taken(lane) {
        match kind {
            MORE => _ = answered.insert(exchange::read_more(&payload).unwrap().0),
            to_requester::REPLY => _ = answered.insert(exchange::read_reply(&payload).unwrap().head),
            _ => {}
        }
    }
    assert_eq!(answered, [0, 2].into());
    assert_eq!(hand.works.figures().bytes, 0);
}

#[test]
fn requests_that_lie_cost_the_link() {
    let begin = || {
        let mut hand = Hand::new(10);
        let lane = hand.lane(1, FULL);
        hand.ask(lane, head(0), b"x").unwrap();
        (hand, lane)
    };
    let (mut hand, lane) = begin();
    assert!(hand.ask(lane, head(0), b"x").is_err(), "a number that is open");
    let (mut hand, lane) = begin();
    hand.claim().unwrap();
    let more = |out: &mut BytesMut| {
        put_more(out, 0, 1);
        out.extend_from_slice(b"b");
    };
    assert!(hand.say(lane, more).is_err(), "more than was announced");
    let (mut hand, lane) = begin();
    let begun = |out: &mut BytesMut| {
        put_request(out, head(1), &[], 3, 1);
        out.extend_from_slice(b"a");
        put_more(out, 1, 3);
        out.extend_from_slice(b"bcd");
    };
    assert!(hand.say(lane, begun).is_err(), "more than was announced");
    let (mut hand, lane) = begin();
    assert!(hand.ask(lane, head(1), &vec![0; MAX_MESSAGE + 1]).is_err(), "too long");
    let (mut hand, lane) = begin();
    assert!(hand.say(lane, |out| put_numbers(out, to_replier::CREDIT, &[1])).is_err(), "credit taken back");
    let (mut hand, lane) = begin();
    assert!(hand.say(lane, |out| put_numbers(out, 0x3f, &[1])).is_err(), "an unknown kind");
    hand.say(lane, |out| put_numbers(out, 0x40, &[1])).unwrap();
    // What is given up twice, or was never asked, is nobody's work.
    hand.say(lane, |out| put_numbers(out, to_replier::CANCEL, &[77])).unwrap();
    hand.say(lane, |out| put_numbers(out, to_replier::CANCEL, &[0])).unwrap();
    hand.say(lane, |out| put_numbers(out, to_replier::CANCEL, &[0])).unwrap();
    assert_eq!(hand.works.counts.cancelled, 1);
    // A time beyond all clocks is a long one.
    hand.ask(lane, RequestHead { remaining: 1 << 61, ..head(9) }, b"x").unwrap();
}
