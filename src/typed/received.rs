//! What was received: the value beside what it came in, or the error that still holds what it came in.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Typed, codec};
use crate::error::{Closed, Gap, RecvError};
use crate::message::{Delivery, Message, Publication};
use crate::socket::{Reply, Request};

/// Something received, and the value in it. Dereferences to the value; [`raw`](Self::raw) is what it came in, with its
/// sender, id and headers.
#[derive(Debug)]
pub struct Received<D, T> {
    value: T,
    raw: D,
}

/// A value in hand, which has to be answered, as a [`Delivery`] has. Dropped without an answer it goes back.
pub type TypedDelivery<T> = Received<Delivery, T>;

/// What reading something gives: the value in it, or the error that holds it.
pub type Reading<D, T> = Result<Received<D, T>, Undecodable<D>>;

impl<D, T> Received<D, T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What it came in.
    pub fn raw(&self) -> &D {
        &self.raw
    }

    /// The value, and what it came in, which is still to be answered where it has to be.
    pub fn into_parts(self) -> (T, D) {
        (self.value, self.raw)
    }
}

impl<T> Received<Delivery, T> {
    /// As [`Delivery::ack`].
    pub fn ack(self) {
        self.raw.ack();
    }

    /// As [`Delivery::nack`].
    pub fn nack(self) {
        self.raw.nack();
    }

    /// As [`Delivery::nack_after`].
    pub fn nack_after(self, delay: Duration) {
        self.raw.nack_after(delay);
    }

    /// As [`Delivery::reject`].
    pub fn reject(self, reason: impl Into<String>) {
        self.raw.reject(reason);
    }

    /// Acknowledges, and keeps the value.
    pub fn ack_into_value(self) -> T {
        self.raw.ack();
        self.value
    }
}

impl<D, T> Deref for Received<D, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What was received is not of the type that was expected. It is in here, and is still to be answered where it has to be:
/// a [`Delivery`] that is dropped with its error goes back, and comes again.
///
/// Only somebody who sends without a type, or under a type's name something else, can cause it: sockets that say different
/// types do not meet.
#[non_exhaustive]
pub struct Undecodable<D> {
    /// What was received.
    pub raw: Box<D>,
    /// The name of the type that was expected.
    pub name: &'static str,
    /// The version of it.
    pub version: u32,
    /// The byte of the body at which it showed, the first being 0.
    pub at: usize,
    /// How many it has.
    pub len: usize,
    /// Why, for people.
    pub why: String,
}

impl Undecodable<Delivery> {
    /// Rejects the message, with this error as the reason: it is not delivered again, and its sender is told by an event
    /// that carries it.
    pub fn reject(self) {
        let reason = self.to_string();
        self.raw.reject(reason);
    }
}

impl<D> fmt::Display for Undecodable<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, at, len, why, .. } = self;
        write!(f, "the message is not a {name} v{version}: {why}, at byte {at} of {len}")
    }
}

impl<D> fmt::Debug for Undecodable<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Undecodable({self})")
    }
}

impl<D> std::error::Error for Undecodable<D> {}

/// No value was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedRecvError<D> {
    /// Nothing more can be: the socket or its node is shutting down.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// Messages are missing in this place, of a [`strict`](crate::SubscriberBuilder::strict) subscriber. The next call goes
    /// on behind them.
    #[error(transparent)]
    Missed(Gap),
    /// What came is no value of the type. It is in here, and the socket goes on.
    #[error(transparent)]
    Undecodable(#[from] Undecodable<D>),
}

impl From<RecvError> for TypedRecvError<Publication> {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed => Self::Closed(Closed),
            RecvError::Missed(gap) => Self::Missed(gap),
        }
    }
}

/// The value in what was received.
pub(crate) fn read<D, T>(raw: D) -> Reading<D, T>
where
    D: Body,
    T: Typed + DeserializeOwned,
{
    match codec::decode(raw.bytes()) {
        Ok(value) => Ok(Received { value, raw }),
        Err(codec::Fault { at, why }) => {
            let len = raw.bytes().len();
            Err(Undecodable { raw: Box::new(raw), name: T::NAME, version: T::VERSION, at, len, why })
        }
    }
}

/// What has a body.
pub(crate) trait Body {
    fn bytes(&self) -> &[u8];
}

impl Body for Message {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Body for Delivery {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Body for Publication {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Body for Request {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Body for Reply {
    fn bytes(&self) -> &[u8] {
        self
    }
}
