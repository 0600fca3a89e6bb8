//! What is promised, as properties of real nodes on a network that does its worst: push and pull, and the mesh.

#![allow(clippy::unwrap_used)]

mod crew;
mod everything;
mod failures;
mod news;
mod requests;
mod silence;
#[path = "../types/mod.rs"]
mod types;

use std::time::Duration;

use meshmq::{MeshKey, Node, Push};
use netsim::check::{Left, Violation};
use netsim::{Hardship, Sim, Units, sometimes};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::{JoinHandle, JoinSet};

use crew::{Crew, Plan, join};

const PLAN: Plan = Plan {
    pushers: 3,
    pullers: 5,
    time: Duration::from_secs(20),
    every: Duration::from_millis(40),
    bound: 100,
    prefetch: None,
    verbs: false,
};

/// Three pushers and five pullers for twenty seconds, under one to three hardships: nothing that was accepted is
/// lost or forgotten, nothing is handled twice without a word, bounds are exact all the time, and afterwards the mesh is whole,
/// ends in time and leaves nothing.
#[netsim::test(seeds = 3, time_limit = 600.s(), meets = ["a message is handed out again"])]
async fn nothing_is_lost_whatever_happens(sim: Sim) {
    nothing_is_lost(sim).await;
}

/// After a split brain that was over for seconds, a transport still took its time: goodbyes and the end of connections had
/// a second each.
#[netsim::test(seeds = 428_749_083..428_749_084, time_limit = 600.s())]
async fn a_shutdown_ends_in_time_where_the_transport_does_not(sim: Sim) {
    nothing_is_lost(sim).await;
}

async fn nothing_is_lost(sim: Sim) {
    let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
    let prefetch = [None, Some(1), Some(8)][random.random_range(0..3)];
    let bound = [1, 10, 1000][random.random_range(0..3)];
    under_hardships(sim, Plan { prefetch, bound, ..PLAN }, None).await;
}

/// The same with every verb that sockets have and every way to receive, mixed at random.
#[netsim::test(seeds = 3..5, time_limit = 600.s(), meets = ["a message is handed out again", "a send is dropped"])]
async fn nothing_is_lost_by_whatever_verb(sim: Sim) {
    let plan = by_any_verb(&sim, PLAN.time);
    under_hardships(sim, plan, None).await;
}

/// Every verb, and a bound and a prefetch as the seed draws them.
fn by_any_verb(sim: &Sim, time: Duration) -> Plan {
    let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
    let prefetch = [None, Some(1), Some(8)][random.random_range(0..3)];
    let bound = [2, 10, 1000][random.random_range(0..3)];
    Plan { time, prefetch, bound, verbs: true, ..PLAN }
}

/// Each hardship by itself, so that none hides behind another.
#[netsim::test(seeds = 16, time_limit = 600.s())]
async fn nothing_is_lost_in_each_hardship(sim: Sim) {
    let all = Hardship::ALL;
    let hardship = all[sim.seed() as usize % all.len()];
    under_hardships(sim, Plan { time: 10.s(), ..PLAN }, Some(hardship)).await;
}

async fn under_hardships(sim: Sim, plan: Plan, only: Option<Hardship>) {
    let crew = Crew::start(&sim, plan);
    let pushing = crew.start_pushing();
    watch_bounds(&crew);
    let hardships = sim.hardships(&crew.hosts()).mortal(&crew.pullers);
    let hardships = match only {
        Some(hardship) => hardships.only(&[hardship]),
        None => hardships,
    };
    let struck = hardships.strike(plan.time).await;
    settle(&crew, pushing, &struck).await;
    end(&crew).await;
}

/// In calm the mesh is whole again, and all that was accepted ends.
async fn settle(crew: &Crew, pushing: Vec<JoinHandle<()>>, struck: &[Hardship]) {
    let sim = &crew.sim;
    let began = sim.elapsed();
    while !crew.is_whole() {
        // Whoever has missed an announcement asks anew every 30 s or so.
        assert!(sim.elapsed() - began < 60.s(), "not whole within a minute");
        sim.run_for(10.ms()).await;
    }
    sim.note(format!("whole {:?} after {struck:?}", sim.elapsed() - began));
    for pusher in pushing {
        pusher.await.expect("pushers are not mortal");
    }
    let summary = hold(crew.ledger.finish(sim.elapsed()));
    assert!(summary.accepted > 0 && summary.handled + summary.rejected == summary.accepted, "{summary:?}");
}

/// Every pusher keeps to its bound and forgets nothing, at every instant.
fn watch_bounds(crew: &Crew) {
    let watched = crew.clone();
    crew.sim.always(move || watched.pushes().iter().try_for_each(|push| bound_is_exact(&watched.plan, push)));
}

fn bound_is_exact(plan: &Plan, push: &Push) -> Result<(), Violation> {
    let figures = push.metrics();
    let owned = figures.queued + figures.in_flight;
    let settled = figures.handled + figures.rejected + figures.exhausted + figures.handed_back;
    // Asked at every instant: so there are few steps to it.
    let kept = figures.bound_messages == plan.bound as u64 && figures.bytes <= figures.bound_bytes;
    if !kept || owned != figures.accepted - settled || owned > figures.bound_messages {
        return Err(Violation::new("bounds are exact", format!("{figures:?}")));
    }
    Ok(())
}

/// How long a shutdown with a drain of two seconds may take: a second more for goodbyes, and timers are a millisecond
/// coarse.
const ENDS_WITHIN: Duration = Duration::from_millis(3_005);

/// Every node shuts down, at one instant: within its time, and nothing is left.
async fn end(crew: &Crew) {
    let sim = &crew.sim;
    let nodes = crew.nodes();
    crew.let_go();
    let began = sim.elapsed();
    let mut ending = JoinSet::new();
    for node in nodes {
        ending.spawn(async move { node.shutdown(2.s()).await.is_empty() });
    }
    while let Some(empty) = ending.join_next().await {
        assert!(empty.unwrap(), "everything was settled before");
    }
    let taken = sim.elapsed() - began;
    assert!(taken <= ENDS_WITHIN, "{taken:?}");
    // Programs end with their nodes; QUIC waits a moment for what may still be on its way.
    let (hosts, over) = (crew.hosts(), sim.elapsed());
    tokio::select! {
        biased;
        () = async { for host in &hosts { host.ended().await } } => {}
        () = sim.sleep(120.s()) => {}
    }
    let mut left = Left::new();
    for host in hosts {
        left.count(format!("tasks of {}", host.name()), move || host.tasks());
    }
    hold(left.check());
    sim.note(format!("all tasks have ended after {:?}", sim.elapsed() - over));
}

fn hold<T>(checked: Result<T, Violation>) -> T {
    checked.unwrap_or_else(|violation| panic!("{violation}"))
}

/// What a cut takes apart is together soon after it has healed: within a second when it was of up to ten seconds, within
/// five when it was longer.
#[netsim::test(seeds = 20, time_limit = 600.s(), meets = ["a long cut", "a short cut"])]
async fn links_are_back_soon_after_a_cut(sim: Sim) {
    links_are_back(sim).await;
}

/// The first word on a connection was lost, as it came before the end of its handshake, and QUIC, which had taken a cut for
/// the time that the way takes, was in no hurry to send it again.
#[netsim::test(seeds = 521..522, time_limit = 600.s())]
async fn links_are_back_soon_when_a_first_word_is_lost(sim: Sim) {
    links_are_back(sim).await;
}

async fn links_are_back(sim: Sim) {
    let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
    let crew = Crew::start(&sim, Plan { pushers: 2, pullers: 3, time: 1.s(), ..PLAN });
    let pushing = crew.start_pushing();
    sim.until(5.s(), || crew.is_whole()).await;
    let (time, limit) = if random.random_bool(0.6) {
        sometimes!("a short cut");
        (random.random_range(1.ms()..=10.s()), 1.s())
    } else {
        sometimes!("a long cut");
        (random.random_range(10.s()..=60.s()), 5.s())
    };
    let hosts = crew.hosts();
    let split = random.random_range(1..hosts.len());
    let cut = match random.random_bool(0.3) {
        true => sim.partition_one_way(&hosts[..split], &hosts[split..]),
        false => sim.partition(&hosts[..split], &hosts[split..]),
    };
    sim.sleep(time).await;
    cut.heal();
    // A link that is down and not noticed yet is as good as there: what matters is that it works.
    sim.sleep(limit).await;
    assert!(crew.is_whole(), "cut for {time:?}, and not whole {limit:?} after it has healed");
    for pusher in pushing {
        pusher.await.unwrap();
    }
}

/// Nodes of two meshes on one LAN, some on the same hosts: links are within a mesh.
#[netsim::test(seeds = 5)]
async fn links_are_within_a_mesh(sim: Sim) {
    let hosts: Vec<_> = (0..4).map(|n| sim.host(&format!("host {n}"))).collect();
    let mut meshes = [Vec::new(), Vec::new()];
    for (number, host) in hosts.iter().enumerate() {
        for (which, mesh) in meshes.iter_mut().enumerate() {
            if number == which {
                continue;
            }
            let key = MeshKey::from_bytes([7 + which as u8; 32]);
            mesh.push(Node::builder("sim").name(host.name()).key(key).env(host.env()).await.unwrap());
        }
    }
    for _ in 0..200 {
        sim.run_for(100.ms()).await;
        for mesh in &meshes {
            let ids: Vec<_> = mesh.iter().map(Node::id).collect();
            assert!(mesh.iter().flat_map(Node::peers).all(|peer| ids.contains(&peer.id)), "a stranger");
        }
    }
    assert!(meshes.iter().flatten().all(|node| node.peers().len() == 2));
}

/// In whatever order nodes start, and however long after one another, all work is done.
#[netsim::test(seeds = 20)]
async fn start_order_never_matters(sim: Sim) {
    let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
    let starts: Vec<Duration> = (0..5).map(|_| random.random_range(Duration::ZERO..=3.s())).collect();
    let done: Vec<_> = starts
        .into_iter()
        .enumerate()
        .map(|(n, start)| {
            let (sim, host) = (sim.clone(), sim.host(&format!("host {n}")));
            let pushes = n < 2;
            host.clone().spawn(async move {
                sim.sleep(start).await;
                let node = join(&host).await;
                if pushes {
                    let push = node.push("jobs").await.unwrap();
                    for number in 0..50 {
                        push.send(format!("{n}.{number}")).await.unwrap();
                    }
                    push.flush().await.unwrap();
                } else {
                    let pull = node.pull("jobs").await.unwrap();
                    loop {
                        pull.recv().await.unwrap().ack();
                    }
                }
            })
        })
        .collect();
    let began = sim.elapsed();
    for pusher in done.into_iter().take(2) {
        pusher.await.unwrap();
    }
    assert!(sim.elapsed() - began < 5.s(), "{:?}", sim.elapsed());
}

/// Both ends shut down in the same instant, in the middle of work: within their time, and what is not handled is handed
/// back, each message once.
#[netsim::test(seeds = 20)]
async fn two_that_shut_down_at_once_end_in_time_and_hand_back(sim: Sim) {
    let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
    let (a, b) = (sim.host("a"), sim.host("b"));
    let (pusher, puller) = (join(&a).await, join(&b).await);
    let (push, pull) = (pusher.push("jobs").await.unwrap(), puller.pull("jobs").await.unwrap());
    let handled = b.spawn(async move {
        let mut handled = 0;
        while let Ok(job) = pull.recv().await {
            job.ack();
            handled += 1;
        }
        handled
    });
    let wait = random.random_range(Duration::ZERO..=20.ms());
    for number in 0..500 {
        push.send(number.to_string()).await.unwrap();
    }
    sim.sleep(wait).await;
    let began = sim.elapsed();
    let (back, _) = tokio::join!(pusher.shutdown(2.s()), puller.shutdown(2.s()));
    let taken = sim.elapsed() - began;
    assert!(taken <= ENDS_WITHIN, "{taken:?}");
    let handled = handled.await.unwrap();
    // What was acknowledged as the link ended may be handed back as well: its pusher can't know.
    assert!(handled + back.len() >= 500, "{handled} handled, {} handed back", back.len());
}

/// Whatever becomes of links and nodes, types decide who meets whom.
#[netsim::test(seeds = 5, time_limit = 600.s(), meets = ["typed sockets meet", "an untyped socket meets a typed one"])]
async fn sockets_of_different_types_exchange_nothing(sim: Sim) {
    types::sockets_of_different_types_exchange_nothing(sim, 10.s()).await;
}
