//! The form of a test, and what is told when code does what no simulation can show. Scenarios that fail on purpose are
//! ignored tests, which others start in processes of their own.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use netsim::{Failed, Sim, Units};

#[netsim::test(seeds = 5..9)]
async fn a_scenario_may_return_nothing(sim: Sim) {
    assert!((5..9).contains(&sim.seed()));
    sim.run_for(1.s()).await;
}

#[netsim::test(seeds = 2, time_limit = 60.s(), again = false)]
async fn or_a_result(sim: Sim) -> Result<(), std::num::ParseIntError> {
    assert_eq!("60".parse::<u64>()?.s(), 60.s());
    let taken = sim.until(5.s(), || sim.elapsed() >= 20.ms()).await;
    assert_eq!(taken, 20.ms());
    Ok(())
}

mod inner {
    use super::*;

    #[netsim::test(seeds = 20)]
    #[ignore = "fails on purpose: started by the_first_failing_seed_is_told_with_its_command"]
    async fn fails_from_seed_6_on(sim: Sim) {
        for n in 0..100 {
            sim.run_for(1.ms()).await;
            sim.note(format!("step {n}"));
        }
        assert!(sim.seed() < 6, "seed {} is too much", sim.seed());
    }
}

#[test]
fn the_first_failing_seed_is_told_with_its_command() {
    let output = this_test("inner::fails_from_seed_6_on", &[]);
    let text = text(&output);
    assert!(!output.status.success());
    let told = "inner::fails_from_seed_6_on: seed 6 failed after 100ms of virtual time: seed 6 is too much";
    assert!(text.contains(told), "{text}");
    assert!(text.contains("(the seeds 0..6 have passed)"), "{text}");
    assert!(text.contains("  0.100000000 step 99\n"), "{text}");
    let command =
        text.lines().map(str::trim).find(|line| line.starts_with("NETSIM_SEED=")).unwrap_or_else(|| panic!("{text}"));
    let (variables, command) = command.split_once(" cargo test ").unwrap();
    let release = if cfg!(debug_assertions) { "" } else { "--release " };
    assert_eq!(command, format!("{release}-p meshmq-netsim --test form -- --exact inner::fails_from_seed_6_on"));

    // What the command's variables do, without a build in between.
    let variables: Vec<_> = variables.split(' ').map(|variable| variable.split_once('=').unwrap()).collect();
    let [("NETSIM_SEED", "6"), ("NETSIM_TRACE", file)] = variables[..] else { panic!("{variables:?}") };
    let again = this_test("inner::fails_from_seed_6_on", &variables);
    assert!(!again.status.success());
    let trace = std::fs::read_to_string(file).unwrap();
    std::fs::remove_file(file).unwrap();
    assert_eq!(trace.lines().count(), 100, "the whole trace");
    assert!(trace.starts_with("    0.001000000 step 0\n"), "{trace}");

    let passes = this_test("inner::fails_from_seed_6_on", &[("NETSIM_SEED", "5")]);
    assert!(passes.status.success(), "{}", self::text(&passes));
}

#[netsim::test]
#[ignore = "prints its seeds: started by fresh_seeds_are_printed"]
async fn says_its_seed(sim: Sim) {
    println!("ran seed {}", sim.seed());
}

#[test]
fn fresh_seeds_are_printed() {
    let fresh = || {
        let output = this_test("says_its_seed", &[("NETSIM_FRESH", "1"), ("NETSIM_SEEDS", "3")]);
        assert!(output.status.success());
        let text = text(&output);
        let seeds = text.lines().find_map(|line| line.strip_prefix("netsim: says_its_seed runs the fresh seeds "));
        let (from, to) = seeds.unwrap_or_else(|| panic!("{text}")).split_once("..").unwrap();
        (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap())
    };
    let (from, to) = fresh();
    assert_eq!(to - from, 3);
    assert_ne!(fresh().0, from);
}

#[test]
fn what_does_not_come_true_is_told_with_its_line() {
    let failed = failure(async |sim: Sim| {
        sim.until(5.s(), || 1 + 1 == 3).await;
    });
    let line = "sim.until(5.s(), || 1 + 1 == 3).await;";
    assert!(failed.message.starts_with("not within 5s: netsim/tests/form.rs:"), "{failed}");
    assert!(failed.message.ends_with(line), "{failed}");
    assert_eq!(failed.trace.time, 5.s());
}

#[test]
fn an_error_that_a_scenario_returns_is_told() {
    let output = this_test("returns_an_error", &[]);
    assert!(text(&output).contains("seed 0 failed after 1s of virtual time: \"no such job\""), "{}", text(&output));
}

#[netsim::test]
#[ignore = "fails on purpose: started by an_error_that_a_scenario_returns_is_told"]
async fn returns_an_error(sim: Sim) -> Result<(), &'static str> {
    sim.run_for(1.s()).await;
    Err("no such job")
}

#[netsim::test(seeds = 3, meets = ["seed 1"])]
async fn what_is_to_be_met_is_met_by_one_of_the_seeds(sim: Sim) {
    netsim::sometimes!("seed 1", sim.seed() == 1);
}

#[netsim::test(seeds = 3, meets = ["seed 1", "seed 7"])]
#[ignore = "fails on purpose: started by what_no_seed_has_met_is_told"]
async fn meets_too_little(sim: Sim) {
    netsim::sometimes!("seed 1", sim.seed() == 1);
}

#[test]
fn what_no_seed_has_met_is_told() {
    let told = text(&this_test("meets_too_little", &[]));
    assert!(told.contains("meets_too_little: none of the seeds 0..3 has met `seed 7`"), "{told}");
    assert!(this_test("meets_too_little", &[("NETSIM_SEED", "0")]).status.success(), "one seed need not meet all");
}

#[test]
fn a_panic_is_told_with_its_host() {
    let failed = failure(async |sim: Sim| {
        sim.host("worker").spawn(async { panic!("on purpose") });
        sim.run_for(1.s()).await;
    });
    assert_eq!(failed.message, "a task of host `worker` has panicked: on purpose");
}

/// Between two looks of a scenario there is time for a lot.
#[test]
fn a_rule_that_is_broken_for_an_instant_is_told() {
    for panics in [false, true] {
        let failed = failure(async move |sim: Sim| {
            let (host, tasks) = (sim.host("worker"), Arc::new(AtomicU32::new(0)));
            sim.always({
                let tasks = tasks.clone();
                move || match tasks.load(Ordering::Relaxed) {
                    2 if panics => panic!("two at a time"),
                    2 => Err("two at a time"),
                    _ => Ok(()),
                }
            });
            for begins in [1.ms(), 3.ms(), 4_500.us()] {
                let (sim, tasks) = (sim.clone(), tasks.clone());
                host.spawn(async move {
                    sim.sleep(begins).await;
                    tasks.fetch_add(1, Ordering::Relaxed);
                    sim.sleep(1_500_001.ns()).await;
                    tasks.fetch_sub(1, Ordering::Relaxed);
                });
            }
            sim.run_for(1.s()).await;
        });
        assert_eq!((failed.message.as_str(), failed.trace.time), ("two at a time", 4_500.us()));
    }
}

#[test]
fn the_time_limit_ends_what_waits_for_ever() {
    let failed = Sim::builder(1).time_limit(9.s()).try_run(async |_| std::future::pending::<()>().await).unwrap_err();
    assert_eq!(failed.message, "the scenario has not ended within 9s");
    assert_eq!(failed.trace.time, 9.s());
}

#[test]
fn a_task_that_blocks_its_thread_is_told() {
    let builder = Sim::builder(1).stuck_after(Duration::from_millis(200));
    let failed = builder.try_run(async |sim: Sim| {
        sim.run_for(3.s()).await;
        sim.note("about to block");
        sim.host("worker").spawn(async { std::thread::sleep(Duration::from_millis(300)) });
        sim.run_for(1.s()).await;
    });
    let failed = failed.unwrap_err();
    assert!(failed.message.starts_with("a task of host `worker` has run for "), "{failed}");
    assert!(failed.message.contains("of real time without waiting: it blocks its thread"), "{failed}");
    assert_eq!(failed.trace.log.last().unwrap(), "    3.000000000 about to block");
}

#[test]
fn tasks_that_only_wake_each_other_are_told() {
    let builder = Sim::builder(1).stuck_after(Duration::from_millis(200));
    let failed = builder.try_run(async |sim: Sim| {
        sim.run_for(3.s()).await;
        let spinning = async {
            loop {
                tokio::task::yield_now().await;
            }
        };
        sim.host("worker").spawn(spinning);
        sim.run_for(1.s()).await;
    });
    let failed = failed.unwrap_err();
    assert!(failed.message.starts_with("virtual time has stood still for "), "{failed}");
    assert!(failed.message.ends_with("the last one to run was of host `worker`"), "{failed}");
}

#[netsim::test(seeds = 1)]
#[ignore = "never ends: started by a_scenario_that_never_ends_fails_alone"]
async fn never_ends(sim: Sim) {
    sim.run_for(3.s()).await;
    sim.note("about to loop");
    while !std::hint::black_box(false) {}
}

/// A thread can't be stopped: the test fails, and its program goes on and ends.
#[test]
fn a_scenario_that_never_ends_fails_alone() {
    let began = Instant::now();
    let output = this_test("never_ends", &[("NETSIM_STUCK_AFTER", "0.3")]);
    let text = text(&output);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(
        text.contains("never_ends: seed 0 failed after 3s of virtual time: a task of the scenario has run for"),
        "{text}"
    );
    assert!(text.contains("    3.000000000 about to loop\n"), "{text}");
    assert!(text.contains("1 failed"), "{text}");
}

#[test]
#[ignore = "never ends: started by a_run_that_borrows_and_never_ends_ends_its_process"]
fn borrows_and_never_ends() {
    let word = "about to loop".to_owned();
    Sim::builder(3).stuck_after(Duration::from_millis(200)).run(async |sim: Sim| {
        sim.note(word.as_str());
        while !std::hint::black_box(false) {}
    });
}

#[test]
fn a_run_that_borrows_and_never_ends_ends_its_process() {
    let output = this_test("borrows_and_never_ends", &[]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(101));
    assert!(text.contains("    0.000000000 about to loop\nnetsim: seed 3 failed"), "{text}");
}

#[test]
fn a_thread_that_wakes_a_task_is_told() {
    let failed = failure(async |sim: Sim| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (waits, waiting) = mpsc::channel();
        let thread = std::thread::Builder::new().name("outside".to_owned()).spawn(move || {
            waiting.recv().unwrap();
            sender.send(()).unwrap();
        });
        let host = sim.host("worker");
        host.spawn(async move {
            waits.send(()).unwrap();
            receiver.await.unwrap();
        });
        tokio::task::yield_now().await;
        thread.unwrap().join().unwrap();
        sim.run_for(1.s()).await;
    });
    assert!(failed.message.starts_with("a task of host `worker` was woken by another thread, `outside`"), "{failed}");
}

#[test]
fn spawn_blocking_is_told() {
    let failed = failure(async |sim: Sim| {
        let work = || std::thread::sleep(Duration::from_millis(50));
        sim.host("worker").spawn(async move { tokio::task::spawn_blocking(work).await.unwrap() }).await.unwrap();
        sim.run_for(1.s()).await;
    });
    assert!(failed.message.starts_with("a task of host `worker` was woken by another thread"), "{failed}");
    assert!(failed.message.contains("neither threads nor `spawn_blocking`"), "{failed}");
}

#[test]
fn a_task_that_outlives_its_host_is_told() {
    let failed = failure(async |sim: Sim| {
        let host = sim.host("worker");
        host.spawn(async {
            tokio::spawn(std::future::pending::<()>());
            std::future::pending::<()>().await;
        });
        sim.run_for(1.s()).await;
        host.crash();
        sim.run_for(1.s()).await;
    });
    assert!(
        failed.message.starts_with("code of host `worker` has started tasks that go on after its crash"),
        "{failed}"
    );
}

#[test]
fn tasks_that_end_with_their_owner_are_no_strangers() {
    Sim::run(1, async |sim: Sim| {
        let host = sim.host("worker");
        for _ in 0..3 {
            let task = host.spawn(async {
                let mut set = tokio::task::JoinSet::new();
                set.spawn(std::future::pending::<()>());
                set.spawn(async {});
                while set.join_next().await.is_some() {}
            });
            sim.run_for(1.s()).await;
            host.crash();
            assert!(task.await.unwrap_err().is_cancelled());
            sim.run_for(1.s()).await;
            host.restart();
        }
    });
}

/// Runs a scenario that fails, and gives how.
fn failure<T: Send, F: Future<Output = T>>(scenario: impl FnOnce(Sim) -> F + Send) -> Failed {
    let failed = Sim::builder(1).try_run(scenario);
    failed.err().expect("the run fails")
}

/// An ignored test of this file, in a process of its own.
fn this_test(name: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored"]);
    for unwanted in ["NETSIM_SEED", "NETSIM_SEEDS", "NETSIM_FRESH", "NETSIM_TRACE", "RUST_BACKTRACE"] {
        command.env_remove(unwanted);
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
