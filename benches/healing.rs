//! A network that is cut and heals: from the healing to the first message that passes.
//!
//! ```sh
//! cargo bench --bench healing                  # 4 cuts of 5 s, then 2 of 60 s, each of 8 pairs of hosts: 3 minutes
//! cargo bench --bench healing -- 2 0 --check   # other numbers of cuts; a missed target is an error
//! ```
//! Each pair is a mesh of its own, of two processes on two hosts with a network between them, found by mDNS alone. One
//! pushes 200 messages a second, the other one pulls. Needs network namespaces: root, and `ip`.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::netns::Lab;
use support::{Options, Place, Process, Role, Table, run};

const PAIRS: usize = 8;
const EVERY: Duration = Duration::from_millis(5);
/// So much later each pair's network heals than the one before: a dial of one is not a dial of all.
const APART: Duration = Duration::from_millis(130);

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        run(async {
            match role.name.as_str() {
                "source" => source(&role).await,
                _ => worker(&role).await,
            }
        });
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let Some(mut lab) = Lab::new("this bench") else { return ExitCode::FAILURE };
    let mut table = Table::new(&options);
    let pairs: Vec<Pair> = (0..PAIRS).map(|number| Pair::start(&mut lab, number)).collect();
    pairs.iter().for_each(|pair| _ = pair.source.hear_this("linked"));
    for (cuts, seconds, at_most) in [(options.number(0, 4), 5, 1.0), (options.number(1, 2), 60, 5.0)] {
        let cut = Duration::from_secs(seconds);
        let took: Vec<f64> = (0..cuts).flat_map(|_| cut_and_heal(&lab, &pairs, cut)).collect();
        if took.is_empty() {
            continue;
        }
        let figure = format!("first message after a cut of {seconds} s has healed");
        took.iter().filter(|&&took| took > at_most).for_each(|took| table.violated(format!("{figure}: {took:.3} s")));
        table.row(&figure, " s", took, Some(at_most));
    }
    table.end()
}

struct Pair {
    source: Process,
    worker: Process,
    /// The network, and one of the hosts.
    network: String,
    host: String,
    _place: Place,
}

impl Pair {
    fn start(lab: &mut Lab, number: usize) -> Self {
        let (place, network) = (Place::new(), format!("net{number}"));
        lab.network(&network);
        let hosts = ["a", "b"].map(|side| format!("{side}{number}"));
        for (host, address) in hosts.iter().zip(["10.0.0.1/24", "10.0.0.2/24"]) {
            lab.host(host);
            lab.plug(host, &network, address);
        }
        let source = place.start_on(lab, &hosts[0], "source", &[]);
        let worker = place.start_on(lab, &hosts[1], "worker", &[]);
        let [_, host] = hosts;
        Self { source, worker, network, host, _place: place }
    }
}

async fn source(role: &Role) {
    let node = role.on_networks().await.unwrap();
    let push = node.push("jobs").await.unwrap();
    push.wait_for_pullers(1).await.unwrap();
    role.say("linked");
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        push.send("job").await.unwrap();
    }
}

async fn worker(role: &Role) {
    let node = role.on_networks().await.unwrap();
    let pull = node.pull("jobs").await.unwrap();
    while let Ok(job) = pull.recv().await {
        role.say("job");
        job.ack();
    }
}

fn cut_and_heal(lab: &Lab, pairs: &[Pair], cut: Duration) -> Vec<f64> {
    // All that was begun before is over.
    sleep(Duration::from_secs(2));
    pairs.iter().for_each(|pair| lab.cut(&pair.host, &pair.network));
    sleep(cut);
    let mut healed = Vec::new();
    for pair in pairs {
        healed.push(Instant::now());
        lab.heal(&pair.host, &pair.network);
        sleep(APART);
    }
    let first = |(pair, healed): (&Pair, Instant)| {
        std::iter::repeat_with(|| pair.worker.hear().0).find(|at| *at > healed).unwrap() - healed
    };
    pairs.iter().zip(healed).map(|pair| first(pair).as_secs_f64()).collect()
}
