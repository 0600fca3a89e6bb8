//! A command for each message, so many at a time: what begins, what ends, and what becomes of the rest.

use tokio::task::JoinSet;

use crate::exit::Exit;
use crate::output::{Say, counted};
use crate::waiting::{Waited, Waiting};

/// Where messages come from, and what is done for each.
pub(crate) struct Jobs<Next, Begin, Progress, Wanted, Close> {
    pub(crate) at_a_time: usize,
    /// Stop once so many are done.
    pub(crate) count: Option<u64>,
    /// Waits for the next message.
    pub(crate) next: Next,
    /// Does what is to be done for one; says whether that counts.
    pub(crate) begin: Begin,
    /// How many have come.
    pub(crate) progress: Progress,
    /// What is waited for.
    pub(crate) wanted: Wanted,
    /// No more are wanted.
    pub(crate) close: Close,
}

impl<Next, Begin, Progress, Wanted, Close> Jobs<Next, Begin, Progress, Wanted, Close> {
    /// Until enough are done, or a signal comes; then waits for those that have begun.
    pub(crate) async fn run<D, F>(self, waiting: &mut Waiting<'_>, say: Say) -> anyhow::Result<Exit>
    where
        Next: AsyncFn() -> anyhow::Result<D>,
        Begin: Fn(D) -> F,
        F: Future<Output = bool> + Send + 'static,
        Progress: Fn() -> u64,
        Wanted: Fn() -> String,
        Close: Fn(),
    {
        let signals = waiting.signals();
        let mut running = JoinSet::new();
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 && !signals.stopped() {
            // While a command runs, it is not the mesh that we wait for.
            let idle = running.is_empty();
            let room = running.len() < self.at_a_time && (running.len() as u64) < left;
            let next = async {
                tokio::select! {
                    biased;
                    Some(ended) = running.join_next() => Step::Ended(ended),
                    message = (self.next)(), if room => Step::Message(message),
                }
            };
            let progress = || idle.then(&self.progress);
            match waiting.on(next, progress, &self.wanted).await {
                Waited::Ready(Step::Ended(counts)) => left -= u64::from(counts?),
                Waited::Ready(Step::Message(message)) => drop(running.spawn((self.begin)(message?))),
                Waited::Stopped => break,
                Waited::TimedOut => return Err(waiting.timed_out(&(self.wanted)())),
            }
        }
        (self.close)();
        if !running.is_empty() {
            let commands = counted(running.len() as u64, "command");
            say.note(format_args!("waiting for {commands} to end; interrupt again to end at once"));
        }
        while running.join_next().await.is_some() {}
        Ok(if left > 0 { Exit::Interrupted } else { Exit::Ok })
    }
}

enum Step<D, E> {
    Message(D),
    Ended(E),
}
