//! REPLIER: takes requests, and answers each.
//!
//! Here is what an application says: options and verbs. A request in its hands is in `request`; what its node and the
//! carriers of its lanes hold is in `core`.

mod core;
mod request;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tracing::Instrument;

use self::core::Core;
pub use self::request::Request;
use super::check_types;
use super::connected::Connected;
use crate::env::Env;
use crate::error::{Closed, OpenError, RemoteError, check_channel};
use crate::id::{SocketId, Types};
use crate::message::{Message, NewMessage};
use crate::node::{Hall, Registered, SocketSpec};
use crate::observe::ReplierMetrics;
use crate::pattern::push::lock;
use crate::pattern::reply::Works;
use crate::pattern::waiters::Ticket;
use crate::sync::{AtomicBool, Mutex, Notify};
use crate::wire::control::SocketKind;
use crate::wire::limits::REPLIER_REQUESTS;

/// Options of a replier; await it to open the socket.
///
/// | option | default |
/// |---|---|
/// | [`limit`](Self::limit) | 1,024 requests |
///
/// # Cancel safety
/// It is ready at once. Dropped before, no socket was opened.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct ReplierBuilder {
    hall: Arc<Hall>,
    channel: String,
    limit: usize,
    types: Types,
}

impl ReplierBuilder {
    pub(crate) fn new(hall: Arc<Hall>, channel: String) -> Self {
        Self { hall, channel, limit: REPLIER_REQUESTS, types: Types::default() }
    }

    /// At most so many unanswered requests are here at a time, waiting and in hand, in total over all requesters. Whoever asks
    /// beyond that is told that this replier is busy, and asks another one. 0 is refused when the socket is opened.
    pub fn limit(mut self, requests: usize) -> Self {
        self.limit = requests;
        self
    }

    /// Its requests and replies are of these types.
    pub(crate) fn types(mut self, types: Types) -> Self {
        self.types = types;
        self
    }

    fn open(self) -> Result<Replier, OpenError> {
        check_channel(&self.channel)?;
        check_types(&self.types)?;
        if self.limit == 0 {
            return Err(OpenError::Zero { what: "the limit" });
        }
        let core = Arc::new(Core {
            channel: self.channel.clone(),
            max_message: self.hall.max_message(),
            works: Mutex::new(Works::new(self.limit as u64)),
            work: Notify::new(),
            requesters: Connected::new(),
            orphaned: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            told_too_large: Mutex::default(),
            env: self.hall.env().clone(),
            hall: self.hall.clone(),
        });
        let spec = SocketSpec { kind: SocketKind::Replier, channel: self.channel, slots: false, types: self.types };
        let mut id = None;
        let registered = self.hall.register(spec, |socket| {
            id = Some(socket);
            core.clone()
        })?;
        let id = id.expect("a socket is made when it is registered");
        core.env.spawn(core.clone().run());
        Ok(Replier { core, id, ticket: Ticket::default(), _registered: registered })
    }
}

impl IntoFuture for ReplierBuilder {
    type Output = Result<Replier, OpenError>;
    type IntoFuture = std::future::Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        std::future::ready(self.open())
    }
}

/// The answering end of a channel. Takes requests from all requesters of the mesh, and answers each of them.
///
/// Several tasks may receive from one socket; each request goes to one of them. Dropped, it sends what it has not handed out
/// to other repliers; what is in hand can still be answered.
///
/// It is also a [`Stream`] of requests, which ends when the socket or its node is closed.
///
/// # Cancel safety
/// A `next()` of the stream that is dropped before it is ready has taken no request.
///
/// ```
/// use std::convert::Infallible;
///
/// use meshmq::{Message, Node};
///
/// async fn upper(request: Message) -> Result<Vec<u8>, Infallible> {
///     Ok(request.to_ascii_uppercase())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let (replier, requester) = (node.replier("upper").await?, node.requester("upper").await?);
/// tokio::select! {
///     closed = replier.serve(8, upper) => closed?,
///     reply = requester.request("hello") => assert_eq!(reply?.body(), "HELLO"),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Replier {
    core: Arc<Core>,
    id: SocketId,
    /// Of the stream.
    ticket: Ticket,
    /// Keeps the node while the application holds the socket.
    _registered: Registered,
}

impl Replier {
    /// Waits for the next request.
    ///
    /// # Errors
    /// Only when the socket or its node is closed.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no request is taken.
    pub async fn recv(&self) -> Result<Request, Closed> {
        let mut receiver = Receiver { core: &self.core, ticket: Ticket::default() };
        std::future::poll_fn(|cx| self.poll_recv(&mut receiver.ticket, cx)).await
    }

    /// The next request, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Request>, Closed> {
        let handed = self.core.turn(|works, _| works.claim(None)).map_err(|_| Closed)?;
        Ok(handed.map(|handed| Request::new(self.core.clone(), handed)))
    }

    /// The loop most repliers want: runs up to `concurrency` (at least 1) handlers at a time, on this task, and answers by
    /// their results. An `Err` fails the request with the code `error` and the error's words, or, where it is a
    /// [`RemoteError`], by itself or in a [`meshmq::Error`](crate::Error), with its code. A panic fails it with the code
    /// `panic`, and is logged. Once nobody waits for a request any more, its handler is dropped. A handler runs in the
    /// [span](Request::span) of its request.
    ///
    /// Returns when the socket or its node is closed and the last handler has ended.
    ///
    /// # Errors
    /// None of its own; a handler's error is told to whoever asked.
    ///
    /// # Cancel safety
    /// Dropped, it drops the handlers that run; their requests fail with the code `dropped`.
    pub async fn serve<F, R, T, E>(&self, concurrency: usize, mut handler: F) -> Result<(), Closed>
    where
        F: FnMut(Message) -> R,
        R: Future<Output = Result<T, E>>,
        T: Into<NewMessage>,
        E: fmt::Display + 'static,
    {
        let mut running = FuturesUnordered::new();
        let mut open = true;
        while open || !running.is_empty() {
            tokio::select! {
                biased;
                Some(()) = running.next() => {}
                request = self.recv(), if open && running.len() < concurrency.max(1) => {
                    let Ok(request) = request else { open = false; continue };
                    let message = Message::clone(&request);
                    let span = request.span();
                    // The handler itself may panic before it has made its future.
                    let made = span.in_scope(|| std::panic::catch_unwind(AssertUnwindSafe(|| handler(message))));
                    let Ok(future) = made else {
                        span.in_scope(|| request.panicked());
                        continue;
                    };
                    let handling = async move {
                        let result = tokio::select! {
                            biased;
                            () = request.cancelled() => return,
                            result = AssertUnwindSafe(future).catch_unwind() => result,
                        };
                        match result {
                            // What does not fit has failed the request, which is logged.
                            Ok(Ok(reply)) => drop(request.reply(reply)),
                            Ok(Err(error)) => {
                                let (code, message) = RemoteError::of(&error).into_parts();
                                request.fail(code, message);
                            }
                            Err(_) => request.panicked(),
                        }
                    };
                    running.push(handling.instrument(span));
                }
            }
        }
        Ok(())
    }

    /// Waits until so many requesters are connected.
    ///
    /// # Errors
    /// The node has ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn wait_for_requesters(&self, requesters: usize) -> Result<(), Closed> {
        self.core.requesters.at_least(requesters).await
    }

    /// Hands nothing out any more: what waits here goes to other repliers, `recv` ends, what is in hand can still be
    /// answered.
    pub fn close(&self) {
        self.core.turn(|works, _| works.drain());
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> ReplierMetrics {
        self.core.figures()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        &self.core.channel
    }

    pub(crate) fn env(&self) -> &Env {
        &self.core.env
    }

    fn poll_recv(&self, ticket: &mut Ticket, cx: &mut Context<'_>) -> Poll<Result<Request, Closed>> {
        match self.core.turn(|works, _| works.claim(Some((ticket, cx.waker())))) {
            Ok(Some(handed)) => Poll::Ready(Ok(Request::new(self.core.clone(), handed))),
            Ok(None) => Poll::Pending,
            Err(_) => Poll::Ready(Err(Closed)),
        }
    }
}

impl Stream for Replier {
    type Item = Request;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        let mut ticket = std::mem::take(&mut self.ticket);
        let next = self.poll_recv(&mut ticket, cx);
        self.ticket = ticket;
        next.map(Result::ok)
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        self.core.leave();
        self.core.hall.unregister(self.id);
    }
}

impl fmt::Debug for Replier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replier").field("channel", &self.channel()).finish_non_exhaustive()
    }
}

/// Whoever waits for a request. Dropped, it does not wait any more.
struct Receiver<'a> {
    core: &'a Core,
    ticket: Ticket,
}

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        if self.ticket.has_waited() {
            lock(&self.core.works).forget_receiver(&mut self.ticket);
        }
    }
}
