//! A link at work, in one direction: what it remembers from one packet to the next, and what becomes of each.

use std::time::Duration;

use rand::{Rng, RngCore};

use super::latency::up_to;
use super::{Bursts, Link, Queue};

/// What a link remembers, in one direction. The link itself may change in between.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// When all that has been taken is sent.
    sent_at: Duration,
    /// The state of Gilbert and Elliott's model.
    bad: bool,
    /// When the last packet arrives of those that are kept in order.
    last_arrival: Duration,
}

/// What becomes of a packet on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It takes so long; when it is duplicated, the copy as long as `again` says.
    Through { delay: Duration, again: Option<Duration>, corrupt: bool, ecn: bool },
    /// By chance.
    Lost,
    /// There was no room in the queue.
    Dropped,
    /// Larger than the link takes.
    TooLarge,
}

impl Pipe {
    /// A packet of so many bytes, IP's and UDP's headers included, comes to this link.
    pub(crate) fn pass(&mut self, link: &Link, now: Duration, size: usize, random: &mut impl RngCore) -> Passage {
        if size > link.mtu {
            return Passage::TooLarge;
        }
        let Some(sent_at) = self.enqueue(link, now, size) else { return Passage::Dropped };
        let lost = happens(link.loss, random);
        if link.bursts.is_some_and(|bursts| self.loses(&bursts, random)) || lost {
            return Passage::Lost;
        }
        let duplicated = happens(link.duplicates, random);
        let corrupt = happens(link.corruption, random);
        let mut delay = || self.arrival(link, sent_at, random) - now;
        let first = delay();
        Passage::Through { delay: first, again: duplicated.then(delay), corrupt, ecn: link.ecn }
    }

    /// When the packet is sent, `None` when there is no room for it.
    fn enqueue(&mut self, link: &Link, now: Duration, size: usize) -> Option<Duration> {
        let Some(bandwidth) = link.bandwidth else { return Some(now) };
        let takes = |bytes: u64| {
            let nanos = (u128::from(bytes) * 8 * 1_000_000_000).div_ceil(u128::from(bandwidth));
            Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX))
        };
        let room = match link.queue {
            Queue::Bytes(bytes) => takes(bytes),
            Queue::Time(time) => time,
        };
        let sent_at = self.sent_at.max(now) + takes(size as u64);
        if sent_at - now > room {
            return None;
        }
        self.sent_at = sent_at;
        Some(sent_at)
    }

    /// Whether Gilbert and Elliott's model loses this packet.
    fn loses(&mut self, bursts: &Bursts, random: &mut impl RngCore) -> bool {
        let change = if self.bad { bursts.to_good } else { bursts.to_bad };
        self.bad ^= happens(change, random);
        happens(if self.bad { bursts.loss_in_bad } else { bursts.loss_in_good }, random)
    }

    fn arrival(&mut self, link: &Link, sent_at: Duration, random: &mut impl RngCore) -> Duration {
        let arrival = sent_at + link.latency.draw(random) + up_to(link.jitter, random);
        if happens(link.reorder, random) {
            return arrival + link.reorder_by;
        }
        if link.in_order {
            self.last_arrival = self.last_arrival.max(arrival);
            return self.last_arrival;
        }
        arrival
    }
}

/// Flips one to three neighbouring bits.
pub(crate) fn corrupt(bytes: &mut [u8], random: &mut impl RngCore) {
    let bits = bytes.len() * 8;
    if bits == 0 {
        return;
    }
    let first = random.random_range(0..bits);
    for bit in first..first + random.random_range(1..=3) {
        bytes[bit % bits / 8] ^= 1 << (bit % 8);
    }
}

/// Draws only where chance has a say: a run without loss doesn't shift when another setting changes.
fn happens(probability: f64, random: &mut impl RngCore) -> bool {
    probability > 0.0 && random.random_bool(probability)
}
