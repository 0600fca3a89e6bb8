//! Each checker is seen to catch what it is for, and to let pass what is right.

use std::sync::Arc;
use std::time::Duration;

use super::*;

type Steps<'a> = &'a dyn Fn(&Ledger);

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// A ledger with one accepted message, after these steps; the rule that is broken, if one is.
fn broken(steps: impl FnOnce(&Ledger)) -> Option<&'static str> {
    let ledger = Ledger::new();
    ledger.accepted(ms(0), "m", "pusher");
    steps(&ledger);
    ledger.finish(ms(100)).err().map(|violation| violation.rule())
}

fn handed(ledger: &Ledger, to: &str, attempt: u32) {
    ledger.delivered(ms(1), "m", to, Delivered::new(attempt, attempt > 1));
}

#[test]
fn what_is_right_passes() {
    let (ledger, all) = (Ledger::new(), ["handled", "rejected", "dead", "back", "lost"]);
    for id in all {
        ledger.accepted(ms(0), id, if id == "lost" { "other" } else { "pusher" });
    }
    ledger.dispatched(ms(1), "handled", "a", 1);
    ledger.delivered(ms(2), "handled", "a", Delivered::new(1, false));
    ledger.answered(ms(3), "handled", "a", 1, Answer::Nacked);
    ledger.delayed(ms(3), "handled", ms(8));
    ledger.dispatched(ms(8), "handled", "b", 2);
    ledger.delivered(ms(9), "handled", "b", Delivered::new(2, true).failures(1));
    ledger.acknowledged(ms(9), "handled", "b", 2);
    ledger.settled(ms(10), "handled", End::Handled);
    // It was under way to another one, which a settled message may be.
    ledger.delivered(ms(11), "handled", "c", Delivered::new(3, true));
    // A worker that does not know yet that it was given up has what went to another one meanwhile.
    ledger.delivered(ms(11), "rejected", "b", Delivered::new(2, true));
    ledger.delivered(ms(11), "rejected", "a", Delivered::new(1, false));
    ledger.answered(ms(11), "rejected", "a", 1, Answer::Rejected);
    ledger.settled(ms(11), "rejected", End::Rejected);
    // Lost with the worker that was about to be handed it.
    ledger.announced(ms(12), "dead", "a", 1);
    ledger.crashed(ms(12), "a");
    ledger.settled(ms(13), "dead", End::Exhausted(1));
    ledger.settled(ms(14), "back", End::HandedBack);
    assert_eq!((ledger.open(), ledger.check()), (1, Ok(())));
    ledger.crashed(ms(15), "other");
    let summary = ledger.finish(ms(20)).unwrap();
    assert_eq!((summary.accepted, summary.delivered, summary.duplicated, summary.attempts), (5, 5, 2, 3));
    let ends = [summary.handled, summary.rejected, summary.exhausted, summary.handed_back, summary.lost];
    assert_eq!(ends, [1; 5]);
    assert_eq!((summary.acknowledged, summary.nacked, summary.refused, summary.dropped), (1, 1, 1, 0));
    assert_eq!(ledger.end(&"back"), Some(End::HandedBack));
}

#[test]
fn a_ledger_catches_what_breaks_its_rules() {
    let acked = |ledger: &Ledger| {
        handed(ledger, "a", 1);
        ledger.acknowledged(ms(2), "m", "a", 1);
        ledger.settled(ms(3), "m", End::Handled);
    };
    assert_eq!(broken(acked), None);
    let cases: &[(&str, Steps<'_>)] = &[
        ("every accepted message ends in exactly one state", &|_| ()),
        ("a message is accepted once", &|ledger| ledger.accepted(ms(1), "m", "pusher")),
        ("only what was accepted is delivered", &|ledger| {
            ledger.delivered(ms(1), "other", "a", Delivered::new(1, false));
        }),
        ("`redelivered` is false only for what no application was handed before", &|ledger| {
            handed(ledger, "a", 1);
            ledger.delivered(ms(2), "m", "b", Delivered::new(2, false));
        }),
        ("`redelivered` is false only for what no application was handed before", &|ledger| {
            handed(ledger, "b", 2);
            ledger.delivered(ms(201), "m", "a", Delivered::new(1, false));
        }),
        ("`redelivered` is false only for what no application was handed before", &|ledger| {
            ledger.given_up("a", ms(1_000));
            handed(ledger, "b", 2);
            ledger.delivered(ms(1_200), "m", "a", Delivered::new(1, false));
        }),
        ("an attempt is handed out once", &|ledger| {
            handed(ledger, "a", 1);
            ledger.delivered(ms(2), "m", "b", Delivered::new(1, true));
        }),
        ("a failure is counted only for what was handed out", &|ledger| {
            ledger.delivered(ms(2), "m", "b", Delivered::new(2, true).failures(1));
        }),
        ("a failure is counted only for what was handed out", &|ledger| {
            handed(ledger, "a", 1);
            ledger.settled(ms(2), "m", End::Exhausted(2));
        }),
        ("an answer is for a delivery, and each has one", &|ledger| ledger.acknowledged(ms(1), "m", "a", 1)),
        ("an answer is for a delivery, and each has one", &|ledger| {
            handed(ledger, "a", 1);
            ledger.crashed(ms(2), "a");
            ledger.acknowledged(ms(3), "m", "a", 1);
        }),
        ("handled is only what an application has acknowledged, rejected only what one has rejected", &|ledger| {
            handed(ledger, "a", 1);
            ledger.settled(ms(3), "m", End::Handled);
        }),
        ("a message ends once", &|ledger| {
            acked(ledger);
            ledger.settled(ms(4), "m", End::HandedBack);
        }),
        ("nothing of a message goes out after its end", &|ledger| {
            acked(ledger);
            ledger.dispatched(ms(4), "m", "b", 2);
        }),
        ("nothing goes out before its time", &|ledger| {
            ledger.delayed(ms(4), "m", ms(9));
            ledger.dispatched(ms(8), "m", "b", 2);
        }),
        ("a flush is done when everything accepted is settled", &|ledger| {
            handed(ledger, "a", 1);
            ledger.flushed(ms(4), "pusher");
        }),
    ];
    for (rule, steps) in cases {
        assert_eq!(broken(steps), Some(*rule));
    }
}

#[test]
fn a_flush_settles_what_was_answered() {
    assert_eq!(
        broken(|ledger| {
            handed(ledger, "a", 1);
            ledger.acknowledged(ms(2), "m", "a", 1);
            ledger.flushed(ms(3), "somebody else");
            assert_eq!(ledger.open(), 1);
            ledger.flushed(ms(3), "pusher");
        }),
        None
    );
}

#[test]
fn who_has_not_heard_that_it_was_given_up_takes_what_it_has_for_new() {
    let untold = |ledger: &Ledger| {
        ledger.given_up("a", ms(1_000));
        handed(ledger, "b", 2);
        ledger.delivered(ms(1_199), "m", "a", Delivered::new(1, false));
        ledger.acknowledged(ms(1_200), "m", "b", 2);
        ledger.settled(ms(1_201), "m", End::Handled);
    };
    assert_eq!(broken(untold), None);
}

#[test]
fn what_is_broken_comes_with_its_history() {
    let ledger = Ledger::new();
    ledger.accepted(ms(1), "job 7", "pusher");
    ledger.delivered(ms(5), "job 7", "worker", Delivered::new(1, false));
    ledger.settled(Duration::from_micros(6001), "job 7", End::Handled);
    let violation = ledger.check().unwrap_err();
    assert_eq!(
        violation.to_string(),
        "handled is only what an application has acknowledged, rejected only what one has rejected: message job 7: \
         nobody has acknowledged it\n  0.001000 pusher accepts it\n  0.005000 worker is handed it, attempt 1, 0 \
         failures, redelivered: false\n  0.006001 ends: handled"
    );
    assert_eq!(violation.history().len(), 3);
}

#[test]
fn a_bound_counts_all_that_is_owned() {
    let mut bound = Bound::new("jobs", 2, 100);
    bound.took(60);
    bound.took(60);
    assert!(bound.check(1, 60).is_err(), "one is forgotten");
    assert!(bound.check(2, 120).is_err(), "too many bytes");
    bound.gave(60);
    bound.check(1, 60).unwrap();
    bound.took(1);
    bound.took(1);
    assert!(bound.check(3, 62).is_err(), "too many messages");
}

#[test]
fn credit_is_conserved() {
    let lane = || {
        let mut lane = Credit::new("lane", 10);
        lane.given(3, 100).unwrap();
        assert_eq!(lane.sent(50), Ok(0));
        lane
    };
    assert!(lane().given(2, 100).is_err(), "it shrinks");
    assert!(lane().waived(3).is_err(), "one is spent");
    assert!(lane().sent(61).is_err(), "too many bytes");
    assert!(lane().answered(1).is_err(), "never sent");
    assert!(lane().answered_up_to(2).is_err(), "never sent");
    let mut lane = lane();
    lane.waived(1).unwrap();
    assert!(lane.waived(0).is_err(), "it shrinks");
    assert_eq!((lane.sent(0), lane.unspent()), (Ok(1), 0));
    assert!(lane.sent(0).is_err(), "the last one is waived");
    lane.answered(1).unwrap();
    assert!(lane.answered(1).is_err(), "twice");
    assert_eq!((lane.answered_up_to(2), lane.unanswered(), lane.count()), (Ok(vec![0]), 0, 2));
    assert_eq!(lane.answered_up_to(2), Ok(vec![]));
}

#[test]
fn who_is_passed_over_is_seen() {
    let mut fair = Fair::new("worker", 1);
    fair.granted([(1, 1, true), (2, 0, true)]).unwrap();
    fair.granted([(1, 2, true), (2, 0, true)]).unwrap();
    fair.granted([(1, 2, true), (2, 1, true)]).unwrap();
    fair.granted([(1, 3, true), (2, 1, false)]).unwrap();
    fair.granted([(1, 9, true), (2, 1, false)]).unwrap();
    fair.granted([(1, 9, true), (2, 1, true)]).unwrap();
    fair.granted([(1, 10, true), (2, 1, true)]).unwrap();
    fair.granted([(1, 12, true), (2, 1, true)]).unwrap();
    assert!(fair.granted([(1, 13, true), (2, 1, true)]).is_err());
}

#[test]
fn a_lane_out_of_order_is_seen() {
    let mut order = Order::new("lane");
    order.first_time(3).unwrap();
    order.first_time(7).unwrap();
    assert!(order.first_time(7).is_err());
    assert!(order.first_time(5).is_err());
}

#[test]
fn links_between_strangers_and_second_links_are_seen() {
    let mut links = Links::new();
    for (node, mesh) in [("a", "shop"), ("b", "shop"), ("c", "farm")] {
        links.node(node, mesh);
    }
    assert!(links.opened(ms(1), "a", "c", 1).is_err(), "another mesh");
    assert!(links.opened(ms(1), "a", "nobody", 2).is_err(), "of no mesh");
    links.opened(ms(2), "a", "b", 3).unwrap();
    links.opened(ms(2), "b", "a", 3).unwrap();
    let violation = links.opened(ms(3), "a", "b", 4).unwrap_err();
    assert_eq!((violation.rule(), violation.history().len()), ("two nodes have one link", 3));
    links.closed(ms(3), "b", "a", 3);
    links.opened(ms(4), "b", "a", 5).unwrap();
    links.crashed("b");
    assert_eq!((links.between("b", "a"), links.between("a", "b")), (None, Some(4)));
}

#[test]
fn what_is_left_is_named() {
    let kept = Arc::new(());
    let mut left = Left::new();
    left.memory("inbox", &Arc::downgrade(&kept));
    left.count("tasks of worker", || 2);
    let violation = left.check().unwrap_err();
    assert_eq!(violation.to_string(), "after its end nothing is left of a node: 1 × inbox, 2 × tasks of worker");
    drop(kept);
    assert!(left.check().is_err(), "tasks are left");
}

#[test]
fn a_simulation_hands_over_what_it_has_met() {
    sometimes::take();
    crate::Sim::run(1, async |_| crate::sometimes!("met in a simulation"));
    assert_eq!(sometimes::take().count("met in a simulation"), 1);
    assert_eq!(sometimes::take().iter().count(), 0, "taken");
}

#[test]
fn a_host_counts_its_tasks() {
    crate::Sim::run(1, async |sim| {
        let host = sim.host("a");
        host.spawn(std::future::pending::<()>());
        let short = host.spawn(async {});
        assert_eq!(host.tasks(), 2);
        short.await.unwrap();
        assert_eq!(host.tasks(), 1);
        host.crash();
        sim.sleep(ms(1)).await;
        assert_eq!(host.tasks(), 0);
    });
}

#[test]
fn each_trap_has_one_name() {
    let mut names: Vec<_> = TRAPS.iter().map(|trap| trap.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TRAPS.len());
    assert!(TRAPS.iter().all(|trap| trap.pure || trap.whole));
}
