//! WHO: the pure rules of each pattern. Time, randomness and limits come in as arguments; no runtime, no network, no clock.

pub(crate) mod age;
pub(crate) mod batch;
pub(crate) mod content;
pub(crate) mod lane;
mod pieces;
pub(crate) mod publish;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod reply;
pub(crate) mod request;
mod segment;
mod slots;
mod splitter;
pub(crate) mod subscribe;
#[cfg(test)]
mod tests;
mod topics;
pub(crate) mod waiters;
mod window;
