//! How much is simulated in how much time: whole nodes, with real handshakes and packets.
//!
//! ```sh
//! cargo bench -p meshmq-netsim --bench seeds         # a minute of seeds on all cores
//! cargo bench -p meshmq-netsim --bench seeds -- 600  # ten minutes
//! ```
#![allow(missing_docs, dead_code, clippy::unwrap_used)]

#[path = "../tests/promises/crew.rs"]
mod crew;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use netsim::{Sim, Units};

use crew::{Crew, Plan};

const PLAN: Plan = Plan {
    pushers: 3,
    pullers: 5,
    time: Duration::from_secs(20),
    every: Duration::from_millis(40),
    bound: 1000,
    prefetch: None,
    verbs: false,
};

fn main() {
    // `cargo bench` adds an argument of its own.
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(60);
    let time = Duration::from_secs(seconds);

    let rates: Vec<f64> = (0..3).map(|seed| traffic(seed, time / 12)).collect();
    println!("8 nodes with traffic: {rates:.0?} virtual seconds a second");

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (seeds, began) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while began.elapsed() < time {
                    under_hardships(seeds.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
    });
    let (seeds, taken) = (seeds.into_inner(), began.elapsed());
    let in_ten_minutes = seeds as f64 * 600.0 / taken.as_secs_f64();
    println!(
        "8 nodes for 20 virtual seconds under hardships: {seeds} seeds in {taken:.0?} on {cores} cores, \
         {in_ten_minutes:.0} in ten minutes"
    );
}

/// Three push and five pull for as long as this takes; how fast time goes.
fn traffic(seed: u64, real: Duration) -> f64 {
    Sim::run(seed, async move |sim: Sim| {
        let crew = Crew::start(&sim, Plan { time: 1_000_000.s(), ..PLAN });
        let _pushing = crew.start_pushing();
        sim.until(5.s(), || crew.is_whole()).await;
        let (virtual_begin, began) = (sim.elapsed(), Instant::now());
        while began.elapsed() < real {
            sim.run_for(1.s()).await;
        }
        crew.ledger.check().unwrap();
        (sim.elapsed() - virtual_begin).as_secs_f64() / began.elapsed().as_secs_f64()
    })
    .value
}

fn under_hardships(seed: u64) {
    Sim::run(seed, async move |sim: Sim| {
        let crew = Crew::start(&sim, PLAN);
        let pushing = crew.start_pushing();
        sim.hardships(&crew.hosts()).mortal(&crew.pullers).strike(PLAN.time).await;
        for pusher in pushing {
            pusher.await.unwrap();
        }
        if let Err(violation) = crew.ledger.finish(sim.elapsed()) {
            println!("seed {seed} of this bench: {violation}");
        }
    });
}
