//! REQUESTER for threads.

use std::future::IntoFuture;
use std::iter::FusedIterator;
use std::time::Duration;

use super::comes_within;
use crate::env::block_on;
use crate::error::{Closed, OpenError, RequestError};
use crate::id::NodeId;
use crate::message::NewMessage;
use crate::observe::RequesterMetrics;
use crate::socket::{self, Missing, Reply};

/// Options of a requester; [`open`](Self::open) opens it. The defaults are those of
/// [`meshmq::RequesterBuilder`](crate::RequesterBuilder).
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct RequesterBuilder(pub(super) socket::RequesterBuilder);

impl RequesterBuilder {
    pub(super) fn new(options: socket::RequesterBuilder) -> Self {
        Self(options)
    }

    /// As [`bound`](crate::RequesterBuilder::bound).
    pub fn bound(self, requests: usize, bytes: usize) -> Self {
        Self(self.0.bound(requests, bytes))
    }

    /// Opens the socket.
    ///
    /// # Errors
    /// The channel's name or an option does not fit, or the node is closed.
    pub fn open(self) -> Result<Requester, OpenError> {
        block_on(self.0).map(Requester)
    }
}

/// The asking end of a channel, for threads: [`meshmq::Requester`](crate::Requester) without `.await`.
///
/// A clone is the same socket; threads may share one or have a clone each.
///
/// ```
/// use std::time::Duration;
///
/// use meshmq::Message;
/// use meshmq::blocking::Node;
///
/// fn upper(request: Message) -> Result<Vec<u8>, std::convert::Infallible> {
///     Ok(request.to_ascii_uppercase())
/// }
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let (requester, replier) = (node.requester("upper").open()?, node.replier("upper").open()?);
/// std::thread::scope(|scope| {
///     scope.spawn(|| replier.serve(2, upper));
///     let reply = requester.request("hello").timeout(Duration::from_secs(2)).send()?;
///     assert_eq!(reply.body(), "HELLO");
///     replier.close();
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Requester(socket::Requester);

impl Requester {
    /// A request, which [`send`](Ask::send) sends.
    pub fn request(&self, message: impl Into<NewMessage>) -> Ask {
        Ask(self.0.request(message))
    }

    /// The same request to every replier that there is, which [`send`](AskAll::send) sends.
    pub fn request_all(&self, message: impl Into<NewMessage>) -> AskAll {
        AskAll(self.0.request_all(message))
    }

    /// Waits until so many repliers are connected.
    ///
    /// # Errors
    /// The node has ended first.
    pub fn wait_for_repliers(&self, repliers: usize) -> Result<(), Closed> {
        block_on(self.0.wait_for_repliers(repliers))
    }

    /// Like [`wait_for_repliers`](Self::wait_for_repliers), but no longer than `time`. `false`: there are fewer.
    ///
    /// # Errors
    /// As [`wait_for_repliers`](Self::wait_for_repliers).
    pub fn wait_for_repliers_timeout(&self, repliers: usize, time: Duration) -> Result<bool, Closed> {
        comes_within(self.0.env(), time, self.0.wait_for_repliers(repliers))
    }

    /// How many repliers are connected now and take requests.
    pub fn repliers(&self) -> usize {
        self.0.repliers()
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> RequesterMetrics {
        self.0.metrics()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        self.0.channel()
    }

    /// The same socket, for async code.
    pub fn as_async(&self) -> &socket::Requester {
        &self.0
    }

    /// The same socket, for async code.
    pub fn into_async(self) -> socket::Requester {
        self.0
    }
}

impl From<socket::Requester> for Requester {
    fn from(requester: socket::Requester) -> Self {
        Self(requester)
    }
}

/// A request that is not sent yet: [`meshmq::Ask`](crate::Ask) without `.await`.
#[derive(Debug)]
#[must_use = "nothing is asked until it is sent"]
pub struct Ask(socket::Ask);

impl Ask {
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

    /// As [`header`](crate::Ask::header).
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        Self(self.0.header(name, value))
    }

    /// Sends it, and waits for its reply, by its time at the latest.
    ///
    /// # Errors
    /// [`RequestError`] says how it ended instead.
    pub fn send(self) -> Result<Reply, RequestError> {
        block_on(self.0)
    }
}

/// A request to every replier that is not sent yet: [`meshmq::AskAll`](crate::AskAll) without `.await`.
#[derive(Debug)]
#[must_use = "nothing is asked until it is sent"]
pub struct AskAll(socket::AskAll);

impl AskAll {
    /// As [`timeout`](crate::AskAll::timeout).
    pub fn timeout(self, time: Duration) -> Self {
        Self(self.0.timeout(time))
    }

    /// As [`header`](crate::AskAll::header).
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        Self(self.0.header(name, value))
    }

    /// Sends it to everybody who is there.
    ///
    /// # Errors
    /// As [`meshmq::AskAll`](crate::AskAll).
    pub fn send(self) -> Result<Replies, RequestError> {
        block_on(self.0.into_future()).map(Replies)
    }
}

/// The replies to [`AskAll`]: an iterator that waits for each, and ends once everybody has answered or is
/// [missing](Self::missing).
#[derive(Debug)]
pub struct Replies(socket::Replies);

impl Replies {
    /// Waits for the next reply; `None`: there are no more.
    pub fn recv(&mut self) -> Option<Reply> {
        block_on(self.0.recv())
    }

    /// As [`missing`](crate::Replies::missing).
    pub fn missing(&self) -> &[Missing] {
        self.0.missing()
    }
}

impl Iterator for Replies {
    type Item = Reply;

    fn next(&mut self) -> Option<Reply> {
        self.recv()
    }
}

impl FusedIterator for Replies {}
