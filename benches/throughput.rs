//! PUSH → PULL one way between two processes, acknowledged one by one, beside libzmq's over TCP, which acknowledges
//! nothing. Both run in turn, round after round; what counts is the ratio within a round.
//!
//! ```sh
//! cargo bench --bench throughput                # on loopback: 5 rounds of 16 B and 1 KiB
//! cargo bench --bench throughput -- 9 16 64 4096
//! cargo bench --bench throughput -- veth        # between two hosts: 5 rounds of 16 B, 1 KiB and 64 KiB
//! ```
//! The two hosts are network namespaces, joined by Ethernet of 1,500 bytes (a bridge and two `veth` pairs), which needs
//! root, and `ip`. The kernel hands large packets over such a network as it does over a real one that can cut them up,
//! for both alike.
//!
//! Needs a C compiler and libzmq's development files (`libzmq3-dev`); without them there are figures, but no ratios.
#![allow(missing_docs)]

#[path = "../tests/support/netns.rs"]
mod netns;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meshmq::{Builder, MeshKey, Node};
use netns::Lab;

const WARM: f64 = 0.5;
const SECONDS: f64 = 1.0;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("push") => run(push(args[1].parse().expect("a size"))),
        Some("pull") => run(pull()),
        _ => compare(&args),
    }
}

fn run(role: impl Future<Output = meshmq::Result<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if let Err(error) = runtime.block_on(role) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn builder() -> Builder {
    let variable = |name| std::env::var(name).expect("set by the bench");
    let key: MeshKey = variable("BENCH_KEY").parse().expect("a key");
    let builder = Node::builder("bench").key(key);
    match variable("BENCH_FOLDER").as_str() {
        // Two hosts share no folder.
        "" => builder.without_local(),
        folder => builder.without_mdns().local_folder(folder),
    }
}

async fn push(size: usize) -> meshmq::Result<()> {
    let node = builder().await?;
    let push = node.push("bench").await?;
    let body = bytes::Bytes::from(vec![0x5a; size]);
    loop {
        push.send(body.clone()).await?;
    }
}

async fn pull() -> meshmq::Result<()> {
    let node = builder().await?;
    let pull = node.pull("bench").await?;
    pull.recv().await?.ack();
    let mut begun = Instant::now() + Duration::from_secs_f64(WARM);
    let end = begun + Duration::from_secs_f64(SECONDS);
    let (mut count, mut first) = (0u64, 0);
    loop {
        pull.recv().await?.ack();
        count += 1;
        if count % 64 == 0 {
            let now = Instant::now();
            if first == 0 && now >= begun {
                (first, begun) = (count, now);
            }
            if now >= end {
                println!("{:.0}", (count - first) as f64 / (now - begun).as_secs_f64());
                return Ok(());
            }
        }
    }
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rate(mut push: Command, mut pull: Command) -> f64 {
    let _push = Running(push.spawn().expect("the pusher starts"));
    let mut pull = Running(pull.stdout(Stdio::piped()).spawn().expect("the puller starts"));
    let mut line = String::new();
    let stdout = pull.0.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    line.trim().parse().expect("a rate")
}

/// Where the two processes run.
enum Place {
    Loopback,
    TwoHosts(Lab),
}

impl Place {
    fn two_hosts() -> Option<Self> {
        let mut lab = Lab::new("this bench")?;
        lab.lan("lan", [("push", "10.0.0.1/24"), ("pull", "10.0.0.2/24")]);
        Some(Self::TwoHosts(lab))
    }

    /// The host has the name of what runs there.
    fn command(&self, role: &str, program: &Path) -> Command {
        match self {
            Self::Loopback => Command::new(program),
            Self::TwoHosts(lab) => lab.command(role, program),
        }
    }

    fn address_of_pusher(&self) -> &'static str {
        match self {
            Self::Loopback => "127.0.0.1",
            Self::TwoHosts(_) => "10.0.0.1",
        }
    }
}

fn compare(args: &[String]) {
    let (place, args, default): (_, _, &[usize]) = match args {
        [first, rest @ ..] if first == "veth" => match Place::two_hosts() {
            Some(hosts) => (hosts, rest, &[16, 1024, 65_536]),
            None => std::process::exit(1),
        },
        _ => (Place::Loopback, args, &[16, 1024]),
    };
    let number = |text: &String| text.parse::<usize>().expect("numbers: rounds, then sizes; before them, veth");
    let rounds = args.first().map_or(5, number);
    let sizes: Vec<usize> = if args.len() > 1 { args[1..].iter().map(number).collect() } else { default.to_vec() };
    let folder = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir();
    let folder = folder.expect("a folder");
    let key = MeshKey::generate().expect("randomness").reveal();
    let zmq = folder.path().join("zmq");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/zmq.c");
    let compiled = Command::new("cc").args(["-O2", "-o"]).arg(&zmq).args([source, "-lzmq"]).status();
    let has_zmq = compiled.is_ok_and(|status| status.success());
    let meet_in = match place {
        Place::Loopback => folder.path().join("run"),
        Place::TwoHosts(_) => PathBuf::new(),
    };
    let mesh = |args: &[&str]| {
        let mut command = place.command(args[0], &std::env::current_exe().expect("this program"));
        command.args(args).env("BENCH_KEY", &key).env("BENCH_FOLDER", &meet_in);
        command
    };
    let peer = |args: &[&str]| {
        let mut command = place.command(args[0], &zmq);
        command.args(args).env("BENCH_WARM", WARM.to_string()).env("BENCH_SECONDS", SECONDS.to_string());
        command
    };
    println!(
        "{:>7}  {:>14}  {:>14}  ratio, median [least..most] of {rounds} rounds",
        "bytes", "meshmq msg/s", "libzmq msg/s"
    );
    for size in sizes {
        let size = size.to_string();
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            ours.push(rate(mesh(&["push", &size]), mesh(&["pull"])));
            if has_zmq {
                let address = format!("{}:{}", place.address_of_pusher(), 27_000 + round);
                theirs.push(rate(peer(&["push", &address, &size]), peer(&["pull", &address])));
                ratios.push(ours[round] / theirs[round]);
            }
        }
        let (least, most) =
            (ratios.iter().copied().fold(f64::MAX, f64::min), ratios.iter().copied().fold(0.0, f64::max));
        println!(
            "{size:>7}  {:>14.0}  {:>14.0}  {:.2} [{least:.2}..{most:.2}]",
            median(ours),
            median(theirs),
            median(ratios)
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
