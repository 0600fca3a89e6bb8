//! The bytes of exchanges against vectors, both ways, and against whatever a peer may send.

use proptest::prelude::*;

use super::*;

/// A vector's bytes; lines that begin with `#` say what it is.
fn vector(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap()
}

macro_rules! vector {
    ($name:literal) => {
        vector(include_str!(concat!("../../../tests/vectors/exchange/", $name, ".hex")))
    };
}

fn block(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    pairs.iter().for_each(|(name, value)| headers::put(&mut block, name, value));
    block
}

/// The only frame in these bytes.
fn frame(bytes: &[u8]) -> (u8, &[u8]) {
    let (kind, payload) = find(bytes).unwrap().unwrap();
    assert_eq!(payload.end, bytes.len(), "one frame and nothing else");
    (kind, &bytes[payload])
}

const FIRST: RequestHead = RequestHead { id: 7, remaining: 10_000, idempotent: false, attempt: 1 };

#[test]
fn requests() {
    let again = RequestHead { id: 300, remaining: 0, idempotent: true, attempt: 2 };
    for (bytes, head, pairs, body, piece) in [
        (vector!("request"), FIRST, &[][..], 5, &b"hello"[..]),
        (vector!("request-empty"), FIRST, &[], 0, b""),
        (vector!("request-headers"), FIRST, &[("kind", "resize")], 5, b"hello"),
        (vector!("request-again"), again, &[], 1, b"x"),
        (vector!("request-begun"), FIRST, &[], 70_000, b"the first of it"),
    ] {
        let block = block(pairs);
        let mut out = BytesMut::new();
        put_request(&mut out, head, &block, body, piece.len());
        out.extend_from_slice(piece);
        assert_eq!(out[..], bytes[..]);
        let (kind, payload) = frame(&bytes);
        let read = read_request(payload).unwrap();
        assert_eq!((kind, read.head, read.body), (to_replier::REQUEST, head, body));
        assert_eq!((&payload[read.headers], &payload[read.piece..]), (&block[..], piece));
    }
}

#[test]
fn replies() {
    for (bytes, pairs, body, piece) in [
        (vector!("reply"), &[][..], 5, &b"HELLO"[..]),
        (vector!("reply-headers"), &[("a", "ü")], 0, b""),
        (vector!("reply-begun"), &[], 70_000, b"the first of it"),
    ] {
        let block = block(pairs);
        let mut out = BytesMut::new();
        put_reply(&mut out, 7, &block, body, piece.len());
        out.extend_from_slice(piece);
        assert_eq!(out[..], bytes[..]);
        let (kind, payload) = frame(&bytes);
        let read = read_reply(payload).unwrap();
        assert_eq!((kind, read.head, read.body), (to_requester::REPLY, 7, body));
        assert_eq!((&payload[read.headers], &payload[read.piece..]), (&block[..], piece));
    }
}

#[test]
fn what_else_is_said() {
    let mut more = BytesMut::new();
    put_more(&mut more, 7, 3);
    more.extend_from_slice(b"abc");
    assert_eq!(more[..], vector!("more")[..]);
    assert_eq!(read_more(frame(&more).1), Ok((7, 1)));

    let mut failed = BytesMut::new();
    put_failed(&mut failed, 7, "dropped", "nobody answered");
    assert_eq!(failed[..], vector!("failed")[..]);
    let (kind, payload) = frame(&failed);
    assert_eq!((kind, read_failed(payload).unwrap()), (6, (7, "dropped".into(), "nobody answered".into())));

    for (bytes, kind, numbers) in [
        (vector!("cancel"), to_replier::CANCEL, &[7][..]),
        (vector!("busy"), to_requester::BUSY, &[7]),
        (vector!("credit-for-replies"), to_replier::CREDIT, &[4_194_304]),
        (vector!("credit-for-requests"), to_requester::CREDIT, &[4_194_304]),
        (vector!("closing"), to_requester::CLOSING, &[]),
    ] {
        let mut out = BytesMut::new();
        put_numbers(&mut out, kind, numbers);
        assert_eq!(out[..], bytes[..]);
        let (read, payload) = frame(&bytes);
        assert_eq!(read, kind);
        if let [number] = numbers {
            assert_eq!(read_number(payload), Ok(*number));
        }
    }
}

#[test]
fn a_later_revisions_extension_is_passed_over() {
    let bytes = vector!("request-extended");
    let payload = frame(&bytes).1;
    let read = read_request(payload).unwrap();
    assert_eq!((read.head, &payload[read.piece..]), (FIRST, &b"hello"[..]));
}

#[test]
fn long_words_are_cut_and_control_characters_do_not_act() {
    let mut out = BytesMut::new();
    put_failed(&mut out, 1, &"ü".repeat(MAX_CODE), &"ü".repeat(MAX_REASON));
    let (_, code, message) = read_failed(frame(&out).1).unwrap();
    assert_eq!((code.len(), message.len()), (MAX_CODE, MAX_REASON));

    out.clear();
    put_failed(&mut out, 1, "a\u{1b}[2J", "line\nline\u{7}");
    let (_, code, message) = read_failed(frame(&out).1).unwrap();
    assert_eq!((&code[..], &message[..]), ("a\u{fffd}[2J", "line\nline\u{fffd}"));
}

#[test]
fn what_lies_is_refused() {
    let request = |id, flags: u8, rest: &[u8]| [&[id, flags][..], rest].concat();
    assert_eq!(read_request(&[]), Err(SHORT));
    assert!(read_request(&request(7, 0x08, &[0, 0])).is_err(), "a flag that nobody knows");
    assert!(read_request(&request(7, 0, &[0])).is_err(), "no length of the body");
    assert!(read_request(&request(7, 0, &[0, 1])).is_err(), "no piece of a body that is announced");
    assert!(read_request(&request(7, 0, &[0, 1, 1, 2])).is_err(), "a piece longer than the body");
    assert!(read_request(&request(7, ATTEMPT, &[0, 0xc0, 0, 0, 1, 0, 0, 0, 0, 0])).is_err(), "above 2^32");
    assert!(read_request(&request(7, EXTENDED, &[0, 9, 0])).is_err(), "an extension longer than the frame");
    assert!(read_request(&request(7, HEADERS, &[0, 0, 2, 1, b'a'])).is_err(), "headers that are cut short");
    let long = [&[7, 0, 0, 0x80, 1, 0, 1][..], &vec![0; PIECE + 1]].concat();
    assert!(read_request(&long).is_err(), "a first piece above its length");
    assert!(read_more(&[7]).is_err(), "a piece without a byte");
    assert!(read_more(&[&[7][..], &vec![0; PIECE + 1]].concat()).is_err(), "a piece above its length");
    assert!(read_failed(&[7, 65]).is_err(), "a code above its length");
    assert!(read_failed(&[7, 2, b'a']).is_err(), "a code that is cut short");
    assert!(read_failed(&[7, 1, 0xff]).is_err(), "not UTF-8");
    assert!(read_failed(&[&[7, 0][..], &vec![b'a'; MAX_REASON + 1]].concat()).is_err(), "a message above its length");
    assert!(find(&[&[to_replier::REQUEST][..], &[0x80, 0x10, 0, 0]].concat()).is_err(), "a frame above its length");
}

#[test]
fn each_length_is_taken_up_to_its_limit() {
    for (length, taken) in [(MAX_FRAME, true), (MAX_FRAME + 1, false)] {
        let mut head = vec![to_replier::REQUEST];
        varint::put(&mut head, length as u64);
        assert_eq!(find(&head).is_ok(), taken, "a frame of {length}");
    }
    for (length, taken) in [(0, true), (MAX_CONTROL_FRAME, true), (MAX_CONTROL_FRAME + 1, false)] {
        let mut payload = vec![7, EXTENDED, 0];
        varint::put(&mut payload, length as u64);
        payload.extend(vec![0x80; length]);
        payload.extend([1, b'x']);
        assert_eq!(read_request(&payload).is_ok(), taken, "an extension of {length}");
    }
    for (length, taken) in [(1, true), (PIECE, true), (PIECE + 1, false)] {
        let piece = vec![b'x'; length];
        let mut payload = vec![7, 0];
        varint::put(&mut payload, 1 << 20);
        payload.extend(&piece);
        assert_eq!(read_reply(&payload).is_ok(), taken, "a first piece of {length}");
        assert_eq!(read_more(&[&[7][..], &piece].concat()).is_ok(), taken, "a piece of {length}");
    }
    for (code, message, taken) in [(MAX_CODE, MAX_REASON, true), (MAX_CODE + 1, 0, false), (0, MAX_REASON + 1, false)] {
        let mut payload = vec![7];
        varint::put(&mut payload, code as u64);
        payload.extend(vec![b'x'; code + message]);
        assert_eq!(read_failed(&payload).is_ok(), taken, "words of {code} and {message}");
    }
    for (attempt, taken) in [(u64::from(u32::MAX), true), (1 << 32, false)] {
        let mut payload = vec![7, ATTEMPT, 0];
        varint::put(&mut payload, attempt);
        payload.push(0);
        assert_eq!(read_request(&payload).is_ok(), taken, "attempt {attempt}");
    }
}

#[test]
fn the_longest_request_is_read() {
    // Each number may be said in eight bytes, the extension and the headers as long as they may be, and a whole piece.
    let number = |value: u64| (value | 0xc000_0000_0000_0000).to_be_bytes();
    let block = block(&[("a", &"x".repeat(MAX_HEADERS - 6))]);
    assert_eq!(block.len(), MAX_HEADERS);
    let mut payload = number(7).to_vec();
    payload.push(HEADERS | IDEMPOTENT | ATTEMPT | EXTENDED);
    payload.extend([number(10_000), number(2), number(MAX_CONTROL_FRAME as u64)].concat());
    payload.extend(vec![0x80; MAX_CONTROL_FRAME]);
    payload.extend([number(1 << 20), number(MAX_HEADERS as u64)].concat());
    payload.extend(&block);
    payload.extend(vec![b'x'; PIECE]);
    let bytes = [&[to_replier::REQUEST][..], &number(payload.len() as u64), &payload].concat();
    let read = read_request(frame(&bytes).1).unwrap();
    assert_eq!((read.head, read.body), (RequestHead { idempotent: true, attempt: 2, ..FIRST }, 1 << 20));
    assert_eq!((&payload[read.headers], payload.len() - read.piece), (&block[..], PIECE));
}

#[test]
fn a_cost_counts_the_books_the_headers_with_their_length_and_the_body() {
    for (headers, body, cost_of_it) in [
        (0, 0, 64),
        (0, 1, 65),
        (1, 0, 66),
        (63, 10, 64 + 64 + 10),
        (64, 10, 64 + 66 + 10),
        (16_384, 1 << 20, 64 + 16_388 + (1 << 20)),
    ] {
        assert_eq!(cost(headers, body), cost_of_it, "{headers} and {body}");
    }
}

proptest! {
    #[test]
    fn nothing_that_arrives_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = find(&bytes);
        let (_, _, _) = (read_request(&bytes), read_reply(&bytes), read_more(&bytes));
        let (_, _) = (read_failed(&bytes), read_number(&bytes));
    }
}
