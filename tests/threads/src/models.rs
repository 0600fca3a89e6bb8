//! The models. Each returns how many interleavings it was taken through.

mod publish;
mod pull;
mod push;
mod reply;
mod request;
mod subscribe;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub use publish::*;
pub use pull::*;
pub use push::*;
pub use reply::*;
pub use request::*;
pub use subscribe::*;

use crate::stage::NodeThread;

/// Takes a model through every interleaving in which a thread is interrupted at most so often where it could have gone on.
fn explore(interruptions: usize, model: impl Fn(&mut NodeThread) + Sync + Send + 'static) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(interruptions);
    builder.max_branches = 20_000;
    let counted = count.clone();
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model(&mut NodeThread::new());
    });
    count.load(Relaxed)
}
