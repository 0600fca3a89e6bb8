//! Real nodes in the simulated world: who meets whom, and what is the same again.

#![allow(clippy::unwrap_used)]

mod node;

use std::time::Duration;

use meshmq::{MeshKey, Node};
use netsim::{Hash, Host, Link, Sim, seeds};

use node::{KEY, Ledger, join, push_all, work};

/// The simulator is an argument and not a switch: a node that is built without one uses the operating system.
#[test]
fn ordinary_nodes_differ_and_simulated_ones_do_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ordinary = || {
        let listen = ([127, 0, 0, 1], 0).into();
        let node = Node::builder("sim").key(MeshKey::from_bytes(KEY)).without_mdns().without_local().listen(listen);
        runtime.block_on(node.into_future()).unwrap().id()
    };
    let simulated = |seed| Sim::run(seed, async |sim: Sim| join(&sim.host("a")).await.id()).value;
    assert_ne!(ordinary(), ordinary());
    assert_eq!(simulated(1), simulated(1));
    assert_ne!(simulated(1), simulated(2));
}

#[test]
fn nodes_that_a_cut_has_kept_apart_meet_when_it_heals() {
    Sim::run(1, async |sim: Sim| {
        let (a, b) = (sim.host("a"), sim.host("b"));
        sim.cut(&a, &b);
        let (first, second) = (join(&a).await, join(&b).await);
        sim.sleep(Duration::from_secs(20)).await;
        assert!(first.peers().is_empty() && second.peers().is_empty());
        sim.heal();
        let healed = sim.elapsed();
        first.wait_for_peers(1).await.unwrap();
        second.wait_for_peers(1).await.unwrap();
        // Each asks the network anew every 30 s or so.
        assert!(sim.elapsed() - healed < Duration::from_secs(40), "{:?}", sim.elapsed() - healed);
    });
}

#[test]
fn a_restarted_host_comes_back_as_another_node() {
    Sim::run(1, async |sim: Sim| {
        let (a, b) = (sim.host("a"), sim.host("b"));
        let here = join(&a).await;
        let stay = |host: Host| async move {
            let _node = join(&host).await;
            std::future::pending::<()>().await
        };
        b.spawn(stay(b.clone()));
        here.wait_for_peers(1).await.unwrap();
        let before = here.peers()[0].id;
        b.crash();
        b.restart();
        b.spawn(stay(b.clone()));
        while here.peers().iter().all(|peer| peer.id == before) {
            sim.sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn only_the_same_mesh_is_told_and_a_host_is_found_by_its_name() {
    Sim::run(1, async |sim: Sim| {
        let (a, b) = (sim.host("a"), sim.host("b"));
        let here = join(&a).await;
        let stranger = Node::builder("sim").key(MeshKey::from_bytes([8; 32])).env(b.env()).await.unwrap();
        sim.sleep(Duration::from_secs(20)).await;
        assert_eq!((here.peers().len(), stranger.peers().len()), (0, 0));
        assert_eq!(sim.trace().packets.sent, 0);

        // No discovery, only a name.
        let mut env = b.env();
        env.sources.clear();
        let port = here.local_addr().port();
        let there =
            Node::builder("sim").key(MeshKey::from_bytes(KEY)).peer(&format!("a:{port}")).env(env).await.unwrap();
        there.wait_for_peers(1).await.unwrap();
        assert_eq!(there.peers()[0].id, here.id());
    });
}

/// No discovery, only the name of one host, which dies as soon as it has brought the others together.
#[test]
fn one_known_host_is_enough_and_may_die() {
    const PORT: u16 = 7000;
    let knows_one = |host: &Host| {
        let mut env = host.env();
        env.sources.clear();
        let node = Node::builder("sim").key(MeshKey::from_bytes(KEY)).env(env);
        if host.name() == "known" {
            node.listen(([0, 0, 0, 0], PORT).into())
        } else {
            node.peer(&format!("known:{PORT}"))
        }
    };
    for seed in seeds(4) {
        Sim::run(seed, async |sim: Sim| {
            sim.set_link(Link::lan().latency(ms(1)).jitter(ms(20)).loss(0.05));
            let known = sim.host("known");
            let first = knows_one(&known);
            known.spawn(async move {
                let _node = first.await.unwrap();
                std::future::pending::<()>().await
            });
            let mut others = Vec::new();
            for n in 0..4 {
                others.push(knows_one(&sim.host(&format!("other {n}"))).await.unwrap());
            }
            for node in &others {
                node.wait_for_peers(4).await.unwrap();
            }
            known.crash();
            // Longer than a silent peer is given up on an idle link.
            sim.sleep(Duration::from_secs(30)).await;
            for node in &others {
                assert_eq!(node.peers().len(), 3, "without the one that died");
            }
        });
    }
}

/// Many nodes, loss, a cut, a crash: everything that might be decided by an order that is not the seed's.
#[test]
fn a_busy_mesh_is_the_same_again() {
    for seed in seeds(2) {
        assert_eq!(busy(seed), busy(seed));
    }
    assert_ne!(busy(1), busy(2));
}

fn busy(seed: u64) -> Hash {
    let run = Sim::run(seed, async |sim: Sim| {
        sim.set_link(Link::lan().latency(ms(1)).jitter(ms(4)).loss(0.05).duplicates(0.02));
        let workers: Vec<_> = (0..4).map(|n| sim.host(&format!("worker {n}"))).collect();
        let producers: Vec<_> = (0..4).map(|n| sim.host(&format!("producer {n}"))).collect();
        let ledger = Ledger::default();
        for host in &workers {
            host.spawn(work(sim.clone(), host.clone(), ledger.clone()));
        }
        let pushing: Vec<_> = producers.iter().map(|host| host.spawn(push_all(host.clone(), 300))).collect();

        sim.sleep(ms(150)).await;
        workers[0].crash();
        sim.cut(&workers[1], &producers[1]);
        sim.sleep(ms(500)).await;
        workers[0].restart();
        workers[0].spawn(work(sim.clone(), workers[0].clone(), ledger.clone()));
        sim.sleep(ms(5000)).await;
        sim.heal();
        for pushed in pushing {
            pushed.await.unwrap();
        }
        assert!(ledger.handled().len() >= 4 * 300, "{}", ledger.handled().len());
    });
    run.trace.hash
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
