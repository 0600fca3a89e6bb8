//! The same sockets for programs without async: no runtime, no `.await`, only threads that wait.
//!
//! ```no_run
//! use meshmq::blocking::Node;
//!
//! fn main() -> meshmq::Result<()> {
//!     let node = Node::join("shop")?;
//!     let push = node.push("jobs").open()?;
//!     push.send("resize cat.png")?; // accepted: kept here until a puller has acknowledged it
//!
//!     let pull = node.pull("jobs").prefetch(4).open()?;
//!     let job = pull.recv()?;
//!     println!("{} from {}", String::from_utf8_lossy(&job), job.sender());
//!     job.ack(); // dropped without an answer it goes back
//!     push.flush()?; // everything accepted is settled
//!     Ok(())
//! }
//! ```
//!
//! Each type here is a view of its async namesake and makes the same promises; the methods have the same names, without
//! `.await`. What differs:
//!
//! | async | here |
//! |---|---|
//! | a builder is awaited | [`Builder::join`], [`PushBuilder::open`], [`PullBuilder::open`], and so for each socket |
//! | `push.send(job).handled().await` | [`push.send_handled(job)`](Push::send_handled) |
//! | a request is awaited | [`requester.request(body).send()`](Ask::send) |
//! | `serve(n, handler)` runs n futures on one task | [`serve(n, handler)`](Pull::serve) runs a closure on n threads |
//! | `pull` and `subscriber` are `Stream`s | [`pull.iter()`](Pull::iter), [`subscriber.iter()`](Subscriber::iter) |
//! | `events()` is a `Stream` | [`Events`] is an iterator |
//! | a timeout around any future | methods that end in `_timeout` |
//!
//! **Both in one program.** `into_async` and `as_async` give the async handle of the same node or socket, and `From` turns an
//! async handle into one of these.
//!
//! **Within an async program.** A call blocks the thread that it is made on, and nothing else: the node has a thread of its
//! own. So it may be called within a task of a runtime, which then does not run other tasks on that thread. One
//! combination waits for ever: a node that was told to live on the caller's own runtime
//! ([`on_current_runtime`](crate::Builder::on_current_runtime), [`env`](crate::Builder::env)), turned into one of
//! these and called on the only thread of that runtime. The builder here has neither option.

mod node;
mod publish;
mod pull;
mod push;
mod reply;
mod request;
mod subscribe;
mod typed;

pub use node::{Builder, Events, Node};
pub use publish::{Publisher, PublisherBuilder};
pub use pull::{Iter, Pull, PullBuilder};
pub use push::{Push, PushBuilder};
pub use reply::{Replier, ReplierBuilder, Requests};
pub use request::{Ask, AskAll, Replies, Requester, RequesterBuilder};
pub use subscribe::{Publications, Subscriber, SubscriberBuilder};
pub use typed::{
    TypedAsk, TypedAskAll, TypedBuilder, TypedIter, TypedPublications, TypedPublisher, TypedPull, TypedPush,
    TypedReplier, TypedReplies, TypedRequester, TypedRequests, TypedSubscriber,
};

use std::time::Duration;

use crate::env::{Env, block_on};
use crate::error::Closed;

/// What the future gives in this time, by the clock of the node.
fn within<F: Future>(env: &Env, time: Duration, future: F) -> Option<F::Output> {
    block_on(env.timeout(time, future))
}

/// Whether what is waited for comes in this time.
fn comes_within(env: &Env, time: Duration, wait: impl Future<Output = Result<(), Closed>>) -> Result<bool, Closed> {
    Ok(within(env, time, wait).transpose()?.is_some())
}
