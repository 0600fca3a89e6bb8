//! The attribute `netsim::test`. It is documented where it is re-exported, in `meshmq-netsim`.

mod expand;

use proc_macro::TokenStream;

/// Makes a test of a scenario, which runs over many seeds.
///
/// The scenario is an `async fn` that takes the simulated world, a `netsim::Sim`, and returns nothing or a `Result`.
///
/// | option | default |
/// |---|---|
/// | `seeds = 100`, `seeds = 5..20` | 10 seeds, from 0 |
/// | `time_limit = 60.s()`: the longest that a run may take, in virtual time | an hour |
/// | `meets = ["a worker has died"]`: what all runs together have to meet, as `sometimes!` marks it; of seeds that are not the test's own only if they are ten times as many | nothing |
/// | `again = false`: the first seed is not run a second time to see that it is the same again | `true` |
/// | `whole_log = true`: the trace keeps its whole log, for a scenario that reads it | its last 64 lines |
///
/// The seeds run in threads of their own, as many at a time as there are cores. The first that fails is told, with the
/// end of its trace and the command that runs it alone and writes its whole trace into a file.
///
/// | variable | |
/// |---|---|
/// | `NETSIM_SEED=7` | this seed alone |
/// | `NETSIM_SEEDS=1000`, `NETSIM_SEEDS=5..20` | so many, or these |
/// | `NETSIM_FRESH=1` | seeds that nobody has tried; which ones is printed |
/// | `NETSIM_TRACE=FILE` | the whole trace, into this file; one run at a time |
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::test(options.into(), item.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}
