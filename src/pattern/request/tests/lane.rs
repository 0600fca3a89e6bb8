//! What goes out and comes in over a lane: credit, pieces of bodies, when its writer is woken, and what no replier may
//! say.

use super::*;
use crate::wire::exchange::{MORE, put_failed, put_more};
use crate::wire::limits::EXCHANGE_WINDOWS_OF_NODE;

#[test]
fn a_lane_is_asked_while_it_has_credit_left_and_what_was_not_sent_has_cost_none() {
    let cost = exchange::cost(0, 1);
    for (credit, asked) in [(0, 0), (1, 1), (cost, 1), (cost + 1, 2), (2 * cost, 2), (2 * cost + 1, 3)] {
        let mut hand = Hand::new(10);
        let lane = hand.lane(1, credit);
        for _ in 0..3 {
            let given_up = hand.ask(b"x");
            assert_eq!(hand.requests.asks(lane, given_up), credit > 0);
            hand.requests.forget(given_up, hand.now);
        }
        for _ in 0..3 {
            hand.ask(b"x");
        }
        assert_eq!(hand.kinds(lane).len(), asked, "{credit}");
        // To say the same once more takes nothing back.
        hand.say(lane, |out| put_numbers(out, to_requester::CREDIT, &[credit])).unwrap();
        assert_eq!(hand.kinds(lane), Vec::<u8>::new());
    }
}

#[test]
fn lanes_share_the_window_for_replies_and_each_has_its_least_part() {
    let mut hand = Hand::new(1);
    for lanes in 1..EXCHANGE_WINDOW_BYTES / LANE_WINDOW_BYTES + 3 {
        let (kind, payload) = hand.connect(1, MAX_MESSAGE).1.remove(0);
        let share = (EXCHANGE_WINDOW_BYTES / lanes).max(LANE_WINDOW_BYTES);
        assert_eq!((kind, exchange::read_number(&payload)), (to_replier::CREDIT, Ok(share)), "of {lanes}");
    }
}

#[test]
fn small_requests_go_in_one_turn() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    (0..3).for_each(|_| _ = hand.ask(b"x"));
    let mut chunks = Vec::new();
    assert!(hand.requests.take_outgoing(lane, hand.now, Waker::noop(), &mut chunks));
    assert!(!hand.requests.take_outgoing(lane, hand.now, Waker::noop(), &mut chunks), "that was all");
    assert_eq!(chunks.len(), 1);
}

#[test]
fn a_long_body_goes_in_pieces_and_a_short_one_passes_it() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let body = vec![7; 5 * PIECE];
    let long = hand.ask(&body);
    let mut chunks = Vec::new();
    assert!(hand.requests.take_outgoing(lane, hand.now, Waker::noop(), &mut chunks));
    assert!(chunks.iter().map(Bytes::len).sum::<usize>() < body.len(), "not all at once");
    let short = hand.ask(b"short");
    let kinds = hand.kinds(lane);
    assert_eq!(kinds[0], to_replier::REQUEST, "before the rest");
    assert!(kinds[1..].iter().all(|kind| *kind == MORE));
    hand.reply(lane, short, b"x").unwrap();
    hand.reply(lane, long, b"y").unwrap();
    assert!(hand.ended(short).is_some() && hand.ended(long).is_some());
}

#[test]
fn a_body_on_its_way_ends_with_its_request_and_no_other_one_does() {
    let give_up = |hand: &mut Hand, _, number| hand.requests.forget(number, hand.now);
    let refuse = |hand: &mut Hand, lane, number| {
        hand.say(lane, |out| put_numbers(out, to_requester::BUSY, &[number])).unwrap();
    };
    let ways: [fn(&mut Hand, LaneKey, u64); 2] = [give_up, refuse];
    for end in ways {
        let mut hand = Hand::new(10);
        let lane = hand.lane(1, FULL);
        let body = vec![7; 15 * PIECE];
        let (ended, goes_on) = (hand.ask(&body), hand.ask(&body));
        // Both are begun.
        assert!(hand.requests.take_outgoing(lane, hand.now, Waker::noop(), &mut Vec::new()));
        end(&mut hand, lane, ended);
        let frames = hand.taken(lane);
        let pieces = frames.iter().filter(|(kind, _)| *kind == MORE);
        let of: Vec<_> = pieces.map(|(_, payload)| exchange::read_more(payload).unwrap().0).collect();
        assert!(of.len() > 10 && of.iter().all(|number| *number == goes_on), "{of:?}");
        hand.reply(lane, goes_on, b"x").unwrap();
        assert!(hand.ended(goes_on).is_some());
    }
}

#[test]
fn a_repeat_may_be_answered_before_all_of_it_is_sent() {
    let mut hand = Hand::new(10);
    let lost = hand.lane(1, FULL);
    let body = vec![7; 8 * PIECE];
    let again = hand.requests.ask(Asked { idempotent: true, ..asked(hand.now, &body) }).unwrap();
    hand.kinds(lost);
    hand.requests.close_lane(lost);
    let lane = hand.lane(1, FULL);
    let mut chunks = Vec::new();
    assert!(hand.requests.take_outgoing(lane, hand.now, Waker::noop(), &mut chunks));
    assert!(chunks.iter().map(Bytes::len).sum::<usize>() < body.len(), "some of it is still to come");
    hand.reply(lane, again, b"kept").unwrap();
    assert!(matches!(hand.ended(again), Some(Outcome::Replied { attempt: 2, .. })));
    assert_eq!(hand.kinds(lane), Vec::<u8>::new(), "the rest of it is not sent");

    // But nobody can have the answer to what nobody has seen in full.
    let once = hand.ask(&body);
    chunks.clear();
    assert!(hand.requests.take_outgoing(lane, hand.now, Waker::noop(), &mut chunks));
    assert!(hand.reply(lane, once, b"made up").is_err());
}

#[test]
fn a_writer_of_a_replier_that_closes_is_woken_with_the_last_answer() {
    let busy = |hand: &mut Hand, lane, number| {
        hand.say(lane, |out| put_numbers(out, to_requester::BUSY, &[number])).unwrap();
    };
    let reply = |hand: &mut Hand, lane, number| hand.reply(lane, number, b"y").unwrap();
    let answers: [fn(&mut Hand, LaneKey, u64); 2] = [busy, reply];
    for answer in answers {
        let mut hand = Hand::new(10);
        let lane = hand.lane(1, FULL);
        let numbers = [0; 3].map(|_| hand.ask(b"x"));
        hand.kinds(lane);
        hand.say(lane, |out| put_numbers(out, to_requester::CLOSING, &[])).unwrap();
        hand.kinds(lane);
        let _ = hand.requests.take_effects();
        let woken = numbers.map(|number| {
            answer(&mut hand, lane, number);
            hand.requests.take_effects().wakers.len()
        });
        assert_eq!(woken, [0, 0, 1]);
        assert!(hand.requests.is_finished(lane));
        // Where it does not close there is nothing to write.
        let lane = hand.lane(2, FULL);
        let number = hand.ask(b"x");
        hand.kinds(lane);
        let _ = hand.requests.take_effects();
        answer(&mut hand, lane, number);
        assert_eq!(hand.requests.take_effects().wakers.len(), 0);
    }
}

#[test]
fn an_answer_to_what_somebody_else_has_not_been_sent_yet_is_only_late() {
    let mut hand = Hand::new(10);
    let (lane, other) = (hand.lane(1, FULL), hand.lane(2, 0));
    let number = hand.ask(b"x");
    hand.reply(other, number, b"of somebody else").unwrap();
    assert_eq!((hand.ended(number), hand.requests.counts.late), (None, 1));
    assert_eq!(hand.kinds(lane), [to_replier::REQUEST]);
}

#[test]
fn answers_that_lie_cost_the_link_and_late_ones_nothing() {
    let begin = || {
        let mut hand = Hand::new(10);
        let (lane, other) = (hand.lane(1, FULL), hand.lane(2, 0));
        let number = hand.ask(b"x");
        hand.kinds(lane);
        (hand, lane, other, number)
    };
    let (mut hand, lane, other, number) = begin();
    hand.reply(other, number, b"of somebody else").unwrap();
    assert_eq!(hand.ended(number), None, "who was not asked answers nothing");
    hand.say(other, |out| put_numbers(out, to_requester::BUSY, &[number])).unwrap();
    hand.say(other, |out| put_failed(out, number, "a", "b")).unwrap();
    assert_eq!(hand.ended(number), None);
    hand.reply(lane, number, b"right").unwrap();
    hand.reply(lane, number, b"twice").unwrap();
    let Some(Outcome::Replied { content, .. }) = hand.ended(number) else { panic!("it is answered") };
    assert_eq!(&content.body[..], b"right");
    assert_eq!(hand.ended(number), None);

    let (mut hand, lane, _, number) = begin();
    assert!(hand.reply(lane, number + 1, b"x").is_err(), "never asked");
    let (mut hand, lane, _, number) = begin();
    assert!(hand.say(lane, |out| put_numbers(out, to_requester::BUSY, &[number + 1])).is_err(), "never asked");
    let (mut hand, lane, _, _) = begin();
    let unsent = hand.ask(b"assigned and not sent");
    assert!(hand.reply(lane, unsent, b"x").is_err(), "not sent yet");
    let (mut hand, lane, _, number) = begin();
    hand.say(lane, |out| put_reply(out, number, &[], 9, 0)).unwrap_err();
    let (mut hand, lane, _, number) = begin();
    let part = |out: &mut BytesMut| {
        put_reply(out, number, &[], 9, 1);
        out.extend_from_slice(b"a");
    };
    hand.say(lane, part).unwrap();
    assert!(hand.say(lane, part).is_err(), "a second reply");
    let (mut hand, lane, _, number) = begin();
    hand.say(lane, part).unwrap();
    assert!(hand.say(lane, |out| put_failed(out, number, "a", "b")).is_err(), "it fails after its reply has begun");
    let (mut hand, lane, _, number) = begin();
    hand.say(lane, |out| {
        put_reply(out, number, &[], 2, 1);
        out.extend_from_slice(b"a");
        put_more(out, number, 2);
        out.extend_from_slice(b"bc");
    })
    .unwrap_err();
    let (mut hand, lane, _, number) = begin();
    assert!(hand.say(lane, |out| put_reply(out, number, &[], MAX_MESSAGE + 1, 0)).is_err(), "too long");
    let (mut hand, lane, _, _) = begin();
    assert!(hand.say(lane, |out| put_numbers(out, to_requester::CREDIT, &[1])).is_err(), "credit taken back");
    let (mut hand, lane, _, _) = begin();
    assert!(hand.say(lane, |out| put_numbers(out, 0x3f, &[1])).is_err(), "an unknown kind");
    hand.say(lane, |out| put_numbers(out, 0x40, &[1])).unwrap();
}

#[test]
fn replies_of_one_node_are_limited_over_all_lanes_to_it() {
    let mut hand = Hand::new(1000);
    let most = EXCHANGE_WINDOWS_OF_NODE * EXCHANGE_WINDOW_BYTES / MAX_MESSAGE as u64;
    let lanes: Vec<_> = (0..most + 3).map(|_| hand.lane(1, 0)).collect();
    let begin = |hand: &mut Hand, lane, number| {
        hand.say(lane, |out| {
            put_reply(out, number, &[], MAX_MESSAGE, 1);
            out.extend_from_slice(b"a");
        })
        .unwrap();
    };
    let mut over = 0;
    for lane in &lanes {
        // Only this one takes it.
        hand.say(*lane, |out| put_numbers(out, to_requester::CREDIT, &[1])).unwrap();
        let number = hand.ask(b"x");
        assert!(hand.kinds(*lane).contains(&to_replier::REQUEST));
        begin(&mut hand, *lane, number);
        if let Some(outcome) = hand.ended(number) {
            assert!(matches!(outcome, Outcome::Failed { code, .. } if code == "overflow"));
            assert_eq!(hand.kinds(*lane), [to_replier::CANCEL], "the rest need not come");
            over += 1;
        }
    }
    assert_eq!(over, 3);
    let other = hand.lane(2, 1);
    let number = hand.ask(b"x");
    hand.kinds(other);
    begin(&mut hand, other, number);
    assert_eq!(hand.ended(number), None, "others are not affected");
}

#[test]
fn replies_beyond_the_credit_cost_the_link() {
    let mut hand = Hand::new(1000);
    let lane = hand.lane(1, FULL);
    let body = vec![0; 1 << 20];
    let replies = EXCHANGE_WINDOW_BYTES / (1 << 20);
    let numbers: Vec<_> = (0..replies + 1).map(|_| hand.ask(b"x")).collect();
    hand.kinds(lane);
    let mut reply = |number: u64| {
        let mut pieces = body.chunks(PIECE);
        let first = pieces.next().unwrap();
        hand.say(lane, |out| {
            put_reply(out, number, &[], body.len(), first.len());
            out.extend_from_slice(first);
            for piece in pieces {
                put_more(out, number, piece.len());
                out.extend_from_slice(piece);
            }
        })
    };
    // Nobody takes them: the last one that is within the credit goes beyond it.
    for number in &numbers[..numbers.len() - 1] {
        reply(*number).unwrap();
    }
    assert!(reply(numbers[numbers.len() - 1]).is_err());
}
