//! Until when has the pusher not given this end up?
//!
//! Whoever is given up may not know it yet: it was stopped, or cut off. What it is handed then, somebody else may have been
//! handed meanwhile, though it says of itself that it goes out for the first time. So what has waited here is as good as new
//! only for as long as the pusher cannot have given up: a lease, after Gray and Cheriton, "Leases: an efficient
//! fault-tolerant mechanism for distributed file cache consistency" (1989). It is extended by what the pusher is known to
//! have heard of this end, counted from when that was sent.

use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

use crate::sync::AtomicU64;
use crate::wire::limits::{LIVENESS, LIVENESS_TICK};

/// The lease of one lane; written by the node's thread, read by whoever is handed something.
#[derive(Debug)]
pub(super) struct Lease {
    born: Instant,
    /// In nanoseconds since then.
    until: AtomicU64,
}

/// When the node's thread has last looked after the lease.
#[derive(Debug)]
pub(super) struct Looked {
    at: Instant,
    /// When it did so for the first time after it had been stopped.
    resumed: Option<Instant>,
}

impl Lease {
    pub(super) fn new(now: Instant) -> (Self, Looked) {
        (Self { born: now, until: AtomicU64::new(0) }, Looked { at: now, resumed: None })
    }

    pub(super) fn holds(&self, now: Instant) -> bool {
        self.since_birth(now) < self.until.load(Acquire)
    }

    fn extend(&self, until: Instant) {
        self.until.fetch_max(self.since_birth(until), AcqRel);
    }

    fn since_birth(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Looked {
    /// Something has come in over a lane on which nothing was unanswered. The pusher counts silence from when it had
    /// something to wait for, so it has not given up for a while; unless this process was stopped meanwhile, and what has
    /// come is old. Whether it looks first or reads first when it goes on, nobody can say.
    pub(super) fn first_arrived(&self, lease: &Lease, now: Instant) {
        let since = |then| now.saturating_duration_since(then);
        if since(self.at) <= ATTENTIVE && self.resumed.is_none_or(|resumed| since(resumed) >= CAUGHT_UP) {
            lease.extend(now + AFTER_ARRIVAL);
        }
    }

    /// The link's time has come to look; the pusher has acknowledged something that was sent at `acked`. Says whether a
    /// further word should be sent for it to acknowledge, as something waits.
    pub(super) fn look(&mut self, lease: &Lease, now: Instant, acked: Option<Instant>, waiting: bool) -> bool {
        if now.saturating_duration_since(self.at) > ATTENTIVE {
            self.resumed = Some(now);
        }
        self.at = now;
        if let Some(sent) = acked {
            lease.extend(sent + AFTER_WORD);
        }
        waiting && !lease.holds(now + RENEWED_BEFORE)
    }
}

/// A pusher gives up [`LIVENESS`] after it has heard something, or after it has sent something that is to be answered where
/// nothing was. What is left out of that is for clocks that do not run equally fast.
const AFTER_WORD: Duration = LIVENESS.saturating_sub(LIVENESS_TICK);
/// What has arrived may have been under way for a moment, and have waited for this end's attention.
const AFTER_ARRIVAL: Duration = AFTER_WORD.saturating_sub(ATTENTIVE).saturating_sub(ATTENTIVE);
/// A node's thread that has looked within this time has not been stopped.
const ATTENTIVE: Duration = LIVENESS_TICK.saturating_mul(2);
/// After so long a node's thread that was stopped has read what had come for it meanwhile.
const CAUGHT_UP: Duration = LIVENESS_TICK;
/// How long before its end a lease is renewed: two looks and a round trip.
const RENEWED_BEFORE: Duration = LIVENESS_TICK.saturating_mul(4);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_holds_from_the_first_arrival_and_from_what_was_acknowledged() {
        let start = Instant::now();
        let (lease, mut looked) = Lease::new(start);
        assert!(!lease.holds(start), "nothing has come");
        looked.first_arrived(&lease, start + ms(100));
        assert!(lease.holds(start + ms(1_300)));
        assert!(!lease.holds(start + ms(1_400)));
        assert!(!looked.look(&lease, start + ms(250), None, false));
        assert!(!looked.look(&lease, start + ms(250), None, true), "for a second yet");
        assert!(looked.look(&lease, start + ms(500), None, true), "what waits is asked for");
        assert!(!looked.look(&lease, start + ms(750), Some(start + ms(501)), true));
        assert!(lease.holds(start + ms(501 + 2_249)) && !lease.holds(start + ms(501 + 2_250)));
        assert!(
            !looked.look(&lease, start + ms(1_000), Some(start + ms(400)), true),
            "an older word takes nothing away"
        );
        assert!(lease.holds(start + ms(501 + 2_249)));
    }

    #[test]
    fn who_has_looked_within_two_ticks_was_not_stopped() {
        for (pause, attentive) in [(500, true), (501, false)] {
            let start = Instant::now();
            let (lease, mut looked) = Lease::new(start);
            looked.look(&lease, start + ms(pause), None, false);
            looked.first_arrived(&lease, start + ms(pause + 1));
            assert_eq!(lease.holds(start + ms(pause + 1)), attentive, "after {pause} ms");
        }
    }

    #[test]
    fn what_arrives_after_a_stop_proves_nothing() {
        let start = Instant::now();
        let (lease, mut looked) = Lease::new(start);
        looked.first_arrived(&lease, start + ms(501));
        assert!(!lease.holds(start + ms(501)), "it may have been sent long ago");
        assert!(looked.look(&lease, start + ms(502), None, true));
        looked.first_arrived(&lease, start + ms(503));
        assert!(!lease.holds(start + ms(503)), "it has waited in the socket");
        assert!(looked.look(&lease, start + ms(752), None, true));
        looked.first_arrived(&lease, start + ms(753));
        assert!(lease.holds(start + ms(753)));
        // A word that was sent before the stop, and whose acknowledgement is read after it.
        looked.look(&lease, start + ms(9_000), Some(start + ms(1_000)), true);
        assert!(!lease.holds(start + ms(9_000)));
    }
}
