//! Repliers by tables, with the requester's part played by hand. Both parts together are tested in
//! `sim/exchange.rs`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::id::SocketId;
use crate::pattern::lane::Violation;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::exchange::{self, MORE, RequestHead, put_more, put_numbers, put_request, to_replier, to_requester};
use crate::wire::limits::{EXCHANGE_WINDOWS_OF_NODE, PIECE};

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
fn a_body_that_is_announced_and_never_comes_holds_nothing_for_long() {
    let mut hand = Hand::new(1);
    let lane = hand.lane(1, FULL);
    hand.say(lane, |out| {
        put_request(out, head(0), &[], MAX_MESSAGE, 1);
        out.extend_from_slice(b"a");
    })
    .unwrap();
    assert_eq!(hand.works.figures().arriving, 1);
    hand.pass(1000);
    assert_eq!((hand.works.figures().arriving, hand.works.figures().bytes), (0, 0));
    hand.ask(lane, head(1), b"there is room").unwrap();
    assert!(hand.claim().is_some());
    // What still comes of it is passed over.
    hand.say(lane, |out| {
        put_more(out, 0, 1);
        out.extend_from_slice(b"b");
    })
    .unwrap();
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
fn who_does_not_read_makes_nothing_grow() {
    let mut hand = Hand::new(1);
    let lane = hand.lane(1, FULL);
    hand.ask(lane, head(0), b"x").unwrap();
    // Busy is said to all others, until their credit is used up, which is given back only once that was written.
    let asked = (1..).take_while(|id| hand.ask(lane, head(*id), &[0; 1000]).is_ok()).count() as u64;
    assert!(asked <= EXCHANGE_WINDOW_BYTES / 1000, "{asked}");

    // And where replies are not taken, a bounded number of bytes waits, whatever credit was said to be there for them.
    let mut hand = Hand::new(1000);
    let lane = hand.lane(1, 0);
    let body = vec![0; 8 << 20];
    for id in 0..100 {
        hand.ask(lane, head(id), b"x").unwrap();
        let work = hand.claim().unwrap();
        hand.works.answer(work.key, reply(&body));
    }
    assert!(hand.works.figures().bytes <= EXCHANGE_WINDOW_BYTES + (8 << 20));
    hand.say(lane, |out| put_numbers(out, to_replier::CREDIT, &[FULL << 2])).unwrap();
    let failed = hand.kinds(lane).into_iter().filter(|kind| *kind == to_requester::FAILED).count();
    assert!(failed > 80, "the rest is told that there was no room: {failed}");
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
fn bodies_of_one_node_are_limited_over_all_its_lanes() {
    let mut hand = Hand::new(1000);
    let begin = |hand: &mut Hand, lane| {
        hand.say(lane, |out| {
            put_request(out, head(0), &[], MAX_MESSAGE, 1);
            out.extend_from_slice(b"a");
        })
    };
    let most = EXCHANGE_WINDOWS_OF_NODE * EXCHANGE_WINDOW_BYTES / MAX_MESSAGE as u64;
    let lanes: Vec<_> = (0..most + 10).map(|_| hand.lane(1, FULL)).collect();
    let mut busy = 0;
    for lane in lanes {
        begin(&mut hand, lane).unwrap();
        busy += hand.kinds(lane).len() as u64;
    }
    assert_eq!(hand.works.figures().arriving, most);
    assert_eq!((busy, hand.works.counts.busy), (10, 10));
    let honest = hand.lane(2, FULL);
    begin(&mut hand, honest).unwrap();
    assert_eq!(hand.works.figures().arriving, most + 1, "others are not affected");
    let short = hand.lane(1, FULL);
    hand.ask(short, head(1), b"short").unwrap();
    assert_eq!(&hand.claim().unwrap().content.body[..], b"short", "and what is here in full is not either");
}

#[test]
fn bodies_on_their_way_keep_no_node_out_that_has_fewer_places() {
    let mut hand = Hand::new(4);
    let (greedy, other) = (hand.lane(1, FULL), hand.lane(2, FULL));
    let begin = |hand: &mut Hand, lane, id| {
        hand.say(lane, |out| {
            put_request(out, head(id), &[], 2, 1);
            out.extend_from_slice(b"a");
        })
    };
    (0..4).for_each(|id| begin(&mut hand, greedy, id).unwrap());
    begin(&mut hand, greedy, 4).unwrap();
    assert_eq!(hand.kinds(greedy), [to_requester::BUSY], "it takes none of its own");
    for id in 0..2 {
        hand.ask(other, head(id), b"x").unwrap();
        assert_eq!((hand.kinds(other), hand.kinds(greedy)), (vec![], vec![to_requester::BUSY]));
    }
    hand.ask(other, head(2), b"x").unwrap();
    assert_eq!(hand.kinds(other), [to_requester::BUSY], "both have as many");
    assert_eq!((hand.works.counts.returned, hand.works.counts.busy), (2, 2));
    // The rest of what was sent away is passed over, and the others are whole.
    for id in 0..4 {
        hand.say(greedy, |out| {
            put_more(out, id, 1);
            out.extend_from_slice(b"b");
        })
        .unwrap();
    }
    assert_eq!((hand.works.figures().arriving, hand.works.figures().waiting), (0, 4));
    // What is here in full keeps its place.
    let third = hand.lane(3, FULL);
    hand.ask(third, head(0), b"x").unwrap();
    assert_eq!(hand.kinds(third), [to_requester::BUSY]);
    while let Some(handed) = hand.claim() {
        assert!(hand.works.answer(handed.key, reply(b"y")));
    }
    assert!(hand.works.places.is_empty());
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
fn replies_wait_up_to_their_bytes_and_a_single_one_has_no_bound() {
    let window = EXCHANGE_WINDOW_BYTES as usize;
    let zeros = Bytes::from(vec![0; window + 1]);
    for (lengths, kept) in [
        (&[window + 1][..], &[true][..]),
        (&[window / 2, window / 2, 1], &[true, true, false]),
        (&[window / 2, window / 2 + 1, 1], &[true, false, true]),
    ] {
        let mut hand = Hand::new(10);
        let lane = hand.lane(1, 0);
        for (id, length) in (0..).zip(lengths) {
            hand.ask(lane, head(id), b"x").unwrap();
            let work = hand.claim().unwrap().key;
            hand.works.answer(work, Answer::Reply(Content { headers: Bytes::new(), body: zeros.slice(..*length) }));
        }
        let replies = &hand.works.lanes[&lane].replies;
        let kinds: Vec<_> = replies.iter().map(|reply| matches!(reply.answer, Answer::Reply(_))).collect();
        assert_eq!(kinds, kept, "{lengths:?}");
    }
}

#[test]
fn lanes_share_what_is_taken_in_and_each_has_its_least() {
    let mut hand = Hand::new(1);
    for lanes in 1..EXCHANGE_WINDOW_BYTES / LANE_WINDOW_BYTES + 3 {
        let (_, payload) = hand.accept(1).1.remove(0);
        let share = (EXCHANGE_WINDOW_BYTES / lanes).max(LANE_WINDOW_BYTES);
        assert_eq!(exchange::read_number(&payload), Ok(share), "of {lanes}");
    }
}

#[test]
fn of_what_is_over_nothing_is_left() {
    let mut hand = Hand::new(10);
    let lane = hand.lane(1, FULL);
    for id in 0..4 {
        hand.ask(lane, RequestHead { idempotent: true, ..head(id) }, b"x").unwrap();
    }
    let (answered, _in_hand) = (hand.claim().unwrap(), hand.claim().unwrap());
    hand.works.answer(answered.key, reply(b"y"));
    hand.say(lane, |out| put_numbers(out, to_replier::CANCEL, &[2])).unwrap();
    hand.pass(1000);
    assert_eq!(hand.kinds(lane), [to_requester::REPLY]);
    assert_eq!(hand.works.counts.expired, 2);
    assert!(hand.works.repeatable.is_empty() && hand.works.places.is_empty() && hand.works.is_idle());
    assert!(!hand.works.owes(lane) && hand.works.figures().bytes == 0);
}

#[test]
fn answers_that_are_not_written_have_their_place() {
    // One waits for credit, the other is half written.
    for (credit, length) in [(0, 1), (FULL, 100 * PIECE)] {
        let mut hand = Hand::new(1);
        let (lane, other) = (hand.lane(1, credit), hand.lane(2, FULL));
        hand.ask(lane, head(0), b"x").unwrap();
        let work = hand.claim().unwrap().key;
        hand.works.answer(work, reply(&vec![0; length]));
        hand.works.take_outgoing(lane, Waker::noop(), &mut Vec::new());
        hand.ask(other, head(0), b"x").unwrap();
        assert_eq!(hand.kinds(other), [to_requester::BUSY]);
        assert_eq!(hand.works.figures().lanes[1], (node(2), 1, 0));
        hand.say(lane, |out| put_numbers(out, to_replier::CREDIT, &[FULL])).unwrap();
        hand.kinds(lane);
        hand.ask(other, head(1), b"x").unwrap();
        assert_eq!(hand.kinds(other), Vec::<u8>::new());
        assert_eq!(
            hand.works.figures().bytes,
            exchange::cost(0, 1),
            "what was refused holds nothing once that is said"
        );
    }
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
fn a_place_goes_to_who_has_two_fewer_and_not_to_who_has_one_fewer() {
    let mut hand = Hand::new(5);
    let (greedy, full, other) = (hand.lane(1, FULL), hand.lane(2, FULL), hand.lane(3, FULL));
    for id in 0..3 {
        hand.ask(full, head(id), b"x").unwrap();
    }
    for id in 0..2 {
        hand.say(greedy, |out| {
            put_request(out, head(id), &[], 2, 1);
            out.extend_from_slice(b"a");
        })
        .unwrap();
    }
    // The richest has nothing that could go: it is the next one's that does.
    hand.ask(other, head(0), b"x").unwrap();
    assert_eq!((hand.kinds(other), hand.kinds(greedy)), (vec![], vec![to_requester::BUSY]));
    hand.ask(other, head(1), b"x").unwrap();
    assert_eq!((hand.kinds(other), hand.kinds(greedy)), (vec![to_requester::BUSY], vec![]), "each has one");

    let mut hand = Hand::new(3);
    let (greedy, other) = (hand.lane(1, FULL), hand.lane(2, FULL));
    for id in 0..3 {
        hand.say(greedy, |out| {
            put_request(out, head(id), &[], 2, 1);
            out.extend_from_slice(b"a");
        })
        .unwrap();
    }
    hand.ask(other, head(0), b"x").unwrap();
    assert_eq!((hand.kinds(other), hand.kinds(greedy)), (vec![], vec![to_requester::BUSY]));
    hand.ask(other, head(1), b"x").unwrap();
    assert_eq!((hand.kinds(other), hand.kinds(greedy)), (vec![to_requester::BUSY], vec![]), "it would have fewer then");
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
fn a_repeat_while_its_answer_is_half_written_costs_the_link_and_beside_others_nothing() {
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
