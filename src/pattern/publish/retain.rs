//! The last messages of each topic, for whoever subscribes later.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::press::{Printed, print_alone};
use crate::message::NewMessage;
use crate::pattern::push::Amount;
use crate::pattern::topics::{Topics, beginning, is_match};

/// So many patterns are each looked up; of more, each topic is held against all at once.
const FEW_PATTERNS: usize = 8;

#[derive(Debug)]
pub(super) struct Retained {
    /// Of each topic.
    last: usize,
    bound: Amount,
    used: Amount,
    /// The numbers of each topic's messages, in order.
    topics: BTreeMap<Box<str>, VecDeque<u64>>,
    /// In the order in which they were published.
    messages: BTreeMap<u64, Kept>,
    next: u64,
    /// Made room for newer ones of other topics.
    pub(super) evicted: u64,
}

/// A retained message, in an allocation of its own, as it may stay for long.
#[derive(Debug)]
struct Kept {
    topic: Box<str>,
    head: Bytes,
    body: Option<Bytes>,
    size: usize,
    /// Of the body alone.
    length: usize,
}

impl Retained {
    pub(super) fn new(last: usize, bound: Amount) -> Self {
        Self {
            last,
            bound,
            used: Amount::default(),
            topics: BTreeMap::new(),
            messages: BTreeMap::new(),
            next: 0,
            evicted: 0,
        }
    }

    /// Anything is to be retained at all.
    pub(super) fn wants(&self) -> bool {
        self.last > 0
    }

    pub(super) fn used(&self) -> Amount {
        self.used
    }

    pub(super) fn keep(&mut self, topic: &str, message: &NewMessage, size: usize) {
        let Printed::Own { head, body } = print_alone(topic, message) else { return };
        let number = self.next;
        self.next += 1;
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.into(), VecDeque::new());
        }
        let numbers = self.topics.get_mut(topic).expect("just made");
        numbers.push_back(number);
        let over = if numbers.len() > self.last { numbers.pop_front() } else { None };
        self.messages.insert(number, Kept { topic: topic.into(), head, body, size, length: message.body().len() });
        self.used.add(1, size as u64);
        if let Some(kept) = over.and_then(|over| self.messages.remove(&over)) {
            self.used.take(1, kept.size as u64);
        }
        while self.used.messages > self.bound.messages || self.used.bytes > self.bound.bytes {
            let Some((_, kept)) = self.messages.pop_first() else { break };
            self.used.take(1, kept.size as u64);
            self.evicted += 1;
            // The oldest of all is the oldest of its topic.
            if let Some(numbers) = self.topics.get_mut(&kept.topic) {
                numbers.pop_front();
                if numbers.is_empty() {
                    self.topics.remove(&kept.topic);
                }
            }
        }
    }

    /// The numbers of those that match one of the patterns, in the order in which they were published.
    pub(super) fn find<'a>(&self, patterns: impl ExactSizeIterator<Item = &'a str>) -> Vec<u64> {
        let mut found = Vec::new();
        if self.topics.is_empty() {
            return found;
        }
        if patterns.len() <= FEW_PATTERNS {
            for pattern in patterns {
                let begins = beginning(pattern);
                let range = (Bound::Included(begins), Bound::Unbounded);
                let topics = self.topics.range::<str, _>(range).take_while(|(topic, _)| topic.starts_with(begins));
                found.extend(topics.filter(|(topic, _)| is_match(pattern, topic)).flat_map(|(_, numbers)| numbers));
            }
        } else {
            let mut wanted = Topics::default();
            patterns.for_each(|pattern| {
                wanted.add(pattern, 0);
            });
            for (topic, numbers) in &self.topics {
                let mut matches = false;
                wanted.matches(topic, |_| matches = true);
                if matches {
                    found.extend(numbers);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Its topic, bytes, size, and the length of its body.
    pub(super) fn message(&self, number: u64) -> Option<(&str, Printed, usize, usize)> {
        let Kept { topic, head, body, size, length } = self.messages.get(&number)?;
        Some((topic, Printed::Own { head: head.clone(), body: body.clone() }, *size, *length))
    }
}
