//! A published message, as a subscriber is handed it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::Message;
use crate::error::Gap;
use crate::pattern::batch::Batch;

/// A message that was published, from [`Subscriber::recv`](crate::Subscriber::recv). Dereferences to its
/// [`Message`], and so to its body; cloning it is cheap.
///
/// Nobody answers it. Its [`id`](Message::id) counts, from 0, what this publisher had for this subscriber; the same message
/// has another one at another subscriber.
///
/// ```
/// use meshmq::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> meshmq::Result<()> {
/// let node = Node::isolated().await?;
/// let (ticks, sub) = (node.publisher("ticks").await?, node.subscriber("ticks").topic("eu.>").await?);
/// ticks.publish("eu.dax", "18,412").await?;
/// let tick = sub.recv().await?;
/// assert_eq!((tick.topic(), &**tick), ("eu.dax", &b"18,412"[..]));
/// assert!(tick.missed().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Publication {
    message: Message,
    missed: Option<Gap>,
}

impl Publication {
    pub(crate) fn new(batch: Arc<Batch>, index: u32, missed: Option<Gap>) -> Self {
        Self { message: Message::new(batch, index), missed }
    }

    /// What it was published under.
    pub fn topic(&self) -> &str {
        self.message.topic()
    }

    /// What its publisher had for this subscriber just before it and that was dropped: how many messages.
    pub fn missed(&self) -> Option<Gap> {
        self.missed
    }

    /// The message, without what was missed before it.
    pub fn into_message(self) -> Message {
        self.message
    }
}

impl Deref for Publication {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("topic", &self.topic())
            .field("id", &self.message.id().to_string())
            .field("len", &self.message.len())
            .field("missed", &self.missed)
            .finish()
    }
}
