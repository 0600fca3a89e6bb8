//! How large a simulated mesh may be: nodes, links and packets against real time and memory.
//!
//! ```sh
//! cargo bench -p meshmq-netsim --bench scale         # 8, 50 and 100 nodes, each linked with each
//! cargo bench -p meshmq-netsim --bench scale -- 200  # so many
//! ```
#![allow(missing_docs, dead_code, clippy::unwrap_used)]

#[path = "../tests/promises/crew.rs"]
mod crew;

use std::time::{Duration, Instant};

use netsim::{Link, Sim, Units};

use crew::{Crew, Plan};

/// Virtual time with traffic.
const TRAFFIC: Duration = Duration::from_secs(10);

fn main() {
    // `cargo bench` adds an argument of its own.
    let nodes: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let nodes = if nodes.is_empty() { vec![8, 50, 100] } else { nodes };
    println!("nodes   links  formed in           packets  traffic               µs a packet  peak memory");
    // The smallest first: memory is the most that the process has had.
    for nodes in nodes {
        measure(nodes);
    }
}

/// A fifth of the nodes push 20 messages a second each, the others pull them.
fn measure(nodes: usize) {
    let pushers = nodes.div_ceil(5);
    let every = Duration::from_millis(50);
    let plan = Plan {
        pushers,
        pullers: nodes - pushers,
        time: 1_000_000.s(),
        every,
        bound: 1000,
        prefetch: None,
        verbs: false,
    };
    Sim::run(1, async move |sim: Sim| {
        sim.set_link(Link::lan());
        let crew = Crew::start(&sim, plan);
        let _pushing = crew.start_pushing();
        let began = Instant::now();
        while !crew.is_whole() {
            assert!(sim.elapsed() < 60.s(), "not whole after {:?}", sim.elapsed());
            sim.run_for(50.ms()).await;
        }
        let (formed, formed_in) = (sim.elapsed(), began.elapsed());
        let (before, began) = (sim.trace().packets.sent, Instant::now());
        sim.run_for(TRAFFIC).await;
        let (taken, packets) = (began.elapsed().as_secs_f64(), sim.trace().packets.sent - before);
        crew.ledger.check().unwrap();
        let memory = peak_memory().map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        println!(
            "{nodes:>5} {:>7}  {:>5.2} s (virtual {:.2}) {packets:>8}  {:>5.1} virtual s a second {:>9.1}  {memory:>11}",
            nodes * (nodes - 1) / 2,
            formed_in.as_secs_f64(),
            formed.as_secs_f64(),
            TRAFFIC.as_secs_f64() / taken,
            taken * 1e6 / packets as f64,
        );
    });
}

/// The most memory that this process has had, in bytes, where that is known.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}
