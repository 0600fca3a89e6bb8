//! Who is asked: whom there is, how requests are shared out, and who waits for room, in which order.

use super::*;
use crate::wire::limits::MAX_LANES;

#[test]
fn the_less_loaded_and_faster_one_is_asked_more() {
    let mut hand = Hand::new(1000);
    let (slow, fast) = (hand.lane(1, FULL), hand.lane(2, FULL));
    // Their latencies are known: 100 ms and 1 ms.
    hand.answered_after(slow, 1, Duration::from_millis(100));
    hand.answered_after(fast, 2, Duration::from_millis(1));
    for _ in 0..100 {
        hand.ask(b"x");
    }
    let open: Vec<_> = hand.requests.lanes().map(|lane| lane.open).collect();
    assert_eq!(open[0] + open[1], 100);
    assert!(open[0] <= 1 && open[1] >= 99, "{open:?}");
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
fn as_many_are_remembered_to_have_left_as_there_may_be_lanes() {
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
fn who_closes_is_no_replier_any_more_and_the_other_one_is() {
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
