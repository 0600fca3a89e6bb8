//! A request in an application's hands: what does it say, and how is it answered?

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tracing::Span;

use super::core::Core;
use crate::error::ReplyError;
use crate::message::{Alone, Message, MessageId, NewMessage};
use crate::pattern::content::Content;
use crate::pattern::push::lock;
use crate::pattern::reply::{Answer, Handed, WorkKey};
use crate::pattern::waiters::Ticket;
use crate::socket::spans;

/// A request in hand, which has to be answered: [`reply`](Self::reply), [`fail`](Self::fail).
///
/// Dropped without an answer — an early return, a `?`, a cancelled task, a panic — it fails with the code `dropped`.
/// Dereferences to its [`Message`].
pub struct Request {
    message: Message,
    /// Apart, so that it is small where it is passed on.
    hand: Box<Hand>,
}

struct Hand {
    core: Arc<Core>,
    key: WorkKey,
    deadline: Instant,
    idempotent: bool,
    answered: bool,
    /// Its span, where somebody records one.
    span: Option<Box<Span>>,
}

impl Request {
    pub(super) fn new(core: Arc<Core>, handed: Handed) -> Self {
        let Handed { key, content, deadline, idempotent, attempt, node, epoch, id } = handed;
        let id = MessageId { node, epoch, sequence: id };
        let message = Message::alone(Alone { id, sender: node, attempt, content });
        let span = if spans::wanted() { spans::handle_request(&core.channel, &message) } else { None };
        Self { message, hand: Box::new(Hand { core, key, deadline, idempotent, answered: false, span }) }
    }

    /// Answers it. The reply is this node's until it is written; who asked may have given up meanwhile, which is no error.
    ///
    /// # Errors
    /// The reply does not fit. The request has failed, and whoever asked is told why.
    pub fn reply(mut self, message: impl Into<NewMessage>) -> Result<(), ReplyError> {
        let message = message.into();
        let limit = self.hand.core.largest_reply(self.hand.key);
        let (len, fits) = (message.body().len(), message.check_headers());
        let fault = match fits {
            Err(header) => Some(ReplyError::Header(header)),
            Ok(()) if len > limit => Some(ReplyError::TooLarge { len, limit }),
            Ok(()) => None,
        };
        let Some(fault) = fault else {
            let headers = bytes::Bytes::copy_from_slice(message.block());
            self.answer(Answer::Reply(Content { headers, body: message.into_body() }), "replied");
            return Ok(());
        };
        let (channel, id) = (&self.hand.core.channel, self.message.id());
        tracing::warn!(target: "meshmq::socket", channel, %id, %fault, "a reply does not fit: its request has failed");
        let code = match fault {
            ReplyError::TooLarge { len, limit } => {
                self.hand.core.too_large(self.message.sender(), len, limit);
                "too_large"
            }
            ReplyError::Header(_) => "invalid",
        };
        self.answer(Answer::Failed { code: code.into(), message: fault.to_string() }, "failed");
        Err(fault)
    }

    /// Answers that it failed: with a code for programs, of which the first 64 bytes are told, and a message for people, of
    /// which the first 1,024 are.
    pub fn fail(mut self, code: impl Into<String>, message: impl Into<String>) {
        self.answer(Answer::Failed { code: code.into(), message: message.into() }, "failed");
    }

    /// The time at which nobody waits for the answer any more.
    pub fn deadline(&self) -> Instant {
        self.hand.deadline
    }

    /// How long the answer is waited for from now on; zero: not any more.
    pub fn remaining(&self) -> Duration {
        self.hand.deadline.saturating_duration_since(self.hand.core.env.now())
    }

    /// Whoever asks has said that it does no harm when two handlers run for it.
    pub fn is_idempotent(&self) -> bool {
        self.hand.idempotent
    }

    /// Nobody waits for the answer any more: it was given up, its time is over, or its link was lost.
    pub fn is_cancelled(&self) -> bool {
        !lock(&self.hand.core.works).is_open(self.hand.key)
    }

    /// Waits until nobody waits for the answer any more. A handler that is told in this way can stop its work.
    ///
    /// # Cancel safety
    /// Can be dropped and called again at any time.
    pub async fn cancelled(&self) {
        let mut watcher = Watcher { request: self, ticket: Ticket::default() };
        std::future::poll_fn(|cx| {
            let mut works = lock(&watcher.request.hand.core.works);
            works.poll_over(watcher.request.hand.key, &mut watcher.ticket, cx.waker())
        })
        .await;
    }

    /// The span of its handling, from its hand-over to its answer, to put work into; disabled where nobody records it. A
    /// handler of [`Replier::serve`](crate::Replier::serve) runs in it anyway.
    pub fn span(&self) -> Span {
        self.hand.span.as_ref().map_or_else(Span::none, |span| Span::clone(span))
    }

    /// Its handler has panicked.
    pub(super) fn panicked(self) {
        let (channel, id) = (&self.hand.core.channel, self.message.id());
        tracing::error!(target: "meshmq::socket", channel, %id, "a handler panicked");
        self.fail("panic", "the handler panicked");
    }

    fn answer(&mut self, answer: Answer, how: &str) {
        self.hand.answered = true;
        let heard = self.hand.core.turn(|works, _| works.answer(self.hand.key, answer));
        if let Some(span) = &self.hand.span {
            span.record("answer", if heard { how } else { "cancelled" });
        }
    }
}

impl Deref for Request {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.hand.answered {
            return;
        }
        let cancelled = self.is_cancelled();
        let message = "the request was dropped without an answer".into();
        self.answer(Answer::Failed { code: "dropped".into(), message }, "dropped");
        if !cancelled && !self.hand.core.warned.swap(true, Relaxed) {
            tracing::warn!(
                target: "meshmq::socket",
                channel = self.hand.core.channel,
                id = %self.message.id(),
                "a request was dropped without an answer and fails with the code `dropped`; this is said once a socket"
            );
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Request").field(&self.message).finish()
    }
}

/// Whoever wants to know when nobody waits any more. Dropped, it does not.
struct Watcher<'a> {
    request: &'a Request,
    ticket: Ticket,
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        if self.ticket.has_waited() {
            lock(&self.request.hand.core.works).forget_watcher(self.request.hand.key, &mut self.ticket);
        }
    }
}
