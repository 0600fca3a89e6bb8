//! PUBLISHER of values.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use serde::Serialize;

use super::Typed;
use super::builder::{TypedBuilder, View, type_name};
use super::outgoing::{NewTyped, TypedSendError};
use crate::error::SendError;
use crate::id::Types;
use crate::message::NewMessage;
use crate::socket::{Publish, Publisher, PublisherBuilder, PublisherSink};

impl PublisherBuilder {
    /// The socket carries values of this type instead of bytes, whatever their topics, and meets only subscribers of the same
    /// type, or without one.
    pub fn typed<T: Typed>(self) -> TypedBuilder<Self, TypedPublisher<T>> {
        TypedBuilder::new(self.types(Types { message: Some(type_name::<T>()), reply: None }))
    }
}

/// The publishing end of a channel, for values: a view of a [`Publisher`], to which it dereferences.
///
/// A clone is the same socket.
///
/// ```
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let ticks = node.publisher("ticks").retain_last(1).typed::<f64>().await?;
/// ticks.publish("eu.dax", 18_412.5).await?;
/// let sub = node.subscriber("ticks").topic("eu.>").typed::<f64>().await?;
/// let tick = sub.recv().await?;
/// assert_eq!((tick.raw().topic(), *tick), ("eu.dax", 18_412.5));
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
    /// As [`Publisher::publish`], and [`Unencodable`](crate::TypedSendErrorKind::Unencodable); each gives the value back.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nobody was handed the value.
    pub fn publish<K: AsRef<str>>(&self, topic: K, message: impl Into<NewTyped<T>>) -> TypedPublish<'_, K, T> {
        TypedPublish(match message.into().encode() {
            Ok((value, message)) => State::Publishes(value, self.publisher.publish(topic, message)),
            Err(error) => State::Unencodable(error),
        })
    }

    /// As [`Publisher::try_publish`], for a value.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and as [`Publisher::try_publish`]; each gives the value back.
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
    ///
    /// # Cancel safety
    /// Dropped before it is ready, some of the values were published and the others are dropped.
    pub async fn publish_batch<K: AsRef<str>, M: Into<NewTyped<T>>>(
        &self,
        messages: impl IntoIterator<Item = (K, M)>,
    ) -> Result<usize, TypedSendError<NewTyped<T>>> {
        let mut published = 0;
        for (topic, message) in messages {
            self.publish(topic, message).await?;
            published += 1;
        }
        Ok(published)
    }

    /// As [`Publisher::into_sink`], for values.
    pub fn into_sink(self) -> TypedPublisherSink<T> {
        TypedPublisherSink { sink: self.publisher.into_sink(), given: None }
    }
}

impl<T> TypedPublisher<T> {
    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Publisher {
        self.publisher
    }
}

impl<T> View for TypedPublisher<T> {
    type Socket = Publisher;

    fn of(publisher: Publisher) -> Self {
        Self { publisher, of: PhantomData }
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

/// A value that is being published: see [`TypedPublisher::publish`].
#[must_use = "nothing is published until it is awaited"]
pub struct TypedPublish<'a, K, T>(State<'a, K, T>);

enum State<'a, K, T> {
    /// The value is kept to be given back.
    Publishes(T, Publish<'a, K>),
    Unencodable(TypedSendError<NewTyped<T>>),
    Over,
}

// Nothing in it is pinned.
impl<K, T> Unpin for TypedPublish<'_, K, T> {}

impl<K, T> Future for TypedPublish<'_, K, T>
where
    K: AsRef<str>,
{
    type Output = Result<(), TypedSendError<NewTyped<T>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let published = match &mut self.0 {
            State::Publishes(_, publish) => ready!(Pin::new(publish).poll(cx)),
            State::Unencodable(_) => Ok(()),
            State::Over => panic!("polled after it was ready"),
        };
        Poll::Ready(match (std::mem::replace(&mut self.0, State::Over), published) {
            (State::Publishes(value, _), Err(refused)) => Err(TypedSendError::of(refused, value)),
            (State::Unencodable(error), _) => Err(error),
            _ => Ok(()),
        })
    }
}

impl<K, T> fmt::Debug for TypedPublish<'_, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedPublish")
    }
}

/// A publisher as a [`Sink`] of topics and values: see [`TypedPublisher::into_sink`]. What [`PublisherSink`] says of itself
/// holds for it.
///
/// # Cancel safety
/// As that of [`PublisherSink`].
pub struct TypedPublisherSink<T> {
    sink: PublisherSink,
    /// The last value, as long as the sink may hold it.
    given: Option<T>,
}

/// What the sink says of the last value, and the value where it is refused.
type Said<T> = Result<(), TypedSendError<Option<T>>>;

impl<T> TypedPublisherSink<T> {
    /// Once the last value is published, nobody needs it here any more.
    fn conclude(&mut self, said: Result<(), SendError<Option<NewMessage>>>) -> Said<T> {
        let given = self.given.take();
        said.map_err(|SendError { kind, message }| TypedSendError { kind: kind.into(), message: message.and(given) })
    }

    fn sink(&mut self) -> Pin<&mut impl Sink<(String, NewMessage), Error = SendError<Option<NewMessage>>>> {
        Pin::new(&mut self.sink)
    }
}

// The value in it is only kept to be given back.
impl<T> Unpin for TypedPublisherSink<T> {}

impl<K, T> Sink<(K, T)> for TypedPublisherSink<T>
where
    K: Into<String>,
    T: Typed + Serialize,
{
    /// Why, and the value that it was about, where it was about one.
    type Error = TypedSendError<Option<T>>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Said<T>> {
        let ready = ready!(self.sink().poll_ready(cx));
        Poll::Ready(self.conclude(ready))
    }

    fn start_send(mut self: Pin<&mut Self>, (topic, value): (K, T)) -> Said<T> {
        let refused = |error: TypedSendError<NewTyped<T>>| TypedSendError {
            kind: error.kind,
            message: Some(error.message.value),
        };
        let (value, message) = NewTyped::new(value).encode().map_err(refused)?;
        let started = self.sink().start_send((topic.into(), message));
        self.given = Some(value);
        if started.is_err() { self.conclude(started) } else { Ok(()) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Said<T>> {
        let flushed = ready!(self.sink().poll_flush(cx));
        Poll::Ready(self.conclude(flushed))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Said<T>> {
        let closed = ready!(self.sink().poll_close(cx));
        Poll::Ready(self.conclude(closed))
    }
}

impl<T> fmt::Debug for TypedPublisherSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedPublisherSink").field(&self.sink).finish()
    }
}
