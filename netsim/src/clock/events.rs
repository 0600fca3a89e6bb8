//! What is going to happen, in order.

use std::collections::BTreeMap;
use std::time::Duration;

/// Things that are going to happen, by time; those of one instant in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Events<E> {
    /// Ordered, and not a heap: a timer that is set anew takes its old event out again.
    waiting: BTreeMap<Ticket, E>,
    added: u64,
}

/// An event's place in the order; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    at: Duration,
    order: u64,
}

impl<E> Events<E> {
    pub(crate) fn new() -> Self {
        Self { waiting: BTreeMap::new(), added: 0 }
    }

    /// `event` happens `at` this time.
    pub(crate) fn add(&mut self, at: Duration, event: E) -> Ticket {
        let ticket = Ticket { at, order: self.added };
        self.added += 1;
        self.waiting.insert(ticket, event);
        ticket
    }

    /// Takes an event out; `None` when it has happened.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<E> {
        self.waiting.remove(&ticket)
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.waiting.first_key_value().map(|(ticket, _)| ticket.at)
    }

    /// Takes out all that happens at the next instant that something happens at, if that is before `end`.
    pub(crate) fn next_before(&mut self, end: Duration) -> Option<(Duration, Vec<E>)> {
        let at = self.next_at().filter(|at| *at < end)?;
        let mut due = Vec::new();
        while self.next_at() == Some(at) {
            due.extend(self.waiting.pop_first().map(|(_, event)| event));
        }
        Some((at, due))
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self) -> BTreeMap<Ticket, E> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ns(n: u64) -> Duration {
        Duration::from_nanos(n)
    }

    #[test]
    fn one_instant_at_a_time_in_the_order_of_adding() {
        let mut events = Events::new();
        events.add(ns(5), 'c');
        events.add(ns(2), 'a');
        events.add(ns(5), 'd');
        events.add(ns(2), 'b');
        assert_eq!(events.next_before(ns(5)), Some((ns(2), vec!['a', 'b'])));
        assert_eq!(events.next_before(ns(5)), None);
        assert_eq!(events.next_before(ns(6)), Some((ns(5), vec!['c', 'd'])));
        assert_eq!(events.next_at(), None);
    }

    #[test]
    fn what_was_taken_out_does_not_happen() {
        let mut events = Events::new();
        let first = events.add(ns(1), 'a');
        events.add(ns(1), 'b');
        assert_eq!(events.remove(first), Some('a'));
        assert_eq!(events.remove(first), None);
        assert_eq!(events.next_before(ns(9)), Some((ns(1), vec!['b'])));
    }
}
