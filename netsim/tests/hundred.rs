//! A hundred nodes, each with a link to each other one, at work while hosts crash: large, and still a test for every day.

#![allow(dead_code, clippy::unwrap_used)]

#[path = "promises/crew.rs"]
mod crew;

use std::time::{Duration, Instant};

use netsim::{Link, Sim, Units};

use crew::{Crew, Plan};

const PLAN: Plan = Plan {
    pushers: 20,
    pullers: 80,
    time: Duration::from_secs(5),
    every: Duration::from_millis(50),
    bound: 1000,
    prefetch: None,
    verbs: false,
};

/// 4,950 links, and nothing is lost where hosts crash and packets are.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes more than a minute without optimisation: add --release")]
fn a_hundred_nodes_form_a_full_mesh_and_work_under_faults() {
    let began = Instant::now();
    let run = Sim::run(1, async |sim: Sim| {
        let crew = Crew::start(&sim, PLAN);
        let pushing = crew.start_pushing();
        while !crew.is_whole() {
            assert!(sim.elapsed() < 10.s(), "not whole after {:?}", sim.elapsed());
            sim.run_for(100.ms()).await;
        }
        eprintln!("whole after {:?} of virtual and {:.1?} of real time", sim.elapsed(), began.elapsed());
        assert!(sim.elapsed() < PLAN.time, "nobody is at work any more");
        sim.set_link(Link::lan().loss(0.01));
        for host in crew.pullers.iter().step_by(16) {
            host.crash();
            sim.run_for(500.ms()).await;
            host.restart();
        }
        for pusher in pushing {
            pusher.await.unwrap();
        }
        crew.ledger.finish(sim.elapsed()).unwrap();
    });
    eprintln!("done after {:?} of virtual and {:.1?} of real time", run.trace.time, began.elapsed());
    assert!(run.trace.packets.lost > 0);
    if let Some(peak) = peak_memory() {
        eprintln!("at most {} MiB of memory", peak >> 20);
        assert!(peak < 1 << 30, "{peak} bytes");
    }
}

/// The most memory that this process has had, in bytes, where that is known.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}
