//! What a scenario holds of its world: hosts, links, time, and the trace.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;

use crate::clock::Timer;
use crate::failures::Failures;
use crate::faults::Faults;
use crate::network::Network;
use crate::random;
use crate::run::{Builder, Run};
use crate::source;
use crate::trace::Trace;
use crate::watch::{Subject, Watch};

/// A scenario's hold on its simulated world; clones are the same world.
#[derive(Clone)]
pub struct Sim {
    seed: u64,
    network: Arc<Network>,
    failures: Arc<Failures>,
    watch: Arc<Watch>,
    /// How many faults were begun: each has chance of its own.
    faults: Arc<AtomicU64>,
    #[cfg(feature = "mesh")]
    board: Arc<crate::discovery::Board>,
}

impl Sim {
    /// The world of a run that is about to begin on this thread.
    pub(crate) fn new(seed: u64, network: Arc<Network>) -> Self {
        let failures = Arc::new(Failures::default());
        let watch = Arc::new(Watch::new(network.clock.clone(), failures.clone()));
        Self {
            seed,
            failures,
            watch,
            faults: Arc::default(),
            #[cfg(feature = "mesh")]
            board: Arc::new(crate::discovery::Board::new(network.clone(), seed)),
            network,
        }
    }

    /// Runs a scenario to its end, with the default settings.
    ///
    /// # Panics
    /// As [`Builder::run`].
    pub fn run<T: Send, F: Future<Output = T>>(seed: u64, scenario: impl FnOnce(Self) -> F + Send) -> Run<T> {
        Self::builder(seed).run(scenario)
    }

    /// Settings of a run.
    pub fn builder(seed: u64) -> Builder {
        Builder::new(seed)
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

    /// Lets the world go on for so long: [`Sim::sleep`], as a scenario says it.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn run_for(&self, time: Duration) {
        self.sleep(time).await;
    }

    /// Waits until `condition` is true, and gives the virtual time that this has taken. It is looked at once a virtual
    /// millisecond.
    ///
    /// # Panics
    /// It is not true within `limit`. The message names the line, and shows it where the source is at hand.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    #[track_caller]
    pub fn until(&self, limit: Duration, mut condition: impl FnMut() -> bool) -> impl Future<Output = Duration> {
        let (sim, place) = (self.clone(), Location::caller());
        async move {
            let began = sim.elapsed();
            loop {
                let taken = sim.elapsed() - began;
                if condition() {
                    return taken;
                }
                assert!(taken < limit, "not within {limit:?}: {}", source::at(place));
                sim.sleep(LOOKED_AT_EVERY.min(limit - taken)).await;
            }
        }
    }

    /// Holds this from now on until the end of the run: it is asked at every instant at which something happens, when
    /// nothing is left to do there. An error, or a panic, fails the run.
    ///
    /// ```should_panic
    /// use netsim::{Sim, Units};
    ///
    /// Sim::run(7, async |sim: Sim| {
    ///     let host = sim.host("a");
    ///     sim.always({
    ///         let host = host.clone();
    ///         move || if host.is_up() { Ok(()) } else { Err("it is down") }
    ///     });
    ///     sim.run_for(1.s()).await;
    ///     host.crash();
    ///     sim.run_for(1.s()).await;
    /// });
    /// ```
    pub fn always<E: Display>(&self, mut rule: impl FnMut() -> Result<(), E> + Send + 'static) {
        self.watch.always(Box::new(move || rule().map_err(|broken| broken.to_string())));
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

    /// What breaks by itself beside the scenario.
    pub fn faults(&self) -> Faults {
        Faults::new(self.clone())
    }

    /// Chance for one more fault.
    pub(crate) fn faults_stream(&self) -> ChaCha20Rng {
        let number = self.faults.fetch_add(1, Ordering::Relaxed);
        random::stream(self.seed, &format!("fault {number}"))
    }

    /// `event` happens at this time.
    pub(crate) fn at(&self, time: Duration, event: impl FnOnce() + Send + 'static) {
        self.network.clock.at(time, event);
    }

    /// Runs a future on no host, until it or the scenario ends.
    pub(crate) fn spawn_beside(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(self.subject("the scenario").task(future)));
    }

    pub(crate) fn network(&self) -> &Arc<Network> {
        &self.network
    }

    #[cfg(feature = "mesh")]
    pub(crate) fn board(&self) -> &Arc<crate::discovery::Board> {
        &self.board
    }

    pub(crate) fn failures(&self) -> &Arc<Failures> {
        &self.failures
    }

    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Whoever is watched in this run under this name.
    pub(crate) fn subject(&self, who: impl Into<Arc<str>>) -> Subject {
        Subject::new(self.watch.clone(), who)
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// How often a condition is looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(1);
