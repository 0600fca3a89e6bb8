//! Peers at addresses that somebody named: looked up now, and again and again.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::{Advert, Finder, Found, Source};
use crate::env::{BoxFuture, Env};

/// A name is looked up again so long after it was found: hosts move.
const AGAIN: Duration = Duration::from_secs(30);
/// The first wait after a look-up that failed; doubled each time, up to [`AGAIN`].
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Of more addresses than this of one name, the rest is not tried.
const MAX_ADDRESSES: usize = 16;

/// Where a peer may be: `host:port`, `192.0.2.7:7400` or `[2001:db8::7]:7400`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    host: String,
    port: u16,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for PeerAddress {
    type Err = InvalidPeer;

    fn from_str(text: &str) -> Result<Self, InvalidPeer> {
        let invalid = |why| InvalidPeer { text: text.to_owned(), why };
        let text = text.trim();
        let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid("the port is missing"))?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| invalid("the port is no number from 1 to 65535"))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(host) if host.parse::<std::net::Ipv6Addr>().is_err() => {
                return Err(invalid("no IPv6 address is in the brackets"));
            }
            Some(host) => host,
            None if host.contains(':') => return Err(invalid("an IPv6 address needs brackets: [::1]:7400")),
            None => host,
        };
        if host.is_empty() || host.len() > 253 || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(invalid("the host is missing, or no name"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A text is not the address of a peer. No node was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the address of a peer: {why}; expected host:port")]
#[non_exhaustive]
pub struct InvalidPeer {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The source of one named peer.
#[derive(Debug)]
pub struct Fixed {
    peer: PeerAddress,
}

impl Fixed {
    /// Looks for the peer at this address, whoever it is.
    pub fn new(peer: PeerAddress) -> Self {
        Self { peer }
    }

    async fn look_up(&self, env: &Env) -> Result<Vec<SocketAddr>, String> {
        let PeerAddress { host, port } = &self.peer;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![(ip, *port).into()]);
        }
        let failed = |why: &dyn fmt::Display| {
            format!("cannot look up `{host}`: {why}; check the name, or give the address itself")
        };
        match env.network.resolve(host.clone(), *port).await {
            Ok(addresses) if addresses.is_empty() => Err(failed(&"it has no address")),
            Ok(mut addresses) => {
                addresses.truncate(MAX_ADDRESSES);
                Ok(addresses)
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

impl Source for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn run(self: Arc<Self>, _own: Advert, env: Env, found: Finder) -> BoxFuture<()> {
        Box::pin(async move {
            let (mut first, mut wait) = (true, AFTER_FAILURE);
            loop {
                match self.look_up(&env).await {
                    Ok(addresses) => {
                        let at = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
                        found.tell(Found::Report(format!("{} is at {at}", self.peer))).await;
                        found.tell(Found::Seen { node: None, incarnation: None, addresses }).await;
                        wait = AGAIN;
                    }
                    Err(why) => {
                        tracing::warn!(target: "meshmq::discovery", peer = %self.peer, "{why}");
                        found.tell(Found::Report(why)).await;
                        wait = if first || wait == AGAIN { AFTER_FAILURE } else { (wait * 2).min(AGAIN) };
                    }
                }
                if std::mem::take(&mut first) {
                    found.tell(Found::FirstPass).await;
                }
                env.sleep(wait).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_peers() {
        for good in ["host:7400", "192.0.2.7:1", "[2001:db8::7]:65535", "a.b.example:80"] {
            assert_eq!(good.parse::<PeerAddress>().unwrap().to_string(), good);
        }
        for (bad, why) in [
            ("host", "port is missing"),
            ("host:0", "no number"),
            ("host:port", "no number"),
            ("host:70000", "no number"),
            (":7400", "host is missing"),
            ("::1:7400", "needs brackets"),
            ("[host]:7400", "no IPv6"),
            ("two words:7400", "no name"),
        ] {
            let error = bad.parse::<PeerAddress>().unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains(why), "{error}");
        }
    }
}
