//! Who is given up, when, and who is not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netsim::{Host, Link, Sim, Units};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::crew::join;

/// A peer that has gone silent is given up within 3 s by whoever owes it something or is owed, in whichever direction the
/// network is cut.
#[netsim::test(seeds = 20)]
async fn a_silent_peer_is_given_up_within_three_seconds(sim: Sim) {
    let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
    sim.set_link(Link::lan().latency(0.ms()..20.ms()));
    let (a, b) = (sim.host("pusher"), sim.host("puller"));
    let (pusher, puller) = (join(&a).await, join(&b).await);
    let push = pusher.push("jobs").await.unwrap();
    let pull = puller.pull("jobs").await.unwrap();
    push.send("held").await.unwrap();
    let held = pull.recv().await.unwrap();
    sim.sleep(random.random_range(Duration::ZERO..2.s())).await;
    match random.random_range(0..4) {
        0 => sim.cut_one_way(&a, &b),
        1 => sim.cut_one_way(&b, &a),
        2 => sim.cut(&a, &b),
        _ => {
            b.crash();
            let taken = sim.until(3.s(), || pusher.peers().is_empty()).await;
            return sim.note(format!("given up after {taken:?}"));
        }
    };
    let taken = sim.until(3.s(), || pusher.peers().is_empty() && puller.peers().is_empty()).await;
    sim.note(format!("given up after {taken:?}"));
    // The job is with its pusher again, and the late answer is one that nobody waits for.
    held.ack();
    assert_eq!((push.metrics().in_flight, push.metrics().queued), (0, 1));
}

/// A worker goes on taking what waits there while its host is cut off, in either direction or in both, or is stopped. What
/// another one was handed meanwhile it is not told to be new, but for what it takes while the word of that is under way;
/// and what nobody else can have, however long it waits, is new.
#[netsim::test(seeds = 40, meets = ["a worker that was given up takes what another one has"])]
async fn what_another_worker_has_is_not_taken_for_new(sim: Sim) {
    let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
    sim.set_link(Link::lan().latency(0.ms()..20.ms()));
    let [pusher, worker, other] = &["pusher", "worker", "other"].map(|name| sim.host(name));
    let nodes = [join(pusher).await, join(worker).await, join(other).await];
    let push = nodes[0].push("jobs").await.unwrap();
    let pull = nodes[1].pull("jobs").prefetch(100).await.unwrap();
    for number in 0..100 {
        push.send(number.to_string()).await.unwrap();
    }
    let (pace, acks) = (random.random_range(20.ms()..200.ms()), random.random_bool(0.5));
    let taken = Arc::new(Mutex::new(Vec::new()));
    worker.spawn({
        let (sim, taken) = (sim.clone(), taken.clone());
        async move {
            let mut held = Vec::new();
            while let Ok(job) = pull.recv().await {
                let number: u32 = std::str::from_utf8(&job).unwrap().parse().unwrap();
                taken.lock().unwrap().push((sim.elapsed(), number, job.redelivered()));
                if acks {
                    job.ack()
                } else {
                    held.push(job)
                }
                sim.sleep(pace).await;
            }
        }
    });
    sim.sleep(random.random_range(Duration::ZERO..pace * 50)).await;
    let before = taken.lock().unwrap().clone();
    assert!(before.iter().all(|(_, _, redelivered)| !redelivered), "nobody else was there: {before:?}");

    let elsewhere = Arc::new(Mutex::new(BTreeMap::new()));
    let pull = nodes[2].pull("jobs").prefetch(100).await.unwrap();
    other.spawn({
        let (sim, elsewhere) = (sim.clone(), elsewhere.clone());
        async move {
            while let Ok(job) = pull.recv().await {
                let number: u32 = std::str::from_utf8(&job).unwrap().parse().unwrap();
                elsewhere.lock().unwrap().entry(number).or_insert_with(|| sim.elapsed());
                job.ack();
            }
        }
    });
    push.wait_for_pullers(2).await.unwrap();
    match random.random_range(0..4) {
        0 => drop(sim.cut_one_way(pusher, worker)),
        1 => drop(sim.cut_one_way(worker, pusher)),
        2 => drop(sim.cut(worker, pusher)),
        _ => worker.pause(),
    }
    sim.sleep(random.random_range(1.s()..6.s())).await;
    worker.resume();
    sim.sleep(5.s()).await;
    let (taken, elsewhere) = (taken.lock().unwrap(), elsewhere.lock().unwrap());
    for (at, number, redelivered) in &*taken {
        let Some(since) = elsewhere.get(number).and_then(|other| at.checked_sub(*other)) else { continue };
        netsim::sometimes!("a worker that was given up takes what another one has");
        assert!(*redelivered || since < 50.ms(), "{number} was with another one for {since:?}");
    }
}

/// On an idle link a peer that has gone is given up within 25 s, and one that is there never is.
#[netsim::test(seeds = 10)]
async fn an_idle_peer_is_given_up_within_twenty_five_seconds(sim: Sim) {
    let (a, b) = (sim.host("a"), sim.host("b"));
    let (here, there) = (join(&a).await, join(&b).await);
    let _sockets = (here.push("jobs").await.unwrap(), there.pull("jobs").await.unwrap());
    sim.until(5.s(), || here.peers().len() == 1).await;
    sim.run_for(120.s()).await;
    assert_eq!((here.metrics().links_opened, here.peers().len()), (1, 1));
    match sim.seed() % 2 {
        0 => drop(sim.cut(&a, &b)),
        _ => b.pause(),
    }
    sim.until(26.s(), || here.peers().is_empty()).await;
}

/// Five nodes at work for half an hour over a network that loses every fifth packet and delays the others by up to 200 ms
/// each way: over five link-hours nobody takes another one for dead.
#[netsim::test(seeds = 1, again = false)]
async fn a_very_bad_network_kills_no_link(sim: Sim) {
    let hosts: Vec<Host> = sim.default_lan().hosts("host", 5);
    let mut nodes = Vec::new();
    for host in &hosts {
        let node = join(host).await;
        let (push, pull) = (node.push("jobs").await.unwrap(), node.pull("jobs").await.unwrap());
        host.spawn(async move {
            while let Ok(job) = pull.recv().await {
                job.ack();
            }
        });
        host.spawn({
            let sim = sim.clone();
            async move {
                while push.send("work").await.is_ok() {
                    sim.sleep(500.ms()).await;
                }
            }
        });
        nodes.push(node);
    }
    sim.until(5.s(), || nodes.iter().all(|node| node.peers().len() == 4)).await;
    sim.set_link(Link::lan().latency(0.ms()..200.ms()).loss(0.2));
    let before: Vec<_> = nodes.iter().map(|node| node.metrics().links_opened).collect();
    sim.run_for(1800.s()).await;
    let after: Vec<_> = nodes.iter().map(|node| node.metrics().links_opened).collect();
    assert_eq!(before, after, "links that were lost have been opened again");
    assert!(nodes.iter().all(|node| node.peers().len() == 4));
}

const JOBS: u64 = 2000;

/// A network in two halves with a puller in each: both go on.
#[netsim::test(seeds = 4)]
async fn a_partition_blocks_no_side_that_has_pullers(sim: Sim) {
    let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
    let (left, right) = (sim.default_lan().hosts("left", 3), sim.default_lan().hosts("right", 3));
    let mut pushes = Vec::new();
    for side in [&left, &right] {
        for (number, host) in side.iter().enumerate() {
            let node = join(host).await;
            if number > 0 {
                let (host, pull) = (host.clone(), node.pull("jobs").await.unwrap());
                host.clone().spawn(async move {
                    while let Ok(job) = pull.recv().await {
                        host.work(1.ms()).await;
                        job.ack();
                    }
                });
                continue;
            }
            let push = Arc::new(node.push("jobs").bound(200, 1 << 20).await.unwrap());
            let (sim, pushing) = (sim.clone(), push.clone());
            host.spawn(async move {
                for number in 0..JOBS {
                    pushing.send(number.to_string()).await.unwrap();
                    sim.sleep(8.ms()).await;
                }
                pushing.flush().await.unwrap();
            });
            pushes.push(push);
        }
    }
    sim.sleep(random.random_range(1.s()..3.s())).await;
    let cut = sim.partition(&left, &right);
    // By then each side knows that the other one is away.
    sim.sleep(3.s()).await;
    for _ in 0..random.random_range(3..8) {
        let before: Vec<_> = pushes.iter().map(|push| push.metrics().handled).collect();
        sim.sleep(1.s()).await;
        for (push, before) in pushes.iter().zip(before) {
            let handled = push.metrics().handled - before;
            assert!(handled > 60, "{handled} handled in a second of the cut");
        }
    }
    cut.heal();
    sim.until(60.s(), || pushes.iter().all(|push| push.metrics().handled == JOBS)).await;
}
