//! What the demo knows from its workers' reports: who has which piece, and what was counted. No mesh, no clock.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{Counts, add};

/// The reports so far. `W` names a worker.
#[derive(Debug)]
pub(super) struct Tally<W> {
    pieces: u32,
    /// Who has begun which piece and has not reported it counted.
    in_hand: BTreeMap<W, BTreeSet<u32>>,
    counted: BTreeSet<u32>,
    words: Counts,
    /// Results of a piece that had been counted before: a worker was killed after its result had arrived and before it
    /// could acknowledge the piece.
    pub(super) twice: u32,
}

impl<W: Ord + Copy> Tally<W> {
    pub(super) fn new(pieces: u32) -> Self {
        Self { pieces, in_hand: BTreeMap::new(), counted: BTreeSet::new(), words: Counts::new(), twice: 0 }
    }

    pub(super) fn begun(&mut self, worker: W, piece: u32) {
        self.in_hand.entry(worker).or_default().insert(piece);
    }

    /// Takes over a result: once for each piece, however often it comes.
    pub(super) fn counted(&mut self, worker: W, piece: u32, words: &Counts) {
        if let Some(pieces) = self.in_hand.get_mut(&worker) {
            pieces.remove(&piece);
        }
        if self.counted.insert(piece) {
            add(&mut self.words, words, 1);
        } else {
            self.twice += 1;
        }
    }

    /// What a worker has begun and not reported.
    pub(super) fn in_hand(&self, worker: W) -> BTreeSet<u32> {
        self.in_hand.get(&worker).cloned().unwrap_or_default()
    }

    pub(super) fn done(&self) -> u32 {
        self.counted.len() as u32
    }

    pub(super) fn pieces(&self) -> u32 {
        self.pieces
    }

    pub(super) fn words(&self) -> &Counts {
        &self.words
    }
}

/// Numbers as ranges: `1-4 7 9-10`.
pub(super) fn ranges(numbers: &BTreeSet<u32>) -> String {
    let mut text = String::new();
    let mut numbers = numbers.iter().copied().peekable();
    while let Some(first) = numbers.next() {
        let mut last = first;
        while let Some(next) = numbers.next_if_eq(&(last + 1)) {
            last = next;
        }
        let gap = if text.is_empty() { "" } else { " " };
        text += &match last - first {
            0 => format!("{gap}{first}"),
            1 => format!("{gap}{first} {last}"),
            _ => format!("{gap}{first}-{last}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: u64) -> Counts {
        [("word".to_owned(), count)].into()
    }

    #[test]
    fn a_result_that_comes_twice_counts_once() {
        let mut tally = Tally::new(2);
        tally.begun('a', 1);
        tally.counted('a', 1, &words(3));
        tally.begun('b', 1);
        tally.counted('b', 1, &words(3));
        assert_eq!(tally.done(), 1);
        tally.counted('b', 2, &words(4));
        assert_eq!(tally.done(), tally.pieces());
        assert_eq!((tally.words(), tally.twice), (&words(7), 1));
    }

    #[test]
    fn it_knows_who_has_what() {
        let mut tally = Tally::new(9);
        tally.begun('a', 1);
        tally.begun('a', 2);
        tally.begun('b', 3);
        tally.counted('a', 1, &words(1));
        assert_eq!(tally.in_hand('a'), [2].into());
        assert_eq!(tally.in_hand('b'), [3].into());
        assert_eq!(tally.in_hand('c'), [].into());
    }

    #[test]
    fn numbers_that_follow_each_other_are_a_range() {
        let text = |numbers: &[u32]| ranges(&numbers.iter().copied().collect());
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[4, 1, 2, 3, 9, 8, 6]), "1-4 6 8 9");
    }
}
