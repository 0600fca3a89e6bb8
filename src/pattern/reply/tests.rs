//! Repliers by tables, with the requester's part played by hand: how requests are handed out, answered and given up. Both
//! parts together are tested in `sim/exchange.rs`. In `repeats`: requests that come again; in `places`: what is held for
//! whom; in `lane`: what goes over a lane, and what may not.

mod lane;
mod places;
mod repeats;

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::id::SocketId;
use crate::pattern::lane::Violation;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::exchange::{self, RequestHead, put_more, put_numbers, put_request, to_replier, to_requester};
use crate::wire::limits::PIECE;

const MAX_MESSAGE: usize = 1 << 20;
const FULL: u64 = 1 << 30;

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn head(id: u64) -> RequestHead {
    RequestHead { id, remaining: 1000, idempotent: false, attempt: 1 }
}

fn reply(body: &[u8]) -> Answer {
    Answer::Reply(Content { headers: Bytes::new(), body: Bytes::copy_from_slice(body) })
}

/// A replier whose requesters are played by hand.
struct Hand {
    works: Works,
    now: Instant,
}

impl Hand {
    fn new(limit: u64) -> Self {
        Self { works: Works::new(limit), now: Instant::now() }
    }

    /// A lane from this node, and what it is told first.
    fn accept(&mut self, byte: u8) -> (LaneKey, Vec<(u8, Bytes)>) {
        let peer = LanePeer { node: node(byte), socket: SocketId(1), slots: false, max_message: MAX_MESSAGE, link: 0 };
        let (kind, level) = (SocketKind::Requester, Level::AtMostOnce);
        let open = OpenLane { from: SocketId(1), to: SocketId(2), kind, level, epoch: 7, base: 0, taken: false };
        let key = self.works.accept_lane(peer, &open);
        (key, self.taken(key))
    }

    /// One with this much credit for replies.
    fn lane(&mut self, byte: u8, credit: u64) -> LaneKey {
        let (key, taken) = self.accept(byte);
        assert_eq!(taken.first().map(|(kind, _)| *kind), Some(to_requester::CREDIT), "it may ask at once");
        self.say(key, |out| put_numbers(out, to_replier::CREDIT, &[credit])).unwrap();
        key
    }

    fn say(&mut self, key: LaneKey, put: impl FnOnce(&mut BytesMut)) -> Result<(), Violation> {
        let mut out = BytesMut::new();
        put(&mut out);
        self.works.handle_incoming(key, &mut [out.freeze()], self.now, MAX_MESSAGE)
    }

    fn ask(&mut self, key: LaneKey, head: RequestHead, body: &[u8]) -> Result<(), Violation> {
        self.say(key, |out| {
            let first = body.len().min(PIECE);
            put_request(out, head, &[], body.len(), first);
            out.extend_from_slice(&body[..first]);
            for piece in body[first..].chunks(PIECE) {
                put_more(out, head.id, piece.len());
                out.extend_from_slice(piece);
            }
        })
    }

    /// The first of two bytes of a request.
    fn begin(&mut self, key: LaneKey, id: u64) -> Result<(), Violation> {
        self.say(key, |out| {
            put_request(out, head(id), &[], 2, 1);
            out.extend_from_slice(b"a");
        })
    }

    /// The frames that the lane's writer takes.
    fn taken(&mut self, key: LaneKey) -> Vec<(u8, Bytes)> {
        let mut chunks = Vec::new();
        while self.works.take_outgoing(key, Waker::noop(), &mut chunks) {}
        let (mut frames, mut all) = (Frames::default(), Vec::new());
        frames
            .feed(chunks.concat().into(), |kind, payload| {
                all.push((kind, payload));
                Ok(())
            })
            .unwrap();
        all
    }

    /// Their kinds, without credit.
    fn kinds(&mut self, key: LaneKey) -> Vec<u8> {
        self.taken(key).into_iter().map(|(kind, _)| kind).filter(|kind| *kind != to_requester::CREDIT).collect()
    }

    fn claim(&mut self) -> Option<Handed> {
        self.works.claim(None).ok().flatten()
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.works.expire(self.now);
    }
}

#[test]
fn a_request_is_handed_out_and_answered() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    hand.ask(lane, RequestHead { attempt: 3, idempotent: true, ..head(5) }, b"hello").unwrap();
    assert!(hand.works.owes(lane));
    let handed = hand.claim().unwrap();
    assert_eq!((&handed.content.body[..], handed.node, handed.epoch, handed.id), (&b"hello"[..], node(1), 7, 5));
    assert_eq!((handed.attempt, handed.idempotent), (3, true));
    assert_eq!(handed.deadline, hand.now + Duration::from_secs(1));
    assert!(hand.works.answer(handed.key, reply(b"HELLO")));
    assert!(!hand.works.answer(handed.key, reply(b"twice")), "each is answered once");
    let frames = hand.taken(lane);
    let (_, payload) = frames.iter().find(|(kind, _)| *kind == to_requester::REPLY).unwrap();
    let begun = exchange::read_reply(payload).unwrap();
    assert_eq!((begun.head, &payload[begun.piece..]), (5, &b"HELLO"[..]));
    assert!(!hand.works.owes(lane));
}

#[test]
fn beyond_the_limit_it_is_busy_and_answers_make_room() {
    let mut hand = Hand::new(2);
    let (one, two) = (hand.lane(1, FULL), hand.lane(2, FULL));
    hand.ask(one, head(0), b"a").unwrap();
    hand.ask(two, head(0), b"b").unwrap();
    hand.ask(one, head(1), b"c").unwrap();
    assert_eq!((hand.kinds(one), hand.kinds(two)), (vec![to_requester::BUSY], vec![]));
    let first = hand.claim().unwrap();
    hand.ask(one, head(2), &vec![0; 3 * PIECE]).unwrap();
    assert_eq!(hand.kinds(one), [to_requester::BUSY], "also for what is in hand, and the rest is passed over");
    hand.works.answer(first.key, reply(b"x"));
    hand.kinds(one);
    hand.ask(one, head(3), b"d").unwrap();
    assert_eq!(hand.kinds(one), Vec::<u8>::new());
    assert_eq!((hand.works.counts.busy, hand.works.counts.received), (2, 3));
}

#[test]
fn who_is_given_up_is_told() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    for id in 0..4 {
        hand.ask(lane, head(id), b"x").unwrap();
    }
    let (in_hand, late) = (hand.claim().unwrap(), hand.claim().unwrap());
    let mut ticket = Ticket::default();
    assert_eq!(hand.works.poll_over(in_hand.key, &mut ticket, Waker::noop()), Poll::Pending);
    let _ = hand.works.take_effects();
    hand.say(lane, |out| put_numbers(out, to_replier::CANCEL, &[0])).unwrap();
    assert_eq!(hand.works.take_effects().wakers.len(), 1, "its handler is woken");
    assert_eq!(hand.works.poll_over(in_hand.key, &mut ticket, Waker::noop()), Poll::Ready(()));
    assert!(!hand.works.answer(in_hand.key, reply(b"nobody hears it")));
    hand.say(lane, |out| put_numbers(out, to_replier::CANCEL, &[2])).unwrap();
    assert_eq!(hand.claim().unwrap().id, 3, "what was given up is handed to nobody");
    hand.pass(1000);
    assert!(!hand.works.is_open(late.key), "its time is over");
    assert_eq!(hand.kinds(lane), Vec::<u8>::new());
    let counts = hand.works.counts;
    assert_eq!((counts.cancelled, counts.expired), (2, 2));
    assert_eq!(hand.works.figures().bytes, 0);
}

#[test]
fn a_lost_lane_ends_its_work_unless_it_may_be_asked_again() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    hand.ask(lane, head(0), b"once").unwrap();
    let again = RequestHead { idempotent: true, ..head(1) };
    hand.ask(lane, again, b"again").unwrap();
    let (once, twice) = (hand.claim().unwrap(), hand.claim().unwrap());
    hand.works.close_lane(lane);
    assert!(!hand.works.is_open(once.key) && hand.works.is_open(twice.key));

    // It comes again over another lane: the work that goes on is its work, too.
    let lane = hand.lane(1, FULL);
    hand.ask(lane, RequestHead { attempt: 2, ..again }, &vec![0; 3 * PIECE]).unwrap();
    assert!(hand.claim().is_none());
    assert!(hand.works.answer(twice.key, reply(b"done")));
    assert_eq!(hand.kinds(lane), [to_requester::REPLY]);

    // The answer may have been lost, too: the one that was kept is given.
    hand.works.close_lane(lane);
    let lane = hand.lane(1, FULL);
    hand.ask(lane, RequestHead { attempt: 3, ..again }, b"again").unwrap();
    assert!(hand.claim().is_none());
    assert_eq!(hand.kinds(lane), [to_requester::REPLY]);
    // The same number of another node, or of another life, is another request.
    let other = hand.lane(2, FULL);
    hand.ask(other, again, b"of somebody else").unwrap();
    assert!(hand.claim().is_some());
    assert_eq!(hand.works.counts.repeated, 2);
}

#[test]
fn a_closed_replier_is_drained_once_what_it_sends_away_is_written() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    hand.ask(lane, head(0), b"waits").unwrap();
    hand.works.drain();
    assert!(!hand.works.is_drained());
    assert_eq!(hand.kinds(lane), [to_requester::CLOSING, to_requester::BUSY]);
    assert!(hand.works.is_drained());
    hand.ask(lane, head(1), b"too late").unwrap();
    assert!(!hand.works.is_drained());
    assert_eq!(hand.kinds(lane), [to_requester::BUSY]);
}

#[test]
fn a_closed_replier_sends_away_what_it_has_not_handed_out() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    hand.ask(lane, head(0), b"in hand").unwrap();
    let in_hand = hand.claim().unwrap();
    hand.ask(lane, head(1), b"waits").unwrap();
    hand.say(lane, |out| {
        put_request(out, head(2), &[], 9, 1);
        out.extend_from_slice(b"a");
    })
    .unwrap();
    hand.works.drain();
    assert_eq!(hand.works.claim(None).err(), Some(Closed));
    assert!(!hand.works.is_drained());
    assert_eq!(
        hand.kinds(lane),
        [to_requester::CLOSING, to_requester::BUSY, to_requester::BUSY],
        "also what is on its way, and nobody takes it for full"
    );
    assert!(!hand.works.is_drained());
    hand.ask(lane, head(3), b"too late").unwrap();
    assert_eq!(hand.kinds(lane), [to_requester::BUSY]);
    hand.works.answer(in_hand.key, reply(b"still"));
    assert!(!hand.works.is_drained(), "its answer is not written");
    assert_eq!(hand.kinds(lane), [to_requester::REPLY]);
    assert!(hand.works.is_drained());
    assert_eq!(hand.works.counts.returned, 2);
}

#[test]
fn the_timer_is_set_anew_only_for_what_ends_sooner() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let start = hand.now;
    let at = |millis| start + Duration::from_millis(millis);
    assert!(hand.works.is_idle());
    assert_eq!(hand.works.arm(start), None);
    for (id, remaining, sooner) in [(0, 1000, true), (1, 1000, false), (2, 1500, false), (3, 999, true)] {
        hand.ask(lane, RequestHead { remaining, ..head(id) }, b"x").unwrap();
        assert_eq!(hand.works.take_effects().look, sooner, "{id}");
        hand.works.arm(start);
    }
    assert!(!hand.works.is_idle());
    // What ends first is over by then: it is looked too soon, and not again at a time that has come.
    hand.say(lane, |out| put_numbers(out, to_replier::CANCEL, &[3])).unwrap();
    assert_eq!(hand.works.arm(at(998)), Some(at(999)));
    assert_eq!(hand.works.arm(at(999)), Some(at(1000)));
    hand.pass(1000);
    assert_eq!(hand.works.arm(hand.now), Some(at(1500)), "both that end at once are over");
    hand.pass(500);
    assert!(hand.works.is_idle());
    assert_eq!(hand.works.arm(hand.now), None);
}

#[test]
fn who_waits_is_woken_and_who_has_given_up_is_not() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    let (mut stays, mut leaves) = (Ticket::default(), Ticket::default());
    for ticket in [&mut stays, &mut leaves] {
        assert!(hand.works.claim(Some((ticket, Waker::noop()))).unwrap().is_none());
    }
    hand.works.forget_receiver(&mut leaves);
    let _ = hand.works.take_effects();
    hand.ask(lane, head(0), b"x").unwrap();
    assert_eq!(hand.works.take_effects().wakers.len(), 1, "a receiver");
    let work = hand.claim().unwrap().key;
    let (mut stays, mut leaves) = (Ticket::default(), Ticket::default());
    for ticket in [&mut stays, &mut leaves] {
        assert_eq!(hand.works.poll_over(work, ticket, Waker::noop()), Poll::Pending);
    }
    hand.works.forget_watcher(work, &mut leaves);
    hand.say(lane, |out| put_numbers(out, to_replier::CANCEL, &[0])).unwrap();
    assert_eq!(hand.works.take_effects().wakers.len(), 1, "a watcher");
}

#[test]
fn figures_say_where_each_request_is() {
    let mut hand = Hand::new(10);
    let (one, two) = (hand.lane(1, FULL), hand.lane(2, FULL));
    for (lane, id) in [(one, 0), (one, 1), (one, 2), (two, 0)] {
        hand.ask(lane, head(id), b"x").unwrap();
    }
    hand.say(one, |out| {
        put_request(out, head(3), &[], 9, 1);
        out.extend_from_slice(b"a");
    })
    .unwrap();
    let (first, second) = (hand.claim().unwrap(), hand.claim().unwrap());
    hand.works.answer(first.key, Answer::Failed { code: "abc".into(), message: "defg".into() });
    let Figures { arriving, waiting, in_hand, bytes, lanes } = hand.works.figures();
    assert_eq!((arriving, waiting, in_hand), (1, 2, 1));
    assert_eq!(bytes, 4 * exchange::cost(0, 1) + exchange::cost(0, 9) + 7, "of requests, and of an answer's words");
    assert_eq!(lanes, [(node(1), 4, 3), (node(2), 1, 1)]);
    assert_eq!((hand.works.lane_count(), hand.works.limit()), (2, 10));

    // The node ends.
    assert!(!hand.works.is_closed());
    hand.works.close();
    assert!(hand.works.is_closed() && !hand.works.is_open(second.key));
    assert_eq!(hand.works.claim(None).err(), Some(Closed));
    let Figures { arriving, waiting, in_hand, .. } = hand.works.figures();
    assert_eq!((arriving, waiting, in_hand), (0, 0, 0));
    let counts = Counts { received: 5, handed: 2, failed: 1, returned: 3, lost: 1, ..Counts::default() };
    assert_eq!(hand.works.counts, counts, "each has ended once");
}
