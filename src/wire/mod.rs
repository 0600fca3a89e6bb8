//! BYTES: the formats of meshmq, both directions side by side. `docs/protocol.md` is their specification.

pub(crate) mod control;
pub(crate) mod exchange;
pub(crate) mod frame;
pub(crate) mod headers;
pub(crate) mod limits;
pub(crate) mod scan;
pub(crate) mod subscription;
pub(crate) mod varint;

/// The peer broke the protocol. The link closes; what was in flight on it goes back to its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer broke the protocol: {0}")]
pub(crate) struct Violation(pub(crate) &'static str);
