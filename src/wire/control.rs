//! Control frames: what two nodes say to each other beside the lanes, and the map that opens a lane.
//!
//! A frame is a kind (one byte), a length (varint) and that many bytes of MessagePack: one map with named fields.
//! Unknown fields are ignored and frames of unknown kinds from [`SKIPPABLE`] are skipped: so later revisions can add.

mod status;

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Serialize};

use super::Violation;
use super::limits::{MAX_CHANNEL, MAX_CONTROL_FRAME, MAX_NODE_NAME, MAX_REASON, MAX_SEQUENCE_SAID, MAX_TYPE_NAME};
use super::{scan, varint};
use crate::id::{NodeId, SocketId, Types};

pub(crate) use status::{FiguresEntry, LinkEntry, MAX_FOUND, SocketText, Status};

/// The revision of the protocol that this code speaks, told in [`Hello`]. A peer of a higher one is spoken to as
/// before: what it adds is ignored or skipped here.
pub(crate) const REVISION: u32 = 1;
/// Frames of this kind and above are skipped when they are not known; an unknown one below it ends the link.
pub(crate) const SKIPPABLE: u8 = 0x40;
/// Most addresses that a node tells of itself.
pub(crate) const MAX_ADDRESSES: usize = 16;
/// Most peers in one frame: so many, of the longest addresses, stay under the limits of bytes (about 900 each) and of
/// elements (22 each).
pub(crate) const MAX_PEERS_PART: usize = 40;
/// Most sockets, opened and closed ones together, in one frame: so many of the longest names and numbers stay under
/// the limits of bytes (276 each) and of elements (9 each). A socket counts once more for each type that it says, of
/// 285 bytes and 8 elements at most.
pub(crate) const MAX_PART: usize = 100;

/// One frame of the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    /// The first frame in each direction: who is there.
    Hello(Hello),
    /// This connection is the link of the two nodes.
    Admitted,
    /// Sockets were opened and closed.
    Sockets(Sockets),
    /// A sign of life.
    Ping,
    /// Where peers of the sender may be reached.
    Peers(Peers),
    /// The node leaves; the connection is closed next.
    Goodbye {
        /// For people.
        reason: String,
    },
    /// The peer is to tell of its links and sockets.
    StatusAsk,
    /// It tells.
    Status(Box<Status>),
}

/// Who is at this end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The highest revision of the protocol that is spoken.
    pub(crate) revision: u32,
    /// What people call the node. It proves nothing.
    pub(crate) name: String,
    /// This life of the node: another number after each start.
    pub(crate) incarnation: u64,
    /// A connection of the two nodes other than this one is admitted, and alive as far as its sender knows.
    pub(crate) live: bool,
    /// How many connections with this peer its sender has admitted in this life.
    pub(crate) links: u64,
    /// Largest body that is taken, in bytes.
    pub(crate) max_message: u64,
    /// Where else the node may be reached.
    #[serde(with = "addresses")]
    pub(crate) addresses: Vec<SocketAddr>,
}

/// With whom the sender has links, as far as that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peers {
    pub(crate) peers: Vec<PeerEntry>,
}

/// A peer of the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerEntry {
    pub(crate) node: NodeId,
    /// Where it may be reached, the likeliest first. Empty: the sender has no link with it any more.
    #[serde(with = "addresses")]
    pub(crate) addresses: Vec<SocketAddr>,
}

/// What changed in the table of a node's sockets. Parts take effect together, at the last one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Sockets {
    /// The whole table: sockets that are not in it are closed.
    pub(crate) full: bool,
    /// Another part follows.
    pub(crate) more: bool,
    /// New sockets. One of a kind that is not known here is left out.
    #[serde(deserialize_with = "known_entries")]
    pub(crate) opened: Vec<SocketEntry>,
    /// Sockets that are no more.
    pub(crate) closed: Vec<SocketId>,
}

/// A socket, as it is told to peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SocketEntry {
    /// Never used twice in the life of its node.
    pub(crate) id: SocketId,
    pub(crate) kind: SocketKind,
    pub(crate) channel: String,
    /// A puller with a fixed `prefetch`: it gives credit only to lanes that say they have work waiting.
    pub(crate) slots: bool,
    /// What its messages are, where it says so.
    #[serde(skip_serializing_if = "Types::is_untyped")]
    pub(crate) types: Types,
}

impl SocketEntry {
    /// How many of the [places](MAX_PART) of a frame it takes.
    pub(crate) fn places(&self) -> usize {
        1 + self.types.names().count()
    }
}

/// The first frame of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenLane {
    /// The socket that opens the lane, in the numbering of its node.
    pub(crate) from: SocketId,
    /// The socket that the lane is for, in the numbering of the other node.
    pub(crate) to: SocketId,
    /// Of the socket that opens the lane.
    pub(crate) kind: SocketKind,
    /// What the opener promises its messages.
    pub(crate) level: Level,
    /// The life of the opener's numbering: sequences are of this epoch unless a frame says otherwise.
    pub(crate) epoch: u64,
    /// The sequence that the first frame's difference counts from.
    pub(crate) base: u64,
    /// The opener wants to be told when a message is handed to the application.
    pub(crate) taken: bool,
}

/// What a socket is for. On the wire: its name in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SocketKind {
    Push,
    Pull,
    Publisher,
    Subscriber,
    Requester,
    Replier,
}

impl SocketKind {
    /// The kind at the other end of its lanes.
    pub(crate) fn matching(self) -> Self {
        match self {
            Self::Push => Self::Pull,
            Self::Pull => Self::Push,
            Self::Publisher => Self::Subscriber,
            Self::Subscriber => Self::Publisher,
            Self::Requester => Self::Replier,
            Self::Replier => Self::Requester,
        }
    }

    /// Its name, as on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
            Self::Requester => "requester",
            Self::Replier => "replier",
        }
    }

    /// Sockets of this kind open the lanes; those of the matching kind accept them.
    pub(crate) fn opens_lane(self) -> bool {
        matches!(self, Self::Push | Self::Publisher | Self::Requester)
    }
}

/// What is promised to the messages of a lane. On the wire: its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Level {
    #[serde(rename = "at-least-once")]
    AtLeastOnce,
    /// Of requests: handed to an application once, unless they say that more does no harm.
    #[serde(rename = "at-most-once")]
    AtMostOnce,
}

const HELLO: u8 = 0x01;
const ADMITTED: u8 = 0x02;
const SOCKETS: u8 = 0x03;
const PING: u8 = 0x04;
const GOODBYE: u8 = 0x05;
// From here on a node skips what it does not know: it meets nobody by Peers, and answers no question for its status.
const PEERS: u8 = 0x40;
const STATUS_ASK: u8 = 0x41;
const STATUS: u8 = 0x42;

/// Appends a frame.
pub(crate) fn encode(frame: &Control, out: &mut BytesMut) {
    let (kind, map) = match frame {
        Control::Hello(hello) => (HELLO, to_map(hello)),
        Control::Admitted => (ADMITTED, to_map(&Nothing {})),
        Control::Sockets(sockets) => (SOCKETS, to_map(sockets)),
        Control::Ping => (PING, to_map(&Nothing {})),
        Control::Peers(peers) => (PEERS, to_map(peers)),
        Control::Goodbye { reason } => (GOODBYE, to_map(&Goodbye { reason: shortened(reason) })),
        Control::StatusAsk => (STATUS_ASK, to_map(&Nothing {})),
        Control::Status(status) => (STATUS, to_map(status)),
    };
    debug_assert!(map.len() <= MAX_CONTROL_FRAME && scan::scan(&map).is_ok(), "a frame that a peer would refuse");
    out.reserve(map.len() + 5);
    out.put_u8(kind);
    varint::put(out, map.len() as u64);
    out.put_slice(&map);
}

/// Takes the first whole frame that is known here off the buffer; `None`: more bytes are needed.
///
/// # Errors
/// The frame is over a limit, not known, or does not hold what its kind demands.
pub(crate) fn split(buffer: &mut BytesMut) -> Result<Option<Control>, Violation> {
    loop {
        let Some(&kind) = buffer.first() else { return Ok(None) };
        if kind < SKIPPABLE && !(HELLO..=GOODBYE).contains(&kind) {
            return Err(Violation("a control frame of an unknown kind"));
        }
        let Some((length, head)) = varint::get(&buffer[1..]) else { return Ok(None) };
        if length > MAX_CONTROL_FRAME as u64 {
            return Err(Violation("a control frame above its length"));
        }
        let (start, end) = (1 + head, 1 + head + length as usize);
        if buffer.len() < end {
            return Ok(None);
        }
        let known = kind < SKIPPABLE || matches!(kind, PEERS | STATUS_ASK | STATUS);
        let frame = known.then(|| decode(kind, &buffer[start..end]));
        buffer.advance(end);
        if let Some(frame) = frame {
            return frame.map(Some);
        }
    }
}

/// The map that opens a lane.
pub(crate) fn encode_open(open: &OpenLane) -> Bytes {
    to_map(open).into()
}

/// The inverse of [`encode_open`].
///
/// # Errors
/// It is over a limit, or not such a map.
pub(crate) fn decode_open(map: &[u8]) -> Result<OpenLane, Violation> {
    let open: OpenLane = from_map(map)?;
    if !open.kind.opens_lane() {
        return Err(Violation("a lane opened from its receiving end"));
    }
    if open.base > MAX_SEQUENCE_SAID {
        return Err(Violation("a base sequence above its limit"));
    }
    Ok(open)
}

fn decode(kind: u8, map: &[u8]) -> Result<Control, Violation> {
    Ok(match kind {
        HELLO => {
            let hello: Hello = from_map(map)?;
            if hello.name.len() > MAX_NODE_NAME || has_control(&hello.name) {
                return Err(Violation("a node's name above its length or with control characters"));
            }
            if hello.addresses.len() > MAX_ADDRESSES {
                return Err(Violation("more addresses than a node may tell"));
            }
            Control::Hello(hello)
        }
        ADMITTED => from_map::<Nothing>(map).map(|_| Control::Admitted)?,
        SOCKETS => {
            let sockets: Sockets = from_map(map)?;
            if sockets.opened.iter().any(|entry| !is_channel(&entry.channel)) {
                return Err(Violation("a channel name that is empty, above its length or has control characters"));
            }
            check_types(sockets.opened.iter().map(|entry| &entry.types))?;
            Control::Sockets(sockets)
        }
        PING => from_map::<Nothing>(map).map(|_| Control::Ping)?,
        PEERS => {
            let peers: Peers = from_map(map)?;
            if peers.peers.iter().any(|peer| peer.addresses.len() > MAX_ADDRESSES) {
                return Err(Violation("more addresses than a node may have"));
            }
            Control::Peers(peers)
        }
        STATUS_ASK => from_map::<Nothing>(map).map(|_| Control::StatusAsk)?,
        STATUS => {
            let status: Box<Status> = from_map(map)?;
            status.check()?;
            Control::Status(status)
        }
        _ => {
            let goodbye: Goodbye = from_map(map)?;
            if goodbye.reason.len() > MAX_REASON {
                return Err(Violation("a reason above its length"));
            }
            Control::Goodbye { reason: harmless(goodbye.reason) }
        }
    })
}

/// What [`Control::Goodbye`] is on the wire.
#[derive(Serialize, Deserialize)]
struct Goodbye {
    reason: String,
}

/// A map without fields, where later revisions may add some.
#[derive(Serialize, Deserialize)]
struct Nothing {}

fn to_map(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("these types have a MessagePack form and memory takes it")
}

fn from_map<'a, T: Deserialize<'a>>(map: &'a [u8]) -> Result<T, Violation> {
    if map.len() > MAX_CONTROL_FRAME {
        return Err(Violation("a control frame above its length"));
    }
    scan::scan(map)?;
    rmp_serde::from_slice(map).map_err(|_| Violation("a control frame without the fields of its kind"))
}

/// 1 to 255 bytes of UTF-8 without control characters.
fn is_channel(name: &str) -> bool {
    (1..=MAX_CHANNEL).contains(&name.len()) && !has_control(name)
}

/// 1 to 255 bytes of UTF-8 without control characters each.
fn check_types<'a>(types: impl IntoIterator<Item = &'a Types>) -> Result<(), Violation> {
    let is_name = |name: &str| (1..=MAX_TYPE_NAME).contains(&name.len()) && !has_control(name);
    if types.into_iter().flat_map(Types::names).all(|said| is_name(&said.name)) {
        return Ok(());
    }
    Err(Violation("a type's name that is empty, above its length or has control characters"))
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// As much of the text as a reason may hold.
fn shortened(reason: &str) -> String {
    reason[..reason.floor_char_boundary(MAX_REASON)].into()
}

/// Text of a peer for a log or a terminal, without characters that would act there.
fn harmless(text: String) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// An entry whose kind may be one that a later revision has added.
#[derive(Deserialize)]
struct AnyEntry {
    id: SocketId,
    kind: String,
    channel: String,
    slots: bool,
    #[serde(default)]
    types: Types,
}

fn known_entries<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketEntry>, D::Error> {
    let entries = Vec::<AnyEntry>::deserialize(deserializer)?;
    let known = entries.into_iter().filter_map(|AnyEntry { id, kind, channel, slots, types }| {
        let kind = SocketKind::deserialize(StrDeserializer::<serde::de::value::Error>::new(&kind)).ok()?;
        Some(SocketEntry { id, kind, channel, slots, types })
    });
    Ok(known.collect())
}

/// Addresses as text, `ip:port` or `[ip]:port`: serde's own form is an enum of byte arrays.
mod addresses {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(addresses: &[SocketAddr], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(addresses.iter().map(SocketAddr::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests;
