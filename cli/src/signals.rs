//! SIGINT and SIGTERM: the first one drains, the second one ends the process at once.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

/// How long what has begun may take to end after a signal.
const GRACE: Duration = Duration::from_secs(1);

/// How often the process was told to end. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Signals(watch::Receiver<u32>);

impl Signals {
    /// Takes over both signals from now on.
    pub(crate) fn install() -> io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (count, counted) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(counted))
    }

    /// Waits for the first signal: stop taking in, finish what is in hand.
    pub(crate) async fn stop(&self) {
        self.reached(1).await;
    }

    /// Waits for the second signal: whatever is still to be done is left.
    pub(crate) async fn give_up(&self) {
        self.reached(2).await;
    }

    /// The future's result; `None`: a signal has come, and the future has still not ended some time later.
    pub(crate) async fn unless_stuck<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            ready = future => Some(ready),
            () = async { self.stop().await; sleep(GRACE).await } => None,
        }
    }

    /// Whether the first signal has come.
    pub(crate) fn stopped(&self) -> bool {
        *self.0.borrow() > 0
    }

    async fn reached(&self, count: u32) {
        if self.0.clone().wait_for(|signals| *signals >= count).await.is_err() {
            // The runtime is ending, and with it whoever asks.
            std::future::pending().await
        }
    }
}
