//! What is going to happen, in order of time; and who is woken.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use super::{Event, Time};
use crate::pattern::push::lock;

/// Events by their times; what is due at one time happens in the order in which it was added.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: BinaryHeap<Reverse<(Time, Due)>>,
    next: u64,
    woken: Arc<Mutex<Vec<Event>>>,
}

/// An event, and its place among those of one time: by when it was due first, and when it was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    first: Time,
    nth: u64,
    pub(super) event: Event,
}

/// A task that waits: waking it has its event happen soon.
#[derive(Debug)]
struct Task {
    event: Event,
    /// It is woken already.
    woken: AtomicBool,
    list: Arc<Mutex<Vec<Event>>>,
}

/// The waker of one task, and whether it is awake.
#[derive(Debug)]
pub(super) struct Sleeper {
    task: Arc<Task>,
    pub(super) waker: Waker,
}

impl Queue {
    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.events.push(Reverse((time, Due { first: time, nth: self.next, event })));
        self.next += 1;
    }

    /// It can't happen yet. Nothing that was due after it overtakes it, however often that is said.
    pub(super) fn put_off(&mut self, until: Time, due: Due) {
        self.events.push(Reverse((until, due)));
    }

    pub(super) fn pop(&mut self) -> Option<(Time, Due)> {
        self.events.pop().map(|Reverse(next)| next)
    }

    pub(super) fn sleeper(&self, event: Event) -> Sleeper {
        let task = Arc::new(Task { event, woken: AtomicBool::new(false), list: self.woken.clone() });
        Sleeper { waker: task.clone().into(), task }
    }

    /// Whoever was woken since the last call.
    pub(super) fn take_woken(&mut self, into: &mut Vec<Event>) {
        into.append(&mut lock(&self.woken));
    }
}

impl Sleeper {
    /// Its event happens now: from here on it may be woken again.
    pub(super) fn runs(&self) {
        self.task.woken.store(false, Relaxed);
    }

    pub(super) fn wake(&self) {
        self.task.wake_by_ref();
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Relaxed) {
            lock(&self.list).push(self.event);
        }
    }
}
