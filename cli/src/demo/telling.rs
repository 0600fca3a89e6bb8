//! What the demo says before and after the work: what is counted, and whether it holds.

use std::collections::BTreeSet;
use std::path::Path;

use super::news::Asked;
use super::plan::Plan;
use super::show::Show;
use super::text::{Counts, total};
use crate::output::{Tone, counted, grouped};

/// The longest list of pieces on a line, in bytes.
const FITS: usize = 60;

pub(super) fn title(folder: &Path) -> String {
    format!("Counting the words below {} in a mesh of processes", folder.display())
}

pub(super) fn introduce(folder: &Path, plan: &Plan, show: &mut Show) {
    let texts = &plan.texts;
    let (files, megabytes) = (counted(texts.files.len() as u64, "text file"), texts.bytes as f64 / 1e6);
    show.line(Tone::Title, title(folder));
    show.gap();
    show.row("text", format_args!("{files}, {megabytes:.1} MB, {}", counted(plan.words(), "word")));
    if texts.more {
        show.row("", "there is more, left out to keep this short");
    }
    if texts.unreadable > 0 {
        show.row("", format_args!("{} could not be read", counted(texts.unreadable as u64, "path")));
    }
    show.row("often", plan.frequent(8).join(" "));
    show.row("pieces", format_args!("{}, about {} each", grouped(plan.pieces().into()), size(plan)));
    if plan.rounds() > 1 {
        let times = grouped(plan.rounds());
        show.row("", format_args!("all text is counted {times} times over, so that there is something to see"));
    }
    show.gap();
}

fn size(plan: &Plan) -> String {
    match plan.texts.bytes / plan.chunks.len() {
        bytes @ ..1000 => format!("{bytes} bytes"),
        bytes => format!("{} kB", grouped(bytes as u64 / 1000)),
    }
}

/// What became of the work.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    /// What the mesh has counted.
    pub(super) found: &'a Counts,
    /// What the killed worker had begun; `None`: none was killed.
    pub(super) in_hand: Option<&'a BTreeSet<u32>>,
    /// Pieces that were dispatched again.
    pub(super) moved: &'a BTreeSet<u32>,
    /// Results that came twice.
    pub(super) twice: u32,
    /// What the workers know of what was published.
    pub(super) asked: Asked,
}

impl Outcome<'_> {
    /// Whether the demo has shown what it set out to show.
    pub(super) fn holds(&self, expected: &Counts) -> bool {
        self.found == expected && self.in_hand.is_some() && self.asked.right == self.asked.workers
    }

    fn verdict(&self, expected: &Counts) -> (Tone, &'static str) {
        match () {
            () if self.found != expected => (Tone::Bad, "It does not hold: the two counts differ."),
            () if self.in_hand.is_none() => {
                (Tone::Bad, "It shows nothing: all was counted before a worker could be killed.")
            }
            () if self.asked.right != self.asked.workers => {
                (Tone::Bad, "It does not hold: a worker has not heard what was published last.")
            }
            () => (
                Tone::Good,
                "It holds: a worker was killed in the middle of its work, and every word is counted exactly once.",
            ),
        }
    }
}

pub(super) fn conclude(plan: &Plan, outcome: &Outcome<'_>, show: &mut Show) {
    let expected = plan.expected();
    show.gap();
    show.row("mesh", sum(outcome.found));
    let once = if plan.rounds() > 1 { format!("  (one count × {})", grouped(plan.rounds())) } else { String::new() };
    show.row("one process", format_args!("{}{once}", sum(&expected)));
    let begun = outcome.in_hand.map_or(0, |in_hand| in_hand.intersection(outcome.moved).count());
    let moved = counted(outcome.moved.len() as u64, "piece");
    show.row("moved", format_args!("{moved} went to another worker, {begun} of them begun by the killed one"));
    let twice = if outcome.twice == 0 { "none".to_owned() } else { grouped(outcome.twice.into()) };
    show.row("results", format_args!("each counts once, by the number of its piece; {twice} came twice"));
    let Asked { workers, right, words, published } = outcome.asked;
    let counts = counted(published.into(), "count");
    show.row("published", format_args!("{counts} of {} on the way", counted(words as u64, "frequent word")));
    show.row(
        "asked",
        format_args!("{}: {right} of them know the last count of each", counted(workers as u64, "worker")),
    );
    show.gap();
    let (tone, verdict) = outcome.verdict(&expected);
    show.line(tone, verdict);
}

fn sum(counts: &Counts) -> String {
    format!("{} in all, {} different", counted(total(counts), "word"), grouped(counts.len() as u64))
}

/// As much of a list as fits on a line.
pub(super) fn shorten(list: &str) -> String {
    match list.get(..FITS).and_then(|head| head.rfind(' ')) {
        Some(end) if list.len() > FITS => format!("{} …", &list[..end]),
        _ => list.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_only_with_equal_counts_and_a_killed_worker() {
        let words = |count| Counts::from([("word".to_owned(), count)]);
        let (pieces, expected) = (BTreeSet::from([1]), words(2));
        let asked = |right| Asked { workers: 3, right, words: 8, published: 80 };
        let outcome = |found, in_hand, right| Outcome { found, in_hand, moved: &pieces, twice: 0, asked: asked(right) };
        let (equal, less) = (words(2), words(1));
        for (found, in_hand, right, holds, word) in [
            (&equal, Some(&pieces), 3, true, "It holds"),
            (&equal, Some(&pieces), 2, false, "has not heard"),
            (&equal, None, 3, false, "shows nothing"),
            (&less, Some(&pieces), 3, false, "counts differ"),
            (&less, None, 3, false, "counts differ"),
        ] {
            let outcome = outcome(found, in_hand, right);
            assert_eq!(outcome.holds(&expected), holds);
            assert!(outcome.verdict(&expected).1.contains(word), "{outcome:?}");
        }
    }

    #[test]
    fn a_long_list_is_cut_between_two_numbers() {
        assert_eq!(shorten("1-4 7"), "1-4 7");
        let long: Vec<_> = (100..200).map(|number| number.to_string()).collect();
        let short = shorten(&long.join(" "));
        assert!(short.ends_with("114 …") && short.len() <= FITS + " …".len(), "{short}");
    }
}
