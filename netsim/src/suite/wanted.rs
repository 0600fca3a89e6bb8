//! Which seeds does a test run over?

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::ops::Range;

/// Which seeds the environment wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Those of the test.
    Own,
    /// `NETSIM_SEED=n`: this one.
    One(u64),
    /// `NETSIM_SEEDS=n`: so many, from the test's first.
    Count(u64),
    /// `NETSIM_SEEDS=a..b`.
    Range(Range<u64>),
    /// `NETSIM_FRESH=1`: from here on, which nobody has chosen; so many, or as many as the test's.
    Fresh(u64, Option<u64>),
}

impl Wanted {
    pub(super) fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let number = |name: &str, text: &str| -> Result<u64, String> {
            text.trim().parse().map_err(|_| format!("{name} is a number, not `{text}`"))
        };
        if let Some(text) = variable("NETSIM_SEED") {
            let seed = number("NETSIM_SEED", &text)?;
            return if seed < u64::MAX { Ok(Self::One(seed)) } else { Err("NETSIM_SEED is too large".to_owned()) };
        }
        let seeds = match variable("NETSIM_SEEDS") {
            None => Self::Own,
            Some(text) => match text.split_once("..") {
                Some((from, to)) => {
                    let range = number("NETSIM_SEEDS", from)?..number("NETSIM_SEEDS", to)?;
                    if range.is_empty() {
                        return Err(format!("NETSIM_SEEDS is `{text}`, and there is no seed in it"));
                    }
                    Self::Range(range)
                }
                None => match number("NETSIM_SEEDS", &text)? {
                    0 => return Err("NETSIM_SEEDS is at least 1".to_owned()),
                    count => Self::Count(count),
                },
            },
        };
        match (variable("NETSIM_FRESH").as_deref(), seeds) {
            (None | Some("" | "0"), seeds) => Ok(seeds),
            (Some("1"), Self::Own) => Ok(Self::Fresh(fresh(), None)),
            (Some("1"), Self::Count(count)) => Ok(Self::Fresh(fresh(), Some(count))),
            (Some("1"), _) => Err("NETSIM_FRESH=1 and a range of NETSIM_SEEDS contradict each other".to_owned()),
            (Some(other), _) => Err(format!("NETSIM_FRESH is 1 or 0, not `{other}`")),
        }
    }

    pub(super) fn seeds(&self, own: Range<u64>) -> Range<u64> {
        let from = |first: u64, count: u64| first..first.saturating_add(count);
        match self {
            Self::Own => own,
            Self::One(seed) => from(*seed, 1),
            Self::Count(count) => from(own.start, *count),
            Self::Range(range) => range.clone(),
            Self::Fresh(first, count) => from(*first, count.unwrap_or(own.end - own.start)),
        }
    }

    /// Whether these seeds have to meet all that the test's own ones are known to meet. Others meet it by chance: a few may
    /// well not, and many times as many do.
    pub(super) fn is_enough(&self, own: &Range<u64>) -> bool {
        let count = |seeds: &Range<u64>| seeds.end.saturating_sub(seeds.start);
        let seeds = self.seeds(own.clone());
        let has_own = seeds.start <= own.start && seeds.end >= own.end;
        has_own || count(&seeds) >= count(own).saturating_mul(BY_CHANCE)
    }

    /// Says which seeds nobody has chosen. Past the capture of a test's output: it is to be seen in passing.
    pub(super) fn tell(&self, test: &str, seeds: &Range<u64>) {
        if let Self::Fresh(..) = self {
            let _ = writeln!(std::io::stderr(), "netsim: {test} runs the fresh seeds {seeds:?}");
        }
    }
}

/// The seeds that a test of its own making runs over: the first `count`, or those that the environment wants
/// (`NETSIM_SEED`, `NETSIM_SEEDS`, `NETSIM_FRESH`: see [`netsim::test`](macro@crate::test)).
///
/// # Panics
/// One of the variables is not what it should be.
pub fn seeds(count: u64) -> Range<u64> {
    let wanted = Wanted::from_env(|name| std::env::var(name).ok()).unwrap_or_else(|wrong| panic!("{wrong}"));
    let seeds = wanted.seeds(0..count);
    wanted.tell(std::thread::current().name().unwrap_or("a test"), &seeds);
    seeds
}

/// The same for a test whose own seeds are fresh ones: `count` that nobody has chosen, and which these are is printed.
///
/// # Panics
/// One of the variables is not what it should be.
pub fn fresh_seeds(count: u64) -> Range<u64> {
    let wanted = Wanted::from_env(|name| std::env::var(name).ok()).unwrap_or_else(|wrong| panic!("{wrong}"));
    let wanted = if wanted == Wanted::Own { Wanted::Fresh(fresh(), None) } else { wanted };
    let seeds = wanted.seeds(0..count);
    wanted.tell(std::thread::current().name().unwrap_or("a test"), &seeds);
    seeds
}

/// How many times as many seeds as a test's own meet what those do: where one of ten own ones does, a hundred others miss
/// it once in forty thousand runs.
const BY_CHANCE: u64 = 10;

/// A number that nobody has chosen, short enough to be typed.
fn fresh() -> u64 {
    RandomState::new().build_hasher().finish() % 1_000_000_000
}
