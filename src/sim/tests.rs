//! Seeds: some hundred fixed ones, fresh ones, and those that have found something once.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Instant;

use netsim::check::{TRAPS, sometimes};

use super::news::tests::NEWS;
use super::world::World;
use super::{Failure, Outcome, run};
use crate::planted::{Bug, plant, uproot};

/// Runs one seed; what is wrong comes with the command that shows it again.
fn hold(seed: u64) -> Outcome {
    match std::panic::catch_unwind(AssertUnwindSafe(|| run(seed))) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failure)) => panic!("seed {seed} {failure}\n{}", again(seed)),
        Err(_) => panic!("seed {seed} has panicked\n{}", again(seed)),
    }
}

fn again(seed: u64) -> String {
    format!("again, with its log: NETSIM_SEED={seed} cargo test --lib sim::tests::one_seed -- --ignored --nocapture")
}

/// Runs these seeds on so many threads, and adds what they meet to what this thread has met. Says how many events they had.
fn hold_all(seeds: Range<u64>, threads: usize) -> u64 {
    let next = AtomicU64::new(seeds.start);
    let some = || {
        let mine = std::iter::repeat_with(|| next.fetch_add(1, Relaxed)).take_while(|seed| *seed < seeds.end);
        (mine.map(|seed| hold(seed).events).sum::<u64>(), sometimes::take())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        let done = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        done.map(|(events, met)| {
            sometimes::add(met);
            events
        })
        .sum()
    })
}

#[test]
fn fixed_seeds_hold_and_meet_every_trap() {
    sometimes::take();
    hold_all(0..500, 2);
    let visits = sometimes::take();
    for (what, count) in visits.iter() {
        println!("{count:>8} {what}");
    }
    let pure = TRAPS.iter().filter(|trap| trap.pure).map(|trap| trap.name);
    assert_eq!(visits.missing(pure), Vec::<&str>::new(), "a trap that no seed meets");
}

/// Seeds that have found something once; docs/testing.md says what.
#[test]
fn what_was_found_is_not_found_again() {
    for seed in FOUND {
        hold(*seed);
    }
}

/// As many as nobody has tried, or those that `NETSIM_SEED`, `NETSIM_SEEDS` and `NETSIM_FRESH` ask for, as they do of
/// whole nodes.
#[test]
fn fresh_seeds_hold() {
    let seeds = netsim::fresh_seeds(FRESH);
    println!("seeds {seeds:?}");
    let threads = std::env::var("NETSIM_THREADS").map_or(1, |count| count.parse().expect("a number"));
    let (began, count) = (Instant::now(), seeds.end - seeds.start);
    let events = hold_all(seeds, threads);
    let time = began.elapsed();
    println!(
        "{count} seeds in {time:.2?}: {:.0} a second, {} events each",
        count as f64 / time.as_secs_f64(),
        events / count
    );
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..20 {
        assert_eq!(hold(seed), hold(seed));
    }
    assert_ne!(hold(1).hash, hold(2).hash);
}

/// Shows one seed with all that happens: `NETSIM_SEED=7 cargo test --lib sim::tests::one_seed -- --ignored --nocapture`.
#[test]
#[ignore = "shows the seed of NETSIM_SEED with all that happens"]
fn one_seed() {
    let seed = std::env::var("NETSIM_SEED").expect("NETSIM_SEED says which");
    let seed: u64 = seed.parse().expect("NETSIM_SEED is a number");
    let world = World::new(seed, true);
    let failure: Option<Failure> = world.run().err();
    if let Some(failure) = failure {
        panic!("seed {seed}\n{failure}");
    }
}

/// Each bug that the pure rooms can have is found, and how soon; the table in `docs/testing.md` is printed by this.
#[test]
fn each_planted_bug_is_found() {
    let mut missed = Vec::new();
    let elsewhere = [ELSEWHERE, NEWS, super::exchange::BUGS].concat();
    for bug in Bug::ALL.iter().filter(|bug| !elsewhere.contains(bug)) {
        plant(*bug);
        let found = (0..500).find_map(|seed| match std::panic::catch_unwind(|| run(seed)) {
            Ok(Ok(_)) => None,
            Ok(Err(failure)) => Some((seed, failure.violation.rule())),
            Err(_) => Some((seed, "a broken invariant panics")),
        });
        uproot();
        match found {
            Some((seed, rule)) => println!("| `{bug:?}` | {} | {} | {rule} |", bug.what(), seed + 1),
            None => missed.push(*bug),
        }
    }
    assert_eq!(missed, [], "no seed finds these");
    hold(0);
}

/// How many fresh seeds an ordinary run has: some seconds of it.
const FRESH: u64 = 200;
const FOUND: &[u64] = &[
    // A host that had learned of a loss without a date for it looked as if it had always known.
    9_566_665_018_180_652,
    // An end that was over was dated anew when something came for it, and the end of a stream arrived without its start.
    198_612_889,
    // A host that was stopped twice took what had come later for the first.
    327_558_868,
    // A worker was asked to know what was still on its way to it, or unread as it stood still: that the other end had lost
    // the link, or the lane.
    118_346_060,
    118_582_814,
    327_565_393,
];

/// These live in the rooms around; netsim's tests look for them.
const ELSEWHERE: &[Bug] = &[Bug::CarrierTellsNobody, Bug::LaneLossUnnoticed, Bug::TypesIgnored];
