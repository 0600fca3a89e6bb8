//! What is kept of accepted messages, as they are answered in any order.

use super::*;
use crate::wire::frame::put_plain_head;

const FIRST: u64 = 70;

/// Messages with bodies of these lengths; each byte of them is the message's index.
fn segment(bodies: &[usize]) -> Segment {
    let mut bytes = BytesMut::new();
    for (index, length) in bodies.iter().enumerate() {
        put_plain_head(&mut bytes, *length);
        bytes.resize(bytes.len() + length, index as u8);
    }
    let payload = bodies.iter().sum::<usize>() as u64;
    Segment { bytes: bytes.freeze(), body: None, count: bodies.len() as u32, payload, first: FIRST }
}

/// One whose body is kept as the sender's slice.
fn large(body: Bytes) -> Segment {
    let mut head = BytesMut::new();
    put_plain_head(&mut head, body.len());
    Segment { payload: body.len() as u64, bytes: head.freeze(), body: Some(body), count: 1, first: FIRST }
}

/// Index and length of each body, the index as it is written in it.
fn bodies(contents: impl IntoIterator<Item = Content>) -> Vec<(u8, usize)> {
    contents.into_iter().map(|content| (content.body[0], content.body.len())).collect()
}

#[test]
fn a_part_keeps_to_both_bounds_and_has_at_least_one_message() {
    for (messages, bytes, kept) in [
        (0, 0, 1),
        (0, 1000, 1),
        (1, 1000, 1),
        (3, 1000, 3),
        (4, 1000, 4),
        (9, u64::MAX, 4),
        // What ends the part is the first message with which the bytes are used up.
        (4, 0, 1),
        (4, 1, 1),
        (4, 10, 1),
        (4, 11, 2),
        (4, 20, 2),
        (4, 30, 3),
        (4, 31, 4),
    ] {
        let mut part = segment(&[10; 4]);
        let rest = part.split(messages, bytes);
        let of = |from: u8, until: u8| (from..until).map(|index| (index, 10)).collect::<Vec<_>>();
        let what = format!("{messages} messages, {bytes} bytes");
        assert_eq!((part.first, part.count, part.payload), (FIRST, kept, u64::from(kept) * 10), "{what}");
        assert_eq!(bodies(part.contents()), of(0, kept as u8), "{what}");
        let rest = rest.map(|rest| (rest.first, rest.count, rest.payload, bodies(rest.contents())));
        let left = 4 - kept;
        let expected = (FIRST + u64::from(kept), left, u64::from(left) * 10, of(kept as u8, 4));
        assert_eq!(rest, (left > 0).then_some(expected), "{what}");
    }
}

#[test]
fn a_clear_bit_is_found_behind_whole_words_and_before_the_end() {
    for (bits, from, end, found) in [
        (&[0][..], 0, 64, Some(0)),
        (&[0], 5, 64, Some(5)),
        (&[0b111], 1, 4, Some(3)),
        (&[0b111], 1, 3, None),
        (&[0], 3, 3, None),
        (&[!0, 0], 0, 65, Some(64)),
        (&[!0, 0], 0, 64, None),
        (&[!0, 1], 0, 128, Some(65)),
        (&[!0, !0, 0b11], 63, 192, Some(130)),
        (&[!0, !0], 0, 128, None),
        (&[0, 0], 64, 128, Some(64)),
    ] {
        assert_eq!(next_clear(bits, from, end), found, "{bits:x?} from {from} to {end}");
    }
}

#[test]
fn the_first_unanswered_message_is_known_however_answers_come() {
    let mut fresh = Fresh::new(segment(&[10; 4]));
    assert_eq!(fresh.first_unanswered(), Some(0));
    assert_eq!(fresh.answer_up_to(1), (1, 10));
    assert_eq!((fresh.first_unanswered(), fresh.next_unanswered(3)), (Some(1), Some(3)));
    assert!(fresh.answer(2).is_some());
    assert_eq!((fresh.first_unanswered(), fresh.next_unanswered(2)), (Some(1), Some(3)));
    assert!(fresh.answer(1).is_some());
    assert_eq!(fresh.first_unanswered(), Some(3));
    assert!(fresh.answer(3).is_some());
    assert_eq!((fresh.first_unanswered(), fresh.left, fresh.left_bytes), (None, 0, 0));

    let mut fresh = Fresh::new(segment(&[10; 4]));
    assert_eq!(fresh.next_unanswered(4), None, "there are four");
    assert_eq!(fresh.answer_up_to(4), (4, 40));
    assert_eq!(fresh.first_unanswered(), None);
}

#[test]
fn a_large_message_is_answered_once() {
    let body = Bytes::from(vec![7; 20_000]);
    let mut fresh = Fresh::new(large(body.clone()));
    let content = fresh.answer(0).unwrap();
    assert_eq!((&content.body, content.body.as_ptr()), (&body, body.as_ptr()), "the sender's slice");
    assert_eq!((fresh.left, fresh.left_bytes, fresh.first_unanswered()), (0, 0, None));
    assert_eq!(fresh.answer(0), None);
    assert!(fresh.unanswered().is_empty());
}

#[test]
fn a_few_messages_that_come_back_do_not_pin_the_allocation_of_many() {
    // Frames of these bodies have two bytes more each: half of the bytes are 14, and 13.5.
    for (bodies, pins) in [([14, 10], true), ([13, 10], false)] {
        let segment = segment(&bodies);
        let allocation = segment.bytes.clone();
        let mut fresh = Fresh::new(segment);
        fresh.answer(1).unwrap();
        let left = fresh.unanswered();
        let [(FIRST, 0, content)] = &left[..] else { panic!("{left:?}") };
        assert_eq!(content.body, vec![0; bodies[0]]);
        assert_eq!(allocation.as_ptr_range().contains(&content.body.as_ptr()), pins, "{bodies:?}");
    }
}

#[test]
fn what_is_mostly_answered_holds_what_is_left() {
    // Long frames have three bytes more than their bodies; five are counted for what is left.
    for (bodies, holds) in [
        ([10, 4081], 12), // 4096 bytes, which are worth it
        ([10, 4080], 4095),
        ([2996, 3000], 2999), // just half
        ([2997, 3000], 6003),
    ] {
        let mut fresh = Fresh::new(segment(&bodies));
        fresh.answer(1).unwrap();
        assert_eq!(fresh.segment.bytes.len(), holds, "{bodies:?}");
    }
}

#[test]
fn what_moved_to_an_allocation_of_its_own_is_answered_and_comes_back_as_before() {
    let mut fresh = Fresh::new(segment(&[1000; 10]));
    for index in [1, 2, 4, 5, 7, 8, 9] {
        assert_eq!(bodies(fresh.answer(index)), [(index as u8, 1000)]);
    }
    assert!(fresh.segment.bytes.len() < 5000, "{} bytes for three thousand", fresh.segment.bytes.len());
    assert_eq!((fresh.left, fresh.left_bytes), (3, 3000));
    assert_eq!(fresh.answer(7), None, "answered before");
    assert_eq!(bodies(fresh.answer(3)), [(3, 1000)]);
    assert_eq!(fresh.answer_up_to(1), (1, 1000));
    let left = fresh.unanswered();
    let [(sequence, 6, content)] = &left[..] else { panic!("{left:?}") };
    assert_eq!((*sequence, bodies([content.clone()])), (FIRST + 6, vec![(6, 1000)]));
}

#[test]
fn an_allocation_serves_again_when_nobody_holds_it() {
    let segment = segment(&[1000; 5]);
    let (place, length) = (segment.bytes.as_ptr(), segment.bytes.len());
    let spare = Fresh::new(segment).into_spare().unwrap();
    assert_eq!((spare.as_ptr(), spare.len()), (place, 0));
    assert!(spare.capacity() >= length);

    let segment = self::segment(&[1000; 5]);
    let on_its_way = segment.bytes.clone();
    assert_eq!(Fresh::new(segment).into_spare(), None);
    assert_eq!(on_its_way.len(), length);
}
