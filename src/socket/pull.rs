//! PULL: takes work, and answers for it.
//!
//! Here is what an application says: options and verbs. What its node and the carriers of its lanes hold is in `core`.

mod core;

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
use super::connected::Connected;
use super::{check_types, spans};
use crate::env::Env;
use crate::error::{Closed, OpenError, check_channel};
use crate::id::{SocketId, Types};
use crate::message::{Delivery, Message};
use crate::node::{Hall, Registered, SocketSpec};
use crate::observe::PullMetrics;
use crate::pattern::pull::Inbox;
use crate::pattern::waiters::Ticket;
use crate::wire::control::SocketKind;

/// Options of a pull socket; await it to open the socket.
///
/// | option | default |
/// |---|---|
/// | [`prefetch`](Self::prefetch) | automatic: 1 to 65,536 messages a pusher, 4 MiB in total |
/// | [`ack_on_receive`](Self::ack_on_receive) | off |
///
/// # Cancel safety
/// It is ready at once. Dropped before, no socket was opened.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct PullBuilder {
    hall: Arc<Hall>,
    channel: String,
    prefetch: Option<usize>,
    ack_on_receive: bool,
    types: Types,
}

impl PullBuilder {
    pub(crate) fn new(hall: Arc<Hall>, channel: String) -> Self {
        Self { hall, channel, prefetch: None, ack_on_receive: false, types: Types::default() }
    }

    /// At most so many unfinished messages are here at a time, in hand and waiting, in total over all pushers.
    ///
    /// 1 is right for long jobs: none waits behind another one while a worker elsewhere is idle. Without it each pusher
    /// gets a window that follows the speed of this worker. 0 is refused when the socket is opened.
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch = Some(messages);
        self
    }

    /// Every message counts as handled as soon as it is received: what this process loses afterwards is lost.
    pub fn ack_on_receive(mut self) -> Self {
        self.ack_on_receive = true;
        self
    }

    /// Its messages are of this type.
    pub(crate) fn types(mut self, types: Types) -> Self {
        self.types = types;
        self
    }

    fn open(self) -> Result<Pull, OpenError> {
        check_channel(&self.channel)?;
        check_types(&self.types)?;
        if self.prefetch == Some(0) {
            return Err(OpenError::Zero { what: "prefetch" });
        }
        let inbox = Inbox::new(self.prefetch.map(|messages| messages as u64), self.hall.max_message());
        let core = Arc::new(Core {
            channel: self.channel.clone(),
            prefetch: self.prefetch,
            inbox,
            pushers: Connected::new(),
            env: self.hall.env().clone(),
        });
        let (slots, types) = (self.prefetch.is_some(), self.types);
        let spec = SocketSpec { kind: SocketKind::Pull, channel: self.channel, slots, types };
        let mut id = None;
        let registered = self.hall.register(spec, |socket| {
            id = Some(socket);
            core.clone()
        })?;
        let id = id.expect("a socket is made when it is registered");
        Ok(Pull {
            core,
            hall: self.hall,
            id,
            ack_on_receive: self.ack_on_receive,
            ticket: Ticket::default(),
            _registered: registered,
        })
    }
}

impl IntoFuture for PullBuilder {
    type Output = Result<Pull, OpenError>;
    type IntoFuture = std::future::Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        std::future::ready(self.open())
    }
}

/// The pulling end of a channel. Takes messages from all pushers of the mesh, fairly, and answers for each of them.
///
/// Several tasks may receive from one socket; each message goes to one of them. Dropped, it returns what it has not
/// handed out; what is in hand can still be answered.
///
/// It is also a [`Stream`] of deliveries, which ends when the socket or its node is closed.
///
/// # Cancel safety
/// A `next()` of the stream that is dropped before it is ready has taken no message. What a combinator such as `buffered`
/// has taken goes back when that is dropped.
///
/// ```
/// use futures_util::StreamExt;
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let (push, pull) = (node.push("jobs").await?, node.pull("jobs").await?);
/// push.send_batch(["one", "two"]).await?;
/// let mut jobs = pull.take(2);
/// while let Some(job) = jobs.next().await {
///     println!("{}", String::from_utf8_lossy(&job));
///     job.ack();
/// }
/// push.flush().await?;
/// # Ok(())
/// # }
/// ```
pub struct Pull {
    core: Arc<Core>,
    hall: Arc<Hall>,
    id: SocketId,
    ack_on_receive: bool,
    /// Of the stream.
    ticket: Ticket,
    /// Keeps the node while the application holds the socket.
    _registered: Registered,
}

impl Pull {
    /// Waits for the next message.
    ///
    /// # Errors
    /// Only when the socket or its node is closed.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no message is taken.
    #[inline]
    pub async fn recv(&self) -> Result<Delivery, Closed> {
        let mut receiver = Receiver { inbox: &self.core.inbox, ticket: Ticket::default() };
        std::future::poll_fn(|cx| self.poll_recv(&mut receiver.ticket, cx)).await
    }

    /// The next message, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Delivery>, Closed> {
        let claimed = self.core.inbox.try_claim(|| self.env().about_now()).map_err(|_| Closed)?;
        Ok(claimed.map(|(batch, index)| self.hand_out(batch, index)))
    }

    /// Waits for a message, and takes with it what else is here, up to `max` (at least 1).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no message is taken.
    pub async fn recv_batch(&self, max: usize) -> Result<Deliveries, Closed> {
        let mut deliveries = vec![self.recv().await?];
        while deliveries.len() < max {
            // Closed meanwhile: the next call says so.
            let Ok(Some(delivery)) = self.try_recv() else { break };
            deliveries.push(delivery);
        }
        Ok(Deliveries(deliveries))
    }

    /// The loop most workers want: runs up to `concurrency` (at least 1) handlers at a time, on this task, and answers by
    /// their results: `Ok` acknowledges, `Err` gives the message back, and so does a panic, which is logged. A handler runs
    /// in the [span](Delivery::span) of its delivery.
    ///
    /// Where a message takes long, give the socket this much [`prefetch`](PullBuilder::prefetch): the automatic one may let
    /// in fewer messages than that.
    ///
    /// Returns when the socket or its node is closed and the last handler has ended. So a worker ends without leaving work
    /// half done:
    ///
    /// ```no_run
    /// # async fn resize(_: &[u8]) -> Result<(), String> { Ok(()) }
    /// # async fn worker(node: meshmq::Node, asked_to_stop: impl Future<Output = ()>) -> meshmq::Result<()> {
    /// use meshmq::Message;
    ///
    /// let pull = node.pull("jobs").prefetch(4).await?;
    /// let stop = async {
    ///     asked_to_stop.await; // for instance `tokio::signal::ctrl_c()`
    ///     pull.close(); // nothing is handed out any more
    /// };
    /// let (served, ()) = tokio::join!(pull.serve(4, |job: Message| async move { resize(&job).await }), stop);
    /// served?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// None of its own; a handler's error is logged at `debug`.
    ///
    /// # Cancel safety
    /// Dropped, it drops the handlers that run; their messages go back.
    pub async fn serve<F, R, E>(&self, concurrency: usize, mut handler: F) -> Result<(), Closed>
    where
        F: FnMut(Message) -> R,
        R: Future<Output = Result<(), E>>,
        E: fmt::Display,
    {
        self.serve_or_reject(concurrency, |message| Ok(handler(message))).await
    }

    /// The same where a handler may refuse a message for good before it begins: `Err` says why.
    pub(crate) async fn serve_or_reject<F, R, E>(&self, concurrency: usize, mut handler: F) -> Result<(), Closed>
    where
        F: FnMut(Message) -> Result<R, String>,
        R: Future<Output = Result<(), E>>,
        E: fmt::Display,
    {
        let mut running = FuturesUnordered::new();
        let mut open = true;
        while open || !running.is_empty() {
            tokio::select! {
                biased;
                Some(()) = running.next() => {}
                delivery = self.recv(), if open && running.len() < concurrency.max(1) => {
                    let Ok(delivery) = delivery else { open = false; continue };
                    let message = Message::clone(&delivery);
                    let span = delivery.span();
                    // The handler itself may panic before it has made its future.
                    let made = span.in_scope(|| std::panic::catch_unwind(AssertUnwindSafe(|| handler(message))));
                    let future = match made {
                        Ok(Ok(future)) => future,
                        Ok(Err(reason)) => {
                            tracing::warn!(target: "meshmq::socket", id = %delivery.id(), "a message is rejected: {reason}");
                            delivery.reject(reason);
                            continue;
                        }
                        Err(_) => {
                            span.in_scope(|| self.panicked(delivery));
                            continue;
                        }
                    };
                    let handling = async move {
                        match AssertUnwindSafe(future).catch_unwind().await {
                            Ok(Ok(())) => delivery.ack(),
                            Ok(Err(error)) => {
                                tracing::debug!(target: "meshmq::socket", id = %delivery.id(), %error, "a handler failed");
                                delivery.nack();
                            }
                            Err(_) => self.panicked(delivery),
                        }
                    };
                    running.push(handling.instrument(span));
                }
            }
        }
        Ok(())
    }

    fn panicked(&self, delivery: Delivery) {
        tracing::error!(target: "meshmq::socket", channel = self.channel(), id = %delivery.id(), "a handler panicked");
        delivery.nack();
    }

    /// Waits until so many push sockets are connected.
    ///
    /// # Errors
    /// The node has ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn wait_for_pushers(&self, pushers: usize) -> Result<(), Closed> {
        self.core.pushers.at_least(pushers).await
    }

    /// Hands nothing out any more: what waits here goes elsewhere, `recv` ends, what is in hand can still be answered.
    pub fn close(&self) {
        self.core.inbox.drain();
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> PullMetrics {
        self.core.figures()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        &self.core.channel
    }

    pub(crate) fn env(&self) -> &Env {
        self.hall.env()
    }

    #[inline]
    fn poll_recv(&self, ticket: &mut Ticket, cx: &mut Context<'_>) -> Poll<Result<Delivery, Closed>> {
        let claimed = std::task::ready!(self.core.inbox.poll_claim(|| self.env().about_now(), ticket, cx));
        Poll::Ready(claimed.map(|(batch, index)| self.hand_out(batch, index)).map_err(|_| Closed))
    }

    #[inline(always)]
    fn hand_out(&self, batch: Arc<crate::pattern::batch::Batch>, index: u32) -> Delivery {
        let span = if spans::wanted() { spans::handle(self.channel(), batch.clone(), index) } else { None };
        let delivery = Delivery::new(batch, index, span);
        if self.ack_on_receive { delivery.acked() } else { delivery }
    }
}

impl Stream for Pull {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let mut ticket = std::mem::take(&mut self.ticket);
        let next = self.poll_recv(&mut ticket, cx);
        self.ticket = ticket;
        next.map(Result::ok)
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.core.inbox.drain();
        self.hall.unregister(self.id);
    }
}

impl fmt::Debug for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pull").field("channel", &self.channel()).finish_non_exhaustive()
    }
}

/// Whoever waits for a message. Dropped, it does not wait any more.
struct Receiver<'a> {
    inbox: &'a Inbox,
    ticket: Ticket,
}

impl Drop for Receiver<'_> {
    #[inline]
    fn drop(&mut self) {
        self.inbox.forget(&mut self.ticket);
    }
}

/// Several deliveries: see [`Pull::recv_batch`]. Each of them is answered, or goes back when it is dropped.
#[derive(Debug)]
pub struct Deliveries(Vec<Delivery>);

impl Deliveries {
    /// All are handled.
    pub fn ack_all(self) {
        self.0.into_iter().for_each(Delivery::ack);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true of what `recv_batch` gave.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Delivery> {
        self.0.iter()
    }
}

impl IntoIterator for Deliveries {
    type Item = Delivery;
    type IntoIter = std::vec::IntoIter<Delivery>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Deliveries {
    type Item = &'a Delivery;
    type IntoIter = std::slice::Iter<'a, Delivery>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
