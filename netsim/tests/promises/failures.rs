//! How often a message may fail, and how many are at a puller at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use meshmq::Event;
use netsim::{Link, Sim, Units, sometimes};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::crew::join;

const JOBS: usize = 60;

/// Some jobs fail whoever is given them, others now and then, over a network that loses packets and is cut once: a job
/// that has failed three times ends, and an event carries it; all others are handled; each ends once.
#[netsim::test(seeds = 6, meets = ["a job ends by its failures", "a job fails and is handled later", "a job is rejected"])]
async fn a_message_ends_when_its_failures_are_used_up(sim: Sim) {
    let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
    sim.set_link(Link::lan().latency(0.ms()..5.ms()).loss(0.02));
    let (pusher, pullers) = (sim.host("pusher"), sim.default_lan().hosts("puller", 3));
    let node = join(&pusher).await;
    let push = node.push("jobs").max_failures(3).await.unwrap();
    // What each job has met with: its failures, and how it ended at a worker.
    let seen = Arc::new(Mutex::new(BTreeMap::<String, Vec<&str>>::new()));
    for host in &pullers {
        let (seen, mut random) = (seen.clone(), ChaCha8Rng::from_rng(&mut random));
        host.spawn({
            let host = host.clone();
            async move {
                let node = join(&host).await;
                let pull = node.pull("jobs").prefetch(4).await.unwrap();
                while let Ok(job) = pull.recv().await {
                    host.work(random.random_range(0.ms()..3.ms())).await;
                    let name = String::from_utf8_lossy(&job).into_owned();
                    let answer = match random.random_range(0..10) {
                        _ if name.starts_with("never") => "failed",
                        0 | 1 => "failed",
                        2 => "rejected",
                        _ => "handled",
                    };
                    seen.lock().unwrap().entry(name).or_default().push(answer);
                    match answer {
                        "failed" if random.random_bool(0.5) => job.nack(),
                        "failed" => drop(job),
                        "rejected" => job.reject("on purpose"),
                        _ => job.ack(),
                    }
                }
            }
        });
    }
    let mut events = node.events();
    let names: Vec<_> = (0..JOBS).map(|n| format!("{} {n}", if n % 4 == 0 { "never" } else { "job" })).collect();
    for name in &names {
        push.send(name.clone()).await.unwrap();
    }
    let (from, time) = (random.random_range(0.ms()..300.ms()), random.random_range(1.ms()..6.s()));
    sim.sleep(from).await;
    sim.partition(&[pusher], &pullers[..1]).during(time);
    push.flush().await.unwrap();

    let figures = push.metrics();
    assert_eq!(figures.accepted, figures.handled + figures.rejected + figures.exhausted, "{figures:?}");
    assert_eq!(figures.accepted, JOBS as u64);
    let (mut exhausted, mut rejected) = (BTreeSet::new(), BTreeSet::new());
    while exhausted.len() < figures.exhausted as usize || rejected.len() < figures.rejected as usize {
        match events.next().await.expect("the node is here") {
            Event::Exhausted { message, failures, .. } => {
                let name = String::from_utf8_lossy(&message).into_owned();
                assert_eq!(failures, 3, "{name}");
                sometimes!("a job ends by its failures");
                assert!(exhausted.insert(name), "it ends once");
            }
            Event::Rejected { message, reason, .. } => {
                assert_eq!(reason, "on purpose");
                sometimes!("a job is rejected");
                assert!(rejected.insert(String::from_utf8_lossy(&message).into_owned()), "it ends once");
            }
            _ => {}
        }
    }
    let seen = seen.lock().unwrap();
    for name in &names {
        let answers = seen.get(name).map_or(&[][..], Vec::as_slice);
        let failed = answers.iter().filter(|answer| **answer == "failed").count();
        // A worker that was cut off may have answered what its pusher never heard; the lost link is a failure then.
        match (exhausted.contains(name), rejected.contains(name)) {
            (true, false) => assert!(failed <= 3, "{name}: {answers:?}"),
            (false, true) => assert!(answers.contains(&"rejected"), "{name}: {answers:?}"),
            (false, false) => {
                assert!(answers.contains(&"handled"), "{name}: {answers:?}");
                sometimes!("a job fails and is handled later", failed > 0);
            }
            (true, true) => panic!("{name} has ended twice"),
        }
    }
}

/// A puller's only slot is with a pusher whose host is no more: the others wait for it for 3 s, as for all that is owed, and
/// not for as long as an idle link would be kept.
#[netsim::test(seeds = 10)]
async fn a_slot_that_a_pusher_died_with_is_free_within_three_seconds(sim: Sim) {
    let (puller, pushers) = (sim.host("puller"), sim.default_lan().hosts("pusher", 2));
    sim.set_link(Link::lan().latency(5.ms()..10.ms()));
    let node = join(&puller).await;
    let pull = node.pull("jobs").prefetch(1).await.unwrap();
    let mut nodes = Vec::new();
    for host in &pushers {
        let node = join(host).await;
        let push = node.push("jobs").await.unwrap();
        push.wait_for_pullers(1).await.unwrap();
        nodes.push((node, push));
    }
    // Its answer frees the slot, and the first one has more to do: the slot is granted to it, and it is gone by then.
    nodes[0].1.send_batch(["first", "second"]).await.unwrap();
    let job = pull.recv().await.unwrap();
    assert_eq!(job.body(), "first");
    pushers[0].crash();
    job.ack();
    sim.run_for(1.ms()).await;
    nodes[1].1.send("from the other").await.unwrap();
    let began = sim.elapsed();
    let job = pull.recv().await.unwrap();
    assert_eq!(job.body(), "from the other");
    let taken = sim.elapsed() - began;
    assert!(taken > 100.ms() && taken <= 3.s(), "{taken:?}");
}

/// Whoever comes, goes and is cut off: with `prefetch(n)` never more than n unanswered messages are at a puller.
#[netsim::test(seeds = 6, meets = ["all slots are used"])]
async fn prefetch_is_never_exceeded(sim: Sim) {
    let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
    let slots = [1, 2, 7][random.random_range(0..3)];
    sim.set_link(Link::lan().latency(0.ms()..4.ms()).loss(0.01));
    let (puller, pushers) = (sim.host("puller"), sim.default_lan().hosts("pusher", 3));
    for host in &pushers {
        let (sim, host) = (sim.clone(), host.clone());
        host.clone().run(move |host| {
            let sim = sim.clone();
            async move {
                let node = join(&host).await;
                let push = node.push("jobs").await.unwrap();
                for number in 0.. {
                    push.send(number.to_string()).await.unwrap();
                    sim.sleep(1.ms()).await;
                }
            }
        });
    }
    let node = join(&puller).await;
    let pull = Arc::new(node.pull("jobs").prefetch(slots).await.unwrap());
    puller.spawn({
        let (pull, puller, mut random) = (pull.clone(), puller.clone(), ChaCha8Rng::from_rng(&mut random));
        async move {
            let mut in_hand = Vec::new();
            while let Ok(job) = pull.recv().await {
                in_hand.push(job);
                if in_hand.len() == slots || random.random_bool(0.3) {
                    let wait: Duration = random.random_range(0.ms()..5.ms());
                    puller.work(wait).await;
                    in_hand.swap_remove(random.random_range(0..in_hand.len())).ack();
                }
            }
        }
    });
    let (mut handled, until) = (0, sim.elapsed() + 10.s());
    while sim.elapsed() < until {
        if random.random_bool(0.0005) {
            let time = random.random_range(1.ms()..4.s());
            let one = random.random_range(0..pushers.len());
            match random.random_bool(0.3) {
                true => pushers[one].crash(),
                false => sim.partition(std::slice::from_ref(&puller), &pushers[one..=one]).during(time),
            }
        }
        sim.sleep(1.ms()).await;
        let figures = pull.metrics();
        let here = figures.waiting + figures.in_hand;
        assert!(here <= slots as u64, "{here} of {slots}: {figures:?}");
        sometimes!("all slots are used", here == slots as u64);
        handled = figures.acked;
        for pusher in pushers.iter().filter(|pusher| !pusher.is_up()) {
            pusher.restart();
        }
    }
    // Slots that a pusher was given as it was cut off stay with it until it is given up.
    assert!(handled > 20, "{handled} handled");
}
