//! Names of things that meet on the wire: nodes, sockets, lives of a node, types of messages.

use std::fmt;

use data_encoding::{Encoding, Specification};

/// Who a node is: its Ed25519 public key, proven in the TLS handshake of every link.
///
/// Shown as lower-case base32 (52 characters); [`NodeId::short`] shows the first 10.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// The node that holds the private key of this Ed25519 public key.
    pub const fn from_bytes(public_key: [u8; 32]) -> Self {
        Self(public_key)
    }

    /// The Ed25519 public key, 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 10 characters of the text form: enough for people to tell nodes apart.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32().encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl std::str::FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, InvalidNodeId> {
        let bytes = base32().decode(text.as_bytes()).map_err(|_| InvalidNodeId)?;
        bytes.try_into().map(Self).map_err(|_| InvalidNodeId)
    }
}

/// As its text.
impl serde::Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From its text.
impl<'de> serde::Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The text is not a node id: 52 characters of lower-case base32. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a node id: expected 52 characters of lower-case base32 (a-z, 2-7)")]
#[non_exhaustive]
pub struct InvalidNodeId;

/// A socket of a node; never used twice in the life of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct SocketId(pub(crate) u64);

/// What a type of messages is called, all over the mesh: see [`Typed`](crate::Typed). Shown as `shop.Job v3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct TypeName {
    /// Its name.
    pub name: String,
    /// Which of its versions.
    pub version: u32,
}

impl TypeName {
    pub(crate) fn new(name: impl Into<String>, version: u32) -> Self {
        Self { name: name.into(), version }
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

/// What a socket says of the types of its messages. Shown as `shop.Job v3`, or `shop.Image v1 -> shop.Thumb v2`, or
/// `untyped`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Types {
    /// Of what it sends or takes in; of a requester or replier, of the requests. `None`: it does not say, and meets any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<TypeName>,
    /// Of the replies, of a requester or replier that says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<TypeName>,
}

impl Types {
    /// It says nothing.
    pub fn is_untyped(&self) -> bool {
        self.message.is_none() && self.reply.is_none()
    }

    /// Sockets that say this and that may meet: whatever both say, they say alike.
    pub(crate) fn meet(&self, other: &Self) -> bool {
        let alike = |one: &Option<TypeName>, other: &Option<TypeName>| one.is_none() || other.is_none() || one == other;
        planted!(TypesIgnored) || alike(&self.message, &other.message) && alike(&self.reply, &other.reply)
    }

    /// Each name that it says.
    pub(crate) fn names(&self) -> impl Iterator<Item = &TypeName> {
        self.message.iter().chain(&self.reply)
    }
}

impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.message, &self.reply) {
            (None, None) => f.write_str("untyped"),
            (Some(message), None) => message.fmt(f),
            (Some(request), Some(reply)) => write!(f, "{request} -> {reply}"),
            (None, Some(reply)) => write!(f, "untyped -> {reply}"),
        }
    }
}

/// RFC 4648's base32 in lower case, without padding.
pub(crate) fn base32() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().expect("a fixed alphabet of 32 distinct symbols")
}
