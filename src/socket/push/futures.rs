//! What the verbs of a push socket give: what does an application wait for, or hold?

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Acquire;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Push;
use super::core::Core;
use crate::error::{Closed, HandleError, SendError, SendErrorKind};
use crate::pattern::push::{Amount, Outcome, lock};
use crate::pattern::waiters::Ticket;

/// A message on its way into the socket: see [`Push::send`].
#[derive(Debug)]
#[must_use = "nothing is sent until it is awaited"]
pub struct Send<'a> {
    pub(super) sender: Sender<'a>,
    /// `None`: accepted or given back.
    pub(super) message: Option<Bytes>,
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
            let Self { mut sender, message } = self;
            let message = message.unwrap_or_default();
            let accepted = std::future::poll_fn(|cx| sender.core.poll_accept_tracked(&message, &mut sender.ticket, cx));
            let accepted = accepted.await;
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
        match this.sender.poll_accept(message, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                let message = this.message.take().unwrap_or_default();
                Poll::Ready(result.map_err(|kind| SendError { kind, message }))
            }
        }
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

    #[inline]
    pub(super) fn poll_accept(&mut self, message: &Bytes, cx: &mut Context<'_>) -> Poll<Result<(), SendErrorKind>> {
        self.core.poll_accept(message, &mut self.ticket, cx)
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
pub struct Flush(pub(super) oneshot::Receiver<()>);

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
    /// [`SendErrorKind::TooLarge`]: it is larger than what was reserved. [`SendErrorKind::Closed`]: the node has ended. It
    /// is given back, and the room is free again.
    pub fn send(mut self, message: impl Into<Bytes>) -> Result<(), SendError<Bytes>> {
        let message = message.into();
        if message.len() > self.bytes {
            let kind = SendErrorKind::TooLarge { len: message.len(), limit: self.bytes };
            return Err(SendError { kind, message });
        }
        let core = &self.push.0.0;
        let wake = {
            let mut intake = lock(&core.intake.0);
            // What the node owned it has handed back: this message would be nobody's.
            if core.gone.load(Acquire) {
                drop(intake);
                return Err(SendError { kind: SendErrorKind::Closed, message });
            }
            intake.accept_reserved(&message, self.bytes)
        };
        self.spent = true;
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
