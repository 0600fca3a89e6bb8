//! Figures of requests and replies.

use std::time::Duration;

use crate::id::NodeId;

/// Figures of a requester since it was opened.
///
/// `asked` is always the sum of `open` and of all that have ended: `replied`, `failed`, `no_replier`, `busy`, `not_sent`,
/// `unknown`, `timed_out`, `too_large`, `closed` and `cancelled`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequesterMetrics {
    /// Requests that were asked.
    pub asked: u64,
    /// Of these: not ended.
    pub open: u64,
    /// Of these open ones: waiting for a replier, for its credit, or for room under the bound.
    pub waiting: u64,
    /// Of those that were asked: answered.
    pub replied: u64,
    /// Failed, as their replier said: [`RequestError::Remote`](crate::RequestError::Remote).
    pub failed: u64,
    /// Nobody was there.
    pub no_replier: u64,
    /// Every replier was full.
    pub busy: u64,
    /// They were not sent in time.
    pub not_sent: u64,
    /// Sent, then lost.
    pub unknown: u64,
    /// Sent, and not answered in time.
    pub timed_out: u64,
    /// Larger than any replier takes.
    pub too_large: u64,
    /// The node had ended.
    pub closed: u64,
    /// Their futures were dropped.
    pub cancelled: u64,
    /// Bytes of headers and bodies that are with repliers, and what their books take: 64 each.
    pub bytes: u64,
    /// The most requests that may be with repliers.
    pub bound_messages: u64,
    /// The most bytes of them.
    pub bound_bytes: u64,
    /// Times that a replier was full; the request went to another one, if there was one.
    pub refused: u64,
    /// Attempts beyond a request's first.
    pub repeated: u64,
    /// Answers that came when nobody waited for them any more.
    pub late: u64,
    /// Each replier.
    pub repliers: Vec<AskedReplierMetrics>,
}

/// Figures of a requester about one replier.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AskedReplierMetrics {
    /// The node that holds the replier.
    pub node: NodeId,
    /// Requests with it, unanswered.
    pub open: u64,
    /// Requests that it has answered.
    pub answered: u64,
    /// How long an answer takes of late: each new one counts an eighth. `None`: none has come.
    pub latency: Option<Duration>,
}

/// Figures of a replier since it was opened.
///
/// `received` is always the sum of `waiting`, `in_hand`, `arriving`, `replied`, `failed`, `cancelled`, `expired`, `lost` and
/// `returned`; a request whose requester has given it up is no longer in hand, whatever its handler does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplierMetrics {
    /// Requests that were taken in.
    pub received: u64,
    /// Of these: on their way, with a part of their body here.
    pub arriving: u64,
    /// Of these: waiting to be handed out.
    pub waiting: u64,
    /// Of these: in the application's hands.
    pub in_hand: u64,
    /// Of these: answered.
    pub replied: u64,
    /// Of these: answered by what went wrong, also where the application dropped them.
    pub failed: u64,
    /// Of these: given up by their requesters.
    pub cancelled: u64,
    /// Of these: out of time.
    pub expired: u64,
    /// Of these: lost with their link.
    pub lost: u64,
    /// Of these: sent elsewhere unhanded, as this replier has closed.
    pub returned: u64,
    /// Requests that the application was handed.
    pub handed: u64,
    /// Requests that there was no room for.
    pub busy: u64,
    /// Idempotent requests that came again, and were answered by the same work.
    pub repeated: u64,
    /// Bytes of requests and replies that are here, and what their books take: 64 each.
    pub bytes: u64,
    /// The most requests that are taken in at a time.
    pub limit: u64,
    /// Each requester.
    pub requesters: Vec<AskingRequesterMetrics>,
}

/// Figures of a replier about one requester.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AskingRequesterMetrics {
    /// The node that holds the requester.
    pub node: NodeId,
    /// Requests that have come from it.
    pub received: u64,
    /// Of these: unanswered.
    pub open: u64,
}
