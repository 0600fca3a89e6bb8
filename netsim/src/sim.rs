//! One run of one scenario: a fresh thread, a runtime whose clock is virtual, and what comes out.

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::clock::{Clock, Timer};
use crate::crypto;
use crate::network::Network;
use crate::trace::{Recorder, Trace};

/// A scenario's hold on its simulated world; clones are the same world.
#[derive(Clone)]
pub struct Sim {
    seed: u64,
    network: Arc<Network>,
    failures: Arc<Failures>,
    #[cfg(feature = "mesh")]
    board: Arc<crate::discovery::Board>,
}

/// How a scenario is run.
#[derive(Debug, Clone)]
pub struct Builder {
    seed: u64,
    time_limit: Duration,
    log_lines: usize,
}

/// What a run leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run<T> {
    /// What the scenario has returned.
    pub value: T,
    /// What has happened.
    pub trace: Trace,
}

/// The seeds that a test runs over: the first `count`, or only the one that the environment variable `NETSIM_SEED`
/// names, to try a fresh one or to see a failed one again.
///
/// # Panics
/// `NETSIM_SEED` is not a number.
pub fn seeds(count: u64) -> Range<u64> {
    match std::env::var("NETSIM_SEED") {
        Ok(text) => {
            let seed: u64 = text.parse().unwrap_or_else(|_| panic!("NETSIM_SEED is a number, not `{text}`"));
            seed..seed.checked_add(1).expect("NETSIM_SEED is not the largest number there is")
        }
        Err(_) => 0..count,
    }
}

impl Sim {
    /// Runs a scenario to its end, with the default settings.
    ///
    /// # Panics
    /// As [`Builder::run`].
    pub fn run<T: Send, F: Future<Output = T>>(seed: u64, scenario: impl FnOnce(Self) -> F + Send) -> Run<T> {
        Self::builder(seed).run(scenario)
    }

    /// Settings of a run.
    pub fn builder(seed: u64) -> Builder {
        Builder { seed, time_limit: TIME_LIMIT, log_lines: LOG_LINES }
    }

    /// What all chance of this run comes from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Virtual time since the start of the run.
    pub fn elapsed(&self) -> Duration {
        self.network.clock.now()
    }

    /// Waits for so long in virtual time, to the nanosecond. (tokio's own timers work too, to the millisecond.)
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn sleep(&self, time: Duration) {
        let mut timer = Timer::new(self.network.clock.clone(), self.elapsed() + time);
        std::future::poll_fn(|cx| timer.poll(cx)).await;
    }

    /// Writes a line into the trace, and so into its hash: what the code under test has done, so that two runs which
    /// only look alike on the wire are told apart.
    pub fn note(&self, text: impl Into<String>) {
        self.network.note(text.into());
    }

    /// What has happened up to now.
    pub fn trace(&self) -> Trace {
        self.network.trace()
    }

    pub(crate) fn network(&self) -> &Arc<Network> {
        &self.network
    }

    #[cfg(feature = "mesh")]
    pub(crate) fn board(&self) -> &Arc<crate::discovery::Board> {
        &self.board
    }

    pub(crate) fn failures(&self) -> Arc<Failures> {
        self.failures.clone()
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Builder {
    /// The longest that the scenario may take in virtual time, an hour by default. A scenario that waits for what
    /// never comes ends here.
    pub fn time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// Keeps the whole log instead of its last 64 lines: about 150 bytes a packet.
    pub fn whole_log(self) -> Self {
        Self { log_lines: usize::MAX, ..self }
    }

    /// Runs a scenario to its end, on a thread of its own: what that thread holds (hash keys, generators) is as fresh
    /// for the hundredth run as for the first. Tasks that are left when the scenario ends are dropped.
    ///
    /// # Panics
    /// The scenario panics, a task of a host does, or the time limit is reached. The seed and the end of the log are
    /// written to the standard error first.
    pub fn run<T: Send, F: Future<Output = T>>(self, scenario: impl FnOnce(Sim) -> F + Send) -> Run<T> {
        let subscriber = tracing::dispatcher::get_default(Clone::clone);
        let work = || tracing::dispatcher::with_default(&subscriber, || self.run_here(scenario));
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(format!("seed {}", self.seed)).spawn_scoped(scope, work);
            let thread = thread.expect("the operating system has a thread left");
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn run_here<T, F: Future<Output = T>>(&self, scenario: impl FnOnce(Sim) -> F) -> Run<T> {
        crypto::seed_this_thread(self.seed);
        let clock = Arc::new(Clock::new());
        let network = Arc::new(Network::new(clock.clone(), self.seed, Recorder::new(self.log_lines)));
        let sim = Sim {
            seed: self.seed,
            network: network.clone(),
            failures: Arc::default(),
            #[cfg(feature = "mesh")]
            board: Arc::new(crate::discovery::Board::new(network.clone(), self.seed)),
        };
        let _epilogue = Epilogue(sim.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_park({
                let clock = clock.clone();
                let network = network.clone();
                move || clock.on_idle(|flight| network.land(flight))
            })
            .build()
            .expect("a runtime without I/O needs nothing of the operating system");
        let value = runtime.block_on(async {
            clock.start();
            // What tasks say as they are dropped afterwards, they would not have said.
            let _over = Over(&clock);
            tokio::spawn({
                let clock = clock.clone();
                async move { clock.pace().await }
            });
            let (failures, limit) = (sim.failures(), self.time_limit);
            clock.at(limit, move || failures.add(format!("the scenario has not ended within {limit:?}")));
            sim.failures.or(scenario(sim.clone())).await
        });
        let trace = network.trace();
        drop(runtime);
        match value {
            Ok(value) => Run { value, trace },
            Err(failure) => panic!("{failure}"),
        }
    }
}

/// What has gone wrong where the scenario doesn't see it; the first ends the run.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<(Option<String>, Option<Waker>)>);

impl Failures {
    pub(crate) fn add(&self, failure: String) {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.0.get_or_insert(failure);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What the scenario returns, unless something goes wrong.
    async fn or<T>(&self, scenario: impl Future<Output = T>) -> Result<T, String> {
        let mut scenario = pin!(scenario);
        std::future::poll_fn(|cx| {
            {
                let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(failure) = state.0.take() {
                    return Poll::Ready(Err(failure));
                }
                state.1 = Some(cx.waker().clone());
            }
            scenario.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}

/// Stops the clock when the scenario has ended, whichever way.
struct Over<'a>(&'a Clock);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Says how to see a failed run again.
struct Epilogue(Sim);

impl Drop for Epilogue {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let trace = self.0.trace();
        for line in trace.log {
            eprintln!("  {line}");
        }
        let seed = self.0.seed;
        eprintln!("netsim: seed {seed} failed after {:?}, trace {}; again: NETSIM_SEED={seed}", trace.time, trace.hash);
    }
}

/// Virtual time that a scenario may take unless it says otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(3600);

/// Lines of the log that are kept unless all are: what fits on a screen.
const LOG_LINES: usize = 64;
