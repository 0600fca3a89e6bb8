//! What the demo knows from its workers' reports: who has which piece, and what was counted. No mesh, no clock.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{Counts, add, total};

/// The reports so far. `W` names a worker.
#[derive(Debug)]
pub(super) struct Tally<W> {
    pieces: u32,
    shares: BTreeMap<W, Share>,
    counted: BTreeSet<u32>,
    words: Counts,
    /// Results of a piece that had been counted before: a worker was killed after its result had arrived and before it
    /// could acknowledge the piece.
    pub(super) twice: u32,
}

/// What one worker has done.
#[derive(Debug, Clone, Default)]
pub(super) struct Share {
    /// What it has begun and not reported as counted.
    pub(super) in_hand: BTreeSet<u32>,
    /// How many pieces it has counted before any other worker.
    pub(super) pieces: u32,
    /// The words of these pieces.
    pub(super) words: u64,
}

impl<W: Ord + Copy> Tally<W> {
    pub(super) fn new(pieces: u32) -> Self {
        Self { pieces, shares: BTreeMap::new(), counted: BTreeSet::new(), words: Counts::new(), twice: 0 }
    }

    pub(super) fn begun(&mut self, worker: W, piece: u32) {
        self.shares.entry(worker).or_default().in_hand.insert(piece);
    }

    /// Takes over a result: once for each piece, however often it comes.
    pub(super) fn counted(&mut self, worker: W, piece: u32, words: &Counts) {
        let share = self.shares.entry(worker).or_default();
        share.in_hand.remove(&piece);
        if self.counted.insert(piece) {
            share.pieces += 1;
            share.words += total(words);
            add(&mut self.words, words, 1);
        } else {
            self.twice += 1;
        }
    }

    /// What a worker has begun and not reported.
    pub(super) fn in_hand(&self, worker: W) -> BTreeSet<u32> {
        self.shares.get(&worker).map(|share| share.in_hand.clone()).unwrap_or_default()
    }

    /// What a worker has done; of what it has begun, only what nobody has counted.
    pub(super) fn share(&self, worker: W) -> Share {
        let mut share = self.shares.get(&worker).cloned().unwrap_or_default();
        share.in_hand.retain(|piece| !self.counted.contains(piece));
        share
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
        let shares = ['a', 'b'].map(|worker| tally.share(worker)).map(|share| (share.pieces, share.words));
        assert_eq!(shares, [(1, 3), (1, 4)]);
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
        tally.counted('b', 2, &words(1));
        assert_eq!(tally.in_hand('a'), [2].into());
        assert!(tally.share('a').in_hand.is_empty(), "another one has counted it");
    }

    #[test]
    fn numbers_that_follow_each_other_are_a_range() {
        let text = |numbers: &[u32]| ranges(&numbers.iter().copied().collect());
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[4, 1, 2, 3, 9, 8, 6]), "1-4 6 8 9");
    }
}
