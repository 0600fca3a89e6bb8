//! What has happened, and was it the same? Every packet and its fate, every fault and every note, hashed as it happens.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::link::nanos;
use crate::network::HostId;

/// What a run leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trace {
    /// Of everything that has happened: equal in two runs exactly when the same packets, byte for byte, had the same
    /// fate at the same nanosecond.
    pub hash: Hash,
    /// How many packets had which fate.
    pub packets: Counts,
    /// How long the run was, in virtual time.
    pub time: Duration,
    /// What has happened, a line each; the last 64 lines unless [`Builder::whole_log`](crate::Builder::whole_log), with
    /// which a packet's line also has the beginning of its payload's hash (`#1a2b3c4d`).
    pub log: Vec<String>,
}

/// A SHA-256; shown as its first 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// All 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// How many packets had which fate. The copies of one packet are one packet when it is sent; each may be lost further on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Sent, whatever became of them.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped at a queue that was full.
    pub dropped: u64,
    /// Doubled.
    pub duplicated: u64,
    /// Changed on the way.
    pub corrupted: u64,
    /// Stopped by a cut, too large for a link, or for an address that nobody has or that no way leads to.
    pub stopped: u64,
    /// Arrived where nobody listened or the socket's buffer was full.
    pub unheard: u64,
}

/// What becomes of a packet on a link, known when it comes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It takes so long, and its copy, when it is duplicated, as long as `again` says.
    Arrives {
        delay: Duration,
        again: Option<Duration>,
        corrupt: bool,
    },
    Cut,
    Lost,
    /// The queue was full.
    Dropped,
    NobodyThere,
    NoRoute,
    TooLarge,
}

impl Fate {
    /// Why the packet does not arrive.
    pub(crate) fn why_not(self) -> Option<&'static str> {
        Some(match self {
            Self::Arrives { .. } => return None,
            Self::Cut => "cut",
            Self::Lost => "lost",
            Self::Dropped => "the queue is full",
            Self::NobodyThere => "nobody has this address",
            Self::NoRoute => "no way leads there",
            Self::TooLarge => "too large",
        })
    }
}

/// The link that a packet comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Loopback,
    Uplink,
    Lan,
    /// The link of two hosts, to this one.
    Pair(HostId),
    Router,
    Downlink,
}

/// Writes the trace of a run.
pub(crate) struct Recorder {
    hash: Sha256,
    packets: Counts,
    log: VecDeque<(Duration, Line)>,
    keep: usize,
}

/// A line of the log, not yet written out: most are never read.
enum Line {
    Packet { stage: Stage, from: SocketAddr, to: SocketAddr, len: usize, payload: Option<u32>, fate: Fate },
    Note(String),
}

impl Recorder {
    /// Keeps so many lines of the log, the latest.
    pub(crate) fn new(keep: usize) -> Self {
        Self { hash: Sha256::new(), packets: Counts::default(), log: VecDeque::new(), keep }
    }

    /// A packet is sent, and comes to its first link.
    pub(crate) fn packet(
        &mut self,
        now: Duration,
        stage: Stage,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        fate: Fate,
    ) {
        self.packets.sent += 1;
        self.time(b"packet", now);
        self.fate(stage, from, to, fate);
        self.bytes(bytes);
        // Two whole logs are compared line by line, so that each tells its payload from another one.
        let payload = (self.keep == usize::MAX).then(|| short_hash(bytes));
        self.keep(now, Line::Packet { stage, from, to, len: bytes.len(), payload, fate });
    }

    /// A packet that was sent before comes to another link.
    pub(crate) fn hop(
        &mut self,
        now: Duration,
        stage: Stage,
        from: SocketAddr,
        to: SocketAddr,
        len: usize,
        fate: Fate,
    ) {
        self.time(b"hop", now);
        self.fate(stage, from, to, fate);
        self.keep(now, Line::Packet { stage, from, to, len, payload: None, fate });
    }

    fn fate(&mut self, stage: Stage, from: SocketAddr, to: SocketAddr, fate: Fate) {
        for address in [from, to] {
            match address.ip() {
                IpAddr::V4(ip) => self.hash.update(ip.octets()),
                IpAddr::V6(ip) => self.hash.update(ip.octets()),
            }
            self.hash.update(address.port().to_le_bytes());
        }
        let stage = match stage {
            Stage::Loopback => 0,
            Stage::Uplink => 1,
            Stage::Lan => 2,
            Stage::Pair(_) => 3,
            Stage::Router => 4,
            Stage::Downlink => 5,
        };
        let (code, counted) = match fate {
            Fate::Arrives { delay, again, corrupt } => {
                self.packets.duplicated += u64::from(again.is_some());
                self.packets.corrupted += u64::from(corrupt);
                self.hash.update([stage, 1 + u8::from(again.is_some()) + 2 * u8::from(corrupt)]);
                self.hash.update(nanos(delay).to_le_bytes());
                if let Some(again) = again {
                    self.hash.update(nanos(again).to_le_bytes());
                }
                return;
            }
            Fate::Dropped => (0xfa, &mut self.packets.dropped),
            Fate::NoRoute => (0xfb, &mut self.packets.stopped),
            Fate::Cut => (0xfc, &mut self.packets.stopped),
            Fate::Lost => (0xfd, &mut self.packets.lost),
            Fate::NobodyThere => (0xfe, &mut self.packets.stopped),
            Fate::TooLarge => (0xff, &mut self.packets.stopped),
        };
        *counted += 1;
        self.hash.update([stage, code]);
    }

    /// Something other than a packet has happened.
    pub(crate) fn note(&mut self, now: Duration, text: String) {
        self.time(b"note", now);
        self.bytes(text.as_bytes());
        self.keep(now, Line::Note(text));
    }

    /// A packet has arrived for nothing.
    pub(crate) fn unheard(&mut self) {
        self.packets.unheard += 1;
    }

    /// The trace up to now.
    pub(crate) fn trace(&self, now: Duration) -> Trace {
        Trace {
            hash: Hash(self.hash.clone().finalize().into()),
            packets: self.packets,
            time: now,
            log: self.log.iter().map(|(time, line)| format!("{} {line}", Clocked(*time))).collect(),
        }
    }

    fn time(&mut self, kind: &[u8], now: Duration) {
        self.bytes(kind);
        self.hash.update(nanos(now).to_le_bytes());
    }

    /// With their length, so that two records never look like one another.
    fn bytes(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    fn keep(&mut self, now: Duration, line: Line) {
        if self.log.len() == self.keep {
            self.log.pop_front();
        }
        if self.log.len() < self.keep {
            self.log.push_back((now, line));
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stage, from, to, len, payload, fate) = match self {
            Self::Packet { stage, from, to, len, payload, fate } => (stage, from, to, len, payload, fate),
            Self::Note(text) => return f.write_str(text),
        };
        write!(f, "{from} → {to}  {len} B  ")?;
        if let Some(payload) = payload {
            write!(f, "#{payload:08x}  ")?;
        }
        match stage {
            Stage::Loopback | Stage::Lan | Stage::Pair(_) => {}
            Stage::Uplink => f.write_str("uplink: ")?,
            Stage::Router => f.write_str("router: ")?,
            Stage::Downlink => f.write_str("downlink: ")?,
        }
        match fate {
            Fate::Arrives { delay, again, corrupt } => {
                write!(f, "in {delay:?}")?;
                if let Some(again) = again {
                    write!(f, ", again in {again:?}")?;
                }
                f.write_str(if *corrupt { ", changed" } else { "" })
            }
            fate => f.write_str(fate.why_not().unwrap_or_default()),
        }
    }
}

/// A time as the log shows it: seconds, to the nanosecond.
struct Clocked(Duration);

impl fmt::Display for Clocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5}.{:09}", self.0.as_secs(), self.0.subsec_nanos())
    }
}

fn short_hash(bytes: &[u8]) -> u32 {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}
