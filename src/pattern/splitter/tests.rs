//! Whatever the chunks are in which bytes arrive, the same messages come out of them.

use proptest::prelude::*;

use super::*;
use crate::wire::frame::{HEADERS, put_control, put_head, put_plain_head, put_published_head};
use crate::wire::headers::{self, Pairs};
use crate::wire::limits::{MAX_CONTROL_FRAME, MAX_HEADERS};

const MAX_MESSAGE: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq)]
struct Message {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    mark: Mark,
    sequence: u64,
}

/// The bytes of these messages, each behind a control frame of a kind that is skipped.
fn written(messages: &[Message], base: u64) -> Vec<u8> {
    let (mut out, mut due) = (BytesMut::new(), base);
    for message in messages {
        put_control(&mut out, 0x40, b"later");
        let mut block = Vec::new();
        message.headers.iter().for_each(|(name, value)| headers::put(&mut block, name, value));
        let Mark { attempt, failures, redelivered } = message.mark;
        let delta = message.sequence.wrapping_sub(due) as i64;
        let carried = if block.is_empty() { 0 } else { HEADERS };
        let length = section_len(block.len()) + message.body.len();
        put_head(&mut out, carried, length, Head { delta, attempt, failures, redelivered });
        headers::put_section(&mut out, &block);
        out.extend_from_slice(&message.body);
        due = message.sequence + 1;
    }
    out.to_vec()
}

/// What a receiver finds of an entry.
fn read(draft: &Draft, index: usize) -> (Vec<(String, String)>, Vec<u8>) {
    let Entry { chunk, at, len } = draft.entries[index];
    let (chunk, at) = (&draft.chunks[chunk as usize], at as usize);
    let block = &chunk[at - draft.rare.headers(index as u32) as usize..at];
    let pairs = Pairs::of(block).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (pairs, chunk[at..at + len as usize].to_vec())
}

fn message() -> impl Strategy<Value = Message> {
    let text = |least| proptest::string::string_regex(&format!("[^\\p{{Cc}}]{{{least},70}}")).unwrap();
    let headers = prop_oneof![
        2 => Just(Vec::new()),
        3 => prop::collection::vec((text(1), text(0)), 1..4),
        1 => (text(1), 10_000usize..60_000).prop_map(|(name, len)| vec![(name, "v".repeat(len))]),
    ];
    let body = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..80),
        1 => (20_000usize..40_000).prop_map(|len| vec![7; len]),
    ];
    let mark = (1u32..4, 0u32..3, any::<bool>());
    (headers, body, mark, 0u64..1000).prop_map(|(headers, body, (attempt, failures, redelivered), sequence)| Message {
        headers,
        body,
        mark: Mark { attempt, failures, redelivered },
        sequence,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn messages_come_out_of_all_chunkings(
        messages in prop::collection::vec(message(), 1..8),
        cuts in prop::collection::vec(prop_oneof![1usize..9, 100..30_000usize], 0..60),
        at in any::<prop::sample::Index>(),
    ) {
        let base = 5;
        let bytes = Bytes::from(written(&messages, base));
        let mut splitter = Splitter::new(base, MAX_MESSAGE);
        let (mut draft, mut control, mut rest) = (splitter.draft(Default::default()), Vec::new(), bytes);
        for cut in cuts {
            let chunk = rest.split_to(cut.min(rest.len()));
            splitter.feed(&mut draft, chunk, &mut control).unwrap();
        }
        splitter.feed(&mut draft, rest, &mut control).unwrap();
        prop_assert_eq!(control.len(), messages.len());
        prop_assert_eq!(draft.entries.len(), messages.len());
        prop_assert_eq!(splitter.received(), messages.len() as u64);

        let size = |message: &Message| {
            let pairs = message.headers.iter();
            let mut block = Vec::new();
            pairs.for_each(|(name, value)| headers::put(&mut block, name, value));
            (section_len(block.len()) + message.body.len()) as u64
        };
        prop_assert_eq!(draft.bytes, messages.iter().map(size).sum::<u64>());
        // A draft that is split says the same in two parts.
        let count = at.index(messages.len() + 1);
        let rest = draft.split(count);
        for (part, messages) in [(draft, &messages[..count]), (rest, &messages[count..])] {
            prop_assert_eq!(part.bytes, messages.iter().map(size).sum::<u64>());
            for (index, message) in messages.iter().enumerate() {
                let (headers, body) = read(&part, index);
                prop_assert_eq!((&headers, &body), (&message.headers, &message.body));
                let mark = part.rare.marks.iter().find(|(of, _)| *of as usize == index);
                prop_assert_eq!(mark.map_or(Mark::FIRST, |(_, mark)| *mark), message.mark);
            }
        }
    }

    #[test]
    fn nothing_that_arrives_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1usize..20) {
        let mut splitter = Splitter::new(0, 100);
        let (mut draft, mut control) = (splitter.draft(Default::default()), Vec::new());
        for chunk in bytes.chunks(cut) {
            if splitter.feed(&mut draft, Bytes::copy_from_slice(chunk), &mut control).is_err() {
                // The lane ends, and with it the draft.
                return Ok(());
            }
        }
        for index in 0..draft.entries.len() {
            read(&draft, index);
        }
    }
}

#[test]
fn what_is_longer_than_a_message_may_be_is_refused_before_it_has_arrived() {
    let feed = |bytes: &[u8]| {
        let mut splitter = Splitter::new(0, MAX_MESSAGE);
        let mut draft = splitter.draft(Default::default());
        splitter.feed(&mut draft, Bytes::copy_from_slice(bytes), &mut Vec::new()).map(|()| splitter.part.capacity())
    };
    let length = |length: usize| {
        let mut out = Vec::new();
        varint::put(&mut out, length as u64);
        out
    };
    assert!(feed(&length(MAX_MESSAGE + MAX_READ_HEAD + 1)).is_err());
    // One that may be so long makes nobody hold more than has arrived and a little ahead.
    let held = feed(&length(MAX_MESSAGE + MAX_HEADERS)).unwrap();
    assert!(held <= AHEAD, "{held} bytes for a length alone");
}

/// What this chunk brings.
fn feed(splitter: &mut Splitter, chunk: &[u8]) -> Result<(Draft, Vec<Control>), Violation> {
    let (mut draft, mut control) = (splitter.draft(Default::default()), Vec::new());
    splitter.feed(&mut draft, Bytes::copy_from_slice(chunk), &mut control)?;
    Ok((draft, control))
}

fn plain(body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_plain_head(&mut out, body.len());
    out.extend_from_slice(body);
    out.to_vec()
}

/// A published message, and what bounds and credit count of it.
fn topical(topic: &str, headers: &[(&str, &str)], body: &[u8]) -> (Vec<u8>, u64) {
    let (mut out, mut block) = (BytesMut::new(), Vec::new());
    headers.iter().for_each(|(name, value)| headers::put(&mut block, name, value));
    let size = put_published_head(&mut out, topic, &block, body.len());
    out.extend_from_slice(body);
    (out.to_vec(), size as u64)
}

#[test]
fn what_may_be_whole_in_time_is_waited_for_and_nothing_longer() {
    for max_message in [1, MAX_MESSAGE] {
        for (before, longest) in [(&[][..], max_message + MAX_READ_HEAD), (&[0, 0x40], MAX_CONTROL_FRAME)] {
            for (length, taken) in [(longest, true), (longest + 1, false)] {
                let mut start = before.to_vec();
                varint::put(&mut start, length as u64);
                start.push(0);
                for chunk in [1, start.len()] {
                    let mut splitter = Splitter::new(0, max_message);
                    let fed = start.chunks(chunk).try_for_each(|chunk| feed(&mut splitter, chunk).map(drop));
                    assert_eq!(fed.is_ok(), taken, "{length} behind {before:?}, in chunks of {chunk}");
                }
            }
        }
    }
}

#[test]
fn the_longest_body_and_the_longest_control_frame_are_taken() {
    for (length, taken) in [(1000, true), (1001, false)] {
        let bytes = plain(&vec![7; length]);
        for chunk in [1, 100, bytes.len()] {
            let mut splitter = Splitter::new(0, 1000);
            let fed = bytes.chunks(chunk).try_for_each(|chunk| feed(&mut splitter, chunk).map(drop));
            assert_eq!((fed.is_ok(), splitter.received()), (taken, u64::from(taken)), "{length} bytes");
        }
    }
    let mut bytes = BytesMut::new();
    put_control(&mut bytes, 0x40, &[7; MAX_CONTROL_FRAME]);
    let (_, control) = feed(&mut Splitter::new(0, 1000), &bytes).unwrap();
    assert_eq!(control, [Control { kind: 0x40, payload: Bytes::from(vec![7; MAX_CONTROL_FRAME]), at: 0 }]);
}

#[test]
fn a_lane_may_name_the_largest_sequence_and_none_beyond() {
    for (sequence, taken) in [(MAX_SEQUENCE_SAID, true), (MAX_SEQUENCE_SAID + 1, false)] {
        let mut bytes = BytesMut::new();
        put_head(&mut bytes, 0, 0, Head { delta: (sequence - 5) as i64, ..Head::PLAIN });
        let jumps = feed(&mut Splitter::new(5, 1000), &bytes).map(|(draft, _)| draft.rare.jumps);
        assert_eq!(jumps.ok(), taken.then(|| vec![(0, sequence)]));
    }
}

#[test]
fn a_message_has_a_topic_where_it_was_published_and_nowhere_else() {
    let (published, _) = topical("eu.dax", &[], b"hello");
    for (bytes, topics) in [(published, true), (plain(b"hello"), false)] {
        assert_eq!(feed(&mut Splitter::published(0, 1000), &bytes).is_ok(), topics);
        assert_eq!(feed(&mut Splitter::new(0, 1000), &bytes).is_ok(), !topics);
    }
}

#[test]
fn published_messages_come_out_with_their_topics_and_headers() {
    let messages = [
        ("eu.dax", &[][..], &b"1"[..]),
        ("uk.ftse100", &[("kind", "x"), ("tag", "")], b""),
        ("us", &[("a", "ü")], b"hello"),
        ("us", &[], b""),
    ];
    let (bytes, sizes): (Vec<_>, Vec<_>) =
        messages.iter().map(|(topic, headers, body)| topical(topic, headers, body)).unzip();
    let (draft, _) = feed(&mut Splitter::published(0, 1000), &bytes.concat()).unwrap();
    assert_eq!(draft.bytes, sizes.iter().sum::<u64>());
    assert_eq!(draft.rare.headers.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2], "only these have some");
    for (index, (topic, headers, body)) in messages.iter().enumerate() {
        let Entry { chunk, at, len } = draft.entries[index];
        let (chunk, at) = (&draft.chunks[chunk as usize], at as usize);
        let start = at - usize::from(draft.topics[index]);
        assert_eq!((&chunk[start..at], &chunk[at..at + len as usize]), (topic.as_bytes(), *body));
        let block = &chunk[start - draft.rare.headers(index as u32) as usize..start];
        assert_eq!(Pairs::of(block).collect::<Vec<_>>(), *headers);
    }
}

#[test]
fn only_what_is_unusual_about_a_message_is_noted() {
    let again = Mark { attempt: 2, ..Mark::FIRST };
    let message = |sequence, mark, headers| Message { headers, body: Vec::new(), mark, sequence };
    let messages = [
        message(5, Mark::FIRST, Vec::new()),
        message(6, again, Vec::new()),
        message(9, Mark::FIRST, Vec::new()),
        message(10, Mark::FIRST, vec![("a".into(), "b".into())]),
    ];
    let (draft, _) = feed(&mut Splitter::new(5, 1000), &written(&messages, 5)).unwrap();
    let Rare { jumps, marks, headers } = draft.rare;
    assert_eq!((jumps, marks, headers), (vec![(2, 9)], vec![(1, again)], vec![(3, 4)]));
}

#[test]
fn a_message_that_crosses_chunks_is_copied_once_and_holds_little_ahead() {
    for (length, size) in [(40_000, 10), (MAX_MESSAGE, 1000)] {
        let bytes = plain(&vec![7; length]);
        let mut splitter = Splitter::new(0, MAX_MESSAGE);
        // The first byte alone does not say how long it is.
        feed(&mut splitter, &bytes[..1]).unwrap();
        let (mut places, mut arrived) = (Vec::new(), 1);
        for chunk in bytes[1..].chunks(size) {
            let (draft, _) = feed(&mut splitter, chunk).unwrap();
            arrived += chunk.len();
            let held = splitter.part.capacity();
            if arrived < bytes.len() {
                assert!(held <= arrived + AHEAD.max(arrived), "{held} bytes for {arrived}");
                places.push((splitter.part.as_ptr(), held));
            } else if bytes.len() <= AHEAD {
                places.push((draft.chunks[0].as_ptr(), bytes.len()));
            }
        }
        assert_eq!(splitter.received(), 1);
        places.dedup();
        assert!(places.len() == 1 || bytes.len() > AHEAD, "{places:?}");
    }
}

#[test]
fn a_chunk_is_kept_while_it_is_not_many_times_what_is_counted() {
    let mut splitter = Splitter::published(0, MAX_MESSAGE);
    let mut draft = splitter.draft(Default::default());
    // Beside one message, of 4095 bytes with topic and headers, the chunk has what is skipped.
    let (message, _) = topical("eu.dax.performance", &[("kind", "x")], &[7; 4095 - 18 - 7]);
    for (length, kept) in [(SPARSE * 4096, true), (SPARSE * 4096 + 1, false)].repeat(2) {
        let mut chunk = BytesMut::from(&message[..]);
        put_control(&mut chunk, 0x40, &vec![0; length - message.len() - 6]);
        assert_eq!(chunk.len(), length);
        splitter.feed(&mut draft, chunk.freeze(), &mut Vec::new()).unwrap();
        assert_eq!(draft.chunks.last().unwrap().len(), if kept { length } else { 4095 });
    }
    assert_eq!((draft.entries.len(), draft.chunks.len()), (4, 4));
}

#[test]
fn nothing_is_kept_of_a_chunk_without_a_whole_message() {
    let mut bytes = BytesMut::new();
    put_control(&mut bytes, 0x40, b"later");
    bytes.extend_from_slice(&plain(b"hello")[..3]);
    let (draft, control) = feed(&mut Splitter::new(0, 1000), &bytes).unwrap();
    assert_eq!((control.len(), draft.entries.len(), draft.chunks.len()), (1, 0, 0));
}

#[test]
fn the_planted_bug_takes_for_whole_what_has_begun_of_a_message() {
    for (bytes, taken) in [
        (&b"\x06\x00hello"[..], None), // nothing has begun
        (b"\x00\x40\x05lat", None),
        (b"\x06\x40he", None), // of a flag that nobody knows
        (b"\x06\x00he", Some(b"he\0\0\0")),
    ] {
        let mut splitter = Splitter::new(0, 1000);
        let mut draft = splitter.draft(Default::default());
        let (whole, mut control) = (plain(b"whole"), Vec::new());
        splitter.feed(&mut draft, [&whole, bytes].concat().into(), &mut control).unwrap();
        let before = draft.entries.len();
        assert_eq!(splitter.complete(&mut draft), taken.is_some(), "{bytes:?}");
        if let Some(body) = taken {
            assert_eq!((draft.entries.len(), read(&draft, before).1), (before + 1, body.to_vec()));
            assert!(splitter.part.is_empty(), "and no more than that");
        }
    }
}
