//! The push socket itself, held by its handles and by its node: what is accepted, when is the flight's turn, who is told?

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::*;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::env::Env;
use crate::error::SendErrorKind;
use crate::id::SocketId;
use crate::message::{MessageId, NewMessage};
use crate::node::{Event, Hall};
use crate::observe::{PullerMetrics, PushMetrics};
use crate::pattern::push::{Accepted, Amount, Effects, Flight, Intake, Outcome, Refused, lock};
use crate::pattern::waiters::Ticket;
use crate::socket::connected::Connected;
use crate::socket::spans::{self, Sending};
use crate::sync::{AtomicBool, Mutex, MutexGuard, Notify, oneshot};
use crate::wire::headers::section_len;
use crate::wire::limits::MAX_HEADERS;

/// On a cache line of its own: the application's thread and the node's write to neighbours all the time.
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

/// The socket itself.
pub(super) struct Core {
    pub(super) channel: String,
    /// Names this life of the socket in the ids of its messages.
    pub(super) epoch: u64,
    pub(super) max_message: usize,
    /// What senders touch. Locked after `flight` where both are needed.
    pub(super) intake: Apart<Mutex<Intake>>,
    /// What the node's thread touches.
    pub(super) flight: Apart<Mutex<Board>>,
    /// Something was accepted while the dispatcher slept.
    pub(super) work: Notify,
    pub(super) pullers: Connected,
    /// That a puller takes less than may come was said.
    pub(super) warned: AtomicBool,
    /// No handle is left.
    pub(super) orphaned: AtomicBool,
    /// The node has let go of it.
    pub(super) gone: AtomicBool,
    pub(super) id: OnceLock<SocketId>,
    pub(super) env: Env,
    pub(super) hall: Arc<Hall>,
}

#[derive(Default)]
pub(super) struct Board {
    pub(super) flight: Flight,
    /// Who waits for which message.
    pub(super) notes: BTreeMap<u64, oneshot::Sender<Outcome>>,
    /// Who waits until nothing below a sequence is unsettled.
    pub(super) flushes: Vec<(u64, oneshot::Sender<()>)>,
}

impl Core {
    /// The dispatcher: what is accepted while lanes have credit, and what has waited for its time, goes out.
    pub(super) async fn run(self: Arc<Self>) {
        let mut timer = self.env.timer();
        while !self.gone.load(Acquire) {
            let (look, due) = self.turn(|flight, now| flight.look(&self.intake.0, now));
            timer.set(look.into_iter().chain(due).min());
            tokio::select! {
                biased;
                () = self.work.notified() => {}
                () = timer.fired() => {}
            }
        }
    }

    /// Changes the flight, dispatches, and does what follows from it once the lock is free. Also says when the next
    /// message's time comes.
    pub(super) fn turn<T>(&self, change: impl FnOnce(&mut Flight, Instant) -> T) -> (T, Option<Instant>) {
        let now = self.env.now();
        let mut board = lock(&self.flight.0);
        let due = board.flight.next_due();
        board.flight.tell_again(spans::wanted());
        let result = change(&mut board.flight, now);
        board.flight.dispatch(&self.intake.0, now);
        let next = board.flight.next_due();
        self.conclude(board);
        if next.is_some() && next != due {
            self.work.notify_one();
        }
        (result, next)
    }

    pub(super) fn conclude(&self, mut board: MutexGuard<'_, Board>) {
        let Effects { freed, wakers, settled, dead, again } = board.flight.take_effects();
        let notes: Vec<_> = settled
            .into_iter()
            .filter_map(|(sequence, outcome)| Some((board.notes.remove(&sequence)?, outcome)))
            .collect();
        let flushed = if freed.messages > 0 { self.flushed(&mut board) } else { Vec::new() };
        drop(board);
        for waker in wakers {
            waker.wake();
        }
        for (note, outcome) in notes {
            // Whoever waited may have left.
            let _ = note.send(outcome);
        }
        for sent in again {
            spans::again(&self.channel, |sequence| self.message_id(sequence), sent);
        }
        for message in dead {
            self.hall.emit(Event::dead(self.channel.clone(), message, self.hall.id(), self.epoch));
        }
        if freed.messages > 0 {
            self.release(freed);
        }
        for flush in flushed {
            let _ = flush.send(());
        }
    }

    fn flushed(&self, board: &mut Board) -> Vec<oneshot::Sender<()>> {
        if board.flushes.is_empty() {
            return Vec::new();
        }
        let lowest = board.flight.lowest_unsettled().unwrap_or(u64::MAX).min(lock(&self.intake.0).first_queued());
        let (over, open) = std::mem::take(&mut board.flushes).into_iter().partition(|(until, _)| *until <= lowest);
        board.flushes = open;
        let over: Vec<(u64, oneshot::Sender<()>)> = over;
        over.into_iter().map(|(_, flush)| flush).collect()
    }

    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, waiting) = oneshot::channel();
        let mut board = lock(&self.flight.0);
        let until = lock(&self.intake.0).next_sequence();
        // Whoever has given up waiting leaves nothing behind.
        board.flushes.retain(|(_, flush)| !flush.is_closed());
        if !self.gone.load(Acquire) {
            board.flushes.push((until, done));
        }
        let over = self.flushed(&mut board);
        drop(board);
        for flush in over {
            let _ = flush.send(());
        }
        waiting
    }

    pub(super) fn release(&self, amount: Amount) {
        let (wakers, empty) = {
            let mut intake = lock(&self.intake.0);
            (intake.release(amount), intake.used().messages == 0 && intake.is_closed())
        };
        for waker in wakers {
            waker.wake();
        }
        if empty {
            self.settled();
        }
    }

    /// Closed, and nothing is owed any more.
    pub(super) fn settled(&self) {
        let wakers = {
            let mut board = lock(&self.flight.0);
            board.flight.wake_all();
            board.flight.take_effects().wakers
        };
        for waker in wakers {
            waker.wake();
        }
        self.hall.drained();
        if self.orphaned.load(Acquire) {
            self.leave();
        }
    }

    /// From now on nothing is accepted. True: nothing is owed either.
    pub(super) fn refuse_more(&self) -> bool {
        let (wakers, empty) = {
            let mut intake = lock(&self.intake.0);
            (intake.close(), intake.used().messages == 0)
        };
        for waker in wakers {
            waker.wake();
        }
        empty
    }

    /// The last handle is gone: what was accepted is still delivered, then the socket ends.
    pub(super) fn orphan(&self) {
        self.orphaned.store(true, Release);
        if self.refuse_more() {
            self.settled();
        }
    }

    fn leave(&self) {
        if !self.gone.swap(true, AcqRel) {
            self.work.notify_one();
            if let Some(id) = self.id.get() {
                self.hall.unregister(*id);
            }
        }
    }

    /// The id of a message that was accepted here.
    pub(super) fn message_id(&self, sequence: u64) -> MessageId {
        MessageId { node: self.hall.id(), epoch: self.epoch, sequence }
    }

    /// Begins the span of a message, where somebody records it. `reserved`: the message may not be larger than that.
    #[inline]
    pub(super) fn begin(&self, message: &mut NewMessage, reserved: Option<usize>) -> Sending {
        if !spans::wanted() {
            return Sending::default();
        }
        let room = reserved.map_or_else(|| lock(&self.intake.0).bound().bytes, |bytes| bytes as u64);
        Sending::begin(&self.channel, &self.env, message, room)
    }

    /// What can be said of a message by itself.
    #[inline]
    pub(super) fn check(&self, message: &NewMessage) -> Result<(), SendErrorKind> {
        check_size(message.body().len(), self.max_message)?;
        Ok(message.check_headers()?)
    }

    /// A message of this size may come: a body with its headers.
    pub(super) fn check_reserve(&self, size: usize) -> Result<(), SendErrorKind> {
        check_size(size, self.max_message + section_len(MAX_HEADERS))
    }

    /// Takes the message if nothing stands against it: its sequence. `None`: [`accept`](Self::accept) says what does.
    #[inline]
    pub(super) fn accept_now(&self, message: &NewMessage) -> Option<u64> {
        if message.body().len() > self.max_message || (message.has_headers() && message.check_headers().is_err()) {
            return None;
        }
        let accepted = lock(&self.intake.0).accept(message).ok()?;
        if accepted.wake {
            self.work.notify_one();
        }
        Some(accepted.sequence)
    }

    /// The sequence of the message.
    pub(super) fn accept(&self, message: &NewMessage) -> Result<u64, SendErrorKind> {
        self.check(message)?;
        let accepted = lock(&self.intake.0).accept(message);
        match accepted {
            Ok(accepted) => {
                if accepted.wake {
                    self.work.notify_one();
                }
                Ok(accepted.sequence)
            }
            Err(refused) => Err(self.refusal(refused, message.size())),
        }
    }

    #[cold]
    pub(super) fn refusal(&self, refused: Refused, len: usize) -> SendErrorKind {
        match refused {
            Refused::Closed => SendErrorKind::Closed,
            Refused::Full => match lock(&self.intake.0).fits(len) {
                Ok(()) => SendErrorKind::Full,
                Err(limit) => SendErrorKind::TooLarge { len, limit: limit as usize },
            },
        }
    }

    #[inline]
    pub(super) fn poll_accept(
        &self,
        message: &NewMessage,
        ticket: &mut Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<u64, SendErrorKind>> {
        loop {
            match self.accept(message) {
                Err(SendErrorKind::Full) => {}
                result => return Poll::Ready(result),
            }
            if self.wait_for_room(message.size(), ticket, cx.waker()) {
                return Poll::Pending;
            }
        }
    }

    /// False: there is room by now.
    #[cold]
    fn wait_for_room(&self, len: usize, ticket: &mut Ticket, waker: &Waker) -> bool {
        let mut intake = lock(&self.intake.0);
        let full = intake.is_full(len);
        if full {
            intake.wait(ticket, waker);
        }
        full
    }

    /// A sender does not wait any more.
    pub(super) fn forget(&self, ticket: &mut Ticket) {
        if ticket.has_waited() {
            lock(&self.intake.0).forget(ticket);
        }
    }

    pub(super) fn poll_accept_tracked(
        &self,
        message: &NewMessage,
        ticket: &mut Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(u64, oneshot::Receiver<Outcome>), SendErrorKind>> {
        loop {
            if let Err(error) = self.check(message) {
                return Poll::Ready(Err(error));
            }
            // Both locks: the message must not be settled before it is known that somebody waits for it.
            let mut board = lock(&self.flight.0);
            let mut intake = lock(&self.intake.0);
            match intake.accept(message) {
                Ok(Accepted { sequence, wake }) => {
                    drop(intake);
                    let (note, waiting) = oneshot::channel();
                    board.flight.track(sequence);
                    board.notes.insert(sequence, note);
                    drop(board);
                    if wake {
                        self.work.notify_one();
                    }
                    return Poll::Ready(Ok((sequence, waiting)));
                }
                Err(refused) => {
                    drop((intake, board));
                    match self.refusal(refused, message.size()) {
                        SendErrorKind::Full if self.wait_for_room(message.size(), ticket, cx.waker()) => {
                            return Poll::Pending;
                        }
                        SendErrorKind::Full => {}
                        error => return Poll::Ready(Err(error)),
                    }
                }
            }
        }
    }

    pub(super) fn figures(&self) -> PushMetrics {
        let board = lock(&self.flight.0);
        let intake = lock(&self.intake.0);
        let (counts, in_flight) = (board.flight.counts, board.flight.in_flight());
        let accepted = intake.next_sequence();
        let over = counts.handled + counts.rejected + counts.exhausted + counts.handed_back;
        debug_assert!(intake.used().messages >= accepted - over, "what has not ended has its room");
        PushMetrics {
            accepted,
            queued: accepted - over - in_flight,
            in_flight,
            handled: counts.handled,
            rejected: counts.rejected,
            exhausted: counts.exhausted,
            handed_back: counts.handed_back,
            bytes: intake.used().bytes,
            bound_messages: intake.bound().messages,
            bound_bytes: intake.bound().bytes,
            oldest: board.flight.oldest(&intake, self.env.now()),
            nacked: counts.nacked,
            returned: counts.unhanded,
            redelivered: counts.redelivered,
            late: counts.late,
            pullers: board
                .flight
                .lanes()
                .map(|lane| PullerMetrics {
                    node: lane.node,
                    in_flight: lane.in_flight,
                    sent: lane.sent,
                    handled: lane.handled,
                    credit: lane.credit,
                })
                .collect(),
        }
    }
}

fn check_size(len: usize, limit: usize) -> Result<(), SendErrorKind> {
    if len > limit { Err(SendErrorKind::TooLarge { len, limit }) } else { Ok(()) }
}
