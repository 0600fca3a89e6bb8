//! What a subscriber may say, and what it may not; and what one subscriber alone gets. All orders of everything are in
//! `sim/news`. In `lives`: who waits, is lost, leaves or is given up, and what is counted; in `blocks`: where messages
//! lie.

mod blocks;
mod lives;

use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::id::SocketId;
use crate::pattern::lane::LanePeer;
use crate::pattern::publish::lanes::Next;
use crate::wire::Violation;
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame::{self, Payload, to_receiver, to_sender};
use crate::wire::limits::{MAX_SUBSCRIPTIONS, MAX_SUBSCRIPTIONS_OF_NODE};
use crate::wire::subscription::{self, Change};

const ROOM: Amount = Amount { messages: 1000, bytes: 1 << 20 };

fn publisher(when_full: Policy, messages: u64) -> Publisher {
    Publisher::new(Options {
        when_full,
        bound: Amount { messages, ..ROOM },
        retain_last: 0,
        retain_bound: ROOM,
        max_message: 1 << 20,
    })
}

/// A subscriber that says what a test wants.
struct Subscriber {
    lane: LaneKey,
}

impl Subscriber {
    fn new(publisher: &mut Publisher, node: u8) -> Self {
        Self::of_limited(publisher, node, 1 << 20)
    }

    /// One whose node takes no larger bodies.
    fn of_limited(publisher: &mut Publisher, node: u8, max_message: usize) -> Self {
        let node = NodeId::from_bytes([node; 32]);
        let peer = LanePeer { node, socket: SocketId(1), link: 1, slots: false, max_message };
        let open = OpenLane {
            from: SocketId(2),
            to: SocketId(1),
            kind: SocketKind::Publisher,
            level: Level::AtLeastOnce,
            epoch: 7,
            base: 0,
            taken: false,
        };
        Self { lane: publisher.open_lane(peer, &open) }
    }

    fn say(&self, publisher: &mut Publisher, kind: u8, payload: &[u8]) -> Result<(), Violation> {
        publisher.handle_answer(self.lane, kind, payload)
    }

    fn numbers(&self, publisher: &mut Publisher, kind: u8, numbers: &[u64]) -> Result<(), Violation> {
        self.say(publisher, kind, &Payload::of(numbers).0)
    }

    fn subscribe(
        &self,
        publisher: &mut Publisher,
        version: u64,
        who: Option<(u64, Option<(u64, u64)>)>,
        whole: bool,
        changes: &[(bool, &str)],
    ) -> Result<(), Violation> {
        let at = |(stream, position)| subscription::At { stream, position };
        let who = who.map(|(epoch, goes_on)| subscription::Who { epoch, at: goes_on.map(at) });
        let changes = changes.iter().map(|(add, pattern)| Change { add: *add, pattern });
        let mut result = Ok(());
        subscription::write(version, whole, who, changes, |payload| {
            if result.is_ok() {
                result = publisher.handle_answer(self.lane, to_sender::SUBSCRIBE, payload);
            }
        });
        result
    }

    /// One that has subscribed to a pattern, with credit.
    fn at_work(publisher: &mut Publisher, node: u8, pattern: &str) -> Self {
        let this = Self::new(publisher, node);
        this.begin(publisher, u64::from(node), pattern);
        this.credit(publisher, 100);
        this
    }

    fn begin(&self, publisher: &mut Publisher, epoch: u64, pattern: &str) {
        self.subscribe(publisher, 1, Some((epoch, None)), true, &[(true, pattern)]).unwrap();
    }

    /// Comes again over a new lane, and goes on with the stream and the position.
    fn again(publisher: &mut Publisher, node: u8, pattern: &str, at: (u64, u64)) -> Self {
        let this = Self::new(publisher, node);
        this.subscribe(publisher, 1, Some((u64::from(node), Some(at))), true, &[(true, pattern)]).unwrap();
        this.credit(publisher, 100);
        this
    }

    fn credit(&self, publisher: &mut Publisher, messages: u64) {
        self.numbers(publisher, to_sender::CREDIT, &[messages, 1 << 20]).unwrap();
    }

    fn received(&self, publisher: &mut Publisher, position: u64) {
        self.numbers(publisher, to_sender::RECEIVED, &[position]).unwrap();
    }

    /// The control frames and the bodies that it is sent, and whether the lane ends.
    fn hear(&self, publisher: &mut Publisher) -> (Vec<String>, Next) {
        let (mut said, mut bytes) = (Vec::new(), BytesMut::new());
        let (chunks, next) = self.chunks(publisher);
        chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        let mut rest: Bytes = bytes.freeze();
        while !rest.is_empty() {
            if rest[0] == 0 {
                let (kind, payload, used) = frame::whole_answer(&rest[1..]).unwrap().expect("it is whole");
                let mut numbers = frame::Numbers::new(payload);
                match kind {
                    to_receiver::OPEN => said.push("open".into()),
                    to_receiver::SUBSCRIBED => {
                        let (version, stream) = (numbers.next().unwrap(), numbers.next().unwrap());
                        said.push(format!("subscribed {version} for {stream}"));
                    }
                    to_receiver::GAP => said.push(format!("gap {}", numbers.next().unwrap())),
                    to_receiver::GIVEN_UP => said.push(format!("given up {}", numbers.next().unwrap())),
                    kind => panic!("{kind}"),
                }
                rest = rest.slice(1 + used..);
            } else {
                let (head, length) = frame::own_frame(&rest);
                let read = frame::read_head(&rest[head - 1..]).unwrap();
                let body = &rest[head - 1 + read.body..head + length];
                said.push(String::from_utf8(body.to_vec()).unwrap());
                rest = rest.slice(head + length..);
            }
        }
        (said, next)
    }

    /// What it is sent, as it lies in memory.
    fn chunks(&self, publisher: &mut Publisher) -> (Vec<Bytes>, Next) {
        let mut chunks = Vec::new();
        let next = publisher.take_outgoing(self.lane, Waker::noop(), &mut chunks);
        (chunks, next)
    }

    /// Everything is written, and its writer sleeps; what was to be done before is forgotten.
    fn sleeps(&self, publisher: &mut Publisher) {
        assert!((0..10).any(|_| self.chunks(publisher).1 == Next::Wait));
        publisher.take_effects();
    }
}

fn publish(publisher: &mut Publisher, topic: &str, body: &str) {
    publisher.publish(topic, &NewMessage::new(body.to_owned()), false, Instant::now()).unwrap();
}

#[test]
fn what_no_subscriber_says_ends_its_link() {
    let new = || {
        let mut publisher = publisher(Policy::DropOldest, 10);
        let one = Subscriber::new(&mut publisher, 1);
        (publisher, one)
    };
    let all = &[(true, ">")][..];
    let who = Some((1, None));

    let (mut p, s) = new();
    assert!(s.subscribe(&mut p, 1, None, true, all).is_err(), "it does not say who it is");
    let (mut p, s) = new();
    assert!(s.subscribe(&mut p, 1, who, false, all).is_err(), "a change of nothing");
    let (mut p, s) = new();
    assert!(s.subscribe(&mut p, 0, who, true, all).is_err(), "version 0 is none");
    let (mut p, s) = new();
    assert!(s.subscribe(&mut p, 1, who, true, &[(true, "a"), (true, "a")]).is_err(), "one pattern twice");
    let (mut p, s) = new();
    assert!(s.subscribe(&mut p, 1, who, true, &[(false, "a")]).is_err(), "less than nothing");
    let (mut p, s) = new();
    assert!(s.numbers(&mut p, to_sender::RECEIVED, &[0]).is_err(), "received before it was subscribed to");
    let (mut p, s) = new();
    assert!(s.say(&mut p, 0x3f, &[]).is_err(), "an unknown kind");
    let (mut p, s) = new();
    assert!(s.say(&mut p, 0x40, &[]).is_ok(), "a kind that may be skipped");

    let (mut p, s) = new();
    s.subscribe(&mut p, 2, who, true, all).unwrap();
    assert!(s.subscribe(&mut p, 3, who, true, all).is_err(), "it says twice who it is");
    let (mut p, s) = new();
    s.subscribe(&mut p, 2, who, true, all).unwrap();
    assert!(s.subscribe(&mut p, 2, None, false, &[(true, "a")]).is_err(), "the same version again");
    let (mut p, s) = new();
    s.numbers(&mut p, to_sender::CREDIT, &[5, 5]).unwrap();
    assert!(s.numbers(&mut p, to_sender::CREDIT, &[4, 5]).is_err(), "credit is taken back");

    let (mut p, s) = new();
    s.subscribe(&mut p, 1, who, true, all).unwrap();
    s.numbers(&mut p, to_sender::CREDIT, &[5, 1000]).unwrap();
    publish(&mut p, "a", "1");
    assert!(s.numbers(&mut p, to_sender::RECEIVED, &[1]).is_err(), "it is not sent yet");
    s.hear(&mut p);
    assert!(s.numbers(&mut p, to_sender::RECEIVED, &[2]).is_err(), "more than was sent");
    s.numbers(&mut p, to_sender::RECEIVED, &[1]).unwrap();
    assert!(s.numbers(&mut p, to_sender::RECEIVED, &[0]).is_err(), "less than before");
    p.close_lane(s.lane, Instant::now());
    let again = Subscriber::new(&mut p, 1);
    assert!(again.subscribe(&mut p, 1, Some((1, Some((1, 2)))), true, all).is_err(), "it goes on beyond what was sent");
    let again = Subscriber::new(&mut p, 1);
    assert!(again.subscribe(&mut p, 1, Some((1, Some((1, 0)))), true, all).is_err(), "it goes on before what it had");
    let again = Subscriber::new(&mut p, 1);
    again.subscribe(&mut p, 1, Some((1, Some((9, 100)))), true, all).unwrap();
    assert_eq!(again.hear(&mut p).0, ["open", "subscribed 1 for 2"], "what it means is forgotten: it begins anew");
}

#[test]
fn patterns_are_limited_however_they_come() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let one = Subscriber::new(&mut publisher, 1);
    let patterns: Vec<String> = (0..=MAX_SUBSCRIPTIONS).map(|number| format!("{number}.{}", "x".repeat(100))).collect();
    let all: Vec<_> = patterns.iter().map(|pattern| (true, &pattern[..])).collect();
    // In many parts.
    one.subscribe(&mut publisher, 1, Some((1, None)), true, &all[..MAX_SUBSCRIPTIONS]).unwrap();
    assert_eq!(publisher.figures().patterns, MAX_SUBSCRIPTIONS as u64);
    assert!(one.subscribe(&mut publisher, 2, None, false, &all[MAX_SUBSCRIPTIONS..]).is_err());
    let one = Subscriber::new(&mut publisher, 2);
    assert!(one.subscribe(&mut publisher, 1, Some((1, None)), true, &all).is_err());
    // Parts that never end.
    let one = Subscriber::new(&mut publisher, 3);
    let add = |version, more, who: bool| {
        let mut payload = Payload::of(&[version]);
        payload.0.push(1 | if more { 2 } else { 0 } | if who { 4 } else { 0 });
        if who {
            payload.0.push(1);
        }
        (0..10_000).for_each(|_| payload.0.extend([1, 1, b'a']));
        payload.0
    };
    one.say(&mut publisher, to_sender::SUBSCRIBE, &add(1, true, true)).unwrap();
    one.say(&mut publisher, to_sender::SUBSCRIBE, &add(1, true, false)).unwrap();
    assert!(one.say(&mut publisher, to_sender::SUBSCRIBE, &add(1, true, false)).is_err());
}

#[test]
fn a_flood_of_changes_is_answered_once() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let one = Subscriber::at_work(&mut publisher, 1, "a");
    for version in 2..=10_000 {
        let change = (version % 2 == 0, "b");
        one.subscribe(&mut publisher, version, None, false, &[change]).unwrap();
    }
    assert_eq!(one.hear(&mut publisher).0, ["open", "subscribed 10000 for 1"]);
    assert_eq!(one.hear(&mut publisher).0, Vec::<String>::new());
}

#[test]
fn a_confirmation_waits_for_no_credit_and_comes_before_what_it_lets_through() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let one = Subscriber::new(&mut publisher, 1);
    one.subscribe(&mut publisher, 1, Some((1, None)), true, &[(true, "a")]).unwrap();
    publish(&mut publisher, "a", "1");
    publish(&mut publisher, "b", "nobody's");
    one.subscribe(&mut publisher, 2, None, false, &[(true, "b")]).unwrap();
    publish(&mut publisher, "b", "2");
    assert_eq!(one.hear(&mut publisher).0, ["open", "subscribed 2 for 1"]);
    one.numbers(&mut publisher, to_sender::CREDIT, &[1, 1]).unwrap();
    assert_eq!(one.hear(&mut publisher).0, ["1"]);
    one.numbers(&mut publisher, to_sender::CREDIT, &[2, 1000]).unwrap();
    assert_eq!(one.hear(&mut publisher).0, ["2"]);
}

#[test]
fn policies_decide_for_each_subscriber_by_itself() {
    for (policy, slow_hears) in [
        (Policy::DropOldest, &["gap 2", "a3", "b4"][..]),
        (Policy::DropNewest, &["a1", "b2", "gap 2"]),
        (Policy::Latest, &["gap 2", "a3", "b4"]),
        (Policy::GiveUp, &["given up 3"]),
        (Policy::Block, &["gap 2", "a3", "b4"]),
    ] {
        let mut publisher = publisher(policy, 2);
        let slow = Subscriber::new(&mut publisher, 1);
        slow.subscribe(&mut publisher, 1, Some((1, None)), true, &[(true, ">")]).unwrap();
        let fast = Subscriber::at_work(&mut publisher, 2, ">");
        slow.hear(&mut publisher);
        fast.hear(&mut publisher);
        let mut heard = Vec::new();
        for (topic, body) in [("a", "a1"), ("b", "b2"), ("a", "a3"), ("b", "b4")] {
            publish(&mut publisher, topic, body);
            heard.extend(fast.hear(&mut publisher).0);
        }
        assert_eq!(heard, ["a1", "b2", "a3", "b4"], "{policy:?}: the other one loses nothing");
        slow.numbers(&mut publisher, to_sender::CREDIT, &[100, 1000]).unwrap();
        let (said, next) = slow.hear(&mut publisher);
        assert_eq!(said, slow_hears, "{policy:?}");
        assert_eq!(next == Next::Finish, policy == Policy::GiveUp);
    }
}

#[test]
fn who_may_wait_hands_a_message_to_nobody_while_one_is_full() {
    let mut publisher = publisher(Policy::Block, 1);
    let fast = Subscriber::at_work(&mut publisher, 1, ">");
    let slow = Subscriber::at_work(&mut publisher, 2, ">");
    slow.hear(&mut publisher);
    fast.hear(&mut publisher);
    let message = |body: &'static str| NewMessage::new(body);
    publisher.publish("a", &message("1"), true, Instant::now()).unwrap();
    fast.hear(&mut publisher);
    assert_eq!(publisher.publish("a", &message("2"), true, Instant::now()), Err(Refused::Full));
    assert_eq!(fast.hear(&mut publisher).0, Vec::<String>::new());
    // One whose link is lost is not waited for.
    publisher.close_lane(slow.lane, Instant::now());
    publisher.publish("a", &message("2"), true, Instant::now()).unwrap();
    assert_eq!(fast.hear(&mut publisher).0, ["2"]);
}

#[test]
fn messages_that_are_few_among_many_pin_no_block_of_others() {
    let mut publisher = publisher(Policy::DropOldest, 1000);
    let _rare = Subscriber::at_work(&mut publisher, 1, "rare");
    let _all = Subscriber::at_work(&mut publisher, 2, ">");
    let body = "x".repeat(1000);
    for number in 0..20_000 {
        publish(&mut publisher, if number % 100 == 0 { "rare" } else { "common" }, &body);
        // Whoever takes something seals it.
        if number % 10 == 0 {
            publisher.seal();
        }
    }
    let pinned: Vec<_> = publisher.streams.iter().flatten().map(|stream| stream.pinned()).collect();
    // 200 messages of some 1,010 bytes, and 1,000 of them.
    assert!(pinned[0] < 2 * 210_000 + (256 << 10), "{pinned:?}");
    assert!(pinned[1] < 2 * 1_100_000 + (256 << 10), "{pinned:?}");
}

#[test]
fn all_subscribers_of_a_node_have_a_bounded_number_of_patterns() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let names: Vec<_> = (0..MAX_SUBSCRIPTIONS).map(|nth| format!("t{nth}")).collect();
    let all: Vec<_> = names.iter().map(|name| (true, name.as_str())).collect();
    for nth in 0..(MAX_SUBSCRIPTIONS_OF_NODE / MAX_SUBSCRIPTIONS) as u64 {
        let lane = Subscriber::new(&mut publisher, 1);
        let (first, later) = all.split_at(MAX_SUBSCRIPTIONS / 2);
        lane.subscribe(&mut publisher, 1, Some((nth, None)), true, first).unwrap();
        lane.subscribe(&mut publisher, 2, None, false, later).unwrap();
        assert!(lane.subscribe(&mut publisher, 3, None, false, &[(true, "one.more")]).is_err(), "its own are enough");
    }
    let one_more = |publisher: &mut Publisher, node| {
        Subscriber::new(publisher, node).subscribe(publisher, 1, Some((99, None)), true, &[(true, "a")])
    };
    assert!(one_more(&mut publisher, 1).is_err());
    assert!(one_more(&mut publisher, 2).is_ok(), "others are not affected");
}

#[test]
fn a_change_costs_no_more_where_there_are_many_patterns() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let names: Vec<_> = (1..MAX_SUBSCRIPTIONS).map(|nth| format!("t{nth}")).collect();
    let all: Vec<_> = names.iter().map(|name| (true, name.as_str())).collect();
    let lane = Subscriber::new(&mut publisher, 1);
    lane.subscribe(&mut publisher, 1, Some((1, None)), true, &all).unwrap();
    let start = Instant::now();
    for version in 2..20_000 {
        lane.subscribe(&mut publisher, version, None, false, &[(version % 2 == 0, "once.more")]).unwrap();
    }
    // A look at all of them each time takes a minute.
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(publisher.figures().patterns, MAX_SUBSCRIPTIONS as u64 - 1);
}

#[test]
fn parts_that_never_end_are_limited_over_all_lanes_of_a_node() {
    let mut publisher = publisher(Policy::DropOldest, 10);
    let part = |payload: &mut Vec<u8>| (0..10_000).for_each(|_| payload.extend([1, 1, b'a']));
    let begin = |publisher: &mut Publisher, node| {
        let mut payload = Payload::of(&[1]);
        payload.0.extend([1 | 2 | 4, 1]);
        part(&mut payload.0);
        Subscriber::new(publisher, node).say(publisher, to_sender::SUBSCRIBE, &payload.0)
    };
    let lanes = MAX_SUBSCRIPTIONS_OF_NODE / 10_000;
    for _ in 0..lanes {
        begin(&mut publisher, 1).unwrap();
    }
    assert!(begin(&mut publisher, 1).is_err());
    assert!(begin(&mut publisher, 2).is_ok(), "others are not affected");
}

#[test]
fn of_a_run_whose_first_messages_go_the_rest_is_held() {
    let mut publisher = publisher(Policy::DropOldest, 3);
    let one = Subscriber::at_work(&mut publisher, 1, "a");
    one.hear(&mut publisher);
    // Each is two bytes more than its body.
    for body in ["1", "22", "333", "4444"] {
        publish(&mut publisher, "a", body);
    }
    let held = |publisher: &Publisher| publisher.views()[0].held;
    assert_eq!(held(&publisher), Amount { messages: 3, bytes: 4 + 5 + 6 }, "the first one was dropped");
    assert_eq!(one.hear(&mut publisher).0, ["gap 1", "22", "333", "4444"]);
    for (received, left) in [(2, Amount { messages: 2, bytes: 5 + 6 }), (3, Amount { messages: 1, bytes: 6 })] {
        one.numbers(&mut publisher, to_sender::RECEIVED, &[received]).unwrap();
        assert_eq!(held(&publisher), left);
    }
    one.numbers(&mut publisher, to_sender::RECEIVED, &[4]).unwrap();
    assert_eq!(held(&publisher), Amount::default());
}
