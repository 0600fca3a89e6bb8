//! What has gone wrong where the scenario does not see it: in a task of a host, on a clock, in front of a watchdog.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// The first failure ends the run; those that follow from it are not told.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    first: Option<String>,
    /// The scenario, which is to end.
    waiting: Option<Waker>,
}

impl Failures {
    pub(crate) fn add(&self, failure: String) {
        let waker = {
            let mut state = self.lock();
            state.first.get_or_insert(failure);
            state.waiting.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What the scenario returns, unless something goes wrong before that or at the same instant.
    pub(crate) async fn or<T>(&self, scenario: impl Future<Output = T>) -> Result<T, String> {
        let mut scenario = pin!(scenario);
        std::future::poll_fn(|cx| {
            if let Some(failure) = self.ask(cx.waker()) {
                return Poll::Ready(Err(failure));
            }
            let polled = scenario.as_mut().poll(cx);
            match self.lock().first.take() {
                Some(failure) => Poll::Ready(Err(failure)),
                None => polled.map(Ok),
            }
        })
        .await
    }

    fn ask(&self, waker: &Waker) -> Option<String> {
        let mut state = self.lock();
        let failure = state.first.take();
        state.waiting = Some(waker.clone());
        failure
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
