//! What is seen of one lane on the wire, at the pusher's end: told to the checkers.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use netsim::check::{Credit, Ledger, Name, Order, Violation};

use super::Time;
use super::world::{Checked, Id};
use crate::wire::frame::{self, Numbers, to_receiver, to_sender};
use crate::wire::headers::section_len;
use crate::wire::varint;

/// A message is at most so long here, with its headers.
pub(super) const MOST: u64 = 200 << 10;

#[derive(Debug)]
pub(super) struct Tap {
    credit: Credit,
    order: Order,
    next_sequence: u64,
    /// By position.
    sent: Vec<(u64, u32)>,
    taken: u64,
    unread: BytesMut,
    written: u64,
    arrived: u64,
    /// Where frames end that have not arrived in full.
    ends: VecDeque<u64>,
    begun: u64,
}

impl Tap {
    pub(super) fn new(lane: String, base: u64) -> Self {
        Self {
            credit: Credit::new(lane.clone(), MOST),
            order: Order::new(lane),
            next_sequence: base,
            sent: Vec::new(),
            taken: 0,
            unread: BytesMut::new(),
            written: 0,
            arrived: 0,
            ends: VecDeque::new(),
            begun: 0,
        }
    }

    /// The pusher's writer has written this. Each message of it: its sequence and attempt.
    pub(super) fn written(&mut self, chunks: &[Bytes]) -> Checked<Vec<(u64, u32)>> {
        chunks.iter().for_each(|chunk| self.unread.extend_from_slice(chunk));
        let mut messages = Vec::new();
        while !self.unread.is_empty() {
            let used = self.frame(&mut messages)?;
            self.unread.advance(used);
            self.written += used as u64;
            self.ends.push_back(self.written);
        }
        Ok(messages)
    }

    /// One frame, which is there in full: how long it is.
    fn frame(&mut self, messages: &mut Vec<(u64, u32)>) -> Checked<usize> {
        let bytes = &self.unread[..];
        let part = || Violation::new("a writer writes whole frames", format!("{} bytes are left", bytes.len()));
        if bytes[0] == 0 {
            let (kind, payload, used) = frame::whole_answer(&bytes[1..]).ok().flatten().ok_or_else(part)?;
            if kind == to_receiver::WAIVE {
                let total = Numbers::new(payload).next().map_err(|_| part())?;
                netsim::sometimes!("granted slot whose pusher has nothing left");
                self.credit.waived(total)?;
            }
            return Ok(1 + used);
        }
        let (length, len) = varint::get(bytes).ok_or_else(part)?;
        let content = bytes.get(len..len + length as usize).ok_or_else(part)?;
        let read = frame::read_head(content).map_err(|_| part())?;
        let size = section_len(read.headers) + content.len() - read.body;
        let sequence = self.next_sequence.wrapping_add(read.head.delta as u64);
        self.next_sequence = sequence + 1;
        self.credit.sent(size as u64)?;
        if read.head.attempt == 1 {
            self.order.first_time(sequence)?;
        }
        self.sent.push((sequence, read.head.attempt));
        messages.push((sequence, read.head.attempt));
        Ok(len + length as usize)
    }

    /// The pusher hears an answer.
    pub(super) fn answer(
        &mut self,
        now: Duration,
        kind: u8,
        payload: &[u8],
        to: &Name,
        ledger: &Ledger<Id>,
        id: impl Fn(u64) -> Id,
    ) -> Checked {
        let mut numbers = Numbers::new(payload);
        let short = |_| Violation::new(super::talk::HONEST, "an answer is cut short".to_owned());
        match kind {
            to_sender::CREDIT => {
                let (messages, bytes) = (numbers.next().map_err(short)?, numbers.next().map_err(short)?);
                self.credit.given(messages, bytes)?;
            }
            to_sender::ACK_UP_TO => {
                self.credit.answered_up_to(numbers.next().map_err(short)?)?;
            }
            to_sender::TAKEN => {
                let total = numbers.next().map_err(short)?;
                for (sequence, attempt) in self.sent.iter().take(total as usize).skip(self.taken as usize) {
                    ledger.announced(now, id(*sequence), to.clone(), *attempt);
                }
                self.taken = self.taken.max(total);
            }
            to_sender::REJECT => self.credit.answered(numbers.next().map_err(short)?)?,
            to_sender::ACK | to_sender::NACK | to_sender::RETURN => {
                let delay = match kind {
                    to_sender::NACK => numbers.next().map_err(short)?.checked_sub(1),
                    _ => None,
                };
                while let Some(range) = numbers.range().map_err(short)? {
                    for position in range {
                        self.credit.answered(position)?;
                        let (sequence, _) = self.sent[position as usize];
                        if let Some(delay) = delay.filter(|delay| *delay > 0)
                            && ledger.end(&id(sequence)).is_none()
                        {
                            ledger.delayed(now, id(sequence), now + Duration::from_millis(delay));
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// So many bytes have arrived at the puller.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.arrived += bytes as u64;
        while let Some(end) = self.ends.front().filter(|end| **end <= self.arrived) {
            self.begun = *end;
            self.ends.pop_front();
        }
    }

    /// A frame has arrived in part.
    pub(super) fn is_half_written(&self) -> bool {
        self.arrived > self.begun && !self.ends.is_empty()
    }

    /// Whether the puller has told that it hands out the message at this position.
    pub(super) fn has_announced(&self, sequence: u64, attempt: u32) -> bool {
        self.sent.iter().position(|sent| *sent == (sequence, attempt)).is_some_and(|at| (at as u64) < self.taken)
    }

    pub(super) fn unspent(&self) -> u64 {
        self.credit.unspent()
    }

    pub(super) fn unanswered(&self) -> u64 {
        self.credit.unanswered()
    }
}

/// Holds an automatic window against the speed of its worker: "a window shrinks while its worker is slow".
#[derive(Debug, Default)]
pub(super) struct WindowWatch {
    answered: u64,
    at: Time,
    slow: u32,
    before: u64,
}

impl WindowWatch {
    /// What the puller has given and answered by now, in total.
    pub(super) fn look(&mut self, now: Time, credit: u64, answered: u64, lane: usize) -> Checked {
        if answered == self.answered {
            return Ok(());
        }
        let unspent = credit - answered;
        let slow = now - self.at > 105 * super::MS && answered == self.answered + 1;
        (self.slow, self.before) = if slow { (self.slow + 1, self.before) } else { (0, unspent) };
        (self.answered, self.at) = (answered, now);
        if self.slow >= 5 && self.before > 1 && unspent >= self.before {
            let what = format!("lane {lane}: {unspent} after {} slow answers, {} before", self.slow, self.before);
            return Err(Violation::new("a window shrinks while its worker is slow", what));
        }
        Ok(())
    }
}
