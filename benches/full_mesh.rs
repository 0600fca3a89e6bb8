//! Many nodes of one host that start together: how long each takes from its own start to its links with all others.
//!
//! ```sh
//! cargo bench --bench full_mesh                  # 50 nodes, 1,225 links; 5 rounds
//! cargo bench --bench full_mesh -- 20 3 --check  # 20 nodes, 3 rounds; a missed target is an error
//! ```
//! Once all of them in one process, each on its own thread, and once each in a process of its own. A process's time
//! begins as its program does.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::ExitCode;
use std::sync::Barrier;
use std::time::Instant;

use meshmq::Builder;
use support::{Options, Place, Process, Role, Table, run};

fn main() -> ExitCode {
    let begun = Instant::now();
    if let Some(role) = Role::of_this_process() {
        match role.name.as_str() {
            "one" => one(&role, begun),
            _ => all(&role),
        }
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let (nodes, rounds) = (options.number(0, 50), options.number(1, 5));
    let mut table = Table::new(&options);
    for (place, times) in [("one process", in_one_process as fn(usize) -> Vec<f64>), ("processes", in_processes)] {
        let rounds: Vec<Vec<f64>> = (0..rounds).map(|_| times(nodes)).collect();
        let figure = |part: f64| rounds.iter().map(|times| of_sorted(times, part)).collect();
        let target = (nodes == 50).then_some(2.0);
        table.row(&format!("{nodes} nodes, {place}: all links, p99 of a node"), " s", figure(0.99), target);
        table.row("the same, half of the nodes", " s", figure(0.5), None);
    }
    table.end()
}

/// The least value that so large a part of them does not exceed.
fn of_sorted(values: &[f64], part: f64) -> f64 {
    values[(values.len() as f64 * part).ceil() as usize - 1]
}

fn in_one_process(nodes: usize) -> Vec<f64> {
    let place = Place::new();
    let process = place.start("all", &[&nodes]);
    let mut times: Vec<f64> = (0..nodes).map(|_| process.hear().1.parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn in_processes(nodes: usize) -> Vec<f64> {
    let place = Place::new();
    let processes: Vec<Process> = (0..nodes).map(|_| place.start("one", &[&nodes])).collect();
    let mut times: Vec<f64> = processes.iter().map(|process| process.hear().1.parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn one(role: &Role, begun: Instant) {
    run(meet(role, role.builder(), begun, || _ = role.told()));
}

fn all(role: &Role) {
    let nodes = role.arg(0);
    let (start, met) = (Barrier::new(nodes), Barrier::new(nodes));
    std::thread::scope(|scope| {
        for _ in 0..nodes {
            scope.spawn(|| {
                let builder = role.builder();
                start.wait();
                run(meet(role, builder, Instant::now(), || _ = met.wait()));
            });
        }
    });
}

async fn meet(role: &Role, builder: Builder, begun: Instant, met: impl FnOnce()) {
    let node = builder.await.unwrap();
    node.wait_for_peers(role.arg::<usize>(0) - 1).await.unwrap();
    role.say(begun.elapsed().as_secs_f64());
    // Nobody leaves before all have met.
    met();
}
