//! Seeds of requests: some hundred fixed ones, fresh ones, and planted bugs; and what proptest draws.

use proptest::prelude::*;

use super::*;
use crate::planted::{Bug, plant, uproot};

/// These are found here.
pub(in crate::sim) const BUGS: &[Bug] = &[
    Bug::AskedAgainForEver,
    Bug::BusyIsTheEnd,
    Bug::CancelLost,
    Bug::DeadlineStays,
    Bug::EndsTwice,
    Bug::LimitIgnored,
    Bug::OutcomeWakesNobody,
    Bug::ReplyToAnother,
    Bug::RequestRoomLost,
    Bug::RunsAgain,
    Bug::SentIsNotSent,
];

fn hold(seed: u64) {
    let (world, steps) = drawn(seed);
    run(world, steps);
}

#[test]
fn fixed_seeds_of_requests_hold() {
    for seed in 0..500 {
        let held = std::panic::catch_unwind(|| hold(seed));
        assert!(held.is_ok(), "seed {seed} does not hold");
    }
}

/// As many as nobody has tried, or those that the environment asks for.
#[test]
fn fresh_seeds_of_requests_hold() {
    for seed in netsim::fresh_seeds(500) {
        let held = std::panic::catch_unwind(|| hold(seed));
        assert!(held.is_ok(), "NETSIM_SEED={seed} does not hold");
    }
}

/// Each is found within 500 seeds; the table in `docs/testing.md` is printed by this.
#[test]
fn each_planted_bug_of_requests_is_found() {
    let mut missed = Vec::new();
    for bug in BUGS {
        plant(*bug);
        let found = (0..500).find_map(|seed| Some((seed, std::panic::catch_unwind(|| hold(seed)).err()?)));
        uproot();
        match found {
            Some((seed, why)) => {
                let why = why.downcast::<String>().map_or_else(|_| String::new(), |why| *why);
                let why = why.lines().next().unwrap_or_default();
                println!("| `{bug:?}` | {} | {} | {why} |", bug.what(), seed + 1);
            }
            None => missed.push(*bug),
        }
    }
    assert_eq!(missed, [], "no seed finds these");
    hold(0);
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 8usize..100, 1 => 60_000usize..300_000]
}

fn step() -> impl Strategy<Value = Step> {
    let ask = (size(), any::<bool>(), any::<bool>(), prop::option::weighted(0.2, 0usize..3), 1u64..2_000);
    let some = || prop_oneof![1usize..60, 10_000usize..200_000, Just(usize::MAX)];
    prop_oneof![
        6 => ask.prop_map(|(size, idempotent, patient, to, millis)| Step::Ask { size, idempotent, patient, to, millis }),
        1 => (0usize..8).prop_map(Step::Drop),
        3 => (0usize..3).prop_map(Step::Connect),
        1 => (0usize..3).prop_map(Step::Disconnect),
        2 => Just(Step::Notice),
        1 => (0usize..3).prop_map(Step::Crash),
        1 => (0usize..3).prop_map(Step::Close),
        8 => (0usize..3, some()).prop_map(|(at, most)| Step::Forth(at, most)),
        8 => (0usize..3, some()).prop_map(|(at, most)| Step::Back(at, most)),
        4 => (0usize..3).prop_map(Step::Claim),
        4 => (0usize..8, 0u8..4, size()).prop_map(|(hand, how, size)| Step::Answer(hand, how, size)),
        1 => (0u64..400).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_request_ends_once_and_says_the_truth(
        messages in prop_oneof![1u64..5, Just(1000)],
        bytes in prop_oneof![100_000u64..400_000, Just(1 << 30)],
        limit in prop_oneof![1u64..4, Just(1000)],
        steps in prop::collection::vec(step(), 0..250),
    ) {
        run(World::new(Amount { messages, bytes }, limit), steps);
    }
}
