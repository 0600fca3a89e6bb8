//! PUSH as a sink: for code that is written against `Sink` and knows nothing of sockets.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;

use super::Push;
use crate::error::{SendError, SendErrorKind};
use crate::message::NewMessage;
use crate::pattern::push::{Amount, Refused, lock};
use crate::pattern::waiters::Ticket;
use crate::socket::spans::Sending;

/// A push socket as a [`Sink`]: see [`Push::into_sink`].
///
/// `poll_ready` waits for room for one message and sets it aside, as [`Push::reserve`] does. The size of the message is
/// not known then, so only its place is set aside, not its bytes: where these do not fit, the sink itself holds the
/// message, one at the most, until they do. The socket's bound stays exact.
///
/// `poll_flush` and `poll_close` wait until that message, too, is **accepted**. They do not wait for a puller:
/// [`Push::flush`] does, by way of [`push`](Self::push). Closing ends this sink and not the socket.
///
/// An error is that of one message, and carries it; after [`SendErrorKind::TooLarge`] or [`SendErrorKind::Header`] the sink
/// goes on.
///
/// # Cancel safety
/// A `feed` or `send` that is dropped before it is ready has dropped its message, or the sink holds it: then it is accepted
/// by what is awaited next on the sink. The sink dropped, what it has set aside is free again, and a message that it holds
/// is dropped with it.
///
/// ```
/// use futures_util::{SinkExt, StreamExt, stream};
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let mut sink = node.push("lines").await?.into_sink();
/// let lines = node.pull("lines").await?;
///
/// let mut text = stream::iter(["one", "two"]).map(|line| Ok(line.into()));
/// sink.send_all(&mut text).await?;
///
/// let seen: Vec<_> = lines.take(2).map(|line| String::from_utf8_lossy(&line.ack_into_message()).into_owned()).collect().await;
/// assert_eq!(seen, ["one", "two"]);
/// # Ok(())
/// # }
/// ```
pub struct PushSink {
    push: Push,
    state: State,
    ticket: Ticket,
}

enum State {
    /// Nothing is set aside.
    Idle,
    /// The place of one message is set aside.
    Ready,
    /// So it is, and this message waits for room for its bytes.
    Holds(NewMessage, Sending),
    Closed,
}

impl PushSink {
    pub(super) fn new(push: Push) -> Self {
        Self { push, state: State::Idle, ticket: Ticket::default() }
    }

    /// The socket.
    pub fn push(&self) -> &Push {
        &self.push
    }

    /// Ready: the sink holds no message.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<Option<NewMessage>>>> {
        let this = self;
        let State::Holds(message, sending) = &mut this.state else { return Poll::Ready(Ok(())) };
        let core = &this.push.0.0;
        let accepted = {
            let mut intake = lock(&core.intake.0);
            let accepted = intake.accept_into_place(message);
            if accepted == Err(Refused::Full) {
                intake.wait(&mut this.ticket, cx.waker());
                return Poll::Pending;
            }
            accepted
        };
        match accepted {
            Ok(accepted) => {
                sending.accepted(|| core.message_id(accepted.sequence));
                this.state = State::Idle;
                if accepted.wake {
                    core.work.notify_one();
                }
                Poll::Ready(Ok(()))
            }
            Err(_) => {
                sending.refused(message, SendErrorKind::Closed);
                Poll::Ready(Err(refused(SendErrorKind::Closed, this.let_go())))
            }
        }
    }

    /// Gives back what is set aside, and with it the message that it was for.
    fn let_go(&mut self) -> Option<NewMessage> {
        let held = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle | State::Closed => return None,
            State::Ready => None,
            State::Holds(message, _) => Some(message),
        };
        self.push.0.0.release(PLACE);
        held
    }
}

impl Sink<NewMessage> for PushSink {
    /// Why, and the message that it was about, where it was about one.
    type Error = SendError<Option<NewMessage>>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = &mut *self;
        ready!(this.poll_accept(cx))?;
        match this.state {
            State::Ready => return Poll::Ready(Ok(())),
            State::Closed => return Poll::Ready(Err(refused(SendErrorKind::Closed, None))),
            State::Idle | State::Holds(..) => {}
        }
        let reserved = {
            let mut intake = lock(&this.push.0.0.intake.0);
            let reserved = intake.reserve(0);
            if reserved == Err(Refused::Full) {
                intake.wait(&mut this.ticket, cx.waker());
                return Poll::Pending;
            }
            reserved
        };
        match reserved {
            Ok(()) => {
                this.state = State::Ready;
                Poll::Ready(Ok(()))
            }
            Err(_) => Poll::Ready(Err(refused(SendErrorKind::Closed, None))),
        }
    }

    fn start_send(mut self: Pin<&mut Self>, mut message: NewMessage) -> Result<(), Self::Error> {
        match self.state {
            State::Ready => {}
            State::Closed => return Err(refused(SendErrorKind::Closed, Some(message))),
            // Nobody has asked whether it is ready.
            State::Idle | State::Holds(..) => return Err(refused(SendErrorKind::Full, Some(message))),
        }
        let core = self.push.0.0.clone();
        let mut sending = core.begin(&mut message, None);
        let accepted = core.check(&message).and_then(|()| {
            let accepted = lock(&core.intake.0).accept_into_place(&message);
            accepted.map_err(|why| core.refusal(why, message.size()))
        });
        match accepted {
            Ok(accepted) => {
                sending.accepted(|| core.message_id(accepted.sequence));
                self.state = State::Idle;
                if accepted.wake {
                    core.work.notify_one();
                }
            }
            Err(SendErrorKind::Full) => self.state = State::Holds(message, sending),
            Err(kind) => {
                sending.refused(&mut message, kind);
                self.let_go();
                return Err(refused(kind, Some(message)));
            }
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_accept(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_accept(cx))?;
        self.let_go();
        self.state = State::Closed;
        Poll::Ready(Ok(()))
    }
}

impl Drop for PushSink {
    fn drop(&mut self) {
        self.push.0.0.forget(&mut self.ticket);
        self.let_go();
    }
}

impl fmt::Debug for PushSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushSink").field("channel", &self.push.channel()).finish_non_exhaustive()
    }
}

fn refused(kind: SendErrorKind, message: Option<NewMessage>) -> SendError<Option<NewMessage>> {
    SendError { kind, message }
}

/// What is set aside before a message is known.
const PLACE: Amount = Amount { messages: 1, bytes: 0 };
