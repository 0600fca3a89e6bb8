//! Publishers and subscribers on a network that does its worst: what is published after a subscription is confirmed comes, or
//! is told to be missing, to the message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshmq::{Node, NodeId, OpenError, Publication, Publisher, WhenFull};
use netsim::{Host, Sim, Units, sometimes};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinHandle;

use super::crew::join;

const TIME: Duration = Duration::from_secs(15);

/// Publishers and subscribers of one mesh.
#[derive(Clone)]
pub(crate) struct News {
    sim: Sim,
    plan: Plan,
    known: Arc<Mutex<Known>>,
}

/// What publishers do.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Each publishes for so long, so often on average; and now and then until everybody has come to the end.
    pub(crate) time: Duration,
    pub(crate) every: Duration,
    /// The bound of what waits for a subscriber, in messages.
    pub(crate) bound: usize,
    pub(crate) retain: usize,
}

/// What is known from outside.
#[derive(Default)]
struct Known {
    /// Of each publisher: how many it has published.
    published: BTreeMap<NodeId, u64>,
    /// Of each subscriber's present life: how far it has come with each publisher.
    reached: BTreeMap<String, BTreeMap<NodeId, u64>>,
    /// What publishers have published is enough.
    enough: bool,
    /// They stay when they have published all.
    stay: Vec<(Node, Publisher)>,
    wrong: Option<String>,
}

/// Two publishers, four subscribers that come and go, fifteen seconds under one to three hardships.
#[netsim::test(seeds = 6, time_limit = 600.s(), meets = ["a message was missed", "a subscriber has begun in the midst of it"])]
async fn what_is_published_comes_or_is_told_to_be_missing(sim: Sim) {
    let news = News::new(&sim, Plan::drawn(&sim, TIME, 10.ms()));
    let publishers: Vec<_> = (0..2).map(|n| sim.host(&format!("publisher {n}"))).collect();
    let subscribers: Vec<_> = (0..4).map(|n| sim.host(&format!("subscriber {n}"))).collect();
    let publish = |host: &Host| {
        let (news, host) = (news.clone(), host.clone());
        async move { news.publish(join(&host).await).await }
    };
    let publishing: Vec<_> = publishers.iter().map(|host| host.spawn(publish(host))).collect();
    for host in &subscribers {
        let news = news.clone();
        host.run(move |host| {
            let news = news.clone();
            async move {
                let node = join(&host).await;
                news.subscribe(node.clone(), host).await;
                node.shutdown(1.s()).await;
            }
        });
    }
    let hosts = [publishers, subscribers.clone()].concat();
    sim.hardships(&hosts).mortal(&subscribers).strike(TIME).await;
    news.come_to_the_end(subscribers.len(), publishing).await;
}

impl Plan {
    /// A bound and retained messages as the seed draws them.
    pub(crate) fn drawn(sim: &Sim, time: Duration, every: Duration) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
        let (bound, retain) = ([3, 50, 10_000][random.random_range(0..3)], random.random_range(0..2));
        Self { time, every, bound, retain }
    }
}

impl News {
    pub(crate) fn new(sim: &Sim, plan: Plan) -> Self {
        Self { sim: sim.clone(), plan, known: Arc::default() }
    }

    /// Even numbers under one topic, odd ones under another; in the end more of them, until everybody has heard.
    pub(crate) async fn publish(self, node: Node) {
        let Self { sim, plan, known } = self;
        let mut random = ChaCha8Rng::seed_from_u64(sim.seed() ^ 1);
        let policy = [WhenFull::DropOldest, WhenFull::DropNewest][random.random_range(0..2)];
        let news = node.publisher("news").bound(plan.bound, 1 << 20).retain_last(plan.retain).when_full(policy);
        let news = news.await.unwrap();
        known.lock().unwrap().published.insert(node.id(), 0);
        let begin = sim.elapsed();
        let mut number = 0_u64;
        loop {
            {
                let mut known = known.lock().unwrap();
                if known.enough {
                    break;
                }
                // Before it is: a subscriber that joins in this very moment may have it.
                known.published.insert(node.id(), number + 1);
            }
            news.publish(["even.x", "odd.x"][number as usize % 2], number.to_le_bytes().to_vec()).await.unwrap();
            number += 1;
            let every = if sim.elapsed() - begin < plan.time { plan.every } else { 100.ms() };
            sim.sleep(random.random_range(Duration::ZERO..=every * 2)).await;
        }
        // What was dropped last is told with what follows: one more of each, and none of them finds a full queue.
        news.flush().await.unwrap();
        for number in number..number + 2 {
            known.lock().unwrap().published.insert(node.id(), number + 1);
            news.publish(["even.x", "odd.x"][number as usize % 2], number.to_le_bytes().to_vec()).await.unwrap();
        }
        known.lock().unwrap().stay.push((node, news));
    }

    /// One life of a subscriber, until its host is asked to stop or its node ends.
    pub(crate) async fn subscribe(self, node: Node, host: Host) {
        let Self { sim, known, .. } = self;
        let mut random = ChaCha8Rng::seed_from_u64(sim.seed() ^ sim.elapsed().as_nanos() as u64);
        known.lock().unwrap().reached.insert(host.name().to_owned(), BTreeMap::new());
        let (topic, parity) = if random.random_bool(0.5) { ("even.*", 0) } else { ("odd.>", 1) };
        let sub = loop {
            let opening = node.subscriber("news").topic(topic).prefetch(random.random_range(1..200));
            match opening.await {
                Ok(sub) => break sub,
                Err(OpenError::Closed) => return,
                // A peer that is slow for as long as that; it is an error, and another attempt is made.
                Err(error) => sim.note(format!("{}: {error}", host.name())),
            }
        };
        // What those publish from here on comes, or is told.
        let confirmed: Vec<NodeId> =
            sub.metrics().publishers.iter().filter(|from| from.confirmed).map(|from| from.node).collect();
        let published = known.lock().unwrap().published.clone();
        let mut next: BTreeMap<NodeId, Next> = BTreeMap::new();
        for node in confirmed {
            let Some(published) = published.get(&node) else { continue };
            if *published > 10 {
                sometimes!("a subscriber has begun in the midst of it");
            }
            next.insert(node, Next::AtMost(published + (published + parity) % 2));
        }
        loop {
            let news = tokio::select! {
                biased;
                () = host.asked_to_stop() => break,
                news = sub.recv() => news,
            };
            let Ok(news) = news else { break };
            if let Err(wrong) = look_at(&news, parity, &mut next) {
                known.lock().unwrap().wrong.get_or_insert_with(|| format!("{}: {wrong}", host.name()));
            }
            let number = number(&news);
            let mut known = known.lock().unwrap();
            known.reached.entry(host.name().to_owned()).or_default().insert(news.sender(), number + 1);
        }
    }

    /// In calm everybody comes to the end: first to what was published before, then to all of it.
    pub(crate) async fn come_to_the_end(&self, subscribers: usize, publishing: Vec<JoinHandle<()>>) {
        let published = self.known.lock().unwrap().published.clone();
        self.sim.until(100.s(), || self.known.lock().unwrap().are_at(subscribers, &published)).await;
        self.known.lock().unwrap().enough = true;
        for publisher in publishing {
            publisher.await.expect("publishers are not mortal");
        }
        let published = self.known.lock().unwrap().published.clone();
        self.sim.until(60.s(), || self.known.lock().unwrap().are_at(subscribers, &published)).await;
        let known = self.known.lock().unwrap();
        assert!(known.wrong.is_none(), "{}", known.wrong.as_ref().unwrap());
    }

    /// Forgets the handles, so that publishers end with their nodes.
    pub(crate) fn let_go(&self) {
        let _stay = { std::mem::take(&mut self.known.lock().unwrap().stay) };
    }
}

impl Known {
    /// Whether so many subscribers have had this much of each publisher; or something is wrong, and waiting is of no use.
    fn are_at(&self, subscribers: usize, published: &BTreeMap<NodeId, u64>) -> bool {
        let are_at = |reached: &BTreeMap<NodeId, u64>| {
            published.iter().all(|(node, published)| reached.get(node).is_some_and(|at| at + 2 >= *published))
        };
        self.wrong.is_some() || self.reached.len() == subscribers && self.reached.values().all(are_at)
    }
}

/// What is due of a publisher.
enum Next {
    /// Nothing from here on may be missing without a word; retained ones may come before.
    AtMost(u64),
    Exactly(u64),
}

fn look_at(news: &Publication, parity: u64, next: &mut BTreeMap<NodeId, Next>) -> Result<(), String> {
    let number = number(news);
    if number % 2 != parity {
        return Err(format!("{number} is not what was subscribed to"));
    }
    let missed = match news.missed() {
        Some(gap) if !gap.exact => {
            // The publisher had forgotten it: nobody knows.
            sometimes!("a publisher had forgotten a subscriber");
            next.remove(&news.sender());
            0
        }
        gap => gap.map_or(0, |gap| gap.count),
    };
    if missed > 0 {
        sometimes!("a message was missed");
    }
    // Every second number is wanted.
    let first = number.saturating_sub(2 * missed);
    match next.get(&news.sender()) {
        Some(Next::AtMost(due)) if first > *due => {
            return Err(format!(
                "{number} behind {missed} missing ones, where {due} was published after the subscription"
            ));
        }
        Some(Next::Exactly(due)) if number != due + 2 * missed => {
            return Err(format!("{number} behind {missed} missing ones, where {due} was due"));
        }
        _ => {}
    }
    next.insert(news.sender(), Next::Exactly(number + 2));
    Ok(())
}

fn number(news: &Publication) -> u64 {
    u64::from_le_bytes(news[..].try_into().unwrap())
}

/// Nodes that are alone have sockets too.
#[netsim::test(seeds = 4)]
async fn a_subscriber_opens_where_nobody_publishes(sim: Sim) {
    let host = sim.host("alone");
    let node: Node = join(&host).await;
    let began = sim.elapsed();
    let sub = node.subscriber("news").await.unwrap();
    assert!(sim.elapsed() - began < 2.s(), "it waits for settling, and no longer");
    assert_eq!(sub.publishers(), 0);
}
