//! Nodes on the same network find each other by multicast DNS, with no address typed.
//!
//! | file | question |
//! |---|---|
//! | `advert` | what does a node say of itself? Pure |
//! | `addresses` | where to dial whom one hears of? Pure |
//! | `sightings` | who is there? Pure, and the place of all bounds |
//! | `daemon` | how is it said and heard? |

mod addresses;
mod advert;
mod daemon;
mod sightings;

use std::sync::Arc;
use std::time::Duration;

use super::{Advert, Finder, Source};
use crate::env::{BoxFuture, Env};

/// Finds the nodes of the mesh on the networks that this host is part of.
///
/// The node advertises its id, its port, its addresses and the tag of its mesh to everybody there, and no name. A node
/// that is bound to one address advertises only there; one bound to loopback says nothing to any network.
///
/// What is heard is a hint: at most 1,024 nodes with 16 addresses each, the nearest first. Records that run out say
/// nothing about whether a node lives; one that cannot be reached where its record says has the record verified.
#[derive(Debug, Clone)]
pub struct Mdns {
    ask: Duration,
}

impl Mdns {
    /// Speaks on UDP port 5353, like all of multicast DNS, which it shares with others of this host.
    pub fn new() -> Self {
        Self { ask: ASK }
    }
}

impl Default for Mdns {
    fn default() -> Self {
        Self::new()
    }
}

impl Source for Mdns {
    fn name(&self) -> &'static str {
        "mdns"
    }

    fn run(self: Arc<Self>, own: Advert, env: Env, found: Finder) -> BoxFuture<()> {
        Box::pin(daemon::run(own, self.ask, env, found))
    }
}

/// How often the nodes of a mesh ask the network anew, all together: all hear the answers to one. The crate itself asks
/// ever more rarely, up to an hour apart, and would not notice that a network is whole again, or a peer back.
const ASK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
