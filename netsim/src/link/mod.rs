//! What packets suffer on their way.

mod latency;
mod pipe;

use std::time::Duration;

pub use latency::Latency;
pub(crate) use latency::nanos;
pub(crate) use pipe::{Passage, Pipe, corrupt};

/// What packets suffer on their way, in one direction.
///
/// A link may be [a LAN's](crate::Lan), [a router's](crate::Router), that of [a host's cable](crate::Lan::set_uplink), or
/// [between two hosts](crate::Sim::set_link_between). [`Link::lan`] is what a LAN has unless it is told otherwise; each
/// of the other methods changes one thing.
///
/// A packet first has to fit ([`mtu`](Link::mtu)), then to find room in the queue, waits there for its turn and is sent
/// ([`bandwidth`](Link::bandwidth), [`queue`](Link::queue)); on the way it may be lost ([`loss`](Link::loss),
/// [`burst_loss`](Link::burst_loss)), [doubled](Link::duplicates), [changed](Link::corruption), takes its time
/// ([`latency`](Link::latency), [`jitter`](Link::jitter)) and may be overtaken ([`reorder`](Link::reorder),
/// [`in_order`](Link::in_order)).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    latency: Latency,
    jitter: Duration,
    in_order: bool,
    loss: f64,
    bursts: Option<Bursts>,
    duplicates: f64,
    corruption: f64,
    reorder: f64,
    reorder_by: Duration,
    /// In bits a second.
    bandwidth: Option<u64>,
    queue: Queue,
    mtu: usize,
    ecn: bool,
}

/// How much waits at a link of finite [`bandwidth`](Link::bandwidth) before more is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Queue {
    /// So many bytes of IP packets.
    Bytes(u64),
    /// What is sent in so much time.
    Time(Duration),
}

/// The model of Gilbert and Elliott: the link is in a good or in a bad state, and may change it with each packet.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bursts {
    to_bad: f64,
    to_good: f64,
    loss_in_bad: f64,
    loss_in_good: f64,
}

impl Link {
    /// Nothing happens to packets, whatever their size, and they take no time.
    pub fn ideal() -> Self {
        Self {
            latency: Duration::ZERO.into(),
            jitter: Duration::ZERO,
            in_order: false,
            loss: 0.0,
            bursts: None,
            duplicates: 0.0,
            corruption: 0.0,
            reorder: 0.0,
            reorder_by: Duration::ZERO,
            bandwidth: None,
            queue: Queue::Bytes(QUEUE),
            mtu: usize::MAX,
            ecn: true,
        }
    }

    /// A wired LAN: 200 µs and up to 50 µs more, nothing lost, nothing twice, no limit of bandwidth, 1,500 bytes of
    /// MTU.
    pub fn lan() -> Self {
        Self::ideal().latency(Duration::from_micros(200)).jitter(Duration::from_micros(50)).mtu(1500)
    }

    /// How long packets take: always the same, a range, or a [`Latency`].
    pub fn latency(self, latency: impl Into<Latency>) -> Self {
        Self { latency: latency.into(), ..self }
    }

    /// The most time on top of the latency, drawn evenly for each packet: packets overtake each other, unless they are
    /// kept [in order](Link::in_order).
    pub fn jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }

    /// No packet overtakes another, whatever they draw as latency and jitter: each arrives with the one before it or
    /// later, as behind one queue.
    pub fn in_order(self) -> Self {
        Self { in_order: true, ..self }
    }

    /// How likely a packet is held back for so long, so that those behind it overtake it. Also
    /// [in order](Link::in_order), where it is the one that is not.
    ///
    /// # Panics
    /// The probability is not between 0 and 1.
    pub fn reorder(self, probability: f64, by: Duration) -> Self {
        Self { reorder: checked(probability), reorder_by: by, ..self }
    }

    /// How likely a packet is lost, 0 to 1, each by itself.
    ///
    /// # Panics
    /// It is not between 0 and 1.
    pub fn loss(self, loss: f64) -> Self {
        Self { loss: checked(loss), ..self }
    }

    /// Losses in a row: the share of packets that is lost in the long run, and how many are lost one after the other on
    /// average. It is [`gilbert_elliott`](Link::gilbert_elliott) with all lost in the bad state and none in the good one,
    /// and comes on top of [`loss`](Link::loss).
    ///
    /// # Panics
    /// The loss is not at least 0 and less than 1, the length is less than 1, or there is no such pair: bursts of that
    /// length on average, one straight after the other, lose less than that.
    pub fn burst_loss(self, loss: f64, packets: f64) -> Self {
        assert!((0.0..1.0).contains(&loss), "a loss in bursts is at least 0 and less than 1, not {loss}");
        assert!(packets >= 1.0, "a burst has at least one packet, not {packets}");
        let to_good = 1.0 / packets;
        let to_bad = to_good * loss / (1.0 - loss);
        assert!(to_bad <= 1.0, "bursts of {packets} packets lose at most {} of all, not {loss}", 1.0 / (1.0 + to_good));
        self.gilbert_elliott(to_bad, to_good, 1.0, 0.0)
    }

    /// Losses in a row, in general: with each packet the link may change from a good into a bad state or back, and in
    /// each state loses packets with another probability. It comes on top of [`loss`](Link::loss). The state changes by
    /// packets and not by time: a burst lasts until enough of them have been sent.
    ///
    /// The model is E. N. Gilbert's ("Capacity of a burst-noise channel", Bell System Technical Journal 39, 1960) as
    /// extended by E. O. Elliott ("Estimates of error rates for codes on burst-noise channels", ibid. 42, 1963); with
    /// the names of [tc-netem](https://man7.org/linux/man-pages/man8/tc-netem.8.html)'s `gemodel`: *p*, *r*, *1-h*,
    /// *1-k*.
    ///
    /// # Panics
    /// One of them is not between 0 and 1.
    pub fn gilbert_elliott(self, to_bad: f64, to_good: f64, loss_in_bad: f64, loss_in_good: f64) -> Self {
        let bursts = Bursts {
            to_bad: checked(to_bad),
            to_good: checked(to_good),
            loss_in_bad: checked(loss_in_bad),
            loss_in_good: checked(loss_in_good),
        };
        Self { bursts: Some(bursts), ..self }
    }

    /// How likely a packet arrives twice, 0 to 1; the copy has a latency of its own.
    ///
    /// # Panics
    /// It is not between 0 and 1.
    pub fn duplicates(self, duplicates: f64) -> Self {
        Self { duplicates: checked(duplicates), ..self }
    }

    /// How likely a packet arrives with one to three neighbouring bits of its payload flipped, 0 to 1: those that the checksums of the
    /// lower layers do not catch.
    ///
    /// # Panics
    /// It is not between 0 and 1.
    pub fn corruption(self, corruption: f64) -> Self {
        Self { corruption: checked(corruption), ..self }
    }

    /// So many bits a second, of IP packets; those that come faster wait in the [`queue`](Link::queue).
    ///
    /// # Panics
    /// It is 0: that is a cut.
    pub fn bandwidth(self, bits_a_second: u64) -> Self {
        assert!(bits_a_second > 0, "a link without bandwidth is a cut");
        Self { bandwidth: Some(bits_a_second), ..self }
    }

    /// As fast as packets come, which is the default.
    pub fn without_bandwidth_limit(self) -> Self {
        Self { bandwidth: None, ..self }
    }

    /// How much may wait where there is a [`bandwidth`](Link::bandwidth), in bytes or as the time it takes to be sent;
    /// 256 KiB by default. It counts what is not sent yet. A packet for which there is no room is dropped (tail drop).
    pub fn queue(self, queue: impl Into<Queue>) -> Self {
        Self { queue: queue.into(), ..self }
    }

    /// The largest IP packet, in bytes; larger ones vanish, as they do with "don't fragment".
    pub fn mtu(self, mtu: usize) -> Self {
        Self { mtu, ..self }
    }

    /// Marks of explicit congestion notification (ECN) are wiped off, as some equipment does. By default they pass.
    pub fn without_ecn(self) -> Self {
        Self { ecn: false, ..self }
    }

    /// What a host has between its own sockets.
    pub(crate) fn loopback() -> Self {
        Self::ideal().latency(Duration::from_micros(10)).mtu(65_536)
    }

    /// The same with more loss.
    #[cfg(feature = "mesh")]
    pub(crate) fn loss_on_top(self, loss: f64) -> Self {
        Self { loss: 1.0 - (1.0 - self.loss) * (1.0 - loss), ..self }
    }

    /// Whether packets pass as if it were not there.
    pub(crate) fn is_ideal(&self) -> bool {
        *self == Self::ideal()
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::lan()
    }
}

impl From<u64> for Queue {
    fn from(bytes: u64) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Duration> for Queue {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

/// The words of [`Link`] for what has one.
macro_rules! words {
    ($type:ty: $($word:ident($($argument:ident: $is:ty),*);)*) => {
        impl $type {
            $(
                #[doc = concat!("Its [`Link::", stringify!($word), "`], for packets sent from now on.")]
                pub fn $word(&self, $($argument: $is),*) -> Self {
                    self.change(|link| link.$word($($argument),*))
                }
            )*
        }
    };
    ($type:ty) => {
        words! { $type:
            latency(latency: impl Into<$crate::Latency>);
            jitter(jitter: std::time::Duration);
            in_order();
            reorder(probability: f64, by: std::time::Duration);
            loss(loss: f64);
            burst_loss(loss: f64, packets: f64);
            gilbert_elliott(to_bad: f64, to_good: f64, loss_in_bad: f64, loss_in_good: f64);
            duplicates(duplicates: f64);
            corruption(corruption: f64);
            bandwidth(bits_a_second: u64);
            without_bandwidth_limit();
            queue(queue: impl Into<$crate::Queue>);
            mtu(mtu: usize);
            without_ecn();
        }
    };
}
pub(crate) use words;

fn checked(probability: f64) -> f64 {
    assert!((0.0..=1.0).contains(&probability), "a probability is between 0 and 1, not {probability}");
    probability
}

/// What waits at a link of finite bandwidth unless it says otherwise, in bytes: 20 ms at 100 Mbit/s.
const QUEUE: u64 = 256 << 10;
