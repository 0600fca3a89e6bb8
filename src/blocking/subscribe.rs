//! SUBSCRIBER for threads.

use std::iter::FusedIterator;
use std::time::Duration;

use super::{comes_within, within};
use crate::env::block_on;
use crate::error::{Closed, Gap, OpenError, RecvError, SubscribeError};
use crate::message::Publication;
use crate::observe::SubscriberMetrics;
use crate::socket;

/// Options of a subscriber; [`open`](Self::open) opens it. The defaults are those of
/// [`meshmq::SubscriberBuilder`](crate::SubscriberBuilder).
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct SubscriberBuilder(pub(super) socket::SubscriberBuilder);

impl SubscriberBuilder {
    pub(super) fn new(options: socket::SubscriberBuilder) -> Self {
        Self(options)
    }

    /// As [`topic`](crate::SubscriberBuilder::topic).
    pub fn topic(self, pattern: impl AsRef<str>) -> Self {
        Self(self.0.topic(pattern))
    }

    /// As [`prefetch`](crate::SubscriberBuilder::prefetch).
    pub fn prefetch(self, messages: usize) -> Self {
        Self(self.0.prefetch(messages))
    }

    /// As [`strict`](crate::SubscriberBuilder::strict).
    pub fn strict(self) -> Self {
        Self(self.0.strict())
    }

    /// As [`confirm_within`](crate::SubscriberBuilder::confirm_within).
    pub fn confirm_within(self, time: Duration) -> Self {
        Self(self.0.confirm_within(time))
    }

    /// Opens the socket, and waits until every publisher with which there is a link has confirmed the subscription.
    ///
    /// # Errors
    /// The channel's name, a pattern or an option does not fit, a publisher has not confirmed in time, or the node is
    /// closed.
    pub fn open(self) -> Result<Subscriber, OpenError> {
        block_on(self.0.into_future()).map(Subscriber)
    }
}

/// The subscribing end of a channel, for threads: [`meshmq::Subscriber`](crate::Subscriber) without `.await`.
///
/// Several threads may receive from one socket, by a reference or an `Arc`; each message goes to one of them. Every call
/// that waits ends when another thread calls [`close`](Self::close), or when the node shuts down.
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let (ticks, sub) = (node.publisher("ticks").open()?, node.subscriber("ticks").topic("eu.>").open()?);
/// ticks.publish_batch([("eu.dax", "18,412"), ("us.dow", "39,110"), ("eu.cac", "7,600")])?;
/// for tick in sub.iter().take(2) {
///     let tick = tick?;
///     println!("{}: {}", tick.topic(), String::from_utf8_lossy(&tick));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscriber(socket::Subscriber);

impl Subscriber {
    /// Waits for the next message.
    ///
    /// # Errors
    /// As [`recv`](crate::Subscriber::recv).
    #[inline]
    pub fn recv(&self) -> Result<Publication, RecvError> {
        match self.0.try_recv()? {
            Some(publication) => Ok(publication),
            None => block_on(self.0.recv()),
        }
    }

    /// The next message, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&self) -> Result<Option<Publication>, RecvError> {
        self.0.try_recv()
    }

    /// Waits for the next message, but no longer than `time`. `None`: none has come.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, time: Duration) -> Result<Option<Publication>, RecvError> {
        within(self.0.env(), time, self.0.recv()).transpose()
    }

    /// Waits for a message, and takes with it what else is here, up to `max` (at least 1).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_batch(&self, max: usize) -> Result<Vec<Publication>, RecvError> {
        block_on(self.0.recv_batch(max))
    }

    /// Each message that comes, until the socket or its node is closed. Of a `strict` socket an item may be an error; the
    /// next one is what follows.
    pub fn iter(&self) -> Publications<'_> {
        Publications(self)
    }

    /// Subscribes to one pattern more, and waits until every publisher that there is a link with has confirmed it.
    ///
    /// # Errors
    /// As [`subscribe`](crate::Subscriber::subscribe).
    pub fn subscribe(&self, pattern: impl AsRef<str>) -> Result<(), SubscribeError> {
        block_on(self.0.subscribe(pattern))
    }

    /// Ends the subscription to a pattern, and waits until every publisher that there is a link with has confirmed that.
    ///
    /// # Errors
    /// As [`unsubscribe`](crate::Subscriber::unsubscribe).
    pub fn unsubscribe(&self, pattern: impl AsRef<str>) -> Result<(), SubscribeError> {
        block_on(self.0.unsubscribe(pattern))
    }

    /// The patterns that it has subscribed to, in order.
    pub fn patterns(&self) -> Vec<String> {
        self.0.patterns()
    }

    /// Waits until so many publishers are connected and have confirmed the subscriptions that there are.
    ///
    /// # Errors
    /// The node has ended first.
    pub fn wait_for_publishers(&self, publishers: usize) -> Result<(), Closed> {
        block_on(self.0.wait_for_publishers(publishers))
    }

    /// Like [`wait_for_publishers`](Self::wait_for_publishers), but no longer than `time`. `false`: there are fewer.
    ///
    /// # Errors
    /// As [`wait_for_publishers`](Self::wait_for_publishers).
    pub fn wait_for_publishers_timeout(&self, publishers: usize, time: Duration) -> Result<bool, Closed> {
        comes_within(self.0.env(), time, self.0.wait_for_publishers(publishers))
    }

    /// How many publishers are connected now and have confirmed the subscriptions that there are.
    pub fn publishers(&self) -> usize {
        self.0.publishers()
    }

    /// Hands nothing out any more: `recv` ends, and publishers send nothing more.
    pub fn close(&self) {
        self.0.close();
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> SubscriberMetrics {
        self.0.metrics()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        self.0.channel()
    }

    /// The same socket, for async code.
    pub fn as_async(&self) -> &socket::Subscriber {
        &self.0
    }

    /// The same socket, for async code.
    pub fn into_async(self) -> socket::Subscriber {
        self.0
    }
}

impl From<socket::Subscriber> for Subscriber {
    fn from(subscriber: socket::Subscriber) -> Self {
        Self(subscriber)
    }
}

/// The messages of a subscriber: see [`Subscriber::iter`]. Waits for each; ends when the socket or its node is closed.
#[derive(Debug)]
pub struct Publications<'a>(&'a Subscriber);

impl Iterator for Publications<'_> {
    type Item = Result<Publication, Gap>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.recv() {
            Ok(publication) => Some(Ok(publication)),
            Err(RecvError::Missed(gap)) => Some(Err(gap)),
            Err(_) => None,
        }
    }
}

impl FusedIterator for Publications<'_> {}

impl<'a> IntoIterator for &'a Subscriber {
    type Item = Result<Publication, Gap>;
    type IntoIter = Publications<'a>;

    fn into_iter(self) -> Publications<'a> {
        self.iter()
    }
}
