//! PUSH of values.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_sink::Sink;
use serde::Serialize;

use super::Typed;
use super::builder::{TypedBuilder, View, type_name};
use super::outgoing::{NewTyped, TypedSendError};
use crate::error::{HandleError, SendError, SendErrorKind};
use crate::id::Types;
use crate::message::NewMessage;
use crate::socket::{Handled, Permit, Push, PushBuilder, PushSink, Send};

impl PushBuilder {
    /// The socket carries values of this type instead of bytes, and meets only pull sockets of the same type, or without one.
    pub fn typed<T: Typed>(self) -> TypedBuilder<Self, TypedPush<T>> {
        TypedBuilder::new(self.types(Types { message: Some(type_name::<T>()), reply: None }))
    }
}

/// The pushing end of a channel, for values: a view of a [`Push`], to which it dereferences.
///
/// A clone is the same socket.
///
/// ```
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let push = node.push("numbers").bound(1, 100).typed::<u64>().await?;
/// push.send(21).await?;
/// // The bound is reached, and the value comes back.
/// let full = push.try_send(22).unwrap_err();
/// assert_eq!(full.into_value(), 22);
/// assert_eq!(push.metrics().accepted, 1);
/// # Ok(())
/// # }
/// ```
pub struct TypedPush<T> {
    push: Push,
    of: PhantomData<fn(T)>,
}

impl<T> TypedPush<T>
where
    T: Typed + Serialize,
{
    /// As [`Push::send`], for a value.
    ///
    /// # Errors
    /// As [`Push::send`], and [`Unencodable`](crate::TypedSendErrorKind::Unencodable); each gives the value back.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing was accepted, and the value is dropped with it.
    pub fn send(&self, message: impl Into<NewTyped<T>>) -> TypedSend<'_, T> {
        TypedSend(match message.into().encode() {
            Ok((value, message)) => State::Sends(value, self.push.send(message)),
            Err(error) => State::Unencodable(error),
        })
    }

    /// As [`Push::try_send`], for a value.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendErrorKind::Full`]; each gives the value back.
    pub fn try_send(&self, message: impl Into<NewTyped<T>>) -> Result<(), TypedSendError<NewTyped<T>>> {
        let (value, message) = message.into().encode()?;
        self.push.try_send(message).map_err(|refused| TypedSendError::of(refused, value))
    }

    /// As [`Push::send_timeout`], for a value.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_timeout(
        &self,
        message: impl Into<NewTyped<T>>,
        time: Duration,
    ) -> Result<(), TypedSendError<NewTyped<T>>> {
        let (value, message) = message.into().encode()?;
        self.push.send_timeout(message, time).await.map_err(|refused| TypedSendError::of(refused, value))
    }

    /// As [`Push::send_batch`], for values.
    ///
    /// # Errors
    /// As [`send`](Self::send), with the value that was not accepted; those before it were.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, some of the values were accepted and the others are dropped.
    pub async fn send_batch<M: Into<NewTyped<T>>>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<usize, TypedSendError<NewTyped<T>>> {
        let mut accepted = 0;
        for message in messages {
            self.send(message).await?;
            accepted += 1;
        }
        Ok(accepted)
    }

    /// As [`Push::reserve`]: room for one value of at most `bytes` bytes once it is encoded, its headers included.
    ///
    /// # Errors
    /// As [`Push::reserve`].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing is set aside.
    pub async fn reserve(&self, bytes: usize) -> Result<TypedPermit<'_, T>, SendErrorKind> {
        Ok(TypedPermit { permit: self.push.reserve(bytes).await?, of: PhantomData })
    }

    /// As [`Push::into_sink`], for values.
    pub fn into_sink(self) -> TypedPushSink<T> {
        TypedPushSink { sink: self.push.into_sink(), given: None, of: PhantomData }
    }
}

impl<T> TypedPush<T> {
    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Push {
        self.push
    }
}

impl<T> View for TypedPush<T> {
    type Socket = Push;

    fn of(push: Push) -> Self {
        Self { push, of: PhantomData }
    }
}

impl<T> Deref for TypedPush<T> {
    type Target = Push;

    fn deref(&self) -> &Push {
        &self.push
    }
}

impl<T> Clone for TypedPush<T> {
    fn clone(&self) -> Self {
        Self { push: self.push.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for TypedPush<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedPush").field(&self.push).finish()
    }
}

/// A value on its way into the socket: see [`TypedPush::send`].
#[must_use = "nothing is sent until it is awaited"]
pub struct TypedSend<'a, T>(State<'a, T>);

enum State<'a, T> {
    /// The value is kept to be given back.
    Sends(T, Send<'a>),
    Unencodable(TypedSendError<NewTyped<T>>),
    Over,
}

impl<'a, T> TypedSend<'a, T> {
    /// As [`Send::handled`].
    ///
    /// # Errors
    /// [`HandleError`] says what became of the value instead.
    ///
    /// # Cancel safety
    /// Dropped before the value was accepted, it is dropped with it; afterwards it will still be delivered.
    pub fn handled(self) -> Handled<'a> {
        match self.0 {
            State::Sends(_, send) => send.handled(),
            State::Unencodable(error) => Handled::failed(HandleError::Unencodable(error.to_string())),
            State::Over => panic!("polled before"),
        }
    }
}

// Nothing in it is pinned.
impl<T> Unpin for TypedSend<'_, T> {}

impl<T> Future for TypedSend<'_, T> {
    type Output = Result<(), TypedSendError<NewTyped<T>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let sent = match &mut self.0 {
            State::Sends(_, send) => ready!(Pin::new(send).poll(cx)),
            State::Unencodable(_) => Ok(()),
            State::Over => panic!("polled after it was ready"),
        };
        Poll::Ready(match (std::mem::replace(&mut self.0, State::Over), sent) {
            (State::Sends(value, _), Err(refused)) => Err(TypedSendError::of(refused, value)),
            (State::Unencodable(error), _) => Err(error),
            _ => Ok(()),
        })
    }
}

impl<T> fmt::Debug for TypedSend<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedSend")
    }
}

/// Room that was set aside: see [`TypedPush::reserve`]. Dropped, the room is free again.
pub struct TypedPermit<'a, T> {
    permit: Permit<'a>,
    of: PhantomData<fn(T)>,
}

impl<T> TypedPermit<'_, T>
where
    T: Typed + Serialize,
{
    /// As [`Permit::send`], for a value.
    ///
    /// # Errors
    /// As [`Permit::send`], and [`Unencodable`](crate::TypedSendErrorKind::Unencodable). The value is given back, and the room is free again.
    pub fn send(self, message: impl Into<NewTyped<T>>) -> Result<(), TypedSendError<NewTyped<T>>> {
        let (value, message) = message.into().encode()?;
        self.permit.send(message).map_err(|refused| TypedSendError::of(refused, value))
    }
}

impl<'a, T> TypedPermit<'a, T> {
    /// Of room that the socket has set aside.
    pub(crate) fn of(permit: Permit<'a>) -> Self {
        Self { permit, of: PhantomData }
    }
}

impl<T> fmt::Debug for TypedPermit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedPermit").field(&self.permit).finish()
    }
}

/// A push socket as a [`Sink`] of values: see [`TypedPush::into_sink`]. What [`PushSink`] says of itself holds for it.
///
/// # Cancel safety
/// As that of [`PushSink`].
pub struct TypedPushSink<T> {
    sink: PushSink,
    /// The last value, as long as the sink may hold it.
    given: Option<T>,
    of: PhantomData<fn(T)>,
}

impl<T> TypedPushSink<T> {
    /// What the sink says of the last value; once it is accepted, nobody needs it here any more.
    fn conclude(&mut self, said: Result<(), SendError<Option<NewMessage>>>) -> Result<(), TypedSendError<Option<T>>> {
        let given = self.given.take();
        said.map_err(|SendError { kind, message }| TypedSendError { kind: kind.into(), message: message.and(given) })
    }
}

// The value in it is only kept to be given back.
impl<T> Unpin for TypedPushSink<T> {}

impl<T> Sink<T> for TypedPushSink<T>
where
    T: Typed + Serialize,
{
    /// Why, and the value that it was about, where it was about one.
    type Error = TypedSendError<Option<T>>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let ready = ready!(Pin::new(&mut self.sink).poll_ready(cx));
        Poll::Ready(self.conclude(ready))
    }

    fn start_send(mut self: Pin<&mut Self>, value: T) -> Result<(), Self::Error> {
        let (value, message) = NewTyped::new(value)
            .encode()
            .map_err(|TypedSendError { kind, message }| TypedSendError { kind, message: Some(message.value) })?;
        let started = Pin::new(&mut self.sink).start_send(message);
        self.given = Some(value);
        if started.is_err() { self.conclude(started) } else { Ok(()) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let flushed = ready!(Pin::new(&mut self.sink).poll_flush(cx));
        Poll::Ready(self.conclude(flushed))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let closed = ready!(Pin::new(&mut self.sink).poll_close(cx));
        Poll::Ready(self.conclude(closed))
    }
}

impl<T> fmt::Debug for TypedPushSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedPushSink").field(&self.sink).finish()
    }
}
