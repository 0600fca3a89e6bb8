//! Work that goes on while a puller is killed and another one joins: nothing is lost, and nothing comes again unflagged.
//!
//! ```sh
//! cargo bench --bench endurance               # 20 runs of 100,000 messages of 1 KiB, 4 pullers
//! cargo bench --bench endurance -- 10000 3    # 3 runs of 10,000 messages
//! ```
//! Each puller writes down what it was handed before it acknowledges it, in a file, which a SIGKILL does not take. When
//! half of all is handled, one puller is killed and a new one started. Any violation is an error.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::future::IntoFuture;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use support::{Options, Place, Process, Role, Table, run};

const PULLERS: usize = 4;
const SIZE: usize = 1024;
/// Message, attempt, and 1 where it was flagged.
const RECORD: usize = 16;

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        run(puller(&role));
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let (messages, runs) = (options.number(0, 100_000), options.number(1, 20));
    let mut table = Table::new(&options);
    let (mut took, mut back, mut again, mut joined) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=runs {
        let seen = endure(messages as u64);
        seen.violations.iter().for_each(|what| table.violated(format!("run {round}: {what}")));
        took.push(seen.seconds);
        back.push(seen.back as f64);
        again.push(seen.again as f64);
        joined.push(seen.joined as f64);
    }
    table.row(&format!("{messages} messages, all handled after"), " s", took, None);
    table.row("messages that the killed puller had, which went out again", "", back, None);
    table.row("messages among them that two pullers were handed", "", again, None);
    table.row("messages that the puller which joined was handed", "", joined, None);
    table.end()
}

/// Argument: the file that it writes.
async fn puller(role: &Role) {
    let node = role.builder().await.unwrap();
    let pull = node.pull("jobs").await.unwrap();
    let mut file = File::create(role.arg::<String>(0)).unwrap();
    pull.wait_for_pushers(1).await.unwrap();
    role.say("linked");
    while let Ok(job) = pull.recv().await {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&job[..8]);
        record[8..12].copy_from_slice(&job.attempt().to_le_bytes());
        record[12] = job.redelivered().into();
        file.write_all(&record).unwrap();
        job.ack();
    }
}

fn body(number: u64) -> Bytes {
    let mut body = vec![0x5a; SIZE];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body.into()
}

struct Seen {
    violations: Vec<String>,
    seconds: f64,
    back: u64,
    again: usize,
    joined: usize,
}

fn endure(messages: u64) -> Seen {
    let place = Place::new();
    let file = |puller: usize| place.path(&format!("puller-{puller}"));
    let start = |puller: usize| place.start("puller", &[&file(puller).display()]);
    let mut pullers: Vec<Process> = (0..PULLERS).map(start).collect();
    let node = run(place.builder().into_future()).unwrap();
    let push = run(node.push("jobs").into_future()).unwrap();
    run(push.wait_for_pullers(PULLERS)).unwrap();

    let send = |numbers: std::ops::Range<u64>| {
        run(async {
            for number in numbers {
                push.send(body(number)).await.unwrap();
            }
        });
    };
    let begun = Instant::now();
    let half = messages / 2;
    let rest = half + messages / 4;
    send(0..half);
    std::thread::scope(|scope| {
        scope.spawn(|| send(half + 1..rest));
        run(push.send(body(half)).handled()).unwrap();
        pullers[0].kill();
        let joined = start(PULLERS);
        joined.hear_this("linked");
        pullers.push(joined);
    });
    // However fast the others are, there is some work left for the one that has joined.
    send(rest..messages);
    run(push.flush()).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let metrics = push.metrics();

    // Message → the attempts that an application was handed, each with its flag, in their order.
    let mut handed: BTreeMap<u64, BTreeMap<u32, bool>> = BTreeMap::new();
    let mut violations = Vec::new();
    let mut joined = 0;
    for puller in 0..=PULLERS {
        let records = std::fs::read(file(puller)).unwrap();
        joined = records.len() / RECORD;
        for record in records.chunks_exact(RECORD) {
            let number = u64::from_le_bytes(record[..8].try_into().unwrap());
            let attempt = u32::from_le_bytes(record[8..12].try_into().unwrap());
            if handed.entry(number).or_default().insert(attempt, record[12] == 1).is_some() {
                violations.push(format!("attempt {attempt} of message {number} was handed out twice"));
            }
        }
    }
    if (metrics.accepted, metrics.handled) != (messages, messages) {
        violations.push(format!("accepted {}, handled {} of {messages}", metrics.accepted, metrics.handled));
    }
    if handed.len() as u64 != messages || handed.range(messages..).next().is_some() {
        violations.push(format!("{} distinct messages were handed out, {messages} were accepted", handed.len()));
    }
    for (number, attempts) in &handed {
        if attempts.values().skip(1).any(|flagged| !flagged) {
            violations.push(format!("message {number} came again without its flag: {attempts:?}"));
        }
    }
    let again = handed.values().filter(|attempts| attempts.len() > 1).count();
    if joined == 0 {
        violations.push("the puller that joined was handed nothing".to_owned());
    }
    Seen { violations, seconds, back: metrics.redelivered, again, joined }
}
