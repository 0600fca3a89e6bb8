//! SUBSCRIBER to values, for threads.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::TypedBuilder;
use crate::blocking::{Subscriber, SubscriberBuilder};
use crate::error::RecvError;
use crate::message::Publication;
use crate::socket;
use crate::typed::{self, Reading, Received, Typed, TypedRecvError, View, read};

impl SubscriberBuilder {
    /// As [`typed`](crate::SubscriberBuilder::typed).
    pub fn typed<T: Typed>(self) -> TypedBuilder<socket::SubscriberBuilder, TypedSubscriber<T>> {
        TypedBuilder(self.0.typed::<T>().viewed())
    }
}

/// The subscribing end of a channel, for values and for threads: [`meshmq::TypedSubscriber`](crate::TypedSubscriber) without
/// `.await`. It dereferences to a [`Subscriber`].
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let words = node.subscriber("words").typed::<String>().open()?;
/// let publisher = node.publisher("words").typed::<String>().open()?;
/// publisher.wait_for_subscribers(1)?;
/// publisher.publish_batch([("a", "hello".to_owned()), ("b", "again".to_owned())])?;
/// for word in words.iter().take(2) {
///     println!("{}", *word?);
/// }
/// # Ok(())
/// # }
/// ```
pub struct TypedSubscriber<T> {
    subscriber: Subscriber,
    of: PhantomData<fn() -> T>,
}

impl<T> TypedSubscriber<T>
where
    T: Typed + DeserializeOwned,
{
    /// Waits for the next value.
    ///
    /// # Errors
    /// As [`meshmq::TypedSubscriber::recv`](crate::TypedSubscriber::recv).
    pub fn recv(&self) -> Result<Received<Publication, T>, TypedRecvError<Publication>> {
        Ok(read(self.subscriber.recv()?)?)
    }

    /// The next value, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Received<Publication, T>>, TypedRecvError<Publication>> {
        Ok(self.subscriber.try_recv()?.map(read).transpose()?)
    }

    /// Waits for the next value, but no longer than `time`. `None`: none has come.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(
        &self,
        time: Duration,
    ) -> Result<Option<Received<Publication, T>>, TypedRecvError<Publication>> {
        Ok(self.subscriber.recv_timeout(time)?.map(read).transpose()?)
    }

    /// Waits for a message, and takes with it what else is here, up to `max` (at least 1): each of them a value, or not.
    ///
    /// # Errors
    /// As [`Subscriber::recv_batch`].
    pub fn recv_batch(&self, max: usize) -> Result<Vec<Reading<Publication, T>>, RecvError> {
        Ok(self.subscriber.recv_batch(max)?.into_iter().map(read).collect())
    }

    /// Each message that comes, a value or an error, until the socket or its node is closed.
    pub fn iter(&self) -> TypedPublications<'_, T> {
        TypedPublications(self)
    }
}

impl<T> TypedSubscriber<T> {
    /// The same socket, for async code.
    pub fn into_async(self) -> typed::TypedSubscriber<T> {
        View::of(self.subscriber.into_async())
    }

    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Subscriber {
        self.subscriber
    }
}

impl<T> View for TypedSubscriber<T> {
    type Socket = socket::Subscriber;

    fn of(subscriber: socket::Subscriber) -> Self {
        Self { subscriber: subscriber.into(), of: PhantomData }
    }
}

impl<T> From<typed::TypedSubscriber<T>> for TypedSubscriber<T> {
    fn from(subscriber: typed::TypedSubscriber<T>) -> Self {
        Self::of(subscriber.into_untyped())
    }
}

impl<T> Deref for TypedSubscriber<T> {
    type Target = Subscriber;

    fn deref(&self) -> &Subscriber {
        &self.subscriber
    }
}

impl<T> fmt::Debug for TypedSubscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedSubscriber").field(&self.subscriber).finish()
    }
}

/// The values of a subscriber, and what is none: see [`TypedSubscriber::iter`]. Waits for each; ends when the socket or its
/// node is closed.
#[derive(Debug)]
pub struct TypedPublications<'a, T>(&'a TypedSubscriber<T>);

impl<T> Iterator for TypedPublications<'_, T>
where
    T: Typed + DeserializeOwned,
{
    type Item = Result<Received<Publication, T>, TypedRecvError<Publication>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.recv() {
            Err(TypedRecvError::Closed(_)) => None,
            other => Some(other),
        }
    }
}

impl<T> FusedIterator for TypedPublications<'_, T> where T: Typed + DeserializeOwned {}
