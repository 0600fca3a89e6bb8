//! What a publisher may say, and what it may not; and what receivers are handed. All orders of everything are in
//! `sim/news`.

use std::sync::atomic::AtomicUsize;
use std::task::{Context, Wake};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::wire::Violation;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame::{self, Payload, to_receiver, to_sender};
use crate::wire::limits::{LANE_WINDOW_BYTES, MAX_SEQUENCE_SAID, SUBSCRIBER_WINDOW_BYTES};

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
fn credit_is_told_once_a_quarter_of_the_window_was_handed_out_in_messages() {
    let feed = Feed::new(7, BTreeSet::from(["a".into()]), 100, false, 1000);
    let (lane, bell, now) = (accept(&feed, 1), Arc::default(), Instant::now());
    hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 5])]).unwrap();
    hear(&lane, &vec![message("a", "1"); 100]).unwrap();
    assert_eq!(says(&lane, &bell, now).0, ["received 100"]);
    for handed in 1..=50 {
        claim(&feed).unwrap();
        let worth = handed % 25 == 0;
        assert_eq!(bell.rang(), usize::from(worth), "{handed}");
        // Each counts three bytes.
        let credit = format!("credit {} {}", 100 + handed, SUBSCRIBER_WINDOW_BYTES + 3 * handed);
        assert_eq!(says(&lane, &bell, now).0, if worth { vec![credit] } else { vec![] }, "{handed}");
    }
}

#[test]
fn credit_is_told_once_a_quarter_of_the_window_was_handed_out_in_bytes() {
    let feed = Feed::new(7, BTreeSet::from(["a".into()]), 1000, false, 1 << 20);
    let (lane, bell, now) = (accept(&feed, 1), Arc::default(), Instant::now());
    hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 5])]).unwrap();
    // Each counts a sixteenth of the window.
    let part = SUBSCRIBER_WINDOW_BYTES / 16;
    let body = "x".repeat(part as usize - 2);
    hear(&lane, &vec![message("a", &body); 8]).unwrap();
    assert_eq!(says(&lane, &bell, now).0, ["received 8"]);
    for handed in 1..=8 {
        claim(&feed).unwrap();
        let worth = handed % 4 == 0;
        assert_eq!(bell.rang(), usize::from(worth), "{handed}");
        let credit = format!("credit {} {}", 1000 + handed, SUBSCRIBER_WINDOW_BYTES + part * handed);
        assert_eq!(says(&lane, &bell, now).0, if worth { vec![credit] } else { vec![] }, "{handed}");
    }
}

#[test]
fn lanes_share_the_window_in_bytes_and_each_has_its_least_part() {
    let feed = feed(false);
    for lanes in 1..=65 {
        let lane = silent(&feed, lanes);
        let bytes = (SUBSCRIBER_WINDOW_BYTES / u64::from(lanes)).max(LANE_WINDOW_BYTES);
        assert_eq!(said(&lane), ["subscribe 1".into(), format!("credit 10 {bytes}")]);
    }
}

#[test]
fn credit_in_bytes_may_be_exceeded_by_one_message_and_no_more() {
    // So many that each of the last ones has the least part of the window.
    let feed = Feed::new(7, BTreeSet::from(["a".into()]), 1000, false, 1000);
    let mut lanes: Vec<_> = (1..=66).map(|node| live(&feed, node)).collect();
    // Beyond it, the largest message: its body, its topic and all headers, these with the lengths before them.
    let most = LANE_WINDOW_BYTES + 1000 + (1 + 255) + (4 + (64 << 10));
    // A message of so many bytes.
    let of = |bytes: u64| message("a", &"x".repeat(bytes as usize - 2));
    let until = most % 1002;
    let mut frames = vec![of(1002); (most / 1002) as usize];
    frames.push(of(until));
    let exact = lanes.pop().unwrap();
    hear(&exact, &frames).unwrap();
    assert!(hear(&exact, &[of(2)]).is_err());
    frames.pop();
    frames.push(of(until + 1));
    assert!(hear(&lanes.pop().unwrap(), &frames).is_err());
}

#[test]
fn what_has_arrived_is_told_at_once_and_then_once_a_millisecond() {
    let feed = feed(false);
    let (lane, bell, start) = (live(&feed, 1), Arc::default(), Instant::now());
    let after = |micros| start + Duration::from_micros(micros);
    let look = |now| says(&lane, &bell, now);
    let none = Vec::<String>::new;
    hear(&lane, &[message("a", "1")]).unwrap();
    assert_eq!(look(after(0)), (vec!["received 1".into()], None));
    assert_eq!(look(after(0)), (none(), None), "once");
    hear(&lane, &[message("a", "2"), message("a", "3")]).unwrap();
    assert_eq!(look(after(0)), (none(), Some(after(1000))));
    assert_eq!(look(after(999)), (none(), Some(after(1000))));
    assert_eq!(look(after(1000)), (vec!["received 3".into()], None));
    hear(&lane, &[message("a", "4")]).unwrap();
    assert_eq!(look(after(1999)), (none(), Some(after(2000))));
    assert_eq!(look(after(5000)), (vec!["received 4".into()], None));
    hear(&lane, &[message("a", "5")]).unwrap();
    assert_eq!(look(after(6000)), (vec!["received 5".into()], None), "a calm millisecond has passed");
}

#[test]
fn nobody_looks_again_where_all_that_was_missing_is_told() {
    let feed = feed(false);
    let (lane, now) = (live(&feed, 1), Instant::now());
    assert!(lane.handle_incoming(now, &mut [control(to_receiver::GAP, &[1])]).unwrap().missed.is_some());
    assert_eq!(says(&lane, &Arc::default(), now), (vec!["received 1".into()], None));
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
fn what_comes_over_a_lane_that_another_one_follows_is_left_to_that_one() {
    let feed = feed(false);
    let old = live(&feed, 1);
    hear(&old, &[message("a", "1")]).unwrap();
    let new = silent(&feed, 1);
    assert_eq!(said(&new)[0], "subscribe 1 from 1 of 5");
    hear(&old, &[message("a", "2")]).unwrap();
    hear(&new, &[control(to_receiver::SUBSCRIBED, &[1, 5]), message("a", "2")]).unwrap();
    // Where it had got is where the later one is.
    old.closed();
    new.closed();
    assert_eq!(said(&silent(&feed, 1))[0], "subscribe 1 from 2 of 5");
    assert_eq!([claim(&feed), claim(&feed)], [Some(("1".into(), None)), Some(("2".into(), None))]);
    assert_eq!(claim(&feed), None);
}

#[test]
fn who_has_given_this_socket_up_is_waited_for_by_nobody_and_forgotten() {
    let feed = feed(false);
    let (lane, other) = (live(&feed, 1), live(&feed, 2));
    hear(&lane, &[message("a", "1")]).unwrap();
    lane.closed();
    let lane = accept(&feed, 1);
    hear(&lane, &[control(to_receiver::SUBSCRIBED, &[1, 5])]).unwrap();
    let version = feed.change(true, "b").unwrap();
    written(&lane);
    assert!(lane.owes() && !feed.is_confirmed(version, lane.at()));
    let heard = hear(&lane, &[control(to_receiver::GIVEN_UP, &[3])]).unwrap();
    assert_eq!((heard.confirmed, heard.given_up), (true, Some(3)));
    assert!(!lane.owes() && feed.is_confirmed(version, lane.at()) && !feed.is_confirmed(version, other.at()));
    assert_eq!(said(&lane), ["closing"]);
    assert_eq!(said(&lane), Vec::<String>::new());
    lane.closed();
    assert!(feed.is_confirmed(version, lane.at()), "also when it is over");
    assert_eq!(said(&silent(&feed, 1))[0], "subscribe 2", "it begins anew");
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

#[test]
fn of_1024_publishers_it_is_known_what_is_missing() {
    let feed = feed(false);
    let source = |epoch| Source { node: NodeId::from_bytes([1; 32]), epoch };
    let miss = |epoch| feed.miss(source(epoch), Missing { count: 2, exact: true });
    let missing = |epoch| feed.missing_from(source(epoch).node, epoch).0;
    let most = MAX_REMEMBERED as u64;
    (0..most).for_each(miss);
    miss(7);
    assert_eq!((missing(0), missing(7), missing(most - 1)), (2, 4, 2));
    // They came from the last to the first.
    let feed = self::feed(false);
    (0..most).rev().for_each(|epoch| feed.miss(source(epoch), Missing { count: 2, exact: true }));
    let before = feed.figures().missed;
    feed.miss(source(most), Missing { count: 1, exact: true });
    let missing = |epoch| feed.missing_from(source(epoch).node, epoch).0;
    assert_eq!((missing(most - 1), missing(most - 2), missing(0), missing(most)), (0, 2, 2, 1), "the oldest goes");
    assert_eq!(feed.figures().missed, before + 1, "and stays counted");
}

#[test]
fn of_1024_publishers_that_are_lost_it_is_known_how_far_they_had_got_and_the_longest_lost_goes_first() {
    let feed = feed(false);
    let mut desk = lock(&feed.desk);
    let source = |epoch| Source { node: NodeId::from_bytes([1; 32]), epoch };
    let at = |position| subscription::At { stream: 1, position };
    let most = MAX_REMEMBERED as u64;
    // The last ones are lost first.
    (0..most).rev().for_each(|epoch| desk.remember(source(epoch), at(epoch)));
    assert_eq!(desk.at(source(most - 1)), Some(at(most - 1)));
    desk.remember(source(most - 1), at(9999));
    desk.remember(source(most), at(most));
    assert_eq!(desk.at(source(most - 2)), None, "of the others it is the one that was lost first");
    for (epoch, position) in [(0, 0), (most - 3, most - 3), (most - 1, 9999), (most, most)] {
        assert_eq!(desk.at(source(epoch)), Some(at(position)));
    }
}

#[test]
fn of_1024_publishers_it_is_known_that_they_have_given_this_socket_up() {
    let feed = feed(false);
    let most = MAX_REMEMBERED as u64;
    let give_up = |link| lock(&feed.desk).was_given_up(&LanePeer { link, ..peer(1) });
    let known = |link| feed.is_confirmed(1, At { link, node: peer(1).node, socket: SocketId(3) });
    (1..=most).for_each(give_up);
    assert!(known(1) && known(most) && !known(most + 1));
    give_up(most + 1);
    assert!(!known(1) && known(2) && known(most + 1), "that of the oldest link goes first");
    // Those of this node have no link, and are none of an old one.
    give_up(0);
    give_up(most + 2);
    assert!(known(0) && !known(2) && !known(3) && known(4) && known(most + 2));
}
