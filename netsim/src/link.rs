//! What packets suffer between two hosts.

use std::time::Duration;

use rand::Rng;

/// What packets suffer between two hosts, in each direction alike and each packet by itself.
///
/// [`Link::lan`] is the default; the other methods change one thing about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    latency: Duration,
    jitter: Duration,
    loss: f64,
    duplicates: f64,
    mtu: usize,
}

impl Link {
    /// A wired LAN: 200 µs and up to 50 µs more, nothing lost, nothing twice, 1,500 bytes of MTU.
    pub fn lan() -> Self {
        Self {
            latency: Duration::from_micros(200),
            jitter: Duration::from_micros(50),
            loss: 0.0,
            duplicates: 0.0,
            mtu: 1500,
        }
    }

    /// The least time from one host to the other.
    pub fn latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// The most time on top of the latency, drawn evenly for each packet: packets overtake each other.
    pub fn jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }

    /// How likely a packet is lost, 0 to 1.
    ///
    /// # Panics
    /// It is not between 0 and 1.
    pub fn loss(self, loss: f64) -> Self {
        Self { loss: probability(loss), ..self }
    }

    /// How likely a packet arrives twice, 0 to 1; the copy has a jitter of its own.
    ///
    /// # Panics
    /// It is not between 0 and 1.
    pub fn duplicates(self, duplicates: f64) -> Self {
        Self { duplicates: probability(duplicates), ..self }
    }

    /// The largest IP packet, in bytes; larger ones vanish, as they do with "don't fragment".
    pub fn mtu(self, mtu: usize) -> Self {
        Self { mtu, ..self }
    }

    /// What a host has between its own sockets.
    pub(crate) fn loopback() -> Self {
        Self { latency: Duration::from_micros(10), jitter: Duration::ZERO, mtu: 65_536, ..Self::lan() }
    }

    /// Whether a datagram with so many bytes of payload fits.
    pub(crate) fn carries(&self, payload: usize) -> bool {
        payload + HEADERS <= self.mtu
    }

    /// How long each copy of a packet takes: none when it is lost, two when it is duplicated.
    pub(crate) fn delays(&self, random: &mut impl Rng) -> Vec<Duration> {
        if happens(self.loss, random) {
            return Vec::new();
        }
        let copies = 1 + usize::from(happens(self.duplicates, random));
        (0..copies).map(|_| self.latency + random.random_range(Duration::ZERO..=self.jitter)).collect()
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::lan()
    }
}

/// Draws only where chance has a say: a run without loss doesn't shift when another setting changes.
fn happens(probability: f64, random: &mut impl Rng) -> bool {
    probability > 0.0 && random.random_bool(probability)
}

fn probability(value: f64) -> f64 {
    assert!((0.0..=1.0).contains(&value), "a probability is between 0 and 1, not {value}");
    value
}

/// Bytes of an IPv4 and a UDP header.
const HEADERS: usize = 28;
