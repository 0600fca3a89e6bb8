//! The world of a model: time stands still unless somebody moves it, and a task waits to be taken by the node's thread.
//!
//! No timer fires by itself, so that what one would mend is broken. A model can have those fire that are due.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Locks of the ordinary kind: none of this is what the models are about.
#[derive(Clone)]
pub(crate) struct Env(Arc<Mutex<World>>);

struct World {
    now: Instant,
    spawned: Vec<Task>,
    /// Timers that are due by this time have fired.
    rung: Instant,
    /// Whoever waits for one.
    waiting: Vec<Waker>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(World { now, spawned: Vec::new(), rung: now, waiting: Vec::new() })))
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.lock().expect("no panic").now
    }

    pub(crate) fn about_now(&self) -> Instant {
        self.now()
    }

    /// It is this late by now.
    pub(crate) fn pass(&self, until: Instant) {
        let mut world = self.0.lock().expect("no panic");
        world.now = world.now.max(until);
    }

    pub(crate) fn after(&self, time: Duration) -> Instant {
        self.now() + time
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.lock().expect("no panic").spawned.push(Box::pin(future));
    }

    pub(crate) fn spawned(&self) -> Vec<Task> {
        std::mem::take(&mut self.0.lock().expect("no panic").spawned)
    }

    pub(crate) fn random_u64(&self) -> io::Result<u64> {
        Ok(28)
    }

    /// It is this late, and the timers that are due fire.
    pub(crate) fn ring(&self, until: Instant) {
        self.pass(until);
        let waiting = {
            let mut world = self.0.lock().expect("no panic");
            world.rung = world.rung.max(until);
            std::mem::take(&mut world.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn timer(&self) -> Timer {
        Timer { env: self.clone(), at: None }
    }
}

pub(crate) struct Timer {
    env: Env,
    at: Option<Instant>,
}

impl Timer {
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        self.at = at;
    }

    pub(crate) fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let mut world = self.env.0.lock().expect("no panic");
        if at > world.rung {
            world.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        self.at = None;
        Poll::Ready(())
    }

    pub(crate) async fn fired(&mut self) {
        std::future::poll_fn(|cx| self.poll_fired(cx)).await;
    }
}
