//! Processes that join and leave at random for minutes: whether everybody sees who is there, and whether anything is left.
//!
//! ```sh
//! cargo bench --bench churn                # 300 s, up to 20 processes
//! cargo bench --bench churn -- 60 10 7     # 60 s, up to 10 processes, seed 7
//! ```
//! Up to four at a time start, leave in good order, or are killed. Meanwhile one of them is asked for its `peers()`, one
//! that stays for everybody's status, and now and then `meshmq ls --json` looks. A view that is wrong about something
//! that happened more than three seconds before is an error; so are descriptors, tasks, threads, memory and sockets that
//! the one that stays has more in the end than at the beginning. Without a seed it is another one each time, and told.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/common/churn.rs"]
mod churn;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use churn::{Plan, churn};

fn main() -> ExitCode {
    if churn::is_role() {
        return ExitCode::SUCCESS;
    }
    let args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let numbers: Vec<u64> = args.map(|arg| arg.parse().expect("numbers: seconds, processes, seed")).collect();
    let number = |at: usize, default: u64| numbers.get(at).copied().unwrap_or(default);
    let (seconds, processes) = (number(0, 300), number(1, 20));
    let fresh = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let plan = Plan { processes: processes as usize, time: Duration::from_secs(seconds), seed: number(2, fresh) };
    println!("{seconds} s, up to {processes} processes, seed {}", plan.seed);
    let told = churn(&plan);
    println!("{} joined, {} left, {} were killed", told.joined, told.left, told.killed);
    println!("views: {} by peers(), {} by status, {} by ls", told.views[0], told.views[1], told.views[2]);
    println!("seen after its start: {:.2?} at the latest", told.missed);
    println!("shown after its end: {:.2?} at the latest", told.stale);
    println!("memory: {} KiB more", told.growth);
    told.wrong.iter().for_each(|what| println!("VIOLATED: {what}"));
    if told.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
