//! A request: what can be said of it, and its way to a reply.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Handle;
use super::core::{content, error};
use crate::error::RequestError;
use crate::id::NodeId;
use crate::message::{Alone, Message, NewMessage};
use crate::pattern::request::{Asked, Outcome, Target};
use crate::socket::spans::{self, AskingSpan};
use crate::wire::limits::REQUEST_TIMEOUT;

/// A request that is not sent yet: see [`Requester::request`](crate::Requester::request). Await it to send it and to wait for
/// its reply.
///
/// | option | default |
/// |---|---|
/// | [`timeout`](Self::timeout) | 10 s |
/// | [`idempotent`](Self::idempotent) | no: a handler runs at most once |
/// | [`wait_for_replier`](Self::wait_for_replier) | no: where nobody is there, that is said at once |
/// | [`to`](Self::to) | any replier on the channel |
///
/// # Cancel safety
/// Dropped before it was awaited, nothing is sent. Dropped while it waits, whoever has the request is told that nobody waits
/// for it any more: its handler is dropped.
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct Ask {
    handle: Arc<Handle>,
    message: NewMessage,
    options: Options,
}

#[derive(Debug, Clone, Copy)]
struct Options {
    timeout: Duration,
    idempotent: bool,
    patient: bool,
    target: Target,
}

impl Ask {
    pub(super) fn new(handle: Arc<Handle>, message: NewMessage) -> Self {
        let options = Options { timeout: REQUEST_TIMEOUT, idempotent: false, patient: false, target: Target::Anybody };
        Self { handle, message, options }
    }

    /// How long the reply is waited for, from when it is awaited first. What is left of it travels with the request: its
    /// handler is given up when it is over.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.options.timeout = time;
        self
    }

    /// It does no harm when two handlers run for it: where its replier is lost before it has answered, another one is asked,
    /// within the time. One replier answers a repeat by the same work.
    pub fn idempotent(mut self) -> Self {
        self.options.idempotent = true;
        self
    }

    /// Where no replier is there, one is waited for, within the time.
    pub fn wait_for_replier(mut self) -> Self {
        self.options.patient = true;
        self
    }

    /// Only the repliers of this node are asked.
    pub fn to(mut self, node: NodeId) -> Self {
        self.options.target = Target::Node(node);
        self
    }

    /// Adds a header: as [`NewMessage::header`].
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.message = self.message.header(name, value);
        self
    }
}

impl IntoFuture for Ask {
    type Output = Result<Reply, RequestError>;
    type IntoFuture = Asking;

    fn into_future(self) -> Asking {
        let Self { handle, message, options } = self;
        Asking { handle, state: State::New(message, options), span: AskingSpan::default() }
    }
}

/// A request on its way: see [`Ask`].
#[must_use = "nothing is asked until it is awaited"]
pub struct Asking {
    handle: Arc<Handle>,
    state: State,
    span: AskingSpan,
}

enum State {
    New(NewMessage, Options),
    /// With its number.
    Open(u64),
    Over,
}

impl Asking {
    /// To one replier alone.
    pub(super) fn of_lane(handle: Arc<Handle>, message: NewMessage, timeout: Duration, target: Target) -> Self {
        let options = Options { timeout, idempotent: false, patient: false, target };
        Self { handle, state: State::New(message, options), span: AskingSpan::default() }
    }

    fn begin(&mut self, mut message: NewMessage, options: Options) -> Result<u64, RequestError> {
        let core = &self.handle.0;
        core.check(&message)?;
        if spans::wanted() {
            self.span = AskingSpan::begin(&core.channel, &core.env, &mut message);
        }
        let Options { timeout, idempotent, patient, target } = options;
        let deadline = core.env.after(timeout);
        let number = core.ask(Asked { content: content(message), deadline, idempotent, patient, target })?;
        self.span.asked(|| core.message_id(number));
        Ok(number)
    }
}

impl Future for Asking {
    type Output = Result<Reply, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let number = match std::mem::replace(&mut self.state, State::Over) {
            State::New(message, options) => match self.begin(message, options) {
                Ok(number) => number,
                Err(error) => {
                    self.span.ended(&Err(&error));
                    return Poll::Ready(Err(error));
                }
            },
            State::Open(number) => number,
            State::Over => panic!("polled after it was ready"),
        };
        let Poll::Ready(outcome) = self.handle.0.poll(number, cx.waker()) else {
            self.state = State::Open(number);
            return Poll::Pending;
        };
        let result = match outcome {
            Outcome::Replied { content, by, attempt } => {
                let id = self.handle.0.message_id(number);
                Ok(Reply(Message::alone(Alone { id, sender: by, attempt, content })))
            }
            other => Err(error(other)),
        };
        self.span.ended(&result.as_ref().map(|reply| reply.sender()));
        Poll::Ready(result)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let State::Open(number) = self.state {
            self.handle.0.forget(number);
        }
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").field("channel", &self.handle.0.channel).finish_non_exhaustive()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("channel", &self.0.channel).finish_non_exhaustive()
    }
}

/// The answer to a request. Dereferences to its [`Message`], whose sender is the replier's node.
#[derive(Debug, Clone)]
pub struct Reply(Message);

impl Reply {
    /// The message alone.
    pub fn into_message(self) -> Message {
        self.0
    }
}

impl Deref for Reply {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.0
    }
}
