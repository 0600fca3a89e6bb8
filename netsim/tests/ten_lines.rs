//! The test that `docs/testing.md` shows.

#![allow(clippy::unwrap_used)]

use meshmq::{MeshKey, Node};
use netsim::{Host, Sim, Units, every, restart_after};

#[netsim::test(seeds = 10)]
async fn no_job_is_lost_when_workers_die(sim: Sim) {
    let lan = sim.lan("office").latency(1.ms()..5.ms()).loss(0.01);
    let (producer, workers) = (lan.host("producer"), lan.hosts("worker", 5));
    workers.iter().for_each(|worker| worker.run(work)); // an async fn(Host): it begins anew with each life
    sim.faults().crash_random(&workers, every(2.s()), restart_after(500.ms())).during(30.s());
    sim.partition(&workers[..2], std::slice::from_ref(&producer)).during(3.s());
    let node = Node::builder("shop").key(MeshKey::from_bytes([7; 32])).env(producer.env()).await.unwrap();
    let push = node.push("jobs").await.unwrap();
    for job in 0..100 {
        push.send(job.to_string()).await.unwrap();
        sim.run_for(50.ms()).await;
    }
    push.flush().await.unwrap(); // ready when each of them was handled
}

async fn work(host: Host) {
    let node = Node::builder("shop").key(MeshKey::from_bytes([7; 32])).env(host.env()).await.unwrap();
    let pull = node.pull("jobs").await.unwrap();
    while let Ok(job) = pull.recv().await {
        host.work(5.ms()).await;
        job.ack();
    }
}

/// The page shows what runs here, line for line.
#[test]
fn the_page_shows_this_test() {
    let lines = |text: &'static str| {
        let from = text.find("#[netsim::test(seeds").unwrap();
        let to = from + text[from..].find("\n}\n").unwrap();
        text[from..to].lines().skip(1)
    };
    assert!(lines(include_str!("../../docs/testing.md")).eq(lines(include_str!("ten_lines.rs"))));
}
