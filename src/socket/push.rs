//! PUSH: work for whoever has room for it.
//!
//! Here is what an application says: options and verbs. What the verbs give is in `futures` and `sink`, the socket itself
//! in `core`, and what its node and the carriers of its lanes hold in `ends`.

mod core;
mod ends;
mod futures;
mod sink;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use self::core::{Apart, Board, Core};
use self::futures::Sender;
pub use self::futures::{Flush, Handled, Permit, Send};
pub use self::sink::PushSink;
use super::check_types;
use super::connected::Connected;
use super::spans::{self, Sending};
use crate::env::Env;
use crate::error::{Closed, OpenError, SendError, SendErrorKind, check_channel};
use crate::id::Types;
use crate::message::NewMessage;
use crate::node::{Hall, Registered, SocketSpec};
use crate::observe::PushMetrics;
use crate::pattern::push::{Amount, Flight, Intake, Refused, lock};
use crate::sync::{AtomicBool, Mutex, Notify};
use crate::wire::control::SocketKind;
use crate::wire::limits::{PUSH_BYTES, PUSH_MESSAGES};

/// Options of a push socket; await it to open the socket.
///
/// | option | default |
/// |---|---|
/// | [`bound`](Self::bound) | 100,000 messages, 64 MiB |
/// | [`max_failures`](Self::max_failures) | none |
///
/// # Cancel safety
/// It is ready at once. Dropped before, no socket was opened.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct PushBuilder {
    hall: Arc<Hall>,
    channel: String,
    bound: Amount,
    max_failures: Option<u32>,
    types: Types,
}

impl PushBuilder {
    pub(crate) fn new(hall: Arc<Hall>, channel: String) -> Self {
        let bound = Amount { messages: PUSH_MESSAGES as u64, bytes: PUSH_BYTES as u64 };
        Self { hall, channel, bound, max_failures: None, types: Types::default() }
    }

    /// The most that the socket owns at a time: queued, in flight and backing off, in messages and in bytes of their
    /// headers and bodies. Beyond it `send` waits. Exact. 0 of either is refused when the socket is opened.
    pub fn bound(mut self, messages: usize, bytes: usize) -> Self {
        self.bound = Amount { messages: messages as u64, bytes: bytes as u64 };
        self
    }

    /// A message that failed so often is not delivered again: it is counted as exhausted, and an event carries it.
    ///
    /// A failure is a nack, a drop without an answer, or a worker that died or was lost with the message in hand. To know
    /// what was in hand, each hand-over is announced to the pusher first, which costs a round trip a message. 0 is refused
    /// when the socket is opened.
    pub fn max_failures(mut self, failures: u32) -> Self {
        self.max_failures = Some(failures);
        self
    }

    /// Its messages are of this type.
    pub(crate) fn types(mut self, types: Types) -> Self {
        self.types = types;
        self
    }

    fn open(self) -> Result<Push, OpenError> {
        check_channel(&self.channel)?;
        check_types(&self.types)?;
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
            pullers: Connected::new(),
            warned: AtomicBool::new(false),
            orphaned: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            id: OnceLock::new(),
            env,
            hall: self.hall.clone(),
        });
        let spec = SocketSpec { kind: SocketKind::Push, channel: self.channel, slots: false, types: self.types };
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
    /// [`SendErrorKind::TooLarge`] or [`SendErrorKind::Header`], before anything is queued, or [`SendErrorKind::Closed`];
    /// each gives the message back.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing was accepted, and the message is dropped with it; use
    /// [`reserve`](Self::reserve) to keep it.
    #[inline]
    pub fn send(&self, message: impl Into<NewMessage>) -> Send<'_> {
        Send { sender: Sender::new(&self.0.0), message: Some(message.into()), sending: Sending::default() }
    }

    /// Hands over a message if there is room for it now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendErrorKind::Full`]; each gives the message back.
    #[inline]
    pub fn try_send(&self, message: impl Into<NewMessage>) -> Result<(), SendError<NewMessage>> {
        let message = message.into();
        if !spans::wanted() && self.0.0.accept_now(&message).is_some() {
            return Ok(());
        }
        let mut send = self.send(message);
        send.at_once().unwrap_or_else(|| send.give_up())
    }

    /// Like [`send`](Self::send), but waits for room no longer than `time`.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_timeout(
        &self,
        message: impl Into<NewMessage>,
        time: Duration,
    ) -> Result<(), SendError<NewMessage>> {
        let mut send = self.send(message);
        let mut timer = self.env().timer();
        timer.set(Some(self.env().after(time)));
        std::future::poll_fn(|cx| match Pin::new(&mut send).poll(cx) {
            Poll::Pending => timer.poll_fired(cx).map(|()| send.give_up()),
            done => done,
        })
        .await
    }

    /// Hands over several messages, in order, and says how many were accepted: all, unless an error ends it.
    ///
    /// # Errors
    /// As [`send`](Self::send), with the message that was not accepted; those before it were.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, some of the messages were accepted and the others are dropped.
    pub async fn send_batch<T: Into<NewMessage>>(
        &self,
        messages: impl IntoIterator<Item = T>,
    ) -> Result<usize, SendError<NewMessage>> {
        let mut accepted = 0;
        for message in messages {
            self.send(message).await?;
            accepted += 1;
        }
        Ok(accepted)
    }

    /// Waits for room for one message of at most `bytes` bytes, its headers included, and sets it aside.
    ///
    /// # Errors
    /// [`SendErrorKind::TooLarge`] or [`SendErrorKind::Closed`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing is set aside.
    pub async fn reserve(&self, bytes: usize) -> Result<Permit<'_>, SendErrorKind> {
        let mut sender = Sender::new(&self.0.0);
        sender.core.check_reserve(bytes)?;
        std::future::poll_fn(|cx| {
            let mut intake = lock(&sender.core.intake.0);
            match intake.reserve(bytes) {
                Ok(()) => Poll::Ready(Ok(Permit { push: self, bytes, spent: false })),
                Err(Refused::Closed) => Poll::Ready(Err(SendErrorKind::Closed)),
                Err(Refused::Full) => {
                    intake.wait(&mut sender.ticket, cx.waker());
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
        self.0.0.pullers.at_least(pullers).await
    }

    /// A [`Sink`](futures_sink::Sink) into this socket, for combinators such as `forward` and `send_all`. A clone of the
    /// socket makes another one.
    pub fn into_sink(self) -> PushSink {
        PushSink::new(self)
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

    pub(crate) fn env(&self) -> &Env {
        &self.0.0.env
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
