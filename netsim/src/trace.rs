//! What has happened, and was it the same? Every packet and its fate, every fault and every note, hashed as it happens.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddrV4;
use std::time::Duration;

use sha2::{Digest, Sha256};

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

/// How many packets had which fate. The copies of one packet are one packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Sent, whatever became of them.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// Stopped by a cut, too large for the link, or for an address that nobody has.
    pub stopped: u64,
    /// Arrived where nobody listened or the inbox was full.
    pub unheard: u64,
}

/// What becomes of a packet, known when it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It takes so long; twice when it is duplicated.
    Arrives(Vec<Duration>),
    Cut,
    Lost,
    NobodyThere,
    TooLarge,
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
    Packet { from: SocketAddrV4, to: SocketAddrV4, len: usize, payload: Option<u32>, fate: Fate },
    Note(String),
}

impl Recorder {
    /// Keeps so many lines of the log, the latest.
    pub(crate) fn new(keep: usize) -> Self {
        Self { hash: Sha256::new(), packets: Counts::default(), log: VecDeque::new(), keep }
    }

    /// A packet is sent.
    pub(crate) fn packet(&mut self, now: Duration, from: SocketAddrV4, to: SocketAddrV4, bytes: &[u8], fate: Fate) {
        self.packets.sent += 1;
        match &fate {
            Fate::Arrives(delays) => self.packets.duplicated += u64::from(delays.len() > 1),
            Fate::Lost => self.packets.lost += 1,
            Fate::Cut | Fate::NobodyThere | Fate::TooLarge => self.packets.stopped += 1,
        }
        self.time(b"packet", now);
        for address in [from, to] {
            self.hash.update(address.ip().octets());
            self.hash.update(address.port().to_le_bytes());
        }
        match &fate {
            Fate::Arrives(delays) => {
                self.hash.update([delays.len().try_into().expect("a packet has few copies")]);
                for delay in delays {
                    self.hash.update(nanos(*delay));
                }
            }
            Fate::Cut => self.hash.update([0xfc]),
            Fate::Lost => self.hash.update([0xfd]),
            Fate::NobodyThere => self.hash.update([0xfe]),
            Fate::TooLarge => self.hash.update([0xff]),
        }
        self.bytes(bytes);
        // Two whole logs are compared line by line, so that each tells its payload from another one.
        let payload = (self.keep == usize::MAX).then(|| short_hash(bytes));
        self.keep(now, Line::Packet { from, to, len: bytes.len(), payload, fate });
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
        self.hash.update(nanos(now));
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
        let (from, to, len, payload, fate) = match self {
            Self::Packet { from, to, len, payload, fate } => (from, to, len, payload, fate),
            Self::Note(text) => return f.write_str(text),
        };
        write!(f, "{from} → {to}  {len} B  ")?;
        if let Some(payload) = payload {
            write!(f, "#{payload:08x}  ")?;
        }
        match fate {
            Fate::Arrives(delays) => {
                for (n, delay) in delays.iter().enumerate() {
                    write!(f, "{}{delay:?}", if n == 0 { "in " } else { ", again in " })?;
                }
                Ok(())
            }
            Fate::Cut => f.write_str("cut"),
            Fate::Lost => f.write_str("lost"),
            Fate::NobodyThere => f.write_str("nobody has this address"),
            Fate::TooLarge => f.write_str("too large"),
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

fn nanos(time: Duration) -> [u8; 8] {
    u64::try_from(time.as_nanos()).expect("a run is shorter than 584 years").to_le_bytes()
}
