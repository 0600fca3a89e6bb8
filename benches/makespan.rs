//! Short jobs with a few long ones among them, over several workers: how long all take, ÷ how long they would take if
//! no worker ever waited for work, which is the time that the jobs really took, ÷ the number of workers.
//!
//! ```sh
//! cargo bench --bench makespan                     # 4,000 jobs, 3 rounds each: 2 minutes
//! cargo bench --bench makespan -- 1000 1 --check   # 1,000 jobs, 1 round each; a missed target is an error
//! ```
//! A job is a sleep of 5 ms, 1 in 20 of 250 ms, at places that differ from round to round and not from run to run. A
//! worker has one job in hand at a time.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use support::{Options, Place, Process, Role, Table, run};

const WORKERS: usize = 4;
const SHORT: u64 = 5;
const LONG: u64 = 250;
/// One job in so many is long.
const ONE_IN: usize = 20;

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        run(worker(role));
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let (jobs, rounds) = (options.number(0, 4000), options.number(1, 3));
    let mut table = Table::new(&options);
    let (mut fixed, mut automatic) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let jobs = durations(jobs, round as u64);
        fixed.push(run(work(&jobs, 1)));
        automatic.push(run(work(&jobs, 0)));
    }
    table.row("makespan ÷ ideal, 4 workers, prefetch(1)", "", fixed, Some(1.05));
    table.row("makespan ÷ ideal, 4 workers, automatic window", "", automatic, Some(1.15));
    table.end()
}

/// Does each job, and keeps account of how long they took. Argument: prefetch, 0: automatic.
async fn worker(role: Role) {
    let node = role.builder().await.unwrap();
    let mut pull = node.pull("jobs");
    if role.arg::<usize>(0) > 0 {
        pull = pull.prefetch(role.arg(0));
    }
    let pull = pull.await.unwrap();
    let took = Arc::new(AtomicU64::new(0));
    std::thread::spawn({
        let took = took.clone();
        move || {
            role.told();
            role.say(took.load(Relaxed));
        }
    });
    while let Ok(job) = pull.recv().await {
        let begun = Instant::now();
        // The application's own thread: work that does not wait for anything.
        std::thread::sleep(Duration::from_millis(u64::from_le_bytes(job.as_ref().try_into().unwrap())));
        took.fetch_add(begun.elapsed().as_nanos() as u64, Relaxed);
        job.ack();
    }
}

async fn work(jobs: &[u64], prefetch: usize) -> f64 {
    let place = Place::new();
    let mut workers: Vec<Process> = (0..WORKERS).map(|_| place.start("worker", &[&prefetch])).collect();
    let node = place.builder().await.unwrap();
    let push = node.push("jobs").await.unwrap();
    push.wait_for_pullers(WORKERS).await.unwrap();
    let begun = Instant::now();
    for job in jobs {
        push.send(job.to_le_bytes().to_vec()).await.unwrap();
    }
    push.flush().await.unwrap();
    let makespan = begun.elapsed();
    assert_eq!(push.metrics().redelivered, 0, "each job ran once");
    let took: u64 = workers
        .iter_mut()
        .map(|worker| {
            worker.tell("how long?");
            worker.hear().1.parse::<u64>().unwrap()
        })
        .sum();
    makespan.as_secs_f64() / (Duration::from_nanos(took).as_secs_f64() / WORKERS as f64)
}

/// In milliseconds; shuffled (Fisher–Yates) by the numbers of SplitMix64.
fn durations(jobs: usize, mut seed: u64) -> Vec<u64> {
    let mut random = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut durations: Vec<u64> = (0..jobs).map(|job| if job % ONE_IN == 0 { LONG } else { SHORT }).collect();
    for last in (1..jobs).rev() {
        durations.swap(last, (random() % (last as u64 + 1)) as usize);
    }
    durations
}
