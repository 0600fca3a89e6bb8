//! The tasks of a host: they are ended together, held together, and asked together to end by themselves.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::task::AbortHandle;

use crate::watch::Subject;

/// The tasks of one host, of the life that it is in.
pub(crate) struct Tasks {
    subject: Subject,
    /// The number of the pause that it is in; 0 for none. An atomic, because each poll of each task asks for it.
    pause: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Vec<AbortHandle>,
    /// How many have not ended yet, and who waits for that.
    alive: usize,
    ended: Vec<Waker>,
    pauses: u64,
    /// Who would have run during the pause.
    held: Vec<Waker>,
    stopping: bool,
    /// Who waits to be asked to stop.
    asked: Vec<Waker>,
}

impl Tasks {
    pub(crate) fn new(subject: Subject) -> Self {
        Self { subject, pause: AtomicU64::new(0), state: Mutex::default() }
    }

    /// Ends all of them. Each is dropped at this instant, where it waits, without another word.
    pub(crate) fn abort(&self) {
        let (running, held) = {
            let mut state = self.lock();
            self.pause.store(0, Ordering::Relaxed);
            state.stopping = false;
            (std::mem::take(&mut state.running), std::mem::take(&mut state.held))
        };
        drop(held);
        for task in running {
            task.abort();
        }
        self.subject.crashed();
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// How many have not ended.
    pub(crate) fn count(&self) -> usize {
        self.lock().alive
    }

    pub(crate) fn add(&self, task: AbortHandle) {
        let mut state = self.lock();
        let running = &mut state.running;
        if running.len() == running.capacity() {
            running.retain(|task| !task.is_finished());
        }
        running.push(task);
    }

    /// Lives as long as its task.
    pub(crate) fn witness(tasks: &Arc<Self>) -> Witness {
        tasks.lock().alive += 1;
        Witness(tasks.clone())
    }

    /// No task goes on until [`Tasks::resume`]; false when that is so already.
    pub(crate) fn hold(&self) -> bool {
        let mut state = self.lock();
        if self.is_held() {
            return false;
        }
        state.pauses += 1;
        self.pause.store(state.pauses, Ordering::Relaxed);
        true
    }

    /// They go on, in the order in which they would have; false when they are not held.
    pub(crate) fn resume(&self) -> bool {
        let held = {
            let mut state = self.lock();
            if !self.is_held() {
                return false;
            }
            self.pause.store(0, Ordering::Relaxed);
            std::mem::take(&mut state.held)
        };
        held.into_iter().for_each(Waker::wake);
        true
    }

    pub(crate) fn is_held(&self) -> bool {
        self.pause.load(Ordering::Relaxed) != 0
    }

    /// Ready unless the tasks are held; woken when they go on. `queued`: the pause for which the task waits already.
    pub(crate) fn poll_running(&self, cx: &mut Context<'_>, queued: &mut Option<u64>) -> Poll<()> {
        let pause = self.pause.load(Ordering::Relaxed);
        if pause == 0 {
            return Poll::Ready(());
        }
        if queued.replace(pause) != Some(pause) {
            self.lock().held.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Asks the tasks to end.
    pub(crate) fn ask_to_stop(&self) {
        let asked = {
            let mut state = self.lock();
            state.stopping = true;
            std::mem::take(&mut state.asked)
        };
        asked.into_iter().for_each(Waker::wake);
    }

    /// Waits until the tasks are asked to end.
    pub(crate) async fn asked_to_stop(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.stopping {
                return Poll::Ready(());
            }
            wait(&mut state.asked, cx)
        })
        .await;
    }

    /// Waits until no task is left.
    pub(crate) async fn ended(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.alive == 0 {
                return Poll::Ready(());
            }
            wait(&mut state.ended, cx)
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait(waiting: &mut Vec<Waker>, cx: &Context<'_>) -> Poll<()> {
    if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
        waiting.push(cx.waker().clone());
    }
    Poll::Pending
}

/// Tells that a task has ended.
pub(crate) struct Witness(Arc<Tasks>);

impl Drop for Witness {
    fn drop(&mut self) {
        let Self(tasks) = self;
        let ended = {
            let mut state = tasks.lock();
            state.alive -= 1;
            if state.alive == 0 { std::mem::take(&mut state.ended) } else { Vec::new() }
        };
        ended.into_iter().for_each(Waker::wake);
    }
}
