//! One of fifty subscribers is stalled: how long do messages take to the others?

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshmq::{Builder, MeshKey, Node};
use netsim::{Host, Link, Sim, Units};

const SUBSCRIBERS: usize = 50;
const MESSAGES: u64 = 300;
const EVERY: Duration = Duration::from_millis(5);
const PORT: u16 = 7000;

/// What is wrong with the first subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stalled {
    Nothing,
    /// Its application takes no message.
    Application,
    /// Its whole host stands still.
    Host,
}

/// How long each message took to each of the other subscribers.
type Times = Arc<Mutex<Vec<Duration>>>;

/// Each has a link with the publisher alone.
fn builder(host: &Host) -> Builder {
    Node::builder("sim").key(MeshKey::from_bytes([7; 32])).env(host.env()).without_mdns().without_exchange()
}

async fn publish(sim: Sim, host: Host) {
    let at = SocketAddr::new(host.ip(), PORT);
    let node = builder(&host).listen(at).await.unwrap();
    // The bound of each subscriber is reached within the run.
    let publisher = node.publisher("ticks").bound(100, 1 << 20).await.unwrap();
    publisher.wait_for_subscribers(SUBSCRIBERS).await.unwrap();
    sim.note("all are there");
    for _ in 0..MESSAGES {
        let mut body = vec![0; 1024];
        body[..8].copy_from_slice(&(sim.elapsed().as_nanos() as u64).to_be_bytes());
        publisher.publish("tick", body).await.unwrap();
        sim.sleep(EVERY).await;
    }
    // For those that are on their way.
    sim.sleep(5.s()).await;
}

async fn subscribe(sim: Sim, host: Host, publisher: SocketAddr, takes: bool, times: Times) {
    let node = builder(&host).peer(&publisher.to_string()).await.unwrap();
    let subscriber = node.subscriber("ticks").prefetch(10).await.unwrap();
    if !takes {
        std::future::pending::<()>().await;
    }
    while let Ok(tick) = subscriber.recv().await {
        assert_eq!(tick.missed(), None);
        let sent = Duration::from_nanos(u64::from_be_bytes(tick[..8].try_into().unwrap()));
        times.lock().unwrap().push(sim.elapsed() - sent);
    }
}

/// The slowest of a hundred, of those that are not stalled.
fn p99(stalled: Stalled) -> Duration {
    let times = Times::default();
    let kept = times.clone();
    Sim::builder(7).time_limit(Duration::from_secs(60)).run(async move |sim: Sim| {
        // The network has room for all of it, and some loss and jitter that make it a network.
        let link = Link::lan().latency(1.ms()..2.ms()).loss(0.001).bandwidth(1_000_000_000);
        sim.set_link(link);
        let host = sim.host("publisher");
        let at = SocketAddr::new(host.ip(), PORT);
        let publishing = host.spawn(publish(sim.clone(), host.clone()));
        let hosts: Vec<_> = (0..SUBSCRIBERS).map(|nth| sim.host(&format!("subscriber {nth}"))).collect();
        for (nth, host) in hosts.iter().enumerate() {
            let takes = nth > 0 || stalled != Stalled::Application;
            // What the first one takes is of no account.
            let times = if nth > 0 { kept.clone() } else { Times::default() };
            host.spawn(subscribe(sim.clone(), host.clone(), at, takes, times));
        }
        if stalled == Stalled::Host {
            // Once it is there, and messages are on their way to it.
            sim.until(30.s(), || kept.lock().unwrap().len() > 100).await;
            hosts[0].pause();
        }
        publishing.await.unwrap();
        assert_eq!(kept.lock().unwrap().len() as u64, (SUBSCRIBERS as u64 - 1) * MESSAGES, "each has had each");
    });
    let mut times = std::mem::take(&mut *times.lock().unwrap());
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// What stalls one subscriber delays no other one.
#[test]
fn a_stalled_subscriber_delays_no_other_one() {
    let all = [Stalled::Nothing, Stalled::Application, Stalled::Host];
    let times = std::thread::scope(|scope| {
        let running = all.map(|stalled| scope.spawn(move || p99(stalled)));
        running.map(|one| one.join().expect("it says what is wrong"))
    });
    let without = times[0];
    for (stalled, with) in all.into_iter().zip(times).skip(1) {
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        println!("p99 {with:?} with a stalled {stalled:?}, {without:?} without: {ratio:.3}");
        assert!((0.9..=1.1).contains(&ratio), "{with:?} with a stalled {stalled:?}, {without:?} without");
    }
}
