//! REPLIER of values, for threads.

use std::fmt;
use std::future::ready;
use std::io;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TypedBuilder;
use crate::blocking::{Replier, ReplierBuilder};
use crate::env::{block_on, on_threads};
use crate::message::Message;
use crate::socket::{self, Request};
use crate::typed::{
    self, NewTyped, Received, Typed, TypedRecvError, TypedRequest, Undecodable, View, answered, read, undecodable,
};

impl ReplierBuilder {
    /// As [`typed`](crate::ReplierBuilder::typed).
    pub fn typed<Q: Typed, R: Typed>(self) -> TypedBuilder<socket::ReplierBuilder, TypedReplier<Q, R>> {
        TypedBuilder(self.0.typed::<Q, R>().viewed())
    }
}

/// The answering end of a channel, for values and for threads: [`meshmq::TypedReplier`](crate::TypedReplier) without
/// `.await`. It dereferences to a [`Replier`].
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let replier = node.replier("half").typed::<u64, u64>().open()?;
/// let requester = node.requester("half").typed::<u64, u64>().open()?;
/// std::thread::scope(|scope| {
///     let asking = scope.spawn(|| requester.request(42).send());
///     let request = replier.recv()?;
///     let half = **request / 2;
///     request.reply(half)?;
///     assert_eq!(*asking.join().expect("it does not panic")?, 21);
///     Ok(())
/// })
/// # }
/// ```
pub struct TypedReplier<Q, R> {
    replier: Replier,
    of: PhantomData<fn(Q) -> R>,
}

impl<Q, R> TypedReplier<Q, R>
where
    Q: Typed + DeserializeOwned,
    R: Typed + Serialize,
{
    /// Waits for the next request.
    ///
    /// # Errors
    /// As [`meshmq::TypedReplier::recv`](crate::TypedReplier::recv).
    pub fn recv(&self) -> Result<TypedRequest<Q, R>, TypedRecvError<Request>> {
        Ok(TypedRequest::of(self.replier.recv()?)?)
    }

    /// The next request, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<TypedRequest<Q, R>>, TypedRecvError<Request>> {
        Ok(self.replier.try_recv()?.map(TypedRequest::of).transpose()?)
    }

    /// Waits for the next request, but no longer than `time`. `None`: none has come.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, time: Duration) -> Result<Option<TypedRequest<Q, R>>, TypedRecvError<Request>> {
        Ok(self.replier.recv_timeout(time)?.map(TypedRequest::of).transpose()?)
    }

    /// Each request that comes, of a value or not, until the socket or its node is closed.
    pub fn iter(&self) -> TypedRequests<'_, Q, R> {
        TypedRequests(self)
    }

    /// As [`Replier::serve`], with the value and the message that it came in; what
    /// [`meshmq::TypedReplier::serve`](crate::TypedReplier::serve) says of values holds here.
    ///
    /// # Errors
    /// The operating system gives no thread; no request was taken.
    pub fn serve<T: Into<NewTyped<R>>, E: fmt::Display + 'static>(
        &self,
        threads: usize,
        handler: impl Fn(Received<Message, Q>) -> Result<T, E> + Sync,
    ) -> io::Result<()> {
        on_threads(threads, || {
            let answer = |message| {
                ready(match read(message) {
                    Ok(request) => answered(handler(request)),
                    Err(wrong) => Err(undecodable(&wrong)),
                })
            };
            // It ends with the socket and has no errors of its own.
            let _ = block_on(self.replier.as_async().serve(1, answer));
        })
    }
}

impl<Q, R> TypedReplier<Q, R> {
    /// The same socket, for async code.
    pub fn into_async(self) -> typed::TypedReplier<Q, R> {
        View::of(self.replier.into_async())
    }

    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Replier {
        self.replier
    }
}

impl<Q, R> View for TypedReplier<Q, R> {
    type Socket = socket::Replier;

    fn of(replier: socket::Replier) -> Self {
        Self { replier: replier.into(), of: PhantomData }
    }
}

impl<Q, R> From<typed::TypedReplier<Q, R>> for TypedReplier<Q, R> {
    fn from(replier: typed::TypedReplier<Q, R>) -> Self {
        Self::of(replier.into_untyped())
    }
}

impl<Q, R> Deref for TypedReplier<Q, R> {
    type Target = Replier;

    fn deref(&self) -> &Replier {
        &self.replier
    }
}

impl<Q, R> fmt::Debug for TypedReplier<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReplier").field(&self.replier).finish()
    }
}

/// The requests of a replier, of a value or not: see [`TypedReplier::iter`]. Waits for each; ends when the socket or its node
/// is closed.
#[derive(Debug)]
pub struct TypedRequests<'a, Q, R>(&'a TypedReplier<Q, R>);

impl<Q, R> Iterator for TypedRequests<'_, Q, R>
where
    Q: Typed + DeserializeOwned,
{
    type Item = Result<TypedRequest<Q, R>, Undecodable<Request>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.replier.recv().ok().map(TypedRequest::of)
    }
}

impl<Q, R> FusedIterator for TypedRequests<'_, Q, R> where Q: Typed + DeserializeOwned {}
