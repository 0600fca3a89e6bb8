//! PUBLISHER: news for everybody who wants it.
//!
//! Here is what an application says: options and verbs. The socket itself is in `core`, and what its node and the carriers
//! of its lanes hold in `ends`.

mod core;
mod ends;
mod sink;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use self::core::{Board, Core};
pub use self::sink::PublisherSink;
use super::check_types;
use super::connected::Connected;
use super::push::Flush;
use super::spans::{self, Sending};
use crate::env::{Env, Timer};
use crate::error::{Closed, OpenError, SendError, SendErrorKind, check_channel};
use crate::id::Types;
use crate::message::NewMessage;
use crate::node::{Hall, Registered, SocketSpec};
use crate::observe::PublisherMetrics;
use crate::pattern::publish::{self, Options, Policy};
use crate::pattern::push::{Amount, lock};
use crate::pattern::waiters::Ticket;
use crate::sync::{AtomicBool, Mutex, Notify};
use crate::wire::control::SocketKind;
use crate::wire::limits::{RETAINED_BYTES, RETAINED_MESSAGES, SUBSCRIBER_BYTES, SUBSCRIBER_MESSAGES};

/// What becomes of messages for which a subscriber has no room: see [`PublisherBuilder::when_full`].
///
/// It is decided for each subscriber by itself: one that is slow costs the others nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// The oldest one that waits for it makes room.
    #[default]
    DropOldest,
    /// The new one is dropped.
    DropNewest,
    /// Of each topic only the newest message waits: a newer one takes the place of one that is not sent yet, also while
    /// there is room. Where more topics wait than there is room for, the oldest message makes room.
    Latest,
    /// The subscriber is given up: what waits for it is dropped, its lane ends, and both ends are told by an event. It gets
    /// nothing more from this publisher until it is opened again, or the link of the two nodes is.
    Disconnect,
    /// [`publish`](Publisher::publish) waits until every subscriber that wants the message has room, for no longer than
    /// this; then it is handed to all of them in one step. For those that still have no room the oldest one makes room.
    Block(Duration),
}

/// Options of a publisher; await it to open the socket.
///
/// | option | default |
/// |---|---|
/// | [`when_full`](Self::when_full) | the oldest message makes room |
/// | [`bound`](Self::bound) | 10,000 messages, 16 MiB for each subscriber |
/// | [`retain_last`](Self::retain_last) | nothing is retained |
/// | [`retain_bound`](Self::retain_bound) | 10,000 messages, 16 MiB in all |
///
/// # Cancel safety
/// It is ready at once. Dropped before, no socket was opened.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct PublisherBuilder {
    hall: Arc<Hall>,
    channel: String,
    when_full: WhenFull,
    bound: Amount,
    retain_last: usize,
    retain_bound: Amount,
    types: Types,
}

impl PublisherBuilder {
    pub(crate) fn new(hall: Arc<Hall>, channel: String) -> Self {
        let amount = |messages, bytes| Amount { messages: messages as u64, bytes: bytes as u64 };
        Self {
            hall,
            channel,
            when_full: WhenFull::default(),
            bound: amount(SUBSCRIBER_MESSAGES, SUBSCRIBER_BYTES),
            retain_last: 0,
            retain_bound: amount(RETAINED_MESSAGES, RETAINED_BYTES),
            types: Types::default(),
        }
    }

    /// What becomes of messages for which a subscriber has no room.
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// The most that is kept for one subscriber at a time: what waits for it, and what was sent and has not arrived, in
    /// messages and in bytes of their topics, headers and bodies. What was sent makes room first. Exact, and each
    /// subscriber has its own. 0 of either is refused when the socket is opened.
    pub fn bound(mut self, messages: usize, bytes: usize) -> Self {
        self.bound = Amount { messages: messages as u64, bytes: bytes as u64 };
        self
    }

    /// Keeps the last so many messages of each topic for those who subscribe later: they get these first, in the order of
    /// publishing, and then what is published from then on, with nothing missing in between and nothing twice.
    ///
    /// 1 is the last value of each topic. 0, the default, keeps nothing.
    pub fn retain_last(mut self, messages: usize) -> Self {
        self.retain_last = messages;
        self
    }

    /// The most that [`retain_last`](Self::retain_last) keeps, of all topics together; beyond, the oldest message makes
    /// room, which [`metrics`](Publisher::metrics) count. 0 of either is refused when the socket is opened.
    pub fn retain_bound(mut self, messages: usize, bytes: usize) -> Self {
        self.retain_bound = Amount { messages: messages as u64, bytes: bytes as u64 };
        self
    }

    /// Its messages are of this type.
    pub(crate) fn types(mut self, types: Types) -> Self {
        self.types = types;
        self
    }

    fn open(self) -> Result<Publisher, OpenError> {
        check_channel(&self.channel)?;
        check_types(&self.types)?;
        for (what, value) in [
            ("the bound in messages", self.bound.messages),
            ("the bound in bytes", self.bound.bytes),
            ("the bound in messages of what is retained", self.retain_bound.messages),
            ("the bound in bytes of what is retained", self.retain_bound.bytes),
        ] {
            if value == 0 {
                return Err(OpenError::Zero { what });
            }
        }
        let env = self.hall.env().clone();
        let epoch = env.random_u64().map_err(|error| OpenError::Random(error.to_string()))? >> 2;
        let (policy, patience) = match self.when_full {
            WhenFull::DropOldest => (Policy::DropOldest, None),
            WhenFull::DropNewest => (Policy::DropNewest, None),
            WhenFull::Latest => (Policy::Latest, None),
            WhenFull::Disconnect => (Policy::GiveUp, None),
            WhenFull::Block(patience) => (Policy::Block, Some(patience)),
        };
        let options = Options {
            when_full: policy,
            bound: self.bound,
            retain_last: self.retain_last,
            retain_bound: self.retain_bound,
            max_message: self.hall.max_message(),
        };
        let core = Arc::new(Core {
            channel: self.channel.clone(),
            epoch,
            options,
            patience,
            board: Mutex::new(Board { publisher: publish::Publisher::new(options), flushes: Vec::new() }),
            work: Notify::new(),
            subscribers: Connected::new(),
            orphaned: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            id: OnceLock::new(),
            env,
            hall: self.hall.clone(),
        });
        let spec = SocketSpec { kind: SocketKind::Publisher, channel: self.channel, slots: false, types: self.types };
        let registered = self.hall.register(spec, |id| {
            core.id.set(id).expect("a socket is registered once");
            core.clone()
        })?;
        core.env.spawn(core.clone().run());
        Ok(Publisher(Arc::new(Handle(core, registered))))
    }
}

impl IntoFuture for PublisherBuilder {
    type Output = Result<Publisher, OpenError>;
    type IntoFuture = std::future::Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        std::future::ready(self.open())
    }
}

/// The publishing end of a channel. Each message goes to every subscriber, wherever in the mesh, that has subscribed to its
/// topic; what nobody wants is not sent.
///
/// A message is encoded once, whoever gets it. Each subscriber has a bound of its own, so that one that is slow, or hangs,
/// costs the others nothing; [`when_full`](PublisherBuilder::when_full) says what becomes of its messages then.
///
/// A clone is the same socket. When the last one is dropped, what was published still goes to the subscribers that are
/// connected, for as long as the node lives.
///
/// ```
/// use meshmq::{Node, WhenFull};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let ticks = node.publisher("ticks").retain_last(1).when_full(WhenFull::Latest).await?;
/// ticks.publish("eu.dax", "18,412").await?;
///
/// // It comes later, and has the last value all the same.
/// let sub = node.subscriber("ticks").topic("eu.*").await?;
/// ticks.publish("us.dow", "39,110").await?; // nobody wants it
/// ticks.publish("eu.dax", "18,409").await?;
/// assert_eq!(&**sub.recv().await?, b"18,412");
/// assert_eq!(&**sub.recv().await?, b"18,409");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Publisher(Arc<Handle>);

/// The application's hold on the socket, and by way of it on the node: in this order, as the socket's end comes first.
struct Handle(Arc<Core>, #[expect(dead_code, reason = "held, not used")] Registered);

impl Publisher {
    /// Publishes a message under a topic, such as `eu.dax.close`: see [`check_topic`](crate::check_topic).
    ///
    /// It is handed to every subscriber that wants it in one step. That waits for nothing, unless the socket was opened
    /// with [`WhenFull::Block`].
    ///
    /// # Errors
    /// [`SendErrorKind::Topic`], [`SendErrorKind::TooLarge`], [`SendErrorKind::Header`] or [`SendErrorKind::Closed`]; each
    /// gives the message back, and nobody was handed it.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nobody was handed the message.
    #[inline]
    pub fn publish<T: AsRef<str>>(&self, topic: T, message: impl Into<NewMessage>) -> Publish<'_, T> {
        Publish {
            core: &self.0.0,
            topic,
            message: Some(message.into()),
            waiting: Waiting::default(),
            sending: Sending::default(),
        }
    }

    /// Publishes a message without waiting.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and with [`WhenFull::Block`] also [`SendErrorKind::Full`]: a subscriber that wants it
    /// has no room.
    #[inline]
    pub fn try_publish(
        &self,
        topic: impl AsRef<str>,
        message: impl Into<NewMessage>,
    ) -> Result<(), SendError<NewMessage>> {
        let message = message.into();
        match self.0.0.publish(topic.as_ref(), &message, self.0.0.patience.is_some()) {
            Ok(()) => Ok(()),
            Err(kind) => Err(SendError { kind, message }),
        }
    }

    /// Publishes several messages, in order, and says how many: all, unless an error ends it.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), with the message that was not published; those before it were.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, some of the messages were published and the others are dropped.
    pub async fn publish_batch<T: AsRef<str>, M: Into<NewMessage>>(
        &self,
        messages: impl IntoIterator<Item = (T, M)>,
    ) -> Result<usize, SendError<NewMessage>> {
        let mut published = 0;
        for (topic, message) in messages {
            self.publish(topic, message).await?;
            published += 1;
        }
        Ok(published)
    }

    /// Waits until everything that was published before this call has arrived at the subscribers that are connected, or
    /// was dropped for them and counted. A subscriber whose link is lost meanwhile is not waited for.
    ///
    /// That a message has arrived says nothing of what the application there does with it.
    ///
    /// # Errors
    /// The node has ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub fn flush(&self) -> Flush {
        Flush(self.0.0.flush())
    }

    /// Waits until so many subscribers are connected, their subscriptions in force here: what is published from then on
    /// goes to them.
    ///
    /// # Errors
    /// The node has ended first.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn wait_for_subscribers(&self, subscribers: usize) -> Result<(), Closed> {
        self.0.0.subscribers.at_least(subscribers).await
    }

    /// A [`Sink`](futures_sink::Sink) of topics and messages into this socket, for combinators such as `forward` and
    /// `send_all`. A clone of the socket makes another one.
    pub fn into_sink(self) -> PublisherSink {
        PublisherSink::new(self)
    }

    /// How many subscribers are connected now.
    pub fn subscribers(&self) -> usize {
        lock(&self.0.0.board).publisher.subscribers()
    }

    /// Exact figures of now.
    pub fn metrics(&self) -> PublisherMetrics {
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

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("channel", &self.channel()).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.orphan();
    }
}

/// Whoever publishes waits for room.
#[derive(Default)]
struct Waiting {
    ticket: Ticket,
    /// Until when, once it waits.
    timer: Option<Timer>,
}

impl Waiting {
    /// Publishes once everybody has room, or when it has waited for long enough.
    fn poll_publish(
        &mut self,
        core: &Core,
        topic: &str,
        message: &NewMessage,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendErrorKind>> {
        let Some(patience) = core.patience else { return Poll::Ready(core.publish(topic, message, false)) };
        match core.publish_or_wait(topic, message, &mut self.ticket, cx.waker()) {
            Err(SendErrorKind::Full) => {}
            result => return Poll::Ready(result),
        }
        let timer = self.timer.get_or_insert_with(|| {
            let mut timer = core.env.timer();
            timer.set(Some(core.env.after(patience)));
            timer
        });
        timer.poll_fired(cx).map(|()| core.publish(topic, message, false))
    }

    /// It does not wait any more, or for another message.
    fn end(&mut self, core: &Core) {
        self.timer = None;
        if self.ticket.has_waited() {
            lock(&core.board).publisher.forget(&mut self.ticket);
        }
    }
}

/// A message that is being published: see [`Publisher::publish`].
#[must_use = "nothing is published until it is awaited"]
pub struct Publish<'a, T> {
    core: &'a Core,
    topic: T,
    /// `None`: published or given back.
    message: Option<NewMessage>,
    waiting: Waiting,
    sending: Sending,
}

/// Nothing of it is ever pinned.
impl<T> Unpin for Publish<'_, T> {}

impl<T: AsRef<str>> Future for Publish<'_, T> {
    type Output = Result<(), SendError<NewMessage>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(message) = &mut this.message else { panic!("polled after it was ready") };
        if spans::wanted() && !this.sending.is_recorded() {
            let room = this.core.options.bound.bytes - this.topic.as_ref().len() as u64 - 1;
            this.sending = Sending::begin(&this.core.channel, &this.core.env, message, room);
        }
        let result = std::task::ready!(this.waiting.poll_publish(this.core, this.topic.as_ref(), message, cx));
        let message = this.message.take().unwrap_or_default();
        Poll::Ready(match result {
            Ok(()) => Ok(()),
            Err(kind) => {
                let mut message = message;
                this.sending.refused(&mut message, kind);
                Err(SendError { kind, message })
            }
        })
    }
}

impl<T> Drop for Publish<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.waiting.end(self.core);
    }
}

impl<T> fmt::Debug for Publish<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish").field("message", &self.message).finish_non_exhaustive()
    }
}
