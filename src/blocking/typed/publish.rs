//! PUBLISHER of values, for threads.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::Serialize;

use super::TypedBuilder;
use crate::blocking::{Publisher, PublisherBuilder};
use crate::socket;
use crate::typed::{self, NewTyped, Typed, TypedSendError, View};

impl PublisherBuilder {
    /// As [`typed`](crate::PublisherBuilder::typed).
    pub fn typed<T: Typed>(self) -> TypedBuilder<socket::PublisherBuilder, TypedPublisher<T>> {
        TypedBuilder(self.0.typed::<T>().viewed())
    }
}

/// The publishing end of a channel, for values and for threads: [`meshmq::TypedPublisher`](crate::TypedPublisher) without
/// `.await`. It dereferences to a [`Publisher`].
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let ticks = node.publisher("ticks").retain_last(1).typed::<f64>().open()?;
/// ticks.publish("eu.dax", 18_412.5)?;
/// let sub = node.subscriber("ticks").typed::<f64>().open()?;
/// assert_eq!(*sub.recv()?, 18_412.5);
/// # Ok(())
/// # }
/// ```
pub struct TypedPublisher<T> {
    publisher: Publisher,
    of: PhantomData<fn(T)>,
}

impl<T> TypedPublisher<T>
where
    T: Typed + Serialize,
{
    /// As [`Publisher::publish`], for a value.
    ///
    /// # Errors
    /// As [`meshmq::TypedPublisher::publish`](crate::TypedPublisher::publish); each gives the value back.
    pub fn publish(
        &self,
        topic: impl AsRef<str>,
        message: impl Into<NewTyped<T>>,
    ) -> Result<(), TypedSendError<NewTyped<T>>> {
        let (value, message) = message.into().encode()?;
        self.publisher.publish(topic, message).map_err(|refused| TypedSendError::of(refused, value))
    }

    /// As [`Publisher::try_publish`], for a value.
    ///
    /// # Errors
    /// As [`meshmq::TypedPublisher::try_publish`](crate::TypedPublisher::try_publish); each gives the value back.
    pub fn try_publish(
        &self,
        topic: impl AsRef<str>,
        message: impl Into<NewTyped<T>>,
    ) -> Result<(), TypedSendError<NewTyped<T>>> {
        let (value, message) = message.into().encode()?;
        self.publisher.try_publish(topic, message).map_err(|refused| TypedSendError::of(refused, value))
    }

    /// As [`Publisher::publish_batch`], for values.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), with the value that was not published; those before it were.
    pub fn publish_batch<K: AsRef<str>, M: Into<NewTyped<T>>>(
        &self,
        messages: impl IntoIterator<Item = (K, M)>,
    ) -> Result<usize, TypedSendError<NewTyped<T>>> {
        let mut published = 0;
        for (topic, message) in messages {
            self.publish(topic, message)?;
            published += 1;
        }
        Ok(published)
    }
}

impl<T> TypedPublisher<T> {
    /// The same socket, for async code.
    pub fn into_async(self) -> typed::TypedPublisher<T> {
        View::of(self.publisher.into_async())
    }

    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Publisher {
        self.publisher
    }
}

impl<T> View for TypedPublisher<T> {
    type Socket = socket::Publisher;

    fn of(publisher: socket::Publisher) -> Self {
        Self { publisher: publisher.into(), of: PhantomData }
    }
}

impl<T> From<typed::TypedPublisher<T>> for TypedPublisher<T> {
    fn from(publisher: typed::TypedPublisher<T>) -> Self {
        Self::of(publisher.into_untyped())
    }
}

impl<T> Deref for TypedPublisher<T> {
    type Target = Publisher;

    fn deref(&self) -> &Publisher {
        &self.publisher
    }
}

impl<T> Clone for TypedPublisher<T> {
    fn clone(&self) -> Self {
        Self { publisher: self.publisher.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for TypedPublisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedPublisher").field(&self.publisher).finish()
    }
}
