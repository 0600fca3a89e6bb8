//! REQUESTER → REPLIER and back between two processes, one request at a time, beside libzmq's REQ and REP over TCP. Both run
//! in turn, round after round; what counts is the ratio of the medians within a round.
//!
//! ```sh
//! cargo bench --bench round_trip                 # 9 rounds of 64 B
//! cargo bench --bench round_trip -- 5 64 1024    # other rounds and sizes
//! cargo bench --bench round_trip -- 9 --check    # a missed target is an error
//! ```
//! Needs a C compiler and libzmq's development files (`libzmq3-dev`); without them there are figures, but no ratios.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use meshmq::Builder;
use support::{Options, Place, Role, Table, run};

const WARM: f64 = 0.3;
const SECONDS: f64 = 1.0;
/// The most that a round trip of ours may be of libzmq's.
const RATIO: f64 = 1.3;

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        run(replier(&role));
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let mut table = Table::new(&options);
    let rounds = options.number(0, 9);
    let sizes: Vec<usize> = (1..).map_while(|at| Some(options.number(at, 0)).filter(|size| *size > 0)).collect();
    let sizes = if sizes.is_empty() { vec![64] } else { sizes };
    let folder = tempfile::tempdir().unwrap();
    let zmq = folder.path().join("zmq");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/zmq.c");
    let compiled = Command::new("cc").args(["-O2", "-o"]).arg(&zmq).args([source, "-lzmq"]).status();
    let has_zmq = compiled.is_ok_and(|status| status.success());
    for size in sizes {
        let (mut ours, mut inside, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ratios, mut inside_ratios) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let [p50, p99] = run(round_trips(size, false));
            ours.push([p50, p99]);
            let [p50_inside, _] = run(round_trips(size, true));
            inside.push(p50_inside);
            if has_zmq {
                let median = of_zmq(&zmq, 27_400 + round, size);
                theirs.push(median);
                ratios.push(p50 / median);
                inside_ratios.push(p50_inside / median);
            }
        }
        table.row(&format!("{size} B round trip, p50"), " µs", ours.iter().map(|[p50, _]| *p50).collect(), None);
        table.row(&format!("{size} B round trip, p99"), " µs", ours.iter().map(|[_, p99]| *p99).collect(), None);
        table.row(&format!("{size} B round trip, nodes on their callers' runtimes, p50"), " µs", inside, None);
        if has_zmq {
            table.row(&format!("{size} B round trip of libzmq, p50"), " µs", theirs, None);
            table.row(&format!("{size} B round trip ÷ libzmq's, p50"), "", ratios, (size == 64).then_some(RATIO));
            table.row(&format!("{size} B on their callers' runtimes ÷ libzmq's, p50"), "", inside_ratios, None);
        }
    }
    table.end()
}

/// On a thread of its own, as a node is by default, or on the runtime that it is awaited in.
fn on_whose_runtime(builder: Builder, callers: bool) -> Builder {
    if callers { builder.on_current_runtime() } else { builder }
}

/// Sends back what it gets.
async fn replier(role: &Role) {
    let node = on_whose_runtime(role.builder(), role.arg(0)).await.unwrap();
    let replier = node.replier("echo").await.unwrap();
    role.say("ready");
    while let Ok(request) = replier.recv().await {
        let body = request.body();
        request.reply(body).unwrap();
    }
}

/// Microseconds: the median, and what 99 of 100 stay below.
async fn round_trips(size: usize, callers: bool) -> [f64; 2] {
    let place = Place::new();
    let replier = place.start("replier", &[&callers]);
    replier.hear_this("ready");
    let node = on_whose_runtime(place.builder(), callers).await.unwrap();
    let requester = node.requester("echo").await.unwrap();
    requester.wait_for_repliers(1).await.unwrap();
    let body = bytes::Bytes::from(vec![0x5a; size]);
    let begun = Instant::now() + Duration::from_secs_f64(WARM);
    let end = begun + Duration::from_secs_f64(SECONDS);
    let mut took = Vec::new();
    loop {
        let asked = Instant::now();
        let reply = requester.request(body.clone()).await.unwrap();
        let now = Instant::now();
        assert_eq!(reply.len(), size);
        if asked >= begun {
            took.push((now - asked).as_secs_f64() * 1e6);
        }
        if now >= end {
            break;
        }
    }
    took.sort_by(f64::total_cmp);
    [took[took.len() / 2], took[took.len() * 99 / 100]]
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The median of libzmq's, in microseconds.
fn of_zmq(zmq: &Path, port: usize, size: usize) -> f64 {
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(zmq);
    let _rep = Running(command.args(["rep", &address]).spawn().unwrap());
    let mut command = Command::new(zmq);
    command.args(["req", &address, &size.to_string()]).stdout(Stdio::piped());
    command.env("BENCH_WARM", WARM.to_string()).env("BENCH_SECONDS", SECONDS.to_string());
    let mut req = Running(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(req.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim().parse().expect("a median")
}
