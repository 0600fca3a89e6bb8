//! What is sent, and given back where it is refused: a value, with headers where it has some.

use std::fmt;

use serde::Serialize;

use super::{Typed, codec};
use crate::error::{SendError, SendErrorKind};
use crate::message::NewMessage;

/// A value that is to be sent, with headers: the typed [`NewMessage`]. A value alone turns into one by itself.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// use meshmq::{NewTyped, Node};
///
/// let node = Node::isolated().await?;
/// let (push, pull) = (node.push("words").typed::<String>().await?, node.pull("words").typed::<String>().await?);
/// push.send(NewTyped::new("hello".to_owned()).header("lang", "en")).await?;
/// assert_eq!(pull.recv().await?.raw().header("lang"), Some("en"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTyped<T> {
    /// The value.
    pub value: T,
    /// Its headers, and no body.
    headers: NewMessage,
}

impl<T> NewTyped<T> {
    /// A value without headers.
    pub fn new(value: T) -> Self {
        Self { value, headers: NewMessage::default() }
    }

    /// As [`NewMessage::header`].
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.headers = self.headers.header(name, value);
        self
    }

    /// As [`NewMessage::with_headers`].
    #[must_use]
    pub fn with_headers<N: AsRef<str>, V: AsRef<str>>(mut self, headers: impl IntoIterator<Item = (N, V)>) -> Self {
        self.headers = self.headers.with_headers(headers);
        self
    }
}

impl<T> NewTyped<T>
where
    T: Typed + Serialize,
{
    /// The value, and the message that it is on the wire.
    pub(crate) fn encode(self) -> Result<(T, NewMessage), TypedSendError<Self>> {
        match codec::encode(&self.value) {
            Ok(body) => Ok((self.value, self.headers.with_body(body))),
            Err(why) => {
                let kind = TypedSendErrorKind::Unencodable { name: T::NAME, version: T::VERSION, why };
                Err(TypedSendError { kind, message: self })
            }
        }
    }

    /// The same, with the headers kept as well: for what may be given back long after it was taken.
    pub(crate) fn encode_and_keep(self) -> Result<(Self, NewMessage), TypedSendError<Self>> {
        let headers = self.headers.clone();
        let (value, message) = self.encode()?;
        Ok((Self { value, headers }, message))
    }
}

impl<T> From<T> for NewTyped<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// A value was not accepted. It is given back.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypedSendError<M> {
    /// Why.
    pub kind: TypedSendErrorKind,
    /// What was to be sent.
    pub message: M,
}

/// Why a value was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypedSendErrorKind {
    /// The socket did not take it.
    #[error(transparent)]
    Refused(#[from] SendErrorKind),
    /// It has no form in MessagePack, or is nested deeper than 128 levels.
    #[error("this {name} v{version} can not be encoded: {why}")]
    Unencodable {
        /// The name of its type.
        name: &'static str,
        /// The version of it.
        version: u32,
        /// Why, for people.
        why: String,
    },
}

impl<T> TypedSendError<NewTyped<T>> {
    /// The value is back.
    pub(crate) fn of(refused: SendError<NewMessage>, value: T) -> Self {
        let headers = refused.message.with_body(bytes::Bytes::new());
        Self { kind: refused.kind.into(), message: NewTyped { value, headers } }
    }

    /// The value, without its headers.
    pub fn into_value(self) -> T {
        self.message.value
    }
}

impl<M> fmt::Debug for TypedSendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedSendError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for TypedSendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<M> std::error::Error for TypedSendError<M> {}
