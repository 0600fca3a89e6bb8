//! Whatever the chunks are in which bytes arrive, the same messages come out of them.

use proptest::prelude::*;

use super::*;
use crate::wire::frame::{HEADERS, put_control, put_head};
use crate::wire::headers::{self, Pairs};
use crate::wire::limits::MAX_HEADERS;

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
