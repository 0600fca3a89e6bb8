//! REPLIER for threads.

use std::fmt::Display;
use std::future::ready;
use std::io;
use std::iter::FusedIterator;
use std::time::Duration;

use super::{comes_within, within};
use crate::env::{block_on, on_threads};
use crate::error::{Closed, OpenError};
use crate::message::{Message, NewMessage};
use crate::observe::ReplierMetrics;
use crate::socket::{self, Request};

/// Options of a replier; [`open`](Self::open) opens it. The defaults are those of
/// [`meshmq::ReplierBuilder`](crate::ReplierBuilder).
#[derive(Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct ReplierBuilder(pub(super) socket::ReplierBuilder);

impl ReplierBuilder {
    pub(super) fn new(options: socket::ReplierBuilder) -> Self {
        Self(options)
    }

    /// As [`limit`](crate::ReplierBuilder::limit).
    pub fn limit(self, requests: usize) -> Self {
        Self(self.0.limit(requests))
    }

    /// Opens the socket.
    ///
    /// # Errors
    /// The channel's name or an option does not fit, or the node is closed.
    pub fn open(self) -> Result<Replier, OpenError> {
        block_on(self.0).map(Replier)
    }
}

/// The answering end of a channel, for threads: [`meshmq::Replier`](crate::Replier) without `.await`.
///
/// Several threads may receive from one socket, by a reference or an `Arc`; each request goes to one of them. Every call
/// that waits ends when another thread calls [`close`](Self::close), or when the node shuts down.
///
/// ```
/// use meshmq::blocking::Node;
///
/// # fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().join()?;
/// let (requester, replier) = (node.requester("upper").open()?, node.replier("upper").open()?);
/// std::thread::scope(|scope| {
///     let asking = scope.spawn(|| requester.request("hello").send());
///     let request = replier.recv()?;
///     let answer = request.to_ascii_uppercase();
///     request.reply(answer)?;
///     assert_eq!(asking.join().expect("it does not panic")?.body(), "HELLO");
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug)]
pub struct Replier(socket::Replier);

impl Replier {
    /// Waits for the next request.
    ///
    /// # Errors
    /// Only when the socket or its node is closed.
    pub fn recv(&self) -> Result<Request, Closed> {
        block_on(self.0.recv())
    }

    /// The next request, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Request>, Closed> {
        self.0.try_recv()
    }

    /// Waits for the next request, but no longer than `time`. `None`: none has come.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, time: Duration) -> Result<Option<Request>, Closed> {
        within(self.0.env(), time, self.0.recv()).transpose()
    }

    /// Each request that comes, until the socket or its node is closed.
    pub fn iter(&self) -> Requests<'_> {
        Requests(self)
    }

    /// The loop most repliers want: calls the handler on up to `threads` threads at a time (at least 1, and this one is one of
    /// them), and answers by its results, as [`meshmq::Replier::serve`](crate::Replier::serve) does. A handler that runs is
    /// not interrupted when nobody waits for it any more.
    ///
    /// Returns when the socket or its node is closed and the last handler has returned.
    ///
    /// # Errors
    /// The operating system gives no thread; no request was taken.
    pub fn serve<T: Into<NewMessage>, E: Display + 'static>(
        &self,
        threads: usize,
        handler: impl Fn(Message) -> Result<T, E> + Sync,
    ) -> io::Result<()> {
        on_threads(threads, || {
            // It ends with the socket and has no errors of its own.
            let _ = block_on(self.0.serve(1, |message| ready(handler(message))));
        })
    }

    /// Waits until so many requesters are connected.
    ///
    /// # Errors
    /// The node has ended first.
    pub fn wait_for_requesters(&self, requesters: usize) -> Result<(), Closed> {
        block_on(self.0.wait_for_requesters(requesters))
    }

    /// Like [`wait_for_requesters`](Self::wait_for_requesters), but no longer than `time`. `false`: there are fewer.
    ///
    /// # Errors
    /// As [`wait_for_requesters`](Self::wait_for_requesters).
    pub fn wait_for_requesters_timeout(&self, requesters: usize, time: Duration) -> Result<bool, Closed> {
        comes_within(self.0.env(), time, self.0.wait_for_requesters(requesters))
    }

    /// Hands nothing out any more: what waits here goes to other repliers, `recv` ends, what is in hand can still be
    /// answered.
    pub fn close(&self) {
        self.0.close();
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> ReplierMetrics {
        self.0.metrics()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        self.0.channel()
    }

    /// The same socket, for async code.
    pub fn as_async(&self) -> &socket::Replier {
        &self.0
    }

    /// The same socket, for async code.
    pub fn into_async(self) -> socket::Replier {
        self.0
    }
}

impl From<socket::Replier> for Replier {
    fn from(replier: socket::Replier) -> Self {
        Self(replier)
    }
}

/// The requests of a replier: see [`Replier::iter`]. Waits for each; ends when the socket or its node is closed.
#[derive(Debug)]
pub struct Requests<'a>(&'a Replier);

impl Iterator for Requests<'_> {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        self.0.recv().ok()
    }
}

impl FusedIterator for Requests<'_> {}

impl<'a> IntoIterator for &'a Replier {
    type Item = Request;
    type IntoIter = Requests<'a>;

    fn into_iter(self) -> Requests<'a> {
        self.iter()
    }
}
