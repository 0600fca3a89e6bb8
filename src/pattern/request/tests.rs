//! Requests by tables, with the replier's part played by hand: how they go out and end. Both parts together are tested in
//! `sim/exchange.rs`. In `choose`: who is asked, and who waits for room; in `end`: what ends requests; in `lane`: what goes
//! over a lane, and what may not.

mod choose;
mod end;
mod lane;

use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::pattern::lane::Violation;
use crate::wire::control::{Level, SocketKind};
use crate::wire::exchange::{put_numbers, put_reply, to_replier, to_requester};
use crate::wire::limits::PIECE;

const SECOND: Duration = Duration::from_secs(1);
const MAX_MESSAGE: usize = 1 << 20;
const FULL: u64 = 1 << 30;

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

    fn say(&mut self, key: LaneKey, put: impl FnOnce(&mut BytesMut)) -> Result<(), Violation> {
        let mut out = BytesMut::new();
        put(&mut out);
        self.requests.handle_incoming(key, &mut [out.freeze()], self.now, MAX_MESSAGE)
    }

    fn reply(&mut self, key: LaneKey, number: u64, body: &[u8]) -> Result<(), Violation> {
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
    assert_eq!(hand.ended(unsent), Some(Outcome::Unknown(Lost::Link(node(2)))));
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
