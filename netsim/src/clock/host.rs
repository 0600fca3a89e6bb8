//! The clocks of one host, which may go wrong: too fast, too slow, or set to another time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Clock;

/// What time a host believes it is.
pub(crate) struct HostClock {
    clock: Arc<Clock>,
    /// Nothing is wrong with it yet, which spares the lock.
    right: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Since when it goes at this rate, in the run's time and in its own.
    since: Duration,
    own: Duration,
    /// By how many millionths it is too fast.
    drift: i64,
    /// By how much the calendar is ahead of what has passed since the start, in nanoseconds.
    ahead: i128,
}

impl HostClock {
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        let state = State { since: Duration::ZERO, own: Duration::ZERO, drift: 0, ahead: 0 };
        Self { clock, right: AtomicBool::new(true), state: Mutex::new(state) }
    }

    /// What the code under test takes for the present.
    pub(crate) fn instant(&self) -> Instant {
        self.clock.start_instant() + self.now()
    }

    /// When this is since the start, by this clock.
    pub(crate) fn since_start(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.clock.start_instant())
    }

    /// Time since the start of the run, by this clock.
    pub(crate) fn now(&self) -> Duration {
        let now = self.clock.now();
        if self.right.load(Ordering::Relaxed) { now } else { self.lock().own_at(now) }
    }

    /// When this clock will show `own`, in the run's time, if its rate stays as it is.
    pub(crate) fn when(&self, own: Duration) -> Duration {
        if self.right.load(Ordering::Relaxed) { own } else { self.lock().when(own) }
    }

    /// The calendar.
    pub(crate) fn calendar(&self) -> SystemTime {
        let now = self.clock.now();
        let state = self.lock();
        let nanos = (START + state.own_at(now)).as_nanos() as i128 + state.ahead;
        // Before 1970 there is nothing.
        let nanos = u64::try_from(nanos.max(0)).expect("a run ends before the year 2500");
        SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
    }

    /// From now on it is too fast by so many millionths, or too slow.
    pub(crate) fn drift(&self, millionths: i32) {
        assert!(
            i64::from(millionths) > -(MILLION as i64),
            "a clock does not go backwards, as with a drift of {millionths}"
        );
        let now = self.clock.now();
        let mut state = self.lock();
        state.own = state.own_at(now);
        (state.since, state.drift) = (now, millionths.into());
        self.right.store(false, Ordering::Relaxed);
    }

    /// The calendar jumps.
    pub(crate) fn step(&self, nanos: i128) {
        self.lock().ahead += nanos;
    }

    pub(crate) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn own_at(&self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.since).as_nanos() * self.rate() / MILLION;
        self.own + nanos(passed)
    }

    /// Rounded up: the clock shows it by then.
    fn when(&self, own: Duration) -> Duration {
        let own = own.saturating_sub(self.own).as_nanos();
        self.since + nanos((own * MILLION).div_ceil(self.rate()))
    }

    fn rate(&self) -> u128 {
        (MILLION as i64 + self.drift).unsigned_abs().into()
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX))
}

const MILLION: u128 = 1_000_000;
/// When every run starts, since 1970: 2026-01-01 00:00:00 UTC.
pub(crate) const START: Duration = Duration::from_secs(1_767_225_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_when_it_says_so() {
        for drift in [-999_999, -500_000, -7, 0, 3, 200, 1_000_000] {
            let state = State { since: nanos(1_000), own: nanos(5_000), drift, ahead: 0 };
            for own in [5_000, 5_001, 5_007, 12_345, 1_000_000_007] {
                let own = nanos(own);
                let when = state.when(own);
                assert!(state.own_at(when) >= own, "{drift} {own:?}");
                if when > state.since {
                    assert!(state.own_at(when - nanos(1)) < own, "{drift} {own:?}: not before");
                }
            }
        }
    }
}
