//! PULL of values, for threads.

use std::fmt;
use std::future::ready;
use std::io;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::TypedBuilder;
use crate::blocking::{Pull, PullBuilder};
use crate::env::{block_on, on_threads};
use crate::error::Closed;
use crate::message::{Delivery, Message};
use crate::socket;
use crate::typed::{self, Reading, Received, Typed, TypedDelivery, TypedRecvError, View, read};

impl PullBuilder {
    /// As [`typed`](crate::PullBuilder::typed).
    pub fn typed<T: Typed>(self) -> TypedBuilder<socket::PullBuilder, TypedPull<T>> {
        TypedBuilder(self.0.typed::<T>().viewed())
    }
}

/// The pulling end of a channel, for values and for threads: [`meshmq::TypedPull`](crate::TypedPull) without `.await`. It
/// dereferences to a [`Pull`].
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let push = node.push("numbers").typed::<u64>().open()?;
/// let pull = node.pull("numbers").prefetch(2).typed::<u64>().open()?;
/// push.send_batch([1, 2, 3])?;
/// let sum: u64 = pull.iter().take(3).filter_map(|number| Some(number.ok()?.ack_into_value())).sum();
/// assert_eq!(sum, 6);
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
    /// As [`meshmq::TypedPull::recv`](crate::TypedPull::recv).
    pub fn recv(&self) -> Result<TypedDelivery<T>, TypedRecvError<Delivery>> {
        Ok(read(self.pull.recv()?)?)
    }

    /// The next value, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<TypedDelivery<T>>, TypedRecvError<Delivery>> {
        Ok(self.pull.try_recv()?.map(read).transpose()?)
    }

    /// Waits for the next value, but no longer than `time`. `None`: none has come.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, time: Duration) -> Result<Option<TypedDelivery<T>>, TypedRecvError<Delivery>> {
        Ok(self.pull.recv_timeout(time)?.map(read).transpose()?)
    }

    /// Waits for a message, and takes with it what else is here, up to `max` (at least 1): each of them a value, or not.
    ///
    /// # Errors
    /// The socket or its node is closed.
    pub fn recv_batch(&self, max: usize) -> Result<Vec<Reading<Delivery, T>>, Closed> {
        Ok(self.pull.recv_batch(max)?.into_iter().map(read).collect())
    }

    /// Each message that comes, a value or not, until the socket or its node is closed.
    pub fn iter(&self) -> TypedIter<'_, T> {
        TypedIter(self)
    }

    /// As [`Pull::serve`], with the value and the message that it came in. What is no value of the type never reaches the
    /// handler: it is rejected, with a reason that says what was expected and what is wrong, and logged as a warning.
    ///
    /// # Errors
    /// The operating system gives no thread; no message was taken.
    pub fn serve<E: fmt::Display>(
        &self,
        threads: usize,
        handler: impl Fn(Received<Message, T>) -> Result<(), E> + Sync,
    ) -> io::Result<()> {
        on_threads(threads, || {
            let read_first = |message| Ok(ready(handler(read(message).map_err(|wrong| wrong.to_string())?)));
            // It ends with the socket and has no errors of its own.
            let _ = block_on(self.pull.as_async().serve_or_reject(1, read_first));
        })
    }
}

impl<T> TypedPull<T> {
    /// The same socket, for async code.
    pub fn into_async(self) -> typed::TypedPull<T> {
        View::of(self.pull.into_async())
    }

    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Pull {
        self.pull
    }
}

impl<T> View for TypedPull<T> {
    type Socket = socket::Pull;

    fn of(pull: socket::Pull) -> Self {
        Self { pull: pull.into(), of: PhantomData }
    }
}

impl<T> From<typed::TypedPull<T>> for TypedPull<T> {
    fn from(pull: typed::TypedPull<T>) -> Self {
        Self::of(pull.into_untyped())
    }
}

impl<T> Deref for TypedPull<T> {
    type Target = Pull;

    fn deref(&self) -> &Pull {
        &self.pull
    }
}

impl<T> fmt::Debug for TypedPull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedPull").field(&self.pull).finish()
    }
}

/// The values of a pull socket, and what is none: see [`TypedPull::iter`]. Waits for each; ends when the socket or its node
/// is closed.
#[derive(Debug)]
pub struct TypedIter<'a, T>(&'a TypedPull<T>);

impl<T> Iterator for TypedIter<'_, T>
where
    T: Typed + DeserializeOwned,
{
    type Item = Reading<Delivery, T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.pull.recv().ok().map(read)
    }
}

impl<T> FusedIterator for TypedIter<'_, T> where T: Typed + DeserializeOwned {}
