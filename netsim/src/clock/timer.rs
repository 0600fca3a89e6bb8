//! A timer, exact to the nanosecond.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Clock, Ticket};

/// Wakes its task at a time that can be set anew.
pub(crate) struct Timer {
    clock: Arc<Clock>,
    at: Duration,
    /// Who is to be woken; `None` until it is polled.
    waiting: Option<(Waker, Ticket)>,
}

impl Timer {
    /// Fires at this time since the start of the run.
    pub(crate) fn new(clock: Arc<Clock>, at: Duration) -> Self {
        Self { clock, at, waiting: None }
    }

    /// Fires at this time instead, and wakes who was to be woken.
    pub(crate) fn reset(&mut self, at: Duration) {
        if self.at == at {
            return;
        }
        self.at = at;
        if let Some((waker, ticket)) = self.waiting.take() {
            self.clock.cancel(ticket);
            self.wait(waker);
        }
    }

    /// Ready from its time on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.at <= self.clock.now() {
            self.forget();
            return Poll::Ready(());
        }
        if !self.waiting.as_ref().is_some_and(|(waker, _)| waker.will_wake(cx.waker())) {
            self.forget();
            self.wait(cx.waker().clone());
        }
        Poll::Pending
    }

    fn wait(&mut self, waker: Waker) {
        let ticket = self.clock.at_wake(self.at, waker.clone());
        self.waiting = Some((waker, ticket));
    }

    fn forget(&mut self) {
        if let Some((_, ticket)) = self.waiting.take() {
            self.clock.cancel(ticket);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.forget();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("at", &self.at).finish_non_exhaustive()
    }
}
