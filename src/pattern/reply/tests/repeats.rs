//! Requests that come again, as their answer may have been lost with their lane.

use super::*;

#[test]
fn a_repeat_whose_first_lane_is_not_known_to_be_lost_moves_to_its_lane() {
    let mut hand = Hand::new(10);
    let (stale, fresh) = (hand.lane(1, FULL), hand.lane(1, FULL));
    let again = RequestHead { idempotent: true, ..head(1) };
    hand.ask(stale, again, b"again").unwrap();
    let work = hand.claim().unwrap();
    hand.ask(fresh, again, b"again").unwrap();
    hand.works.close_lane(stale);
    assert!(hand.works.is_open(work.key), "it is the other lane's by now");
    hand.works.answer(work.key, reply(b"done"));
    assert_eq!(hand.kinds(fresh), [to_requester::REPLY]);
    assert_eq!(hand.works.figures().bytes, 0);
}

#[test]
fn a_repeat_of_what_waits_or_has_only_begun_is_handed_out_once() {
    let mut hand = Hand::new(10);
    let (stale, fresh) = (hand.lane(1, FULL), hand.lane(1, FULL));
    let again = |id| RequestHead { idempotent: true, ..head(id) };
    hand.ask(stale, again(1), &[1; 2 * PIECE]).unwrap();
    hand.say(stale, |out| {
        put_request(out, again(2), &[], 9, 1);
        out.extend_from_slice(b"a");
    })
    .unwrap();
    hand.ask(fresh, again(1), &[1; 2 * PIECE]).unwrap();
    hand.ask(fresh, again(2), b"all of it").unwrap();
    let works: Vec<_> = std::iter::from_fn(|| hand.claim()).map(|handed| (handed.id, handed.key)).collect();
    assert_eq!(works.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
    hand.works.close_lane(stale);
    works.into_iter().for_each(|(_, key)| _ = hand.works.answer(key, reply(b"done")));
    assert_eq!(hand.kinds(fresh), [to_requester::REPLY, to_requester::REPLY]);
}

#[test]
fn a_repeat_of_what_was_worked_on_until_its_time_was_up_is_not_worked_on_anew() {
    let mut hand = Hand::new(10);
    let (first, second) = (hand.lane(1, FULL), hand.lane(1, FULL));
    let again = |id| RequestHead { idempotent: true, ..head(id) };
    hand.ask(first, again(1), b"worked on").unwrap();
    let work = hand.claim().unwrap();
    hand.ask(first, again(2), b"never begun").unwrap();
    hand.works.expire(hand.now + Duration::from_millis(1000));
    assert!(!hand.works.is_open(work.key));
    hand.ask(second, again(1), b"worked on").unwrap();
    assert!(hand.claim().is_none());
    assert_eq!(hand.kinds(second), [to_requester::FAILED]);
    hand.ask(second, again(2), b"never begun").unwrap();
    assert_eq!(hand.claim().map(|handed| handed.id), Some(2));
}

#[test]
fn a_repeat_before_its_answer_was_taken_costs_the_link() {
    let mut hand = Hand::new(10);
    // It gives no credit for replies.
    let lane = hand.lane(1, 0);
    let asked = RequestHead { idempotent: true, ..head(5) };
    hand.ask(lane, asked, b"x").unwrap();
    let work = hand.claim().unwrap();
    assert!(hand.works.answer(work.key, reply(b"y")));
    assert!(hand.ask(lane, asked, b"x").is_err(), "else it could have any number of answers laid ready");
    // Over another lane it may not have come.
    let lane = hand.lane(1, FULL);
    hand.ask(lane, asked, b"x").unwrap();
    assert_eq!(hand.kinds(lane), [to_requester::REPLY]);
    hand.ask(lane, asked, b"x").unwrap();
    assert_eq!(hand.kinds(lane), [to_requester::REPLY], "it was taken");
}

#[test]
fn a_repeat_costs_the_link_while_its_own_answer_is_half_written_and_not_while_another_one_is() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let again = |id| RequestHead { idempotent: true, ..head(id) };
    let ask = |hand: &mut Hand, id, body: &[u8]| {
        hand.ask(lane, again(id), b"x").unwrap();
        let work = hand.claim().unwrap().key;
        hand.works.answer(work, reply(body));
    };
    ask(&mut hand, 0, b"short");
    assert_eq!(hand.kinds(lane), [to_requester::REPLY]);
    ask(&mut hand, 1, &vec![0; 20 * PIECE]);
    assert!(hand.works.take_outgoing(lane, Waker::noop(), &mut Vec::new()));
    ask(&mut hand, 2, b"not begun");
    hand.ask(lane, again(0), b"x").unwrap();
    assert_eq!(hand.works.counts.repeated, 1, "its own answer was taken");
    assert!(hand.ask(lane, again(1), b"x").is_err());
}

#[test]
fn a_repeat_brings_its_own_time() {
    let mut hand = Hand::new(10);
    let again = |remaining| RequestHead { idempotent: true, remaining, ..head(1) };
    let lane = hand.lane(1, FULL);
    hand.ask(lane, again(1000), b"again").unwrap();
    let work = hand.claim().unwrap();
    hand.works.arm(hand.now);
    let _ = hand.works.take_effects();
    for (remaining, sooner) in [(1000, false), (1001, false), (999, true)] {
        let next = hand.lane(1, FULL);
        hand.ask(next, again(remaining), b"again").unwrap();
        assert_eq!(hand.works.take_effects().look, sooner, "{remaining}");
    }
    hand.pass(998);
    assert!(hand.works.is_open(work.key));
    hand.pass(1);
    assert!(!hand.works.is_open(work.key), "the last one's time is up");
}

#[test]
fn the_largest_reply_is_told_while_somebody_waits_for_one() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    hand.ask(lane, RequestHead { idempotent: true, ..head(0) }, b"x").unwrap();
    let work = hand.claim().unwrap().key;
    assert_eq!(hand.works.largest_reply(work), Some(MAX_MESSAGE));
    hand.works.close_lane(lane);
    assert_eq!(hand.works.largest_reply(work), None, "it may only be asked again");
    hand.works.answer(work, reply(b"y"));
    assert_eq!(hand.works.largest_reply(work), None);
}

#[test]
fn what_is_lost_with_its_lane_is_counted() {
    let mut hand = Hand::new(10);
    let (stale, fresh) = (hand.lane(1, FULL), hand.lane(1, FULL));
    let again = |id| RequestHead { idempotent: true, ..head(id) };
    hand.say(stale, |out| {
        put_request(out, again(0), &[], 9, 1);
        out.extend_from_slice(b"a");
    })
    .unwrap();
    hand.ask(fresh, again(0), b"all of it").unwrap();
    assert_eq!((hand.works.counts.lost, hand.works.counts.repeated), (1, 0), "it begins anew");
    hand.ask(stale, again(1), b"in hand").unwrap();
    hand.ask(stale, head(2), b"not to be asked again").unwrap();
    let in_hand: Vec<_> = (0..3).map(|_| hand.claim().unwrap()).collect();
    hand.ask(stale, again(3), b"waits").unwrap();
    hand.works.close_lane(stale);
    assert_eq!(hand.works.counts.lost, 3);
    assert_eq!(in_hand.iter().map(|work| hand.works.is_open(work.key)).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(hand.works.figures().waiting, 0);
}
