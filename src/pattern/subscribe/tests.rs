//! What a publisher may say, and what it may not; and what receivers are handed. All orders of everything are in
//! `sim/news`.

use std::task::Context;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::wire::Violation;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame::{self, Payload, to_receiver};
use crate::wire::limits::MAX_SEQUENCE_SAID;

fn feed(strict: bool) -> Arc<Feed> {
    Feed::new(7, BTreeSet::from(["a".into()]), 10, strict, 1000)
}

fn accept(feed: &Arc<Feed>, node: u8) -> Arc<FeedLane> {
    let peer = LanePeer {
        node: NodeId::from_bytes([node; 32]),
        socket: SocketId(3),
        link: 1,
        slots: false,
        max_message: 1000,
    };
    let open = OpenLane {
        from: SocketId(3),
        to: SocketId(1),
        kind: SocketKind::Publisher,
        level: Level::AtLeastOnce,
        epoch: 9,
        base: 0,
        taken: false,
    };
    let lane = feed.accept(peer, &open);
    // The subscription is told, and credit is given once it is confirmed.
    written(&lane);
    lane
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
}

#[test]
fn a_strict_socket_is_told_by_an_error_also_where_nothing_follows() {
    let feed = feed(true);
    let lane = live(&feed, 1);
    let gap = |count| control(to_receiver::GAP, &[count]);
    hear(&lane, &[message("a", "1"), gap(2), message("a", "2"), gap(3)]).unwrap();
    let missed =
        |count| Some(("missed".into(), Some(Gap { publisher: NodeId::from_bytes([1; 32]), count, exact: true })));
    assert_eq!(claim(&feed), Some(("1".into(), None)));
    assert!(feed.is_missed_next());
    assert_eq!(claim(&feed), missed(2));
    assert_eq!(claim(&feed), Some(("2".into(), None)));
    assert_eq!(claim(&feed), missed(3));
    assert_eq!(claim(&feed), None);
}

#[test]
fn an_event_tells_at_once_and_then_once_a_second() {
    let feed = feed(false);
    let lane = live(&feed, 1);
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let gap = |lane: &Arc<FeedLane>, now| {
        lane.handle_incoming(now, &mut [control(to_receiver::GAP, &[1])]).unwrap().missed.map(|gap| gap.count)
    };
    let look = |now| {
        let (mut out, mut again) = (Vec::new(), None);
        let told = lane.poll_outgoing(&mut Context::from_waker(Waker::noop()), now, &mut out, &mut again);
        (told.missed.map(|gap| gap.count), again)
    };
    assert_eq!(gap(&lane, after(0)), Some(1));
    assert_eq!(gap(&lane, after(10)), None);
    assert_eq!(gap(&lane, after(20)), None);
    look(after(30));
    assert_eq!(look(after(40)), (None, Some(after(1000))), "it is looked again then");
    assert_eq!(look(after(1000)).0, Some(2));
    assert_eq!(gap(&lane, after(1500)), None);
    assert_eq!(look(after(2000)).0, Some(1));
    assert_eq!(look(after(3000)).0, None);
    assert_eq!(gap(&lane, after(3001)), Some(1), "a calm second has passed");
}

#[test]
fn a_lane_that_goes_on_says_how_far_it_had_got() {
    let feed = feed(false);
    let lane = live(&feed, 1);
    hear(&lane, &[message("a", "1"), control(to_receiver::GAP, &[4]), message("a", "2")]).unwrap();
    lane.closed();
    let lane = accept(&feed, 1);
    hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 5])]).unwrap();
    written(&lane);
    hear(&lane, &[control(to_receiver::GAP, &[1]), message("a", "3")]).unwrap();
    let publisher = NodeId::from_bytes([1; 32]);
    assert_eq!(claim(&feed), Some(("1".into(), None)));
    assert_eq!(claim(&feed), Some(("2".into(), Some(Gap { publisher, count: 4, exact: true }))));
    assert_eq!(claim(&feed), Some(("3".into(), Some(Gap { publisher, count: 1, exact: true }))));
    lane.closed();
    // Too late: the publisher does not know it any more.
    let lane = accept(&feed, 1);
    hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 6])]).unwrap();
    written(&lane);
    hear(&lane, &[message("a", "4")]).unwrap();
    assert_eq!(claim(&feed), Some(("4".into(), Some(Gap { publisher, count: 0, exact: false }))));
}

#[test]
fn a_flood_of_gaps_takes_no_memory() {
    let feed = feed(false);
    let (one, two) = (live(&feed, 1), live(&feed, 2));
    for _ in 0..100_000 {
        hear(&one, &[control(to_receiver::GAP, &[1])]).unwrap();
        hear(&two, &[control(to_receiver::GAP, &[1])]).unwrap();
    }
    assert_eq!(lock(&feed.queue).missing.len(), 2);
    assert_eq!(feed.figures().missed, 200_000);
}

#[test]
fn changes_that_a_lane_has_not_told_are_told_together() {
    let feed = feed(false);
    let lane = live(&feed, 1);
    for number in 0..10_u64 {
        assert_eq!(feed.change(true, &format!("n{number}")), Ok(number + 2));
    }
    assert_eq!(feed.change(true, "n3"), Ok(11), "it is there");
    let told = written(&lane);
    assert_eq!(told.len(), 2 + 2 + 10 * 4, "one frame, of ten changes: {told:?}");
    // So many that the whole set is told instead.
    for number in 0..2000_u64 {
        feed.change(number % 2 == 0, "x").unwrap();
    }
    let told = written(&lane);
    let mut patterns = 0;
    let (_, payload, _) = frame::whole_answer(&told).unwrap().unwrap();
    let head = subscription::read(payload, |_| {
        patterns += 1;
        Ok(())
    });
    assert!(head.unwrap().whole);
    assert_eq!(patterns, 11);
}

#[test]
fn what_a_publisher_says_to_be_missing_again_and_again_stays_a_number() {
    for strict in [false, true] {
        let feed = feed(strict);
        // Each life of its lane misses as much as there can be.
        for life in 0..20 {
            let lane = accept(&feed, 1);
            hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, life])]).unwrap();
            hear(&lane, &[control(to_receiver::GAP, &[MAX_SEQUENCE_SAID])]).unwrap();
            lane.closed();
        }
        assert_eq!(feed.figures().missed, u64::MAX);
        for life in 20..40 {
            let lane = accept(&feed, 1);
            hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, life])]).unwrap();
            written(&lane);
            hear(&lane, &[control(to_receiver::GAP, &[MAX_SEQUENCE_SAID - 1]), message("a", "x")]).unwrap();
            while claim(&feed).is_some() {}
            lane.closed();
        }
        assert_eq!(feed.figures().missed, u64::MAX);
    }
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
