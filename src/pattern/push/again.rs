//! A run of messages that went out again: which of them are unanswered?

use super::dispatch::AGAIN_RUN;
use crate::pattern::segment::next_clear;

/// Messages in `returned`, by their places on a lane.
#[derive(Debug)]
pub(super) struct Again {
    sequences: Box<[u64]>,
    /// A bit for each that is answered, or was settled from elsewhere.
    answered: [u64; AGAIN_RUN / 64],
    pub(super) left: u32,
}

impl Again {
    /// At most [`AGAIN_RUN`] of them.
    pub(super) fn new(sequences: Vec<u64>) -> Self {
        let left = sequences.len() as u32;
        Self { sequences: sequences.into(), answered: [0; AGAIN_RUN / 64], left }
    }

    pub(super) fn sequences(&self) -> &[u64] {
        &self.sequences
    }

    /// This one needs no further answer: its sequence, unless that was so before.
    pub(super) fn answer(&mut self, index: usize) -> Option<u64> {
        let (word, bit) = (&mut self.answered[index / 64], 1 << (index % 64));
        if *word & bit != 0 {
            return None;
        }
        *word |= bit;
        self.left -= 1;
        Some(self.sequences[index])
    }

    /// The first unanswered index from this one on.
    pub(super) fn next_unanswered(&self, from: u32) -> Option<u32> {
        next_clear(&self.answered, from, self.sequences.len() as u32)
    }
}
