//! Hardships strike, end in time and leave everything healed.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use netsim::check::sometimes;
use netsim::{Counts, Hardship, Host, Sim, Units, every, restart_after};
use quinn::udp::Transmit;

#[test]
fn there_are_sixteen_and_each_has_a_name_of_its_own() {
    let names: BTreeSet<_> = Hardship::ALL.iter().map(|hardship| hardship.name()).collect();
    assert_eq!((Hardship::ALL.len(), names.len()), (16, 16));
}

/// Each by itself: it does what it says, and after its time the network and the hosts are as before.
#[netsim::test(seeds = 4)]
async fn each_hardship_does_something_and_ends_healed(sim: Sim) {
    let lives = Arc::new(AtomicU32::new(0));
    let hosts = talkers(&sim, &lives);
    let lives = || lives.load(Ordering::Relaxed);
    sim.until(1.s(), || lives() == 4).await;
    for hardship in Hardship::ALL {
        let (began, harmed_before, lives_before) = (sim.elapsed(), harmed(sim.trace().packets), lives());
        let struck = sim.hardships(&hosts).mortal(&hosts[2..]).only(&[*hardship]).strike(10.s()).await;
        assert_eq!((struck.as_slice(), sim.elapsed() - began), (&[*hardship][..], 10.s()), "{hardship}");
        let harmed_by_it = match hardship {
            Hardship::ClockStep | Hardship::LaptopLid | Hardship::LongWay | Hardship::SlowConsumer => false,
            hardship => !hardship.kills(),
        };
        assert_eq!(harmed(sim.trace().packets) > harmed_before, harmed_by_it, "{hardship}");
        assert_eq!(lives() > lives_before, hardship.kills(), "{hardship}");

        // Nothing of it is left.
        assert!(hosts.iter().all(Host::is_up), "{hardship}");
        assert!(hosts.iter().all(|host| host.set_slowness(1) == 1), "{hardship}");
        let before = sim.trace().packets;
        sim.run_for(1.s()).await;
        let after = sim.trace().packets;
        assert!(
            after.sent - before.sent >= 4 * 3 * 45,
            "{hardship}: all of them talk, {} packets",
            after.sent - before.sent
        );
        assert_eq!(harmed(after), harmed(before), "{hardship}");
    }
}

#[netsim::test(seeds = 40, whole_log = true)]
async fn they_are_drawn_by_the_seed(sim: Sim) {
    let hosts: Vec<_> = (0..4).map(|n| sim.host(&format!("host {n}"))).collect();
    let struck = sim.hardships(&hosts).strike(20.s()).await;
    assert_eq!(sim.elapsed(), 20.s());
    assert!((1..=3).contains(&struck.len()));
    assert_eq!(struck.len(), BTreeSet::from_iter(&struck).len(), "each once");
    let log = sim.trace().log;
    for hardship in struck {
        assert_eq!(log.iter().filter(|line| line.contains(&format!("{hardship} begins"))).count(), 1, "{log:#?}");
        assert_eq!(log.iter().filter(|line| line.ends_with(&format!("{hardship} is over"))).count(), 1, "{log:#?}");
    }
}

#[test]
fn every_hardship_is_drawn_now_and_then() {
    sometimes::take();
    for seed in 0..100 {
        Sim::run(seed, async |sim: Sim| {
            let hosts = [sim.host("a"), sim.host("b")];
            sim.hardships(&hosts).strike(1.s()).await
        });
    }
    let missing = sometimes::take().missing(Hardship::ALL.iter().map(|hardship| hardship.name()));
    assert!(missing.is_empty(), "{missing:?}");
}

#[netsim::test(seeds = 4)]
async fn faults_go_on_until_they_are_stopped(sim: Sim) {
    let lives = Arc::new(AtomicU32::new(0));
    let hosts = talkers(&sim, &lives);
    let fault = sim.faults().crash_random(&hosts[2..], every(2.s()), restart_after(500.ms()));
    sim.faults().cut_random(&hosts, every(1.s()), 200.ms()).during(30.s());
    sim.run_for(30.s()).await;
    fault.stop();
    sim.run_for(1.s()).await;
    let (crashed, stopped) = (lives.load(Ordering::Relaxed) - 4, sim.trace().packets.stopped);
    assert!((10..=30).contains(&crashed), "{crashed} crashes");
    assert!(hosts.iter().all(Host::is_up));
    assert!(stopped > 0);
    sim.run_for(30.s()).await;
    assert_eq!((lives.load(Ordering::Relaxed) - 4, sim.trace().packets.stopped), (crashed, stopped));
}

#[test]
fn a_program_that_fails_is_told_with_its_host() {
    let failed = Sim::builder(1).try_run(async |sim: Sim| {
        sim.host("worker").run(|_| async { Err::<(), _>("no such job") });
        sim.run_for(1.s()).await;
    });
    assert_eq!(failed.unwrap_err().message, "the program of host `worker` has failed: \"no such job\"");
}

/// Four hosts that send each other a large packet twenty times a second, and count their lives.
fn talkers(sim: &Sim, lives: &Arc<AtomicU32>) -> Vec<Host> {
    let hosts: Vec<_> = (0..4).map(|n| sim.host(&format!("host {n}"))).collect();
    let addresses: Vec<SocketAddr> = hosts.iter().map(|host| (host.ip(), 1).into()).collect();
    for host in &hosts {
        let (sim, addresses, lives) = (sim.clone(), addresses.clone(), lives.clone());
        host.run(move |host| {
            let (sim, addresses) = (sim.clone(), addresses.clone());
            lives.fetch_add(1, Ordering::Relaxed);
            async move {
                let socket = host.bind(([0, 0, 0, 0], 1).into()).unwrap();
                loop {
                    for destination in addresses.iter().copied().filter(|address| address.ip() != host.ip()) {
                        let contents = &[7; 1400];
                        let packet = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
                        socket.try_send(&packet).unwrap();
                    }
                    sim.sleep(20.ms()).await;
                }
            }
        });
    }
    hosts
}

/// Packets to which anything has happened but delay.
fn harmed(packets: Counts) -> u64 {
    packets.lost + packets.stopped + packets.dropped + packets.duplicated + packets.corrupted
}
