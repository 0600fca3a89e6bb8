//! What is seen of processes that join and leave at random.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "common/churn.rs"]
mod churn;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::time::Duration;

use churn::{Plan, churn};

#[test]
fn member() {
    churn::is_role();
}

#[test]
fn observer() {
    churn::is_role();
}

/// `cargo bench --bench churn` does it for longer.
#[test]
fn every_view_agrees_with_who_joins_and_leaves_and_nothing_is_left() {
    let told = churn(&Plan { processes: 8, time: Duration::from_secs(6), seed: 1 });
    let _ = writeln!(std::io::stderr(), "{told:.1?}");
    assert!(told.joined > 8 && told.left > 0 && told.killed > 0 && told.views.iter().all(|&views| views > 0));
    assert!(told.wrong.is_empty(), "{:#?}", told.wrong);
}
