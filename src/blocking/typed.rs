//! Views of sockets that carry values, for threads.

mod publish;
mod pull;
mod push;
mod reply;
mod request;
mod subscribe;

pub use publish::TypedPublisher;
pub use pull::{TypedIter, TypedPull};
pub use push::TypedPush;
pub use reply::{TypedReplier, TypedRequests};
pub use request::{TypedAsk, TypedAskAll, TypedReplies, TypedRequester};
pub use subscribe::{TypedPublications, TypedSubscriber};

use std::future::IntoFuture;

use crate::env::block_on;
use crate::error::OpenError;
use crate::typed::{self, View};

/// Options of a typed socket, from `typed` at the end of a socket's options; [`open`](Self::open) opens it.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct TypedBuilder<B, V>(typed::TypedBuilder<B, V>);

impl<B, V> TypedBuilder<B, V>
where
    B: IntoFuture<Output = Result<V::Socket, OpenError>>,
    B::IntoFuture: Unpin,
    V: View,
{
    /// Opens the socket.
    ///
    /// # Errors
    /// As that of the socket's own builder, or the name of the type does not fit.
    pub fn open(self) -> Result<V, OpenError> {
        block_on(self.0.into_future())
    }
}
