//! Bugs that only real nodes can have are found by real nodes: workers that crash, a network that is cut, and a ledger.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "others use the rest of it")]
mod node;
mod types;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use meshmq::planted::{Bug, plant};
use netsim::check::{Delivered, Ledger};
use netsim::{Host, Link, Sim};
use node::join;

/// What the pure depth does not reach.
const WHOLE: &[(Bug, Scenario)] = &[
    (Bug::CarrierTellsNobody, workers_come_and_go),
    (Bug::LaneLossUnnoticed, workers_come_and_go),
    (Bug::TypesIgnored, types_keep_sockets_apart),
];
const SEEDS: u64 = 20;
const MESSAGES: u32 = 60;

/// What is run with a seed, and a bug or none.
type Scenario = fn(u64, Option<Bug>);

/// Two workers take jobs; one crashes and comes back, the other is cut off for a while. Every job is handled in the end.
fn workers_come_and_go(seed: u64, bug: Option<Bug>) {
    let builder = Sim::builder(seed).time_limit(Duration::from_secs(120));
    builder.run(async |sim: Sim| {
        bug.into_iter().for_each(plant);
        sim.set_link(Link::lan().latency(Duration::from_millis(1)).jitter(Duration::from_millis(3)).loss(0.02));
        let ledger = Ledger::<u32>::default();
        let (pusher, first, second) = (sim.host("pusher"), sim.host("first"), sim.host("second"));
        for worker in [&first, &second] {
            worker.spawn(work(sim.clone(), worker.clone(), ledger.clone()));
        }
        let pushed = pusher.spawn(push(sim.clone(), pusher.clone(), ledger.clone()));
        sim.sleep(Duration::from_millis(700 + seed % 7 * 100)).await;
        first.crash();
        ledger.crashed(sim.elapsed(), "first");
        sim.sleep(Duration::from_millis(500)).await;
        first.restart();
        first.spawn(work(sim.clone(), first.clone(), ledger.clone()));
        sim.cut(&pusher, &second);
        sim.sleep(Duration::from_secs(4)).await;
        sim.heal();
        pushed.await.unwrap();
        let summary = ledger.finish(sim.elapsed()).unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(summary.handled, u64::from(MESSAGES));
    });
}

/// Sockets of every kind on one channel: no message passes between those of different types.
fn types_keep_sockets_apart(seed: u64, bug: Option<Bug>) {
    let builder = Sim::builder(seed).time_limit(Duration::from_secs(600));
    builder.run(async |sim: Sim| {
        bug.into_iter().for_each(plant);
        types::sockets_of_different_types_exchange_nothing(sim, Duration::from_secs(3)).await;
    });
}

async fn push(sim: Sim, host: Host, ledger: Ledger<u32>) {
    let node = join(&host).await;
    let push = node.push("jobs").await.unwrap();
    for number in 0..MESSAGES {
        push.send(number.to_string()).await.unwrap();
        ledger.accepted(sim.elapsed(), number, "pusher");
        sim.sleep(Duration::from_millis(20)).await;
    }
    push.flush().await.unwrap();
    ledger.flushed(sim.elapsed(), "pusher");
}

async fn work(sim: Sim, host: Host, ledger: Ledger<u32>) {
    let node = join(&host).await;
    let pull = node.pull("jobs").await.unwrap();
    while let Ok(job) = pull.recv().await {
        let number = std::str::from_utf8(&job).unwrap().parse().unwrap();
        let how = Delivered::new(job.attempt(), job.redelivered()).failures(job.failures());
        ledger.delivered(sim.elapsed(), number, host.name(), how);
        sim.sleep(Duration::from_millis(25)).await;
        ledger.acknowledged(sim.elapsed(), number, host.name(), job.attempt());
        job.ack();
    }
}

#[test]
fn each_bug_of_the_outer_rooms_is_found() {
    for seed in 0..SEEDS {
        workers_come_and_go(seed, None);
        types_keep_sockets_apart(seed, None);
    }
    for (bug, scenario) in WHOLE {
        let finds = |seed: &u64| std::panic::catch_unwind(AssertUnwindSafe(|| scenario(*seed, Some(*bug)))).is_err();
        let found = (0..SEEDS).find(finds);
        println!("| `{bug:?}` | {} | {:?} |", bug.what(), found.map(|seed| seed + 1));
        assert!(found.is_some(), "no seed of {SEEDS} finds that {}", bug.what());
    }
}
