//! One worker of the demo: a process that takes pieces, counts their words and reports.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use meshmq::{Node, Push};

use super::crew::remove;
use super::news::Listener;
use super::task::{COUNTS, PIECES, Piece, Report, Start};
use super::text::{Counts, add, count};
use super::{LOOPBACK, MESH};

/// Pieces that a worker holds: one to count and one that waits.
const PREFETCH: usize = 2;

pub(crate) async fn work() -> anyhow::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let start: Start = serde_json::from_str(&line).context("this command is for the demo's own use")?;
    leave_with_parent(start.folder.clone());
    let node = Node::builder(MESH)
        .key(start.key)
        .name(&start.name)
        .without_mdns()
        .local_folder(start.folder)
        .listen(LOOPBACK)
        .linger(Duration::ZERO)
        .await?;
    let counts = node.push(COUNTS).await?;
    let listener = Listener::open(&node).await?;
    counts.send(Report::Here { name: start.name }.encode()).handled().await?;
    let pieces = node.pull(PIECES).prefetch(PREFETCH).await?;
    let counting = async {
        while let Ok(delivery) = pieces.recv().await {
            let (piece, text) = Piece::decode(&delivery)?;
            report(&piece, text, delivery.attempt(), &counts).await?;
            // Only now: killed any earlier, this process leaves the piece to another one.
            delivery.ack();
        }
        Ok(())
    };
    tokio::select! {
        biased;
        end = counting => end,
        end = listener.answer() => end,
    }
}

/// Counts a piece, and waits until its result has been taken over.
async fn report(piece: &Piece, text: &str, attempt: u32, counts: &Push) -> anyhow::Result<()> {
    let number = piece.number;
    counts.send(Report::Begun { piece: number, attempt }.encode()).await?;
    let mut words = Counts::new();
    for _ in 0..piece.times {
        let mut once = Counts::new();
        count(text, &mut once);
        add(&mut words, &once, 1);
    }
    counts.send(Report::Counted { piece: number, attempt, words }.encode()).handled().await?;
    Ok(())
}

/// Ends this process when standard input ends: the demo is over, or its first process has died.
fn leave_with_parent(folder: PathBuf) {
    std::thread::spawn(move || {
        let mut farewell = Vec::new();
        // It fails like it ends: nobody is at the other end.
        let _ = io::stdin().lock().read_to_end(&mut farewell);
        if farewell.is_empty() {
            // Nobody else is left to do it. (Asking who our parent is would not tell: the pipes of a process that dies are
            // closed before its children get another parent.)
            remove(&folder);
        }
        std::process::exit(0);
    });
}
