//! What the verbs of a push socket give: what does an application wait for, or hold?

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Acquire;
use std::task::{Context, Poll};

use super::Push;
use super::core::Core;
use crate::error::{Closed, HandleError, SendError, SendErrorKind};
use crate::message::NewMessage;
use crate::pattern::push::{Amount, Outcome, lock};
use crate::pattern::waiters::Ticket;
use crate::socket::spans::{self, Sending};
use crate::sync::oneshot;

/// A message on its way into the socket: see [`Push::send`].
#[derive(Debug)]
#[must_use = "nothing is sent until it is awaited"]
pub struct Send<'a> {
    pub(super) sender: Sender<'a>,
    /// `None`: accepted or given back.
    pub(super) message: Option<NewMessage>,
    pub(super) sending: Sending,
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
            let Self { mut sender, message, mut sending } = self;
            let mut message = message.unwrap_or_default();
            if spans::wanted() {
                sending = sender.core.begin(&mut message, None);
            }
            let accepted = std::future::poll_fn(|cx| sender.core.poll_accept_tracked(&message, &mut sender.ticket, cx));
            let answer = match accepted.await {
                Ok((sequence, answer)) => {
                    sending.accepted(|| sender.core.message_id(sequence));
                    answer
                }
                Err(kind) => {
                    sending.refused(&mut message, kind);
                    return Err(HandleError::Refused(kind));
                }
            };
            drop(message);
            match answer.await {
                Ok(Outcome::Handled) => Ok(()),
                Ok(Outcome::Rejected(reason)) => Err(HandleError::Rejected { reason }),
                Ok(Outcome::Exhausted(failures)) => Err(HandleError::Exhausted { failures }),
                Err(_) => Err(HandleError::Closed),
            }
        }))
    }
}

impl Send<'_> {
    /// Does it without waiting, if it can. `None`: there is no room.
    #[inline]
    pub(crate) fn at_once(&mut self) -> Option<Result<(), SendError<NewMessage>>> {
        if self.is_accepted() { Some(Ok(())) } else { self.why_not() }
    }

    /// There was no room in time.
    pub(super) fn give_up(&mut self) -> Result<(), SendError<NewMessage>> {
        self.refuse(SendErrorKind::Full)
    }

    /// What nearly always happens: no reason and no message has to be moved for it.
    #[inline]
    fn is_accepted(&mut self) -> bool {
        if spans::wanted() {
            self.begin();
        }
        let Some(message) = &self.message else { panic!("polled after it was ready") };
        let Some(sequence) = self.sender.core.accept_now(message) else { return false };
        self.message = None;
        self.sending.accepted(|| self.sender.core.message_id(sequence));
        true
    }

    /// Begins its span.
    #[cold]
    fn begin(&mut self) {
        if let Some(message) = self.message.as_mut().filter(|_| !self.sending.is_recorded()) {
            self.sending = self.sender.core.begin(message, None);
        }
    }

    #[cold]
    fn why_not(&mut self) -> Option<Result<(), SendError<NewMessage>>> {
        match self.sender.core.accept(self.message.as_ref()?) {
            Err(SendErrorKind::Full) => None,
            result => Some(self.conclude(result)),
        }
    }

    #[cold]
    fn poll_slowly(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<NewMessage>>> {
        let Some(message) = &self.message else { return Poll::Pending };
        self.sender.core.poll_accept(message, &mut self.sender.ticket, cx).map(|result| self.conclude(result))
    }

    fn conclude(&mut self, result: Result<u64, SendErrorKind>) -> Result<(), SendError<NewMessage>> {
        match result {
            Ok(sequence) => {
                self.message = None;
                self.sending.accepted(|| self.sender.core.message_id(sequence));
                Ok(())
            }
            Err(kind) => self.refuse(kind),
        }
    }

    fn refuse(&mut self, kind: SendErrorKind) -> Result<(), SendError<NewMessage>> {
        let mut message = self.message.take().unwrap_or_default();
        self.sending.refused(&mut message, kind);
        Err(SendError { kind, message })
    }
}

impl Future for Send<'_> {
    type Output = Result<(), SendError<NewMessage>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.is_accepted() { Poll::Ready(Ok(())) } else { self.poll_slowly(cx) }
    }
}

/// Whoever wants to hand over a message, and may wait for room. Dropped, it does not wait any more.
pub(super) struct Sender<'a> {
    pub(super) core: &'a Core,
    pub(super) ticket: Ticket,
}

impl<'a> Sender<'a> {
    #[inline]
    pub(super) fn new(core: &'a Core) -> Self {
        Self { core, ticket: Ticket::default() }
    }
}

impl Drop for Sender<'_> {
    #[inline]
    fn drop(&mut self) {
        self.core.forget(&mut self.ticket);
    }
}

impl fmt::Debug for Sender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("channel", &self.core.channel).finish_non_exhaustive()
    }
}

/// Waits for a message to be handled: see [`Send::handled`].
#[must_use = "nothing is sent until it is awaited"]
pub struct Handled<'a>(Pin<Box<dyn Future<Output = Result<(), HandleError>> + std::marker::Send + 'a>>);

impl Handled<'_> {
    /// There is nothing to wait for.
    pub(crate) fn failed(error: HandleError) -> Self {
        Self(Box::pin(std::future::ready(Err(error))))
    }
}

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

/// Waits for everything accepted to be settled, or everything published to have arrived: see [`Push::flush`] and
/// [`Publisher::flush`](crate::Publisher::flush).
#[derive(Debug)]
#[must_use = "waits only when it is awaited"]
pub struct Flush(pub(in crate::socket) oneshot::Receiver<()>);

impl Future for Flush {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|settled| settled.map_err(|_| Closed))
    }
}

/// Room that was set aside: see [`Push::reserve`]. Dropped, the room is free again.
#[derive(Debug)]
pub struct Permit<'a> {
    pub(super) push: &'a Push,
    pub(super) bytes: usize,
    pub(super) spent: bool,
}

impl Permit<'_> {
    /// Hands over the message. It is accepted at once, also when the socket has begun to close since.
    ///
    /// # Errors
    /// [`SendErrorKind::TooLarge`]: with its headers it is larger than what was reserved. [`SendErrorKind::Header`]: one of
    /// them does not fit. [`SendErrorKind::Closed`]: the node has ended. It is given back, and the room is free again.
    pub fn send(mut self, message: impl Into<NewMessage>) -> Result<(), SendError<NewMessage>> {
        let mut message = message.into();
        let core = &self.push.0.0;
        let mut sending = core.begin(&mut message, Some(self.bytes));
        match self.accept(&message) {
            Ok(sequence) => {
                self.spent = true;
                sending.accepted(|| core.message_id(sequence));
                Ok(())
            }
            Err(kind) => {
                sending.refused(&mut message, kind);
                Err(SendError { kind, message })
            }
        }
    }

    fn accept(&self, message: &NewMessage) -> Result<u64, SendErrorKind> {
        let core = &self.push.0.0;
        core.check(message)?;
        if message.size() > self.bytes {
            return Err(SendErrorKind::TooLarge { len: message.size(), limit: self.bytes });
        }
        let accepted = {
            let mut intake = lock(&core.intake.0);
            // What the node owned it has handed back: this message would be nobody's.
            if core.gone.load(Acquire) {
                return Err(SendErrorKind::Closed);
            }
            intake.accept_reserved(message, self.bytes)
        };
        if accepted.wake {
            core.work.notify_one();
        }
        Ok(accepted.sequence)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.spent {
            self.push.0.0.release(Amount { messages: 1, bytes: self.bytes as u64 });
        }
    }
}
