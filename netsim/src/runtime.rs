//! What runs on a host, and what ends with it: tasks and timers of one life of a host, as quinn wants them.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use tokio::task::JoinHandle;

use crate::clock::{HostClock, Timer};
use crate::network::{Life, Network};
use crate::tasks::Tasks;

/// The tasks of one life of a host. Every task that is started here ends when the host crashes.
#[derive(Clone)]
pub(crate) struct HostRuntime {
    network: Arc<Network>,
    life: Life,
    tasks: Arc<Tasks>,
    clock: Arc<HostClock>,
}

impl HostRuntime {
    pub(crate) fn new(network: Arc<Network>, life: Life, tasks: Arc<Tasks>, clock: Arc<HostClock>) -> Self {
        Self { network, life, tasks, clock }
    }

    /// Runs a future until it ends or its life does. In a life that is over, it never starts.
    pub(crate) fn start<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let (tasks, witness) = (self.tasks.clone(), Tasks::witness(&self.tasks));
        let held = async move {
            let _witness = witness;
            let mut future = pin!(future);
            let mut queued = None;
            poll_fn(|cx| {
                ready!(tasks.poll_running(cx, &mut queued));
                future.as_mut().poll(cx)
            })
            .await
        };
        let task = tokio::spawn(self.tasks.subject().task(held));
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
        let (clock, at) = (self.clock.clone(), self.clock.since_start(at));
        Box::pin(HostTimer { timer: Timer::new(clock.clock().clone(), clock.when(at)), at, clock })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(self.start(future));
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a simulated host has no sockets of the operating system"))
    }

    fn now(&self) -> Instant {
        self.clock.instant()
    }
}

impl fmt::Debug for HostRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostRuntime").field("life", &self.life).finish_non_exhaustive()
    }
}

struct HostTimer {
    timer: Timer,
    /// When it fires, by the host's clock.
    at: Duration,
    clock: Arc<HostClock>,
}

impl AsyncTimer for HostTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.at = self.clock.since_start(at);
        let when = self.clock.when(self.at);
        self.timer.reset(when);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.poll(cx));
            if self.clock.now() >= self.at {
                return Poll::Ready(());
            }
            // The clock has become slower since it was set.
            let when = self.clock.when(self.at);
            self.timer.reset(when);
        }
    }
}

impl fmt::Debug for HostTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timer.fmt(f)
    }
}
