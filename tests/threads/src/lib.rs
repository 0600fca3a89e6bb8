//! What an application's threads and the node's thread hand each other, in every order in which they can do it.
//!
//! The rooms `pattern` and `socket` of the library, and what they stand on, are compiled here once more: the files are
//! links to the same sources. Only `sync` is another one. Its locks and atomic numbers are loom's, which takes a model
//! through every interleaving of them, and through every value that a load may see. `env` and `node` are what the sockets
//! need of a world: a clock that stands still, and a table of sockets.
//!
//! A model plays the node's thread, and some threads of an application; each waits like a thread that has nothing else to
//! do. A wake-up that is lost leaves it waiting for ever, which loom reports.
#![allow(
    dead_code,
    unused_imports,
    unexpected_cfgs,
    reason = "the rooms are here whole, and the models use some of it"
)]
#![allow(unreachable_pub, unfulfilled_lint_expectations, reason = "what is public in the library is not so here")]

/// None of the planted bugs is here.
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

mod env;
mod error;
mod id;
mod message;
pub mod models;
mod node;
mod observe;
mod pattern;
mod socket;
mod stage;
mod sync;
mod wire;
