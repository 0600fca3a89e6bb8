//! PUSH for threads.

use std::time::Duration;

use super::comes_within;
use crate::env::block_on;
use crate::error::{Closed, HandleError, OpenError, SendError, SendErrorKind};
use crate::message::NewMessage;
use crate::observe::PushMetrics;
use crate::socket::{self, Permit};

/// Options of a push socket; [`open`](Self::open) opens it. The defaults are those of
/// [`meshmq::PushBuilder`](crate::PushBuilder).
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct PushBuilder(pub(super) socket::PushBuilder);

impl PushBuilder {
    pub(super) fn new(options: socket::PushBuilder) -> Self {
        Self(options)
    }

    /// As [`bound`](crate::PushBuilder::bound).
    pub fn bound(self, messages: usize, bytes: usize) -> Self {
        Self(self.0.bound(messages, bytes))
    }

    /// As [`max_failures`](crate::PushBuilder::max_failures).
    pub fn max_failures(self, failures: u32) -> Self {
        Self(self.0.max_failures(failures))
    }

    /// Opens the socket.
    ///
    /// # Errors
    /// The channel's name or an option does not fit, or the node is closed.
    pub fn open(self) -> Result<Push, OpenError> {
        block_on(self.0).map(Push)
    }
}

/// The pushing end of a channel, for threads: [`meshmq::Push`](crate::Push) without `.await`.
///
/// A clone is the same socket; threads may share one or have a clone each.
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let (push, pull) = (node.push("jobs").open()?, node.pull("jobs").open()?);
/// std::thread::scope(|scope| {
///     scope.spawn(|| pull.iter().take(3).for_each(|job| job.ack()));
///     push.send("accepted: it is the socket's")?;
///     push.send_handled("a puller has acknowledged it")?;
///     push.reserve(100)?.send("there was room for it in any case")?;
///     push.flush()?; // all three are settled
///     assert_eq!(push.metrics().handled, 3);
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Push(socket::Push);

impl Push {
    /// Hands over a message, and waits while the socket is at its bound. `Ok`: the socket has taken responsibility for it.
    ///
    /// # Errors
    /// [`SendErrorKind::TooLarge`] or [`SendErrorKind::Header`], before anything is queued, or [`SendErrorKind::Closed`];
    /// each gives the message back.
    #[inline]
    pub fn send(&self, message: impl Into<NewMessage>) -> Result<(), SendError<NewMessage>> {
        let mut send = self.0.send(message);
        send.at_once().unwrap_or_else(|| block_on(send))
    }

    /// Hands over a message if there is room for it now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendErrorKind::Full`]; each gives the message back.
    #[inline]
    pub fn try_send(&self, message: impl Into<NewMessage>) -> Result<(), SendError<NewMessage>> {
        self.0.try_send(message)
    }

    /// Like [`send`](Self::send), but waits for room no longer than `time`.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn send_timeout(&self, message: impl Into<NewMessage>, time: Duration) -> Result<(), SendError<NewMessage>> {
        block_on(self.0.send_timeout(message, time))
    }

    /// Hands over a message, and waits until a puller has acknowledged it: for as long as that takes, and not longer than
    /// the node lives.
    ///
    /// # Errors
    /// [`HandleError`] says what became of the message instead.
    pub fn send_handled(&self, message: impl Into<NewMessage>) -> Result<(), HandleError> {
        block_on(self.0.send(message).handled())
    }

    /// Hands over several messages, in order, and says how many were accepted: all, unless an error ends it.
    ///
    /// # Errors
    /// As [`send`](Self::send), with the message that was not accepted; those before it were.
    pub fn send_batch<T: Into<NewMessage>>(
        &self,
        messages: impl IntoIterator<Item = T>,
    ) -> Result<usize, SendError<NewMessage>> {
        block_on(self.0.send_batch(messages))
    }

    /// Waits for room for one message of at most `bytes` bytes, its headers included, and sets it aside.
    ///
    /// # Errors
    /// [`SendErrorKind::TooLarge`] or [`SendErrorKind::Closed`].
    pub fn reserve(&self, bytes: usize) -> Result<Permit<'_>, SendErrorKind> {
        block_on(self.0.reserve(bytes))
    }

    /// Waits until everything that was accepted before this call is settled: handled, rejected or exhausted.
    ///
    /// # Errors
    /// The node has ended first.
    pub fn flush(&self) -> Result<(), Closed> {
        block_on(self.0.flush())
    }

    /// Like [`flush`](Self::flush), but waits no longer than `time`. `false`: something is not settled yet.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_timeout(&self, time: Duration) -> Result<bool, Closed> {
        comes_within(self.0.env(), time, self.0.flush())
    }

    /// Waits until so many pull sockets are connected.
    ///
    /// # Errors
    /// The node has ended first.
    pub fn wait_for_pullers(&self, pullers: usize) -> Result<(), Closed> {
        block_on(self.0.wait_for_pullers(pullers))
    }

    /// Like [`wait_for_pullers`](Self::wait_for_pullers), but no longer than `time`. `false`: there are fewer.
    ///
    /// # Errors
    /// As [`wait_for_pullers`](Self::wait_for_pullers).
    pub fn wait_for_pullers_timeout(&self, pullers: usize, time: Duration) -> Result<bool, Closed> {
        comes_within(self.0.env(), time, self.0.wait_for_pullers(pullers))
    }

    /// How many pull sockets are connected now.
    pub fn pullers(&self) -> usize {
        self.0.pullers()
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> PushMetrics {
        self.0.metrics()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        self.0.channel()
    }

    /// The same socket, for async code.
    pub fn as_async(&self) -> &socket::Push {
        &self.0
    }

    /// The same socket, for async code.
    pub fn into_async(self) -> socket::Push {
        self.0
    }
}

impl From<socket::Push> for Push {
    fn from(push: socket::Push) -> Self {
        Self(push)
    }
}
