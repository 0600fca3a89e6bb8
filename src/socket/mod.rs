//! YOU: the handles that an application holds. Thin: they accept, wait and hand out; the rules are in `pattern`.

mod connected;
mod publish;
mod pull;
mod push;
mod reply;
mod request;
mod spans;
mod subscribe;

use crate::error::{InvalidTypeName, check_type_name};
use crate::id::Types;

pub use publish::{Publish, Publisher, PublisherBuilder, PublisherSink, WhenFull};
pub use pull::{Deliveries, Pull, PullBuilder};
pub use push::{Flush, Handled, Permit, Push, PushBuilder, PushSink, Send};
pub use reply::{Replier, ReplierBuilder, Request};
pub use request::{Ask, AskAll, Asking, Missing, Replies, Reply, Requester, RequesterBuilder};
pub use subscribe::{Subscriber, SubscriberBuilder};

/// Whether a socket may say this of its messages.
fn check_types(types: &Types) -> Result<(), InvalidTypeName> {
    types.names().try_for_each(|said| check_type_name(&said.name))
}
