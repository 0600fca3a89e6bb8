//! Who has how many places, and what is held for whom at most.

use super::*;
use crate::wire::limits::EXCHANGE_WINDOWS_OF_NODE;

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
    (0..5).for_each(|id| hand.begin(greedy, id).unwrap());
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
fn a_place_goes_to_who_has_two_fewer_and_not_to_who_has_one_fewer() {
    let mut hand = Hand::new(5);
    let (greedy, full, other) = (hand.lane(1, FULL), hand.lane(2, FULL), hand.lane(3, FULL));
    for id in 0..3 {
        hand.ask(full, head(id), b"x").unwrap();
    }
    for id in 0..2 {
        hand.begin(greedy, id).unwrap();
    }
    // The richest has nothing that could go: it is the next one's that does.
    hand.ask(other, head(0), b"x").unwrap();
    assert_eq!((hand.kinds(other), hand.kinds(greedy)), (vec![], vec![to_requester::BUSY]));
    hand.ask(other, head(1), b"x").unwrap();
    assert_eq!((hand.kinds(other), hand.kinds(greedy)), (vec![to_requester::BUSY], vec![]), "each has one");

    let mut hand = Hand::new(3);
    let (greedy, other) = (hand.lane(1, FULL), hand.lane(2, FULL));
    for id in 0..3 {
        hand.begin(greedy, id).unwrap();
    }
    hand.ask(other, head(0), b"x").unwrap();
    assert_eq!((hand.kinds(other), hand.kinds(greedy)), (vec![], vec![to_requester::BUSY]));
    hand.ask(other, head(1), b"x").unwrap();
    assert_eq!((hand.kinds(other), hand.kinds(greedy)), (vec![to_requester::BUSY], vec![]), "it would have fewer then");
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
fn replies_wait_up_to_their_bytes_and_a_single_one_has_no_bound() {
    let window = EXCHANGE_WINDOW_BYTES as usize;
    let zeros = Bytes::from(vec![0; window + 1]);
    for (lengths, kept, refused) in [
        (&[window + 1][..], &[0][..], &[][..]),
        (&[window / 2, window / 2, 1], &[0, 1], &[2]),
        (&[window / 2, window / 2 + 1, 1], &[0, 2], &[1]),
    ] {
        let mut hand = Hand::new(10);
        let lane = hand.lane(1, 0);
        for (id, length) in (0..).zip(lengths) {
            hand.ask(lane, head(id), b"x").unwrap();
            let work = hand.claim().unwrap().key;
            hand.works.answer(work, Answer::Reply(Content { headers: Bytes::new(), body: zeros.slice(..*length) }));
        }
        hand.say(lane, |out| put_numbers(out, to_replier::CREDIT, &[FULL])).unwrap();
        let (mut replied, mut failed) = (Vec::new(), Vec::new());
        for (kind, payload) in hand.taken(lane) {
            match kind {
                to_requester::REPLY => replied.push(exchange::read_reply(&payload).unwrap().head),
                to_requester::FAILED => failed.push(exchange::read_failed(&payload).unwrap().0),
                _ => {}
            }
        }
        replied.sort_unstable();
        assert_eq!((&replied[..], &failed[..]), (kept, refused), "{lengths:?}");
    }
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
