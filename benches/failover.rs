//! 50 jobs that a puller holds when it dies, or when its host falls silent: until the last of them is with another one.
//!
//! ```sh
//! cargo bench --bench failover                  # 9 rounds killed, 3 rounds silent
//! cargo bench --bench failover -- 20 5 --check  # other numbers of rounds; a missed target is an error
//! ```
//! A process that is stopped stands for a host that is silent: the kernel swallows what is sent to it, and says nothing.
//! That it also keeps the socket by which processes of one host notice each other's end takes nothing off the time.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::ExitCode;
use std::time::Instant;

use rustix::process::Signal;
use support::{Options, Place, Role, Table, run};

const JOBS: usize = 50;

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        run(puller(&role));
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let mut table = Table::new(&options);
    let rounds = |count: usize, signal| (0..count).map(|_| run(fail_over(signal)) * 1000.0).collect();
    let killed = rounds(options.number(0, 9), Signal::KILL);
    table.row("50 held jobs of a killed puller with another one", " ms", killed, Some(100.0));
    let silent = rounds(options.number(1, 3), Signal::STOP);
    table.row("50 held jobs of a silent puller with another one", " ms", silent, Some(3500.0));
    table.end()
}

/// Takes all jobs, says so, and holds them.
async fn puller(role: &Role) {
    let node = role.builder().await.unwrap();
    let pull = node.pull("jobs").prefetch(JOBS).await.unwrap();
    let mut held = Vec::new();
    while held.len() < JOBS {
        let job = pull.recv().await.unwrap();
        assert_eq!((job.attempt(), job.redelivered()), (role.arg(0), role.arg::<u32>(0) > 1));
        held.push(job);
    }
    role.say("holds all");
    if role.arg::<u32>(0) > 1 {
        held.into_iter().for_each(meshmq::Delivery::ack);
    }
    role.told();
}

async fn fail_over(signal: Signal) -> f64 {
    let place = Place::new();
    let node = place.builder().await.unwrap();
    let push = node.push("jobs").await.unwrap();
    for job in 0..JOBS {
        push.send(job.to_string()).await.unwrap();
    }
    let holder = place.start("puller", &[&1]);
    holder.hear_this("holds all");
    let other = place.start("puller", &[&2]);
    push.wait_for_pullers(2).await.unwrap();
    let begun = Instant::now();
    holder.signal(signal);
    let took = other.hear_this("holds all") - begun;
    push.flush().await.unwrap();
    assert_eq!((push.metrics().handled, push.metrics().redelivered), (JOBS as u64, JOBS as u64));
    took.as_secs_f64()
}
