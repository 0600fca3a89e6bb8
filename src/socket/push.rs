//! PUSH: work for whoever has room for it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, oneshot, watch};

use crate::env::Env;
use crate::error::{Closed, HandleError, OpenError, SendError, SendErrorKind, check_channel};
use crate::id::SocketId;
use crate::node::{Event, Hall, Registered, SocketSpec};
use crate::observe::{PullerMetrics, PushMetrics, SocketFigures, SocketMetrics};
use crate::pattern::lane::{LaneEnd, LanePeer, Outgoing, SocketEnd, Violation};
use crate::pattern::push::{Amount, Effects, Flight, Intake, LaneKey, Outcome, Refused, lock};
use crate::wire::control::{Level, OpenLane, SocketKind};
use crate::wire::frame;
use crate::wire::limits::{PUSH_BYTES, PUSH_MESSAGES};

/// Options of a push socket; await it to open the socket.
///
/// | option | default |
/// |---|---|
/// | [`bound`](Self::bound) | 100,000 messages, 64 MiB |
/// | [`max_failures`](Self::max_failures) | none |
#[derive(Debug)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct PushBuilder {
    hall: Arc<Hall>,
    channel: String,
    bound: Amount,
    max_failures: Option<u32>,
}

impl PushBuilder {
    pub(crate) fn new(hall: Arc<Hall>, channel: String) -> Self {
        let bound = Amount { messages: PUSH_MESSAGES as u64, bytes: PUSH_BYTES as u64 };
        Self { hall, channel, bound, max_failures: None }
    }

    /// The most that the socket owns at a time: queued, in flight and backing off, in messages and in bytes of bodies.
    /// Beyond it `send` waits. Exact.
    pub fn bound(mut self, messages: usize, bytes: usize) -> Self {
        self.bound = Amount { messages: messages as u64, bytes: bytes as u64 };
        self
    }

    /// A message that failed so often is not delivered again: it is counted as exhausted, and an event carries it.
    ///
    /// A failure is a nack, a drop without an answer, or a worker that died or was lost with the message in hand. To know
    /// what was in hand, each hand-over is announced to the pusher first, which costs a round trip a message.
    pub fn max_failures(mut self, failures: u32) -> Self {
        self.max_failures = Some(failures);
        self
    }

    fn open(self) -> Result<Push, OpenError> {
        check_channel(&self.channel)?;
        for (what, value) in [
            ("the bound in messages", self.bound.messages),
            ("the bound in bytes", self.bound.bytes),
            ("max_failures", self.max_failures.map_or(1, u64::from)),
        ] {
            if value == 0 {
                return Err(OpenError::Zero { what });
            }
        }
        let env = self.hall.env().clone();
        let epoch = env.random_u64().map_err(|error| OpenError::Random(error.to_string()))? >> 2;
        let core = Arc::new(Core {
            channel: self.channel.clone(),
            epoch,
            max_message: self.hall.max_message(),
            intake: Apart(Mutex::new(Intake::new(self.bound))),
            flight: Apart(Mutex::new(Board { flight: Flight::new(self.max_failures), ..Board::default() })),
            work: Notify::new(),
            pullers: watch::Sender::new(0),
            orphaned: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            id: OnceLock::new(),
            env,
            hall: self.hall.clone(),
        });
        let spec = SocketSpec { kind: SocketKind::Push, channel: self.channel, slots: false };
        let registered = self.hall.register(spec, |id| {
            core.id.set(id).expect("a socket is registered once");
            core.clone()
        })?;
        core.env.spawn(core.clone().run());
        Ok(Push(Arc::new(Handle(core, registered))))
    }
}

impl IntoFuture for PushBuilder {
    type Output = Result<Push, OpenError>;
    type IntoFuture = std::future::Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        std::future::ready(self.open())
    }
}

/// The pushing end of a channel. Each message goes to one of the pullers, whoever has room for it.
///
/// A clone is the same socket. When the last one is dropped, what it has accepted is still delivered for as long as the
/// node lives.
#[derive(Clone)]
pub struct Push(Arc<Handle>);

/// The application's hold on the socket, and by way of it on the node: in this order, as the socket's end comes first.
struct Handle(Arc<Core>, #[expect(dead_code, reason = "held, not used")] Registered);

impl Push {
    /// Hands over a message: the future is ready once the socket has taken responsibility for it.
    ///
    /// Waits while the socket is at its bound. Until a puller has acknowledged it the message is in this process's
    /// memory; add [`.handled()`](Send::handled) to wait for that.
    ///
    /// # Errors
    /// [`SendErrorKind::TooLarge`], before anything is queued, or [`SendErrorKind::Closed`]; both give the message back.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing was accepted, and the message is dropped with it; use
    /// [`reserve`](Self::reserve) to keep it.
    #[inline]
    pub fn send(&self, message: impl Into<Bytes>) -> Send<'_> {
        Send { push: self, message: Some(message.into()) }
    }

    /// Hands over a message if there is room for it now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendErrorKind::Full`]; each gives the message back.
    #[inline]
    pub fn try_send(&self, message: impl Into<Bytes>) -> Result<(), SendError<Bytes>> {
        let message = message.into();
        match self.0.0.accept(&message) {
            Ok(()) => Ok(()),
            Err(kind) => Err(SendError { kind, message }),
        }
    }

    /// Like [`send`](Self::send), but waits for room no longer than `time`.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_timeout(&self, message: impl Into<Bytes>, time: Duration) -> Result<(), SendError<Bytes>> {
        let core = &self.0.0;
        let message = message.into();
        let mut timer = core.env.timer();
        timer.set(Some(core.env.now() + time));
        std::future::poll_fn(|cx| match core.poll_accept(&message, cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(kind)) => Poll::Ready(Err(kind)),
            Poll::Pending => timer.poll_fired(cx).map(|()| Err(SendErrorKind::Full)),
        })
        .await
        .map_err(|kind| SendError { kind, message })
    }

    /// Hands over several messages, in order, and says how many were accepted: all, unless an error ends it.
    ///
    /// # Errors
    /// As [`send`](Self::send), with the message that was not accepted; those before it were.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, some of the messages were accepted and the others are dropped.
    pub async fn send_batch<T: Into<Bytes>>(
        &self,
        messages: impl IntoIterator<Item = T>,
    ) -> Result<usize, SendError<Bytes>> {
        let mut accepted = 0;
        for message in messages {
            self.send(message).await?;
            accepted += 1;
        }
        Ok(accepted)
    }

    /// Waits for room for one message of at most `bytes` bytes, and sets it aside.
    ///
    /// # Errors
    /// [`SendErrorKind::TooLarge`] or [`SendErrorKind::Closed`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing is set aside.
    pub async fn reserve(&self, bytes: usize) -> Result<Permit<'_>, SendErrorKind> {
        let core = &self.0.0;
        core.check_size(bytes)?;
        std::future::poll_fn(|cx| {
            let mut intake = lock(&core.intake.0);
            match intake.reserve(bytes) {
                Ok(()) => Poll::Ready(Ok(Permit { push: self, bytes, spent: false })),
                Err(Refused::Closed) => Poll::Ready(Err(SendErrorKind::Closed)),
                Err(Refused::Full) => {
                    intake.wait(cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Waits until everything that was accepted before this call is settled: handled, rejected or exhausted.
    ///
    /// # Errors
    /// The node has ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub fn flush(&self) -> Flush {
        Flush(self.0.0.flush())
    }

    /// Waits until so many pull sockets are connected.
    ///
    /// # Errors
    /// The node has ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn wait_for_pullers(&self, pullers: usize) -> Result<(), Closed> {
        let mut count = self.0.0.pullers.subscribe();
        // The sender lives in the socket, which we hold: what ends the wait is the value that closing sets.
        let count = count.wait_for(|now| *now >= pullers).await.map_err(|_| Closed)?;
        if *count == CLOSED { Err(Closed) } else { Ok(()) }
    }

    /// How many pull sockets are connected now.
    pub fn pullers(&self) -> usize {
        lock(&self.0.0.flight.0).flight.lane_count()
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> PushMetrics {
        self.0.0.figures()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        &self.0.0.channel
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("channel", &self.channel()).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.orphan();
    }
}

/// A message on its way into the socket: see [`Push::send`].
#[derive(Debug)]
#[must_use = "nothing is sent until it is awaited"]
pub struct Send<'a> {
    push: &'a Push,
    /// `None`: accepted or given back.
    message: Option<Bytes>,
}

impl<'a> Send<'a> {
    /// Waits until a puller has acknowledged the message, and not only until it is accepted.
    ///
    /// # Errors
    /// [`HandleError`] says what became of the message instead.
    ///
    /// # Cancel safety
    /// Dropped before the message was accepted, it is dropped with it; afterwards it will still be delivered.
    pub fn handled(self) -> Handled<'a> {
        Handled(Box::pin(async move {
            let core = &self.push.0.0;
            let message = self.message.unwrap_or_default();
            let accepted = std::future::poll_fn(|cx| core.poll_accept_tracked(&message, cx)).await;
            match accepted.map_err(HandleError::Refused)?.await {
                Ok(Outcome::Handled) => Ok(()),
                Ok(Outcome::Rejected(reason)) => Err(HandleError::Rejected { reason }),
                Ok(Outcome::Exhausted(failures)) => Err(HandleError::Exhausted { failures }),
                Err(_) => Err(HandleError::Closed),
            }
        }))
    }
}

impl Future for Send<'_> {
    type Output = Result<(), SendError<Bytes>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(message) = &this.message else { panic!("polled after it was ready") };
        match this.push.0.0.poll_accept(message, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                let message = this.message.take().unwrap_or_default();
                Poll::Ready(result.map_err(|kind| SendError { kind, message }))
            }
        }
    }
}

/// Waits for a message to be handled: see [`Send::handled`].
#[must_use = "nothing is sent until it is awaited"]
pub struct Handled<'a>(Pin<Box<dyn Future<Output = Result<(), HandleError>> + std::marker::Send + 'a>>);

impl Future for Handled<'_> {
    type Output = Result<(), HandleError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Handled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handled")
    }
}

/// Waits for everything accepted to be settled: see [`Push::flush`].
#[derive(Debug)]
#[must_use = "waits only when it is awaited"]
pub struct Flush(oneshot::Receiver<()>);

impl Future for Flush {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|settled| settled.map_err(|_| Closed))
    }
}

/// Room that was set aside: see [`Push::reserve`]. Dropped, the room is free again.
#[derive(Debug)]
pub struct Permit<'a> {
    push: &'a Push,
    bytes: usize,
    spent: bool,
}

impl Permit<'_> {
    /// Hands over the message. It is accepted at once, also when the socket has begun to close since.
    ///
    /// # Errors
    /// [`SendErrorKind::TooLarge`]: it is larger than what was reserved. It is given back, and the room is free again.
    pub fn send(mut self, message: impl Into<Bytes>) -> Result<(), SendError<Bytes>> {
        let message = message.into();
        if message.len() > self.bytes {
            let kind = SendErrorKind::TooLarge { len: message.len(), limit: self.bytes };
            return Err(SendError { kind, message });
        }
        self.spent = true;
        let core = &self.push.0.0;
        let wake = lock(&core.intake.0).accept_reserved(&message, self.bytes);
        if wake {
            core.work.notify_one();
        }
        Ok(())
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.spent {
            self.push.0.0.release(Amount { messages: 1, bytes: self.bytes as u64 });
        }
    }
}

/// The number of pullers of a socket whose node has ended: no wait is longer than that.
const CLOSED: usize = usize::MAX;

/// On a cache line of its own: the application's thread and the node's write to neighbours all the time.
#[repr(align(128))]
struct Apart<T>(T);

/// The socket itself.
struct Core {
    channel: String,
    /// Names this life of the socket in the ids of its messages.
    epoch: u64,
    max_message: usize,
    /// What senders touch. Locked after `flight` where both are needed.
    intake: Apart<Mutex<Intake>>,
    /// What the node's thread touches.
    flight: Apart<Mutex<Board>>,
    /// Something was accepted while the dispatcher slept.
    work: Notify,
    /// How many pullers there are; [`CLOSED`] once the node has ended.
    pullers: watch::Sender<usize>,
    /// No handle is left.
    orphaned: AtomicBool,
    /// The node has let go of it.
    gone: AtomicBool,
    id: OnceLock<SocketId>,
    env: Env,
    hall: Arc<Hall>,
}

#[derive(Default)]
struct Board {
    flight: Flight,
    /// Who waits for which message.
    notes: BTreeMap<u64, oneshot::Sender<Outcome>>,
    /// Who waits until nothing below a sequence is unsettled.
    flushes: Vec<(u64, oneshot::Sender<()>)>,
}

impl Core {
    /// The dispatcher: what is accepted while lanes have credit, and what has waited for its time, goes out.
    async fn run(self: Arc<Self>) {
        let mut timer = self.env.timer();
        while !self.gone.load(Acquire) {
            timer.set(self.turn(|_, _| ()).1);
            tokio::select! {
                biased;
                () = self.work.notified() => {}
                () = timer.fired() => {}
            }
        }
    }

    /// Changes the flight, dispatches, and does what follows from it once the lock is free. Also says when the next
    /// message's time comes.
    fn turn<T>(&self, change: impl FnOnce(&mut Flight, Instant) -> T) -> (T, Option<Instant>) {
        let now = self.env.now();
        let mut board = lock(&self.flight.0);
        let due = board.flight.next_due();
        let result = change(&mut board.flight, now);
        board.flight.dispatch(&self.intake.0, now);
        let next = board.flight.next_due();
        self.conclude(board);
        if next.is_some() && next != due {
            self.work.notify_one();
        }
        (result, next)
    }

    fn conclude(&self, mut board: std::sync::MutexGuard<'_, Board>) {
        let Effects { freed, wakers, settled, dead } = board.flight.take_effects();
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

    fn flush(&self) -> oneshot::Receiver<()> {
        let (done, waiting) = oneshot::channel();
        let mut board = lock(&self.flight.0);
        let until = lock(&self.intake.0).next_sequence();
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

    fn release(&self, amount: Amount) {
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
    fn settled(&self) {
        let wakers = {
            let mut board = lock(&self.flight.0);
            board.flight.wake_all();
            board.flight.take_effects().wakers
        };
        for waker in wakers {
            waker.wake();
        }
        if self.orphaned.load(Acquire) {
            self.leave();
        }
    }

    /// From now on nothing is accepted. True: nothing is owed either.
    fn refuse_more(&self) -> bool {
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
    fn orphan(&self) {
        self.orphaned.store(true, Release);
        if self.refuse_more() {
            self.leave();
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

    fn check_size(&self, len: usize) -> Result<(), SendErrorKind> {
        let limit = self.max_message;
        if len > limit {
            return Err(SendErrorKind::TooLarge { len, limit });
        }
        Ok(())
    }

    #[inline]
    fn accept(&self, message: &Bytes) -> Result<(), SendErrorKind> {
        self.check_size(message.len())?;
        let accepted = lock(&self.intake.0).accept(message);
        match accepted {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.work.notify_one();
                Ok(())
            }
            Err(refused) => Err(self.refusal(refused, message.len())),
        }
    }

    #[cold]
    fn refusal(&self, refused: Refused, len: usize) -> SendErrorKind {
        match refused {
            Refused::Closed => SendErrorKind::Closed,
            Refused::Full => match lock(&self.intake.0).fits(len) {
                Ok(()) => SendErrorKind::Full,
                Err(limit) => SendErrorKind::TooLarge { len, limit: limit as usize },
            },
        }
    }

    #[inline]
    fn poll_accept(&self, message: &Bytes, cx: &mut Context<'_>) -> Poll<Result<(), SendErrorKind>> {
        loop {
            match self.accept(message) {
                Err(SendErrorKind::Full) => {}
                result => return Poll::Ready(result),
            }
            if self.wait_for_room(message.len(), cx.waker()) {
                return Poll::Pending;
            }
        }
    }

    /// False: there is room by now.
    #[cold]
    fn wait_for_room(&self, len: usize, waker: &Waker) -> bool {
        let mut intake = lock(&self.intake.0);
        let full = intake.is_full(len);
        if full {
            intake.wait(waker);
        }
        full
    }

    fn poll_accept_tracked(
        &self,
        message: &Bytes,
        cx: &mut Context<'_>,
    ) -> Poll<Result<oneshot::Receiver<Outcome>, SendErrorKind>> {
        loop {
            if let Err(error) = self.check_size(message.len()) {
                return Poll::Ready(Err(error));
            }
            // Both locks: the message must not be settled before it is known that somebody waits for it.
            let mut board = lock(&self.flight.0);
            let mut intake = lock(&self.intake.0);
            let sequence = intake.next_sequence();
            match intake.accept(message) {
                Ok(wake) => {
                    drop(intake);
                    let (note, waiting) = oneshot::channel();
                    board.flight.track(sequence);
                    board.notes.insert(sequence, note);
                    drop(board);
                    if wake {
                        self.work.notify_one();
                    }
                    return Poll::Ready(Ok(waiting));
                }
                Err(refused) => {
                    drop((intake, board));
                    match self.refusal(refused, message.len()) {
                        SendErrorKind::Full if self.wait_for_room(message.len(), cx.waker()) => return Poll::Pending,
                        SendErrorKind::Full => {}
                        error => return Poll::Ready(Err(error)),
                    }
                }
            }
        }
    }

    fn count_pullers(&self, now: usize) {
        self.pullers.send_if_modified(|count| {
            let changed = *count != CLOSED && *count != now;
            if changed {
                *count = now;
            }
            changed
        });
    }

    fn figures(&self) -> PushMetrics {
        let board = lock(&self.flight.0);
        let intake = lock(&self.intake.0);
        let (counts, in_flight) = (board.flight.counts, board.flight.in_flight());
        let accepted = intake.next_sequence();
        let settled = counts.handled + counts.rejected + counts.exhausted;
        PushMetrics {
            accepted,
            queued: accepted - settled - in_flight,
            in_flight,
            handled: counts.handled,
            rejected: counts.rejected,
            exhausted: counts.exhausted,
            bytes: intake.used().bytes,
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

impl SocketEnd for Core {
    fn open_lane(self: Arc<Self>, to: LanePeer, _now: Instant) -> Arc<dyn LaneEnd> {
        let mut board = lock(&self.flight.0);
        let open = OpenLane {
            from: *self.id.get().expect("lanes open after registration"),
            to: to.socket,
            kind: SocketKind::Push,
            level: Level::AtLeastOnce,
            epoch: self.epoch,
            base: 0,
            taken: board.flight.wants_taken(),
        };
        if to.max_message < self.max_message {
            tracing::warn!(
                target: "meshmq::socket",
                node = %to.node.short(),
                channel = self.channel,
                "a puller takes messages up to {} bytes only and gets none: this node sends up to {}",
                to.max_message,
                self.max_message
            );
        }
        let key = board.flight.open_lane(to, &open, self.max_message);
        let pullers = board.flight.lane_count();
        drop(board);
        self.count_pullers(pullers);
        Arc::new(PushLane { core: self, key, part: Mutex::default() })
    }

    fn accept_lane(self: Arc<Self>, _: LanePeer, _: &OpenLane, _: Instant) -> Result<Arc<dyn LaneEnd>, Violation> {
        Err(Violation("a lane was opened towards a push socket"))
    }

    fn drain(&self, _now: Instant) {
        if self.refuse_more() {
            self.settled();
        }
    }

    fn is_drained(&self) -> bool {
        lock(&self.intake.0).used().messages == 0
    }

    fn close(&self) -> Vec<Bytes> {
        self.drain(self.env.now());
        self.gone.store(true, Release);
        let mut board = lock(&self.flight.0);
        let undelivered = board.flight.drain(&mut lock(&self.intake.0));
        board.notes.clear();
        board.flushes.clear();
        self.conclude(board);
        self.pullers.send_replace(CLOSED);
        self.work.notify_one();
        undelivered
    }

    fn metrics(&self) -> SocketMetrics {
        SocketMetrics { channel: self.channel.clone(), figures: SocketFigures::Push(self.figures()) }
    }
}

/// The lane in the hands of its carrier.
struct PushLane {
    core: Arc<Core>,
    key: LaneKey,
    /// An answer that has not arrived in full.
    part: Mutex<BytesMut>,
}

impl LaneEnd for PushLane {
    fn poll_outgoing(
        &self,
        cx: &mut Context<'_>,
        _now: Instant,
        out: &mut Vec<Bytes>,
        _again: &mut Option<Instant>,
    ) -> Poll<Outgoing> {
        let core = &self.core;
        core.turn(|flight, _| flight.writer_turn(self.key));
        let over = {
            let intake = lock(&core.intake.0);
            intake.is_closed() && intake.used().messages == 0
        };
        let mut board = lock(&core.flight.0);
        let any = board.flight.take_outgoing(self.key, cx.waker(), out);
        if over || board.flight.is_finished(self.key) {
            Poll::Ready(Outgoing::Finish)
        } else if any {
            Poll::Ready(Outgoing::Write)
        } else {
            Poll::Pending
        }
    }

    fn handle_incoming(&self, _now: Instant, chunks: &mut [Bytes]) -> Result<(), Violation> {
        let mut part = lock(&self.part);
        for chunk in chunks {
            part.extend_from_slice(&std::mem::take(chunk));
        }
        self.core
            .turn(|flight, now| {
                frame::answers(&mut part, |kind, payload| flight.handle_answer(self.key, kind, payload, now))
            })
            .0
    }

    fn owes(&self) -> bool {
        lock(&self.core.flight.0).flight.owes(self.key)
    }

    fn closed(&self, _now: Instant) {
        let core = &self.core;
        let pullers = core.turn(|flight, now| {
            flight.close_lane(self.key, now);
            flight.lane_count()
        });
        core.count_pullers(pullers.0);
    }
}
