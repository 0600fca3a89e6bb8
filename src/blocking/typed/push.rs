//! PUSH of values, for threads.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use serde::Serialize;

use super::TypedBuilder;
use crate::blocking::{Push, PushBuilder};
use crate::error::{HandleError, SendErrorKind};
use crate::socket;
use crate::typed::{self, NewTyped, Typed, TypedPermit, TypedSendError, View};

impl PushBuilder {
    /// As [`typed`](crate::PushBuilder::typed).
    pub fn typed<T: Typed>(self) -> TypedBuilder<socket::PushBuilder, TypedPush<T>> {
        TypedBuilder(self.0.typed::<T>().viewed())
    }
}

/// The pushing end of a channel, for values and for threads: [`meshmq::TypedPush`](crate::TypedPush) without `.await`. It
/// dereferences to a [`Push`].
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let push = node.push("words").typed::<String>().open()?;
/// let pull = node.pull("words").typed::<String>().open()?;
/// push.send("hello".to_owned())?;
/// assert_eq!(pull.recv()?.ack_into_value(), "hello");
/// push.flush()?;
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
    /// As [`meshmq::TypedPush::send`](crate::TypedPush::send); each gives the value back.
    pub fn send(&self, message: impl Into<NewTyped<T>>) -> Result<(), TypedSendError<NewTyped<T>>> {
        let (value, message) = message.into().encode()?;
        self.push.send(message).map_err(|refused| TypedSendError::of(refused, value))
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
    pub fn send_timeout(
        &self,
        message: impl Into<NewTyped<T>>,
        time: Duration,
    ) -> Result<(), TypedSendError<NewTyped<T>>> {
        let (value, message) = message.into().encode()?;
        self.push.send_timeout(message, time).map_err(|refused| TypedSendError::of(refused, value))
    }

    /// As [`Push::send_handled`], for a value.
    ///
    /// # Errors
    /// [`HandleError`] says what became of the value instead.
    pub fn send_handled(&self, message: impl Into<NewTyped<T>>) -> Result<(), HandleError> {
        let encoded = message.into().encode();
        let (_, message) = encoded.map_err(|error| HandleError::Unencodable(error.to_string()))?;
        self.push.send_handled(message)
    }

    /// As [`Push::send_batch`], for values.
    ///
    /// # Errors
    /// As [`send`](Self::send), with the value that was not accepted; those before it were.
    pub fn send_batch<M: Into<NewTyped<T>>>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<usize, TypedSendError<NewTyped<T>>> {
        let mut accepted = 0;
        for message in messages {
            self.send(message)?;
            accepted += 1;
        }
        Ok(accepted)
    }

    /// As [`Push::reserve`]: room for one value of at most `bytes` bytes once it is encoded, its headers included.
    ///
    /// # Errors
    /// As [`Push::reserve`].
    pub fn reserve(&self, bytes: usize) -> Result<TypedPermit<'_, T>, SendErrorKind> {
        self.push.reserve(bytes).map(TypedPermit::of)
    }
}

impl<T> TypedPush<T> {
    /// The same socket, for async code.
    pub fn into_async(self) -> typed::TypedPush<T> {
        View::of(self.push.into_async())
    }

    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Push {
        self.push
    }
}

impl<T> View for TypedPush<T> {
    type Socket = socket::Push;

    fn of(push: socket::Push) -> Self {
        Self { push: push.into(), of: PhantomData }
    }
}

impl<T> From<typed::TypedPush<T>> for TypedPush<T> {
    fn from(push: typed::TypedPush<T>) -> Self {
        Self::of(push.into_untyped())
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
