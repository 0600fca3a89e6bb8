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

proptest! {
    #[test]
    fn nothing_that_arrives_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = find(&bytes);
        let (_, _, _) = (read_request(&bytes), read_reply(&bytes), read_more(&bytes));
        let (_, _) = (read_failed(&bytes), read_number(&bytes));
    }
}
