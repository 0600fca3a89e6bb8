//! What is received: a message, and a delivery that has to be answered. What is published and needs no answer is in
//! `publication`, what is sent in `new`, what both have beside their body in `headers`, and which trace they belong to in
//! `trace_parent`.

mod headers;
mod new;
mod publication;
mod trace_parent;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::Span;

pub use self::headers::{HeaderIter, Headers};
pub use self::new::NewMessage;
pub use self::publication::Publication;
pub use self::trace_parent::{InvalidTraceParent, TraceParent};
use crate::id::NodeId;
use crate::pattern::batch::{self, Batch, Detail, State};
use crate::pattern::content::Content;

/// A message for ever: redelivered, it keeps its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct MessageId {
    /// The node that accepted it.
    pub node: NodeId,
    /// The socket, and the life of it, that accepted it: a random number.
    pub epoch: u64,
    /// Counts what that socket accepted, from 0.
    pub sequence: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{}", self.node.short(), self.epoch, self.sequence)
    }
}

/// A received message. Dereferences to its body; cloning it is cheap.
///
/// A small message is a slice of what was received together with others, and keeps that alive.
#[derive(Clone)]
pub struct Message(Source);

/// Where a message lies.
#[derive(Clone)]
enum Source {
    Batch(Arc<Batch>, u32),
    Alone(Arc<Alone>),
}

/// A message that came by itself: a request, or a reply.
pub(crate) struct Alone {
    pub(crate) id: MessageId,
    pub(crate) sender: NodeId,
    pub(crate) attempt: u32,
    pub(crate) content: Content,
}

impl Message {
    #[inline]
    pub(crate) fn new(batch: Arc<Batch>, index: u32) -> Self {
        Self(Source::Batch(batch, index))
    }

    pub(crate) fn alone(alone: Alone) -> Self {
        Self(Source::Alone(Arc::new(alone)))
    }

    /// The body, without a copy.
    pub fn body(&self) -> Bytes {
        match &self.0 {
            Source::Batch(batch, index) => batch.body(*index),
            Source::Alone(alone) => alone.content.body.clone(),
        }
    }

    /// Its headers, without a copy.
    pub fn headers(&self) -> Headers {
        Headers::of(match &self.0 {
            Source::Batch(batch, index) => batch.headers(*index),
            Source::Alone(alone) => alone.content.headers.clone(),
        })
    }

    /// The value of the first header of this name, byte by byte: `Kind` is another name than `kind`.
    pub fn header(&self, name: &str) -> Option<&str> {
        let block = match &self.0 {
            Source::Batch(batch, index) => batch.header_block(*index),
            Source::Alone(alone) => &alone.content.headers,
        };
        headers::find(block, name)
    }

    /// Where it stands in a distributed trace. `None`: it has no header `traceparent`, or one that is malformed, which
    /// only an implementation other than this one sends.
    pub fn trace_parent(&self) -> Option<TraceParent> {
        self.header(TraceParent::HEADER)?.parse().ok()
    }

    /// The node that sent it, as proven by its certificate.
    pub fn sender(&self) -> NodeId {
        match &self.0 {
            Source::Batch(batch, _) => batch.source().node,
            Source::Alone(alone) => alone.sender,
        }
    }

    /// Its id, the same over redeliveries. That of a reply is the id of its request.
    pub fn id(&self) -> MessageId {
        match &self.0 {
            Source::Batch(batch, index) => {
                let batch::Source { node, epoch } = batch.source();
                MessageId { node, epoch, sequence: batch.sequence(*index) }
            }
            Source::Alone(alone) => alone.id,
        }
    }

    /// What it was published under; nothing where it was not.
    pub(crate) fn topic(&self) -> &str {
        match &self.0 {
            Source::Batch(batch, index) => batch.topic(*index),
            Source::Alone(_) => "",
        }
    }

    /// 1 for the first dispatch, one more for each further one; serves as a fencing number. That of a reply is the attempt
    /// that it answers.
    pub fn attempt(&self) -> u32 {
        match &self.0 {
            Source::Batch(batch, index) => batch.mark(*index).attempt,
            Source::Alone(alone) => alone.attempt,
        }
    }

    /// How often a worker has failed with it: nacked it, dropped it, or, where `max_failures` is set, died with it. 0 for
    /// requests and replies.
    pub fn failures(&self) -> u32 {
        match &self.0 {
            Source::Batch(batch, index) => batch.mark(*index).failures,
            Source::Alone(_) => 0,
        }
    }

    /// `false` is a guarantee that no application has been handed this message before; `true` is a hint that one may have.
    /// So a worker that was given up by its pusher and does not know it yet, as it was stopped or cut off, is told `true` of
    /// what still waits there. What is left is the moment that the word of it is under way.
    pub fn redelivered(&self) -> bool {
        match &self.0 {
            Source::Batch(batch, index) => batch.mark(*index).redelivered,
            Source::Alone(alone) => alone.attempt > 1,
        }
    }

    /// Of a delivery: where its answer goes.
    #[inline]
    fn batched(&self) -> (&Arc<Batch>, u32) {
        match &self.0 {
            Source::Batch(batch, index) => (batch, *index),
            Source::Alone(_) => unreachable!("a delivery lies in a batch"),
        }
    }

    #[inline]
    fn slice(&self) -> &[u8] {
        match &self.0 {
            Source::Batch(batch, index) => batch.slice(*index),
            Source::Alone(alone) => &alone.content.body,
        }
    }
}

impl Deref for Message {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.slice()
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id().to_string())
            .field("attempt", &self.attempt())
            .field("len", &self.len())
            .finish()
    }
}

/// A message in hand, which has to be answered: [`ack`](Self::ack), [`nack`](Self::nack), [`reject`](Self::reject).
///
/// Dropped without an answer — an early return, a `?`, a cancelled task, a panic — it goes back like after a `nack`.
/// It is held for as long as it takes: there is no lease to renew. Dereferences to its [`Message`].
pub struct Delivery {
    message: Message,
    answered: bool,
    /// Its span, where somebody records one.
    span: Option<Box<Span>>,
}

impl Delivery {
    /// `span`: from its hand-over to its answer.
    #[inline]
    pub(crate) fn new(batch: Arc<Batch>, index: u32, span: Option<Box<Span>>) -> Self {
        Self { message: Message::new(batch, index), answered: false, span }
    }

    /// The span of its handling, from its hand-over to its answer, to put work into; disabled where nobody records it.
    /// A handler of [`Pull::serve`](crate::Pull::serve) runs in it anyway.
    ///
    /// ```
    /// # use meshmq::Delivery;
    /// use tracing::Instrument;
    ///
    /// # async fn resize(body: &[u8]) {}
    /// async fn work(job: Delivery) {
    ///     resize(&job).instrument(job.span()).await;
    ///     job.ack();
    /// }
    /// ```
    pub fn span(&self) -> Span {
        self.span.as_ref().map_or_else(Span::none, |span| Span::clone(span))
    }

    /// It is handled: its sender lets it go.
    #[inline]
    pub fn ack(mut self) {
        self.answer(State::Acked);
    }

    /// It failed: it goes out again, to whoever has room, after the sender's back-off (at once after the first failure,
    /// then 10 ms, 100 ms, 1 s, 5 s, 30 s).
    pub fn nack(mut self) {
        self.answer(State::Nacked);
    }

    /// It failed, and goes out again after `delay`, to the millisecond; zero is at once. The longest is 2^32 - 1 ms, some
    /// 49 days: what is above counts as that.
    pub fn nack_after(mut self, delay: Duration) {
        self.answer_with(State::Nacked, Detail::Delay(delay));
    }

    /// It must never be delivered again. The sender counts it and raises an event that carries it and the reason, of
    /// which 1,024 bytes are kept.
    pub fn reject(mut self, reason: impl Into<String>) {
        self.answer_with(State::Rejected, Detail::Reason(reason.into()));
    }

    /// Acknowledges, and keeps the message.
    pub fn ack_into_message(mut self) -> Message {
        self.answer(State::Acked);
        self.message.clone()
    }

    /// Acknowledged as it is handed out.
    pub(crate) fn acked(mut self) -> Self {
        self.answer(State::Acked);
        self
    }

    #[inline]
    fn answer(&mut self, state: State) {
        // Acknowledged on receipt: that was the answer.
        if self.answered {
            return;
        }
        self.answered = true;
        if self.span.is_some() {
            self.record(state);
        }
        let (batch, index) = self.message.batched();
        batch.answer(index, state);
    }

    fn answer_with(&mut self, state: State, detail: Detail) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        self.record(state);
        let (batch, index) = self.message.batched();
        batch.answer_with(index, state, detail);
    }

    /// Tells the span how it ends.
    #[cold]
    fn record(&self, state: State) {
        if let Some(span) = &self.span {
            let answer = match state {
                State::Acked => "acked",
                State::Rejected => "rejected",
                _ => "nacked",
            };
            span.record("answer", answer);
        }
    }
}

impl Deref for Delivery {
    type Target = Message;

    #[inline]
    fn deref(&self) -> &Message {
        &self.message
    }
}

impl Drop for Delivery {
    #[inline]
    fn drop(&mut self) {
        if !self.answered {
            self.answer(State::Nacked);
            self.message.batched().0.lane().dropped_unanswered(&self.message);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Delivery").field(&self.message).finish()
    }
}
