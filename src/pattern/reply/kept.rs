//! Answers to idempotent requests, kept for a while: who asks again, as the answer was lost with its lane, gets the same.

use std::collections::{BTreeMap, VecDeque};

use super::Answer;
use crate::id::NodeId;
use crate::wire::limits::{KEPT_ANSWERS, KEPT_BYTES};

/// Names a request for ever: the socket that asks, and its number there. Nobody can name one of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) node: NodeId,
    pub(super) epoch: u64,
    pub(super) id: u64,
}

/// The newest answers, bounded in number and bytes.
#[derive(Debug, Default)]
pub(super) struct Kept {
    answers: BTreeMap<Origin, Answer>,
    order: VecDeque<Origin>,
    bytes: usize,
}

impl Kept {
    /// Keeps an answer, and forgets the oldest ones for it. One that is larger than all that may be kept is not.
    pub(super) fn keep(&mut self, origin: Origin, answer: Answer) {
        let size = answer.size() as usize;
        if size > KEPT_BYTES || self.answers.contains_key(&origin) {
            return;
        }
        self.bytes += size;
        self.answers.insert(origin, answer);
        self.order.push_back(origin);
        while self.order.len() > KEPT_ANSWERS || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.answers.remove(&oldest).map_or(0, |answer| answer.size() as usize);
        }
    }

    pub(super) fn get(&self, origin: &Origin) -> Option<&Answer> {
        self.answers.get(origin)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::pattern::content::Content;

    fn origin(id: u64) -> Origin {
        Origin { node: NodeId::from_bytes([1; 32]), epoch: 1, id }
    }

    fn answer(size: usize) -> Answer {
        Answer::Reply(Content { headers: Bytes::new(), body: Bytes::from(vec![0; size]) })
    }

    #[test]
    fn the_first_answer_to_a_request_stays_and_counts_once() {
        let mut kept = Kept::default();
        kept.keep(origin(1), answer(2));
        kept.keep(origin(1), answer(3));
        assert_eq!(kept.get(&origin(1)), Some(&answer(2)));
        assert_eq!((kept.bytes, kept.order.len()), (2, 1));
    }

    #[test]
    fn the_newest_are_kept_within_their_number_and_bytes() {
        let mut kept = Kept::default();
        for id in 0..KEPT_ANSWERS as u64 + 3 {
            kept.keep(origin(id), answer(1));
        }
        assert!(kept.get(&origin(2)).is_none() && kept.get(&origin(3)).is_some());
        kept.keep(origin(9_000), answer(KEPT_BYTES));
        assert_eq!((kept.answers.len(), kept.bytes), (1, KEPT_BYTES));
        kept.keep(origin(9_001), answer(KEPT_BYTES + 1));
        assert!(kept.get(&origin(9_001)).is_none(), "too large to be kept");
        kept.keep(origin(9_002), answer(0));
        assert_eq!((kept.answers.len(), kept.order.len()), (2, 2));
    }
}
