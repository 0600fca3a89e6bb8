//! LINK: encrypted connections to peers whose identity is proven, and the lanes on them. The room that says `quinn`.
//!
//! A link moves bytes. Who may have a link, which one of two survives and when a silent peer is given up is decided
//! elsewhere; here it is dialled, accepted, limited and closed.

mod carry;
mod close;
mod congestion;
mod connection;
mod endpoint;
mod handshakes;
mod keys;
mod lane;
mod memory;
mod transport;

pub(crate) use carry::{Carried, carry, pause};
pub(crate) use close::{CloseCode, LinkLost};
pub(crate) use connection::{Connection, ControlReader, ControlWriter};
pub(crate) use endpoint::{BindError, DialError, Endpoint};
pub(crate) use lane::{LaneStream, OpeningError, read_open};
pub(crate) use memory::carry_in_memory;

#[cfg(test)]
mod tests;
