//! Answers to deliveries that came over a lane that is over: kept until their pusher has a lane again.

use std::collections::{BTreeMap, VecDeque};

use crate::id::NodeId;
use crate::pattern::batch::State;

/// Answers that wait for their pusher to come back; the oldest are forgotten, as their messages go out again anyway.
const LATE: usize = 65_536;

/// The answer to a delivery that came over a lane that is over.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) sequence: u64,
    pub(super) attempt: u32,
    pub(super) state: State,
    pub(super) reason: Option<String>,
}

/// By the life of the pusher: one that never comes back costs the lanes of others nothing.
#[derive(Debug, Default)]
pub(super) struct LateAnswers {
    by_life: BTreeMap<(NodeId, u64), VecDeque<(u64, Late)>>,
    /// Whose they are, by their number: the oldest first.
    order: BTreeMap<u64, (NodeId, u64)>,
    next: u64,
}

impl LateAnswers {
    pub(super) fn push(&mut self, node: NodeId, epoch: u64, late: Late) {
        if self.order.len() == LATE
            && let Some((_, oldest)) = self.order.pop_first()
            && let Some(answers) = self.by_life.get_mut(&oldest)
        {
            answers.pop_front();
            if answers.is_empty() {
                self.by_life.remove(&oldest);
            }
        }
        self.by_life.entry((node, epoch)).or_default().push_back((self.next, late));
        self.order.insert(self.next, (node, epoch));
        self.next += 1;
    }

    /// All that is for this life of a pusher, the oldest first.
    pub(super) fn take(&mut self, node: NodeId, epoch: u64) -> impl Iterator<Item = Late> + use<> {
        let taken = self.by_life.remove(&(node, epoch)).unwrap_or_default();
        for (number, _) in &taken {
            self.order.remove(number);
        }
        taken.into_iter().map(|(_, late)| late)
    }
}
