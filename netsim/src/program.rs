//! What a host does when it is on: a program that starts with each of its lives.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::host::Host;
use crate::suite::Outcome;

/// A host's program, if it has one.
pub(crate) struct Program {
    main: Mutex<Option<Main>>,
    /// How many times as long its work takes.
    slowness: AtomicU32,
}

impl Default for Program {
    fn default() -> Self {
        Self { main: Mutex::default(), slowness: AtomicU32::new(1) }
    }
}

/// Makes the program's task of one life.
type Main = Arc<dyn Fn(Host) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

impl Host {
    /// Gives the host a program, which is started now and again at every [`restart`](Self::restart). It has the host to
    /// itself from the first line: whatever it keeps is gone with the next crash.
    ///
    /// A program may end, and may return an error, which fails the run. Another program takes the place of this one from
    /// the next restart on.
    ///
    /// ```
    /// use netsim::{Sim, Units};
    ///
    /// Sim::run(7, async |sim: Sim| {
    ///     let host = sim.host("a");
    ///     host.run(|host| async move {
    ///         host.note("good morning");
    ///         std::future::pending::<()>().await
    ///     });
    ///     sim.run_for(1.s()).await;
    ///     host.crash();
    ///     host.restart();
    ///     sim.run_for(1.s()).await;
    ///     assert_eq!(sim.trace().log.iter().filter(|line| line.ends_with("a: good morning")).count(), 2);
    /// });
    /// ```
    pub fn run<T: Outcome, F: Future<Output = T> + Send + 'static>(
        &self,
        program: impl Fn(Self) -> F + Send + Sync + 'static,
    ) {
        let main: Main = Arc::new(move |host| {
            let life = program(host);
            Box::pin(async move { life.await.outcome() })
        });
        *self.program().main.lock().unwrap_or_else(PoisonError::into_inner) = Some(main);
        self.start_program();
    }

    /// Writes a line into the trace, with the host's name before it: see [`Sim::note`](crate::Sim::note).
    pub fn note(&self, text: impl AsRef<str>) {
        self.sim().note(format!("{}: {}", self.name(), text.as_ref()));
    }

    /// Is busy for so long, as a job keeps a computer busy that takes so long on one that is not
    /// [slow](Self::set_slowness).
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn work(&self, time: Duration) {
        self.sim().sleep(time * self.program().slowness.load(Ordering::Relaxed)).await;
    }

    /// From now on [`work`](Self::work) that begins takes so many times as long; gives what it was, which is 1 in the
    /// beginning.
    pub fn set_slowness(&self, times: u32) -> u32 {
        self.program().slowness.swap(times, Ordering::Relaxed)
    }

    /// Another life begins; on a host that is down nothing does.
    pub(crate) fn start_program(&self) {
        let main = self.program().main.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(main) = main else { return };
        let host = self.clone();
        drop(self.spawn(async move {
            let name = host.name().to_owned();
            let failures = host.sim().failures().clone();
            if let Err(error) = main(host).await {
                failures.add(format!("the program of host `{name}` has failed: {error}"));
            }
        }));
    }
}
