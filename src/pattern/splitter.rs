//! Frames from chunks. A body inside one chunk stays a slice of it; only one that crosses chunks is copied, once.

use bytes::{Bytes, BytesMut};

use super::batch::{Draft, Entry, Mark, Rare};
use super::lane::Violation;
use crate::wire::frame::{self, Head, MAX_READ_HEAD, Read};
use crate::wire::headers::section_len;
use crate::wire::limits::MAX_SEQUENCE_SAID;
use crate::wire::varint;

/// A buffer for a frame that crosses chunks grows as its bytes arrive, never further ahead than this.
const AHEAD: usize = 64 << 10;

/// Smaller chunks are copied: a slice of one may keep alive all packets that came in the same call to the kernel.
const SMALL_CHUNK: usize = 16 << 10;
/// Larger ones are when they hold so many times the headers and bodies in them.
const SPARSE: usize = 8;

/// What stands in the stream beside messages, in order with them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) kind: u8,
    pub(super) payload: Bytes,
    /// The position of the message that it stands before.
    pub(super) at: u64,
}

#[derive(Debug)]
pub(super) struct Splitter {
    /// The frame that an earlier chunk began.
    part: BytesMut,
    next_position: u64,
    next_sequence: u64,
    max_message: usize,
    /// Every message has a topic, and nothing that differs by dispatch.
    published: bool,
}

impl Splitter {
    pub(super) fn new(base: u64, max_message: usize) -> Self {
        Self { part: BytesMut::new(), next_position: 0, next_sequence: base, max_message, published: false }
    }

    /// Of a lane from a publisher, whose sequences begin here.
    pub(super) fn published(base: u64, max_message: usize) -> Self {
        Self { published: true, ..Self::new(base, max_message) }
    }

    /// The sequences of what comes next are others by so much.
    pub(super) fn shift(&mut self, by: i64) -> Result<(), Violation> {
        let next = self.next_sequence.checked_add_signed(by);
        self.next_sequence = next.filter(|next| *next <= MAX_SEQUENCE_SAID).ok_or(TOO_FAR)?;
        Ok(())
    }

    /// The sequence of the next message.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(super) fn received(&self) -> u64 {
        self.next_position
    }

    /// The same with a message of which a part has arrived.
    pub(super) fn begun(&self) -> u64 {
        // A control frame begins with 0.
        self.next_position + u64::from(self.part.first().is_some_and(|length| *length != 0))
    }

    /// The planted bug: the frame that has begun is taken for a whole one; nothing has begun: false.
    #[cfg(any(test, feature = "planted"))]
    pub(super) fn complete(&mut self, draft: &mut Draft) -> bool {
        let Ok(Some(need)) = self.frame_length(&self.part) else { return false };
        if self.begun() == self.next_position {
            return false;
        }
        let mut rest = BytesMut::new();
        rest.resize(need - self.part.len(), 0);
        self.feed(draft, rest.freeze(), &mut Vec::new()).is_ok() && !draft.entries.is_empty()
    }

    /// A draft that takes up where the last one ended.
    pub(super) fn draft(&self, (entries, chunks): (Vec<Entry>, Vec<Bytes>)) -> Draft {
        Draft {
            first_position: self.next_position,
            first_sequence: self.next_sequence,
            entries,
            chunks,
            ..Draft::default()
        }
    }

    /// Takes one chunk: whole messages go to the draft, control frames to `control`.
    pub(super) fn feed(
        &mut self,
        draft: &mut Draft,
        mut chunk: Bytes,
        control: &mut Vec<Control>,
    ) -> Result<(), Violation> {
        while !self.part.is_empty() && !chunk.is_empty() {
            let Some(need) = self.frame_length(&self.part)? else {
                let byte = chunk.split_to(1);
                self.part.extend_from_slice(&byte);
                continue;
            };
            let more = chunk.len().min(need.saturating_sub(self.part.len()));
            if self.part.capacity() - self.part.len() < more {
                let ahead = (need - self.part.len()).min(AHEAD.max(self.part.len()));
                self.part.reserve(ahead.max(more));
            }
            self.part.extend_from_slice(&chunk.split_to(more));
            if self.part.len() < need {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.part).freeze();
            self.split(draft, whole, control)?;
        }
        if !chunk.is_empty() {
            self.split(draft, chunk, control)?;
        }
        Ok(())
    }

    /// The whole length of the frame at the start, with its own length; `None`: more bytes are needed to say.
    fn frame_length(&self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let Some((length, len)) = varint::get(bytes) else { return Ok(None) };
        if length == 0 {
            // A control frame: 0, kind, length.
            let Some((length, more)) = bytes.get(2..).and_then(varint::get) else { return Ok(None) };
            if length > crate::wire::limits::MAX_CONTROL_FRAME as u64 {
                return Err(Violation("a lane's control frame is too long"));
            }
            return Ok(Some(2 + more + length as usize));
        }
        if length > (self.max_message + MAX_READ_HEAD) as u64 {
            return Err(Violation("a message is longer than this node takes"));
        }
        Ok(Some(len + length as usize))
    }

    /// The whole frames at the start become entries; what is left waits for the next chunk.
    fn split(&mut self, draft: &mut Draft, chunk: Bytes, control: &mut Vec<Control>) -> Result<(), Violation> {
        let index = draft.chunks.len() as u32;
        let (mut at, before) = (0, draft.entries.len());
        loop {
            let rest = &chunk[at..];
            let Some((length, len)) = varint::get(rest) else { break };
            if length == 0 {
                let Some(whole) = self.frame_length(rest)?.filter(|whole| *whole <= rest.len()) else { break };
                let Some((kind, payload, _)) = frame::whole_answer(&rest[1..])? else { break };
                let position = self.next_position + (draft.entries.len() - before) as u64;
                control.push(Control { kind, payload: Bytes::copy_from_slice(payload), at: position });
                at += whole;
                continue;
            }
            if length > (self.max_message + MAX_READ_HEAD) as u64 {
                return Err(Violation("a message is longer than this node takes"));
            }
            let Some(content) = rest.get(len..len + length as usize) else { break };
            let head = match content[0] {
                _ if self.published => self.topical(draft, content)?,
                0 => 1,
                _ => self.unusual(draft, content)?,
            };
            let body = content.len() - head;
            if body > self.max_message {
                return Err(Violation("a message is longer than this node takes"));
            }
            draft.entries.push(Entry { chunk: index, at: (at + len + head) as u32, len: body as u32 });
            draft.bytes += body as u64;
            self.next_sequence = self.next_sequence.wrapping_add(1);
            at += len + content.len();
        }
        self.next_position += (draft.entries.len() - before) as u64;
        if at < chunk.len() {
            let rest = &chunk[at..];
            let whole = self.frame_length(rest)?.unwrap_or(0);
            self.part = BytesMut::with_capacity(whole.min(AHEAD).max(rest.len()));
            self.part.extend_from_slice(rest);
        }
        if draft.entries.len() > before {
            draft.chunks.push(held(&mut draft.entries, before, &draft.topics, &draft.rare, chunk));
        }
        Ok(())
    }

    #[cold]
    fn unusual(&mut self, draft: &mut Draft, content: &[u8]) -> Result<usize, Violation> {
        let Read { head, headers, topic, body } = frame::read_head(content)?;
        if topic > 0 {
            return Err(Violation("a message for pullers has a topic"));
        }
        let index = draft.entries.len() as u32;
        if head.delta != 0 {
            self.next_sequence = self.next_sequence.wrapping_add(head.delta as u64);
            if self.next_sequence > MAX_SEQUENCE_SAID {
                return Err(TOO_FAR);
            }
            draft.rare.jumps.push((index, self.next_sequence));
        }
        if (Head { delta: 0, ..head }) != Head::PLAIN {
            let Head { attempt, failures, redelivered, .. } = head;
            draft.rare.marks.push((index, Mark { attempt, failures, redelivered }));
        }
        if headers > 0 {
            draft.rare.headers.push((index, headers as u32));
            draft.bytes += section_len(headers) as u64;
        }
        Ok(body)
    }

    fn topical(&mut self, draft: &mut Draft, content: &[u8]) -> Result<usize, Violation> {
        let Read { head, headers, topic, body } = frame::read_head(content)?;
        if topic == 0 {
            return Err(Violation("a published message has no topic"));
        }
        if head != Head::PLAIN {
            return Err(Violation("a published message differs by dispatch"));
        }
        if self.next_sequence >= MAX_SEQUENCE_SAID {
            return Err(TOO_FAR);
        }
        if headers > 0 {
            draft.rare.headers.push((draft.entries.len() as u32, headers as u32));
        }
        draft.topics.push(topic as u8);
        draft.bytes += (1 + topic + section_len(headers)) as u64;
        Ok(body)
    }
}

const TOO_FAR: Violation = Violation("a sequence is beyond what a socket can count");

/// What has to be held for the entries from this one on, which lie in one chunk: credit counts their headers and bodies,
/// so that what is held must not be many times as large.
fn held(entries: &mut [Entry], from: usize, topics: &[u8], rare: &Rare, chunk: Bytes) -> Bytes {
    let topic = |index: usize| topics.get(index).map_or(0, |length| usize::from(*length));
    let bodies: usize = entries[from..].iter().map(|entry| entry.len as usize).sum();
    let bodies = bodies + (from..entries.len()).map(topic).sum::<usize>();
    let headers = &rare.headers[rare.headers.partition_point(|(index, _)| (*index as usize) < from)..];
    let size = bodies + headers.iter().map(|(_, block)| *block as usize).sum::<usize>();
    // Of many short messages the heads are as long as the bodies, and their records are longer.
    let worth = size + entries.len() - from;
    if chunk.len() >= SMALL_CHUNK && chunk.len() <= SPARSE * worth {
        return chunk;
    }
    let mut copy = BytesMut::with_capacity(size);
    let mut headers = headers.iter().peekable();
    for (index, entry) in entries.iter_mut().enumerate().skip(from) {
        let own = headers.next_if(|(of, _)| *of as usize == index);
        let block = own.map_or(0, |(_, block)| *block as usize) + topic(index);
        let (start, body) = (entry.at as usize - block, entry.at as usize);
        entry.at = (copy.len() + block) as u32;
        copy.extend_from_slice(&chunk[start..body + entry.len as usize]);
    }
    copy.freeze()
}

#[cfg(test)]
mod tests;
