//! The demo as a picture: a row for each worker, how far all are, and what has happened.

use std::time::Instant;

use meshmq::NodeId;

use super::crew::{Crew, Member};
use super::tally::{Tally, ranges};
use crate::output::{Tone, grouped};
use crate::table::Table;
use crate::words::rate;

/// The longest bar, in columns.
const BAR: usize = 40;

/// What all do at one time.
#[derive(Debug)]
pub(super) struct Board {
    workers: Vec<Worker>,
    done: u32,
    pieces: u32,
    seconds: f64,
}

#[derive(Debug)]
struct Worker {
    name: &'static str,
    pid: u32,
    /// Empty until it has joined.
    node: String,
    state: &'static str,
    tone: Tone,
    in_hand: String,
    pieces: u32,
    words: u64,
    /// Words a second, from the start of the work or its joining to its end.
    pace: f64,
}

impl Board {
    /// How it stands now. The work began at `started`.
    pub(super) fn of(crew: &Crew, tally: &Tally<NodeId>, started: Instant) -> Self {
        let workers = crew.members.iter().map(|member| Worker::of(member, tally, started)).collect();
        Self { workers, done: tally.done(), pieces: tally.pieces(), seconds: started.elapsed().as_secs_f64() }
    }

    /// It as text for so many rows and columns, with as many of the latest events as there is room for. The title may
    /// be empty.
    pub(super) fn draw(&self, title: &str, events: &[String], (rows, columns): (usize, usize)) -> String {
        let title = if title.is_empty() { String::new() } else { Tone::Title.paint(title) + "\n\n" };
        let mut text = format!("{title}{}\n{}\n\n", self.table(columns), self.progress(columns));
        let room = rows.saturating_sub(text.lines().count());
        for event in &events[events.len().saturating_sub(room)..] {
            text += event;
            text.push('\n');
        }
        text
    }

    fn table(&self, columns: usize) -> Table {
        let mut table = Table::new(&["<WORKER", "<STATE", "PID", "<NODE", "<IN HAND", "PIECES", "WORDS", "WORDS/S"]);
        for worker in &self.workers {
            let name = worker.name.to_owned();
            let (pid, words) = (worker.pid.to_string(), grouped(worker.words));
            let (state, node, in_hand) = (worker.state.to_owned(), worker.node.clone(), worker.in_hand.clone());
            let row = [name, state, pid, node, in_hand, grouped(worker.pieces.into()), words, rate(worker.pace)];
            table.push_as(worker.tone, row);
        }
        table.narrow(columns, &["<NODE", "PID", "WORDS/S", "WORDS"]);
        table
    }

    fn progress(&self, columns: usize) -> String {
        let text = format!("{} of {} pieces, {:.1} s", self.done, self.pieces, self.seconds);
        let width = BAR.min(columns.saturating_sub(text.len() + 2));
        if width == 0 {
            return text;
        }
        let full = width * self.done as usize / (self.pieces as usize).max(1);
        let bar = Tone::Good.paint("█".repeat(full));
        format!("{bar}{}  {text}", "░".repeat(width - full))
    }
}

impl Worker {
    fn of(member: &Member, tally: &Tally<NodeId>, started: Instant) -> Self {
        let share = member.node.map(|node| tally.share(node)).unwrap_or_default();
        let (state, tone) = match () {
            () if member.killed.is_some() => ("killed", Tone::Bad),
            () if member.node.is_none() => ("starting", Tone::Calm),
            () if tally.done() == tally.pieces() => ("finished", Tone::Calm),
            () if share.pieces == 0 && share.in_hand.is_empty() => ("joined", Tone::Good),
            () => ("working", Tone::Calm),
        };
        let since = member.joined.map_or(started, |joined| joined.max(started));
        let time = member.killed.unwrap_or_else(Instant::now).saturating_duration_since(since).as_secs_f64();
        Self {
            name: member.name,
            pid: member.pid,
            node: member.node.map(|node| node.short()).unwrap_or_default(),
            state,
            tone,
            in_hand: ranges(&share.in_hand),
            pieces: share.pieces,
            words: share.words,
            pace: if share.words == 0 { 0.0 } else { share.words as f64 / time.max(0.001) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        let worker = |name, state, tone, in_hand: &str, pieces| Worker {
            name,
            pid: 12345,
            node: "k3j4h5g6f7".into(),
            state,
            tone,
            in_hand: in_hand.into(),
            pieces,
            words: u64::from(pieces) * 1_000,
            pace: f64::from(pieces) * 500.0,
        };
        let workers =
            vec![worker("otter", "working", Tone::Calm, "9 10", 6), worker("heron", "killed", Tone::Bad, "8", 2)];
        Board { workers, done: 8, pieces: 16, seconds: 2.0 }
    }

    fn events() -> Vec<String> {
        (1..=9).map(|number| format!("event {number}")).collect()
    }

    #[test]
    fn it_tells_who_does_what_and_how_far_all_are() {
        let text = board().draw("Title", &events()[..1], (usize::MAX, usize::MAX));
        let expected = "Title\n\n\
            WORKER  STATE      PID  NODE        IN HAND  PIECES  WORDS  WORDS/S\n\
            otter   working  12345  k3j4h5g6f7  9 10          6  6,000    3,000\n\
            heron   killed   12345  k3j4h5g6f7  8             2  2,000    1,000\n\n\
            ████████████████████░░░░░░░░░░░░░░░░░░░░  8 of 16 pieces, 2.0 s\n\n\
            event 1\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_small_terminal_has_the_latest_events_and_fewer_columns() {
        let text = board().draw("Title", &events(), (10, 40));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[8..], ["event 8", "event 9"]);
        assert_eq!(lines[2], "WORKER  STATE    IN HAND  PIECES  WORDS");
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{text}");
        for (rows, columns) in [(0, 0), (1, 1), (5, 12), (7, 30)] {
            let text = board().draw("Title", &events(), (rows, columns));
            assert!(text.contains("8 of 16 pieces") && !text.contains("event"), "{text}");
        }
    }
}
