//! REQUESTER: asks, and is answered once.
//!
//! Here is what an application says: options and verbs. What the verbs give is in `asking` and `all`, the socket itself in
//! `core`, and what its node and the carriers of its lanes hold in `ends`.

mod all;
mod asking;
mod core;
mod ends;

use std::fmt;
use std::future::IntoFuture;
use std::sync::{Arc, OnceLock};

pub use self::all::{AskAll, Missing, Replies};
pub use self::asking::{Ask, Asking, Reply};
use self::core::Core;
use super::check_types;
use super::connected::Connected;
use crate::env::Env;
use crate::error::{Closed, OpenError, check_channel};
use crate::id::Types;
use crate::message::NewMessage;
use crate::node::{Hall, Registered, SocketSpec};
use crate::observe::RequesterMetrics;
use crate::pattern::push::{Amount, lock};
use crate::pattern::request::Requests;
use crate::sync::{AtomicBool, Mutex, Notify};
use crate::wire::control::SocketKind;
use crate::wire::limits::{REQUESTER_BYTES, REQUESTER_REQUESTS};

/// Options of a requester; await it to open the socket.
///
/// | option | default |
/// |---|---|
/// | [`bound`](Self::bound) | 100,000 requests, 64 MiB |
///
/// # Cancel safety
/// It is ready at once. Dropped before, no socket was opened.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct RequesterBuilder {
    hall: Arc<Hall>,
    channel: String,
    bound: Amount,
    types: Types,
}

impl RequesterBuilder {
    pub(crate) fn new(hall: Arc<Hall>, channel: String) -> Self {
        let bound = Amount { messages: REQUESTER_REQUESTS as u64, bytes: REQUESTER_BYTES as u64 };
        Self { hall, channel, bound, types: Types::default() }
    }

    /// The most that is with repliers at a time: requests, and bytes of their headers and bodies. Those beyond it wait here,
    /// within their time. 0 of either is refused when the socket is opened.
    pub fn bound(mut self, requests: usize, bytes: usize) -> Self {
        self.bound = Amount { messages: requests as u64, bytes: bytes as u64 };
        self
    }

    /// Its requests and replies are of these types.
    pub(crate) fn types(mut self, types: Types) -> Self {
        self.types = types;
        self
    }

    fn open(self) -> Result<Requester, OpenError> {
        check_channel(&self.channel)?;
        check_types(&self.types)?;
        for (what, value) in [("the bound in requests", self.bound.messages), ("the bound in bytes", self.bound.bytes)]
        {
            if value == 0 {
                return Err(OpenError::Zero { what });
            }
        }
        let env = self.hall.env().clone();
        let random = || env.random_u64().map_err(|error| OpenError::Random(error.to_string()));
        let (epoch, seed) = (random()? >> 2, random()?);
        let core = Arc::new(Core {
            channel: self.channel.clone(),
            epoch,
            max_message: self.hall.max_message(),
            requests: Mutex::new(Requests::new(self.bound, seed)),
            work: Notify::new(),
            repliers: Connected::new(),
            gone: AtomicBool::new(false),
            id: OnceLock::new(),
            env,
            hall: self.hall.clone(),
        });
        let spec = SocketSpec { kind: SocketKind::Requester, channel: self.channel, slots: false, types: self.types };
        let registered = self.hall.register(spec, |id| {
            core.id.set(id).expect("a socket is registered once");
            core.clone()
        })?;
        core.env.spawn(core.clone().run());
        Ok(Requester(Arc::new(Handle(core, registered))))
    }
}

impl IntoFuture for RequesterBuilder {
    type Output = Result<Requester, OpenError>;
    type IntoFuture = std::future::Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        std::future::ready(self.open())
    }
}

/// The asking end of a channel. Each request goes to one of the repliers, the less loaded and faster of two that are drawn,
/// and ends once: with its reply, or with a [`RequestError`](crate::RequestError) that says what became of it.
///
/// Any number may be open at a time. A clone is the same socket.
///
/// ```
/// use std::time::Duration;
///
/// use meshmq::{Node, RequestError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let upper = node.requester("upper").await?;
/// assert_eq!(upper.request("hello").await.err(), Some(RequestError::NoReplier));
///
/// let replier = node.replier("upper").await?;
/// let asking = upper.request("hello").timeout(Duration::from_secs(2));
/// let answering = async {
///     let request = replier.recv().await?;
///     let answer = request.to_ascii_uppercase();
///     request.reply(answer)?;
///     meshmq::Result::<()>::Ok(())
/// };
/// let (reply, answered) = tokio::join!(asking.into_future(), answering);
/// answered?;
/// assert_eq!(reply?.body(), "HELLO");
/// # Ok(())
/// # }
/// # use std::future::IntoFuture;
/// ```
///
/// A stream of requests becomes one of replies with the combinators of `futures`, so many open at a time; the replies of
/// [`request_all`](Self::request_all) are a stream, too.
///
/// ```
/// use std::future::IntoFuture;
///
/// use futures_util::{StreamExt, TryStreamExt, stream};
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let upper = node.requester("upper").await?;
/// let replier = node.replier("upper").await?;
/// tokio::spawn(async move { replier.serve(2, |request| async move { Ok::<_, String>(request.to_ascii_uppercase()) }).await });
/// let replies: Vec<_> =
///     stream::iter(["red", "green", "blue"]).map(|color| upper.request(color).into_future()).buffered(2).try_collect().await?;
/// assert_eq!(replies[2].body(), "BLUE");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Requester(Arc<Handle>);

/// The application's hold on the socket, and by way of it on the node: in this order, as the socket's end comes first.
struct Handle(Arc<Core>, #[expect(dead_code, reason = "held, not used")] Registered);

impl Requester {
    /// A request, which is sent when it is awaited: see [`Ask`] for what can be said of it before.
    pub fn request(&self, message: impl Into<NewMessage>) -> Ask {
        Ask::new(self.0.clone(), message.into())
    }

    /// The same request to every replier that there is: see [`AskAll`].
    pub fn request_all(&self, message: impl Into<NewMessage>) -> AskAll {
        AskAll::new(self.0.clone(), message.into())
    }

    /// Waits until so many repliers are connected.
    ///
    /// # Errors
    /// The node has ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn wait_for_repliers(&self, repliers: usize) -> Result<(), Closed> {
        self.0.0.repliers.at_least(repliers).await
    }

    /// How many repliers are connected now and take requests.
    pub fn repliers(&self) -> usize {
        lock(&self.0.0.requests).lane_count()
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> RequesterMetrics {
        self.0.0.figures()
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        &self.0.0.channel
    }

    pub(crate) fn env(&self) -> &Env {
        &self.0.0.env
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester").field("channel", &self.channel()).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.leave();
    }
}
