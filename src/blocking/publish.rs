//! PUBLISHER for threads.

use std::time::Duration;

use super::comes_within;
use crate::env::block_on;
use crate::error::{Closed, OpenError, SendError};
use crate::message::NewMessage;
use crate::observe::PublisherMetrics;
use crate::socket::{self, WhenFull};

/// Options of a publisher; [`open`](Self::open) opens it. The defaults are those of
/// [`meshmq::PublisherBuilder`](crate::PublisherBuilder).
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct PublisherBuilder(pub(super) socket::PublisherBuilder);

impl PublisherBuilder {
    pub(super) fn new(options: socket::PublisherBuilder) -> Self {
        Self(options)
    }

    /// As [`when_full`](crate::PublisherBuilder::when_full).
    pub fn when_full(self, policy: WhenFull) -> Self {
        Self(self.0.when_full(policy))
    }

    /// As [`bound`](crate::PublisherBuilder::bound).
    pub fn bound(self, messages: usize, bytes: usize) -> Self {
        Self(self.0.bound(messages, bytes))
    }

    /// As [`retain_last`](crate::PublisherBuilder::retain_last).
    pub fn retain_last(self, messages: usize) -> Self {
        Self(self.0.retain_last(messages))
    }

    /// As [`retain_bound`](crate::PublisherBuilder::retain_bound).
    pub fn retain_bound(self, messages: usize, bytes: usize) -> Self {
        Self(self.0.retain_bound(messages, bytes))
    }

    /// Opens the socket.
    ///
    /// # Errors
    /// The channel's name or an option does not fit, or the node is closed.
    pub fn open(self) -> Result<Publisher, OpenError> {
        block_on(self.0).map(Publisher)
    }
}

/// The publishing end of a channel, for threads: [`meshmq::Publisher`](crate::Publisher) without `.await`.
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let ticks = node.publisher("ticks").retain_last(1).open()?;
/// ticks.publish("eu.dax", "18,412")?;
/// let sub = node.subscriber("ticks").topic("eu.>").open()?;
/// assert_eq!(sub.recv()?.topic(), "eu.dax");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Publisher(socket::Publisher);

impl Publisher {
    /// Publishes a message under a topic. It waits for nothing, unless the socket was opened with [`WhenFull::Block`].
    ///
    /// # Errors
    /// As [`publish`](crate::Publisher::publish).
    #[inline]
    pub fn publish(&self, topic: impl AsRef<str>, message: impl Into<NewMessage>) -> Result<(), SendError<NewMessage>> {
        block_on(self.0.publish(topic, message))
    }

    /// Publishes a message without waiting.
    ///
    /// # Errors
    /// As [`try_publish`](crate::Publisher::try_publish).
    #[inline]
    pub fn try_publish(
        &self,
        topic: impl AsRef<str>,
        message: impl Into<NewMessage>,
    ) -> Result<(), SendError<NewMessage>> {
        self.0.try_publish(topic, message)
    }

    /// Publishes several messages, in order, and says how many: all, unless an error ends it.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), with the message that was not published; those before it were.
    pub fn publish_batch<T: AsRef<str>, M: Into<NewMessage>>(
        &self,
        messages: impl IntoIterator<Item = (T, M)>,
    ) -> Result<usize, SendError<NewMessage>> {
        block_on(self.0.publish_batch(messages))
    }

    /// Waits until everything that was published before this call has arrived at the subscribers that are connected, or
    /// was dropped for them.
    ///
    /// # Errors
    /// The node has ended first.
    pub fn flush(&self) -> Result<(), Closed> {
        block_on(self.0.flush())
    }

    /// Like [`flush`](Self::flush), but waits no longer than `time`. `false`: something has not arrived yet.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_timeout(&self, time: Duration) -> Result<bool, Closed> {
        comes_within(self.0.env(), time, self.0.flush())
    }

    /// Waits until so many subscribers are connected, their subscriptions in force.
    ///
    /// # Errors
    /// The node has ended first.
    pub fn wait_for_subscribers(&self, subscribers: usize) -> Result<(), Closed> {
        block_on(self.0.wait_for_subscribers(subscribers))
    }

    /// Like [`wait_for_subscribers`](Self::wait_for_subscribers), but no longer than `time`. `false`: there are fewer.
    ///
    /// # Errors
    /// As [`wait_for_subscribers`](Self::wait_for_subscribers).
    pub fn wait_for_subscribers_timeout(&self, subscribers: usize, time: Duration) -> Result<bool, Closed> {
        comes_within(self.0.env(), time, self.0.wait_for_subscribers(subscribers))
    }

    /// How many subscribers are connected now.
    pub fn subscribers(&self) -> usize {
        self.0.subscribers()
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> PublisherMetrics {
        self.0.metrics()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        self.0.channel()
    }

    /// The same socket, for async code.
    pub fn as_async(&self) -> &socket::Publisher {
        &self.0
    }

    /// The same socket, for async code.
    pub fn into_async(self) -> socket::Publisher {
        self.0
    }
}

impl From<socket::Publisher> for Publisher {
    fn from(publisher: socket::Publisher) -> Self {
        Self(publisher)
    }
}
