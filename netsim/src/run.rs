//! One run of one scenario: a fresh thread, a runtime whose clock is virtual, and what comes out.

use std::fmt;
use std::future::Future;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::check::sometimes::{self, Visits};
use crate::clock::Clock;
use crate::crypto;
use crate::network::Network;
use crate::sim::Sim;
use crate::trace::{Recorder, Trace};
use crate::watch::{Watch, text_of};

/// How a scenario is run.
#[derive(Debug, Clone)]
pub struct Builder {
    seed: u64,
    time_limit: Duration,
    stuck_after: Duration,
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

/// How a run ends, and what it has met.
type Ending<T> = (Result<Run<T>, Failed>, Visits);

/// What a run that has failed leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failed {
    /// The seed of the run.
    pub seed: u64,
    /// What has gone wrong: what a panic has said, or what the run has noticed by itself.
    pub message: String,
    /// What had happened until then.
    pub trace: Box<Trace>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} failed after {:?} of virtual time: {}", self.seed, self.trace.time, self.message)
    }
}

impl std::error::Error for Failed {}

impl Builder {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, time_limit: TIME_LIMIT, stuck_after: stuck_after(), log_lines: LOG_LINES }
    }

    /// The longest that the scenario may take in virtual time, an hour by default. A scenario that waits for what
    /// never comes ends here.
    pub fn time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// The longest, in real time, that one poll of a task may take, and that virtual time may stand still: 20 seconds, or
    /// what the environment variable `NETSIM_STUCK_AFTER` says, in seconds. What blocks its thread or spins without ever waiting is told then.
    pub fn stuck_after(self, real_time: Duration) -> Self {
        Self { stuck_after: real_time, ..self }
    }

    /// Keeps the whole log instead of its last 64 lines: about 150 bytes a packet.
    pub fn whole_log(self) -> Self {
        Self { log_lines: usize::MAX, ..self }
    }

    /// Runs a scenario to its end, on a thread of its own: what that thread holds (hash keys, generators) is as fresh
    /// for the hundredth run as for the first. Tasks that are left when the scenario ends are dropped.
    ///
    /// # Panics
    /// The run fails: the scenario panics, a task of a host does, the time limit is reached, or the code under test
    /// does what no simulation can show. The seed and the end of the log are written to the standard error first.
    ///
    /// Code that blocks the run's thread for good can't be stopped: then the whole process ends, with the trace so far.
    pub fn run<T: Send, F: Future<Output = T>>(self, scenario: impl FnOnce(Sim) -> F + Send) -> Run<T> {
        self.try_run(scenario).unwrap_or_else(|failed| {
            for line in &failed.trace.log {
                eprintln!("  {line}");
            }
            let Failed { seed, message, trace } = failed;
            eprintln!(
                "netsim: seed {seed} failed after {:?}, trace {}; again: NETSIM_SEED={seed}",
                trace.time, trace.hash
            );
            panic!("{message}")
        })
    }

    /// As [`run`](Self::run), and gives a failure to the caller.
    ///
    /// # Errors
    /// The run has failed.
    pub fn try_run<T: Send, F: Future<Output = T>>(
        self,
        scenario: impl FnOnce(Sim) -> F + Send,
    ) -> Result<Run<T>, Failed> {
        let world = Arc::new(OnceLock::new());
        std::thread::scope(|scope| {
            let (over, ending) = sync_channel(1);
            let work = self.work(world.clone(), over, scenario);
            self.thread().spawn_scoped(scope, work).expect("the operating system has a thread left");
            self.attend(&world, &ending).unwrap_or_else(|failed| {
                // The scenario may borrow from the caller, so nothing can go on without it. Written past the capture of
                // a test's output, which ends with the process.
                let mut err = std::io::stderr().lock();
                for line in &failed.trace.log {
                    let _ = writeln!(err, "  {line}");
                }
                let _ = writeln!(err, "netsim: {failed}\nnetsim: its thread can't be stopped: the process ends here");
                std::process::exit(STUCK)
            })
        })
    }

    /// As [`try_run`](Self::try_run), of a scenario that borrows nothing: where it blocks its thread for good, that
    /// thread is left to itself, and only this run fails.
    pub(crate) fn try_run_detached<T: Send + 'static, F: Future<Output = T> + 'static>(
        self,
        scenario: impl FnOnce(Sim) -> F + Send + 'static,
    ) -> Result<Run<T>, Failed> {
        let world = Arc::new(OnceLock::new());
        let (over, ending) = sync_channel(1);
        let work = self.work(world.clone(), over, scenario);
        self.thread().spawn(work).expect("the operating system has a thread left");
        self.attend(&world, &ending).unwrap_or_else(Err)
    }

    fn thread(&self) -> std::thread::Builder {
        std::thread::Builder::new().name(format!("seed {}", self.seed))
    }

    fn work<'a, T: Send + 'a, F: Future<Output = T> + 'a>(
        &self,
        world: Arc<OnceLock<Sim>>,
        over: SyncSender<Ending<T>>,
        scenario: impl FnOnce(Sim) -> F + Send + 'a,
    ) -> impl FnOnce() + Send + 'a {
        let this = self.clone();
        let subscriber = tracing::dispatcher::get_default(Clone::clone);
        move || {
            let outcome = tracing::dispatcher::with_default(&subscriber, || this.run_here(&world, scenario));
            // Nobody waits any more for a run that was stuck.
            let _ = over.send((outcome, sometimes::take()));
        }
    }

    /// Waits for the run, and looks whether it is stuck: then it has failed, and ends by itself if it still can. The
    /// outer error: it can't.
    fn attend<T>(&self, world: &OnceLock<Sim>, ending: &Receiver<Ending<T>>) -> Result<Result<Run<T>, Failed>, Failed> {
        let wait = self.stuck_after / 8;
        let (mut instants, mut moved) = (0, Instant::now());
        let (mut polls, mut polled) = (0, Instant::now());
        loop {
            match ending.recv_timeout(wait) {
                Ok((outcome, visits)) => {
                    sometimes::add(visits);
                    return Ok(outcome);
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("a run always has an outcome"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let Some(sim) = world.get() else { continue };
            let pulse = sim.watch().pulse();
            let now_instants = sim.watch().instants();
            if now_instants != instants {
                (instants, moved) = (now_instants, Instant::now());
            }
            if !pulse.in_poll || pulse.polls != polls {
                (polls, polled) = (pulse.polls, Instant::now());
            }
            let (who, in_poll) = (&pulse.who, polled.elapsed());
            let message = if in_poll >= self.stuck_after {
                format!(
                    "a task of {who} has run for {in_poll:.1?} of real time without waiting: it blocks its thread, or loops \
                     for ever; in a simulation only virtual time may pass"
                )
            } else if moved.elapsed() >= self.stuck_after {
                format!(
                    "virtual time has stood still for {:.1?} of real time: tasks wake each other and none waits for time \
                     or a packet; the last one to run was of {who}",
                    moved.elapsed()
                )
            } else {
                continue;
            };
            sim.failures().add(message.clone());
            return match ending.recv_timeout(self.stuck_after) {
                Ok((outcome, _)) => Ok(outcome),
                Err(_) => Err(Failed { seed: self.seed, message, trace: Box::new(sim.network().trace()) }),
            };
        }
    }

    fn run_here<T, F: Future<Output = T>>(
        &self,
        world: &OnceLock<Sim>,
        scenario: impl FnOnce(Sim) -> F,
    ) -> Result<Run<T>, Failed> {
        crypto::seed_this_thread(self.seed);
        let clock = Arc::new(Clock::new());
        let network = Arc::new(Network::new(clock.clone(), self.seed, Recorder::new(self.log_lines)));
        let sim = world.get_or_init(|| Sim::new(self.seed, network.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_park({
                let (clock, network, watch) = (clock.clone(), network.clone(), sim.watch().clone());
                move || {
                    if watch.idle() {
                        clock.on_idle(|flight| network.land(flight));
                    }
                }
            })
            .on_thread_unpark({
                let clock = clock.clone();
                move || clock.on_wake()
            })
            .build()
            .expect("a runtime without I/O needs nothing of the operating system");
        let body = runtime.block_on(async {
            clock.start();
            // What tasks say as they are dropped afterwards, they would not have said.
            let _over = Over(&clock, sim.watch());
            tokio::spawn({
                let clock = clock.clone();
                async move { clock.pace().await }
            });
            let (failures, limit) = (sim.failures().clone(), self.time_limit);
            clock.at(limit, move || failures.add(format!("the scenario has not ended within {limit:?}")));
            let scenario = async { catch_panic(async { scenario(sim.clone()).await }).await };
            sim.failures().or(sim.subject("the scenario").future(scenario)).await
        });
        let trace = network.trace();
        drop(runtime);
        match body {
            Ok(Ok(value)) => Ok(Run { value, trace }),
            Ok(Err(message)) | Err(message) => Err(Failed { seed: self.seed, message, trace: Box::new(trace) }),
        }
    }
}

/// The file that the environment variable `NETSIM_TRACE` names: the whole trace is wanted there.
pub(crate) fn trace_file() -> Option<PathBuf> {
    std::env::var_os("NETSIM_TRACE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn stuck_after() -> Duration {
    let Ok(text) = std::env::var("NETSIM_STUCK_AFTER") else { return STUCK_AFTER };
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|time| !time.is_zero()).unwrap_or_else(|| panic!("NETSIM_STUCK_AFTER is in seconds, not `{text}`"))
}

/// What a future returns, or what its panic says.
async fn catch_panic<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(text_of(&*panic))),
    })
    .await
}

/// Stops the clock when the scenario has ended, whichever way, and asks no rule any more.
struct Over<'a>(&'a Clock, &'a Watch);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.stop();
        self.1.over();
    }
}

/// Virtual time that a scenario may take unless it says otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(3600);

/// Real time that a poll may take, or an instant: long enough for a hundred nodes that start at once on a busy machine.
const STUCK_AFTER: Duration = Duration::from_secs(20);

/// Lines of the log that are kept unless all are: what fits on a screen.
const LOG_LINES: usize = 64;

/// How a process ends that a scenario has blocked: as a test program does that has failed.
const STUCK: i32 = 101;
