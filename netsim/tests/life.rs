//! Hosts that are held, stopped or dropped, and their clocks.

#![allow(clippy::unwrap_used)]

mod udp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use netsim::{Host, Link, Sim, Units, every, restart_after};

use udp::{Udp, at};

/// Counts up every 10 ms, on this host.
fn ticking(sim: &Sim, host: &Host) -> Arc<AtomicU32> {
    let ticks = Arc::new(AtomicU32::new(0));
    let (sim, counted) = (sim.clone(), ticks.clone());
    host.spawn(async move {
        loop {
            sim.sleep(10.ms()).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    ticks
}

#[test]
fn a_host_that_is_held_does_nothing_and_goes_on_where_it_was() {
    Sim::run(1, async |sim: Sim| {
        let (a, b) = (sim.host("a"), sim.host("b"));
        let ticks = ticking(&sim, &a);
        let runtime = a.runtime();
        sim.sleep(105.ms()).await;
        a.pause();
        a.pause();
        assert!(a.is_paused() && a.is_up() && ticks.load(Ordering::Relaxed) == 10);
        let before = runtime.now();
        let started = Arc::new(AtomicU32::new(0));
        a.spawn({
            let started = started.clone();
            async move { started.fetch_add(1, Ordering::Relaxed) }
        });
        sim.sleep(10.s()).await;
        assert_eq!((ticks.load(Ordering::Relaxed), started.load(Ordering::Relaxed)), (10, 0));
        assert_eq!(runtime.now() - before, 10.s(), "its clock goes on");
        a.resume();
        assert!(!a.is_paused());
        sim.sleep(1.ms()).await;
        assert_eq!((ticks.load(Ordering::Relaxed), started.load(Ordering::Relaxed)), (11, 1));
        sim.sleep(100.ms()).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 21);

        // A crash ends it as well, and a new life is not held.
        a.pause();
        a.crash();
        a.restart();
        a.pause();
        a.resume();
        let ticks = ticking(&sim, &a);
        sim.sleep(105.ms()).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 10);
        drop(b);
    });
}

#[test]
fn what_arrives_at_a_host_that_is_held_waits_as_far_as_there_is_room() {
    let run = Sim::run(1, async |sim: Sim| {
        sim.set_link(Link::ideal());
        let (a, b) = (sim.host("a"), sim.host("b"));
        b.set_socket_buffer(10_000);
        let (from, to) = (Udp::bind(&a, "0.0.0.0:1"), Udp::bind(&b, "0.0.0.0:1"));
        let received = Arc::new(AtomicU32::new(0));
        b.spawn({
            let received = received.clone();
            async move {
                loop {
                    to.receive().await;
                    received.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for pause in [false, true] {
            if pause {
                b.pause();
            }
            let before = received.load(Ordering::Relaxed);
            for _ in 0..20 {
                from.send(at(&b, 1), &[0; 1000]);
                sim.sleep(1.ms()).await;
            }
            b.resume();
            sim.sleep(1.ms()).await;
            assert_eq!(received.load(Ordering::Relaxed) - before, if pause { 10 } else { 20 });
        }
    });
    assert_eq!(run.trace.packets.unheard, 10);
}

#[test]
fn a_host_that_was_down_when_it_was_to_stop_lives_on_when_it_is_started() {
    Sim::run(1, async |sim: Sim| {
        let host = sim.host("a");
        host.run(|host| async move { host.asked_to_stop().await });
        host.crash();
        assert!(host.stop(5.s()).await);
        assert_eq!(sim.elapsed(), Duration::ZERO, "there is nobody to wait for");
        host.restart();
        sim.run_for(1.s()).await;
        assert_eq!(host.tasks(), 1);
        assert!(host.stop(5.s()).await);
    });
}

#[test]
fn a_host_stops_in_peace_or_by_force() {
    Sim::run(1, async |sim: Sim| {
        let host = sim.host("a");
        let slow = |takes: Duration| {
            let (sim, host) = (sim.clone(), host.clone());
            host.clone().spawn(async move {
                host.asked_to_stop().await;
                sim.sleep(takes).await;
            })
        };
        let (first, second) = (slow(1.s()), slow(2.s()));
        assert!(host.stop(5.s()).await);
        assert_eq!(sim.elapsed(), 2.s(), "when the last has ended");
        assert!(!host.is_up() && first.await.is_ok() && second.await.is_ok());

        host.restart();
        let stubborn = slow(10.s());
        sim.sleep(1.s()).await;
        assert!(!stubborn.is_finished(), "nobody has asked in this life");
        assert!(!host.stop(5.s()).await);
        assert_eq!(sim.elapsed(), 8.s());
        assert!(!host.is_up() && stubborn.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn a_calendar_jumps_and_the_monotonic_clock_does_not_notice() {
    Sim::run(1, async |sim: Sim| {
        let (host, other) = (sim.host("a"), sim.host("b"));
        let start = SystemTime::UNIX_EPOCH + 1_767_225_600.s();
        let runtime = host.runtime();
        let before = runtime.now();
        sim.sleep(1.s()).await;
        assert_eq!(host.calendar(), start + 1.s());
        host.step_calendar_ahead(3600.s());
        assert_eq!(host.calendar(), start + 3601.s());
        host.step_calendar_back(7200.s());
        assert_eq!(host.calendar(), start + 1.s() - 3600.s());
        let seen = host.certificate_time().current_time().unwrap().as_secs();
        assert_eq!(seen, 1_767_225_600 + 1 - 3600);
        assert_eq!(runtime.now() - before, 1.s());
        assert_eq!(other.calendar(), start + 1.s());
        host.step_calendar_back((100 * 365 * 86_400).s());
        assert_eq!(host.calendar(), SystemTime::UNIX_EPOCH);
    });
}

#[test]
fn a_clock_that_drifts_takes_its_timers_along() {
    for (drift, expected) in [(0, 10.s()), (250_000, 8.s()), (-500_000, 20.s()), (500, 9_995_002_499.ns())] {
        Sim::run(1, async move |sim: Sim| {
            let host = sim.host("a");
            sim.sleep(1.s()).await;
            host.set_clock_drift(drift);
            let (runtime, calendar, start) = (host.runtime(), host.calendar(), sim.elapsed());
            let until = runtime.now() + 10.s();
            let fired = wait(&host, until).await;
            assert_eq!(sim.elapsed() - start, expected, "{drift}");
            assert!(fired >= until && fired < until + 2.ns());
            assert!(host.calendar() >= calendar + 10.s() && host.calendar() < calendar + 10.s() + 2.ns());
            // Another host's clock is right.
            let other = sim.host("b");
            let (start, until) = (sim.elapsed(), other.runtime().now() + 10.s());
            wait(&other, until).await;
            assert_eq!(sim.elapsed() - start, 10.s());
        });
    }
}

#[test]
fn a_timer_that_was_set_before_the_clock_became_slower_waits_for_its_clock() {
    Sim::run(1, async |sim: Sim| {
        let host = sim.host("a");
        let until = host.runtime().now() + 10.s();
        let waiting = host.spawn({
            let host = host.clone();
            async move { wait(&host, until).await }
        });
        sim.sleep(5.s()).await;
        host.set_clock_drift(-500_000);
        assert_eq!(waiting.await.unwrap(), until);
        assert_eq!(sim.elapsed(), 15.s());
    });
}

#[test]
fn the_end_of_all_tasks_is_told_when_it_comes() {
    Sim::run(1, async |sim: Sim| {
        let host = sim.host("a");
        for time in [10.ms(), 30.ms()] {
            let sim = sim.clone();
            host.spawn(async move { sim.sleep(time).await });
        }
        host.ended().await;
        assert_eq!((sim.elapsed(), host.tasks()), (30.ms(), 0));
        host.ended().await;
        let _ticks = ticking(&sim, &host);
        sim.faults().crash_random(std::slice::from_ref(&host), every(2.s()), restart_after(1.s()));
        host.ended().await;
        assert!(!host.is_up());
    });
}

/// Waits by the host's clock; gives what it shows then.
async fn wait(host: &Host, until: Instant) -> Instant {
    let runtime = host.runtime();
    let mut timer = runtime.new_timer(until);
    std::future::poll_fn(|cx| timer.as_mut().poll(cx)).await;
    runtime.now()
}
