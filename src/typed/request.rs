//! REQUESTER of values.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Typed;
use super::builder::{TypedBuilder, View, type_name};
use super::outgoing::NewTyped;
use super::received::{Reading, Received, Undecodable, read};
use crate::error::RequestError;
use crate::id::{NodeId, Types};
use crate::socket::{Ask, AskAll, Asking, Missing, Replies, Reply, Requester, RequesterBuilder};

impl RequesterBuilder {
    /// The socket carries values instead of bytes: requests of the type `Q`, replies of the type `R`. It meets only repliers
    /// of the same types, or without any.
    pub fn typed<Q: Typed, R: Typed>(self) -> TypedBuilder<Self, TypedRequester<Q, R>> {
        let (message, reply) = (Some(type_name::<Q>()), Some(type_name::<R>()));
        TypedBuilder::new(self.types(Types { message, reply }))
    }
}

/// The asking end of a channel, for values: a view of a [`Requester`], to which it dereferences.
///
/// A clone is the same socket.
///
/// ```
/// use meshmq::{Message, Node, Received};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let length = node.requester("length").typed::<String, u64>().await?;
/// let replier = node.replier("length").typed::<String, u64>().await?;
/// let answer = async |text: Received<Message, String>| Ok::<_, String>(text.len() as u64);
/// tokio::select! {
///     closed = replier.serve(8, answer) => closed?,
///     reply = length.request("hello".to_owned()) => assert_eq!(*reply?, 5),
/// }
/// # Ok(())
/// # }
/// ```
pub struct TypedRequester<Q, R> {
    requester: Requester,
    of: PhantomData<fn(Q) -> R>,
}

impl<Q, R> TypedRequester<Q, R>
where
    Q: Typed + Serialize,
    R: Typed + DeserializeOwned,
{
    /// As [`Requester::request`], for a value.
    pub fn request(&self, message: impl Into<NewTyped<Q>>) -> TypedAsk<R> {
        TypedAsk::new(message.into().encode().map(|(_, message)| self.requester.request(message)).map_err(unencodable))
    }

    /// As [`Requester::request_all`], for a value.
    pub fn request_all(&self, message: impl Into<NewTyped<Q>>) -> TypedAskAll<R> {
        let ask = message.into().encode().map(|(_, message)| self.requester.request_all(message));
        TypedAskAll { ask: ask.map_err(unencodable), of: PhantomData }
    }
}

impl<Q, R> TypedRequester<Q, R> {
    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Requester {
        self.requester
    }
}

impl<Q, R> View for TypedRequester<Q, R> {
    type Socket = Requester;

    fn of(requester: Requester) -> Self {
        Self { requester, of: PhantomData }
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
        Self { requester: self.requester.clone(), of: PhantomData }
    }
}

impl<Q, R> fmt::Debug for TypedRequester<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedRequester").field(&self.requester).finish()
    }
}

fn unencodable(error: impl fmt::Display) -> String {
    error.to_string()
}

/// A request that is not sent yet: see [`Ask`], whose options it has.
///
/// # Cancel safety
/// As that of [`Ask`].
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct TypedAsk<R> {
    /// Or why the value has no form.
    ask: Result<Ask, String>,
    of: PhantomData<fn() -> R>,
}

impl<R> TypedAsk<R> {
    fn new(ask: Result<Ask, String>) -> Self {
        Self { ask, of: PhantomData }
    }

    fn with(self, option: impl FnOnce(Ask) -> Ask) -> Self {
        Self::new(self.ask.map(option))
    }

    /// As [`Ask::timeout`].
    pub fn timeout(self, time: Duration) -> Self {
        self.with(|ask| ask.timeout(time))
    }

    /// As [`Ask::idempotent`].
    pub fn idempotent(self) -> Self {
        self.with(Ask::idempotent)
    }

    /// As [`Ask::wait_for_replier`].
    pub fn wait_for_replier(self) -> Self {
        self.with(Ask::wait_for_replier)
    }

    /// As [`Ask::to`].
    pub fn to(self, node: NodeId) -> Self {
        self.with(|ask| ask.to(node))
    }
}

impl<R> IntoFuture for TypedAsk<R>
where
    R: Typed + DeserializeOwned,
{
    type Output = Result<Received<Reply, R>, TypedRequestError>;
    type IntoFuture = TypedAsking<R>;

    fn into_future(self) -> TypedAsking<R> {
        TypedAsking { asking: self.ask.map(IntoFuture::into_future), of: PhantomData }
    }
}

/// A request on its way: see [`TypedAsk`].
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct TypedAsking<R> {
    asking: Result<Asking, String>,
    of: PhantomData<fn() -> R>,
}

impl<R> Future for TypedAsking<R>
where
    R: Typed + DeserializeOwned,
{
    type Output = Result<Received<Reply, R>, TypedRequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let asking = match &mut self.asking {
            Ok(asking) => asking,
            Err(why) => return Poll::Ready(Err(TypedRequestError::Unencodable(std::mem::take(why)))),
        };
        let reply = ready!(Pin::new(asking).poll(cx));
        Poll::Ready(reply.map_err(Into::into).and_then(|reply| Ok(read(reply)?)))
    }
}

/// How a request of values ended without one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedRequestError {
    /// As that of bytes.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The value that was to be asked has no form in MessagePack. Nothing was sent.
    #[error("{0}")]
    Unencodable(String),
    /// There is a reply, and it is no value of the type. It is in here.
    #[error(transparent)]
    Undecodable(#[from] Undecodable<Reply>),
}

/// A request to every replier on the channel, which is not sent yet: see [`AskAll`], whose options it has.
///
/// # Cancel safety
/// As that of [`AskAll`].
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct TypedAskAll<R> {
    ask: Result<AskAll, String>,
    of: PhantomData<fn() -> R>,
}

impl<R> TypedAskAll<R> {
    /// As [`AskAll::timeout`].
    pub fn timeout(self, time: Duration) -> Self {
        Self { ask: self.ask.map(|ask| ask.timeout(time)), of: PhantomData }
    }
}

impl<R> IntoFuture for TypedAskAll<R>
where
    R: Typed + DeserializeOwned,
{
    type Output = Result<TypedReplies<R>, TypedRequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let ask = self.ask;
        Box::pin(async move {
            let replies = ask.map_err(TypedRequestError::Unencodable)?.into_future().await?;
            Ok(TypedReplies { replies, of: PhantomData })
        })
    }
}

/// The replies to [`TypedAskAll`], as they come, each a value or not: see [`Replies`].
///
/// # Cancel safety
/// As that of [`Replies`].
pub struct TypedReplies<R> {
    replies: Replies,
    of: PhantomData<fn() -> R>,
}

impl<R> TypedReplies<R>
where
    R: Typed + DeserializeOwned,
{
    /// Waits for the next reply; `None`: there are no more.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no reply is taken.
    pub async fn recv(&mut self) -> Option<Reading<Reply, R>> {
        self.replies.recv().await.map(read)
    }
}

impl<R> TypedReplies<R> {
    /// As [`Replies::missing`].
    pub fn missing(&self) -> &[Missing] {
        self.replies.missing()
    }
}

impl<R> Stream for TypedReplies<R>
where
    R: Typed + DeserializeOwned,
{
    type Item = Reading<Reply, R>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.replies).poll_next(cx).map(|next| next.map(read))
    }
}

impl<R> fmt::Debug for TypedReplies<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReplies").field(&self.replies).finish()
    }
}
