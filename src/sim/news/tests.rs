//! Seeds: some hundred fixed ones, and the bugs that they have to find.

use std::panic::AssertUnwindSafe;

use super::{Outcome, run};
use crate::planted::{Bug, plant, uproot};

fn hold(seed: u64) -> Outcome {
    match std::panic::catch_unwind(AssertUnwindSafe(|| run(seed))) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failure)) => panic!("seed {seed}: {failure}"),
        Err(_) => panic!("seed {seed} has panicked"),
    }
}

/// How many seeds: `NETSIM_SEEDS`, or as many as an ordinary run has; from `NETSIM_SEED` on.
#[test]
fn every_subscriber_has_what_it_had_coming_or_is_told() {
    let number = |name: &str| std::env::var(name).map(|value| value.parse().expect("a number"));
    let (first, count): (u64, u64) = (number("NETSIM_SEED").unwrap_or(0), number("NETSIM_SEEDS").unwrap_or(500));
    let mut sum = Outcome::default();
    for seed in first..first + count {
        let outcome = hold(seed);
        sum.published += outcome.published;
        sum.delivered += outcome.delivered;
        sum.missed += outcome.missed;
        sum.resumed += outcome.resumed;
        sum.retained += outcome.retained;
        sum.given_up += outcome.given_up;
        sum.forgotten += outcome.forgotten;
        sum.gaps += outcome.gaps;
    }
    println!("{count} seeds from {first}: {sum:?}");
    let Outcome { published, delivered, missed, resumed, retained, given_up, forgotten, gaps } = sum;
    for (what, met) in [
        ("published", published),
        ("delivered", delivered),
        ("missed", missed),
        ("resumed", resumed),
        ("retained", retained),
        ("given up", given_up),
        ("forgotten", forgotten),
        ("gaps", gaps),
    ] {
        assert!(met >= count / 50, "hardly anything was {what}: {met}");
    }
}

#[test]
fn a_seed_is_the_same_twice() {
    for seed in 0..50 {
        assert_eq!(hold(seed), hold(seed));
    }
}

/// Each bug of publishers and subscribers is found, and how soon; the table in `docs/testing.md` is printed by this.
#[test]
fn each_planted_bug_of_the_news_is_found() {
    let mut missed = Vec::new();
    for bug in NEWS {
        plant(*bug);
        let found = (0..500).find_map(|seed| match std::panic::catch_unwind(|| run(seed)) {
            Ok(Ok(_)) => None,
            Ok(Err(failure)) => Some((seed, failure)),
            Err(_) => Some((seed, "a broken invariant panics".to_owned())),
        });
        uproot();
        match found {
            Some((seed, failure)) => println!("| `{bug:?}` | {} | {} | {failure} |", bug.what(), seed + 1),
            None => missed.push(*bug),
        }
    }
    assert_eq!(missed, [], "no seed finds these");
    hold(0);
}

/// The bugs that are looked for here.
pub(in crate::sim) const NEWS: &[Bug] = &[
    Bug::BoundUncounted,
    Bug::ConfirmedEarly,
    Bug::DataBeforeConfirmation,
    Bug::GapMiscounted,
    Bug::HoleAtSeam,
    Bug::LatestKeepsOlder,
    Bug::OverlapAtSeam,
    Bug::ResumeOffByOne,
    Bug::TrieForgetsRest,
];
