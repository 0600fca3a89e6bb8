//! REQUESTER of values, for threads.

use std::fmt;
use std::future::IntoFuture;
use std::iter::FusedIterator;
use std::ops::Deref;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TypedBuilder;
use crate::blocking::{Requester, RequesterBuilder};
use crate::env::block_on;
use crate::id::NodeId;
use crate::socket::{self, Missing, Reply};
use crate::typed::{self, NewTyped, Reading, Received, Typed, TypedRequestError, View};

impl RequesterBuilder {
    /// As [`typed`](crate::RequesterBuilder::typed).
    pub fn typed<Q: Typed, R: Typed>(self) -> TypedBuilder<socket::RequesterBuilder, TypedRequester<Q, R>> {
        TypedBuilder(self.0.typed::<Q, R>().viewed())
    }
}

/// The asking end of a channel, for values and for threads: [`meshmq::TypedRequester`](crate::TypedRequester) without
/// `.await`. It dereferences to a [`Requester`].
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let length = node.requester("length").typed::<String, u64>().open()?;
/// let replier = node.replier("length").typed::<String, u64>().open()?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| replier.serve(2, |text| Ok::<_, String>(text.len() as u64)));
///     assert_eq!(*length.request("hello".to_owned()).send()?, 5);
///     replier.close();
///     Ok(())
/// })
/// # }
/// ```
pub struct TypedRequester<Q, R> {
    requester: Requester,
    typed: typed::TypedRequester<Q, R>,
}

impl<Q, R> TypedRequester<Q, R>
where
    Q: Typed + Serialize,
    R: Typed + DeserializeOwned,
{
    /// A request, which [`send`](TypedAsk::send) sends.
    pub fn request(&self, message: impl Into<NewTyped<Q>>) -> TypedAsk<Q, R> {
        TypedAsk(self.typed.request(message))
    }

    /// The same request to every replier that there is, which [`send`](TypedAskAll::send) sends.
    pub fn request_all(&self, message: impl Into<NewTyped<Q>>) -> TypedAskAll<Q, R> {
        TypedAskAll(self.typed.request_all(message))
    }
}

impl<Q, R> TypedRequester<Q, R> {
    /// The same socket, for async code.
    pub fn into_async(self) -> typed::TypedRequester<Q, R> {
        self.typed
    }

    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Requester {
        self.requester
    }
}

impl<Q, R> View for TypedRequester<Q, R> {
    type Socket = socket::Requester;

    fn of(requester: socket::Requester) -> Self {
        Self { requester: requester.clone().into(), typed: View::of(requester) }
    }
}

impl<Q, R> From<typed::TypedRequester<Q, R>> for TypedRequester<Q, R> {
    fn from(requester: typed::TypedRequester<Q, R>) -> Self {
        Self::of(requester.into_untyped())
    }
}

impl<Q, R> Deref for TypedRequester<Q, R> {
    type Target = Requester;

    fn deref(&self) -> &Requester {
        &self.requester
    }
}

impl<Q, R> Clone for TypedRequester<Q, R> {
    fn clone(&self) -> Self {
        Self { requester: self.requester.clone(), typed: self.typed.clone() }
    }
}

impl<Q, R> fmt::Debug for TypedRequester<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.typed.fmt(f)
    }
}

/// A request that is not sent yet: [`meshmq::TypedAsk`](crate::TypedAsk) without `.await`.
#[derive(Debug)]
#[must_use = "nothing is asked until it is sent"]
pub struct TypedAsk<Q, R>(typed::TypedAsk<Q, R>);

impl<Q, R> TypedAsk<Q, R> {
    /// As [`timeout`](crate::Ask::timeout).
    pub fn timeout(self, time: Duration) -> Self {
        Self(self.0.timeout(time))
    }

    /// As [`idempotent`](crate::Ask::idempotent).
    pub fn idempotent(self) -> Self {
        Self(self.0.idempotent())
    }

    /// As [`wait_for_replier`](crate::Ask::wait_for_replier).
    pub fn wait_for_replier(self) -> Self {
        Self(self.0.wait_for_replier())
    }

    /// As [`to`](crate::Ask::to).
    pub fn to(self, node: NodeId) -> Self {
        Self(self.0.to(node))
    }
}

impl<Q, R> TypedAsk<Q, R>
where
    R: Typed + DeserializeOwned,
{
    /// Sends it, and waits for its reply, by its time at the latest.
    ///
    /// # Errors
    /// [`TypedRequestError`] says how it ended instead, and gives the value back where no handler has run for it.
    pub fn send(self) -> Result<Received<Reply, R>, TypedRequestError<Q>> {
        block_on(self.0.into_future())
    }
}

/// A request to every replier that is not sent yet: [`meshmq::TypedAskAll`](crate::TypedAskAll) without `.await`.
#[derive(Debug)]
#[must_use = "nothing is asked until it is sent"]
pub struct TypedAskAll<Q, R>(typed::TypedAskAll<Q, R>);

impl<Q, R> TypedAskAll<Q, R> {
    /// As [`timeout`](crate::AskAll::timeout).
    pub fn timeout(self, time: Duration) -> Self {
        Self(self.0.timeout(time))
    }
}

impl<Q, R> TypedAskAll<Q, R>
where
    R: Typed + DeserializeOwned,
{
    /// Sends it to everybody who is there.
    ///
    /// # Errors
    /// As [`meshmq::TypedAskAll`](crate::TypedAskAll).
    pub fn send(self) -> Result<TypedReplies<R>, TypedRequestError<Q>> {
        block_on(self.0.into_future()).map(TypedReplies)
    }
}

/// The replies to [`TypedAskAll`], each a value or not: an iterator that waits for each, and ends once everybody has answered
/// or is [missing](Self::missing).
#[derive(Debug)]
pub struct TypedReplies<R>(typed::TypedReplies<R>);

impl<R> TypedReplies<R>
where
    R: Typed + DeserializeOwned,
{
    /// Waits for the next reply; `None`: there are no more.
    pub fn recv(&mut self) -> Option<Reading<Reply, R>> {
        block_on(self.0.recv())
    }
}

impl<R> TypedReplies<R> {
    /// As [`missing`](crate::Replies::missing).
    pub fn missing(&self) -> &[Missing] {
        self.0.missing()
    }
}

impl<R> Iterator for TypedReplies<R>
where
    R: Typed + DeserializeOwned,
{
    type Item = Reading<Reply, R>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv()
    }
}

impl<R> FusedIterator for TypedReplies<R> where R: Typed + DeserializeOwned {}
