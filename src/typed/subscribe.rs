//! SUBSCRIBER to values.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::de::DeserializeOwned;

use super::Typed;
use super::builder::{TypedBuilder, View, type_name};
use super::received::{Reading, Received, TypedRecvError, read};
use crate::error::RecvError;
use crate::id::Types;
use crate::message::Publication;
use crate::socket::{Subscriber, SubscriberBuilder};

impl SubscriberBuilder {
    /// The socket takes values of this type instead of bytes, whatever their topics, and meets only publishers of the same
    /// type, or without one.
    pub fn typed<T: Typed>(self) -> TypedBuilder<Self, TypedSubscriber<T>> {
        TypedBuilder::new(self.types(Types { message: Some(type_name::<T>()), reply: None }))
    }
}

/// The subscribing end of a channel, for values: a view of a [`Subscriber`], to which it dereferences.
///
/// It is also a [`Stream`] of values, and of errors: what is no value of the type, and what a `strict` one has missed. It ends
/// when the socket or its node is closed.
///
/// # Cancel safety
/// As that of [`Subscriber`].
///
/// ```
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let words = node.subscriber("words").typed::<String>().await?;
/// let publisher = node.publisher("words").typed::<String>().await?;
/// publisher.wait_for_subscribers(1).await?;
/// publisher.publish("en.greeting", "hello".to_owned()).await?;
/// assert_eq!(*words.recv().await?, "hello");
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
    /// As [`Subscriber::recv`]; or what came is no value of the type, and is in the error.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no message is taken.
    pub async fn recv(&self) -> Result<Received<Publication, T>, TypedRecvError<Publication>> {
        Ok(read(self.subscriber.recv().await?)?)
    }

    /// The next value, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Received<Publication, T>>, TypedRecvError<Publication>> {
        Ok(self.subscriber.try_recv()?.map(read).transpose()?)
    }

    /// Waits for a message, and takes with it what else is here, up to `max` (at least 1): each of them a value, or not.
    ///
    /// # Errors
    /// As [`Subscriber::recv_batch`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no message is taken.
    pub async fn recv_batch(&self, max: usize) -> Result<Vec<Reading<Publication, T>>, RecvError> {
        Ok(self.subscriber.recv_batch(max).await?.into_iter().map(read).collect())
    }
}

impl<T> TypedSubscriber<T> {
    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Subscriber {
        self.subscriber
    }
}

impl<T> View for TypedSubscriber<T> {
    type Socket = Subscriber;

    fn of(subscriber: Subscriber) -> Self {
        Self { subscriber, of: PhantomData }
    }
}

impl<T> Deref for TypedSubscriber<T> {
    type Target = Subscriber;

    fn deref(&self) -> &Subscriber {
        &self.subscriber
    }
}

impl<T> Stream for TypedSubscriber<T>
where
    T: Typed + DeserializeOwned,
{
    type Item = Result<Received<Publication, T>, TypedRecvError<Publication>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.subscriber).poll_next(cx);
        next.map(|next| next.map(|next| Ok(read(next.map_err(TypedRecvError::Missed)?)?)))
    }
}

impl<T> fmt::Debug for TypedSubscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedSubscriber").field(&self.subscriber).finish()
    }
}
