//! When somebody without a link is dialled; pure.

use std::time::{Duration, Instant};

use crate::wire::limits::{REDIAL, REDIAL_LATER};

/// The times at which one peer, or one address, is dialled.
///
/// A dial is given up when the next one begins, as the retries inside one QUIC handshake grow ever rarer: a path that
/// is healed is found by the next dial, at most [`REDIAL_LATER`] later, and within [`REDIAL`] soon after a loss. Then a dial has
/// twice that time, beside the next one: a handshake over a long way takes more than [`REDIAL`].
#[derive(Debug)]
pub(super) struct Pace {
    next: Instant,
    /// Dials under way.
    under_way: usize,
    /// The next ones begin while they are.
    overlaps: bool,
    /// Attempts that came to nothing, since the last link.
    failed: u32,
    /// When the last link was lost, or a sign came that it may be back.
    lost: Option<Instant>,
    /// How often this dial was put off.
    put_off: u32,
    /// When it was dialled last.
    begun: Option<Instant>,
}

impl Pace {
    /// Dialled first at this time.
    pub(super) fn new(first: Instant) -> Self {
        Self { next: first, under_way: 0, overlaps: false, failed: 0, lost: None, put_off: 0, begun: None }
    }

    /// When it is to be dialled; `None` while it is, and not to be dialled once more beside that.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.under_way == 0 || self.overlaps).then_some(self.next)
    }

    /// When it is to be dialled beside a connection that has come about, and that should be the link by this time: not
    /// before, and if it is not, soon.
    pub(super) fn due_beside(&self, until: Instant) -> Instant {
        let soon = self.begun.map_or(until, |begun| begun + CALM);
        self.next.min(soon).max(until)
    }

    /// It is being dialled.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// So many dials are begun: how long they may take. `patient`: the peer is known to be there, on this host, where
    /// nothing is lost on the way. If it is slow it is busy, and a fresh dial would only add to its work. `jitter` is
    /// random, so that those who lost each other at the same time do not meet halfway for ever.
    pub(super) fn begin(&mut self, now: Instant, dials: usize, patient: bool, jitter: u64) -> Duration {
        let fast = !patient && self.lost.is_some_and(|lost| now < lost + FAST_FOR);
        let period = if fast { REDIAL } else { REDIAL_LATER };
        // 85 to 100 %: three dials in ten seconds at the most where nobody is known to be.
        let period = period.mul_f64(1.0 - 0.15 * (jitter % 1024) as f64 / 1024.0);
        self.next = now + period;
        self.under_way += dials;
        self.overlaps = fast;
        self.put_off = 0;
        self.begun = Some(now);
        if fast { period * 2 } else { period }
    }

    /// One of the dials has ended.
    pub(super) fn end(&mut self, linked: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        if linked {
            self.failed = 0;
        } else if self.under_way == 0 {
            self.fail();
        }
    }

    /// A connection that a dial, or the peer's own, has brought did not become a link.
    pub(super) fn fail(&mut self) {
        self.failed = self.failed.saturating_add(1);
    }

    /// A dial has come to nothing since the last link.
    pub(super) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// The link was lost: dial afresh, from this time on. Not sooner than [`CALM`] after the last
    /// dial: a peer that closes each link as soon as it is open would be dialled in a loop.
    pub(super) fn hurry(&mut self, now: Instant, first: Instant) {
        self.lost = Some(now);
        self.next = self.begun.map_or(first, |begun| first.max(begun + CALM));
    }

    /// Others that were lost are back, and so may be this one: dialled from this time on, if not sooner anyway. A dial that
    /// is under way may have begun before, and what it has sent be lost.
    pub(super) fn hasten(&mut self, now: Instant, first: Instant) {
        let next = self.next;
        self.hurry(now, first);
        self.next = self.next.min(next);
        self.overlaps = true;
    }

    /// It is somewhere else now: dial there from this time on, whatever dials of before are still under way.
    pub(super) fn anew(&mut self, first: Instant) {
        self.under_way = 0;
        self.overlaps = false;
        self.next = first;
    }

    /// Puts the dial off, because the peer's own may be under way; not for ever. Says until when.
    pub(super) fn put_off(&mut self, now: Instant, time: Duration) -> Option<Instant> {
        if self.put_off == MOST_PUT_OFF {
            return None;
        }
        self.put_off += 1;
        self.next = now + time;
        Some(self.next)
    }
}

/// How long after its last dial somebody is not dialled again whose link has just been lost.
const CALM: Duration = Duration::from_secs(1);
/// How long somebody is dialled each [`REDIAL`] whose link was lost.
const FAST_FOR: Duration = Duration::from_secs(10);
/// How often a dial is put off at the most.
const MOST_PUT_OFF: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Dials that come to nothing, at their times in seconds.
    fn dials(pace: &mut Pace, start: Instant, until: f64, jitter: u64) -> Vec<f64> {
        let mut times = Vec::new();
        loop {
            let now = pace.due().unwrap();
            if (now - start).as_secs_f64() > until {
                return times;
            }
            times.push((now - start).as_secs_f64());
            pace.begin(now, 1, false, jitter);
            assert!(pace.is_under_way());
            pace.end(false);
        }
    }

    #[test]
    fn an_address_where_nobody_is_known_to_be_is_dialled_thrice_in_ten_seconds() {
        for jitter in [0, 500, 1023] {
            let start = Instant::now();
            let times = dials(&mut Pace::new(start), start, 60.0, jitter);
            assert!(times.windows(4).all(|four| four[3] - four[0] > 10.0), "{times:?}");
            assert!(times.windows(2).all(|two| two[1] - two[0] <= 4.0), "{times:?}");
        }
    }

    #[test]
    fn a_lost_peer_is_dialled_each_half_second_at_first() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.hurry(start, start);
        let times = dials(&mut pace, start, 30.0, 0);
        assert_eq!(times.iter().filter(|&&time| time < 10.0).count(), 20);
        assert!(times.windows(2).all(|two| two[1] - two[0] <= 4.0));
    }

    #[test]
    fn dials_overlap_for_as_long_as_they_come_fast_and_two_at_a_time() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.begin(start, 1, false, 0), REDIAL_LATER);
        assert_eq!(pace.due(), None, "one at a time where nobody was known");
        pace.end(false);
        pace.hurry(start, start);
        let mut under_way = std::collections::VecDeque::new();
        let mut most = 0;
        for tick in 0..2000 {
            let now = start + Duration::from_millis(10 * tick);
            while under_way.front().is_some_and(|until| *until <= now) {
                under_way.pop_front();
                pace.end(false);
            }
            if pace.due().is_some_and(|due| due <= now) {
                under_way.push_back(now + pace.begin(now, 1, false, 0));
            }
            most = most.max(under_way.len());
            assert_eq!(pace.is_under_way(), !under_way.is_empty());
        }
        assert_eq!(most, 2);
        assert_eq!(under_way.len(), 1, "in the end it is one again");
    }

    #[test]
    fn a_sign_that_others_are_back_delays_no_dial() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.hurry(start, start);
        pace.begin(start, 1, false, 0);
        pace.end(false);
        pace.hasten(start, start);
        assert_eq!(pace.due(), Some(start + REDIAL), "it is dialled by then anyway");

        let later = start + FAST_FOR;
        pace.begin(later, 1, false, 0);
        pace.end(false);
        assert_eq!(pace.due(), Some(later + REDIAL_LATER));
        pace.hasten(later, later);
        assert_eq!(pace.due(), Some(later + CALM));

        let later = later + 2 * FAST_FOR;
        pace.begin(later, 1, false, 0);
        assert_eq!(pace.due(), None, "it is being dialled");
        pace.hasten(later, later);
        assert_eq!(pace.due(), Some(later + CALM), "and once more beside that");
    }

    #[test]
    fn a_connection_on_which_nothing_is_said_delays_no_dial_for_long() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let until = start + REDIAL;
        assert_eq!(pace.due_beside(until), until, "its peer has dialled");
        pace.begin(start, 2, false, 0);
        assert_eq!(pace.due(), None, "it is being dialled at another address yet");
        assert_eq!(pace.due_beside(until), start + CALM);
        let late = start + REDIAL_LATER * 2;
        assert_eq!(pace.due_beside(late), late, "it has come about only now");
    }

    #[test]
    fn who_is_lost_again_and_again_is_dialled_each_second() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let (mut now, mut dials) = (start, 0);
        while now < start + Duration::from_secs(10) {
            now = pace.due().unwrap().max(now);
            pace.begin(now, 1, true, 0);
            dials += 1;
            now += Duration::from_millis(2);
            pace.end(true);
            pace.hurry(now, now);
        }
        assert!(dials <= 11, "{dials} dials in ten seconds");
        // A link that has lasted is sought at once.
        now += CALM;
        pace.hurry(now, now);
        assert_eq!(pace.due(), Some(now));
    }

    #[test]
    fn a_peer_known_to_be_there_is_given_time_also_after_a_loss() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.hurry(start, start);
        assert_eq!(pace.begin(start, 1, true, 0), REDIAL_LATER);
        pace.end(false);
        assert_eq!(pace.begin(start, 1, false, 0), REDIAL * 2);
    }

    #[test]
    fn a_dial_is_put_off_for_a_while_and_not_for_ever() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let put_off = std::iter::from_fn(|| pace.put_off(start, REDIAL_LATER)).count();
        assert_eq!(put_off, MOST_PUT_OFF as usize);
        assert_eq!(pace.due(), Some(start + REDIAL_LATER));
        pace.begin(start, 1, false, 0);
        pace.end(false);
        assert!(pace.put_off(start, REDIAL_LATER).is_some(), "the next one may be put off again");
    }

    #[test]
    fn who_moved_is_dialled_at_once_whatever_is_still_under_way() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.begin(start, 2, false, 0);
        pace.anew(start);
        assert_eq!(pace.due(), Some(start));
        pace.begin(start, 1, false, 0);
        pace.end(false);
        pace.end(false);
        pace.end(false);
        assert!(pace.due().is_some());
    }
}
