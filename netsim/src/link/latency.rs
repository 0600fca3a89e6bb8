//! How long does a packet take?

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use rand::{Rng, RngCore};

/// How long a packet takes from one end of a link to the other, drawn anew for each packet.
///
/// A [`Duration`] is a latency that is always the same, a range of two one that is drawn evenly between them:
///
/// ```
/// use netsim::{Latency, Link, Units};
///
/// Link::lan().latency(3.ms());
/// Link::lan().latency(1.ms()..5.ms());
/// Link::lan().latency(Latency::long_tail(1.ms(), 2.s()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency(Shape);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Even { least: Duration, most: Duration },
    LongTail { least: Duration, most: Duration },
}

impl Latency {
    /// Mostly short, sometimes very long, as over Wi-Fi or a busy uplink: a Pareto distribution of shape 2, cut off at
    /// `most`. Half of the packets take less than 1.42 times `least`, one of a hundred takes more than 10 times, one of
    /// ten thousand more than 100 times as long.
    ///
    /// # Panics
    /// `most` is less than `least`.
    pub fn long_tail(least: Duration, most: Duration) -> Self {
        assert!(least <= most, "the longest latency, {most:?}, is less than the shortest, {least:?}");
        Self(Shape::LongTail { least, most })
    }

    fn even(least: Duration, most: Duration) -> Self {
        assert!(least <= most, "the longest latency, {most:?}, is less than the shortest, {least:?}");
        Self(Shape::Even { least, most })
    }

    /// Draws only where chance has a say.
    pub(crate) fn draw(&self, random: &mut impl RngCore) -> Duration {
        match self.0 {
            Shape::Even { least, most } => least + up_to(most - least, random),
            Shape::LongTail { least, most } => {
                // Above 0 and at most 1. Nothing but a square root and a division: both are the same on every machine,
                // which powers and logarithms are not.
                let share = ((random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                let time = Duration::from_nanos((nanos(least) as f64 / share.sqrt()) as u64);
                time.clamp(least, most)
            }
        }
    }
}

impl From<Duration> for Latency {
    fn from(time: Duration) -> Self {
        Self::even(time, time)
    }
}

impl From<RangeInclusive<Duration>> for Latency {
    fn from(range: RangeInclusive<Duration>) -> Self {
        Self::even(*range.start(), *range.end())
    }
}

impl From<Range<Duration>> for Latency {
    fn from(range: Range<Duration>) -> Self {
        Self::even(range.start, range.end)
    }
}

/// Between nothing and this, evenly.
pub(super) fn up_to(most: Duration, random: &mut impl RngCore) -> Duration {
    match nanos(most) {
        0 => Duration::ZERO,
        most => Duration::from_nanos(random.random_range(0..=most)),
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("no time of a run is longer than 584 years")
}
