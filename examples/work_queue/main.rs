//! A picture is drawn by whoever is there: rows are jobs, and any number of workers in any number of processes draw them.
//!
//! ```sh
//! cargo run --example work_queue              # one process, three workers
//! cargo run --example work_queue -- worker    # in as many terminals as you like …
//! cargo run --example work_queue -- boss      # … and in one more
//! ```

use std::collections::{BTreeMap, BTreeSet};

use meshmq::{Node, Pull, Push, Result};

const MESH: &str = "work-queue-example";
const COLUMNS: usize = 100;
const ROWS: usize = 40;
/// How long a point is looked at before it counts as inside the set: what makes a row take its time.
const STEPS: usize = 100_000;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next();
    let effort = arguments.next().map_or(Ok(1), |times| times.parse())?;
    match role.as_deref() {
        None => alone().await,
        Some("worker") => worker(&Node::join(MESH).await?).await,
        Some("boss") => boss(&Node::join(MESH).await?, effort).await,
        Some(other) => Err(format!("{other}: say `worker`, `boss [EFFORT]`, or nothing").into()),
    }
}

/// The boss and three workers on one node: the same sockets, which meet in memory.
async fn alone() -> Result<()> {
    // Looks for nobody, so that no worker of another terminal helps.
    let node = Node::builder(MESH).without_local().without_mdns().await?;
    for _ in 0..3 {
        let node = node.clone();
        tokio::spawn(async move { worker(&node).await });
    }
    boss(&node, 1).await
}

/// Draws rows for ever.
async fn worker(node: &Node) -> Result<()> {
    // One row in hand and none waiting behind it: rows take long, and another worker may be idle.
    let jobs = node.pull("rows").prefetch(1).await?;
    let results = node.push("drawn").await?;
    eprintln!("worker on node {} is ready", node.id().short());
    draw_rows(&jobs, &results).await
}

async fn draw_rows(jobs: &Pull, results: &Push) -> Result<()> {
    while let Ok(job) = jobs.recv().await {
        let Some((row, Ok(effort))) = numbered(&job).map(|(row, effort)| (row, effort.parse())) else {
            job.reject("a job is the number of a row and an effort");
            continue;
        };
        // This keeps the thread busy, and no link minds: the node has a thread of its own.
        let drawn = format!("{row} {}", draw(row, effort));
        // First the result is in the boss's hands, then the job counts as done. A worker that dies in between leaves a
        // row that is drawn twice; the other way round it would be missing.
        results.send(drawn).handled().await?;
        job.ack();
    }
    Ok(())
}

/// Hands out the rows and puts the picture together.
async fn boss(node: &Node, effort: usize) -> Result<()> {
    let jobs = node.push("rows").await?;
    let drawn = node.pull("drawn").await?;
    eprintln!("boss on node {} waits for a worker", node.id().short());
    jobs.wait_for_pullers(1).await?;

    for row in 0..ROWS {
        jobs.send(format!("{row} {effort}")).await?;
    }

    let mut missing: BTreeSet<usize> = (0..ROWS).collect();
    let mut picture = vec![String::new(); ROWS];
    let mut shares = BTreeMap::new();
    let mut twice = 0;
    while !missing.is_empty() {
        let result = drawn.recv().await?;
        let Some((row, line)) = numbered(&result) else {
            result.reject("a result is the number of a row and its line");
            continue;
        };
        if missing.remove(&row) {
            let worker = result.sender().short();
            picture[row] = format!("{line} {worker}");
            *shares.entry(worker).or_insert(0) += 1;
        } else {
            // At least once means this can happen; a result says which row it is, so it is easy to see.
            twice += 1;
        }
        result.ack();
    }
    // Every row has arrived, but its worker may not have said so yet.
    jobs.flush().await?;

    println!("{}", picture.join("\n"));
    for (worker, rows) in shares {
        println!("{rows:3} rows by node {worker}");
    }
    let seen = jobs.metrics();
    println!("{} jobs handled, {} dispatched again, {twice} rows drawn twice", seen.handled, seen.redelivered);
    Ok(())
}

/// The number of a row, and what is said about it.
fn numbered(message: &[u8]) -> Option<(usize, &str)> {
    let (row, rest) = std::str::from_utf8(message).ok()?.split_once(' ')?;
    Some((row.parse().ok().filter(|row| *row < ROWS)?, rest))
}

/// One row of the Mandelbrot set.
fn draw(row: usize, effort: usize) -> String {
    let imaginary = 2.4 * row as f64 / (ROWS - 1) as f64 - 1.2;
    (0..COLUMNS)
        .map(|column| {
            let real = 3.0 * column as f64 / COLUMNS as f64 - 2.1;
            match escape(real, imaginary, effort * STEPS) {
                None => '@',
                Some(step) => [' ', '.', ':', '-', '=', '+', '*', '%', '#'][step.ilog2().min(8) as usize],
            }
        })
        .collect()
}

/// After how many steps (at least 1) the point is known to lie outside the set; `None`: not in this time.
fn escape(real: f64, imaginary: f64, steps: usize) -> Option<usize> {
    let (mut x, mut y) = (0.0, 0.0);
    (1..=steps).find(|_| {
        (x, y) = (x * x - y * y + real, 2.0 * x * y + imaginary);
        x * x + y * y > 4.0
    })
}
