//! What a node does, in figures that are exact at the moment they are taken.

mod exchange;
#[cfg(feature = "prometheus")]
pub(crate) mod prometheus;
mod snapshot;

use std::time::Duration;

use crate::id::NodeId;

pub use exchange::{AskedReplierMetrics, AskingRequesterMetrics, ReplierMetrics, RequesterMetrics};
pub use snapshot::{LinkStatus, NoStatus, NodeSnapshot, NodeStatus, Rates, Snapshot, SocketStatus};

/// Figures of a node, from [`Node::metrics`](crate::Node::metrics).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Each open socket, in the order of opening.
    pub sockets: Vec<SocketMetrics>,
    /// Links that are open now.
    pub links: usize,
    /// Links that were opened since the node started.
    pub links_opened: u64,
    /// Connections that were refused or failed to prove their membership.
    pub refused: u64,
    /// Events that nobody read before the ring was full.
    pub events_missed: u64,
}

/// Figures of one socket.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SocketMetrics {
    /// The channel it is on.
    pub channel: String,
    /// What its kind counts.
    pub figures: SocketFigures,
}

/// Figures of one socket, by its kind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SocketFigures {
    /// A push socket.
    Push(PushMetrics),
    /// A pull socket.
    Pull(PullMetrics),
    /// A requester.
    Requester(RequesterMetrics),
    /// A replier.
    Replier(ReplierMetrics),
    /// A publisher.
    Publisher(PublisherMetrics),
    /// A subscriber.
    Subscriber(SubscriberMetrics),
}

/// Figures of a push socket since it was opened.
///
/// `accepted` is always the sum of `queued`, `in_flight`, `handled`, `rejected`, `exhausted` and `handed_back`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushMetrics {
    /// Messages that the socket took responsibility for.
    pub accepted: u64,
    /// Of these: waiting here, also for their back-off to end.
    pub queued: u64,
    /// Of these: with a puller, unanswered.
    pub in_flight: u64,
    /// Of these: acknowledged.
    pub handled: u64,
    /// Of these: rejected by a worker.
    pub rejected: u64,
    /// Of these: failed too often.
    pub exhausted: u64,
    /// Of these: given back to the application when the node ended, by [`Node::shutdown`](crate::Node::shutdown). Of a
    /// node that was dropped: lost.
    pub handed_back: u64,
    /// Bytes of headers and bodies queued and in flight.
    pub bytes: u64,
    /// The most messages that may be queued and in flight.
    pub bound_messages: u64,
    /// The most bytes of them.
    pub bound_bytes: u64,
    /// How long ago the oldest unsettled message was accepted; `None` where none is unsettled. Exact to a quarter of a
    /// second, and where the socket has had unsettled messages for long, to a 64th of that time.
    pub oldest: Option<Duration>,
    /// Answers that said a message failed.
    pub nacked: u64,
    /// Messages that came back without having been handed out.
    pub returned: u64,
    /// Dispatches beyond a message's first.
    pub redelivered: u64,
    /// Answers that came after their link was lost, and counted.
    pub late: u64,
    /// Each puller.
    pub pullers: Vec<PullerMetrics>,
}

/// Figures of a push socket about one puller.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullerMetrics {
    /// The node that holds the pull socket.
    pub node: NodeId,
    /// Messages with it, unanswered.
    pub in_flight: u64,
    /// Messages dispatched over this lane.
    pub sent: u64,
    /// Messages of this lane that it acknowledged.
    pub handled: u64,
    /// Messages that it would take now.
    pub credit: u64,
}

/// Figures of a pull socket since it was opened.
///
/// An answer counts from the moment that the application gives it, before the pusher has heard of it. `handed` is always
/// the sum of `in_hand`, `acked`, `nacked`, `rejected` and `orphaned`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullMetrics {
    /// Messages that arrived.
    pub received: u64,
    /// Messages that the application was handed.
    pub handed: u64,
    /// Messages waiting to be handed out.
    pub waiting: u64,
    /// Messages in the application's hands, unanswered.
    pub in_hand: u64,
    /// The most messages that may be waiting and in hand, where [`prefetch`](crate::PullBuilder::prefetch) says so.
    pub prefetch: Option<u64>,
    /// How long ago the oldest message that is unanswered here arrived; `None` where there is none.
    pub oldest: Option<Duration>,
    /// Answers that were acknowledgements.
    pub acked: u64,
    /// Answers that said a message failed.
    pub nacked: u64,
    /// Answers that said a message must never be delivered again.
    pub rejected: u64,
    /// Messages given back without having been handed out.
    pub returned: u64,
    /// Messages whose link was lost while they were in hand, unanswered; an answer that comes afterwards counts at the
    /// pusher alone.
    pub orphaned: u64,
    /// Each pusher.
    pub pushers: Vec<PusherMetrics>,
}

/// Figures of a pull socket about one pusher.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PusherMetrics {
    /// The node that holds the push socket.
    pub node: NodeId,
    /// Messages that arrived over this lane.
    pub received: u64,
    /// Messages of this lane that wait here or are in hand.
    pub unanswered: u64,
}

/// Figures of a publisher since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherMetrics {
    /// Messages that were published, whether somebody wanted them or not.
    pub published: u64,
    /// Messages dropped, each counted once for each subscriber that would have had it; those included that are gone.
    pub dropped: Drops,
    /// The most messages that may wait for one subscriber.
    pub bound_messages: u64,
    /// The most bytes of them: topics, headers and bodies.
    pub bound_bytes: u64,
    /// Messages that are retained for later subscribers.
    pub retained: u64,
    /// Bytes of them.
    pub retained_bytes: u64,
    /// Retained messages that made room for others before their topic had newer ones.
    pub retained_evicted: u64,
    /// Patterns of all subscribers together.
    pub patterns: u64,
    /// Each subscriber, those included whose link was lost less than 30 s ago.
    pub subscribers: Vec<ToSubscriber>,
}

/// Figures of a publisher about one subscriber.
///
/// `matched` is always the sum of `queued`, `in_flight`, `received` and `dropped`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToSubscriber {
    /// The node that holds the subscriber.
    pub node: NodeId,
    /// There is a lane to it. `false`: its link was lost, and it may come again.
    pub connected: bool,
    /// How many patterns it has subscribed to.
    pub patterns: u64,
    /// Messages that it wanted.
    pub matched: u64,
    /// Of these: waiting here.
    pub queued: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// Of these: sent, and not known to have arrived.
    pub in_flight: u64,
    /// Of these: arrived at its socket.
    pub received: u64,
    /// Of these: dropped, by the reason.
    pub dropped: Drops,
    /// Messages that it would take now.
    pub credit: u64,
}

/// Messages that a subscriber does not get, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drops {
    /// They made room for newer ones.
    pub oldest: u64,
    /// They found no room.
    pub newest: u64,
    /// A newer message of the same topic took their place.
    pub replaced: u64,
    /// They were sent, the link was lost, and they had made room for others before they could be sent again.
    pub lost: u64,
    /// Their subscriber was too slow and was given up.
    pub given_up: u64,
    /// They are larger than the subscriber's node takes.
    pub too_large: u64,
}

impl Drops {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { oldest, newest, replaced, lost, given_up, too_large } = self;
        oldest + newest + replaced + lost + given_up + too_large
    }
}

/// Figures of a subscriber since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriberMetrics {
    /// Messages that arrived.
    pub received: u64,
    /// Messages that the application was handed.
    pub handed: u64,
    /// Messages waiting to be handed out.
    pub waiting: u64,
    /// Messages that it was told are missing.
    pub missed: u64,
    /// How many patterns it has.
    pub patterns: u64,
    /// The most messages of one publisher that wait here.
    pub prefetch: u64,
    /// Each publisher.
    pub publishers: Vec<FromPublisher>,
}

/// Figures of a subscriber about one publisher, since their lane was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FromPublisher {
    /// The node that holds the publisher.
    pub node: NodeId,
    /// Messages that arrived over this lane.
    pub received: u64,
    /// Messages of this lane that wait here.
    pub waiting: u64,
    /// Messages that it told are missing.
    pub missed: u64,
    /// The present subscriptions are in force there.
    pub confirmed: bool,
}
