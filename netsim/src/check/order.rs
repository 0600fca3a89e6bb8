//! Who is next: the order on a lane, and among lanes that wait.

use std::collections::BTreeMap;

use super::Violation;

/// Holds the order on one lane: "what goes out for the first time keeps the order in which it was accepted".
#[derive(Debug, Clone, Default)]
pub struct Order {
    lane: String,
    last: Option<u64>,
}

impl Order {
    /// Nothing has come over this lane.
    pub fn new(lane: impl Into<String>) -> Self {
        Self { lane: lane.into(), last: None }
    }

    /// The message with this sequence comes, and it goes out for the first time.
    ///
    /// # Errors
    /// A later one has come before.
    pub fn first_time(&mut self, sequence: u64) -> Result<(), Violation> {
        if let Some(last) = self.last.filter(|last| sequence <= *last) {
            let what = format!("{}: {sequence} after {last}", self.lane);
            return Err(Violation::new(IN_ORDER, what));
        }
        self.last = Some(sequence);
        Ok(())
    }
}

/// Holds that of those who wait for the slots of one receiver none is passed over: "while one waits, no other gets more
/// than one slot more than twice as many as there are". A round-robin gives each one in turn; but who stops waiting for a
/// moment between two looks may miss all that are free then.
#[derive(Debug, Clone, Default)]
pub struct Fair {
    who: String,
    slots: u64,
    lanes: BTreeMap<u64, Waiting>,
}

#[derive(Debug, Clone, Default)]
struct Waiting {
    waiting: bool,
    granted: u64,
    /// What each other lane has been granted since this one waits and was granted nothing.
    passed: BTreeMap<u64, u64>,
}

impl Fair {
    /// No lanes, at a receiver with so many slots.
    pub fn new(who: impl Into<String>, slots: u64) -> Self {
        Self { who: who.into(), slots, lanes: BTreeMap::new() }
    }

    /// What the receiver has granted to each of its lanes, in total, and whether that one waits.
    ///
    /// # Errors
    /// One that waits was passed over.
    pub fn granted(&mut self, now: impl IntoIterator<Item = (u64, u64, bool)>) -> Result<(), Violation> {
        let now: BTreeMap<u64, (u64, bool)> =
            now.into_iter().map(|(lane, total, waits)| (lane, (total, waits))).collect();
        self.lanes.retain(|lane, _| now.contains_key(lane));
        let got: Vec<(u64, u64)> = now
            .iter()
            .map(|(lane, (total, _))| (*lane, total - self.lanes.get(lane).map_or(0, |before| before.granted)))
            .filter(|(_, more)| *more > 0)
            .collect();
        for (lane, (total, waits)) in now {
            let before = self.lanes.entry(lane).or_default();
            let waited = before.waiting && waits && before.granted == total;
            (before.waiting, before.granted) = (waits, total);
            if !waited {
                before.passed.clear();
                continue;
            }
            for (other, more) in got.iter().filter(|(other, _)| *other != lane) {
                let passed = before.passed.entry(*other).or_default();
                *passed += more;
                if *passed > 2 * self.slots + 1 {
                    let what = format!("{}: lane {lane} waits, and lane {other} got {passed} slots", self.who);
                    return Err(Violation::new(PASSED_OVER, what));
                }
            }
        }
        Ok(())
    }
}

const IN_ORDER: &str = "what goes out for the first time keeps its order";
const PASSED_OVER: &str = "who waits for a slot is not passed over";
