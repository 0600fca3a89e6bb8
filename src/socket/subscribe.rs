//! SUBSCRIBER: the news that one wants, from everybody who has some.
//!
//! Here is what an application says: options and verbs. What its node and the carriers of its lanes hold is in `core`.

mod core;

use std::collections::BTreeSet;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use self::core::{Core, Wait};
use super::check_types;
use crate::env::Env;
use crate::error::{Closed, Gap, InvalidTopic, OpenError, RecvError, SubscribeError, check_channel, check_pattern};
use crate::id::{SocketId, Types};
use crate::message::Publication;
use crate::node::{Hall, Registered, SocketSpec};
use crate::observe::SubscriberMetrics;
use crate::pattern::subscribe::{Claimed, Feed};
use crate::pattern::waiters::Ticket;
use crate::wire::control::SocketKind;
use crate::wire::limits::{CONFIRM_WITHIN, MAX_SUBSCRIPTIONS, MAX_WINDOW};

/// Options of a subscriber; await it to open the socket.
///
/// | option | default |
/// |---|---|
/// | [`topic`](Self::topic) | every topic |
/// | [`prefetch`](Self::prefetch) | 65,536 messages a publisher, 4 MiB in all |
/// | [`strict`](Self::strict) | what was missed is told with the next message |
/// | [`confirm_within`](Self::confirm_within) | 10 s |
///
/// It is ready when the node knows its mesh ([`Node::settled`](crate::Node::settled)) and every publisher that it then has
/// a link with has confirmed the subscription: what these publish afterwards is not missed. A publisher whose link is lost
/// meanwhile is not waited for. One that is met later confirms before it sends anything; what it has published before is
/// not promised, except what it [retains](crate::PublisherBuilder::retain_last).
///
/// # Cancel safety
/// Dropped before it is ready, the socket is closed again.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct SubscriberBuilder {
    hall: Arc<Hall>,
    channel: String,
    patterns: BTreeSet<Box<str>>,
    fault: Option<InvalidTopic>,
    prefetch: usize,
    strict: bool,
    confirm_within: Duration,
    types: Types,
}

impl SubscriberBuilder {
    pub(crate) fn new(hall: Arc<Hall>, channel: String) -> Self {
        Self {
            hall,
            channel,
            patterns: BTreeSet::new(),
            fault: None,
            prefetch: MAX_WINDOW as usize,
            strict: false,
            confirm_within: CONFIRM_WITHIN,
            types: Types::default(),
        }
    }

    /// Subscribes to the topics that match this pattern: a topic, in which `*` stands for any one part, and a final `>` for
    /// all parts from there on, one at least. `eu.*.close` matches `eu.dax.close`; `eu.>` matches that and `eu.dax`, and
    /// not `eu`. Several may be given, also such that overlap: a message comes once. Without any, all topics are wanted.
    ///
    /// A pattern that does not fit ([`check_pattern`]) is refused when the socket is opened, and so is the 10,001st one.
    pub fn topic(mut self, pattern: impl AsRef<str>) -> Self {
        match check_pattern(pattern.as_ref()) {
            Ok(()) => drop(self.patterns.insert(pattern.as_ref().into())),
            Err(fault) => drop(self.fault.get_or_insert(fault)),
        }
        self
    }

    /// At most so many messages of each publisher wait here to be handed out; the others wait there, under its bound and
    /// its policy. A small number keeps what is received fresh where the policy is to drop the oldest. 0 is refused when
    /// the socket is opened.
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch = messages;
        self
    }

    /// Messages that are missing are an error of [`recv`](Subscriber::recv), in their place, instead of what
    /// [`missed`](Publication::missed) says of the next one.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// How long publishers with which there is a link may take to confirm a subscription, from when the node knows its mesh.
    pub fn confirm_within(mut self, time: Duration) -> Self {
        self.confirm_within = time;
        self
    }

    /// Its messages are of this type.
    pub(crate) fn types(mut self, types: Types) -> Self {
        self.types = types;
        self
    }

    async fn open(self) -> Result<Subscriber, OpenError> {
        check_channel(&self.channel)?;
        check_types(&self.types)?;
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }
        if self.prefetch == 0 {
            return Err(OpenError::Zero { what: "prefetch" });
        }
        if self.patterns.len() > MAX_SUBSCRIPTIONS {
            return Err(OpenError::TooManyPatterns { limit: MAX_SUBSCRIPTIONS });
        }
        let mut patterns = self.patterns;
        if patterns.is_empty() {
            patterns.insert(">".into());
        }
        let env = self.hall.env().clone();
        let epoch = env.random_u64().map_err(|error| OpenError::Random(error.to_string()))? >> 2;
        let window = (self.prefetch as u64).min(MAX_WINDOW);
        let feed = Feed::new(epoch, patterns, window, self.strict, self.hall.max_message());
        let core = Arc::new(Core::new(self.channel.clone(), self.types.clone(), window, feed, self.hall.clone()));
        let spec = SocketSpec { kind: SocketKind::Subscriber, channel: self.channel, slots: false, types: self.types };
        let mut id = None;
        let registered = self.hall.register(spec, |socket| {
            id = Some(socket);
            core.clone()
        })?;
        let id = id.expect("a socket is made when it is registered");
        let subscriber = Subscriber {
            core,
            hall: self.hall,
            id,
            confirm_within: self.confirm_within,
            ticket: Ticket::default(),
            _registered: registered,
        };
        subscriber.hall.until_settled().await;
        let version = subscriber.core.feed.version();
        match subscriber.core.confirmed(version, subscriber.confirm_within).await {
            Ok(()) => Ok(subscriber),
            Err(Wait::Closed) => Err(OpenError::Closed),
            Err(Wait::TooLong(node)) => Err(OpenError::NotConfirmed { node }),
        }
    }
}

impl IntoFuture for SubscriberBuilder {
    type Output = Result<Subscriber, OpenError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// The subscribing end of a channel. Takes the messages that match its patterns from all publishers of the mesh, those of
/// each one in their order.
///
/// What it could not be given, as it was too slow or away for too long, is told in its place, with how much it was:
/// [`Publication::missed`], an [event](crate::Event::MessagesMissed), and with [`strict`](SubscriberBuilder::strict) an error.
///
/// Several tasks may receive from one socket; each message goes to one of them. Dropped, its subscriptions end.
///
/// It is also a [`Stream`] of publications, which ends when the socket or its node is closed; of a `strict` one an item may
/// be an error, and the stream goes on behind it.
///
/// # Cancel safety
/// A `next()` of the stream that is dropped before it is ready has taken no message.
///
/// ```
/// use futures_util::TryStreamExt;
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let ticks = node.publisher("ticks").await?;
/// let mut sub = node.subscriber("ticks").topic("eu.>").topic("us.*.close").await?;
/// ticks.publish_batch([("eu.dax", "18,412"), ("us.dow", "39,110"), ("us.dow.close", "39,108")]).await?;
/// while let Some(tick) = sub.try_next().await? {
///     if let Some(gap) = tick.missed() {
///         println!("{gap}");
///     }
///     println!("{}: {}", tick.topic(), String::from_utf8_lossy(&tick));
/// #   if tick.topic() == "us.dow.close" { break }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Subscriber {
    core: Arc<Core>,
    hall: Arc<Hall>,
    id: SocketId,
    confirm_within: Duration,
    /// Of the stream.
    ticket: Ticket,
    /// Keeps the node while the application holds the socket.
    _registered: Registered,
}

impl Subscriber {
    /// Waits for the next message.
    ///
    /// # Errors
    /// [`RecvError::Closed`]: the socket or its node is closed. [`RecvError::Missed`], of a
    /// [`strict`](SubscriberBuilder::strict) socket only.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no message is taken.
    #[inline]
    pub async fn recv(&self) -> Result<Publication, RecvError> {
        let mut receiver = Receiver { feed: &self.core.feed, ticket: Ticket::default() };
        std::future::poll_fn(|cx| self.poll_recv(&mut receiver.ticket, cx)).await
    }

    /// The next message, if one is here.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Publication>, RecvError> {
        self.core.feed.try_claim().map_err(|_| RecvError::Closed)?.map(hand_out).transpose()
    }

    /// Waits for a message, and takes with it what else is here, up to `max` (at least 1).
    ///
    /// # Errors
    /// As [`recv`](Self::recv). What is missing ends a batch: the next call says so.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no message is taken.
    pub async fn recv_batch(&self, max: usize) -> Result<Vec<Publication>, RecvError> {
        let mut batch = vec![self.recv().await?];
        while batch.len() < max && !self.core.feed.is_missed_next() {
            // Closed meanwhile: the next call says so.
            let Ok(Some(publication)) = self.try_recv() else { break };
            batch.push(publication);
        }
        Ok(batch)
    }

    /// Subscribes to one pattern more, as [`topic`](SubscriberBuilder::topic) does, and waits until every publisher that
    /// there is a link with has confirmed it. Nothing is done where it is subscribed to already.
    ///
    /// # Errors
    /// The pattern does not fit, there are too many, or the socket is closed: nothing has changed. Or a publisher has not
    /// confirmed in time: the subscription stands.
    ///
    /// # Cancel safety
    /// The subscription stands from the first poll on; dropped before it is ready, it comes into force all the same. To call
    /// it again waits again.
    pub async fn subscribe(&self, pattern: impl AsRef<str>) -> Result<(), SubscribeError> {
        self.change(true, pattern.as_ref()).await
    }

    /// Ends the subscription to a pattern, and waits until every publisher that there is a link with has confirmed that.
    /// What has been published before may still come. Nothing is done where it is not subscribed to.
    ///
    /// Subscribed to again, it brings what is retained once more.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    ///
    /// # Cancel safety
    /// As [`subscribe`](Self::subscribe).
    pub async fn unsubscribe(&self, pattern: impl AsRef<str>) -> Result<(), SubscribeError> {
        self.change(false, pattern.as_ref()).await
    }

    async fn change(&self, add: bool, pattern: &str) -> Result<(), SubscribeError> {
        check_pattern(pattern)?;
        let version = self.core.feed.change(add, pattern).map_err(|_| SubscribeError::TooManyPatterns)?;
        self.core.confirmed(version, self.confirm_within).await.map_err(|wait| match wait {
            Wait::Closed => SubscribeError::Closed,
            Wait::TooLong(node) => SubscribeError::NotConfirmed { node },
        })
    }

    /// The patterns that it has subscribed to, in order.
    pub fn patterns(&self) -> Vec<String> {
        self.core.feed.patterns()
    }

    /// Waits until so many publishers are connected and have confirmed the subscriptions that there are.
    ///
    /// # Errors
    /// The node has ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn wait_for_publishers(&self, publishers: usize) -> Result<(), Closed> {
        self.core.publishers.at_least(publishers).await
    }

    /// How many publishers are connected now and have confirmed the subscriptions that there are.
    pub fn publishers(&self) -> usize {
        self.core.feed.confirmed_lanes()
    }

    /// Hands nothing out any more: `recv` ends, and publishers send nothing more.
    pub fn close(&self) {
        self.core.end();
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> SubscriberMetrics {
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
    fn poll_recv(&self, ticket: &mut Ticket, cx: &mut Context<'_>) -> Poll<Result<Publication, RecvError>> {
        let claimed = std::task::ready!(self.core.feed.poll_claim(ticket, cx));
        Poll::Ready(claimed.map_err(|_| RecvError::Closed).and_then(hand_out))
    }
}

fn hand_out(claimed: Claimed) -> Result<Publication, RecvError> {
    match claimed {
        Claimed::Message(batch, index, missed) => Ok(Publication::new(batch, index, missed)),
        Claimed::Missed(gap) => Err(RecvError::Missed(gap)),
    }
}

impl Stream for Subscriber {
    type Item = Result<Publication, Gap>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut ticket = std::mem::take(&mut self.ticket);
        let next = self.poll_recv(&mut ticket, cx);
        self.ticket = ticket;
        next.map(|next| match next {
            Ok(publication) => Some(Ok(publication)),
            Err(RecvError::Missed(gap)) => Some(Err(gap)),
            Err(_) => None,
        })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.core.end();
        self.hall.unregister(self.id);
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("channel", &self.channel()).finish_non_exhaustive()
    }
}

/// Whoever waits for a message. Dropped, it does not wait any more.
struct Receiver<'a> {
    feed: &'a Feed,
    ticket: Ticket,
}

impl Drop for Receiver<'_> {
    #[inline]
    fn drop(&mut self) {
        self.feed.forget(&mut self.ticket);
    }
}
