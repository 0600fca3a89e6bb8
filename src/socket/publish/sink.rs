//! PUBLISHER as a sink: for code that is written against `Sink` and knows nothing of sockets.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;

use super::{Publisher, Waiting};
use crate::error::{SendError, SendErrorKind};
use crate::message::NewMessage;

/// A publisher as a [`Sink`] of topics and messages: see [`Publisher::into_sink`].
///
/// With [`WhenFull::Block`](crate::WhenFull::Block) it holds a message, one at the most, until that is published, as
/// [`Publisher::publish`] would; otherwise nothing waits. `poll_flush` and `poll_close` wait until that message is
/// published, and not until subscribers have it: [`Publisher::flush`] does, by way of [`publisher`](Self::publisher). Closing
/// ends this sink and not the socket.
///
/// An error is that of one message, and carries it; after all but [`SendErrorKind::Closed`] the sink goes on.
///
/// # Cancel safety
/// A `feed` or `send` that is dropped before it is ready has dropped its message, or the sink holds it: then it is published
/// by what is awaited next on the sink. The sink dropped, a message that it holds is dropped with it.
///
/// ```
/// use futures_util::{SinkExt, StreamExt, stream};
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let lines = node.subscriber("lines").await?;
/// let mut sink = node.publisher("lines").await?.into_sink();
/// sink.publisher().wait_for_subscribers(1).await?;
///
/// let mut text = stream::iter([("app.web", "one"), ("app.db", "two")]).map(Ok);
/// sink.send_all(&mut text).await?;
///
/// assert_eq!(lines.recv().await?.topic(), "app.web");
/// assert_eq!(lines.recv().await?.topic(), "app.db");
/// # Ok(())
/// # }
/// ```
pub struct PublisherSink {
    publisher: Publisher,
    held: Option<(String, NewMessage)>,
    waiting: Waiting,
    closed: bool,
}

impl PublisherSink {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self { publisher, held: None, waiting: Waiting::default(), closed: false }
    }

    /// The socket.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Ready: the sink holds no message.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<Option<NewMessage>>>> {
        let Some((topic, message)) = &self.held else { return Poll::Ready(Ok(())) };
        let core = &self.publisher.0.0;
        let result = ready!(self.waiting.poll_publish(core, topic, message, cx));
        self.waiting.end(core);
        let message = self.held.take().map(|(_, message)| message);
        Poll::Ready(result.map_err(|kind| SendError { kind, message }))
    }
}

impl<T: AsRef<str>, M: Into<NewMessage>> Sink<(T, M)> for PublisherSink {
    /// Why, and the message that it was about, where it was about one.
    type Error = SendError<Option<NewMessage>>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.closed {
            return Poll::Ready(Err(SendError { kind: SendErrorKind::Closed, message: None }));
        }
        self.poll_held(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, (topic, message): (T, M)) -> Result<(), Self::Error> {
        let message = message.into();
        let this = &mut *self;
        if this.closed || this.held.is_some() {
            // Nobody has asked whether it is ready.
            let kind = if this.closed { SendErrorKind::Closed } else { SendErrorKind::Full };
            return Err(SendError { kind, message: Some(message) });
        }
        let core = &this.publisher.0.0;
        match core.publish(topic.as_ref(), &message, core.patience.is_some()) {
            Ok(()) => Ok(()),
            Err(SendErrorKind::Full) => {
                this.held = Some((topic.as_ref().to_owned(), message));
                Ok(())
            }
            Err(kind) => Err(SendError { kind, message: Some(message) }),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_held(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_held(cx))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for PublisherSink {
    fn drop(&mut self) {
        self.waiting.end(&self.publisher.0.0);
    }
}

impl fmt::Debug for PublisherSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherSink").field("channel", &self.publisher.channel()).finish_non_exhaustive()
    }
}
