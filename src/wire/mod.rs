//! BYTES: the formats of meshmq, both directions side by side. `docs/protocol.md` is their specification.

pub(crate) mod control;
pub(crate) mod frame;
pub(crate) mod limits;
mod scan;
pub(crate) mod varint;
