//! A work queue without async: threads take numbers apart, on every processor of every machine that helps.
//!
//! ```sh
//! cargo run --example blocking              # one process
//! cargo run --example blocking -- worker    # in as many terminals as you like …
//! cargo run --example blocking -- boss      # … and in one more
//! ```

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use meshmq::Result;
use meshmq::blocking::Node;

const MESH: &str = "blocking-example";
/// The largest numbers below a power of two that take a while, as one of their factors is large.
const NUMBERS: std::ops::Range<u64> = (1 << 44) - 100..1 << 44;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => alone(),
        Some("worker") => worker(&Node::join(MESH)?),
        Some("boss") => boss(&Node::join(MESH)?),
        Some(other) => Err(format!("{other}: say `worker`, `boss`, or nothing").into()),
    }
}

/// Boss and worker on one node that nobody else can meet: code like this can be tested so, too.
fn alone() -> Result<()> {
    let node = Node::isolated().join()?;
    thread::scope(|scope| {
        let working = scope.spawn(|| worker(&node));
        boss(&node)?;
        // Ends whatever waits on the node, and so the worker.
        node.shutdown(Duration::from_secs(1));
        working.join().expect("a panic in a handler stays there")
    })
}

/// Works until its node ends: with `worker` on the command line, for ever.
fn worker(node: &Node) -> Result<()> {
    let threads = thread::available_parallelism()?.get();
    // As many numbers as there are threads to work on them: the others stay with the boss, for whoever is free.
    let numbers = node.pull("numbers").prefetch(threads).open()?;
    let results = node.push("factors").open()?;
    eprintln!("{threads} threads of node {} are ready", node.id().short());
    // `Ok` acknowledges the number. An error gives it back, and so do a panic and the end of this process.
    numbers.serve(threads, |number| -> Result<()> {
        let number: u64 = std::str::from_utf8(&number)?.parse()?;
        let factors: Vec<_> = factors(number).iter().map(u64::to_string).collect();
        // First the result is in the boss's hands, then the number counts as done.
        results.send_handled(format!("{number} = {}", factors.join(" · ")))?;
        Ok(())
    })?;
    Ok(())
}

fn boss(node: &Node) -> Result<()> {
    let (numbers, results) = (node.push("numbers").open()?, node.pull("factors").open()?);
    eprintln!("boss on node {} waits for a worker", node.id().short());
    numbers.wait_for_pullers(1)?;
    numbers.send_batch(NUMBERS.map(|number| number.to_string()))?;

    // By text, as a result may come twice: its worker may have died between sending it and acknowledging the number.
    let mut seen = BTreeMap::new();
    for result in &results {
        seen.insert(String::from_utf8_lossy(&result).into_owned(), result.sender().short());
        result.ack();
        if seen.len() == NUMBERS.count() {
            break;
        }
    }
    numbers.flush()?;
    for (result, worker) in seen {
        println!("{worker}  {result}");
    }
    println!("{} numbers handled, {} dispatched again", numbers.metrics().handled, numbers.metrics().redelivered);
    Ok(())
}

/// The prime factors of a number, by trial.
fn factors(mut number: u64) -> Vec<u64> {
    let (mut factors, mut factor) = (Vec::new(), 2);
    while factor * factor <= number {
        match number % factor {
            0 => (number, _) = (number / factor, factors.push(factor)),
            _ => factor += 1,
        }
    }
    factors.push(number);
    factors
}
