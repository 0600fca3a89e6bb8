//! What a test waits for has come about in a turn of some task: after each of them it looks, and in between it is asleep.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use tokio::sync::watch;

use crate::env::BoxFuture;

thread_local! {
    /// A test and its nodes have one thread.
    static TURNS: watch::Sender<()> = watch::Sender::default();
}

/// Tells of each turn of what it runs.
pub(super) fn told_by(runtime: Arc<dyn Runtime>) -> Arc<dyn Runtime> {
    Arc::new(Told(runtime))
}

/// The turns from now on.
pub(super) fn turns() -> Turns {
    Turns(TURNS.with(watch::Sender::subscribe))
}

/// Waits until it holds.
pub(super) async fn until(condition: impl Fn() -> bool) {
    let mut turns = turns();
    while !condition() {
        turns.next().await;
    }
}

pub(super) struct Turns(watch::Receiver<()>);

impl Turns {
    /// A task has had a turn since the last call.
    pub(super) async fn next(&mut self) {
        self.0.changed().await.expect("the thread lives");
    }
}

struct Told(Arc<dyn Runtime>);

impl Runtime for Told {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.0.new_timer(at)
    }

    fn spawn(&self, future: BoxFuture<()>) {
        self.0.spawn(Box::pin(Task(Some(future))));
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.0.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        self.0.now()
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

/// What it holds is let go before its last turn is told.
struct Task(Option<BoxFuture<()>>);

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let turn = self.0.as_mut().map_or(Poll::Ready(()), |future| future.as_mut().poll(cx));
        if turn.is_ready() {
            self.0 = None;
        }
        TURNS.with(|turns| turns.send_replace(()));
        turn
    }
}
