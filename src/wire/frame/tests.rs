//! The bytes of lanes against vectors, both ways, and against whatever a peer may send.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

/// A vector's bytes; lines that begin with `#` say what it is.
fn vector(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap()
}

macro_rules! vector {
    ($name:literal) => {
        vector(include_str!(concat!("../../../tests/vectors/lane/", $name, ".hex")))
    };
}

fn data(head: Head, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_head(&mut out, 0, body.len(), head);
    out.extend_from_slice(body);
    out.to_vec()
}

/// The same with headers.
fn with_headers(head: Head, pairs: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let (mut out, mut block) = (BytesMut::new(), Vec::new());
    pairs.iter().for_each(|(name, value)| headers::put(&mut block, name, value));
    put_head(&mut out, HEADERS, headers::section_len(block.len()) + body.len(), head);
    headers::put_section(&mut out, &block);
    out.extend_from_slice(body);
    out.to_vec()
}

#[test]
fn data_frames() {
    let restored = Head { delta: -3, attempt: 2, failures: 1, redelivered: true };
    for (bytes, head, body) in [
        (vector!("data-plain"), Head::PLAIN, &b"hello"[..]),
        (vector!("data-empty"), Head::PLAIN, b""),
        (vector!("data-again"), restored, b"hello"),
        (vector!("data-jump"), Head { delta: 1000, ..Head::PLAIN }, b"x"),
    ] {
        assert_eq!(data(head, body), bytes);
        let (length, len) = varint::get(&bytes).unwrap();
        assert_eq!(len + length as usize, bytes.len());
        let read = read_head(&bytes[len..]).unwrap();
        assert_eq!((read.head, read.headers, &bytes[len + read.body..]), (head, 0, body));
    }
    let mut plain = BytesMut::new();
    put_plain_head(&mut plain, 5);
    plain.extend_from_slice(b"hello");
    assert_eq!(plain[..], vector!("data-plain")[..], "the short way writes the same");
}

#[test]
fn data_frames_with_headers() {
    let again = Head { delta: -3, attempt: 2, failures: 1, redelivered: true };
    let parent = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    for (bytes, head, pairs, body) in [
        (vector!("data-headers"), Head::PLAIN, &[("kind", "resize"), ("tag", "a"), ("tag", "")][..], &b"hello"[..]),
        (vector!("data-headers-again"), again, &[("a", "ü")], b""),
        (vector!("data-traceparent"), Head::PLAIN, &parent, b"job"),
    ] {
        assert_eq!(with_headers(head, pairs, body), bytes);
        let (length, len) = varint::get(&bytes).unwrap();
        assert_eq!(len + length as usize, bytes.len());
        let read = read_head(&bytes[len..]).unwrap();
        let block = &bytes[len + read.body - read.headers..len + read.body];
        assert_eq!((read.head, &bytes[len + read.body..]), (head, body));
        assert_eq!(headers::Pairs::of(block).collect::<Vec<_>>(), pairs);
    }
}

#[test]
fn published_messages() {
    for (bytes, pairs) in [(vector!("published"), &[][..]), (vector!("published-headers"), &[("kind", "x")])] {
        let (mut out, mut block) = (BytesMut::new(), Vec::new());
        pairs.iter().for_each(|(name, value)| headers::put(&mut block, name, value));
        let size = put_published_head(&mut out, "eu.dax", &block, 5);
        out.extend_from_slice(b"hello");
        assert_eq!(out[..], bytes[..]);
        let (length, len) = varint::get(&bytes).unwrap();
        assert_eq!((len + length as usize, length as usize), (bytes.len(), 1 + size));
        assert_eq!(own_frame(&bytes), (len + 1, size));
        let Read { head, headers, topic, body } = read_head(&bytes[len..]).unwrap();
        let (block, topic, body) = (len + body - topic - headers, len + body - topic, len + body);
        assert_eq!((head, &bytes[topic..body], &bytes[body..]), (Head::PLAIN, &b"eu.dax"[..], &b"hello"[..]));
        assert_eq!(headers::Pairs::of(&bytes[block..topic]).collect::<Vec<_>>(), pairs);
    }
    for (bytes, what) in
        [(vector!("bad-published-wildcard"), "a wildcard"), (vector!("bad-published-cut"), "a topic that is cut short")]
    {
        let (length, len) = varint::get(&bytes).unwrap();
        assert_eq!(len + length as usize, bytes.len(), "{what}: the frame itself is whole");
        assert!(read_head(&bytes[len..]).is_err(), "{what}");
    }
}

#[test]
fn subscriptions() {
    use subscription::{At, Change, Subscribe, Who, read, write};
    let change = |add, pattern| Change { add, pattern };
    let who = |at| Some(Who { epoch: 7, at });
    for (bytes, version, whole, who, changes) in [
        (vector!("subscribe"), 1, true, who(None), &[change(true, "eu.>"), change(true, "us")][..]),
        (vector!("subscribe-change"), 2, false, None, &[change(false, "us"), change(true, "uk.*")]),
        (vector!("subscribe-again"), 1, true, who(Some(At { stream: 3, position: 300 })), &[change(true, "eu.>")]),
    ] {
        let mut out = BytesMut::new();
        write(version, whole, who, changes.iter().copied(), |payload| {
            put_answer(&mut out, to_sender::SUBSCRIBE, payload)
        });
        assert_eq!(out[..], bytes[..]);
        let (kind, payload, used) = whole_answer(&bytes).unwrap().unwrap();
        assert_eq!((kind, used), (to_sender::SUBSCRIBE, bytes.len()));
        let mut seen = Vec::new();
        let head = read(payload, |change| {
            seen.push(change);
            Ok(())
        });
        assert_eq!(head, Ok(Subscribe { version, whole, more: false, who }));
        assert_eq!(seen, changes);
    }
}

#[test]
fn headers_that_lie_are_refused() {
    for (bytes, what) in [
        (vector!("bad-headers-empty"), "announced, and none are there"),
        (vector!("bad-headers-long"), "longer than the frame"),
        (vector!("bad-headers-cut"), "a value that is longer than the headers"),
        (vector!("bad-headers-no-name"), "no name"),
        (vector!("bad-headers-control"), "a line break in a value"),
        (vector!("bad-headers-not-utf-8"), "not UTF-8"),
    ] {
        let (length, len) = varint::get(&bytes).unwrap();
        assert_eq!(len + length as usize, bytes.len(), "{what}: the frame itself is whole");
        assert!(read_head(&bytes[len..]).is_err(), "{what}");
    }
}

#[test]
fn a_later_revisions_extension_is_passed_over() {
    let bytes = vector!("data-extended");
    let read = read_head(&bytes[1..]).unwrap();
    assert_eq!((read.head, &bytes[1 + read.body..]), (Head::PLAIN, &b"hello"[..]));
}

#[test]
fn a_head_that_lies_is_refused() {
    assert!(read_head(&[]).is_err());
    assert!(read_head(&[0x40]).is_err(), "a flag that nobody knows");
    assert!(read_head(&[TOPIC]).is_err(), "a topic of no length");
    assert!(read_head(&[DELTA]).is_err(), "announced and not there");
    assert!(read_head(&[EXTENDED, 0x05, 0]).is_err(), "longer than the frame");
    assert!(read_head(&[EXTENDED, 0xc0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err(), "longer than a frame may be");
    assert!(read_head(&[ATTEMPT, 0xc0, 0, 0, 1, 0, 0, 0, 0]).is_err(), "above 2^32");
}

#[test]
fn answers_and_control_frames() {
    use to_sender::*;
    let mut reject = Payload::of(&[7]);
    reject.0.extend_from_slice(b"no");
    for (bytes, kind, payload) in [
        (vector!("credit"), CREDIT, Payload::of(&[64, 4_194_304])),
        (vector!("ack-up-to"), ACK_UP_TO, Payload::of(&[1000])),
        (vector!("ack"), ACK, Payload::of(&[5, 2, 9, 1])),
        (vector!("nack"), NACK, Payload::of(&[0, 3, 1])),
        (vector!("reject"), REJECT, reject),
        (vector!("late"), LATE, Payload::of(&[12, 1, u64::from(ACK)])),
        (vector!("return"), RETURN, Payload::of(&[0, 1, 70, 2])),
        (vector!("taken"), TAKEN, Payload::of(&[300])),
        (vector!("closing"), CLOSING, Payload::default()),
        (vector!("received"), RECEIVED, Payload::of(&[300])),
    ] {
        let mut out = BytesMut::new();
        put_answer(&mut out, kind, &payload.0);
        assert_eq!(out[..], bytes[..]);
        let mut read = Vec::new();
        answers(&mut out, |kind, payload| {
            read.push((kind, payload.to_vec()));
            Ok(())
        })
        .unwrap();
        assert_eq!(read, [(kind, payload.0)]);
    }
    for (bytes, kind, numbers) in [
        (vector!("waiting"), to_receiver::WAITING, &[3, 0][..]),
        (vector!("waive"), to_receiver::WAIVE, &[64]),
        (vector!("heard"), to_receiver::HEARD, &[300]),
        (vector!("subscribed"), to_receiver::SUBSCRIBED, &[1, 3]),
        (vector!("gap"), to_receiver::GAP, &[300]),
        (vector!("given-up"), to_receiver::GIVEN_UP, &[5]),
    ] {
        let payload = Payload::of(numbers).0;
        let mut out = BytesMut::new();
        put_control(&mut out, kind, &payload);
        assert_eq!(out[..], bytes[..]);
        // Length 0 says that it is no message; then it is laid out as an answer is.
        assert_eq!(bytes[0], 0);
        let frame = whole_answer(&bytes[1..]).unwrap();
        assert_eq!(frame, Some((kind, &payload[..], bytes.len() - 1)));
        let mut read = Numbers::new(&payload);
        assert!(numbers.iter().all(|number| read.next().unwrap() == *number));
        assert!(read.next().is_err(), "and nothing more");
    }
}

#[test]
fn an_answer_that_is_too_long_is_refused_before_it_has_arrived() {
    let mut bytes = BytesMut::from(&[to_sender::ACK, 0x80, 0x01, 0x00, 0x01][..]);
    assert!(answers(&mut bytes, |_, _| Ok(())).is_err());
    assert!(split_open(&mut BytesMut::from(&[0, 1, 0x80, 1, 0, 1][..])).is_err());
    assert!(split_open(&mut BytesMut::from(&[5][..])).is_err(), "data before the lane is open");
}

#[test]
fn ranges_ascend() {
    let read = |numbers: &[u64]| {
        let payload = Payload::of(numbers);
        let mut numbers = Numbers::new(&payload.0);
        std::iter::from_fn(|| numbers.range().transpose()).collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(read(&[0, 5, 5, 1]).unwrap(), [0..5, 5..6]);
    assert!(read(&[0, 5, 4, 1]).is_err());
    assert!(read(&[0]).is_err(), "half a range");
}

#[test]
fn what_may_be_as_long_as_a_control_frame_may_be_just_that_and_no_longer() {
    for (length, taken) in [(0, true), (1, true), (MAX_CONTROL_FRAME, true), (MAX_CONTROL_FRAME + 1, false)] {
        let mut frame = BytesMut::new();
        put_answer(&mut frame, 0x40, &vec![7; length]);
        let used = frame.len();
        frame.extend_from_slice(b"next");
        let whole = whole_answer(&frame).map(|whole| whole.map(|(kind, payload, used)| (kind, payload.len(), used)));
        assert_eq!(whole.ok(), taken.then_some(Some((0x40, length, used))), "a frame of {length} bytes");

        let mut extended = vec![EXTENDED | ATTEMPT, 2];
        varint::put(&mut extended, length as u64);
        extended.resize(extended.len() + length, 0xff);
        let body = extended.len();
        extended.extend_from_slice(b"body");
        let read = Read { head: Head { attempt: 2, ..Head::PLAIN }, headers: 0, topic: 0, body };
        assert_eq!(read_head(&extended).ok(), taken.then_some(read), "an extension of {length} bytes");
    }
}

#[test]
fn the_longest_head_is_read_and_no_allowance_is_made_for_a_longer_one() {
    // Each number may come in its longest form.
    let eight = |number: u64| (0xc0 << 56 | number).to_be_bytes();
    let mut block = Vec::new();
    headers::put(&mut block, "n", &"v".repeat(MAX_HEADERS - 6));
    assert_eq!(block.len(), MAX_HEADERS);
    let mut content = vec![DELTA | ATTEMPT | REDELIVERED | FAILURES | HEADERS | TOPIC | EXTENDED];
    for number in [1, 2, 3, MAX_CONTROL_FRAME as u64] {
        content.extend(eight(number));
    }
    content.extend([0; MAX_CONTROL_FRAME]);
    content.push(MAX_TOPIC as u8);
    content.extend(eight(MAX_HEADERS as u64));
    content.extend(&block);
    content.extend([b't'; MAX_TOPIC]);
    let read = read_head(&content).unwrap();
    assert_eq!((read.headers, read.topic, read.body), (MAX_HEADERS, MAX_TOPIC, content.len()));
    assert_eq!(content.len(), MAX_READ_HEAD);
}

#[test]
fn a_reason_is_text_up_to_its_length() {
    let (longest, longer) = (vec![b'n'; MAX_REASON], vec![b'n'; MAX_REASON + 1]);
    for (payload, reason) in
        [(&b""[..], Some("")), ("geht's noch? – no".as_bytes(), Some("geht's noch? – no")), (b"\xff", None)]
    {
        assert_eq!(Numbers::new(payload).reason().ok(), reason);
    }
    assert_eq!(Numbers::new(&longest).reason().map(str::len), Ok(MAX_REASON));
    assert!(Numbers::new(&longer).reason().is_err());
}

#[test]
fn a_payload_that_is_filled_with_ranges_is_one_that_a_peer_takes() {
    for range in [[0, 1], [5, 64], [64, 16_384], [varint::MAX, varint::MAX]] {
        let mut payload = Payload::of(&[0]);
        while !payload.is_full() {
            range.iter().for_each(|number| payload.push(*number));
            assert!(payload.0.len() <= MAX_CONTROL_FRAME, "{range:?}");
        }
        assert!(payload.0.len() > MAX_CONTROL_FRAME - 64, "{range:?}: room for more is left");
    }
}

proptest! {
    #[test]
    fn nothing_that_arrives_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_head(&bytes);
        let _ = split_open(&mut BytesMut::from(&bytes[..]));
        let _ = answers(&mut BytesMut::from(&bytes[..]), |_, payload| {
            let mut numbers = Numbers::new(payload);
            while let Ok(Some(_)) = numbers.range() {}
            numbers.reason().map(drop)
        });
    }

    #[test]
    fn any_head_comes_back(delta in -(1i64 << 60)..1 << 60, attempt: u32, failures: u32, redelivered: bool) {
        let head = Head { delta, attempt, failures, redelivered };
        let bytes = data(head, b"body");
        let (_, len) = varint::get(&bytes).unwrap();
        prop_assert!(bytes.len() <= MAX_HEAD + 4 + 12);
        prop_assert_eq!(read_head(&bytes[len..]).unwrap().head, head);
    }
}
