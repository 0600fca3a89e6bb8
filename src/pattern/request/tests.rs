//! Requests by tables, with the replier's part played by hand. Both parts together are tested in `sim/exchange.rs`.

use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::wire::control::{Level, SocketKind};
use crate::wire::exchange::{MORE, put_failed, put_more, put_numbers, put_reply, to_replier, to_requester};
use crate::wire::limits::{EXCHANGE_WINDOWS_OF_NODE, MAX_LANES};

const SECOND: Duration = Duration::from_secs(1);
const MAX_MESSAGE: usize = 1 << 20;

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn open() -> OpenLane {
    let (kind, level) = (SocketKind::Requester, Level::AtMostOnce);
    OpenLane { from: SocketId(1), to: SocketId(2), kind, level, epoch: 7, base: 0, taken: false }
}

fn asked(now: Instant, body: &[u8]) -> Asked {
    Asked {
        content: Content { headers: Bytes::new(), body: Bytes::copy_from_slice(body) },
        deadline: now + SECOND,
        idempotent: false,
        patient: false,
        target: Target::Anybody,
    }
}

/// A requester whose repliers are played by hand.
struct Hand {
    requests: Requests,
    now: Instant,
}

impl Hand {
    fn new(messages: u64) -> Self {
        Self { requests: Requests::new(Amount { messages, bytes: 1 << 30 }, 1), now: Instant::now() }
    }

    /// A lane to a socket of this node, and what it is told first.
    fn connect(&mut self, byte: u8, max_message: usize) -> (LaneKey, Vec<(u8, Bytes)>) {
        let peer = LanePeer { node: node(byte), socket: SocketId(2), slots: false, max_message, link: 0 };
        let key = self.requests.open_lane(peer, &open());
        (key, self.taken(key))
    }

    /// One with this much credit, for bodies up to this size.
    fn lane_of(&mut self, byte: u8, credit: u64, max_message: usize) -> LaneKey {
        let (key, _) = self.connect(byte, max_message);
        self.say(key, |out| put_numbers(out, to_requester::CREDIT, &[credit])).unwrap();
        key
    }

    fn lane(&mut self, byte: u8, credit: u64) -> LaneKey {
        self.lane_of(byte, credit, MAX_MESSAGE)
    }

    fn ask(&mut self, body: &[u8]) -> u64 {
        let asked = asked(self.now, body);
        self.requests.ask(asked).unwrap()
    }

    fn ask_of(&mut self, target: Target) -> u64 {
        let asked = Asked { target, ..asked(self.now, b"x") };
        self.requests.ask(asked).unwrap()
    }

    /// This lane's node is asked something, and answers after this time.
    fn answered_after(&mut self, lane: LaneKey, byte: u8, time: Duration) {
        let number = self.ask_of(Target::Node(node(byte)));
        self.kinds(lane);
        self.now += time;
        self.reply(lane, number, b"y").unwrap();
    }

    /// What the lane's writer takes: its frames, by kind and payload.
    fn taken(&mut self, key: LaneKey) -> Vec<(u8, Bytes)> {
        let mut chunks = Vec::new();
        while self.requests.take_outgoing(key, self.now, Waker::noop(), &mut chunks) {}
        let mut bytes = BytesMut::from(&chunks.concat()[..]);
        if bytes.first() == Some(&0) {
            frame::split_open(&mut bytes).unwrap().unwrap();
        }
        let (mut frames, mut all) = (Frames::default(), Vec::new());
        frames
            .feed(bytes.freeze(), |kind, payload| {
                all.push((kind, payload));
                Ok(())
            })
            .unwrap();
        all
    }

    /// The kinds of what it takes, without credit.
    fn kinds(&mut self, key: LaneKey) -> Vec<u8> {
        self.taken(key).into_iter().map(|(kind, _)| kind).filter(|kind| *kind != to_replier::CREDIT).collect()
    }

    fn say(&mut self, key: LaneKey, put: impl FnOnce(&mut BytesMut)) -> Result<(), super::super::lane::Violation> {
        let mut out = BytesMut::new();
        put(&mut out);
        self.requests.handle_incoming(key, &mut [out.freeze()], self.now, MAX_MESSAGE)
    }

    fn reply(&mut self, key: LaneKey, number: u64, body: &[u8]) -> Result<(), super::super::lane::Violation> {
        self.say(key, |out| {
            put_reply(out, number, &[], body.len(), body.len());
            out.extend_from_slice(body);
        })
    }

    fn ended(&mut self, number: u64) -> Option<Outcome> {
        match self.requests.poll(number, Waker::noop()) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.requests.expire(self.now);
    }
}

const FULL: u64 = 1 << 30;

#[test]
fn a_request_is_sent_at_once_and_ends_with_its_reply() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let number = hand.ask(b"hello");
    assert_eq!(hand.ended(number), None);
    assert_eq!(hand.kinds(lane), [to_replier::REQUEST]);
    assert!(hand.requests.owes(lane));
    hand.now += SECOND / 10;
    hand.reply(lane, number, b"HELLO").unwrap();
    let Some(Outcome::Replied { content, by, attempt: 1 }) = hand.ended(number) else { panic!("it is answered") };
    assert_eq!((&content.body[..], by), (&b"HELLO"[..], node(1)));
    assert_eq!(hand.ended(number), None, "it is taken once");
    assert!(!hand.requests.owes(lane));
    let figures = hand.requests.lanes().next().unwrap();
    assert_eq!((figures.open, figures.answered, figures.latency), (0, 1, Some(SECOND / 10)));
    assert_eq!((hand.requests.open(), hand.requests.used()), (0, Amount::default()));
}

#[test]
fn nobody_there_is_said_at_once_but_to_those_who_wait() {
    let mut hand = Hand::new(10);
    let now = hand.now;
    let impatient = hand.ask(b"a");
    let patient = hand.requests.ask(Asked { patient: true, ..asked(now, b"b") }).unwrap();
    let to_one = hand.requests.ask(Asked { target: Target::Node(node(9)), ..asked(now, b"c") }).unwrap();
    assert!(hand.requests.take_effects().look && hand.requests.looks_for_somebody());
    hand.requests.nobody_there(&[(node(9), SocketId(2))]);
    assert_eq!((hand.ended(impatient), hand.ended(to_one)), (None, None), "they are there, and not yet connected");
    hand.requests.nobody_there(&[]);
    assert_eq!(hand.ended(impatient), Some(Outcome::NoReplier));
    assert_eq!(hand.ended(to_one), Some(Outcome::NoReplier));
    assert_eq!(hand.ended(patient), None);
    hand.pass(SECOND);
    assert_eq!(hand.ended(patient), Some(Outcome::NoReplier));
}

#[test]
fn who_waited_for_a_replier_is_sent_when_one_comes() {
    let mut hand = Hand::new(10);
    let now = hand.now;
    let number = hand.requests.ask(Asked { patient: true, ..asked(now, b"a") }).unwrap();
    let to_two = hand.requests.ask(Asked { target: Target::Node(node(2)), ..asked(now, b"b") }).unwrap();
    let one = hand.lane(1, FULL);
    assert_eq!(hand.kinds(one), [to_replier::REQUEST], "the first one, and not the one for somebody else");
    let two = hand.lane(2, FULL);
    assert_eq!(hand.kinds(two), [to_replier::REQUEST]);
    hand.reply(one, number, b"x").unwrap();
    hand.reply(two, to_two, b"y").unwrap();
    assert!(hand.ended(number).is_some() && hand.ended(to_two).is_some());
}

#[test]
fn a_full_replier_is_passed_over_and_when_all_are_it_is_said() {
    let mut hand = Hand::new(10);
    let lanes = [hand.lane(1, FULL), hand.lane(2, FULL)];
    let number = hand.ask(b"a");
    let first = lanes.into_iter().find(|lane| hand.kinds(*lane) == [to_replier::REQUEST]).unwrap();
    let second = lanes.into_iter().find(|lane| *lane != first).unwrap();
    hand.say(first, |out| put_numbers(out, to_requester::BUSY, &[number])).unwrap();
    assert_eq!(hand.ended(number), None);
    assert_eq!((hand.kinds(first), hand.kinds(second)), (vec![], vec![to_replier::REQUEST]));
    hand.say(second, |out| put_numbers(out, to_requester::BUSY, &[number])).unwrap();
    assert_eq!(hand.ended(number), Some(Outcome::Busy));
    assert_eq!(hand.requests.counts.refused, 2);
}

#[test]
fn what_was_not_sent_goes_elsewhere_and_what_was_is_unknown_unless_it_does_no_harm() {
    let mut hand = Hand::new(10);
    let now = hand.now;
    let lost = hand.lane(1, FULL);
    let sent = hand.ask(b"sent");
    let again = hand.requests.ask(Asked { idempotent: true, ..asked(now, b"again") }).unwrap();
    hand.kinds(lost);
    let unsent = hand.ask(b"not taken by the writer");
    hand.requests.close_lane(lost);
    assert_eq!(hand.ended(sent), Some(Outcome::Unknown(Lost::Link(node(1)))));
    assert_eq!((hand.ended(again), hand.ended(unsent)), (None, None));
    let next = hand.lane(2, FULL);
    let frames = hand.taken(next);
    let requests: Vec<_> = frames
        .iter()
        .filter(|(kind, _)| *kind == to_replier::REQUEST)
        .map(|(_, payload)| exchange::read_request(payload).unwrap().head)
        .map(|head| (head.id, head.attempt, head.idempotent))
        .collect();
    assert_eq!(requests, [(again, 2, true), (unsent, 1, false)]);
    // Nobody else is there for the rest of its time: a handler may have run.
    hand.requests.close_lane(next);
    let _ = hand.ended(unsent);
    hand.requests.nobody_there(&[]);
    assert_eq!(hand.ended(again), None);
    hand.pass(SECOND);
    assert_eq!(hand.ended(again), Some(Outcome::Unknown(Lost::Link(node(2)))));
}

#[test]
fn time_that_is_over_says_how_far_a_request_has_come() {
    let mut hand = Hand::new(10);
    let no_credit = hand.lane(1, 0);
    let waits = hand.ask(b"without credit");
    hand.pass(SECOND);
    assert_eq!(hand.ended(waits), Some(Outcome::NotSent), "somebody is there");
    assert_eq!(hand.kinds(no_credit), Vec::<u8>::new(), "and has heard nothing of it");

    let lane = hand.lane(2, FULL);
    let sent = hand.ask(b"sent");
    assert_eq!(hand.kinds(lane), [to_replier::REQUEST]);
    hand.pass(SECOND);
    assert_eq!(hand.ended(sent), Some(Outcome::TimedOut));
    assert_eq!(hand.kinds(lane), [to_replier::CANCEL], "its handler is told");

    let assigned = hand.ask(b"not taken by the writer");
    hand.pass(SECOND);
    assert_eq!(hand.ended(assigned), Some(Outcome::NotSent));
    assert_eq!(hand.kinds(lane), Vec::<u8>::new(), "of what was not sent nothing is said");
    assert_eq!(hand.requests.arm(hand.now), None, "there is nothing to look for");
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
fn the_time_that_remains_travels_with_the_request() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    hand.ask(b"x");
    hand.now += SECOND / 4;
    let (_, payload) = hand.taken(lane).into_iter().find(|(kind, _)| *kind == to_replier::REQUEST).unwrap();
    assert_eq!(exchange::read_request(&payload).unwrap().head.remaining, 750);
}

#[test]
fn who_gives_up_has_its_handler_told_and_its_room_given_back() {
    let mut hand = Hand::new(1);
    let lane = hand.lane(1, FULL);
    let first = hand.ask(b"first");
    let second = hand.ask(b"no room yet");
    assert_eq!(hand.kinds(lane), [to_replier::REQUEST]);
    hand.requests.forget(first, hand.now);
    assert_eq!(hand.kinds(lane), [to_replier::CANCEL, to_replier::REQUEST]);
    hand.requests.forget(second, hand.now);
    assert_eq!(hand.kinds(lane), [to_replier::CANCEL]);
    let third = hand.ask(b"not taken");
    hand.requests.forget(third, hand.now);
    assert_eq!(hand.kinds(lane), Vec::<u8>::new());
    assert_eq!((hand.requests.counts.cancelled, hand.requests.open()), (3, 0));
    // An answer that was under way harms nobody, and its credit is given back.
    hand.reply(lane, first, b"late").unwrap();
    assert_eq!(hand.requests.counts.late, 1);
}

#[test]
fn a_long_body_goes_in_pieces_and_a_short_one_passes_it() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let body = vec![7; 5 * crate::wire::limits::PIECE];
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
fn what_was_begun_and_not_sent_in_full_is_asked_elsewhere() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let number = hand.ask(&vec![7; 8 * crate::wire::limits::PIECE]);
    let mut chunks = Vec::new();
    assert!(hand.requests.take_outgoing(lane, hand.now, Waker::noop(), &mut chunks));
    hand.requests.close_lane(lane);
    let next = hand.lane(2, FULL);
    assert_eq!(hand.kinds(next).len(), 8);
    hand.reply(next, number, b"x").unwrap();
    assert!(matches!(hand.ended(number), Some(Outcome::Replied { .. })), "no handler can have run before");
}

#[test]
fn a_repeat_may_be_answered_before_all_of_it_is_sent() {
    let mut hand = Hand::new(10);
    let lost = hand.lane(1, FULL);
    let body = vec![7; 8 * crate::wire::limits::PIECE];
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
fn the_less_loaded_and_faster_one_is_asked_more() {
    let mut hand = Hand::new(1000);
    let (slow, fast) = (hand.lane(1, FULL), hand.lane(2, FULL));
    // Their latencies are known: 100 ms and 1 ms.
    for (lane, by, millis) in [(slow, 1, 100), (fast, 2, 1)] {
        let asked = Asked { target: Target::Node(node(by)), ..asked(hand.now, b"x") };
        let number = hand.requests.ask(asked).unwrap();
        hand.kinds(lane);
        hand.now += Duration::from_millis(millis);
        hand.reply(lane, number, b"x").unwrap();
    }
    for _ in 0..100 {
        hand.ask(b"x");
    }
    let open: Vec<_> = hand.requests.lanes().map(|lane| lane.open).collect();
    assert_eq!(open[0] + open[1], 100);
    assert!(open[0] <= 1 && open[1] >= 99, "{open:?}");
}

#[test]
fn a_bound_in_bytes_is_exact() {
    let two = 2 * exchange::cost(0, 100);
    for (bytes, with_lanes) in [(two, 2), (two - 1, 1)] {
        let mut hand = Hand::new(1000);
        hand.requests = Requests::new(Amount { messages: 1000, bytes }, 1);
        let lane = hand.lane(1, FULL);
        let first = hand.ask(&[0; 100]);
        hand.ask(&[0; 100]);
        hand.ask(&[0; 100]);
        assert_eq!(hand.requests.used(), Amount { messages: with_lanes, bytes: with_lanes * two / 2 });
        // One that has ended makes room for the next one.
        assert_eq!(hand.kinds(lane).len() as u64, with_lanes);
        hand.reply(lane, first, b"x").unwrap();
        assert_eq!((hand.requests.open(), hand.requests.used().messages), (2, with_lanes));
    }
}

#[test]
fn what_no_replier_takes_is_said() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let number = hand.ask(&vec![0; MAX_MESSAGE + 1]);
    assert_eq!(hand.ended(number), Some(Outcome::TooLarge { size: MAX_MESSAGE + 1, limit: MAX_MESSAGE }));
    assert_eq!(hand.kinds(lane), Vec::<u8>::new());
    let mut small = Requests::new(Amount { messages: 1, bytes: 10 }, 1);
    let refused = small.ask(asked(hand.now, &[0; 11]));
    assert_eq!(refused, Err(Refused::TooLarge { size: 11, limit: 10 }), "more than the whole bound");
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
        let mut pieces = body.chunks(crate::wire::limits::PIECE);
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
fn somebody_is_looked_for_while_nobody_is_connected_who_could_answer() {
    let one = Target::Node(node(1));
    // Who is connected, and has given no credit; whether it closes; who is asked.
    for (byte, closing, target, looked_for) in [
        (None, false, Target::Anybody, true),
        (Some(1), false, Target::Anybody, false),
        (Some(1), true, Target::Anybody, true),
        (None, false, one, true),
        (Some(1), false, one, false),
        (Some(1), true, one, true),
        (Some(2), false, one, true),
        (Some(2), true, one, true),
    ] {
        let mut hand = Hand::new(10);
        if let Some(byte) = byte {
            let lane = hand.lane(byte, 0);
            if closing {
                hand.say(lane, |out| put_numbers(out, to_requester::CLOSING, &[])).unwrap();
            }
        }
        assert!(!hand.requests.looks_for_somebody(), "nothing waits");
        let number = hand.ask_of(target);
        assert_eq!(hand.requests.looks_for_somebody(), looked_for, "{byte:?} {closing} {target:?}");
        hand.requests.nobody_there(&[]);
        assert_eq!(hand.ended(number), looked_for.then_some(Outcome::NoReplier), "{byte:?} {closing} {target:?}");
    }
}

#[test]
fn who_has_left_is_not_there_and_others_only_for_whom_they_are_meant() {
    let (one, two) = (Target::Node(node(1)), Target::Node(node(2)));
    for (there, target, over) in [
        (&[1][..], Target::Anybody, true),
        (&[1, 2], Target::Anybody, false),
        (&[1, 2], one, true),
        (&[1], two, true),
        (&[1, 2], two, false),
    ] {
        let mut hand = Hand::new(10);
        let lane = hand.lane(1, FULL);
        assert!(!hand.requests.has_left(&(node(1), SocketId(2))));
        hand.say(lane, |out| put_numbers(out, to_requester::CLOSING, &[])).unwrap();
        hand.requests.close_lane(lane);
        assert!(hand.requests.has_left(&(node(1), SocketId(2))) && !hand.requests.has_left(&(node(2), SocketId(2))));
        let number = hand.ask_of(target);
        let sockets: Vec<_> = there.iter().map(|byte| (node(*byte), SocketId(2))).collect();
        hand.requests.nobody_there(&sockets);
        assert_eq!(hand.ended(number), over.then_some(Outcome::NoReplier), "{there:?} {target:?}");
        hand.requests.nobody_there(&[]);
        assert!(!hand.requests.has_left(&(node(1), SocketId(2))), "the tables have heard of it");
    }
}

#[test]
fn so_many_are_remembered_to_have_left() {
    let mut hand = Hand::new(10);
    let socket_of = |at: u32| (node(1), SocketId(at.into()));
    for at in 0..=MAX_LANES {
        let (node, socket) = socket_of(at);
        let peer = LanePeer { node, socket, slots: false, max_message: MAX_MESSAGE, link: 0 };
        let lane = hand.requests.open_lane(peer, &open());
        hand.say(lane, |out| put_numbers(out, to_requester::CLOSING, &[])).unwrap();
        hand.requests.close_lane(lane);
        if at >= MAX_LANES - 1 {
            let remembered = (0..=at).filter(|at| hand.requests.has_left(&socket_of(*at))).count();
            assert_eq!(remembered, MAX_LANES as usize);
        }
    }
}

#[test]
fn what_nobody_can_take_now_holds_up_others_where_there_is_much_of_it_and_only_then() {
    for (before, taken) in [(63, true), (64, false)] {
        let mut hand = Hand::new(1000);
        let (short, long) = (hand.lane_of(1, FULL, 10), hand.lane_of(2, 0, MAX_MESSAGE));
        for _ in 0..before {
            hand.ask(&[0; 11]);
        }
        let number = hand.ask(b"short");
        assert_eq!(hand.requests.asks(short, number), taken, "behind {before}");
        hand.say(long, |out| put_numbers(out, to_requester::CREDIT, &[FULL])).unwrap();
        assert_eq!(hand.requests.used().messages, before + 1, "and then all of them have a lane");
    }
}

#[test]
fn what_waits_for_one_socket_of_a_node_holds_up_nothing_for_another() {
    let mut hand = Hand::new(1000);
    let (one, two) = (hand.lane(1, 0), hand.lane(1, 0));
    for _ in 0..200 {
        hand.ask_of(Target::Lane(one, node(1)));
    }
    let number = hand.ask_of(Target::Lane(two, node(1)));
    hand.say(two, |out| put_numbers(out, to_requester::CREDIT, &[FULL])).unwrap();
    assert!(hand.requests.asks(two, number));
    hand.say(one, |out| put_numbers(out, to_requester::CREDIT, &[FULL])).unwrap();
    assert_eq!(hand.requests.lanes().map(|lane| lane.open).collect::<Vec<_>>(), [200, 1]);
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
fn who_waits_for_room_is_not_overtaken() {
    let mut hand = Hand::new(1000);
    hand.requests = Requests::new(Amount { messages: 1000, bytes: 400 }, 1);
    let lane = hand.lane(1, FULL);
    let (first, second, third) = (hand.ask(&[0; 100]), hand.ask(&[0; 200]), hand.ask(&[0; 10]));
    let with_lane = |hand: &Hand| [first, second, third].map(|number| hand.requests.asks(lane, number));
    assert_eq!(with_lane(&hand), [true, false, false], "the third one would have room");
    hand.kinds(lane);
    hand.reply(lane, first, b"x").unwrap();
    assert_eq!(with_lane(&hand), [false, true, true]);
}

#[test]
fn who_waits_for_room_is_not_overtaken_whoever_is_asked() {
    let one = Target::Node(node(1));
    for (large, small) in
        [(Target::Anybody, Target::Anybody), (one, one), (one, Target::Anybody), (Target::Anybody, one)]
    {
        let mut hand = Hand::new(1000);
        hand.requests = Requests::new(Amount { messages: 1000, bytes: 400 }, 1);
        let lane = hand.lane(1, FULL);
        let ask = |hand: &mut Hand, target, size: usize| {
            hand.requests.ask(Asked { target, ..asked(hand.now, &vec![0; size]) }).unwrap()
        };
        let mut last = ask(&mut hand, small, 100);
        let waits = ask(&mut hand, large, 300);
        // Small ones come all the time, one before the last one ends.
        for _ in 0..3 {
            let next = ask(&mut hand, small, 100);
            hand.kinds(lane);
            if hand.requests.asks(lane, last) {
                hand.reply(lane, last, b"y").unwrap();
            }
            last = next;
        }
        assert!(hand.requests.asks(lane, waits), "{large:?} among {small:?}");
    }
}

#[test]
fn who_could_be_given_to_nobody_keeps_no_room_from_others() {
    let mut hand = Hand::new(1000);
    hand.requests = Requests::new(Amount { messages: 1000, bytes: 400 }, 1);
    let lane = hand.lane(1, FULL);
    let ask = |hand: &mut Hand, target, size: usize| {
        hand.requests.ask(Asked { target, ..asked(hand.now, &vec![0; size]) }).unwrap()
    };
    let absent = ask(&mut hand, Target::Node(node(2)), 300);
    let small = [0; 3].map(|_| ask(&mut hand, Target::Anybody, 50));
    assert!(small.iter().all(|number| hand.requests.asks(lane, *number)));
    let other = hand.lane(2, FULL);
    assert!(!hand.requests.asks(other, absent), "now it waits for room");
}

#[test]
fn what_is_as_large_as_the_whole_bound_goes_alone() {
    let mut hand = Hand::new(10);
    hand.requests = Requests::new(Amount { messages: 10, bytes: 10 }, 1);
    assert_eq!(hand.requests.bound(), Amount { messages: 10, bytes: 10 });
    let lane = hand.lane(1, FULL);
    let (first, second) = (hand.ask(&[0; 10]), hand.ask(b""));
    assert!(hand.requests.asks(lane, first) && !hand.requests.asks(lane, second));
    assert_eq!(hand.kinds(lane), [to_replier::REQUEST]);
    hand.reply(lane, first, b"x").unwrap();
    assert!(hand.requests.asks(lane, second));
}

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
fn requests_are_shared_out_by_how_long_each_would_wait() {
    for (millis, count, shares) in [([1, 1], 100, [50, 50]), ([1, 3], 100, [75, 25]), ([1, 100], 50, [50, 0])] {
        let mut hand = Hand::new(1000);
        for (byte, millis) in (1..).zip(millis) {
            let lane = hand.lane(byte, FULL);
            hand.answered_after(lane, byte, Duration::from_millis(millis));
        }
        for _ in 0..count {
            hand.ask(b"x");
        }
        assert_eq!(hand.requests.lanes().map(|lane| lane.open).collect::<Vec<_>>(), shares, "{millis:?}");
    }
}

#[test]
fn any_two_are_drawn_and_the_faster_one_is_asked() {
    let mut hand = Hand::new(1000);
    let lanes: Vec<_> = (0..5).map(|byte| hand.lane(byte, FULL)).collect();
    for (byte, lane) in (0..).zip(&lanes) {
        hand.answered_after(*lane, byte, Duration::from_millis(1 << byte));
    }
    let mut asked = [0_u32; 5];
    for _ in 0..1000 {
        let number = hand.ask(b"x");
        asked[lanes.iter().position(|lane| hand.requests.asks(*lane, number)).unwrap()] += 1;
        hand.requests.forget(number, hand.now);
    }
    // Of ten pairs the fastest is in four, and of the others the second fastest in three.
    for (asked_it, share) in asked.into_iter().zip([400, 300, 200, 100, 0]) {
        assert!(asked_it.abs_diff(share) < 50, "{asked:?}");
    }
}

#[test]
fn dice_roll_as_splitmix64_does() {
    let mut dice = Dice(1_234_567);
    let rolled = [0; 5].map(|_| dice.roll());
    let published = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
        4_593_380_528_125_082_431,
        16_408_922_859_458_223_821,
    ];
    assert_eq!(rolled, published);
}

#[test]
fn an_eighth_of_each_answers_time_counts_and_of_what_is_given_up_only_if_it_took_longer() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let latency = |hand: &Hand| hand.requests.lanes().next().unwrap().latency.unwrap();
    let ms = Duration::from_millis;
    hand.answered_after(lane, 1, ms(80));
    assert_eq!(latency(&hand), ms(80));
    hand.answered_after(lane, 1, ms(160));
    assert_eq!(latency(&hand), ms(90));
    for (time, then) in [(89, 90), (90, 90), (170, 100)] {
        let number = hand.ask(b"x");
        hand.kinds(lane);
        hand.now += ms(time);
        hand.requests.forget(number, hand.now);
        assert_eq!(latency(&hand), ms(then), "given up after {time} ms");
    }
    // Of one that has answered nothing it is all that is known.
    let silent = hand.lane(2, FULL);
    let number = hand.ask_of(Target::Node(node(2)));
    hand.kinds(silent);
    hand.now += ms(30);
    hand.requests.forget(number, hand.now);
    assert_eq!(hand.requests.lanes().nth(1).unwrap().latency, Some(ms(30)));
}

#[test]
fn one_of_the_repliers_closes_and_the_other_is_one_still() {
    let mut hand = Hand::new(10);
    let (leaves, stays) = (hand.lane(1, FULL), hand.lane(2, FULL));
    let repliers = |hand: &Hand| hand.requests.repliers().collect::<Vec<_>>();
    assert_eq!(repliers(&hand), [(leaves, node(1), SocketId(2)), (stays, node(2), SocketId(2))]);
    assert_eq!(hand.requests.lane_count(), 2);
    hand.say(leaves, |out| put_numbers(out, to_requester::CLOSING, &[])).unwrap();
    assert_eq!(repliers(&hand), [(stays, node(2), SocketId(2))]);
    assert_eq!(hand.requests.lane_count(), 1);
    assert_eq!(hand.requests.lanes().map(|lane| lane.able).collect::<Vec<_>>(), [false, true]);
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
fn a_body_on_its_way_ends_with_its_request_and_no_other_one_does() {
    let give_up = |hand: &mut Hand, _, number| hand.requests.forget(number, hand.now);
    let refuse = |hand: &mut Hand, lane, number| {
        hand.say(lane, |out| put_numbers(out, to_requester::BUSY, &[number])).unwrap();
    };
    let ways: [fn(&mut Hand, LaneKey, u64); 2] = [give_up, refuse];
    for end in ways {
        let mut hand = Hand::new(10);
        let lane = hand.lane(1, FULL);
        let body = vec![7; 15 * crate::wire::limits::PIECE];
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
fn lanes_share_what_is_taken_in_and_each_has_its_least() {
    let mut hand = Hand::new(1);
    for lanes in 1..EXCHANGE_WINDOW_BYTES / LANE_WINDOW_BYTES + 3 {
        let (kind, payload) = hand.connect(1, MAX_MESSAGE).1.remove(0);
        let share = (EXCHANGE_WINDOW_BYTES / lanes).max(LANE_WINDOW_BYTES);
        assert_eq!((kind, exchange::read_number(&payload)), (to_replier::CREDIT, Ok(share)), "of {lanes}");
    }
}
