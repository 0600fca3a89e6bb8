//! What an application's threads and the node's meet at: locks, atomic numbers, and what wakes one for the other.
//!
//! `pattern` and `socket` take them from here and nowhere else, so that one place says what they are made of. The package
//! `tests/threads` compiles these rooms a second time, over locks and numbers of which every interleaving can be tried.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
pub(crate) use std::sync::{Mutex, MutexGuard};

pub(crate) use atomic_waker::AtomicWaker;
pub(crate) use tokio::sync::{Notify, oneshot};
