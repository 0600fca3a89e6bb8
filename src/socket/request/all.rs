//! The same request to everybody: who answers, and who does not?

use std::collections::BTreeSet;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream::FuturesUnordered;

use super::Handle;
use super::asking::{Asking, Reply};
use super::core::Core;
use crate::error::RequestError;
use crate::id::{NodeId, SocketId};
use crate::message::NewMessage;
use crate::pattern::push::{LaneKey, lock};
use crate::pattern::request::Target;
use crate::wire::limits::{REQUEST_TIMEOUT, SETTLING};

/// A request to every replier on the channel, which is not sent yet: see
/// [`Requester::request_all`](crate::Requester::request_all). Await it to send it; what it gives are the [`Replies`].
///
/// Everybody is asked whom the node knows of once it is settled. Its time is 10 s unless [`timeout`](Self::timeout) says
/// otherwise. Each is asked once: nothing is tried elsewhere or again.
///
/// # Errors
/// [`RequestError::NoReplier`]: nobody is there. [`RequestError::TooLarge`], [`RequestError::Header`] and
/// [`RequestError::Closed`]. Nothing was sent then.
///
/// # Cancel safety
/// Dropped before it is ready, nothing is sent.
///
/// ```
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let (one, two) = (node.replier("load").await?, node.replier("load").await?);
/// let requester = node.requester("load").await?;
/// let mut replies = requester.request_all("how much?").await?;
/// # let asked = async {
/// one.recv().await?.reply("little")?;
/// two.recv().await?.fail("asleep", "ask again tomorrow");
/// #     meshmq::Result::<()>::Ok(())
/// # };
/// # let told = async {
/// while let Some(reply) = replies.recv().await {
///     println!("{}: {}", reply.sender(), String::from_utf8_lossy(&reply));
/// }
/// for missing in replies.missing() {
///     println!("{}: {}", missing.node, missing.why);
/// }
/// assert_eq!(replies.missing().len(), 1);
/// #     meshmq::Result::<()>::Ok(())
/// # };
/// # tokio::try_join!(asked, told)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct AskAll {
    handle: Arc<Handle>,
    message: NewMessage,
    timeout: Duration,
}

impl AskAll {
    pub(super) fn new(handle: Arc<Handle>, message: NewMessage) -> Self {
        Self { handle, message, timeout: REQUEST_TIMEOUT }
    }

    /// How long replies are waited for, from when it is awaited.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Adds a header: as [`NewMessage::header`].
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.message = self.message.header(name, value);
        self
    }

    async fn ask(self) -> Result<Replies, RequestError> {
        let Self { handle, message, timeout } = self;
        let core = &handle.0;
        core.check(&message)?;
        let deadline = core.env.after(timeout);
        let (lanes, without) = everybody(core, timeout).await;
        if lock(&core.requests).is_closed() {
            return Err(RequestError::Closed);
        }
        if lanes.is_empty() && without.is_empty() {
            return Err(RequestError::NoReplier);
        }
        let left = deadline.saturating_duration_since(core.env.now());
        let missing = without.into_iter().map(|node| Missing { node, why: RequestError::NotSent }).collect();
        let mut replies = Replies { open: FuturesUnordered::new(), missing, ready: Vec::new() };
        // A request is sent when it is polled first; who waits for the replies polls it again.
        let mut cx = Context::from_waker(Waker::noop());
        for (key, node) in lanes {
            let asking = Asking::of_lane(handle.clone(), message.clone(), left, Target::Lane(key, node));
            let mut one = One { node, asking };
            match Pin::new(&mut one).poll(&mut cx) {
                Poll::Ready((_, Ok(reply))) => replies.ready.push(reply),
                Poll::Ready((node, Err(why))) => replies.missing.push(Missing { node, why }),
                Poll::Pending => replies.open.push(one),
            }
        }
        Ok(replies)
    }
}

/// Waits until there is a lane to everybody who is there, within the time that a node takes to know its mesh: the lanes, and
/// the nodes of those to whom there is none.
async fn everybody(core: &Core, timeout: Duration) -> (Vec<(LaneKey, NodeId)>, Vec<NodeId>) {
    let mut timer = core.env.timer();
    timer.set(Some(core.env.after(timeout.min(SETTLING))));
    let (mut news, mut lanes) = (core.hall.news(), core.repliers.changes());
    let mut late = false;
    loop {
        news.borrow_and_update();
        lanes.borrow_and_update();
        let settled = core.hall.is_settled() && core.hall.untold().is_none();
        let mut there: BTreeSet<(NodeId, SocketId)> = core.everybody().into_iter().collect();
        let (connected, closed) = {
            let requests = lock(&core.requests);
            there.retain(|socket| !requests.has_left(socket));
            (requests.repliers().collect::<Vec<_>>(), requests.is_closed())
        };
        let met: BTreeSet<_> = connected.iter().map(|(_, node, socket)| (*node, *socket)).collect();
        let without: Vec<_> = there.difference(&met).map(|(node, _)| *node).collect();
        if late || closed || (settled && without.is_empty()) {
            return (connected.into_iter().map(|(key, node, _)| (key, node)).collect(), without);
        }
        tokio::select! {
            biased;
            Ok(()) = news.changed() => {}
            Ok(()) = lanes.changed() => {}
            () = timer.fired() => late = true,
        }
    }
}

impl IntoFuture for AskAll {
    type Output = Result<Replies, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}

/// One of those that were asked.
struct One {
    node: NodeId,
    asking: Asking,
}

impl Future for One {
    type Output = (NodeId, Result<Reply, RequestError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.asking).poll(cx));
        Poll::Ready((self.node, result))
    }
}

/// The replies to [`AskAll`], as they come: a [`Stream`] that ends once everybody has answered or is
/// [missing](Self::missing).
///
/// # Cancel safety
/// A `next()` of the stream that is dropped before it is ready has taken no reply. Dropped itself, whoever has not answered
/// is told that nobody waits any more.
pub struct Replies {
    open: FuturesUnordered<One>,
    missing: Vec<Missing>,
    /// Came before anybody looked.
    ready: Vec<Reply>,
}

/// Who has not replied, and why: see [`Replies::missing`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// Whose replier it is.
    pub node: NodeId,
    /// How its request ended.
    pub why: RequestError,
}

impl Replies {
    /// Waits for the next reply; `None`: there are no more.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no reply is taken.
    pub async fn recv(&mut self) -> Option<Reply> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Who has not replied, and why, of those that have ended by now. Complete once the stream has ended.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reply>> {
        if let Some(reply) = self.ready.pop() {
            return Poll::Ready(Some(reply));
        }
        loop {
            match ready!(Pin::new(&mut self.open).poll_next(cx)) {
                Some((_, Ok(reply))) => return Poll::Ready(Some(reply)),
                Some((node, Err(why))) => self.missing.push(Missing { node, why }),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for Replies {
    type Item = Reply;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Reply>> {
        self.poll_recv(cx)
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("open", &self.open.len()).field("missing", &self.missing).finish()
    }
}
