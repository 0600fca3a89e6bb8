//! What runs on a host, and what ends with it: tasks and timers of one life of a host, as quinn wants them.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use tokio::task::{AbortHandle, JoinHandle};

use crate::clock::{Clock, Timer};
use crate::network::{Life, Network};
use crate::watch::Subject;

/// The tasks of one life of a host. Every task that is started here ends when the host crashes.
#[derive(Clone)]
pub(crate) struct HostRuntime {
    network: Arc<Network>,
    life: Life,
    tasks: Arc<Tasks>,
}

/// The tasks of one host, of the life that it is in.
pub(crate) struct Tasks {
    subject: Subject,
    running: Mutex<Vec<AbortHandle>>,
}

impl HostRuntime {
    pub(crate) fn new(network: Arc<Network>, life: Life, tasks: Arc<Tasks>) -> Self {
        Self { network, life, tasks }
    }

    /// Runs a future until it ends or its life does. In a life that is over, it never starts.
    pub(crate) fn start<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let task = tokio::spawn(self.tasks.subject.task(future));
        if self.network.is_up(self.life) {
            self.tasks.add(task.abort_handle());
        } else {
            task.abort();
        }
        task
    }
}

impl Runtime for HostRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        let clock = self.network.clock.clone();
        let at = clock.since_start(at);
        Box::pin(HostTimer { timer: Timer::new(clock.clone(), at), clock })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(self.start(future));
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a simulated host has no sockets of the operating system"))
    }

    fn now(&self) -> Instant {
        self.network.clock.instant()
    }
}

impl fmt::Debug for HostRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostRuntime").field("life", &self.life).finish_non_exhaustive()
    }
}

impl Tasks {
    pub(crate) fn new(subject: Subject) -> Self {
        Self { subject, running: Mutex::default() }
    }

    /// Ends all of them. Each is dropped at this instant, where it waits, without another word.
    pub(crate) fn abort(&self) {
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for task in running {
            task.abort();
        }
        self.subject.crashed();
    }

    /// How many have not ended.
    pub(crate) fn count(&self) -> usize {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter(|task| !task.is_finished()).count()
    }

    fn add(&self, task: AbortHandle) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.len() == running.capacity() {
            running.retain(|task| !task.is_finished());
        }
        running.push(task);
    }
}

struct HostTimer {
    timer: Timer,
    clock: Arc<Clock>,
}

impl AsyncTimer for HostTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        let at = self.clock.since_start(at);
        self.timer.reset(at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(cx)
    }
}

impl fmt::Debug for HostTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timer.fmt(f)
    }
}
