//! Is it the same again? Two runs of one seed, compared down to the first thing that differs.

use std::fmt::Write as _;
use std::future::Future;

use crate::run::{Failed, Run};
use crate::sim::Sim;
use crate::trace::Trace;

/// Runs a scenario twice with one seed, and gives its trace.
///
/// ```
/// # use netsim::Sim;
/// netsim::assert_same(7, async |sim: Sim| {
///     let host = sim.host("a");
///     sim.note(format!("{:?}", host.random_bytes::<4>()));
/// });
/// ```
///
/// # Panics
/// The runs differ: the message shows the first events that do, both of them, and what was before.
#[track_caller]
pub fn assert_same<T: Send, F: Future<Output = T>>(seed: u64, scenario: impl Fn(Sim) -> F + Send + Sync) -> Trace {
    let run = || trace_of(Sim::builder(seed).whole_log().try_run(&scenario));
    let (first, second) = (run(), run());
    assert!(first.hash == second.hash, "{}", difference(seed, &first, &second));
    first
}

/// What a run has left, whether it has failed or not.
pub(crate) fn trace_of<T>(outcome: Result<Run<T>, Failed>) -> Trace {
    outcome.map_or_else(|failed| *failed.trace, |run| run.trace)
}

/// Says where two whole traces differ.
pub(crate) fn difference(seed: u64, first: &Trace, second: &Trace) -> String {
    let mut text = format!("two runs of seed {seed} are not the same: ");
    let at = first.log.iter().zip(&second.log).take_while(|(one, other)| one == other).count();
    let (one, other) = (first.log.get(at), second.log.get(at));
    if one.is_none() && other.is_none() {
        let _ = write!(text, "{} events are, so what differs was rare, or this time it was the same by chance", at);
        return text + BREAKERS;
    }
    let _ = writeln!(text, "their event {} differs", at + 1);
    for line in &first.log[at.saturating_sub(BEFORE)..at] {
        let _ = writeln!(text, "   both  {line}");
    }
    for (run, line) in [("  first", one), (" second", other)] {
        let _ = writeln!(text, "{run}  {}", line.map_or("has ended", String::as_str));
    }
    text + BREAKERS
}

/// Events before the first difference that are shown.
const BEFORE: usize = 8;

/// What is to be looked for.
const BREAKERS: &str = "
What makes a run differ: the wall clock (`std::time::Instant::now`, `SystemTime::now`), randomness that is not the \
                        host's (`rand::rng()`), the order of a `HashMap`, threads, `tokio::select!` without `biased;`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_shown_with_what_was_before() {
        let trace = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            Sim::builder(1).whole_log().run(async move |sim: Sim| words.iter().for_each(|word| sim.note(word))).trace
        };
        let (abc, abd, ab) = (trace(&["a", "b", "c"]), trace(&["a", "b", "d"]), trace(&["a", "b"]));
        let text = difference(7, &abc, &abd);
        let at = |s: &str| format!("    0.000000000 {s}\n");
        let shown = format!(
            "event 3 differs\n   both  {}   both  {}  first  {} second  {}",
            at("a"),
            at("b"),
            at("c"),
            at("d")
        );
        assert!(text.contains(&shown), "{text}");
        assert!(difference(7, &abc, &ab).contains(" second  has ended\n"));
    }
}
