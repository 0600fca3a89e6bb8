//! The world of a model: time stands still unless somebody moves it, and a task waits to be taken by the node's thread.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Locks of the ordinary kind: none of this is what the models are about.
#[derive(Clone)]
pub(crate) struct Env(Arc<Mutex<World>>);

struct World {
    now: Instant,
    spawned: Vec<Task>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(World { now: Instant::now(), spawned: Vec::new() })))
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

    /// It never fires: what a timer would mend is broken.
    pub(crate) fn timer(&self) -> Timer {
        Timer
    }
}

pub(crate) struct Timer;

impl Timer {
    pub(crate) fn set(&mut self, _: Option<Instant>) {}

    pub(crate) fn poll_fired(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    pub(crate) async fn fired(&mut self) {
        std::future::pending().await
    }
}
