//! The real world: tokio, the operating system's sockets, randomness and clocks.
