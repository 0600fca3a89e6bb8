//! PULL of values.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::de::DeserializeOwned;

use super::Typed;
use super::builder::{TypedBuilder, View, type_name};
use super::received::{Reading, Received, TypedDelivery, TypedRecvError, read};
use crate::error::Closed;
use crate::id::Types;
use crate::message::{Delivery, Message};
use crate::socket::{Pull, PullBuilder};

impl PullBuilder {
    /// The socket takes values of this type instead of bytes, and meets only push sockets of the same type, or without one.
    pub fn typed<T: Typed>(self) -> TypedBuilder<Self, TypedPull<T>> {
        TypedBuilder::new(self.types(Types { message: Some(type_name::<T>()), reply: None }))
    }
}

/// The pulling end of a channel, for values: a view of a [`Pull`], to which it dereferences.
///
/// It is also a [`Stream`] of values and of what is none, which ends when the socket or its node is closed.
///
/// # Cancel safety
/// As that of [`Pull`].
///
/// ```
/// use meshmq::{Node, TypedRecvError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let numbers = node.pull("numbers").typed::<u64>().await?;
/// let untyped = node.push("numbers").await?; // meets anybody, and may send anything
/// untyped.send("no number").await?;
/// untyped.send(vec![42]).await?;
/// loop {
///     match numbers.recv().await {
///         Ok(number) => {
///             println!("{}", *number + 1);
///             number.ack();
///             break;
///         }
///         Err(TypedRecvError::Undecodable(wrong)) => wrong.reject(), // or look into `wrong.raw`
///         Err(_) => break,
///     }
/// }
/// untyped.flush().await?;
/// assert_eq!(untyped.metrics().rejected, 1);
/// # Ok(())
/// # }
/// ```
pub struct TypedPull<T> {
    pull: Pull,
    of: PhantomData<fn() -> T>,
}

impl<T> TypedPull<T>
where
    T: Typed + DeserializeOwned,
{
    /// Waits for the next value.
    ///
    /// # Errors
    /// The socket or its node is closed; or what came is no value of the type, and waits in the error for an answer.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no message is taken.
    pub async fn recv(&self) -> Result<TypedDelivery<T>, TypedRecvError<Delivery>> {
        Ok(read(self.pull.recv().await?)?)
    }

    /// The next value, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<TypedDelivery<T>>, TypedRecvError<Delivery>> {
        let Some(delivery) = self.pull.try_recv()? else { return Ok(None) };
        Ok(Some(read(delivery)?))
    }

    /// Waits for a message, and takes with it what else is here, up to `max` (at least 1): each of them a value, or not.
    ///
    /// # Errors
    /// The socket or its node is closed.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no message is taken.
    pub async fn recv_batch(&self, max: usize) -> Result<Vec<Reading<Delivery, T>>, Closed> {
        Ok(self.pull.recv_batch(max).await?.into_iter().map(read).collect())
    }

    /// As [`Pull::serve`], with the value and the message that it came in. What is no value of the type never reaches the
    /// handler: it is rejected, with a reason that says what was expected and what is wrong, and logged as a warning.
    ///
    /// # Errors
    /// None of its own; a handler's error is logged at `debug`.
    ///
    /// # Cancel safety
    /// Dropped, it drops the handlers that run; their messages go back.
    pub async fn serve<F, R, E>(&self, concurrency: usize, mut handler: F) -> Result<(), Closed>
    where
        F: FnMut(Received<Message, T>) -> R,
        R: Future<Output = Result<(), E>>,
        E: fmt::Display,
    {
        let read_first = |message| Ok(handler(read(message).map_err(|wrong| wrong.to_string())?));
        self.pull.serve_or_reject(concurrency, read_first).await
    }
}

impl<T> TypedPull<T> {
    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Pull {
        self.pull
    }
}

impl<T> View for TypedPull<T> {
    type Socket = Pull;

    fn of(pull: Pull) -> Self {
        Self { pull, of: PhantomData }
    }
}

impl<T> Deref for TypedPull<T> {
    type Target = Pull;

    fn deref(&self) -> &Pull {
        &self.pull
    }
}

impl<T> Stream for TypedPull<T>
where
    T: Typed + DeserializeOwned,
{
    type Item = Reading<Delivery, T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.pull).poll_next(cx).map(|next| next.map(read))
    }
}

impl<T> fmt::Debug for TypedPull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedPull").field(&self.pull).finish()
    }
}
