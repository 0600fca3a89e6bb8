//! Memory of one end of a link over which nothing goes: what the process that holds it grows by, ÷ the number of links.
//!
//! ```sh
//! cargo bench --bench idle_link                    # 100 links, 3 rounds
//! cargo bench --bench idle_link -- 200 5 --check   # 200 links, 5 rounds; a missed target is an error
//! ```
//! One process holds a node, another one the peers, each of which dials it; both ends' sockets are in the kernel's memory,
//! which is not counted. Anonymous memory in residence, after the first 10 links: what those cost once is not a link's.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use meshmq::Node;
use support::{Options, Place, Role, Table, run};

/// Links before the first reading.
const FIRST: usize = 10;
/// Messages that a lane carries before it is idle.
const MESSAGES: usize = 1000;
const SIZE: usize = 1024;
/// Two readings so far apart, longer than the interval of pings on an idle link, have to be the same, but for …
const APART: Duration = Duration::from_secs(6);
/// … so many KiB a link.
const SAME: f64 = 1.0;

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        run(async {
            match role.name.as_str() {
                "holder" => holder(&role).await,
                _ => peers(&role).await,
            }
        });
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let (links, rounds) = (options.number(0, 100), options.number(1, 3));
    let mut table = Table::new(&options);
    let kib = |used| (0..rounds).map(|_| grow(links, used)).collect();
    table.row("memory of an idle link end", " KiB", kib("unused"), Some(64.0));
    table.row("the same, after 1 MB came in over it", " KiB", kib("pull"), None);
    table.row("the same, after 1 MB went out over it", " KiB", kib("push"), None);
    table.end()
}

/// The node that is measured: says its address, then its memory for each number of links that it is told to wait for.
async fn holder(role: &Role) {
    let node = role.builder().without_local().without_exchange().listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    role.say(node.local_addr());
    let used: String = role.arg(0);
    let pull = node.pull("in").ack_on_receive().await.unwrap();
    let push = node.push("out").await.unwrap();
    let mut links = 0;
    loop {
        let more: usize = role.told().parse().unwrap();
        links += more;
        node.wait_for_peers(links).await.unwrap();
        match used.as_str() {
            "pull" => {
                for _ in 0..more * MESSAGES {
                    pull.recv().await.unwrap();
                }
            }
            "push" => {
                push.wait_for_pullers(links).await.unwrap();
                // To all that there are: the new ones get their part.
                for _ in 0..links * MESSAGES {
                    push.send(vec![0x5a; SIZE]).await.unwrap();
                }
                push.flush().await.unwrap();
            }
            _ => {}
        }
        let mut before = resident();
        loop {
            tokio::time::sleep(APART).await;
            let now = resident();
            if (now - before).abs() < SAME * links as f64 {
                break;
            }
            before = now;
        }
        role.say(before);
    }
}

/// As many nodes as it is told, each time; each dials the holder.
async fn peers(role: &Role) {
    let mut nodes = Vec::new();
    loop {
        let more: usize = role.told().parse().unwrap();
        for _ in 0..more {
            let node = role.builder().without_local().without_exchange().peer(&role.arg::<String>(0)).await.unwrap();
            let (node, used) = (Arc::new(node), role.arg::<String>(1));
            nodes.push(node.clone());
            std::thread::spawn(move || run(peer(&node, &used)));
        }
    }
}

async fn peer(node: &Node, used: &str) {
    match used {
        "pull" => {
            let push = node.push("in").await.unwrap();
            for _ in 0..MESSAGES {
                push.send(vec![0x5a; SIZE]).await.unwrap();
            }
            push.flush().await.unwrap();
        }
        "push" => {
            let pull = node.pull("out").ack_on_receive().await.unwrap();
            while pull.recv().await.is_ok() {}
        }
        _ => {}
    }
}

/// In KiB: of memory that is no file's.
fn resident() -> f64 {
    let all = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = all.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn grow(links: usize, used: &str) -> f64 {
    let place = Place::new();
    let mut holder = place.start("holder", &[&used]);
    let address = holder.hear().1;
    let mut peers = place.start("peers", &[&address, &used]);
    let mut at = |more: usize| {
        peers.tell(more);
        holder.tell(more);
        holder.hear().1.parse::<f64>().unwrap()
    };
    let first = at(FIRST);
    (at(links) - first) / links as f64
}
