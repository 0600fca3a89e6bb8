//! How a node ends: it drains, says goodbye, and hands back what it could not deliver.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::hall::Hall;
use crate::link::CloseCode;
use crate::message::Headers;
use crate::pattern::content::Content;
use crate::pattern::lane::SocketEnd;

/// What a node could not deliver before it ended: see [`Node::shutdown`](crate::Node::shutdown).
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Undelivered {
    /// In the order in which their sockets were opened, and within each in the order of acceptance.
    pub messages: Vec<UndeliveredMessage>,
}

/// A message that was accepted and not settled.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UndeliveredMessage {
    /// The channel that it was sent to.
    pub channel: String,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
}

impl Undelivered {
    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Everything that was accepted is settled.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

impl IntoIterator for Undelivered {
    type Item = UndeliveredMessage;
    type IntoIter = std::vec::IntoIter<UndeliveredMessage>;

    fn into_iter(self) -> Self::IntoIter {
        self.messages.into_iter()
    }
}

/// What a leaving node waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Everything, deliveries in hand too, as somebody is there to answer them.
    Shutdown,
    /// What was accepted for sending: nobody holds the node any more.
    LastDrop,
}

impl Hall {
    /// Drains for so long at the most, says goodbye, and ends every task of the node. The first call does it; another
    /// waits for it and hands back nothing.
    pub(super) async fn leave(self: &Arc<Self>, drain: Duration, leaving: Leaving) -> Undelivered {
        let first = !std::mem::replace(&mut self.lock().closing, true);
        if !first {
            self.over.cancelled().await;
            return Undelivered::default();
        }
        self.drain(drain, leaving).await;
        let until = self.env.after(GOODBYE_TIME);
        self.say_goodbye().await;
        let sockets: Vec<_> = std::mem::take(&mut self.lock().sockets).into_values().collect();
        let mut messages = Vec::new();
        for socket in sockets {
            let channel = &socket.entry.channel;
            let contents = socket.end.close().into_iter();
            messages.extend(contents.map(|Content { headers, body }| UndeliveredMessage {
                channel: channel.clone(),
                headers: Headers::of(headers),
                body,
            }));
        }
        let left = until.saturating_duration_since(self.env.now());
        self.endpoint.close(CloseCode::Goodbye, GOODBYE, left).await;
        self.settled.send_replace(true);
        self.tell_news();
        self.over.cancel();
        self.ring.close();
        Undelivered { messages }
    }

    /// Sends are refused from now on, and nothing more is handed out.
    pub(super) fn refuse(&self) {
        let now = self.env.now();
        for end in self.ends(|_| true) {
            end.drain(now);
        }
    }

    /// A socket owes nothing any more.
    pub(crate) fn drained(&self) {
        self.progress.notify_one();
    }

    /// Something was accepted for sending and is not settled.
    pub(super) fn owes(&self) -> bool {
        self.ends(|opens_lane| opens_lane).iter().any(|end| !end.is_drained())
    }

    async fn drain(&self, drain: Duration, leaving: Leaving) {
        self.refuse();
        let mut deadline = self.env.after(drain);
        let mut flushing = false;
        loop {
            if self.is_drained(leaving, &mut flushing, &mut deadline) || self.env.now() >= deadline {
                return;
            }
            tokio::select! {
                biased;
                () = self.progress.notified() => {}
                () = self.env.sleep_until(deadline) => {}
            }
        }
    }

    fn is_drained(&self, leaving: Leaving, flushing: &mut bool, deadline: &mut Instant) -> bool {
        let senders = self.ends(|opens_lane| leaving == Leaving::Shutdown || opens_lane);
        if !senders.iter().all(|end| end.is_drained()) {
            return false;
        }
        if leaving == Leaving::LastDrop && !*flushing {
            // What is left are answers on their way out, and deliveries that nobody may ever answer.
            *flushing = true;
            *deadline = (*deadline).min(self.env.now() + FLUSH);
        }
        self.lock().lanes == 0
    }

    /// The sockets' ends, to be called without the lock.
    fn ends(&self, which: impl Fn(bool) -> bool) -> Vec<Arc<dyn SocketEnd>> {
        let state = self.lock();
        let sockets = state.sockets.values().filter(|socket| which(socket.entry.kind.opens_lane()));
        sockets.map(|socket| socket.end.clone()).collect()
    }

    async fn say_goodbye(&self) {
        {
            let mut state = self.lock();
            state.leaving = true;
            for connected in state.connections.values_mut() {
                connected.session.leave(GOODBYE);
                connected.say.notify_one();
            }
        }
        let all_said = async {
            while !self.lock().connections.is_empty() {
                self.progress.notified().await;
            }
        };
        self.env.timeout(GOODBYE_TIME - CLOSE_TIME, all_said).await;
    }
}

/// The reason that peers are told.
const GOODBYE: &str = "shut down";
/// How long all goodbyes together may take, with the end of the connections.
const GOODBYE_TIME: Duration = Duration::from_secs(1);
/// What is kept of it for that end.
const CLOSE_TIME: Duration = Duration::from_millis(100);
/// How long the last drop waits for lanes that have nothing more to send.
const FLUSH: Duration = Duration::from_millis(500);
