//! What a publisher may say, and what it may not; and what receivers are handed. All orders of everything are in
//! `sim/news`. In `lane`: what a lane tells, and when; in `kept`: what is kept of publishers and of lanes that are over.

mod kept;
mod lane;

use std::sync::atomic::AtomicUsize;
use std::task::{Context, Wake};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::wire::Violation;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame::{self, Payload, to_receiver, to_sender};
use crate::wire::limits::MAX_SEQUENCE_SAID;

fn feed(strict: bool) -> Arc<Feed> {
    Feed::new(7, BTreeSet::from(["a".into()]), 10, strict, 1000)
}

/// A lane that has said nothing yet.
fn silent(feed: &Arc<Feed>, node: u8) -> Arc<FeedLane> {
    let open = OpenLane {
        from: SocketId(3),
        to: SocketId(1),
        kind: SocketKind::Publisher,
        level: Level::AtLeastOnce,
        epoch: 9,
        base: 0,
        taken: false,
    };
    feed.accept(peer(node), &open)
}

fn peer(node: u8) -> LanePeer {
    LanePeer { node: NodeId::from_bytes([node; 32]), socket: SocketId(3), link: 1, slots: false, max_message: 1000 }
}

fn accept(feed: &Arc<Feed>, node: u8) -> Arc<FeedLane> {
    let lane = silent(feed, node);
    // The subscription is told, and credit is given once it is confirmed.
    written(&lane);
    lane
}

/// Counts how often it is rung.
#[derive(Debug, Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Bell {
    /// How often since the last look.
    fn rang(&self) -> usize {
        self.0.swap(0, Relaxed)
    }
}

/// What the lane says now, and when it wants to be asked again. Its writer sleeps then, and is woken by the bell.
fn says(lane: &Arc<FeedLane>, bell: &Arc<Bell>, now: Instant) -> (Vec<String>, Option<Instant>) {
    let (mut out, mut again, mut said) = (Vec::new(), None, Vec::new());
    let waker = Waker::from(bell.clone());
    let _ = lane.poll_outgoing(&mut Context::from_waker(&waker), now, &mut out, &mut again);
    let bytes = out.concat();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (kind, payload, used) = frame::whole_answer(rest).unwrap().expect("it is whole");
        let mut numbers = frame::Numbers::new(payload);
        said.push(match kind {
            to_sender::SUBSCRIBE => {
                let head = subscription::read(payload, |_| Ok(())).unwrap();
                let at = head.who.and_then(|who| who.at).map(|at| format!(" from {} of {}", at.position, at.stream));
                format!("subscribe {}{}", head.version, at.unwrap_or_default())
            }
            to_sender::CREDIT => format!("credit {} {}", numbers.next().unwrap(), numbers.next().unwrap()),
            to_sender::RECEIVED => format!("received {}", numbers.next().unwrap()),
            to_sender::CLOSING => "closing".into(),
            kind => panic!("{kind}"),
        });
        rest = &rest[used..];
    }
    bell.rang();
    (said, again)
}

fn said(lane: &Arc<FeedLane>) -> Vec<String> {
    says(lane, &Arc::default(), Instant::now()).0
}

fn written(lane: &Arc<FeedLane>) -> Vec<u8> {
    let (mut out, mut again) = (Vec::new(), None);
    let mut cx = Context::from_waker(Waker::noop());
    let _ = lane.poll_outgoing(&mut cx, Instant::now(), &mut out, &mut again);
    out.concat()
}

fn control(kind: u8, numbers: &[u64]) -> Bytes {
    let mut out = BytesMut::new();
    frame::put_control(&mut out, kind, &Payload::of(numbers).0);
    out.freeze()
}

fn message(topic: &str, body: &str) -> Bytes {
    let mut out = BytesMut::new();
    frame::put_published_head(&mut out, topic, &[], body.len());
    out.extend_from_slice(body.as_bytes());
    out.freeze()
}

fn hear(lane: &Arc<FeedLane>, frames: &[Bytes]) -> Result<Heard, Violation> {
    lane.handle_incoming(Instant::now(), &mut [frames.concat().into()])
}

/// One whose subscription is in force, with credit.
fn live(feed: &Arc<Feed>, node: u8) -> Arc<FeedLane> {
    let lane = accept(feed, node);
    assert!(hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 5])]).unwrap().confirmed);
    written(&lane);
    lane
}

fn claim(feed: &Feed) -> Option<(String, Option<Gap>)> {
    match feed.try_claim().unwrap()? {
        Claimed::Message(batch, index, gap) => Some((String::from_utf8(batch.body(index).to_vec()).unwrap(), gap)),
        Claimed::Missed(gap) => Some(("missed".into(), Some(gap))),
    }
}

#[test]
fn what_no_publisher_says_ends_its_link() {
    let subscribed = || control(to_receiver::SUBSCRIBED, &[1, 5]);
    for (frames, what) in [
        (vec![message("a", "1")], "a message before a subscription is confirmed"),
        (vec![control(to_receiver::GAP, &[1])], "a gap before that"),
        (vec![message("a", "1"), subscribed()], "a message that a confirmation follows"),
        (vec![control(to_receiver::SUBSCRIBED, &[2, 0])], "what was not asked for"),
        (vec![control(to_receiver::SUBSCRIBED, &[0, 0])], "no version"),
        (vec![control(to_receiver::WAITING, &[1, 0])], "what only pushers say"),
    ] {
        assert!(hear(&accept(&feed(false), 1), &frames).is_err(), "{what}");
    }
    let plain = Bytes::from_static(&[2, 0, b'x']);
    let delta = Bytes::from_static(&[5, 0x21, 2, 1, b'a', b'x']);
    for (frames, what) in [
        (vec![subscribed()], "the same again"),
        (vec![control(to_receiver::GAP, &[0])], "a gap of nothing"),
        (vec![control(to_receiver::GAP, &[MAX_SEQUENCE_SAID + 1])], "a gap beyond all positions"),
        (
            vec![control(to_receiver::GAP, &[MAX_SEQUENCE_SAID]), control(to_receiver::GAP, &[1])],
            "two of them together",
        ),
        (vec![control(to_receiver::GAP, &[MAX_SEQUENCE_SAID]), message("a", "1")], "a message beyond all positions"),
        (vec![plain], "a message without a topic"),
        (vec![delta], "a message that differs by dispatch"),
        (vec![message("a..b", "1")], "a topic with an empty part"),
        (vec![message("a.*", "1")], "a topic with a wildcard"),
        (vec![message("a\n", "1")], "a topic with a line break"),
        (vec![message("a", &"x".repeat(1001))], "a body above the limit"),
        (vec![message("a", "1"); 11], "more than the credit"),
    ] {
        assert!(hear(&live(&feed(false), 1), &frames).is_err(), "{what}");
    }
    assert!(hear(&live(&feed(false), 1), &[control(0x40, &[1])]).is_ok(), "a kind that may be skipped");
    assert!(hear(&live(&feed(false), 1), &vec![message("a", "1"); 10]).is_ok(), "all the credit");
}

#[test]
fn what_is_missing_stands_in_its_place() {
    let feed = feed(false);
    let (one, two) = (live(&feed, 1), live(&feed, 2));
    let gap = |count| control(to_receiver::GAP, &[count]);
    let frames = [message("a", "1"), gap(2), gap(3), message("a", "2"), message("a", "3"), gap(7)];
    // In one piece, and byte by byte.
    hear(&one, &frames).unwrap();
    for byte in frames.concat() {
        hear(&two, &[Bytes::copy_from_slice(&[byte])]).unwrap();
    }
    for node in [1, 2] {
        let publisher = NodeId::from_bytes([node; 32]);
        let missing = Some(Gap { publisher, count: 5, exact: true });
        assert_eq!(claim(&feed), Some(("1".into(), None)));
        assert_eq!(claim(&feed), Some(("2".into(), missing)));
        assert_eq!(claim(&feed), Some(("3".into(), None)));
    }
    assert_eq!(claim(&feed), None);
    hear(&one, &[message("a", "4")]).unwrap();
    let missing = Gap { publisher: NodeId::from_bytes([1; 32]), count: 7, exact: true };
    assert_eq!(claim(&feed), Some(("4".into(), Some(missing))));
    let figures = feed.figures();
    assert_eq!((figures.received, figures.handed, figures.missed), (7, 7, 24));
    assert_eq!(figures.publishers.iter().map(|publisher| publisher.missed).collect::<Vec<_>>(), [12, 12]);
}

#[test]
fn a_strict_socket_is_told_by_an_error_also_where_nothing_follows() {
    let feed = feed(true);
    let lane = live(&feed, 1);
    let gap = |count| control(to_receiver::GAP, &[count]);
    hear(&lane, &[message("a", "1"), gap(2), message("a", "2"), gap(3)]).unwrap();
    let missed =
        |count| Some(("missed".into(), Some(Gap { publisher: NodeId::from_bytes([1; 32]), count, exact: true })));
    assert!(!feed.is_missed_next(), "a message is");
    assert_eq!(claim(&feed), Some(("1".into(), None)));
    assert!(feed.is_missed_next());
    assert_eq!(claim(&feed), missed(2));
    assert!(!feed.is_missed_next());
    assert_eq!(claim(&feed), Some(("2".into(), None)));
    assert!(feed.is_missed_next(), "nothing follows");
    assert_eq!(claim(&feed), missed(3));
    assert!(!feed.is_missed_next(), "nothing is there");
    assert_eq!(claim(&feed), None);
}

#[test]
fn where_it_is_no_error_the_next_call_never_says_that_messages_are_missing() {
    let feed = feed(false);
    let lane = live(&feed, 1);
    hear(&lane, &[control(to_receiver::GAP, &[2])]).unwrap();
    assert!(!feed.is_missed_next());
    hear(&lane, &[message("a", "1")]).unwrap();
    assert!(!feed.is_missed_next(), "the message does, by itself");
}

#[test]
fn nothing_waits_at_a_closed_socket_and_what_was_missed_stays_counted() {
    let feed = feed(false);
    let lane = live(&feed, 1);
    let gap = || control(to_receiver::GAP, &[2]);
    hear(&lane, &[message("a", "1"), gap(), message("a", "2"), gap()]).unwrap();
    claim(&feed);
    let figures = |feed: &Feed| {
        let Figures { received, handed, waiting, missed, publishers, .. } = feed.figures();
        (received, handed, waiting, missed, publishers[0].waiting)
    };
    assert_eq!(figures(&feed), (2, 1, 1, 4, 1));
    feed.drain();
    assert_eq!(figures(&feed), (2, 1, 0, 4, 0));
}

#[test]
fn a_receiver_that_does_not_wait_any_more_is_not_woken() {
    let feed = feed(false);
    let lane = live(&feed, 1);
    let bells: [Arc<Bell>; 2] = Default::default();
    let mut tickets: [Ticket; 2] = Default::default();
    for (bell, ticket) in bells.iter().zip(&mut tickets) {
        let waker = Waker::from(bell.clone());
        assert!(feed.poll_claim(ticket, &mut Context::from_waker(&waker)).is_pending());
    }
    feed.forget(&mut tickets[0]);
    hear(&lane, &[message("a", "1")]).unwrap();
    assert_eq!(bells.map(|bell| bell.rang()), [0, 1]);
}

#[test]
fn a_closing_socket_says_so_once_and_takes_nothing_in() {
    let feed = feed(false);
    let lane = live(&feed, 1);
    let bell = Arc::default();
    says(&lane, &bell, Instant::now());
    feed.change(true, "b").unwrap();
    feed.drain();
    assert!(bell.rang() > 0);
    assert_eq!(said(&lane), ["closing"], "and no change, nor credit");
    assert_eq!(said(&lane), Vec::<String>::new());
    let heard = hear(&lane, &[message("a", "1"), control(to_receiver::GAP, &[0])]);
    assert!(heard.is_ok_and(|heard| heard.missed.is_none()), "what still comes is not looked at");
    assert_eq!(feed.figures().received, 0);
    assert_eq!(said(&accept(&feed, 2)), Vec::<String>::new(), "one that comes then has been told at once");
}

#[test]
fn a_subscription_is_owed_from_when_it_is_told_until_it_is_confirmed() {
    let feed = feed(false);
    let lane = silent(&feed, 1);
    let states = |lane: &Arc<FeedLane>| {
        (lane.owes(), feed.confirmed_lanes(), feed.figures().publishers[0].confirmed, feed.is_confirmed(1, lane.at()))
    };
    let confirm = |version| hear(&lane, &[control(to_receiver::SUBSCRIBED, &[version, 5])]).unwrap();
    assert_eq!(states(&lane), (false, 0, false, false), "it is not told");
    written(&lane);
    assert_eq!(states(&lane), (true, 0, false, false));
    confirm(1);
    assert_eq!(states(&lane), (false, 1, true, true));
    feed.change(true, "b").unwrap();
    assert_eq!(states(&lane), (false, 0, false, true), "there is another one, which is not told");
    written(&lane);
    assert_eq!(states(&lane), (true, 0, false, true));
    confirm(2);
    assert_eq!(states(&lane), (false, 1, true, true));
    assert!(!feed.is_confirmed(3, lane.at()));
    let other = accept(&feed, 2);
    hear(&other, &[control(to_receiver::SUBSCRIBED, &[2, 5])]).unwrap();
    assert_eq!(feed.confirmed_lanes(), 2);
    feed.change(true, "c").unwrap();
    written(&lane);
    feed.drain();
    assert!(!lane.owes(), "a closing socket waits for none");
    other.closed();
    lane.closed();
    assert_eq!((feed.confirmed_lanes(), feed.figures().publishers.len()), (0, 0));
}
