//! Accepted messages as they are kept: consecutive plain frames in one allocation, which is at once what goes on the
//! wire and what is retained until it is acknowledged. No message of it needs a record of its own.

use bytes::{Bytes, BytesMut};

use super::content::Content;
use crate::wire::frame::{HEADERS, own_flags, own_frame};
use crate::wire::headers;

/// Consecutive messages that were never dispatched or are in flight for the first time.
#[derive(Debug)]
pub(super) struct Segment {
    /// Whole plain frames; of a single large message all that stands before its body.
    pub(super) bytes: Bytes,
    /// A large body, kept as the sender's slice.
    pub(super) body: Option<Bytes>,
    pub(super) count: u32,
    /// Bytes of all that the messages carry.
    pub(super) payload: u64,
    /// Sequence of the first message.
    pub(super) first: u64,
}

impl Segment {
    /// Keeps at most `messages` messages and about `bytes` bytes, but at least one; gives back the rest, if there is one.
    pub(super) fn split(&mut self, messages: u32, bytes: u64) -> Option<Self> {
        let (mut kept, mut at, mut payload) = (0, 0, 0);
        while kept < messages.max(1) && kept < self.count && (kept == 0 || payload < bytes) {
            let (head, body) = own_frame(&self.bytes[at..]);
            at += head + body;
            payload += body as u64;
            kept += 1;
        }
        if kept == self.count {
            return None;
        }
        let rest = Self {
            bytes: self.bytes.split_off(at),
            body: None,
            count: self.count - kept,
            payload: self.payload - payload,
            first: self.first + u64::from(kept),
        };
        self.count = kept;
        self.payload = payload;
        Some(rest)
    }

    /// What the messages carry, in order.
    pub(super) fn contents(&self) -> impl Iterator<Item = Content> + '_ {
        let mut at = 0;
        (0..self.count).map(move |_| {
            let (content, length) = self.content(at);
            at += length;
            content
        })
    }

    /// What the frame carries that begins here, and how long it is.
    fn content(&self, at: usize) -> (Content, usize) {
        let (head, length) = own_frame(&self.bytes[at..]);
        let (mut body, end) = (at + head, at + head + length);
        let mut block = Bytes::new();
        if own_flags(&self.bytes[at..], head) & HEADERS != 0 {
            let found = headers::find(&self.bytes[body..]).expect("a segment holds whole headers");
            block = self.bytes.slice(body + found.start..body + found.end);
            body += found.end;
        }
        let body = self.body.clone().unwrap_or_else(|| self.bytes.slice(body..end));
        (Content { headers: block, body }, head + length)
    }
}

/// A segment in flight: which of its messages are unanswered.
///
/// As long as answers come in order two numbers say it; the first one that does not makes an index.
#[derive(Debug)]
pub(super) struct Fresh {
    segment: Segment,
    /// Everything before this index is answered.
    front: u32,
    /// Where the frame at `front` begins, while there is no index.
    at: u32,
    pub(super) left: u32,
    pub(super) left_bytes: u64,
    sparse: Option<Box<Sparse>>,
}

/// The first bit from `from` on and before `end` that is not set, by whole words.
pub(super) fn next_clear(bits: &[u64], from: u32, end: u32) -> Option<u32> {
    let (first, within) = ((from / 64) as usize, from % 64);
    let clear = bits.iter().enumerate().skip(first).find_map(|(word, set)| {
        let before = if word == first { (1 << within) - 1 } else { 0 };
        let ones = (set | before).trailing_ones();
        (ones < 64).then_some(word as u32 * 64 + ones)
    });
    clear.filter(|index| *index < end)
}

#[derive(Debug)]
struct Sparse {
    /// Where each frame begins.
    at: Box<[u32]>,
    /// A bit for each that is answered.
    answered: Box<[u64]>,
}

impl Fresh {
    pub(super) fn new(segment: Segment) -> Self {
        let (left, left_bytes) = (segment.count, segment.payload);
        Self { segment, front: 0, at: 0, left, left_bytes, sparse: None }
    }

    pub(super) fn count(&self) -> u32 {
        self.segment.count
    }

    pub(super) fn sequence(&self, index: u32) -> u64 {
        self.segment.first + u64::from(index)
    }

    pub(super) fn is_answered(&self, index: u32) -> bool {
        index < self.front
            || self.sparse.as_ref().is_some_and(|s| s.answered[index as usize / 64] >> (index % 64) & 1 == 1)
    }

    /// The first unanswered index.
    pub(super) fn first_unanswered(&self) -> Option<u32> {
        self.next_unanswered(0)
    }

    /// The first unanswered index from this one on.
    pub(super) fn next_unanswered(&self, from: u32) -> Option<u32> {
        let from = from.max(self.front);
        match &self.sparse {
            Some(sparse) => next_clear(&sparse.answered, from, self.segment.count),
            None => (from < self.segment.count).then_some(from),
        }
    }

    /// Everything before `end` is answered: how many messages and bytes that settles.
    pub(super) fn answer_up_to(&mut self, end: u32) -> (u32, u64) {
        let (left, left_bytes) = (self.left, self.left_bytes);
        if end == self.segment.count {
            (self.left, self.left_bytes) = (0, 0);
        } else {
            for index in self.front..end {
                let body = match &self.sparse {
                    Some(_) if self.is_answered(index) => continue,
                    Some(sparse) => own_frame(&self.segment.bytes[sparse.at[index as usize] as usize..]).1,
                    None => {
                        let (head, body) = own_frame(&self.segment.bytes[self.at as usize..]);
                        self.at += (head + body) as u32;
                        body
                    }
                };
                self.left -= 1;
                self.left_bytes -= body as u64;
            }
        }
        self.front = self.front.max(end);
        (left - self.left, left_bytes - self.left_bytes)
    }

    /// One message is answered out of order: what it carries, unless it was answered before.
    pub(super) fn answer(&mut self, index: u32) -> Option<Content> {
        if self.is_answered(index) {
            return None;
        }
        if self.segment.body.is_none() && self.sparse.is_none() {
            self.sparse = Some(Box::new(self.index()));
        }
        let content = self.content(index);
        if let Some(sparse) = &mut self.sparse {
            sparse.answered[index as usize / 64] |= 1 << (index % 64);
        } else {
            self.front = index + 1;
        }
        self.left -= 1;
        self.left_bytes -= content.size() as u64;
        self.compact();
        Some(content)
    }

    /// What is unanswered: sequence, index and content of each.
    pub(super) fn unanswered(mut self) -> Vec<(u64, u32, Content)> {
        if self.segment.body.is_none() && self.sparse.is_none() {
            self.sparse = Some(Box::new(self.index()));
        }
        let mostly_gone = self.left_bytes * 2 < self.segment.bytes.len() as u64;
        (self.front..self.segment.count)
            .filter(|index| !self.is_answered(*index))
            .map(|index| {
                let content = self.content(index);
                // A few messages that are left must not pin the allocation of many.
                let content = if mostly_gone { content.copied() } else { content };
                (self.sequence(index), index, content)
            })
            .collect()
    }

    /// The allocation, for another segment, if nobody else holds it any more.
    pub(super) fn into_spare(self) -> Option<BytesMut> {
        let mut spare = self.segment.bytes.try_into_mut().ok()?;
        spare.clear();
        Some(spare)
    }

    fn content(&self, index: u32) -> Content {
        let at = self.sparse.as_ref().map_or(0, |sparse| sparse.at[index as usize] as usize);
        self.segment.content(at).0
    }

    fn index(&self) -> Sparse {
        let mut at = 0;
        let offsets = (0..self.segment.count)
            .map(|_| {
                let here = at as u32;
                let (head, body) = own_frame(&self.segment.bytes[at..]);
                at += head + body;
                here
            })
            .collect();
        Sparse { at: offsets, answered: vec![0; (self.segment.count as usize).div_ceil(64)].into() }
    }

    /// Less than half of it is live: the live frames move to an allocation of their own size.
    fn compact(&mut self) {
        /// Smaller ones are not worth a copy.
        const LEAST: usize = 4096;
        let live = self.left_bytes + 5 * u64::from(self.left);
        if self.segment.bytes.len() < LEAST || live * 2 > self.segment.bytes.len() as u64 {
            return;
        }
        let Some(mut sparse) = self.sparse.take() else { return };
        let mut compacted = BytesMut::with_capacity(live as usize);
        for index in self.front..self.segment.count {
            if sparse.answered[index as usize / 64] >> (index % 64) & 1 == 1 {
                continue;
            }
            let at = &mut sparse.at[index as usize];
            let (head, body) = own_frame(&self.segment.bytes[*at as usize..]);
            let frame = *at as usize..*at as usize + head + body;
            *at = compacted.len() as u32;
            compacted.extend_from_slice(&self.segment.bytes[frame]);
        }
        self.segment.bytes = compacted.freeze();
        self.sparse = Some(sparse);
    }
}

#[cfg(test)]
mod tests;
