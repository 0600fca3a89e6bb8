//! The bytes of a lane, both directions side by side.
//!
//! ```text
//! data     length (varint, ≥ 1) │ flags │ [delta] [attempt] [failures] [extension] │ [headers] body   towards the receiver
//! published length (varint, ≥ 1) │ flags │ [extension] length of the topic (1) │ [headers] topic body   towards the receiver
//! control  0 │ kind │ length (varint) │ payload                                                   towards the receiver
//! answer   kind │ length (varint) │ payload                                                       towards the sender
//! ```
//! A length counts what follows it. What differs by dispatch stands right after the flags; what a message carries wherever
//! it goes, its headers, its topic and its body, stands last. Kinds from 0x40 that are not known are skipped.

use bytes::{Buf, BufMut, BytesMut};

use super::Violation;
use super::control::{self, OpenLane};
use super::limits::{MAX_CONTROL_FRAME, MAX_HEADERS, MAX_REASON, MAX_TOPIC};
use super::{headers, subscription, varint};

/// The sequence is not the one after the last frame's: a zigzag difference follows.
pub(crate) const DELTA: u8 = 1;
/// Not the first dispatch: its number follows.
pub(crate) const ATTEMPT: u8 = 1 << 1;
/// An application may have been handed this message before.
pub(crate) const REDELIVERED: u8 = 1 << 2;
/// The message has failed before: how often follows.
pub(crate) const FAILURES: u8 = 1 << 3;
/// Headers stand before the body.
pub(crate) const HEADERS: u8 = 1 << 4;
/// A published message: the length of its topic follows, one byte, and the topic stands before the body.
pub(crate) const TOPIC: u8 = 1 << 5;
/// A MessagePack map follows behind its length; this revision knows no key of it.
pub(crate) const EXTENDED: u8 = 1 << 7;
const KNOWN: u8 = DELTA | ATTEMPT | REDELIVERED | FAILURES | HEADERS | TOPIC | EXTENDED;

/// The longest head that we write: length 4 (bodies stay below 2^30), flags 1, delta 8, attempt 4, failures 4.
pub(crate) const MAX_HEAD: usize = 21;
/// The longest head that we read: each varint at its longest, an extension, headers and a topic.
pub(crate) const MAX_READ_HEAD: usize = 1 + 8 * 5 + MAX_CONTROL_FRAME + MAX_HEADERS + 1 + MAX_TOPIC;

/// Kinds of frames towards the receiver.
pub(crate) mod to_receiver {
    /// `OpenLane` as a MessagePack map: the first frame of every lane.
    pub(crate) const OPEN: u8 = 0x01;
    /// messages, bytes: how much waits at the sender for credit; told when it becomes or ceases to be nothing.
    pub(crate) const WAITING: u8 = 0x02;
    /// total: the lane's credit in messages is handed back beyond this position.
    pub(crate) const WAIVE: u8 = 0x03;
    /// total: the sender knows that the messages before this position are handed out.
    pub(crate) const HEARD: u8 = 0x04;
    /// version, stream: the subscriptions of this version are in force for everything that follows. Where it is the stream
    /// that the subscriber has asked to go on with, it does; else positions begin at 0.
    pub(crate) const SUBSCRIBED: u8 = 0x10;
    /// count: so many messages that the subscriber would have had in this place were dropped.
    pub(crate) const GAP: u8 = 0x11;
    /// count: the publisher gives this subscriber up, as it is too slow; so many messages are dropped, and none follows.
    pub(crate) const GIVEN_UP: u8 = 0x12;
}

/// Kinds of frames towards the sender.
pub(crate) mod to_sender {
    /// messages, bytes: cumulative totals of the lane.
    pub(crate) const CREDIT: u8 = 0x01;
    /// position: everything before it that was not answered otherwise is acknowledged.
    pub(crate) const ACK_UP_TO: u8 = 0x02;
    /// (start, count)*: acknowledged.
    pub(crate) const ACK: u8 = 0x03;
    /// delay + 1 in milliseconds or 0, (start, count)*: failed; 0 leaves the delay to the sender.
    pub(crate) const NACK: u8 = 0x04;
    /// position, reason in UTF-8: never to be delivered again.
    pub(crate) const REJECT: u8 = 0x05;
    /// (start, count)*: given back without having been handed out.
    pub(crate) const RETURN: u8 = 0x06;
    /// total: the messages before this position are handed out, or will be as soon as the sender has heard it.
    pub(crate) const TAKEN: u8 = 0x07;
    /// (empty): no credit follows; what comes from now on is returned.
    pub(crate) const CLOSING: u8 = 0x09;
    /// sequence, attempt, kind of answer, its delay or reason: for a delivery that came over an earlier lane.
    pub(crate) const LATE: u8 = 0x08;
    /// What a subscriber wants: see [`subscription`](crate::wire::subscription).
    pub(crate) const SUBSCRIBE: u8 = 0x10;
    /// position: so many messages have arrived, those included that it was told are missing.
    pub(crate) const RECEIVED: u8 = 0x11;
}

/// What differs by dispatch and is not usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Difference of the sequence to the one that was due.
    pub(crate) delta: i64,
    pub(crate) attempt: u32,
    pub(crate) failures: u32,
    pub(crate) redelivered: bool,
}

impl Head {
    /// A first dispatch, in order.
    pub(crate) const PLAIN: Self = Self { delta: 0, attempt: 1, failures: 0, redelivered: false };
}

/// The head of a plain data frame.
#[inline]
pub(crate) fn put_plain_head(out: &mut BytesMut, body: usize) {
    let length = body + 1;
    if length < 1 << 6 {
        out.put_slice(&[length as u8, 0]);
    } else if length < 1 << 14 {
        out.put_slice(&[(length >> 8) as u8 | 0x40, length as u8, 0]);
    } else {
        out.put_u32(length as u32 | 0x8000_0000);
        out.put_u8(0);
    }
}

/// The head of any data frame. `carried` are the flags of the `length` bytes that follow it.
pub(crate) fn put_head(out: &mut BytesMut, carried: u8, length: usize, head: Head) {
    let mut announced = [0; 24];
    let mut rest = &mut announced[..];
    let mut flags = carried;
    if head.delta != 0 {
        flags |= DELTA;
        varint::put(&mut rest, varint::zigzag(head.delta));
    }
    if head.attempt != 1 {
        flags |= ATTEMPT;
        varint::put(&mut rest, u64::from(head.attempt));
    }
    if head.failures != 0 {
        flags |= FAILURES;
        varint::put(&mut rest, u64::from(head.failures));
    }
    if head.redelivered {
        flags |= REDELIVERED;
    }
    let left = rest.len();
    let used = announced.len() - left;
    varint::put(out, (1 + used + length) as u64);
    out.put_u8(flags);
    out.put_slice(&announced[..used]);
}

/// All that stands before the body of a published message; `headers` is their block. Returned: what bounds and credit
/// count of the message.
pub(crate) fn put_published_head(out: &mut BytesMut, topic: &str, headers: &[u8], body: usize) -> usize {
    let size = 1 + headers::section_len(headers.len()) + topic.len() + body;
    varint::put(out, 1 + size as u64);
    out.put_u8(if headers.is_empty() { TOPIC } else { TOPIC | HEADERS });
    out.put_u8(topic.len() as u8);
    headers::put_section(out, headers);
    out.put_slice(topic.as_bytes());
    size
}

/// What stands before the body of a data frame that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) head: Head,
    /// Length of the block of headers that ends where the topic begins, or the body where there is none.
    pub(crate) headers: usize,
    /// Length of the topic that ends where the body begins.
    pub(crate) topic: usize,
    /// Where the body begins.
    pub(crate) body: usize,
}

/// Reads what the flags announce from the content of a data frame, flags first.
pub(crate) fn read_head(content: &[u8]) -> Result<Read, Violation> {
    const SHORT: Violation = Violation("a data frame ends inside its head");
    let flags = *content.first().ok_or(SHORT)?;
    if flags & !KNOWN != 0 {
        return Err(Violation("a data frame has a flag that this revision does not know"));
    }
    let mut at = 1;
    let mut number = || -> Result<u64, Violation> {
        let (value, len) = varint::get(content.get(at..).ok_or(SHORT)?).ok_or(SHORT)?;
        at += len;
        Ok(value)
    };
    let mut head = Head { redelivered: flags & REDELIVERED != 0, ..Head::PLAIN };
    if flags & DELTA != 0 {
        head.delta = varint::unzigzag(number()?);
    }
    if flags & ATTEMPT != 0 {
        head.attempt = u32::try_from(number()?).map_err(|_| Violation("an attempt is above 2^32"))?;
    }
    if flags & FAILURES != 0 {
        head.failures = u32::try_from(number()?).map_err(|_| Violation("a count of failures is above 2^32"))?;
    }
    if flags & EXTENDED != 0 {
        let length = number()? as usize;
        if length > MAX_CONTROL_FRAME {
            return Err(Violation("an extended head is too long"));
        }
        at += length;
    }
    let mut topic = 0;
    if flags & TOPIC != 0 {
        topic = usize::from(*content.get(at).ok_or(SHORT)?);
        at += 1;
    }
    let rest = content.get(at..).ok_or(SHORT)?;
    let mut block = 0..0;
    if flags & HEADERS != 0 {
        block = headers::find(rest)?;
        headers::check(&rest[block.clone()])?;
    }
    if flags & TOPIC != 0 {
        subscription::read_topic(rest.get(block.end..block.end + topic).ok_or(SHORT)?)?;
    }
    Ok(Read { head, headers: block.len(), topic, body: at + block.end + topic })
}

/// Of a frame that we wrote ourselves and that differs in nothing by dispatch: the length of its head, and of what it
/// carries.
#[inline]
pub(crate) fn own_frame(bytes: &[u8]) -> (usize, usize) {
    let (length, len) = varint::get(bytes).expect("a segment holds whole frames");
    (len + 1, length as usize - 1)
}

/// The flags of what such a frame carries.
#[inline]
pub(crate) fn own_flags(bytes: &[u8], head: usize) -> u8 {
    bytes[head - 1]
}

/// A control frame towards the receiver.
pub(crate) fn put_control(out: &mut BytesMut, kind: u8, payload: &[u8]) {
    out.put_u8(0);
    put_answer(out, kind, payload);
}

/// A frame towards the sender.
pub(crate) fn put_answer(out: &mut BytesMut, kind: u8, payload: &[u8]) {
    out.put_u8(kind);
    varint::put(out, payload.len() as u64);
    out.put_slice(payload);
}

/// The frame that opens a lane.
pub(crate) fn put_open(out: &mut BytesMut, open: &OpenLane) {
    put_control(out, to_receiver::OPEN, &control::encode_open(open));
}

/// Takes the opening frame from the start of what a lane has brought; `None`: more bytes are needed.
pub(crate) fn split_open(buffer: &mut BytesMut) -> Result<Option<OpenLane>, Violation> {
    if buffer.first().is_some_and(|byte| *byte != 0) || buffer.get(1).is_some_and(|kind| *kind != to_receiver::OPEN) {
        return Err(Violation("a lane does not begin with its opening frame"));
    }
    let Some(answer) = buffer.get(1..) else { return Ok(None) };
    match whole_answer(answer)? {
        None => Ok(None),
        Some((_, payload, used)) => {
            let open = control::decode_open(payload)?;
            buffer.advance(1 + used);
            Ok(Some(open))
        }
    }
}

/// The frame at the start of `bytes`: kind, payload, and how many bytes it takes; `None`: more are needed.
#[allow(clippy::type_complexity, reason = "named once, in the line above")]
pub(crate) fn whole_answer(bytes: &[u8]) -> Result<Option<(u8, &[u8], usize)>, Violation> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    let Some((length, len)) = varint::get(&bytes[1..]) else { return Ok(None) };
    if length > MAX_CONTROL_FRAME as u64 {
        return Err(Violation("a lane's control frame is too long"));
    }
    let (start, end) = (1 + len, 1 + len + length as usize);
    Ok(bytes.get(start..end).map(|payload| (kind, payload, end)))
}

/// Calls `each(kind, payload)` for every whole frame at the start of the buffer; what is left of the last one stays.
pub(crate) fn answers(
    buffer: &mut BytesMut,
    mut each: impl FnMut(u8, &[u8]) -> Result<(), Violation>,
) -> Result<(), Violation> {
    while let Some((kind, payload, used)) = whole_answer(buffer)? {
        each(kind, payload)?;
        buffer.advance(used);
    }
    Ok(())
}

/// Reads varints from a payload, one after the other.
pub(crate) struct Numbers<'a> {
    rest: &'a [u8],
    /// Where the last range ended.
    end: u64,
}

impl<'a> Numbers<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, end: 0 }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Result<u64, Violation> {
        let (value, len) = varint::get(self.rest).ok_or(Violation("a lane's control frame is too short"))?;
        self.rest = &self.rest[len..];
        Ok(value)
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next two, as a range of positions; `None` at the end. Ranges ascend, so that no frame makes anybody look at a
    /// position twice.
    pub(crate) fn range(&mut self) -> Result<Option<std::ops::Range<u64>>, Violation> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (start, count) = (self.next()?, self.next()?);
        if start < self.end {
            return Err(Violation("the ranges of an answer do not ascend"));
        }
        // Both are below 2^62: the sum cannot overflow.
        self.end = start + count;
        Ok(Some(start..self.end))
    }

    /// What is left, as the reason that a person gave.
    pub(crate) fn reason(self) -> Result<&'a str, Violation> {
        if self.rest.len() > MAX_REASON {
            return Err(Violation("a reason is too long"));
        }
        std::str::from_utf8(self.rest).map_err(|_| Violation("a reason is not UTF-8"))
    }
}

/// Collects varints for a payload.
#[derive(Debug, Default)]
pub(crate) struct Payload(pub(crate) Vec<u8>);

impl Payload {
    pub(crate) fn of(numbers: &[u64]) -> Self {
        let mut payload = Self::default();
        for number in numbers {
            payload.push(*number);
        }
        payload
    }

    pub(crate) fn push(&mut self, number: u64) {
        varint::put(&mut self.0, number);
    }

    /// What a control frame may hold is used up: the next range belongs into another one.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() > MAX_CONTROL_FRAME - 32
    }
}

#[cfg(test)]
mod tests;
