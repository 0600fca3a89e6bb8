//! A peer whose address somebody wrote down.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::{Advert, Finder, Found, Source};
use crate::env::{BoxFuture, Env};

/// After a failed look-up, the next one; doubled each time up to [`REFRESH`].
const RETRY: Duration = Duration::from_secs(1);
/// After a look-up that worked: the name may have moved.
const REFRESH: Duration = Duration::from_secs(30);

/// Where a peer is said to be: a host name or an IP address, and a UDP port. An IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress(Place);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Address(SocketAddr),
    Name { host: String, port: u16 },
}

impl FromStr for PeerAddress {
    type Err = InvalidPeer;

    fn from_str(text: &str) -> Result<Self, InvalidPeer> {
        let invalid = |why| Err(InvalidPeer { text: text.to_owned(), why });
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 { invalid(PORT) } else { Ok(Self(Place::Address(address))) };
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return invalid("the port is missing; write HOST:PORT");
        };
        if host.is_empty() {
            return invalid("the host is missing; write HOST:PORT");
        }
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#".contains(c)) {
            return invalid("the host is not a name; write HOST:PORT without scheme or path");
        }
        if host.contains(':') || host.contains(['[', ']']) {
            return invalid("write an IPv6 address in brackets: [ADDRESS]:PORT");
        }
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self(Place::Name { host: host.to_owned(), port })),
            _ => invalid(PORT),
        }
    }
}

const PORT: &str = "the port is not a number from 1 to 65535";

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Address(address) => address.fmt(f),
            Place::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// The text names no peer; the message says why and how to write it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the address of a peer: {why}")]
#[non_exhaustive]
pub struct InvalidPeer {
    /// What was written.
    pub text: String,
    why: &'static str,
}

/// Tells the addresses of one peer that was written down; a name is looked up again and again, because it may move.
#[derive(Debug, Clone)]
pub struct Fixed {
    peer: PeerAddress,
}

impl Fixed {
    /// The source of this peer.
    pub fn new(peer: PeerAddress) -> Self {
        Self { peer }
    }

    async fn look_up(&self, env: &Env) -> io::Result<Vec<SocketAddr>> {
        match &self.peer.0 {
            Place::Address(address) => Ok(vec![*address]),
            Place::Name { host, port } => {
                let addresses = env.network.resolve(host.clone(), *port).await?;
                // To the node, no address would mean that the hint is withdrawn.
                if addresses.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(addresses) }
            }
        }
    }
}

impl Source for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn run(self: Arc<Self>, _own: Advert, env: Env, found: Finder) -> BoxFuture<()> {
        Box::pin(async move {
            let mut retry = RETRY;
            let mut first = true;
            loop {
                let (found_out, again) = match self.look_up(&env).await {
                    Ok(addresses) => {
                        let report = Found::Report(format!("{} is at {}", self.peer, list(&addresses)));
                        found.tell(Found::Seen { node: None, incarnation: None, in_touch: false, addresses }).await;
                        retry = RETRY;
                        (report, REFRESH)
                    }
                    Err(error) => {
                        let again = retry;
                        retry = (retry * 2).min(REFRESH);
                        let peer = &self.peer;
                        let why =
                            format!("{peer} cannot be looked up: {error}; check the name, or write an IP address");
                        (Found::Trouble(why), again)
                    }
                };
                found.tell(found_out).await;
                if std::mem::take(&mut first) {
                    found.tell(Found::FirstPass).await;
                }
                env.sleep(again).await;
            }
        })
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
