//! What a subscriber has coming, kept a second time and in the plainest way.

use std::collections::BTreeMap;

/// A message: its number, and what it was published under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) number: u64,
    pub(super) topic: String,
}

/// What a publisher retains.
#[derive(Debug, Default)]
pub(super) struct Retains {
    last: usize,
    bound: usize,
    messages: Vec<Published>,
}

impl Retains {
    pub(super) fn new(last: usize, bound: usize) -> Self {
        Self { last, bound, messages: Vec::new() }
    }

    pub(super) fn keep(&mut self, message: Published) {
        if self.last == 0 {
            return;
        }
        let topic = message.topic.clone();
        self.messages.push(message);
        let of_topic = self.messages.iter().filter(|kept| kept.topic == topic).count();
        if of_topic > self.last {
            let oldest = self.messages.iter().position(|kept| kept.topic == topic).expect("there are some");
            self.messages.remove(oldest);
        }
        if self.messages.len() > self.bound {
            self.messages.remove(0);
        }
    }

    /// What patterns bring that were not there before, in order.
    pub(super) fn brought(&self, before: &[String], after: &[String]) -> Vec<u64> {
        let added: Vec<_> = after.iter().filter(|pattern| !before.contains(pattern)).collect();
        let wanted = |topic: &str| added.iter().any(|pattern| wants(pattern, topic)) && !any(before, topic);
        self.messages.iter().filter(|kept| wanted(&kept.topic)).map(|kept| kept.number).collect()
    }
}

/// What one subscriber had coming from one publisher, since it was first seen there: by position.
#[derive(Debug, Default)]
pub(super) struct Coming {
    pub(super) stream: u64,
    pub(super) patterns: Vec<String>,
    pub(super) numbers: Vec<u64>,
}

/// What a subscriber was handed of one publisher.
#[derive(Debug)]
pub(super) struct Handed {
    /// Which of the publisher's views of it this may be: retained messages alone may be the same in several.
    pub(super) views: Vec<usize>,
    /// Later ones begin here.
    pub(super) later: usize,
    /// The next position.
    pub(super) next: u64,
    /// So many were said to be missing behind it, and whether that is all.
    pub(super) missing: u64,
    pub(super) exact: bool,
    /// The last message of each topic.
    pub(super) last: BTreeMap<String, u64>,
}

impl Default for Handed {
    fn default() -> Self {
        Self { views: vec![0], later: 1, next: 0, missing: 0, exact: true, last: BTreeMap::new() }
    }
}

impl Handed {
    /// The next message, at this position.
    pub(super) fn take(&mut self, views: &[Coming], position: u64, number: u64) -> Result<(), String> {
        let (missing, exact) = (std::mem::take(&mut self.missing), std::mem::replace(&mut self.exact, true));
        if exact {
            let due = self.next + missing;
            if position != due {
                return Err(format!(
                    "a message at position {position}, where {due} is due behind {missing} missing ones"
                ));
            }
        } else {
            // The publisher had forgotten it: one of the later views.
            if position > missing {
                return Err(format!("{position} messages before the first one, and {missing} said to be missing"));
            }
            self.views = (self.later..views.len()).collect();
            self.last.clear();
        }
        let due = |view: &usize| views.get(*view).and_then(|coming| coming.numbers.get(position as usize).copied());
        let were: Vec<_> = self.views.iter().map(due).collect();
        self.views.retain(|view| due(view) == Some(number));
        if self.views.is_empty() {
            return Err(format!("message {number} at position {position}, where {were:?} is due"));
        }
        self.later = self.views[0] + 1;
        self.next = position + 1;
        Ok(())
    }
}

pub(super) fn any(patterns: &[String], topic: &str) -> bool {
    patterns.iter().any(|pattern| wants(pattern, topic))
}

/// Whether a pattern matches, as the documentation says it.
fn wants(pattern: &str, topic: &str) -> bool {
    fn parts(pattern: &[&str], topic: &[&str]) -> bool {
        match (pattern, topic) {
            ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, topic @ ..]) => parts(pattern, topic),
            ([part, pattern @ ..], [same, topic @ ..]) if part == same => parts(pattern, topic),
            ([], []) => true,
            _ => false,
        }
    }
    parts(&pattern.split('.').collect::<Vec<_>>(), &topic.split('.').collect::<Vec<_>>())
}
