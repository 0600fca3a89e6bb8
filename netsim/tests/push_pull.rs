//! Two real nodes on a simulated network: every accepted message is handled, and it happens the same again.

#![allow(clippy::unwrap_used)]

mod fresh;
mod node;

use std::collections::BTreeSet;
use std::time::Duration;

use netsim::{Link, Run, Sim, seeds};

use fresh::hash_of_a_fresh_process;
use node::{Ledger, push_all, work};

const MESSAGES: u32 = 1000;

/// A thousand messages, each acknowledged, over a Wi-Fi that loses two packets of a hundred.
fn a_thousand_messages(seed: u64) -> Run<()> {
    Sim::run(seed, async |sim: Sim| {
        sim.set_link(wifi());
        let ledger = Ledger::default();
        let (pusher, puller) = (sim.host("pusher"), sim.host("puller"));
        let worker = puller.spawn(work(sim.clone(), puller.clone(), ledger.clone()));
        pusher.spawn(push_all(pusher.clone(), MESSAGES)).await.unwrap();
        assert_eq!(ledger.handled(), Vec::from_iter(0..MESSAGES), "one lane, one worker: in order, and once");
        worker.abort();
    })
}

/// The worker's host loses power with work in hand; another host takes over.
fn a_worker_crashes(seed: u64) -> Run<()> {
    Sim::run(seed, async |sim: Sim| {
        sim.set_link(wifi());
        let ledger = Ledger::default();
        let (pusher, first, second) = (sim.host("pusher"), sim.host("first"), sim.host("second"));
        first.spawn(work(sim.clone(), first.clone(), ledger.clone()));
        let pushed = pusher.spawn(push_all(pusher.clone(), MESSAGES));
        while ledger.handled().len() < MESSAGES as usize / 2 {
            sim.sleep(Duration::from_millis(1)).await;
        }
        first.crash();
        let before = ledger.handled();
        assert!(before.len() < MESSAGES as usize, "it crashes in the middle");

        second.spawn(work(sim.clone(), second.clone(), ledger.clone()));
        pushed.await.unwrap();
        let all = ledger.handled();
        assert_eq!(BTreeSet::from_iter(all.iter().copied()), BTreeSet::from_iter(0..MESSAGES), "none is lost");
        // Handled twice: only what was handled and not yet known to be.
        assert!(all.len() - (MESSAGES as usize) < before.len(), "{} handled", all.len());
    })
}

#[test]
fn every_message_is_handled_over_a_bad_network() {
    for seed in seeds(5) {
        let Run { trace, .. } = a_thousand_messages(seed);
        assert!(trace.packets.lost > 0, "{:?}", trace.packets);
    }
}

#[test]
fn what_a_crashed_worker_had_goes_to_another() {
    for seed in seeds(5) {
        a_worker_crashes(seed);
    }
}

#[test]
fn the_same_seed_has_the_same_trace() {
    for seed in seeds(2) {
        assert_eq!(a_thousand_messages(seed), a_thousand_messages(seed));
        assert_eq!(a_worker_crashes(seed), a_worker_crashes(seed));
    }
    assert_ne!(a_thousand_messages(1).trace.hash, a_thousand_messages(2).trace.hash);
}

#[test]
fn the_trace_is_the_same_in_fresh_processes() {
    let here = a_thousand_messages(7).trace.hash.to_string();
    for _ in 0..2 {
        assert_eq!(hash_of_a_fresh_process(), here);
    }
}

#[test]
#[ignore = "the other process of the_trace_is_the_same_in_fresh_processes"]
fn fresh_process() {
    println!("\nhash {}", a_thousand_messages(7).trace.hash);
}

fn wifi() -> Link {
    Link::lan().latency(Duration::from_millis(1)).jitter(Duration::from_millis(2)).loss(0.02)
}
