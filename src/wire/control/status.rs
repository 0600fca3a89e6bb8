//! What a node tells of itself to a peer that asks: links and sockets, in parts that belong together.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::{check_types, has_control, is_channel};
use crate::id::{NodeId, SocketId, Types};
use crate::wire::Violation;
use crate::wire::limits::{MAX_LINKS, MAX_NODE_NAME, MAX_STATUS_SOCKETS};

/// What a node tells of itself, or a part of it. Parts belong together up to the one that says no `more`; the figures of
/// the node itself are the same in all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Another part follows.
    pub(crate) more: bool,
    /// Of the program's library, for people.
    pub(crate) version: String,
    /// How long the node has run.
    pub(crate) uptime_ms: u64,
    pub(crate) links: Vec<LinkEntry>,
    pub(crate) sockets: Vec<FiguresEntry>,
    /// There are so many more links, which are not told.
    pub(crate) links_left_out: u64,
    /// The same of sockets that the asker could be told of.
    pub(crate) sockets_left_out: u64,
}

/// A link of the node that tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkEntry {
    /// Who is at its other end.
    pub(crate) node: NodeId,
    /// What that one calls itself.
    pub(crate) name: String,
    /// Where it is, as the node that tells sees it.
    pub(crate) address: SocketText,
    pub(crate) round_trip_us: u64,
    /// How long it has been open.
    pub(crate) age_ms: u64,
    /// The sources that have found the other node; empty: that one has dialled.
    pub(crate) found: Vec<String>,
}

/// A socket of the node that tells. A figure that is not on the wire is 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct FiguresEntry {
    pub(crate) id: SocketId,
    /// As text: later revisions have further kinds.
    pub(crate) kind: String,
    pub(crate) channel: String,
    /// What its messages are, where it says so.
    #[serde(default, skip_serializing_if = "Types::is_untyped")]
    pub(crate) types: Types,
    /// Sockets that it is connected to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) peers: u64,
    /// Messages that wait here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) queued: u64,
    /// Messages that are out, unanswered: with pullers, or in the application's hands.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) in_flight: u64,
    /// Bytes of both.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) bytes: u64,
    /// The most messages that may be here; 0: as many as there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) bound_messages: u64,
    /// The same in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) bound_bytes: u64,
    /// Messages that it has taken in since it was opened: accepted, or received.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) total: u64,
    // What became of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) handled: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) nacked: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) returned: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) redelivered: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) rejected: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) exhausted: u64,
    /// Messages that a publisher has dropped for its subscribers, or that a subscriber misses.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) missed: u64,
    /// How long the oldest unsettled message has been here; `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) oldest_ms: Option<u64>,
}

impl Status {
    /// In parts that each fit a control frame.
    pub(crate) fn into_parts(mut self) -> Vec<Self> {
        let mut links = std::mem::take(&mut self.links).into_iter();
        let mut sockets = std::mem::take(&mut self.sockets).into_iter().peekable();
        let mut parts = Vec::new();
        loop {
            let mut part = self.clone();
            part.links.extend(links.by_ref().take(PART_ELEMENTS / LINK_ELEMENTS));
            let mut left = PART_ELEMENTS - part.links.len() * LINK_ELEMENTS;
            while let Some(next) = sockets.next_if(|socket| socket.elements() <= left) {
                left -= next.elements();
                part.sockets.push(next);
            }
            part.more = links.len() + sockets.len() > 0;
            let last = !part.more;
            parts.push(part);
            if last {
                return parts;
            }
        }
    }

    /// Adds the part that follows.
    ///
    /// # Errors
    /// All parts together are more than a node may tell.
    pub(crate) fn extend(&mut self, part: Self) -> Result<(), Violation> {
        self.more = part.more;
        self.links.extend(part.links);
        self.sockets.extend(part.sockets);
        self.check_counts()
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        let texts =
            self.links.iter().flat_map(|link| &link.found).chain(self.sockets.iter().map(|socket| &socket.kind));
        let words = std::iter::once(&self.version).chain(texts);
        if words.into_iter().any(|word| word.len() > MAX_WORD || has_control(word)) {
            return Err(Violation("a word of a status above its length or with control characters"));
        }
        if self.links.iter().any(|link| link.name.len() > MAX_NODE_NAME || has_control(&link.name)) {
            return Err(Violation("a node's name above its length or with control characters"));
        }
        if self.links.iter().any(|link| link.found.len() > MAX_FOUND) {
            return Err(Violation("a node that was found by too many sources"));
        }
        check_types(self.sockets.iter().map(|socket| &socket.types))?;
        if self.sockets.iter().any(|socket| !is_channel(&socket.channel)) {
            return Err(Violation("a channel name that is empty, above its length or has control characters"));
        }
        self.check_counts()
    }

    fn check_counts(&self) -> Result<(), Violation> {
        if self.links.len() > MAX_LINKS || self.sockets.len() > MAX_STATUS_SOCKETS {
            return Err(Violation("a status of more links or sockets than may be told"));
        }
        Ok(())
    }
}

impl FiguresEntry {
    /// How many elements of a frame it takes at the most.
    fn elements(&self) -> usize {
        SOCKET_ELEMENTS + self.types.names().count() * TYPE_ELEMENTS
    }
}

/// Longest version, kind of socket, or name of a source, in bytes.
pub(crate) const MAX_WORD: usize = 32;
/// Most sources that a node tells to have found another one.
pub(crate) const MAX_FOUND: usize = 4;
/// The elements of a part beside its head: links and sockets together.
const PART_ELEMENTS: usize = 960;
/// Elements of a link's entry: the map, six keys and values, and the words in the last one.
const LINK_ELEMENTS: usize = 1 + 2 * 6 + MAX_FOUND;
/// Elements of a socket's entry: the map, and eighteen keys and values.
const SOCKET_ELEMENTS: usize = 1 + 2 * 18;
/// Elements of a type that it says: the map of types and its key, in it a key and a map of two keys and values.
const TYPE_ELEMENTS: usize = 2 + 2 + 2 * 2;

/// An address as text, `ip:port` or `[ip]:port`: serde's own form is an enum of byte arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketText(pub(crate) SocketAddr);

impl Serialize for SocketText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SocketText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
