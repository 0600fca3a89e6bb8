//! PULL for threads.

use std::fmt::Display;
use std::future::ready;
use std::io;
use std::iter::FusedIterator;
use std::time::Duration;

use super::{comes_within, within};
use crate::env::{block_on, on_threads};
use crate::error::{Closed, OpenError};
use crate::message::{Delivery, Message};
use crate::observe::PullMetrics;
use crate::socket::{self, Deliveries};

/// Options of a pull socket; [`open`](Self::open) opens it. The defaults are those of
/// [`meshmq::PullBuilder`](crate::PullBuilder).
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct PullBuilder(pub(super) socket::PullBuilder);

impl PullBuilder {
    pub(super) fn new(options: socket::PullBuilder) -> Self {
        Self(options)
    }

    /// As [`prefetch`](crate::PullBuilder::prefetch).
    pub fn prefetch(self, messages: usize) -> Self {
        Self(self.0.prefetch(messages))
    }

    /// As [`ack_on_receive`](crate::PullBuilder::ack_on_receive).
    pub fn ack_on_receive(self) -> Self {
        Self(self.0.ack_on_receive())
    }

    /// Opens the socket.
    ///
    /// # Errors
    /// The channel's name or an option does not fit, or the node is closed.
    pub fn open(self) -> Result<Pull, OpenError> {
        block_on(self.0).map(Pull)
    }
}

/// The pulling end of a channel, for threads: [`meshmq::Pull`](crate::Pull) without `.await`.
///
/// Several threads may receive from one socket, by a reference or an `Arc`; each message goes to one of them. Every call
/// that waits ends when another thread calls [`close`](Self::close), or when the node shuts down.
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let (push, pull) = (node.push("jobs").open()?, node.pull("jobs").prefetch(4).open()?);
/// std::thread::scope(|scope| {
///     // Four jobs at a time; an error or a panic gives the message back.
///     let serving = scope.spawn(|| pull.serve(4, |job| std::str::from_utf8(&job).map(|text| println!("{text}"))));
///     push.send_batch(["one", "two", "three"])?;
///     push.flush()?;
///     pull.close();
///     serving.join().expect("it does not panic")?;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug)]
pub struct Pull(socket::Pull);

impl Pull {
    /// Waits for the next message.
    ///
    /// # Errors
    /// Only when the socket or its node is closed.
    #[inline]
    pub fn recv(&self) -> Result<Delivery, Closed> {
        match self.0.try_recv()? {
            Some(delivery) => Ok(delivery),
            None => block_on(self.0.recv()),
        }
    }

    /// The next message, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&self) -> Result<Option<Delivery>, Closed> {
        self.0.try_recv()
    }

    /// Waits for the next message, but no longer than `time`. `None`: none has come.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, time: Duration) -> Result<Option<Delivery>, Closed> {
        within(self.0.env(), time, self.0.recv()).transpose()
    }

    /// Waits for a message, and takes with it what else is here, up to `max` (at least 1).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_batch(&self, max: usize) -> Result<Deliveries, Closed> {
        block_on(self.0.recv_batch(max))
    }

    /// Each message that comes, until the socket or its node is closed.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self)
    }

    /// The loop most workers want: calls the handler on up to `threads` threads at a time (at least 1, and this one is one
    /// of them), and answers by its results: `Ok` acknowledges, `Err` gives the message back, and so does a panic, which
    /// is logged.
    ///
    /// Where a message takes long, give the socket this much [`prefetch`](PullBuilder::prefetch): the automatic one may let
    /// in fewer messages than there are threads.
    ///
    /// Returns when the socket or its node is closed and the last handler has returned.
    ///
    /// # Errors
    /// The operating system gives no thread; no message was taken.
    pub fn serve<E: Display>(
        &self,
        threads: usize,
        handler: impl Fn(Message) -> Result<(), E> + Sync,
    ) -> io::Result<()> {
        on_threads(threads, || {
            // It ends with the socket and has no errors of its own.
            let _ = block_on(self.0.serve(1, |message| ready(handler(message))));
        })
    }

    /// Waits until so many push sockets are connected.
    ///
    /// # Errors
    /// The node has ended first.
    pub fn wait_for_pushers(&self, pushers: usize) -> Result<(), Closed> {
        block_on(self.0.wait_for_pushers(pushers))
    }

    /// Like [`wait_for_pushers`](Self::wait_for_pushers), but no longer than `time`. `false`: there are fewer.
    ///
    /// # Errors
    /// As [`wait_for_pushers`](Self::wait_for_pushers).
    pub fn wait_for_pushers_timeout(&self, pushers: usize, time: Duration) -> Result<bool, Closed> {
        comes_within(self.0.env(), time, self.0.wait_for_pushers(pushers))
    }

    /// Hands nothing out any more: what waits here goes elsewhere, `recv` ends, what is in hand can still be answered.
    pub fn close(&self) {
        self.0.close();
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> PullMetrics {
        self.0.metrics()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        self.0.channel()
    }

    /// The same socket, for async code.
    pub fn as_async(&self) -> &socket::Pull {
        &self.0
    }

    /// The same socket, for async code.
    pub fn into_async(self) -> socket::Pull {
        self.0
    }
}

impl From<socket::Pull> for Pull {
    fn from(pull: socket::Pull) -> Self {
        Self(pull)
    }
}

/// The messages of a pull socket: see [`Pull::iter`]. Waits for each; ends when the socket or its node is closed.
#[derive(Debug)]
pub struct Iter<'a>(&'a Pull);

impl Iterator for Iter<'_> {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        self.0.recv().ok()
    }
}

impl FusedIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Pull {
    type Item = Delivery;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
