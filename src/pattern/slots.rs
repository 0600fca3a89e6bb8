//! `prefetch(n)`: at most n unfinished messages wait at a worker, in total over all pushers.
//!
//! A slot is granted to one lane at a time, round-robin over the lanes that say they have work waiting: to the one of them
//! whose last grant is the longest ago. It is taken from the grant on, and free again when its message is answered, when the lane waives it, or when the lane is over.

use std::collections::{BTreeMap, VecDeque};

use super::push::LaneKey;

#[derive(Debug)]
pub(crate) struct Slots {
    total: u64,
    taken: u64,
    lanes: BTreeMap<LaneKey, Lane>,
    /// All lanes, the one whose last grant is the longest ago first. Who has nothing waiting for a moment keeps its place.
    ring: VecDeque<LaneKey>,
    /// No slot is granted any more.
    closed: bool,
}

#[derive(Debug, Default)]
struct Lane {
    /// Cumulative: credit that was given.
    granted: u64,
    /// Cumulative: credit that was handed back.
    waived: u64,
    /// Cumulative: messages that were answered.
    answered: u64,
    waiting: bool,
}

impl Slots {
    pub(crate) fn new(total: u64) -> Self {
        Self { total, taken: 0, lanes: BTreeMap::new(), ring: VecDeque::new(), closed: false }
    }

    pub(crate) fn open(&mut self, lane: LaneKey) {
        self.lanes.insert(lane, Lane::default());
        self.ring.push_back(lane);
    }

    /// The lane is over: whatever it had taken is free.
    pub(crate) fn close(&mut self, lane: LaneKey) {
        if let Some(gone) = self.lanes.remove(&lane) {
            if !planted!(CreditLeak) {
                self.taken -= gone.granted - gone.waived - gone.answered;
            }
            self.ring.retain(|other| *other != lane);
        }
    }

    /// No slot is granted any more.
    pub(crate) fn stop(&mut self) {
        self.closed = true;
    }

    /// The pusher says whether work waits for this lane.
    pub(crate) fn waiting(&mut self, key: LaneKey, waiting: bool) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.waiting = waiting;
        }
    }

    /// So many messages of the lane were answered, in total.
    pub(crate) fn answered(&mut self, lane: LaneKey, total: u64) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            self.taken -= total - lane.answered;
            lane.answered = total;
        }
    }

    /// The pusher hands credit back, in total. False: more than it can have had.
    #[must_use]
    pub(crate) fn waived(&mut self, lane: LaneKey, total: u64, received: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(&lane) else { return true };
        if total < lane.waived || total + received > lane.granted {
            return false;
        }
        if !planted!(WaiveIgnored) {
            self.taken -= total - lane.waived;
        }
        lane.waived = total;
        true
    }

    /// Each lane, what it was granted in total, and whether it waits.
    #[cfg(test)]
    pub(crate) fn grants(&self) -> Vec<(LaneKey, u64, bool)> {
        self.lanes.iter().map(|(key, lane)| (*key, lane.granted, lane.waiting)).collect()
    }

    /// Grants what is free. Each lane that got something, with its total.
    pub(crate) fn grant(&mut self) -> BTreeMap<LaneKey, u64> {
        let mut granted = BTreeMap::new();
        while self.taken < self.total && !self.closed {
            let Some(place) = self.ring.iter().position(|key| self.lanes[key].waiting) else { break };
            let key = self.ring[place];
            if !planted!(GrantStarves) {
                self.ring.remove(place);
                self.ring.push_back(key);
            }
            let lane = self.lanes.get_mut(&key).expect("a lane in the ring is open");
            lane.granted += 1;
            self.taken += 1;
            granted.insert(key, lane.granted);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn granted(slots: &mut Slots) -> Vec<(LaneKey, u64)> {
        slots.grant().into_iter().collect()
    }

    #[test]
    fn one_slot_goes_round_robin_to_lanes_that_wait() {
        let mut slots = Slots::new(1);
        (1..=3).for_each(|lane| slots.open(lane));
        assert_eq!(granted(&mut slots), [], "nobody waits");
        slots.waiting(1, true);
        slots.waiting(3, true);
        assert_eq!(granted(&mut slots), [(1, 1)]);
        assert_eq!(granted(&mut slots), [], "the only slot is taken");
        slots.answered(1, 1);
        assert_eq!(granted(&mut slots), [(3, 1)]);
        slots.answered(3, 1);
        assert_eq!(granted(&mut slots), [(1, 2)]);
    }

    #[test]
    fn who_has_nothing_waiting_for_a_moment_keeps_its_place() {
        let mut slots = Slots::new(1);
        (1..=2).for_each(|lane| slots.open(lane));
        slots.waiting(1, true);
        slots.waiting(2, true);
        assert_eq!(granted(&mut slots), [(1, 1)]);
        // Its last message was sent elsewhere, and another one has come.
        slots.waiting(2, false);
        slots.waiting(2, true);
        slots.answered(1, 1);
        assert_eq!(granted(&mut slots), [(2, 1)]);
    }

    #[test]
    fn a_slot_is_free_at_once_when_it_is_waived_or_its_lane_ends() {
        let mut slots = Slots::new(1);
        slots.open(1);
        slots.open(2);
        slots.waiting(1, true);
        assert_eq!(granted(&mut slots), [(1, 1)]);
        slots.waiting(1, false);
        assert!(slots.waived(1, 1, 0));
        slots.waiting(2, true);
        assert_eq!(granted(&mut slots), [(2, 1)]);
        slots.waiting(1, true);
        slots.close(2);
        assert_eq!(granted(&mut slots), [(1, 2)]);
    }

    #[test]
    fn a_puller_that_closes_grants_nothing_more() {
        let mut slots = Slots::new(2);
        slots.open(1);
        slots.waiting(1, true);
        assert_eq!(granted(&mut slots), [(1, 2)]);
        slots.stop();
        slots.answered(1, 2);
        assert_eq!(granted(&mut slots), []);
    }

    #[test]
    fn nobody_waives_what_it_never_had() {
        let mut slots = Slots::new(2);
        slots.open(1);
        slots.waiting(1, true);
        slots.grant();
        assert!(!slots.waived(1, 3, 0));
        assert!(!slots.waived(1, 2, 1), "one of the two is spent");
        assert!(slots.waived(1, 1, 1));
        assert!(!slots.waived(1, 0, 1), "a total never shrinks");
    }

    proptest! {
        /// Whatever lanes do, the slots that are taken are those of open lanes, and never too many.
        #[test]
        fn slots_are_conserved(total in 1u64..5, steps in prop::collection::vec((0u64..4, 0u8..6), 0..200)) {
            let mut slots = Slots::new(total);
            let mut received = BTreeMap::new();
            for (key, what) in steps {
                match what {
                    0 if !slots.lanes.contains_key(&key) => { slots.open(key); received.insert(key, 0u64); }
                    1 => { slots.close(key); received.remove(&key); }
                    2 => slots.waiting(key, true),
                    3 => slots.waiting(key, false),
                    4 => if let Some(lane) = slots.lanes.get(&key)
                        && lane.granted - lane.waived > lane.answered
                    {
                            let answered = lane.answered + 1;
                            *received.entry(key).or_default() = answered;
                            slots.answered(key, answered);

                    },
                    _ => if let Some(lane) = slots.lanes.get(&key) {
                        let (unspent, got) = (lane.granted - received[&key], received[&key]);
                        prop_assert!(slots.waived(key, unspent, got));
                    },
                }
                slots.grant();
                let taken: u64 = slots.lanes.values().map(|lane| lane.granted - lane.waived - lane.answered).sum();
                prop_assert_eq!(slots.taken, taken);
                prop_assert!(taken <= total);
                prop_assert!(taken == total || !slots.lanes.values().any(|lane| lane.waiting), "a free slot and a waiting lane do not last");
            }
        }
    }
}
