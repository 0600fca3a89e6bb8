//! What happened, for those who want to know: a ring, bounded in count and bytes, that never makes the node wait.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;

use crate::error::Gap;
use crate::id::{NodeId, Types};
use crate::message::{Headers, MessageId};
use crate::pattern::push::{Dead, Outcome};

/// Something that happened in the mesh, as this node saw it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A link to a peer is open.
    PeerJoined {
        /// Who it is.
        node: NodeId,
        /// What it calls itself; proves nothing.
        name: String,
        /// Where it is.
        address: SocketAddr,
    },
    /// The link to a peer has ended. What was in flight on it goes back to its queue.
    PeerLeft {
        /// Who it was.
        node: NodeId,
        /// What it called itself.
        name: String,
        /// Why, for people.
        why: String,
    },
    /// Somebody connected and could not prove to be of this mesh.
    Refused {
        /// Where they are.
        address: SocketAddr,
        /// Why, for people.
        why: String,
    },
    /// Whoever is at this address is there but no link came about: as a rule they are of another mesh. Told when the
    /// reason changes; the node goes on trying.
    NoLink {
        /// Where they are.
        address: SocketAddr,
        /// Why, for people.
        why: String,
        /// One of both does not accept the other's certificate. It stays like this until one of them is started with
        /// another key or mesh name.
        refused: bool,
    },
    /// A member of the mesh was refused, or has refused this node, for instance because one of both has as many links
    /// as it may have.
    LinkRefused {
        /// Who it is.
        node: NodeId,
        /// Why, for people.
        why: String,
    },
    /// The link has as many lanes as it may have: these two sockets do not meet.
    TooManyLanes {
        /// Who is at the other end.
        node: NodeId,
        /// The channel of the sockets.
        channel: String,
    },
    /// Two sockets on one channel have messages of different types: they do not meet, and no message passes between them.
    /// Told once for each of this node's sockets and each link.
    TypeMismatch {
        /// Whose the other socket is; this node's own id where both are here.
        node: NodeId,
        /// The channel of the sockets.
        channel: String,
        /// The kind of this node's socket: `push` or `pull`; later versions have further kinds.
        kind: &'static str,
        /// What this node's socket says of its messages.
        here: Types,
        /// What the other one says.
        there: Types,
    },
    /// A peer has opened a socket that it has no grant for; the socket is ignored.
    NotGranted {
        /// Who it is.
        node: NodeId,
        /// The channel of the socket.
        channel: String,
    },
    /// A discovery source cannot do its work, so that others may not be found. Told when the reason changes; the source
    /// goes on trying where that can help.
    DiscoveryTrouble {
        /// Which source: `local` for processes of this host, `mdns` for this network, `fixed` for a peer that was named.
        source: &'static str,
        /// Why, and what to do about it, for people.
        why: String,
    },
    /// The node has found nobody for 5 s.
    Alone {
        /// What was tried, and what to do, for people.
        report: String,
    },
    /// A socket has found nobody of the matching kind on its channel for 5 s.
    ChannelAlone {
        /// The channel.
        channel: String,
        /// The kind of socket that is missing: `pull` for a push socket.
        missing: &'static str,
        /// The most similar channel on which there is one, where one is similar enough to be meant.
        nearest: Option<String>,
        /// The types of one that is on this very channel, and is not met because of them.
        mismatch: Option<Types>,
    },
    /// A worker has rejected a message: it is not delivered again.
    Rejected {
        /// The message's id.
        id: MessageId,
        /// Its channel.
        channel: String,
        /// Its headers.
        headers: Headers,
        /// Its body.
        message: Bytes,
        /// The worker's words.
        reason: String,
        /// Which attempt it was.
        attempt: u32,
        /// The worker's node.
        by: NodeId,
    },
    /// A message has failed as often as it may: it is not delivered again.
    Exhausted {
        /// The message's id.
        id: MessageId,
        /// Its channel.
        channel: String,
        /// Its headers.
        headers: Headers,
        /// Its body.
        message: Bytes,
        /// How often it failed.
        failures: u32,
        /// The last attempt.
        attempt: u32,
        /// The node that failed last.
        by: NodeId,
    },
    /// A subscriber of this node misses messages, as it was too slow for its publisher, or was away for too long. Told at
    /// once, then once a second as long as it goes on; the application is told in their place.
    MessagesMissed {
        /// The channel.
        channel: String,
        /// The node that published them.
        publisher: NodeId,
        /// How many since the last such event.
        count: u64,
    },
    /// A publisher has given up a subscriber of this node, as it was too slow and the publisher's policy is to disconnect
    /// those. Nothing more comes from it until the subscriber is opened again, or their link is.
    Disconnected {
        /// The channel.
        channel: String,
        /// The node of the publisher.
        publisher: NodeId,
        /// How many messages are missed by that.
        missed: u64,
    },
    /// A subscriber is too slow: a publisher of this node drops messages for it. Told at once, then at most once a second
    /// for each subscriber.
    SlowSubscriber {
        /// The channel.
        channel: String,
        /// The node of the subscriber.
        subscriber: NodeId,
    },
    /// A publisher of this node has given up a subscriber that was too slow.
    SubscriberDisconnected {
        /// The channel.
        channel: String,
        /// The node of the subscriber.
        subscriber: NodeId,
        /// How many messages were dropped by that.
        dropped: u64,
    },
    /// A reply of this node was larger than it sends, or than whoever asked takes: its request has failed with the code
    /// `too_large`. Told at once, then at most once a second for each socket and node that asks.
    ReplyTooLarge {
        /// The channel.
        channel: String,
        /// The node that asked.
        requester: NodeId,
        /// The reply's length in bytes.
        len: usize,
        /// The most that would have been sent.
        limit: usize,
    },
    /// The reader was too slow: this many events before the next one were dropped.
    Missed {
        /// How many.
        count: u64,
    },
}

impl Event {
    /// A message of the push socket `node`/`epoch` has come to an end without having been handled.
    pub(crate) fn dead(channel: String, dead: Dead, node: NodeId, epoch: u64) -> Self {
        let Dead { sequence, content, outcome, attempt, by } = dead;
        let (headers, message) = (Headers::of(content.headers), content.body);
        let id = MessageId { node, epoch, sequence };
        match outcome {
            Outcome::Rejected(reason) => Self::Rejected { id, channel, headers, message, reason, attempt, by },
            Outcome::Exhausted(failures) => Self::Exhausted { id, channel, headers, message, failures, attempt, by },
            Outcome::Handled => unreachable!("a message that was handled is not dead"),
        }
    }

    pub(crate) fn missed(channel: &str, gap: Gap) -> Self {
        Self::MessagesMissed { channel: channel.into(), publisher: gap.publisher, count: gap.count }
    }

    pub(crate) fn disconnected(channel: &str, publisher: NodeId, missed: u64) -> Self {
        Self::Disconnected { channel: channel.into(), publisher, missed }
    }

    pub(crate) fn slow(channel: &str, subscriber: NodeId) -> Self {
        Self::SlowSubscriber { channel: channel.into(), subscriber }
    }

    pub(crate) fn given_up(channel: &str, subscriber: NodeId, dropped: u64) -> Self {
        Self::SubscriberDisconnected { channel: channel.into(), subscriber, dropped }
    }

    pub(crate) fn too_large(channel: &str, requester: NodeId, len: usize, limit: usize) -> Self {
        Self::ReplyTooLarge { channel: channel.into(), requester, len, limit }
    }

    /// About how much memory it pins.
    fn size(&self) -> usize {
        let types = |types: &Types| types.names().map(|said| said.name.len()).sum::<usize>();
        let text = match self {
            Self::PeerJoined { name, .. } => name.len(),
            Self::PeerLeft { name, why, .. } => name.len() + why.len(),
            Self::Refused { why, .. } | Self::NoLink { why, .. } | Self::LinkRefused { why, .. } => why.len(),
            Self::DiscoveryTrouble { why, .. } => why.len(),
            Self::TooManyLanes { channel, .. }
            | Self::NotGranted { channel, .. }
            | Self::MessagesMissed { channel, .. }
            | Self::Disconnected { channel, .. }
            | Self::SlowSubscriber { channel, .. }
            | Self::SubscriberDisconnected { channel, .. }
            | Self::ReplyTooLarge { channel, .. } => channel.len(),
            Self::Alone { report } => report.len(),
            Self::TypeMismatch { channel, here, there, .. } => channel.len() + types(here) + types(there),
            Self::ChannelAlone { channel, nearest, mismatch, .. } => {
                channel.len() + nearest.as_ref().map_or(0, String::len) + mismatch.as_ref().map_or(0, types)
            }
            Self::Rejected { channel, headers, message, reason, .. } => {
                channel.len() + headers.size() + message.len() + reason.len()
            }
            Self::Exhausted { channel, headers, message, .. } => channel.len() + headers.size() + message.len(),
            Self::Missed { .. } => 0,
        };
        size_of::<Self>() + text
    }
}

/// What happens in the mesh, from [`Node::events`](crate::Node::events): a [`Stream`] that ends with the node.
///
/// It begins with what the node still remembers, so nothing is missed between joining and asking. Each reader sees
/// every event; one that is slower than the ring is told how many it has missed.
///
/// # Cancel safety
/// A `next()` of the stream that is dropped before it is ready has taken no event.
pub struct Events {
    ring: Arc<Ring>,
    reader: u64,
    /// The number of the next event to read.
    next: u64,
}

impl Events {
    /// Waits for the next event; `None` once the node has ended and all was read.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no event is taken.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next event, if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        let ring = self.ring.clone();
        ring.lock().read(&mut self.next)
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut inside = self.ring.lock();
        if let Some(event) = inside.read(&mut self.next) {
            return Poll::Ready(Some(event));
        }
        if inside.closed {
            return Poll::Ready(None);
        }
        inside.waiting.insert(self.reader, cx.waker().clone());
        Poll::Pending
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_recv(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.ring.lock().waiting.remove(&self.reader);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// The node's side of it.
#[derive(Default)]
pub(super) struct Ring(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    events: VecDeque<Event>,
    /// The number of the first one in `events`.
    first: u64,
    bytes: usize,
    /// Up to here somebody has read.
    read: u64,
    missed: u64,
    waiting: BTreeMap<u64, Waker>,
    readers: u64,
    closed: bool,
}

impl Ring {
    pub(super) fn push(&self, event: Event) {
        let waiting = {
            let mut inside = self.lock();
            inside.bytes += event.size();
            inside.events.push_back(event);
            while inside.events.len() > MAX_EVENTS || inside.bytes > MAX_BYTES && inside.events.len() > 1 {
                inside.forget();
            }
            std::mem::take(&mut inside.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    /// Nothing more will happen.
    pub(super) fn close(&self) {
        let waiting = {
            let mut inside = self.lock();
            inside.closed = true;
            std::mem::take(&mut inside.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    pub(super) fn reader(self: &Arc<Self>) -> Events {
        let mut inside = self.lock();
        inside.readers += 1;
        Events { ring: self.clone(), reader: inside.readers, next: inside.first.min(inside.read) }
    }

    /// Events that were dropped before anybody had read them.
    pub(super) fn missed(&self) -> u64 {
        self.lock().missed
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn read(&mut self, next: &mut u64) -> Option<Event> {
        if *next < self.first {
            let count = self.first - *next;
            *next = self.first;
            return Some(Event::Missed { count });
        }
        let event = self.events.get((*next - self.first) as usize)?.clone();
        *next += 1;
        self.read = self.read.max(*next);
        Some(event)
    }

    fn forget(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.size();
            self.missed += u64::from(self.first >= self.read);
            self.first += 1;
        }
    }
}

/// Most events that are remembered.
const MAX_EVENTS: usize = 1024;
/// Most bytes that they pin; one event alone may be larger, as it may carry a message.
const MAX_BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(report: usize) -> Event {
        Event::Alone { report: "x".repeat(report) }
    }

    #[test]
    fn who_is_too_slow_is_told_how_much_it_missed() {
        let ring = Arc::new(Ring::default());
        let (mut slow, mut fast) = (ring.reader(), ring.reader());
        for _ in 0..MAX_EVENTS + 3 {
            ring.push(alone(1));
            assert!(fast.try_recv().is_some());
        }
        assert!(matches!(slow.try_recv(), Some(Event::Missed { count: 3 })));
        assert_eq!(std::iter::from_fn(|| slow.try_recv()).count(), MAX_EVENTS);
        assert_eq!(ring.missed(), 0, "somebody has read them");
    }

    #[test]
    fn the_ring_is_bounded_in_bytes_but_holds_the_last_event() {
        let ring = Arc::new(Ring::default());
        for _ in 0..3 {
            ring.push(alone(MAX_BYTES));
        }
        let mut reader = ring.reader();
        assert_eq!(ring.missed(), 2);
        assert!(matches!(reader.try_recv(), Some(Event::Missed { count: 2 })));
        assert!(matches!(reader.try_recv(), Some(Event::Alone { .. })));
        assert!(reader.try_recv().is_none());
    }
}
