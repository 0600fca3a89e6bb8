//! WHO: the pure rules of each pattern. Time, randomness and limits come in as arguments; no runtime, no network, no clock.

pub(crate) mod lane;
