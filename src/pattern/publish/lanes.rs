//! One lane to a subscriber: what does its carrier write next, and what does the subscriber say of what has come?

use std::task::Waker;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::stream::{Sent, Stream};
use super::subscriptions::Partial;
use super::{Dropped, Publisher};
use crate::id::NodeId;
use crate::pattern::lane::LanePeer;
use crate::pattern::push::{Amount, LaneKey};
use crate::pattern::topics::Place;
use crate::wire::Violation;
use crate::wire::control::OpenLane;
use crate::wire::frame::{self, Numbers, Payload, to_receiver, to_sender};
use crate::wire::limits::MAX_WINDOW;

/// How much of a lane may lie between the choice of its messages and QUIC: what lies there can not be dropped any more.
const OUTGOING: usize = 256 << 10;
/// Chunks below this are gathered into one.
const SMALL_CHUNK: usize = 2048;

/// One lane, as the publisher sees it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) peer: LanePeer,
    /// Whose it is, once that was told.
    pub(super) place: Option<Place>,
    /// The last subscriptions that came, and are in force.
    pub(super) version: u64,
    /// Those that the subscriber knows to be. A level: one that floods changes is answered once.
    told: u64,
    /// Subscriptions that have not come in full.
    pub(super) partial: Option<Partial>,
    /// Cumulative totals that the subscriber gave.
    credit: Amount,
    sent: Amount,
    /// The subscriber takes no more, or has come again over another lane.
    pub(super) over: bool,
    /// The subscriber is too slow: its stream is no more, so many messages are dropped, and it is told.
    pub(super) given_up: Option<(u64, u64)>,
    small: BytesMut,
    /// The writer sleeps.
    pub(super) writer: Option<Waker>,
}

/// What a lane's carrier does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Write what was taken.
    Write,
    /// Write it, and end the lane.
    Finish,
    /// Wait to be woken.
    Wait,
}

/// All that is told of a subscriber.
#[derive(Debug)]
pub(crate) struct SubscriberFigures {
    pub(crate) node: NodeId,
    pub(crate) connected: bool,
    pub(crate) patterns: u64,
    /// Always the sum of the next four.
    pub(crate) matched: u64,
    pub(crate) queued: Amount,
    pub(crate) in_flight: u64,
    pub(crate) received: u64,
    pub(crate) dropped: Dropped,
    pub(crate) credit: u64,
}

impl Lane {
    /// There is something to write.
    pub(super) fn has_something(&self, stream: &Stream) -> bool {
        self.told < self.version
            || stream.missing_at_end() > 0
            || stream.waits() && self.room(stream).is_some_and(|room| room.messages > 0)
    }

    /// How much it may be sent now. One message more than the bytes is fine.
    fn room(&self, stream: &Stream) -> Option<Amount> {
        // However much credit it gives: what is in flight has to be kept in mind, if only as a ghost.
        let messages = (self.credit.messages - self.sent.messages).min(MAX_WINDOW.saturating_sub(stream.in_flight));
        let bytes = self.credit.bytes.saturating_sub(self.sent.bytes);
        (messages > 0 && bytes > 0).then_some(Amount { messages, bytes })
    }
}

impl Publisher {
    /// A lane to a subscriber; its first frame is the one that opens it.
    pub(crate) fn open_lane(&mut self, peer: LanePeer, open: &OpenLane) -> LaneKey {
        let mut small = BytesMut::new();
        frame::put_open(&mut small, open);
        let key = self.next_lane;
        self.next_lane += 1;
        self.lanes.insert(
            key,
            Lane {
                peer,
                place: None,
                version: 0,
                told: 0,
                partial: None,
                credit: Amount::default(),
                sent: Amount::default(),
                over: false,
                given_up: None,
                small,
                writer: None,
            },
        );
        key
    }

    /// What this lane's writer takes now. Nothing: its waker is kept.
    pub(crate) fn take_outgoing(&mut self, key: LaneKey, waker: &Waker, out: &mut Vec<Bytes>) -> Next {
        let Some(place) = self.lanes.get(&key).map(|lane| lane.place) else { return Next::Finish };
        if place.and_then(|place| self.stream(place)).is_some_and(Stream::is_open) {
            self.seal();
        }
        let Some(lane) = self.lanes.get_mut(&key) else { return Next::Finish };
        let stream = place.and_then(|place| self.streams[place as usize].as_deref_mut());
        let waited = stream.as_ref().map_or(0, |stream| stream.queued.messages);
        let mut took = None;
        if let Some(stream) = stream {
            if !planted!(DataBeforeConfirmation) {
                lane.confirm(stream.id);
            }
            lane.take_messages(stream, out);
            lane.confirm(stream.id);
            took = Some((stream.queued.messages, stream.received == stream.next));
        }
        if let Some((stream, count)) = lane.given_up.take() {
            // It may be given up for the first messages that it has coming.
            lane.confirm(stream);
            frame::put_control(&mut lane.small, to_receiver::GIVEN_UP, &Payload::of(&[count]).0);
        }
        lane.flush(out);
        let over = lane.over || self.closed && took.is_none_or(|(_, settled)| settled);
        if out.is_empty() {
            lane.writer = Some(waker.clone());
        }
        if took.is_some_and(|(waits, _)| waits < waited) {
            self.room_came();
        }
        match over {
            true => Next::Finish,
            false if out.is_empty() => Next::Wait,
            false => Next::Write,
        }
    }

    /// What a subscriber says.
    ///
    /// # Errors
    /// It is not what a subscriber may say.
    pub(crate) fn handle_answer(&mut self, key: LaneKey, kind: u8, payload: &[u8]) -> Result<(), Violation> {
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| !lane.over) else { return Ok(()) };
        let mut numbers = Numbers::new(payload);
        match kind {
            to_sender::CREDIT => {
                let credit = Amount { messages: numbers.next()?, bytes: numbers.next()? };
                if credit.messages < lane.credit.messages || credit.bytes < lane.credit.bytes {
                    return Err(Violation("credit was taken back"));
                }
                lane.credit = credit;
                if let Some(place) = lane.place {
                    self.wake(place);
                }
            }
            to_sender::RECEIVED => {
                let place = lane.place.ok_or(Violation("something was received before it was subscribed to"))?;
                if let Some(stream) = &mut self.streams[place as usize] {
                    stream.received(numbers.next()?)?;
                }
                self.effects.settled = true;
                // What is in flight is limited, whatever the credit; and the end of a lane waits for this.
                self.wake_writer(key, place);
            }
            to_sender::SUBSCRIBE => self.subscribe(key, payload)?,
            to_sender::CLOSING => {
                lane.over = true;
                self.effects.wakers.extend(lane.writer.take());
                if let Some(place) = lane.place {
                    self.remove(place);
                }
            }
            0x40.. => {}
            _ => return Err(Violation("an answer is of a kind that this revision does not know")),
        }
        Ok(())
    }

    fn wake_writer(&mut self, key: LaneKey, place: Place) {
        self.wake(place);
        if self.closed
            && let Some(lane) = self.lanes.get_mut(&key)
        {
            self.effects.wakers.extend(lane.writer.take());
        }
    }

    /// The lane is over. Whoever it led to may come again.
    pub(crate) fn close_lane(&mut self, key: LaneKey, now: Instant) {
        let Some(lane) = self.lanes.remove(&key) else { return };
        let Some(place) = lane.place else { return };
        if self.closed { self.remove(place) } else { self.keep(place, now) }
    }

    /// Something was sent over this lane, and the subscriber has not said that it has come.
    pub(crate) fn owes(&self, key: LaneKey) -> bool {
        let place = self.lanes.get(&key).and_then(|lane| lane.place);
        place.and_then(|place| self.stream(place)).is_some_and(|stream| stream.in_flight > 0)
    }

    /// How many subscribers are connected, their subscriptions in force.
    pub(crate) fn subscribers(&self) -> usize {
        self.connected().count()
    }

    pub(super) fn subscriber_figures(&self, stream: &Stream) -> SubscriberFigures {
        let lane = stream.lane.and_then(|lane| self.lanes.get(&lane));
        SubscriberFigures {
            node: stream.who.node,
            connected: lane.is_some(),
            patterns: stream.patterns.len() as u64,
            matched: stream.next,
            queued: stream.queued,
            in_flight: stream.in_flight,
            received: stream.arrived,
            dropped: stream.dropped,
            credit: lane.and_then(|lane| lane.room(stream)).map_or(0, |room| room.messages),
        }
    }
}

impl Lane {
    /// Ahead of all that waits: what a subscription lets through comes behind it in any case.
    fn confirm(&mut self, stream: u64) {
        if self.told < self.version {
            self.told = self.version;
            let confirmed = Payload::of(&[self.version, stream]);
            frame::put_control(&mut self.small, to_receiver::SUBSCRIBED, &confirmed.0);
        }
    }

    fn take_messages(&mut self, stream: &mut Stream, out: &mut Vec<Bytes>) {
        let mut taken = 0;
        while taken < OUTGOING
            && stream.waits()
            && let Some(Amount { messages, bytes }) = self.room(stream)
        {
            let Some((missing, Sent { bytes, body, count, payload })) = stream.take(messages, bytes) else { break };
            self.tell_missing(missing);
            self.sent.add(count, payload);
            taken += payload as usize;
            self.put(bytes, out);
            body.into_iter().for_each(|body| self.put(body, out));
        }
        self.tell_missing(stream.missing_at_end());
        if stream.missing_at_end() > 0 {
            stream.told_end();
        }
    }

    fn tell_missing(&mut self, count: u64) {
        let count = count - u64::from(planted!(GapMiscounted) && count > 1);
        if count > 0 {
            frame::put_control(&mut self.small, to_receiver::GAP, &Payload::of(&[count]).0);
        }
    }

    fn put(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) {
        if bytes.len() <= SMALL_CHUNK {
            self.small.extend_from_slice(&bytes);
        } else {
            self.flush(out);
            out.push(bytes);
        }
    }

    fn flush(&mut self, out: &mut Vec<Bytes>) {
        if !self.small.is_empty() {
            out.push(self.small.split().freeze());
        }
    }
}
