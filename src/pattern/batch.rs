//! Messages that arrived together, as slices of what was read. Their answers are bytes in the batch: nobody queues.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::pull::LaneIn;
use super::push::lock;
use crate::id::NodeId;
use crate::sync::{AtomicBool, AtomicU8, AtomicU32, Mutex};
use crate::wire::headers::section_len;

/// The writer has looked since: whoever answers next tells it.
const ARMED: u32 = 1 << 31;

/// What one read brought, or a part of it.
pub(crate) struct Batch {
    /// How many are answered, and [`ARMED`].
    answers: AtomicU32,
    /// How many are handed out; written under the lock of the queue.
    pub(super) claimed: AtomicU32,
    /// Not every answer is an acknowledgement.
    odd: AtomicBool,
    /// Something of it was handed out when the sender might have given this end up.
    doubted: AtomicBool,
    /// The lane that its answers go back over; `None`: there are none, as it was published.
    lane: Option<Arc<LaneIn>>,
    source: Source,
    /// Its place among the batches of its lane.
    pub(super) number: u64,
    pub(super) first_position: u64,
    first_sequence: u64,
    entries: Vec<Entry>,
    chunks: Vec<Bytes>,
    /// The length of each entry's topic, which ends where its body begins; empty: they have none.
    topics: Vec<u8>,
    /// [`State`] of each entry, written once by the delivery that owns it and once more when it is told.
    state: Vec<AtomicU8>,
    /// What an answer says beyond its state.
    details: Mutex<BTreeMap<u32, Detail>>,
    rare: Rare,
    pub(super) bytes: u64,
}

/// Whose messages they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    /// Proven by its certificate.
    pub(crate) node: NodeId,
    /// Together with the node and the sequence it names a message for ever.
    pub(crate) epoch: u64,
}

/// Where a body lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) chunk: u32,
    pub(super) at: u32,
    pub(super) len: u32,
}

/// What is not usual about a few entries, in order.
#[derive(Debug, Default, Clone)]
pub(super) struct Rare {
    /// From this entry on sequences continue from here.
    pub(super) jumps: Vec<(u32, u64)>,
    pub(super) marks: Vec<(u32, Mark)>,
    /// Lengths of the blocks of headers, each of which ends where the body of its entry begins.
    pub(super) headers: Vec<(u32, u32)>,
}

impl Rare {
    /// How long the block of headers of this entry is.
    pub(super) fn headers(&self, index: u32) -> u32 {
        let found = self.headers.binary_search_by_key(&index, |(at, _)| *at);
        found.map_or(0, |found| self.headers[found].1)
    }

    /// Those of the entries from this one on, which are counted from it.
    fn split(&mut self, at: u32) -> Self {
        let jumps = self.jumps.split_off(self.jumps.partition_point(|(index, _)| *index < at));
        let marks = self.marks.split_off(self.marks.partition_point(|(index, _)| *index < at));
        let headers = self.headers.split_off(self.headers.partition_point(|(index, _)| *index < at));
        Self {
            jumps: jumps.into_iter().map(|(index, sequence)| (index - at, sequence)).collect(),
            marks: marks.into_iter().map(|(index, mark)| (index - at, mark)).collect(),
            headers: headers.into_iter().map(|(index, block)| (index - at, block)).collect(),
        }
    }
}

/// What a message has been through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) attempt: u32,
    pub(crate) failures: u32,
    pub(crate) redelivered: bool,
}

impl Mark {
    pub(crate) const FIRST: Self = Self { attempt: 1, failures: 0, redelivered: false };
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Open = 0,
    Acked = 1,
    Nacked = 2,
    Rejected = 3,
    Returned = 4,
    Told = 5,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Detail {
    Delay(Duration),
    Reason(String),
}

/// What the reader fills before others see it.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) first_position: u64,
    pub(super) first_sequence: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) chunks: Vec<Bytes>,
    pub(super) topics: Vec<u8>,
    pub(super) rare: Rare,
    pub(super) bytes: u64,
    /// When it arrived in full.
    pub(super) at: Option<Instant>,
}

impl Draft {
    /// Their sequences are others by so much.
    pub(super) fn shift(&mut self, by: i64) {
        self.first_sequence = self.first_sequence.wrapping_add_signed(by);
    }

    /// Keeps the first `count` entries, gives back the others.
    pub(super) fn split(&mut self, count: usize) -> Self {
        let entries = self.entries.split_off(count);
        let at = count as u32;
        let first_sequence = sequence(self.first_sequence, &self.rare.jumps, at);
        let rare = self.rare.split(at);
        let topics = self.topics.split_off(count.min(self.topics.len()));
        let bodies: u64 = entries.iter().map(|entry| u64::from(entry.len)).sum();
        let headers: u64 = rare.headers.iter().map(|(_, block)| section_len(*block as usize) as u64).sum();
        let bytes = bodies + headers + topics.iter().map(|topic| 1 + u64::from(*topic)).sum::<u64>();
        self.bytes -= bytes;
        Self {
            first_position: self.first_position + count as u64,
            first_sequence,
            entries,
            chunks: self.chunks.clone(),
            topics,
            rare,
            bytes,
            at: self.at,
        }
    }
}

fn sequence(first: u64, jumps: &[(u32, u64)], index: u32) -> u64 {
    match jumps.partition_point(|(from, _)| *from <= index).checked_sub(1) {
        Some(last) => jumps[last].1.wrapping_add(u64::from(index - jumps[last].0)),
        None => first.wrapping_add(u64::from(index)),
    }
}

impl Batch {
    pub(super) fn new(draft: Draft, number: u64, lane: Arc<LaneIn>) -> Self {
        let mut state = Vec::new();
        state.resize_with(draft.entries.len(), || AtomicU8::new(State::Open as u8));
        let source = Source { node: lane.peer.node, epoch: lane.epoch };
        Self { state, lane: Some(lane), ..Self::published(draft, number, source) }
    }

    /// Messages that nobody answers.
    pub(super) fn published(draft: Draft, number: u64, source: Source) -> Self {
        Self {
            answers: AtomicU32::new(ARMED),
            claimed: AtomicU32::new(0),
            odd: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            lane: None,
            source,
            number,
            first_position: draft.first_position,
            first_sequence: draft.first_sequence,
            entries: draft.entries,
            chunks: draft.chunks,
            topics: draft.topics,
            state: Vec::new(),
            details: Mutex::default(),
            rare: draft.rare,
            bytes: draft.bytes,
        }
    }

    /// Of messages that are answered.
    #[inline]
    pub(crate) fn lane(&self) -> &Arc<LaneIn> {
        self.lane.as_ref().expect("only deliveries are answered, and theirs have a lane")
    }

    pub(crate) fn source(&self) -> Source {
        self.source
    }

    pub(super) fn count(&self) -> u32 {
        self.entries.len() as u32
    }

    /// What credit counts.
    pub(super) fn size(&self, index: u32) -> u64 {
        let topic = self.topics.get(index as usize).map_or(0, |length| 1 + u64::from(*length));
        u64::from(self.entries[index as usize].len) + topic + section_len(self.rare.headers(index) as usize) as u64
    }

    fn topic_len(&self, index: u32) -> usize {
        self.topics.get(index as usize).map_or(0, |length| usize::from(*length))
    }

    /// What it was published under; empty where it was not.
    pub(crate) fn topic(&self, index: u32) -> &str {
        let entry = &self.entries[index as usize];
        let end = entry.at as usize;
        let topic = &self.chunks[entry.chunk as usize][end - self.topic_len(index)..end];
        // It was looked at when it came.
        std::str::from_utf8(topic).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn slice(&self, index: u32) -> &[u8] {
        let entry = &self.entries[index as usize];
        &self.chunks[entry.chunk as usize][entry.at as usize..entry.at as usize + entry.len as usize]
    }

    /// The body as a slice of what was received, which it holds as long as it lives.
    pub(crate) fn body(&self, index: u32) -> Bytes {
        let entry = &self.entries[index as usize];
        self.chunks[entry.chunk as usize].slice(entry.at as usize..entry.at as usize + entry.len as usize)
    }

    /// The headers as on the wire, as a slice of what was received.
    pub(crate) fn headers(&self, index: u32) -> Bytes {
        let (chunk, range) = self.headers_at(index);
        if range.is_empty() { Bytes::new() } else { chunk.slice(range) }
    }

    pub(crate) fn header_block(&self, index: u32) -> &[u8] {
        let (chunk, range) = self.headers_at(index);
        &chunk[range]
    }

    fn headers_at(&self, index: u32) -> (&Bytes, std::ops::Range<usize>) {
        let entry = &self.entries[index as usize];
        let (end, length) = (entry.at as usize - self.topic_len(index), self.rare.headers(index) as usize);
        (&self.chunks[entry.chunk as usize], end - length..end)
    }

    pub(crate) fn sequence(&self, index: u32) -> u64 {
        sequence(self.first_sequence, &self.rare.jumps, index)
    }

    pub(crate) fn mark(&self, index: u32) -> Mark {
        let found = self.rare.marks.binary_search_by_key(&index, |(at, _)| *at);
        let mark = found.map_or(Mark::FIRST, |found| self.rare.marks[found].1);
        Mark { redelivered: mark.redelivered || self.doubted.load(Relaxed), ..mark }
    }

    /// Something of it is handed out of which it is not certain that nobody else has been handed it.
    #[cold]
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Relaxed);
    }

    /// The application's answer to one entry; each is answered once.
    #[inline]
    pub(crate) fn answer(self: &Arc<Self>, index: u32, state: State) {
        if state != State::Acked {
            self.odd.store(true, Relaxed);
        }
        self.state[index as usize].store(state as u8, Relaxed);
        // The addition publishes the answer to the writer's next look, or sees that the writer must be told.
        if self.answers.fetch_add(1, AcqRel) & ARMED != 0 {
            self.lane().answered(self, index);
        }
    }

    pub(crate) fn answer_with(self: &Arc<Self>, index: u32, state: State, detail: Detail) {
        lock(&self.details).insert(index, detail);
        self.answer(index, state);
    }

    /// From now on the next answer tells nobody: somebody is told already.
    pub(super) fn disarm(&self) -> bool {
        self.answers.fetch_and(!ARMED, AcqRel) & ARMED != 0
    }

    /// From now on the next answer is told; how many there are by now.
    pub(super) fn arm(&self) -> u32 {
        self.answers.fetch_or(ARMED, AcqRel) & !ARMED
    }

    pub(super) fn only_acks(&self) -> bool {
        !self.odd.load(Relaxed)
    }

    pub(super) fn state(&self, index: u32) -> State {
        match self.state[index as usize].load(Acquire) {
            0 => State::Open,
            1 => State::Acked,
            2 => State::Nacked,
            3 => State::Rejected,
            _ => State::Told,
        }
    }

    pub(super) fn told(&self, index: u32) {
        self.state[index as usize].store(State::Told as u8, Relaxed);
    }

    pub(super) fn detail(&self, index: u32) -> Option<Detail> {
        lock(&self.details).remove(&index)
    }

    /// Its vectors, to be used again.
    pub(super) fn into_parts(self) -> (Vec<Entry>, Vec<Bytes>) {
        let (mut entries, mut chunks) = (self.entries, self.chunks);
        entries.clear();
        chunks.clear();
        (entries, chunks)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("position", &self.first_position).field("count", &self.count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::pattern::splitter::Splitter;
    use crate::wire::frame::{self, HEADERS, Head};
    use crate::wire::headers;

    fn block(value: &str) -> Vec<u8> {
        let mut block = Vec::new();
        if !value.is_empty() {
            headers::put(&mut block, "n", value);
        }
        block
    }

    fn read(mut splitter: Splitter, frames: &BytesMut) -> Draft {
        let mut draft = splitter.draft(Default::default());
        splitter.feed(&mut draft, frames.clone().freeze(), &mut Vec::new()).unwrap();
        draft
    }

    fn batch(draft: Draft) -> Batch {
        Batch::published(draft, 0, Source { node: NodeId::from_bytes([1; 32]), epoch: 7 })
    }

    /// What differs from message to message: topic, value of the only header, body.
    const PUBLISHED: [(&str, &str, &str); 5] =
        [("a", "", "first"), ("b.c", "x", ""), ("d", "", ""), ("e.f.g", "long", "fourth"), ("h", "", "fifth")];

    fn published() -> Draft {
        let mut frames = BytesMut::new();
        for (topic, header, body) in PUBLISHED {
            frame::put_published_head(&mut frames, topic, &block(header), body.len());
            frames.extend_from_slice(body.as_bytes());
        }
        read(Splitter::published(10, 1000), &frames)
    }

    #[test]
    fn a_published_message_is_found_with_its_topic_and_its_headers() {
        let draft = published();
        let (bytes, batch) = (draft.bytes, batch(draft));
        let mut sum = 0;
        for (index, (topic, header, body)) in (0..).zip(PUBLISHED) {
            let block = block(header);
            assert_eq!((batch.topic(index), batch.slice(index)), (topic, body.as_bytes()));
            assert_eq!((batch.headers(index), batch.header_block(index)), (Bytes::from(block.clone()), &block[..]));
            assert_eq!(batch.size(index), (1 + topic.len() + section_len(block.len()) + body.len()) as u64);
            sum += batch.size(index);
        }
        assert_eq!(sum, bytes, "all of them are what was counted as they came");
        let (headers, block) = (batch.headers(3), batch.header_block(3));
        assert_eq!(headers.as_ptr(), block.as_ptr(), "headers are a slice of what was received");
        assert_eq!(format!("{batch:?}"), "Batch { position: 0, count: 5 }", "nothing of what it carries is printed");
    }

    #[test]
    fn wherever_it_is_divided_each_message_keeps_what_it_has() {
        let dispatched = || {
            let mut frames = BytesMut::new();
            for (delta, attempt, failures, header, body) in [
                (0, 1, 0, "", "one"),
                (40, 3, 2, "x", ""),
                (0, 1, 0, "", "three"),
                (-7, 2, 0, "yy", "four"),
                (0, 1, 0, "", ""),
            ] {
                let block = block(header);
                let carried = if block.is_empty() { 0 } else { HEADERS };
                let head = Head { delta, attempt, failures, redelivered: attempt > 1 };
                frame::put_head(&mut frames, carried, section_len(block.len()) + body.len(), head);
                headers::put_section(&mut frames, &block);
                frames.extend_from_slice(body.as_bytes());
            }
            read(Splitter::new(10, 1000), &frames)
        };
        let all_of = |draft: Draft| {
            let (bytes, batch) = (draft.bytes, batch(draft));
            assert_eq!((0..batch.count()).map(|index| batch.size(index)).sum::<u64>(), bytes);
            let message = |index| {
                let carries = (batch.topic(index).to_owned(), batch.headers(index), batch.body(index));
                (batch.first_position + u64::from(index), batch.sequence(index), batch.mark(index), carries)
            };
            (0..batch.count()).map(message).collect::<Vec<_>>()
        };
        for made in [&dispatched as &dyn Fn() -> Draft, &published] {
            let whole = all_of(made());
            assert_eq!(whole.len(), 5);
            for at in 0..=5 {
                let mut front = made();
                let back = front.split(at);
                assert_eq!([all_of(front), all_of(back)].concat(), whole, "divided before {at}");
            }
        }
        let sequences: Vec<u64> = all_of(dispatched()).iter().map(|message| message.1).collect();
        assert_eq!(sequences, [10, 51, 52, 46, 47]);
    }
}
