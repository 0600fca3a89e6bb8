//! How does a socket come to its type? It says it when it opens, so it is asked of the builder, last.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Typed;
use crate::error::OpenError;
use crate::id::TypeName;

/// A view of a socket.
pub trait View {
    /// Of which one.
    type Socket;

    /// The view of one that has said the type of its messages.
    fn of(socket: Self::Socket) -> Self;
}

/// Options of a typed socket, from `typed` at the end of a socket's options; await it to open the socket.
///
/// # Cancel safety
/// As that of the socket's own builder.
#[must_use = "a builder does nothing until it is awaited"]
pub struct TypedBuilder<B, V> {
    builder: B,
    view: PhantomData<fn() -> V>,
}

impl<B, V> TypedBuilder<B, V> {
    /// The builder has been told of the type.
    pub(crate) fn new(builder: B) -> Self {
        Self { builder, view: PhantomData }
    }

    /// With another view of the same socket.
    pub(crate) fn viewed<W>(self) -> TypedBuilder<B, W> {
        TypedBuilder::new(self.builder)
    }
}

impl<B, V> IntoFuture for TypedBuilder<B, V>
where
    B: IntoFuture<Output = Result<V::Socket, OpenError>>,
    B::IntoFuture: Unpin,
    V: View,
{
    type Output = Result<V, OpenError>;
    type IntoFuture = Opening<B::IntoFuture, V>;

    fn into_future(self) -> Self::IntoFuture {
        Opening { socket: self.builder.into_future(), view: PhantomData }
    }
}

impl<B, V> fmt::Debug for TypedBuilder<B, V>
where
    B: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedBuilder").field(&self.builder).finish()
    }
}

/// A typed socket that opens: see [`TypedBuilder`].
#[must_use = "nothing is opened until it is awaited"]
pub struct Opening<F, V> {
    socket: F,
    view: PhantomData<fn() -> V>,
}

impl<F, V> Future for Opening<F, V>
where
    F: Future<Output = Result<V::Socket, OpenError>> + Unpin,
    V: View,
{
    type Output = Result<V, OpenError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.socket).poll(cx).map_ok(V::of)
    }
}

impl<F, V> fmt::Debug for Opening<F, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening")
    }
}

/// What a type is called.
pub(crate) fn type_name<T: Typed>() -> TypeName {
    TypeName::new(T::NAME, T::VERSION)
}
