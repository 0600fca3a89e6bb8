//! A test over many seeds: several at a time, and what the first that fails says. `wanted` asks which ones.
//!
//! [`netsim::test`](macro@crate::test) makes a [`Test`] of a function; nothing else needs to.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write as _};
use std::future::Future;
use std::io::Write as _;
use std::num::NonZero;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::check::sometimes::{self, Visits};
use crate::run::{Builder, Failed, Run, trace_file};
use crate::same;
use crate::sim::Sim;
use crate::trace::{Hash, Trace};

mod wanted;

use wanted::Wanted;
pub use wanted::{fresh_seeds, seeds};

/// A test as [`netsim::test`](macro@crate::test) writes it down.
#[derive(Debug, Clone)]
#[doc(hidden)]
#[allow(clippy::exhaustive_structs)]
pub struct Test {
    pub seeds: Range<u64>,
    pub time_limit: Option<Duration>,
    /// Whether the first seed runs twice, to see that it is the same again.
    pub again: bool,
    /// What all runs together have to meet, as [`sometimes!`](crate::sometimes) marks it.
    pub meets: &'static [&'static str],
    /// Whether the scenario reads more of its log than the last lines.
    pub whole_log: bool,
    pub place: Place,
}

/// Where a test is, for the command that runs it alone.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
#[allow(clippy::exhaustive_structs)]
pub struct Place {
    pub package: &'static str,
    /// The target's crate, as the compiler calls it.
    pub crate_name: &'static str,
    pub module: &'static str,
    pub name: &'static str,
    pub file: &'static str,
    pub binary: Option<&'static str>,
    /// Whether it is a test target of its own, rather than part of a library or binary.
    pub integration: bool,
    pub release: bool,
}

impl Test {
    /// Runs the scenario over the seeds; the environment may want other ones.
    ///
    /// # Panics
    /// One of them fails. The message says all about the first.
    #[track_caller]
    pub fn run<T: Outcome, F: Future<Output = T> + 'static>(self, scenario: fn(Sim) -> F) {
        let wanted = Wanted::from_env(|name| std::env::var(name).ok()).unwrap_or_else(|wrong| panic!("{wrong}"));
        let trace_file = trace_file();
        let seeds = wanted.seeds(self.seeds.clone());
        wanted.tell(&self.place.path(), &seeds);
        let again = self.again && !matches!(wanted, Wanted::One(_));
        let run = |seed| {
            let builder = self.builder(seed, self.whole_log || trace_file.is_some());
            let outcome = builder.try_run_detached(move |sim| async move { scenario(sim).await.outcome() });
            let outcome = outcome.and_then(|run| flat(seed, run));
            let trace = outcome.as_ref().map_or_else(|failed| &*failed.trace, |run| &run.trace);
            if let Some(file) = &trace_file {
                write(file, trace);
            }
            outcome
        };
        let (first, mut results) = (seeds.start, Results::default());
        let jobs = if trace_file.is_some() { 1 } else { jobs() };
        results.gather(seeds.clone(), jobs, &run);
        if let Some(failed) = results.failed() {
            panic!("{}", self.place.report(failed, &seeds));
        }
        let hash = results.hash_of(first);
        let missed = results.visits.missing(self.meets.iter().copied());
        sometimes::add(results.visits);
        if !missed.is_empty() {
            let (path, missed) = (self.place.path(), missed.join("`, `"));
            let told = format!("{path}: none of the seeds {seeds:?} has met `{missed}`");
            assert!(!wanted.is_enough(&self.seeds), "{told}: what is promised for that was not tried");
            // Past the capture of a test's output, as which seeds they were.
            let _ = writeln!(std::io::stderr(), "netsim: {told}, which so few may not");
        }
        if again {
            let other = run(first).unwrap_or_else(|failed| panic!("{}", self.place.report(&failed, &seeds)));
            if hash != Some(other.trace.hash) {
                let run =
                    || self.builder(first, true).try_run_detached(move |sim| async move { drop(scenario(sim).await) });
                panic!(
                    "{}: {}",
                    self.place.path(),
                    same::difference(first, &same::trace_of(run()), &same::trace_of(run()))
                );
            }
        }
    }

    fn builder(&self, seed: u64, whole_log: bool) -> Builder {
        let mut builder = Sim::builder(seed);
        if let Some(limit) = self.time_limit {
            builder = builder.time_limit(limit);
        }
        if whole_log { builder.whole_log() } else { builder }
    }
}

/// What a scenario may return: nothing, or a result whose error is shown.
#[doc(hidden)]
pub trait Outcome: Send + 'static {
    fn outcome(self) -> Result<(), String>;
}

impl Outcome for () {
    fn outcome(self) -> Result<(), String> {
        Ok(())
    }
}

impl<T: Send + 'static, E: Debug + Send + 'static> Outcome for Result<T, E> {
    fn outcome(self) -> Result<(), String> {
        self.map(drop).map_err(|error| format!("{error:?}"))
    }
}

/// Of a program that never ends.
impl Outcome for Never {
    fn outcome(self) -> Result<(), String> {
        self
    }
}

/// The type `!`, which can be returned but not yet named on its own.
type Never = <fn() -> ! as Returns>::Value;

#[doc(hidden)]
pub trait Returns {
    type Value;
}

impl<T> Returns for fn() -> T {
    type Value = T;
}

/// A scenario that has returned an error has failed like one that has panicked.
fn flat(seed: u64, Run { value, trace }: Run<Result<(), String>>) -> Result<Run<()>, Failed> {
    match value {
        Ok(value) => Ok(Run { value, trace }),
        Err(message) => Err(Failed { seed, message, trace: Box::new(trace) }),
    }
}

/// How many runs go on at a time: one for each core.
fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// What has become of which seed.
#[derive(Default)]
struct Results {
    by_seed: BTreeMap<u64, Result<Hash, Failed>>,
    visits: Visits,
}

impl Results {
    /// Runs all seeds, in their order and several at a time; after the first failure no later one is begun.
    fn gather(&mut self, mut seeds: Range<u64>, jobs: usize, run: &(dyn Fn(u64) -> Result<Run<()>, Failed> + Sync)) {
        let state = Mutex::new((self, &mut seeds));
        let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
        let work = || {
            loop {
                let next = {
                    let mut state = lock();
                    if state.0.failed().is_some() { None } else { state.1.next() }
                };
                let Some(seed) = next else { break };
                let result = run(seed).map(|run| run.trace.hash);
                let mut state = lock();
                state.0.by_seed.insert(seed, result);
                state.0.visits.add(sometimes::take());
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs {
                scope.spawn(work);
            }
            work();
        });
    }

    fn failed(&self) -> Option<&Failed> {
        self.by_seed.values().find_map(|result| result.as_ref().err())
    }

    fn hash_of(&self, seed: u64) -> Option<Hash> {
        self.by_seed.get(&seed).and_then(|result| result.as_ref().ok()).copied()
    }
}

impl Place {
    /// The test's path, as `cargo test -- --exact` takes it.
    fn path(&self) -> String {
        match self.module.split_once("::") {
            Some((_, inner)) => format!("{inner}::{}", self.name),
            None => self.name.to_owned(),
        }
    }

    /// The command that runs one seed again.
    fn command(&self, seed: u64) -> String {
        let path = self.path();
        let trace = std::env::temp_dir().join(format!("{}-{seed}.trace", path.replace("::", ".")));
        let target = match (self.integration, self.binary) {
            (true, _) => format!("--test {}", self.target()),
            (false, Some(binary)) => format!("--bin {binary}"),
            (false, None) => "--lib".to_owned(),
        };
        let release = if self.release { "--release " } else { "" };
        format!(
            "NETSIM_SEED={seed} NETSIM_TRACE={} cargo test {release}-p {} {target} -- --exact {path}",
            quoted(&trace),
            self.package
        )
    }

    /// The name of a test target: the compiler writes `_` for its `-`, so it is read off the path of the file.
    fn target(&self) -> String {
        let same = |name: &str| name.replace('-', "_") == self.crate_name;
        let parts = Path::new(self.file).iter().filter_map(|part| part.to_str());
        let mut names = parts.map(|part| part.strip_suffix(".rs").unwrap_or(part));
        names.rfind(|name| same(name)).unwrap_or(self.crate_name).to_owned()
    }

    fn report(&self, failed: &Failed, seeds: &Range<u64>) -> String {
        let mut text = format!("{}: {failed}\n", self.path());
        let passed = failed.seed - seeds.start;
        if passed > 0 {
            let _ = writeln!(text, "(the seeds {}..{} have passed)", seeds.start, failed.seed);
        }
        let log = &failed.trace.log;
        let shown = &log[log.len().saturating_sub(SHOWN)..];
        let _ = writeln!(text, "\nthe end of its trace, {}:", failed.trace.hash);
        for line in shown {
            let _ = writeln!(text, "  {line}");
        }
        if shown.is_empty() {
            let _ = writeln!(text, "  (nothing was sent and nothing noted)");
        }
        let _ = write!(text, "\nagain, with the whole trace in a file:\n  {}\n", self.command(failed.seed));
        text
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> impl fmt::Display {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn write(file: &PathBuf, trace: &Trace) {
    let text = trace.log.iter().fold(String::new(), |text, line| text + line + "\n");
    let lines = trace.log.len();
    match std::fs::write(file, text) {
        // Past the capture of a test's output: it is what was asked for.
        Ok(()) => drop(writeln!(std::io::stderr(), "netsim: {lines} lines of trace are in {}", file.display())),
        Err(error) => panic!("the trace can't be written to {} (NETSIM_TRACE): {error}", file.display()),
    }
}

/// Lines of a failed run's trace that are shown at once.
const SHOWN: usize = 24;

#[cfg(test)]
mod tests;
