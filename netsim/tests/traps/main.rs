//! Whole nodes meet the traps that are named: a run of seeds that leaves one of them out proves nothing of it.
//!
//! Each trap is seen from outside, where an application or an operator could see it.

#![allow(clippy::unwrap_used)]

mod crew;
mod dials;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use meshmq::{Node, NodeId, Push};
use netsim::check::{End, TRAPS, sometimes};
use netsim::{Sim, Units, sometimes};

use crew::{Crew, Pushing, Worker};

#[test]
fn whole_nodes_meet_every_trap() {
    let seeds = netsim::seeds(SEEDS);
    let mut visits = sometimes::Visits::default();
    let next = AtomicU64::new(seeds.start);
    let some = || {
        let mine = std::iter::repeat_with(|| next.fetch_add(1, Relaxed)).take_while(|seed| *seed < seeds.end);
        mine.for_each(|seed| {
            Sim::builder(seed).time_limit(300.s()).run(everything_goes_wrong);
        });
        sometimes::take()
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(some), scope.spawn(some)];
        threads.into_iter().for_each(|thread| visits.add(thread.join().expect("it says what is wrong")));
    });
    for (what, count) in visits.iter() {
        println!("{count:>8} {what}");
    }
    let whole = TRAPS.iter().filter(|trap| trap.whole).map(|trap| trap.name);
    // Of fresh ones a trap may be missing.
    if seeds == (0..SEEDS) {
        assert_eq!(visits.missing(whole), Vec::<&str>::new(), "a trap that no seed meets");
    }
}

/// Two pushers and two workers at work, to whom one thing happens after the other.
async fn everything_goes_wrong(sim: Sim) {
    dials::look();
    let crew = Crew::new(&sim);
    let [one, other] = crew.workers.clone();
    let (pushing, second) = (crew.push("pusher").await, crew.push("second").await);
    let sender = pushing.host.spawn(crew.clone().send(pushing.clone()));
    sim.until(10.s(), || pushing.push.pullers() == 2 && second.push.pullers() == 2).await;

    one_way(&crew, &pushing, &one).await;
    asleep(&crew, &pushing, &other).await;
    both_ways(&crew, &pushing).await;
    again(&crew, &pushing).await;
    closes(&crew, &pushing, &other).await;
    sometimes!("failures used up", pushing.push.metrics().exhausted > 0);

    lost_with_its_pusher(&crew, second).await;
    sender.abort();
    ends(&crew, pushing).await;
}

/// What one worker says does not arrive for a while.
async fn one_way(crew: &Crew, pushing: &Pushing, worker: &Worker) {
    let credit =
        |push: &Push, node| push.metrics().pullers.iter().filter(|at| at.node == node).map(|at| at.credit).sum::<u64>();
    let (node, sim) = (worker.id(), &crew.sim);
    let (unspent, links) = (credit(&pushing.push, node), pushing.node.metrics().links_opened);
    sometimes!("one-way partition");
    let cut = sim.partition_one_way(std::slice::from_ref(&worker.host), std::slice::from_ref(&pushing.host));
    sim.sleep(crew.time(4.s()..=6.s())).await;
    cut.heal();
    // Whoever has not noticed does so by now.
    sim.sleep(3.s()).await;
    sim.until(10.s(), || linked(&pushing.node, node)).await;
    let replaced = pushing.node.metrics().links_opened > links;
    sometimes!("link replaced with credit of the old one unspent", replaced && unspent > 0);
}

/// A worker's host sleeps with something in hand, and wakes where it was.
async fn asleep(crew: &Crew, pushing: &Pushing, worker: &Worker) {
    let node = worker.id();
    crew.set_slow(true);
    crew.sim.sleep(500.ms()).await;
    worker.host.pause();
    crew.sim.sleep(crew.time(3.s()..=4.s())).await;
    sometimes!("host suspended for longer than its links live", !linked(&pushing.node, node));
    worker.host.resume();
    crew.sim.sleep(1.s()).await;
    crew.set_slow(false);
    crew.sim.until(10.s(), || linked(&pushing.node, node)).await;
}

/// A network that was cut heals, and everybody dials.
async fn both_ways(crew: &Crew, pushing: &Pushing) {
    let workers = crew.workers.clone().map(|worker| worker.host);
    let cut = crew.sim.partition(&workers, std::slice::from_ref(&pushing.host));
    crew.sim.sleep(crew.time(9.s()..=12.s())).await;
    cut.heal();
    crew.sim.until(10.s(), || crew.workers.iter().all(|worker| linked(&pushing.node, worker.id()))).await;
}

/// A worker crashes with something in hand, and is there again before anybody has missed it, as who it was.
async fn again(crew: &Crew, pushing: &Pushing) {
    crew.sim.until(10.s(), || crew.workers.iter().any(Worker::is_busy)).await;
    let worker = crew.workers.iter().find(|worker| worker.is_busy()).unwrap();
    let (node, life) = (worker.id(), worker.life());
    worker.crash(crew);
    crew.sim.sleep(50.ms()).await;
    let dead = linked(&pushing.node, node);
    worker.host.restart();
    crew.sim.until(10.s(), || worker.life() > life && linked(&pushing.node, node)).await;
    sometimes!("peer restarted against its own dead link", dead && worker.id() == node);
    // Whoever is handed what it had in hand hears of its failures.
    crew.sim.sleep(2.s()).await;
}

/// A socket closes with messages that it has not handed out.
async fn closes(crew: &Crew, pushing: &Pushing, worker: &Worker) {
    let returned = || pushing.push.metrics().returned;
    let before = returned();
    crew.set_slow(true);
    crew.sim.sleep(1.s()).await;
    worker.close();
    crew.set_slow(false);
    crew.sim.sleep(5.s()).await;
    sometimes!("message returned by a puller that closes", returned() > before);
}

/// A pusher crashes with what it had accepted.
async fn lost_with_its_pusher(crew: &Crew, second: Pushing) {
    for number in 0..5 {
        crew.send_one(&second, format!("second.{number}")).await;
    }
    let lost = crew.ledger.summary().lost;
    second.host.crash();
    crew.ledger.crashed(crew.sim.elapsed(), "second");
    sometimes!("accepted message lost with its crashed pusher", crew.ledger.summary().lost > lost);
}

/// All nodes shut down in one instant.
async fn ends(crew: &Crew, pushing: Pushing) {
    let workers: Vec<Node> = crew.workers.iter().filter_map(Worker::node).collect();
    sometimes!("both ends shut down in the same millisecond");
    let ending: Vec<_> =
        workers.into_iter().map(|node| tokio::spawn(async move { node.shutdown(1.s()).await })).collect();
    let back = pushing.node.shutdown(200.ms()).await;
    sometimes!("message handed back by a node that ends", !back.is_empty());
    let now = crew.sim.elapsed();
    for message in back {
        crew.ledger.settled(now, crew::id_of(&message.body), End::HandedBack);
    }
    for node in ending {
        assert!(node.await.unwrap().is_empty(), "a worker has nothing to hand back");
    }
    crew.ledger.flushed(now, "pusher");
    crew.ledger.finish(crew.sim.elapsed()).unwrap_or_else(|violation| panic!("{violation}"));
}

fn linked(node: &Node, with: NodeId) -> bool {
    node.peers().iter().any(|peer| peer.id == with)
}

/// Enough for each trap; most seeds meet most of them.
const SEEDS: u64 = 40;
