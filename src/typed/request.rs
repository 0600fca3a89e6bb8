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
use super::outgoing::{NewTyped, TypedSendError};
use super::received::{Reading, Received, Undecodable, read};
use crate::error::RequestError;
use crate::id::{NodeId, Types};
use crate::message::NewMessage;
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
    /// As [`Requester::request`], for a value, which is given back where no handler has run for it.
    pub fn request(&self, message: impl Into<NewTyped<Q>>) -> TypedAsk<Q, R> {
        TypedAsk { ask: State::of(message.into(), |message| self.requester.request(message)), of: PhantomData }
    }

    /// As [`Requester::request_all`], for a value, which is given back where nothing was sent.
    pub fn request_all(&self, message: impl Into<NewTyped<Q>>) -> TypedAskAll<Q, R> {
        TypedAskAll { ask: State::of(message.into(), |message| self.requester.request_all(message)), of: PhantomData }
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

/// A value that is asked, kept to be given back, and who asks it.
enum State<Q, A> {
    Asks(NewTyped<Q>, A),
    Unencodable(TypedSendError<NewTyped<Q>>),
    Over,
}

impl<Q, A> State<Q, A> {
    fn of(message: NewTyped<Q>, ask: impl FnOnce(NewMessage) -> A) -> Self
    where
        Q: Typed + Serialize,
    {
        match message.encode_and_keep() {
            Ok((kept, message)) => Self::Asks(kept, ask(message)),
            Err(error) => Self::Unencodable(error),
        }
    }

    fn map<B>(self, change: impl FnOnce(A) -> B) -> State<Q, B> {
        match self {
            Self::Asks(kept, ask) => State::Asks(kept, change(ask)),
            Self::Unencodable(error) => State::Unencodable(error),
            Self::Over => State::Over,
        }
    }

    fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, TypedRequestError<Q>>>
    where
        A: Future<Output = Result<T, RequestError>> + Unpin,
    {
        let ended = match self {
            Self::Asks(_, asking) => Some(ready!(Pin::new(asking).poll(cx))),
            Self::Unencodable(_) => None,
            Self::Over => panic!("polled after it was ready"),
        };
        Poll::Ready(match (std::mem::replace(self, Self::Over), ended) {
            (Self::Asks(kept, _), Some(ended)) => ended.map_err(|error| TypedRequestError::of(error, kept)),
            (Self::Unencodable(error), _) => Err(error.into()),
            _ => unreachable!("what is not over is one of the two"),
        })
    }
}

/// A request that is not sent yet: see [`Ask`], whose options it has.
///
/// # Cancel safety
/// As that of [`Ask`].
#[must_use = "nothing is asked until it is awaited"]
pub struct TypedAsk<Q, R> {
    ask: State<Q, Ask>,
    of: PhantomData<fn() -> R>,
}

impl<Q, R> TypedAsk<Q, R> {
    fn with(self, option: impl FnOnce(Ask) -> Ask) -> Self {
        Self { ask: self.ask.map(option), of: PhantomData }
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

impl<Q, R> IntoFuture for TypedAsk<Q, R>
where
    R: Typed + DeserializeOwned,
{
    type Output = Result<Received<Reply, R>, TypedRequestError<Q>>;
    type IntoFuture = TypedAsking<Q, R>;

    fn into_future(self) -> TypedAsking<Q, R> {
        TypedAsking { asking: self.ask.map(IntoFuture::into_future), of: PhantomData }
    }
}

impl<Q, R> fmt::Debug for TypedAsk<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedAsk")
    }
}

/// A request on its way: see [`TypedAsk`].
#[must_use = "nothing is asked until it is awaited"]
pub struct TypedAsking<Q, R> {
    asking: State<Q, Asking>,
    of: PhantomData<fn() -> R>,
}

// The value in it is only kept to be given back.
impl<Q, R> Unpin for TypedAsking<Q, R> {}

impl<Q, R> Future for TypedAsking<Q, R>
where
    R: Typed + DeserializeOwned,
{
    type Output = Result<Received<Reply, R>, TypedRequestError<Q>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(self.asking.poll(cx));
        Poll::Ready(reply.and_then(|reply| Ok(read(reply)?)))
    }
}

impl<Q, R> fmt::Debug for TypedAsking<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedAsking")
    }
}

/// A request of values has ended without one. Where no handler has run, the value that was asked is given back: it may be
/// asked again without harm.
#[non_exhaustive]
pub struct TypedRequestError<Q> {
    /// How it has ended.
    pub kind: TypedRequestErrorKind,
    /// What was asked. `None`: a handler may have run for it.
    pub message: Option<NewTyped<Q>>,
}

/// How a request of values ended without one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedRequestErrorKind {
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

impl<Q> TypedRequestError<Q> {
    fn of(error: RequestError, kept: NewTyped<Q>) -> Self {
        let message = (!error.may_have_run()).then_some(kept);
        Self { kind: error.into(), message }
    }

    /// A handler may have run: as [`RequestError::may_have_run`]. Exactly where it is `false` the value is given back.
    pub fn may_have_run(&self) -> bool {
        self.message.is_none()
    }

    /// The value, without its headers, where it is given back.
    pub fn into_value(self) -> Option<Q> {
        self.message.map(|message| message.value)
    }
}

impl<Q> From<TypedSendError<NewTyped<Q>>> for TypedRequestError<Q> {
    fn from(error: TypedSendError<NewTyped<Q>>) -> Self {
        Self { kind: TypedRequestErrorKind::Unencodable(error.to_string()), message: Some(error.message) }
    }
}

impl<Q> From<Undecodable<Reply>> for TypedRequestError<Q> {
    fn from(wrong: Undecodable<Reply>) -> Self {
        Self { kind: wrong.into(), message: None }
    }
}

impl<Q> fmt::Debug for TypedRequestError<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRequestError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<Q> fmt::Display for TypedRequestError<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<Q> std::error::Error for TypedRequestError<Q> {}

/// A request to every replier on the channel, which is not sent yet: see [`AskAll`], whose options it has.
///
/// # Cancel safety
/// As that of [`AskAll`].
#[must_use = "nothing is asked until it is awaited"]
pub struct TypedAskAll<Q, R> {
    ask: State<Q, AskAll>,
    of: PhantomData<fn() -> R>,
}

impl<Q, R> TypedAskAll<Q, R> {
    /// As [`AskAll::timeout`].
    pub fn timeout(self, time: Duration) -> Self {
        Self { ask: self.ask.map(|ask| ask.timeout(time)), of: PhantomData }
    }
}

impl<Q, R> IntoFuture for TypedAskAll<Q, R> {
    type Output = Result<TypedReplies<R>, TypedRequestError<Q>>;
    type IntoFuture = TypedAskingAll<Q, R>;

    fn into_future(self) -> TypedAskingAll<Q, R> {
        TypedAskingAll { asking: self.ask.map(IntoFuture::into_future), of: PhantomData }
    }
}

impl<Q, R> fmt::Debug for TypedAskAll<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedAskAll")
    }
}

/// A request to every replier that is being sent: see [`TypedAskAll`].
#[must_use = "nothing is asked until it is awaited"]
pub struct TypedAskingAll<Q, R> {
    asking: State<Q, <AskAll as IntoFuture>::IntoFuture>,
    of: PhantomData<fn() -> R>,
}

// The value in it is only kept to be given back.
impl<Q, R> Unpin for TypedAskingAll<Q, R> {}

impl<Q, R> Future for TypedAskingAll<Q, R> {
    type Output = Result<TypedReplies<R>, TypedRequestError<Q>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let replies = ready!(self.asking.poll(cx));
        Poll::Ready(replies.map(|replies| TypedReplies { replies, of: PhantomData }))
    }
}

impl<Q, R> fmt::Debug for TypedAskingAll<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedAskingAll")
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
