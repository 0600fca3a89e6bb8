//! What an answer changes, and what is kept of a message then.

use super::*;

/// Accepts one message with this body.
fn accept(pusher: &Pusher, body: impl Into<Bytes>) {
    let _ = lock(&pusher.intake).accept(&NewMessage::new(body)).unwrap();
}

#[test]
fn each_answer_is_counted_once() {
    let mut pusher = Pusher::new(None);
    let key = pusher.open(false);
    pusher.hear(key, to_sender::CREDIT, &[100, 1000]).unwrap();
    pusher.send(10);
    pusher.written(key);
    pusher.hear(key, to_sender::NACK, &[0, 0, 2, 3, 1]).unwrap();
    pusher.hear(key, to_sender::RETURN, &[4, 2]).unwrap();
    pusher.hear(key, to_sender::ACK, &[6, 1]).unwrap();
    pusher.hear(key, to_sender::ACK_UP_TO, &[9]).unwrap();
    let figures = |pusher: &Pusher| pusher.flight.lanes().map(|lane| (lane.in_flight, lane.sent, lane.handled)).next();
    assert_eq!(figures(&pusher), Some((1, 10, 4)));
    // The same again, of those that have come back: they go out in their order.
    pusher.written(key);
    assert_eq!(figures(&pusher), Some((6, 15, 4)));
    pusher.hear(key, to_sender::NACK, &[0, 10, 2]).unwrap();
    pusher.hear(key, to_sender::RETURN, &[13, 2]).unwrap();
    pusher.hear(key, to_sender::ACK_UP_TO, &[15]).unwrap();
    assert_eq!(figures(&pusher), Some((0, 15, 6)));
    let counts = Counts { handled: 6, redelivered: 5, nacked: 5, unhanded: 4, ..Counts::default() };
    assert_eq!(pusher.flight.counts, counts);
}

#[test]
fn a_late_answer_settles_what_has_gone_out_again() {
    let mut pusher = Pusher::new(None);
    let first = pusher.open(false);
    pusher.hear(first, to_sender::CREDIT, &[9, 1000]).unwrap();
    pusher.send(3);
    (0..3).for_each(|sequence| pusher.flight.track(sequence));
    pusher.written(first);
    pusher.flight.close_lane(first, pusher.now);
    let second = pusher.open(false);
    pusher.hear(second, to_sender::CREDIT, &[9, 1000]).unwrap();
    pusher.written(second);
    assert_eq!(pusher.flight.in_flight(), 3);
    let late = |kind: u8, sequence, reason: &str| {
        [&Payload::of(&[sequence, 1, u64::from(kind)]).0, reason.as_bytes()].concat()
    };
    let mut hear = |payload: Vec<u8>| pusher.flight.handle_answer(second, to_sender::LATE, &payload, pusher.now);
    hear(late(to_sender::REJECT, 1, "no")).unwrap();
    hear(late(to_sender::REJECT, 1, "no, once more")).unwrap();
    hear(late(to_sender::ACK, 2, "")).unwrap();
    // It came back when its lane was lost.
    hear(late(to_sender::NACK, 0, "")).unwrap();
    // Its second attempt is under way on this lane, and is answered by its position.
    hear(Payload::of(&[0, 2, u64::from(to_sender::ACK)]).0).unwrap();
    let effects = pusher.flight.take_effects();
    let rejected = Outcome::Rejected("no".into());
    assert_eq!(effects.settled, [(1, rejected.clone()), (2, Outcome::Handled)]);
    let dead: Vec<_> =
        effects.dead.into_iter().map(|dead| (dead.sequence, dead.outcome, dead.attempt, dead.by)).collect();
    assert_eq!(dead, [(1, rejected, 1, NodeId::from_bytes([1; 32]))]);
    let counts = Counts { handled: 1, rejected: 1, redelivered: 3, late: 2, ..Counts::default() };
    assert_eq!((pusher.flight.counts, pusher.flight.in_flight()), (counts, 1));
}

#[test]
fn answers_of_a_later_revision_are_passed_over_from_0x40_on() {
    let mut pusher = Pusher::new(None);
    let key = pusher.open(false);
    for (kind, passed_over) in [(0x3f, false), (0x40, true), (0x7f, true), (0xff, true)] {
        assert_eq!(pusher.hear(key, kind, &[1, 2, 3]).is_ok(), passed_over, "{kind:x}");
    }
}

#[test]
fn a_run_is_let_go_with_its_last_answer() {
    let mut pusher = Pusher::new(None);
    let key = pusher.open(false);
    pusher.hear(key, to_sender::CREDIT, &[9, 1000]).unwrap();
    let runs = |pusher: &Pusher| pusher.flight.lanes[&key].runs.len();
    pusher.send(3);
    pusher.written(key);
    pusher.hear(key, to_sender::ACK_UP_TO, &[2]).unwrap();
    assert_eq!(runs(&pusher), 1);
    pusher.hear(key, to_sender::RETURN, &[2, 1]).unwrap();
    assert_eq!(runs(&pusher), 0);
    // Once it has gone out again, and with a fresh one behind it.
    pusher.send(1);
    pusher.written(key);
    assert_eq!(runs(&pusher), 2);
    pusher.hear(key, to_sender::ACK_UP_TO, &[4]).unwrap();
    assert_eq!(runs(&pusher), 1);
    pusher.hear(key, to_sender::ACK_UP_TO, &[5]).unwrap();
    assert_eq!(runs(&pusher), 0);
}

#[test]
fn what_comes_back_holds_nothing_of_what_it_was_accepted_with() {
    let mut pusher = Pusher::new(None);
    let key = pusher.open(false);
    pusher.hear(key, to_sender::CREDIT, &[9, 1 << 20]).unwrap();
    (1..=2).for_each(|byte| accept(&pusher, vec![byte; 3000]));
    pusher.turn();
    let mut out = Vec::new();
    pusher.flight.take_outgoing(key, Waker::noop(), &mut out);
    let chunk = out.pop().expect("both in one piece");
    assert_eq!(chunk.len(), 2 * 3003);
    pusher.hear(key, to_sender::NACK, &[0, 0, 1]).unwrap();
    assert!(!chunk.is_unique(), "the other one is in flight");
    pusher.hear(key, to_sender::ACK, &[1, 1]).unwrap();
    assert!(chunk.is_unique());
    assert_eq!(pusher.flight.returned[&0].content.body, vec![1; 3000]);
}

#[test]
fn a_large_body_stays_its_senders_slice_also_when_it_comes_back() {
    for (len, stays) in [(LARGE_BODY - 1, false), (LARGE_BODY, true), (LARGE_BODY + 1, true)] {
        let mut pusher = Pusher::new(None);
        let key = pusher.open(false);
        pusher.hear(key, to_sender::CREDIT, &[9, 1 << 20]).unwrap();
        let body = Bytes::from(vec![1; len]);
        accept(&pusher, body.clone());
        pusher.turn();
        pusher.written(key);
        pusher.hear(key, to_sender::NACK, &[0, 0, 1]).unwrap();
        let kept = &pusher.flight.returned[&0].content.body;
        assert_eq!((kept == &body, kept.as_ptr() == body.as_ptr()), (true, stays), "{len} bytes");
    }
}

#[test]
fn what_was_not_handed_out_goes_out_at_once_however_often_it_has_failed() {
    let mut pusher = Pusher::new(None);
    let key = pusher.open(false);
    pusher.hear(key, to_sender::CREDIT, &[9, 1000]).unwrap();
    pusher.send(1);
    pusher.written(key);
    pusher.hear(key, to_sender::NACK, &[0, 0, 1]).unwrap();
    pusher.written(key);
    pusher.hear(key, to_sender::NACK, &[0, 1, 1]).unwrap();
    pusher.now = pusher.flight.next_due().expect("after the second time it waits");
    pusher.written(key);
    pusher.hear(key, to_sender::RETURN, &[2, 1]).unwrap();
    pusher.turn();
    assert_eq!((pusher.flight.next_due(), pusher.flight.in_flight()), (None, 1));
}

#[test]
fn the_end_of_a_lane_takes_back_only_what_is_still_there() {
    let mut pusher = Pusher::new(None);
    let lost = pusher.open(false);
    pusher.hear(lost, to_sender::CREDIT, &[9, 1000]).unwrap();
    pusher.send(4);
    pusher.written(lost);
    pusher.flight.close_lane(lost, pusher.now);
    // All of them once more, over one lane; one fails and another is returned, and go on over the next one.
    let [first, second] = [(); 2].map(|()| pusher.open(false));
    pusher.hear(first, to_sender::CREDIT, &[4, 1000]).unwrap();
    pusher.written(first);
    pusher.hear(first, to_sender::NACK, &[0, 0, 1]).unwrap();
    pusher.hear(first, to_sender::RETURN, &[1, 1]).unwrap();
    pusher.hear(first, to_sender::ACK, &[2, 1]).unwrap();
    pusher.hear(second, to_sender::CREDIT, &[9, 1000]).unwrap();
    pusher.written(second);
    let loads = |pusher: &Pusher| pusher.flight.lanes().map(|lane| lane.in_flight).collect::<Vec<_>>();
    assert_eq!(loads(&pusher), [1, 2]);
    pusher.flight.close_lane(first, pusher.now);
    assert_eq!(pusher.flight.waiting_again(), 1);
    pusher.written(second);
    assert_eq!(loads(&pusher), [3]);
    pusher.hear(second, to_sender::ACK_UP_TO, &[3]).unwrap();
    assert_eq!(pusher.flight.counts.handled, 4);
}

#[test]
fn a_late_answer_of_a_kind_beyond_a_byte_is_no_acknowledgement() {
    let mut pusher = Pusher::new(None);
    let first = pusher.open(false);
    pusher.hear(first, to_sender::CREDIT, &[9, 1000]).unwrap();
    pusher.send(1);
    pusher.written(first);
    pusher.flight.close_lane(first, pusher.now);
    let second = pusher.open(false);
    let kind = 0x100 + u64::from(to_sender::ACK);
    assert!(pusher.hear(second, to_sender::LATE, &[0, 1, kind]).is_err());
    assert_eq!(pusher.flight.counts.handled, 0);
}
