//! The bytes of a lane between a requester and a replier, both directions side by side.
//!
//! ```text
//! frame    kind │ length (varint) │ payload
//! request  id │ flags │ remaining │ [attempt] │ [extension] │ body length │ [headers] first piece   towards the replier
//! reply    id │ flags │ [extension] │ body length │ [headers] first piece                           towards the requester
//! piece    id │ more of the body                                                                    both ways
//! ```
//! A body goes in pieces of at most [`PIECE`] bytes, so that a long one holds up no short one. Kinds from 0x40 that are not
//! known are skipped. Before all of them, the requester opens the lane as every lane is opened.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::frame::{Numbers, Payload, put_answer};
use super::limits::{MAX_CODE, MAX_CONTROL_FRAME, MAX_HEADERS, MAX_REASON, PIECE};
use super::{Violation, headers, varint};

/// Headers stand before the body.
const HEADERS: u8 = 1;
/// The request may be handed to a handler more than once.
const IDEMPOTENT: u8 = 1 << 1;
/// Not the first attempt: its number follows.
const ATTEMPT: u8 = 1 << 2;
/// A MessagePack map follows behind its length; this revision knows no key of it.
const EXTENDED: u8 = 1 << 7;

/// More of a body.
pub(crate) const MORE: u8 = 0x03;

/// Kinds of frames towards the replier.
pub(crate) mod to_replier {
    /// Somebody asks: see the head of this file.
    pub(crate) const REQUEST: u8 = 0x02;
    /// id: nobody waits for the answer any more.
    pub(crate) const CANCEL: u8 = 0x04;
    /// bytes: cumulative total of the lane, for replies.
    pub(crate) const CREDIT: u8 = 0x05;
}

/// Kinds of frames towards the requester.
pub(crate) mod to_requester {
    /// The answer.
    pub(crate) const REPLY: u8 = 0x02;
    /// id: the replier has no room for it, and has handed it to nobody.
    pub(crate) const BUSY: u8 = 0x04;
    /// bytes: cumulative total of the lane, for requests.
    pub(crate) const CREDIT: u8 = 0x05;
    /// id, length of the code, code, message: it was handed out, and failed.
    pub(crate) const FAILED: u8 = 0x06;
    /// (empty): the replier takes no more.
    pub(crate) const CLOSING: u8 = 0x07;
}

/// The code of a request that was answered, and whose answer found no room.
pub(crate) const OVERFLOW: &str = "overflow";

/// The longest frame that is read: an extension, headers, a piece, and the numbers before each.
pub(crate) const MAX_FRAME: usize = MAX_CONTROL_FRAME + MAX_HEADERS + PIECE + 8 * 8;
/// What is counted of each request and reply beside its headers and body: what its books take.
const BOOKS: u64 = 64;

/// What a request or a reply of this size costs in credit.
pub(crate) fn cost(headers: usize, body: usize) -> u64 {
    BOOKS + headers::section_len(headers) as u64 + body as u64
}

/// What stands before a request's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestHead {
    /// Of the socket that asks: the same on every lane and in every attempt.
    pub(crate) id: u64,
    /// How long the answer is waited for from now on, in milliseconds.
    pub(crate) remaining: u64,
    pub(crate) idempotent: bool,
    pub(crate) attempt: u32,
}

/// A frame that begins an exchange or its answer, as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Begun<H> {
    pub(crate) head: H,
    /// Length of the whole body.
    pub(crate) body: usize,
    /// Where the block of headers lies in the payload.
    pub(crate) headers: Range<usize>,
    /// Where the first piece of the body begins; it ends with the payload.
    pub(crate) piece: usize,
}

/// A request, up to its first piece of so many bytes, which follows.
pub(crate) fn put_request(out: &mut BytesMut, head: RequestHead, block: &[u8], body: usize, piece: usize) {
    let mut before = Payload::default();
    before.push(head.id);
    let mut flags = if block.is_empty() { 0 } else { HEADERS };
    flags |= if head.idempotent { IDEMPOTENT } else { 0 };
    flags |= if head.attempt != 1 { ATTEMPT } else { 0 };
    before.0.push(flags);
    before.push(head.remaining);
    if head.attempt != 1 {
        before.push(u64::from(head.attempt));
    }
    put_begun(out, to_replier::REQUEST, before, block, body, piece);
}

/// A reply, up to its first piece of so many bytes, which follows.
pub(crate) fn put_reply(out: &mut BytesMut, id: u64, block: &[u8], body: usize, piece: usize) {
    let mut before = Payload::default();
    before.push(id);
    before.0.push(if block.is_empty() { 0 } else { HEADERS });
    put_begun(out, to_requester::REPLY, before, block, body, piece);
}

fn put_begun(out: &mut BytesMut, kind: u8, mut before: Payload, block: &[u8], body: usize, piece: usize) {
    before.push(body as u64);
    out.put_u8(kind);
    varint::put(out, (before.0.len() + headers::section_len(block.len()) + piece) as u64);
    out.put_slice(&before.0);
    headers::put_section(out, block);
}

/// More of a body: so many bytes, which follow.
pub(crate) fn put_more(out: &mut BytesMut, id: u64, piece: usize) {
    let before = Payload::of(&[id]);
    out.put_u8(MORE);
    varint::put(out, (before.0.len() + piece) as u64);
    out.put_slice(&before.0);
}

/// A request has failed. Of the words as much is said as may be.
pub(crate) fn put_failed(out: &mut BytesMut, id: u64, code: &str, message: &str) {
    let code = &code[..code.floor_char_boundary(MAX_CODE)];
    let message = &message[..message.floor_char_boundary(MAX_REASON)];
    let mut payload = Payload::of(&[id, code.len() as u64]);
    payload.0.extend_from_slice(code.as_bytes());
    payload.0.extend_from_slice(message.as_bytes());
    put_answer(out, to_requester::FAILED, &payload.0);
}

/// A frame of numbers alone.
pub(crate) fn put_numbers(out: &mut BytesMut, kind: u8, numbers: &[u64]) {
    put_answer(out, kind, &Payload::of(numbers).0);
}

/// The frame at the start of `bytes`: kind, where its payload begins and where it ends; `None`: more bytes are needed to
/// say. The payload itself need not be there.
pub(crate) fn find(bytes: &[u8]) -> Result<Option<(u8, Range<usize>)>, Violation> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    let Some((length, len)) = varint::get(&bytes[1..]) else { return Ok(None) };
    if length > MAX_FRAME as u64 {
        return Err(Violation("a frame of a request or a reply is too long"));
    }
    Ok(Some((kind, 1 + len..1 + len + length as usize)))
}

/// Reads a request.
pub(crate) fn read_request(payload: &[u8]) -> Result<Begun<RequestHead>, Violation> {
    let mut reader = Reader { payload, at: 0 };
    let id = reader.number()?;
    let flags = reader.flags(HEADERS | IDEMPOTENT | ATTEMPT | EXTENDED)?;
    let remaining = reader.number()?;
    let attempt = if flags & ATTEMPT != 0 { reader.number()? } else { 1 };
    let attempt = u32::try_from(attempt).map_err(|_| Violation("an attempt is above 2^32"))?;
    reader.begun(RequestHead { id, remaining, idempotent: flags & IDEMPOTENT != 0, attempt }, flags)
}

/// Reads a reply; its head is the id.
pub(crate) fn read_reply(payload: &[u8]) -> Result<Begun<u64>, Violation> {
    let mut reader = Reader { payload, at: 0 };
    let id = reader.number()?;
    let flags = reader.flags(HEADERS | EXTENDED)?;
    reader.begun(id, flags)
}

/// Reads more of a body: whose it is, and where it begins in the payload.
pub(crate) fn read_more(payload: &[u8]) -> Result<(u64, usize), Violation> {
    let mut reader = Reader { payload, at: 0 };
    let id = reader.number()?;
    if reader.at == payload.len() {
        return Err(Violation("a piece of a body without a byte"));
    }
    if payload.len() - reader.at > PIECE {
        return Err(Violation("a piece of a body is too long"));
    }
    Ok((id, reader.at))
}

/// Reads what has failed: id, code and message.
pub(crate) fn read_failed(payload: &[u8]) -> Result<(u64, String, String), Violation> {
    const WORDS: Violation = Violation("a request failed with words that are too long or not UTF-8");
    let mut reader = Reader { payload, at: 0 };
    let id = reader.number()?;
    let code = reader.number()?;
    if code > MAX_CODE as u64 {
        return Err(WORDS);
    }
    let (code, message) = payload[reader.at..].split_at_checked(code as usize).ok_or(SHORT)?;
    if message.len() > MAX_REASON {
        return Err(WORDS);
    }
    let text = |bytes| std::str::from_utf8(bytes).map(harmless).map_err(|_| WORDS);
    Ok((id, text(code)?, text(message)?))
}

/// Reads one number, and nothing else.
pub(crate) fn read_number(payload: &[u8]) -> Result<u64, Violation> {
    Numbers::new(payload).next()
}

/// Text of a peer for a log or a terminal: nothing in it acts there, but for the ends of lines.
fn harmless(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "\u{fffd}")
}

const SHORT: Violation = Violation("a frame of a request or a reply is too short");

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn number(&mut self) -> Result<u64, Violation> {
        let (value, len) = self.payload.get(self.at..).and_then(varint::get).ok_or(SHORT)?;
        self.at += len;
        Ok(value)
    }

    fn flags(&mut self, known: u8) -> Result<u8, Violation> {
        let flags = *self.payload.get(self.at).ok_or(SHORT)?;
        self.at += 1;
        if flags & !known != 0 {
            return Err(Violation("a request or a reply has a flag that this revision does not know"));
        }
        Ok(flags)
    }

    /// What follows the head.
    fn begun<H>(mut self, head: H, flags: u8) -> Result<Begun<H>, Violation> {
        if flags & EXTENDED != 0 {
            let length = self.number()?;
            if length > MAX_CONTROL_FRAME as u64 {
                return Err(Violation("an extended head is too long"));
            }
            self.at += length as usize;
        }
        let body = self.number()?;
        let rest = self.payload.get(self.at..).ok_or(SHORT)?;
        let headers = if flags & HEADERS == 0 {
            self.at..self.at
        } else {
            let block = headers::find(rest)?;
            headers::check(&rest[block.clone()])?;
            self.at + block.start..self.at + block.end
        };
        let piece = self.payload.len() - headers.end;
        if piece > PIECE || piece as u64 > body || (piece == 0 && body > 0) {
            return Err(Violation("a first piece that is not one of its body"));
        }
        let body = usize::try_from(body).map_err(|_| Violation("a body is longer than this node takes"))?;
        let end = headers.end;
        Ok(Begun { head, body, headers, piece: end })
    }
}

#[cfg(test)]
mod tests;
