//! Processor time of a node that has 8 peers and a lane to each, over which nothing goes, in % of a core.
//!
//! ```sh
//! cargo bench --bench idle_cpu                  # 3 rounds of 20 s
//! cargo bench --bench idle_cpu -- 5 60 --check  # 5 rounds of 60 s; a missed target is an error
//! ```
//! All threads of the node's process, by the kernel's account. Once it meets its peers in the folder of this host, and
//! once by mDNS alone, half of them on another host; the latter needs network namespaces: root, and `ip`.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::netns::Lab;
use support::{Options, Place, Process, Role, Table, run};

const PEERS: usize = 8;
/// Before the first reading, for all that happens once.
const CALM: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        run(node(&role));
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let (rounds, seconds) = (options.number(0, 3), options.number(1, 20));
    let mut table = Table::new(&options);
    let place = Place::new();
    let start = |role: &str| place.start(role, &[&"local"]);
    let used = idle(rounds, seconds, start("holder"), (0..PEERS).map(|_| start("peer")).collect());
    table.row("idle node, 8 peers on its host, a lane to each", " %", used, Some(0.5));

    let Some(mut lab) = Lab::new("the figure with mDNS") else { return table.end() };
    lab.lan("lan", [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")]);
    let place = Place::new();
    let start = |host: &str, role: &str| place.start_on(&lab, host, role, &[&"mdns"]);
    let peers = ["a", "b"].repeat(PEERS / 2).into_iter().map(|host| start(host, "peer")).collect();
    let used = idle(rounds, seconds, start("a", "holder"), peers);
    table.row("the same, peers on two hosts, by mDNS", " %", used, Some(0.5));
    table.end()
}

async fn node(role: &Role) {
    let builder = match role.arg::<String>(0).as_str() {
        "mdns" => role.on_networks(),
        _ => role.builder(),
    };
    let node = builder.await.unwrap();
    node.wait_for_peers(PEERS).await.unwrap();
    if role.name == "holder" {
        let push = node.push("jobs").await.unwrap();
        push.wait_for_pullers(PEERS).await.unwrap();
        role.say("linked");
        role.told();
    } else {
        let _pull = node.pull("jobs").await.unwrap();
        role.told();
    }
}

/// In % of a core.
fn idle(rounds: usize, seconds: usize, holder: Process, peers: Vec<Process>) -> Vec<f64> {
    holder.hear_this("linked");
    sleep(CALM);
    let round = |_| {
        let (begun, before) = (Instant::now(), used(holder.id()));
        sleep(Duration::from_secs(seconds as u64));
        (used(holder.id()) - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0
    };
    let figures = (0..rounds).map(round).collect();
    drop(peers);
    figures
}

/// What the threads of a process have run on a processor. None of an idle node's ends.
fn used(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds = threads.map(|thread| {
        let told = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        told.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}
