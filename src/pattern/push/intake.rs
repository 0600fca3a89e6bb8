//! What a sender touches: may it hand over one more message, and where does the message go?
//!
//! A message is encoded into the open segment as it is accepted; the dispatcher takes whole segments.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::BytesMut;

use super::{Amount, LARGE_BODY};
use crate::message::NewMessage;
use crate::pattern::segment::Segment;
use crate::pattern::waiters::{Ticket, Waiters};
use crate::wire::frame::{self, HEADERS, Head, MAX_HEAD};
use crate::wire::headers;

/// Largest allocation of a segment.
const SEGMENT: usize = 256 << 10;
/// The first allocation: a lone message never pins much.
const FIRST_SEGMENT: usize = 256;

/// What a sender touches.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Everything the socket owns: queued, in flight, backing off, and room that is reserved.
    used: Amount,
    bound: Amount,
    next_sequence: u64,
    open: BytesMut,
    open_count: u32,
    open_payload: u64,
    sealed: VecDeque<Segment>,
    sealed_count: u64,
    /// The dispatcher found nothing here: the next accept wakes it.
    pub(super) parked: bool,
    closed: bool,
    waiting: Waiters,
}

/// Responsibility was taken for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the dispatcher may have to be woken"]
pub(crate) struct Accepted {
    pub(crate) sequence: u64,
    /// The dispatcher must be woken.
    pub(crate) wake: bool,
}

/// Why a message was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

impl Intake {
    pub(crate) fn new(bound: Amount) -> Self {
        Self {
            used: Amount::default(),
            bound,
            next_sequence: 0,
            open: BytesMut::new(),
            open_count: 0,
            open_payload: 0,
            sealed: VecDeque::new(),
            sealed_count: 0,
            parked: true,
            closed: false,
            waiting: Waiters::default(),
        }
    }

    /// Counts from here, before anything is accepted.
    #[cfg(test)]
    pub(crate) fn begin_at(&mut self, sequence: u64) {
        self.next_sequence = sequence;
    }

    /// Takes responsibility for a message.
    #[inline]
    pub(crate) fn accept(&mut self, message: &NewMessage) -> Result<Accepted, Refused> {
        let size = message.size();
        self.room(size)?;
        self.used.add(1, if planted!(BoundForgetsHeaders) { message.body().len() } else { size } as u64);
        Ok(self.put(message))
    }

    /// Sets room aside for one message of at most so many bytes.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), Refused> {
        self.room(bytes)?;
        self.used.add(1, bytes as u64);
        Ok(())
    }

    /// Accepts into room that was reserved for `reserved` bytes; also when the socket has closed meanwhile.
    pub(crate) fn accept_reserved(&mut self, message: &NewMessage, reserved: usize) -> Accepted {
        self.used.bytes -= (reserved - message.size()) as u64;
        self.put(message)
    }

    /// Accepts into a place that was reserved for a message of no bytes, once there is room for its bytes. Not when the
    /// socket has closed meanwhile.
    pub(crate) fn accept_into_place(&mut self, message: &NewMessage) -> Result<Accepted, Refused> {
        let size = message.size() as u64;
        if self.closed {
            return Err(Refused::Closed);
        }
        if self.used.bytes + size > self.bound.bytes {
            return Err(Refused::Full);
        }
        self.used.bytes += size;
        Ok(self.put(message))
    }

    /// Gives back what was reserved or is settled; the wakers are those who wait for room.
    pub(crate) fn release(&mut self, amount: Amount) -> impl Iterator<Item = Waker> + use<> {
        self.used.messages -= amount.messages;
        self.used.bytes -= amount.bytes;
        self.waiting.take().filter(|_| !planted!(RoomWakesNobody))
    }

    /// To be woken when there may be room.
    pub(crate) fn wait(&mut self, ticket: &mut Ticket, waker: &Waker) {
        self.waiting.wait(ticket, waker);
    }

    /// It does not wait any more.
    pub(crate) fn forget(&mut self, ticket: &mut Ticket) {
        self.waiting.forget(ticket);
    }

    /// From now on nothing is accepted; whoever waits for room is told so.
    pub(crate) fn close(&mut self) -> impl Iterator<Item = Waker> + use<> {
        self.closed = true;
        self.waiting.take()
    }

    pub(crate) fn used(&self) -> Amount {
        self.used
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(crate) fn bound(&self) -> Amount {
        self.bound
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A message larger than the whole bound will never find room: how much would.
    pub(crate) fn fits(&self, bytes: usize) -> Result<(), u64> {
        if bytes as u64 <= self.bound.bytes { Ok(()) } else { Err(self.bound.bytes) }
    }

    /// Whether one more message of so many bytes has to wait.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        self.room(bytes) == Err(Refused::Full)
    }

    /// The first sequence that the flight has not been handed yet.
    pub(crate) fn first_queued(&self) -> u64 {
        self.next_sequence - self.queued()
    }

    #[inline]
    fn room(&self, bytes: usize) -> Result<(), Refused> {
        if self.closed {
            Err(Refused::Closed)
        } else if self.used.messages < self.bound.messages && self.used.bytes + bytes as u64 <= self.bound.bytes {
            Ok(())
        } else {
            Err(Refused::Full)
        }
    }

    #[inline]
    fn put(&mut self, message: &NewMessage) -> Accepted {
        let body = message.body();
        if body.len() >= LARGE_BODY {
            self.put_large(message);
        } else if message.has_headers() {
            self.put_with_headers(message);
        } else {
            if self.open.capacity() - self.open.len() < body.len() + MAX_HEAD {
                self.grow(body.len());
            }
            frame::put_plain_head(&mut self.open, body.len());
            self.open.extend_from_slice(body);
            self.open_count += 1;
            self.open_payload += body.len() as u64;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        Accepted { sequence, wake: std::mem::take(&mut self.parked) && !planted!(DispatcherSleeps) }
    }

    #[cold]
    fn put_with_headers(&mut self, message: &NewMessage) {
        let size = message.size();
        if self.open.capacity() - self.open.len() < size + MAX_HEAD {
            self.grow(size);
        }
        put_head(&mut self.open, message);
        self.open.extend_from_slice(message.body());
        self.open_count += 1;
        self.open_payload += size as u64;
    }

    #[cold]
    fn put_large(&mut self, message: &NewMessage) {
        self.seal();
        let (size, body) = (message.size(), message.body());
        let mut head = BytesMut::with_capacity(8 + size - body.len());
        put_head(&mut head, message);
        self.sealed.push_back(Segment {
            bytes: head.freeze(),
            count: 1,
            payload: size as u64,
            first: self.next_sequence,
            body: Some(body.clone()),
        });
        self.sealed_count += 1;
    }

    #[cold]
    fn grow(&mut self, size: usize) {
        let (had, need) = (self.open.len(), size + MAX_HEAD);
        // It grows to twice what it was, or to what is needed.
        if self.open_count > 0 && (had + need).max(2 * self.open.capacity()) <= SEGMENT {
            return self.open.reserve(had.max(need));
        }
        self.seal();
        self.open = BytesMut::with_capacity(if had == 0 { FIRST_SEGMENT } else { SEGMENT }.max(need));
    }

    fn seal(&mut self) {
        if self.open_count == 0 {
            return;
        }
        let count = std::mem::take(&mut self.open_count);
        self.sealed.push_back(Segment {
            bytes: std::mem::take(&mut self.open).freeze(),
            body: None,
            count,
            payload: std::mem::take(&mut self.open_payload),
            first: self.next_sequence - u64::from(count),
        });
        self.sealed_count += u64::from(count);
    }

    pub(super) fn queued(&self) -> u64 {
        self.sealed_count + u64::from(self.open_count)
    }

    /// Hands over everything accepted so far; the next segment is made as large as this one was.
    pub(super) fn take(&mut self, to: &mut VecDeque<Segment>, spares: &mut Vec<BytesMut>) -> u64 {
        let had = self.open.len();
        self.seal();
        if had > 0 {
            let want = (had + had / 4).next_power_of_two().clamp(FIRST_SEGMENT, SEGMENT);
            let fits = |spare: &BytesMut| (want..=want * 4).contains(&spare.capacity());
            self.open = match spares.iter().position(fits) {
                Some(index) => spares.swap_remove(index),
                None => BytesMut::with_capacity(want),
            };
        }
        to.extend(self.sealed.drain(..));
        std::mem::take(&mut self.sealed_count)
    }
}

/// All that stands before the body of a message.
fn put_head(out: &mut BytesMut, message: &NewMessage) {
    let block = message.block();
    frame::put_head(out, if block.is_empty() { 0 } else { HEADERS }, message.size(), Head::PLAIN);
    headers::put_section(out, block);
}
