//! What time is it, to some milliseconds?

use std::time::{Duration, Instant};

/// The clock that the kernel keeps as it goes: a tick of the kernel off the exact one at the most, 10 ms. It goes on while the
/// process is stopped.
#[derive(Debug, Clone)]
pub(super) struct CoarseClock {
    /// One moment on both clocks.
    exact: Instant,
    coarse: Duration,
}

impl CoarseClock {
    /// `None`: the operating system has none.
    pub(super) fn new() -> Option<Self> {
        Some(Self { exact: Instant::now(), coarse: read()? })
    }

    #[inline]
    pub(super) fn now(&self) -> Instant {
        let passed = read().map_or(Duration::ZERO, |now| now.saturating_sub(self.coarse));
        self.exact + passed
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn read() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn read() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_up_with_the_exact_clock() {
        let Some(clock) = CoarseClock::new() else { return };
        let near = Duration::from_millis(50);
        let end = Instant::now() + Duration::from_millis(100);
        while Instant::now() < end {
            let (before, coarse, after) = (Instant::now(), clock.now(), Instant::now());
            assert!(coarse + near > before && coarse < after + near, "{before:?} {coarse:?} {after:?}");
        }
        assert!(clock.now() > end - near);
    }
}
