//! Whether the peer is alive: judged by what arrives, in packets that only it can have made.

use std::time::{Duration, Instant};

use crate::wire::limits::{IDLE_LIVENESS, IDLE_PING_INTERVAL, LIVENESS, LIVENESS_TICK, PING_INTERVAL};

/// An end that has heard nothing for a while pings; its peer's transport acknowledges that, so one end's pings tell
/// both that the other lives, and nothing has to answer a ping.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Liveness {
    ticked: Instant,
    /// What had been received at the last tick.
    received: u64,
    /// How long the peer has been silent, as the sum of ticks rather than the difference of two times: an end that
    /// was itself stopped for a minute looks at what has arrived meanwhile before it judges.
    silent: Duration,
    /// The same since the last ping.
    unpinged: Duration,
    owed: bool,
}

/// What a tick found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulse {
    Fine,
    Ping,
    Silent,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self { ticked: now, received: 0, silent: Duration::ZERO, unpinged: Duration::ZERO, owed: false }
    }

    pub(super) fn next_tick(&self) -> Instant {
        self.ticked + LIVENESS_TICK
    }

    pub(super) fn handle_tick(&mut self, now: Instant, received: u64, owed: bool) -> Pulse {
        let passed = now.saturating_duration_since(self.ticked).min(2 * LIVENESS_TICK);
        self.ticked = now;
        self.silent += passed;
        self.unpinged += passed;
        if owed && !self.owed {
            // Nobody had to be heard before: count from here, and ask at once.
            self.silent = Duration::ZERO;
            self.unpinged = PING_INTERVAL;
        }
        self.owed = owed;
        if received != self.received {
            self.received = received;
            self.silent = Duration::ZERO;
            self.unpinged = Duration::ZERO;
            return Pulse::Fine;
        }
        // An idle verdict keeps its limit although ticks are coarse; an owed one rather never comes early.
        let (limit, interval) = match owed {
            true => (LIVENESS, PING_INTERVAL),
            false => (IDLE_LIVENESS - LIVENESS_TICK, IDLE_PING_INTERVAL),
        };
        if self.silent >= limit && !planted!(LivenessBlind) {
            Pulse::Silent
        } else if self.unpinged >= interval {
            self.unpinged = Duration::ZERO;
            Pulse::Ping
        } else {
            Pulse::Fine
        }
    }
}
