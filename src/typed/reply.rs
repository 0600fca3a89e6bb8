//! REPLIER of values.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Typed;
use super::builder::{TypedBuilder, View, type_name};
use super::outgoing::NewTyped;
use super::received::{Received, TypedRecvError, Undecodable, read};
use crate::error::{Closed, RemoteError, ReplyError};
use crate::id::Types;
use crate::message::{Message, NewMessage};
use crate::socket::{Replier, ReplierBuilder, Request};

impl ReplierBuilder {
    /// The socket carries values instead of bytes: requests of the type `Q`, replies of the type `R`. It meets only
    /// requesters of the same types, or without any.
    pub fn typed<Q: Typed, R: Typed>(self) -> TypedBuilder<Self, TypedReplier<Q, R>> {
        let (message, reply) = (Some(type_name::<Q>()), Some(type_name::<R>()));
        TypedBuilder::new(self.types(Types { message, reply }))
    }
}

/// The answering end of a channel, for values: a view of a [`Replier`], to which it dereferences.
///
/// It is also a [`Stream`] of requests, and of what is none of the type, which ends when the socket or its node is closed.
///
/// # Cancel safety
/// As that of [`Replier`].
///
/// ```
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let replier = node.replier("half").limit(10).typed::<u64, u64>().await?;
/// let requester = node.requester("half").typed::<u64, u64>().await?;
/// let answering = async {
///     let request = replier.recv().await?;
///     let half = **request / 2;
///     request.reply(half)?;
///     meshmq::Result::<()>::Ok(())
/// };
/// let (reply, answered) = tokio::join!(requester.request(42).into_future(), answering);
/// answered?;
/// assert_eq!(*reply?, 21);
/// # Ok(())
/// # }
/// # use std::future::IntoFuture;
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
    /// The socket or its node is closed; or what came is no value of the type, and waits in the error for an answer.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no request is taken.
    pub async fn recv(&self) -> Result<TypedRequest<Q, R>, TypedRecvError<Request>> {
        Ok(TypedRequest::of(self.replier.recv().await?)?)
    }

    /// The next request, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<TypedRequest<Q, R>>, TypedRecvError<Request>> {
        Ok(self.replier.try_recv()?.map(TypedRequest::of).transpose()?)
    }

    /// As [`Replier::serve`], with the value and the message that it came in. What is no value of the type never reaches the
    /// handler: it fails with the code `undecodable`, and says what was expected and what is wrong. A reply that has no form
    /// fails it with the code `unencodable`.
    ///
    /// # Errors
    /// None of its own; a handler's error is told to whoever asked.
    ///
    /// # Cancel safety
    /// Dropped, it drops the handlers that run; their requests fail with the code `dropped`.
    pub async fn serve<F, A, T, E>(&self, concurrency: usize, mut handler: F) -> Result<(), Closed>
    where
        F: FnMut(Received<Message, Q>) -> A,
        A: Future<Output = Result<T, E>>,
        T: Into<NewTyped<R>>,
        E: fmt::Display + 'static,
    {
        let answer = |message| {
            let handling = read(message).map(&mut handler);
            async move {
                match handling {
                    Ok(handling) => answered(handling.await),
                    Err(wrong) => Err(undecodable(&wrong)),
                }
            }
        };
        self.replier.serve(concurrency, answer).await
    }
}

/// A handler's result, as the replier of bytes takes it.
pub(crate) fn answered<R, T, E>(result: Result<T, E>) -> Result<NewMessage, RemoteError>
where
    R: Typed + Serialize,
    T: Into<NewTyped<R>>,
    E: fmt::Display + 'static,
{
    let reply = result.map_err(|error| RemoteError::of(&error))?;
    let encoded = reply.into().encode();
    encoded.map(|(_, message)| message).map_err(|error| RemoteError::new(UNENCODABLE, error.to_string()))
}

/// What a request that is no value of the type fails with.
pub(crate) fn undecodable<D>(wrong: &Undecodable<D>) -> RemoteError {
    RemoteError::new(UNDECODABLE, wrong.to_string())
}

const UNDECODABLE: &str = "undecodable";
const UNENCODABLE: &str = "unencodable";

impl<Q, R> TypedReplier<Q, R> {
    /// The same socket, for bytes.
    pub fn into_untyped(self) -> Replier {
        self.replier
    }
}

impl<Q, R> View for TypedReplier<Q, R> {
    type Socket = Replier;

    fn of(replier: Replier) -> Self {
        Self { replier, of: PhantomData }
    }
}

impl<Q, R> Deref for TypedReplier<Q, R> {
    type Target = Replier;

    fn deref(&self) -> &Replier {
        &self.replier
    }
}

impl<Q, R> Stream for TypedReplier<Q, R>
where
    Q: Typed + DeserializeOwned,
{
    type Item = Result<TypedRequest<Q, R>, Undecodable<Request>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.replier).poll_next(cx).map(|next| next.map(TypedRequest::of))
    }
}

impl<Q, R> fmt::Debug for TypedReplier<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReplier").field(&self.replier).finish()
    }
}

/// A request of a value, in hand, which has to be answered with a value of the type `R`. Dereferences to what was
/// [`Received`], and so to the value. Dropped without an answer it fails with the code `dropped`.
#[derive(Debug)]
pub struct TypedRequest<Q, R> {
    request: Received<Request, Q>,
    of: PhantomData<fn(R)>,
}

impl<Q, R> TypedRequest<Q, R>
where
    Q: Typed + DeserializeOwned,
{
    pub(crate) fn of(request: Request) -> Result<Self, Undecodable<Request>> {
        Ok(Self { request: read(request)?, of: PhantomData })
    }
}

impl<Q, R> TypedRequest<Q, R>
where
    R: Typed + Serialize,
{
    /// As [`Request::reply`], with a value.
    ///
    /// # Errors
    /// The reply does not fit, or has no form. The request has failed, and whoever asked is told why.
    pub fn reply(self, message: impl Into<NewTyped<R>>) -> Result<(), TypedReplyError> {
        let (_, request) = self.request.into_parts();
        match message.into().encode() {
            Ok((_, message)) => Ok(request.reply(message)?),
            Err(error) => {
                let why = error.to_string();
                request.fail(UNENCODABLE, why.clone());
                Err(TypedReplyError::Unencodable(why))
            }
        }
    }
}

impl<Q, R> TypedRequest<Q, R> {
    /// As [`Request::fail`].
    pub fn fail(self, code: impl Into<String>, message: impl Into<String>) {
        self.request.into_parts().1.fail(code, message);
    }
}

impl<Q, R> Deref for TypedRequest<Q, R> {
    type Target = Received<Request, Q>;

    fn deref(&self) -> &Received<Request, Q> {
        &self.request
    }
}

impl Undecodable<Request> {
    /// Answers that the request failed, with the code `undecodable` and this error as the message.
    pub fn fail(self) {
        let (code, message) = undecodable(&self).into_parts();
        self.raw.fail(code, message);
    }
}

/// A reply of a value did not fit. The request has failed, and whoever asked is told why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypedReplyError {
    /// As that of bytes.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// It has no form in MessagePack. The request has failed with the code `unencodable`.
    #[error("{0}")]
    Unencodable(String),
}
