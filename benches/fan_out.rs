//! One publisher and many subscribers.
//!
//! ```sh
//! cargo bench --bench fan_out                        # 5 rounds beside libzmq, 1,000 joins, 9 rounds with one stalled
//! cargo bench --bench fan_out -- 9 100 3 --check     # other numbers; a missed target is an error
//! ```
//! Beside libzmq: 1 publisher, 8 subscribers in processes of their own, 1 KiB, every message to each of them (ours by
//! `WhenFull::Block`, libzmq's by `ZMQ_XPUB_NODROP`), both in turn; what counts is the ratio within a round. Needs a C
//! compiler and libzmq's development files (`libzmq3-dev`); without them there is no ratio.
//!
//! A number of 0 leaves a part out.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use meshmq::{Node, WhenFull};
use rustix::process::Signal;
use support::{Options, PATIENCE, Place, Process, Role, Table, run};

const SUBSCRIBERS: usize = 8;
const SIZE: usize = 1024;
const WARM: f64 = 0.5;
const SECONDS: f64 = 1.0;
/// Subscribers of which one stalls.
const CROWD: usize = 50;
/// What they are sent, in a phase.
const PHASE: usize = 200;
const PAUSE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        match role.name.as_str() {
            "publisher" => run(publisher(&role)),
            "source" => run(source(&role)),
            "subscriber" => run(subscriber(&role)),
            _ => run(one_of_many(&role)),
        }
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let mut table = Table::new(&options);
    fan_out(&mut table, options.number(0, 5));
    if options.number(1, 1000) > 0 {
        for (what, topic) in [("one of them matches", "t.5000.x"), ("none does", "u.5000.x")] {
            let rounds = (0..5).map(|_| run(publish_among_many(topic))).collect();
            table.row(&format!("a publish among 10,000 subscriptions, of which {what}"), " µs", rounds, Some(2.0));
        }
        joins(&mut table, options.number(1, 1000));
    }
    stalled(&mut table, options.number(2, 9));
    table.end()
}

async fn publisher(role: &Role) {
    let node = role.builder().await.unwrap();
    let news = node.publisher("bench").when_full(WhenFull::Block(PATIENCE)).await.unwrap();
    news.wait_for_subscribers(SUBSCRIBERS).await.unwrap();
    let body = bytes::Bytes::from(vec![0x5a; SIZE]);
    loop {
        news.publish("bench", body.clone()).await.unwrap();
    }
}

async fn subscriber(role: &Role) {
    let node = role.builder().await.unwrap();
    let sub = node.subscriber("bench").await.unwrap();
    sub.recv().await.unwrap();
    let mut begun = Instant::now() + Duration::from_secs_f64(WARM);
    let end = begun + Duration::from_secs_f64(SECONDS);
    let (mut count, mut first) = (0_u64, 0);
    loop {
        assert!(sub.recv().await.unwrap().missed().is_none());
        count += 1;
        if count % 64 == 0 {
            let now = Instant::now();
            if first == 0 && now >= begun {
                (first, begun) = (count, now);
            }
            if now >= end {
                role.say(format!("{:.0}", (count - first) as f64 / (now - begun).as_secs_f64()));
                role.told();
                return;
            }
        }
    }
}

fn fan_out(table: &mut Table, rounds: usize) {
    if rounds == 0 {
        return;
    }
    let place = Place::new();
    let zmq = place.path("zmq");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/zmq.c");
    let compiled = Command::new("cc").args(["-O2", "-o"]).arg(&zmq).args([source, "-lzmq"]).status();
    let has_zmq = compiled.is_ok_and(|status| status.success());
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| place.start("subscriber", &[])).collect();
        let _publisher = place.start("publisher", &[]);
        ours.push(subscribers.iter().map(|one| one.hear().1.parse::<f64>().unwrap()).sum::<f64>());
        drop(subscribers);
        if has_zmq {
            let address = format!("127.0.0.1:{}", 27_300 + round);
            let start = |args: &[&str]| {
                let mut command = Command::new(&zmq);
                command.args(args).env("BENCH_WARM", WARM.to_string()).env("BENCH_SECONDS", SECONDS.to_string());
                command.stdout(Stdio::piped()).spawn().unwrap()
            };
            let mut publisher = start(&["pub", &address, &SIZE.to_string(), &SUBSCRIBERS.to_string()]);
            let subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| start(&["sub", &address])).collect();
            let rate = |one: std::process::Child| -> f64 {
                String::from_utf8(one.wait_with_output().unwrap().stdout).unwrap().trim().parse().unwrap()
            };
            theirs.push(subscribers.into_iter().map(rate).sum::<f64>());
            publisher.kill().unwrap();
            publisher.wait().unwrap();
            ratios.push(ours[round] / theirs[round]);
        }
    }
    table.row("1 publisher, 8 subscribers, 1 KiB: deliveries", "/s", ours, None);
    if has_zmq {
        table.row("the same by libzmq over TCP", "/s", theirs, None);
        table.row("ratio of the two", "", ratios, None);
    }
}

/// Microseconds that a publish takes.
async fn publish_among_many(topic: &str) -> f64 {
    const TIMES: u32 = 200_000;
    let node = Node::isolated().await.unwrap();
    let news = node.publisher("bench").await.unwrap();
    let subscriber = (0..10_000).fold(node.subscriber("bench"), |sub, nth| sub.topic(format!("t.{nth}.*")));
    let sub = subscriber.await.unwrap();
    assert_eq!(news.metrics().patterns, 10_000);
    let reader = tokio::spawn(async move { while sub.recv().await.is_ok() {} });
    let body = bytes::Bytes::from(vec![0x5a; 64]);
    let began = Instant::now();
    for _ in 0..TIMES {
        news.try_publish(black_box(topic), body.clone()).unwrap();
    }
    let took = began.elapsed();
    reader.abort();
    took.as_secs_f64() * 1e6 / f64::from(TIMES)
}

/// Publishes numbers without end, but no faster than they can be looked at.
async fn source(role: &Role) {
    let node = role.builder().await.unwrap();
    let news = node.publisher("bench").await.unwrap();
    role.say("ready");
    for number in 0_u64.. {
        news.publish(["a", "b"][number as usize % 2], number.to_le_bytes().to_vec()).await.unwrap();
        if number % 8 == 0 {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
}

fn joins(table: &mut Table, joins: usize) {
    let place = Place::new();
    let source = place.start("source", &[]);
    source.hear_this("ready");
    let (times, missed) = run(async {
        let node = place.builder().await.unwrap();
        node.wait_for_peers(1).await.unwrap();
        node.settled().await;
        // Its table has come.
        node.subscriber("bench").await.unwrap().wait_for_publishers(1).await.unwrap();
        let (mut times, mut missed) = (Vec::new(), 0);
        for _ in 0..joins {
            let began = Instant::now();
            let sub = node.subscriber("bench").topic("a").await.unwrap();
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            assert_eq!(sub.publishers(), 1);
            let mut numbers = Vec::new();
            while numbers.len() < 20 {
                let news = sub.recv().await.unwrap();
                missed += news.missed().map_or(0, |gap| gap.count);
                numbers.push(u64::from_le_bytes(news[..].try_into().unwrap()));
            }
            missed += numbers.windows(2).map(|two| (two[1] - two[0]) / 2 - 1).sum::<u64>();
        }
        (times, missed)
    });
    table.row("a subscriber joins under load, its publisher in another process", " ms", times, None);
    table.row(&format!("messages missed in {joins} such joins"), "", vec![missed as f64], Some(0.0));
}

/// Says the 99th percentile of how long messages have taken, whenever it is asked.
async fn one_of_many(role: &Role) {
    let node = role.builder().await.unwrap();
    let sub = node.subscriber("bench").await.unwrap();
    role.say("ready");
    let mut times = Vec::new();
    loop {
        let news = sub.recv().await.unwrap();
        let sent = u128::from_le_bytes(news[..].try_into().unwrap());
        times.push(now().saturating_sub(sent));
        if times.len() == PHASE {
            times.sort_unstable();
            role.say(times[PHASE * 99 / 100]);
            times.clear();
        }
    }
}

fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

fn stalled(table: &mut Table, rounds: usize) {
    if rounds == 0 {
        return;
    }
    let place = Place::new();
    let (mut well, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    run(async {
        let node = place.builder().await.unwrap();
        let news = node.publisher("bench").await.unwrap();
        for _ in 0..rounds {
            // Others in each round: whoever was stopped does not go on in the middle of a phase.
            let crowd: Vec<_> = (0..CROWD).map(|_| place.start("one of many", &[])).collect();
            for one in &crowd {
                one.hear_this("ready");
            }
            news.wait_for_subscribers(CROWD).await.unwrap();
            let phase = async |hung: BTreeSet<usize>| {
                for _ in 0..PHASE {
                    news.publish("bench", now().to_le_bytes().to_vec()).await.unwrap();
                    tokio::time::sleep(PAUSE).await;
                }
                let others = crowd.iter().enumerate().filter(|(nth, _)| !hung.contains(nth));
                let mut times: Vec<f64> = others.map(|(_, one)| percentile(one)).collect();
                times.sort_by(f64::total_cmp);
                times[times.len() / 2]
            };
            phase(BTreeSet::new()).await;
            let without = phase(BTreeSet::new()).await;
            crowd[0].signal(Signal::STOP);
            let with = phase(BTreeSet::from([0])).await;
            well.push(without);
            beside.push(with);
            ratios.push(with / without);
            drop(crowd);
            while news.subscribers() > 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    table.row("50 subscribers, 200 messages a second: p99 of the median one", " ms", well, None);
    table.row("the same of the others while one of them is stopped", " ms", beside, None);
    table.row("ratio of the two", "", ratios, Some(1.25));
}

fn percentile(one: &Process) -> f64 {
    one.hear().1.parse::<f64>().unwrap() / 1e6
}
