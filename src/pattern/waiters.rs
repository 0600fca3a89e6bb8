//! Who waits for room or for a message: each waiting future has a place of its own, and leaves none behind when it is
//! dropped.
//!
//! The same task may wait in two futures, and two tasks may use one future in turn, so a waker alone does not say who.

use std::task::Waker;

/// The futures that wait for one thing. All are woken at a time: whoever comes first has it.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Vec<(u64, Waker)>,
    last: u64,
}

/// One future's place, if it has waited. Whoever drops it gives it back with [`Waiters::forget`] first.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<u64>);

impl Waiters {
    /// Wakes this task with the next ones.
    pub(crate) fn wait(&mut self, ticket: &mut Ticket, waker: &Waker) {
        let number = *ticket.0.get_or_insert_with(|| {
            self.last += 1;
            self.last
        });
        match self.waiting.iter_mut().find(|(known, _)| *known == number) {
            Some((_, known)) => known.clone_from(waker),
            None => self.waiting.push((number, waker.clone())),
        }
    }

    /// It does not wait any more.
    pub(crate) fn forget(&mut self, ticket: &mut Ticket) {
        if let Some(number) = ticket.0.take() {
            self.waiting.retain(|(known, _)| *known != number);
        }
    }

    /// All that wait, to be woken once no lock is held.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, waker)| waker)
    }

    pub(crate) fn count(&self) -> usize {
        self.waiting.len()
    }
}

impl Ticket {
    /// There may be something to forget.
    pub(crate) fn has_waited(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_future_has_one_place() {
        let (mut waiters, mut one, mut two) = (Waiters::default(), Ticket::default(), Ticket::default());
        // Both by the same task, and the first one twice.
        waiters.wait(&mut one, Waker::noop());
        waiters.wait(&mut one, Waker::noop());
        waiters.wait(&mut two, Waker::noop());
        assert_eq!(waiters.count(), 2);
        waiters.forget(&mut one);
        assert_eq!((waiters.count(), one.has_waited()), (1, false));
        assert_eq!(waiters.take().count(), 1, "the other one still waits");
        waiters.forget(&mut two);
        assert_eq!(waiters.count(), 0);
    }
}
