//! The automatic window of a lane: small when messages take long, large when they fly.

use std::time::{Duration, Instant};

use crate::wire::limits::MAX_WINDOW;

/// Where every window begins: a worker must not hoard before it has shown how fast it is.
const FIRST: u64 = 2;
/// A window that is used up in less time doubles.
const FAST: Duration = Duration::from_millis(20);
/// A window that lasts longer halves: nobody waits long behind one worker while another idles.
const SLOW: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Window {
    now: u64,
    since: Instant,
    /// Answers at that time.
    base: u64,
    /// It has halved since: what is used up next was begun before, and says nothing of the worker's speed.
    halved: bool,
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self { now: FIRST, since: now, base: 0, halved: false }
    }

    /// Its size, after so many answers in total.
    pub(super) fn at(&mut self, now: Instant, answered: u64) -> u64 {
        let took = now.saturating_duration_since(self.since);
        let used_up = answered - self.base >= self.now;
        if used_up && took < FAST {
            if !std::mem::take(&mut self.halved) {
                self.now = (self.now * 2).min(MAX_WINDOW);
            }
        } else if took > SLOW {
            self.now = if planted!(WindowNeverShrinks) { self.now } else { (self.now / 2).max(1) };
            self.halved = true;
        } else if !used_up {
            return self.now;
        } else {
            self.halved = false;
        }
        self.since = now;
        self.base = answered;
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_in_between_makes_no_slow_worker_fast() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let mut now = start;
        for answered in 0..20 {
            // Something else is read shortly before each answer.
            now += Duration::from_millis(250);
            window.at(now, answered);
            now += Duration::from_millis(1);
            window.at(now, answered + 1);
        }
        assert_eq!(window.now, 1);
    }

    #[test]
    fn one_that_is_used_up_in_less_time_doubles_and_one_that_lasts_longer_halves() {
        let nano = Duration::from_nanos(1);
        let start = Instant::now();
        for (took, next) in
            [(Duration::ZERO, 16), (FAST - nano, 16), (FAST, 8), (SLOW, 8), (SLOW + nano, 4), (SLOW * 100, 4)]
        {
            let mut window = Window { now: 8, ..Window::new(start) };
            assert_eq!(window.at(start + took, 8), next, "{took:?}");
            // What is not used up says nothing until it has lasted for too long.
            let mut window = Window { now: 8, ..Window::new(start) };
            assert_eq!(window.at(start + took, 7), if took > SLOW { 4 } else { 8 }, "{took:?}");
        }
    }

    #[test]
    fn it_follows_the_worker() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let (mut now, mut answered) = (start, 0);
        for _ in 0..40 {
            answered += window.now;
            now += Duration::from_millis(1);
            window.at(now, answered);
        }
        assert_eq!(window.now, MAX_WINDOW, "messages fly");
        for _ in 0..40 {
            answered += 1;
            now += Duration::from_millis(250);
            window.at(now, answered);
        }
        assert_eq!(window.now, 1, "messages take long");
        for _ in 0..5 {
            answered += window.now;
            now += Duration::from_millis(60);
            window.at(now, answered);
        }
        assert_eq!(window.now, 1, "neither: it stays");
    }
}
