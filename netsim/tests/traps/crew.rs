//! Who is at work, and what is seen of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshmq::env::Random;
use meshmq::{Delivery, Event, MeshKey, Node, NodeId, Push};
use netsim::check::{Answer, Delivered, End, Ledger};
use netsim::{Host, Sim, Units, sometimes};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The key of the mesh; a secret would be another in each run.
const KEY: [u8; 32] = [7; 32];

#[derive(Clone)]
pub(crate) struct Crew {
    pub(crate) sim: Sim,
    pub(crate) workers: [Worker; 2],
    pub(crate) ledger: Ledger<String>,
    seen: Arc<Mutex<Seen>>,
    random: Arc<Mutex<ChaCha8Rng>>,
    slow: Arc<AtomicBool>,
    plan: Plan,
}

/// What the seed has drawn.
#[derive(Clone, Copy)]
struct Plan {
    bound: usize,
    prefetch: Option<usize>,
    max_failures: Option<u32>,
}

/// What has become of messages.
#[derive(Default)]
struct Seen {
    acked: BTreeMap<String, BTreeSet<&'static str>>,
    /// Attempts that somebody is at.
    in_hand: BTreeSet<(String, u32)>,
    /// How often it was said to have failed.
    nacked: BTreeMap<String, u32>,
}

#[derive(Clone)]
pub(crate) struct Pushing {
    pub(crate) host: Host,
    pub(crate) node: Node,
    pub(crate) push: Arc<Push>,
}

#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) host: Host,
    name: &'static str,
    number: u8,
    life: Arc<AtomicU32>,
    node: Arc<Mutex<Option<Node>>>,
    busy: Arc<AtomicBool>,
    /// Its socket is to be closed, and opened again.
    closing: Arc<tokio::sync::Notify>,
}

impl Crew {
    /// The workers are at work from now on.
    pub(crate) fn new(sim: &Sim) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(sim.seed());
        let plan = Plan {
            bound: [1, 30][random.random_range(0..2)],
            prefetch: [None, Some(1), Some(3)][random.random_range(0..3)],
            max_failures: [None, Some(2)][random.random_range(0..2)],
        };
        sometimes!("bound of 1", plan.bound == 1);
        sometimes!("prefetch of 1", plan.prefetch == Some(1));
        let worker = |number, name| Worker {
            host: sim.host(name),
            name,
            number,
            life: Arc::default(),
            node: Arc::default(),
            busy: Arc::default(),
            closing: Arc::default(),
        };
        let crew = Self {
            sim: sim.clone(),
            workers: [worker(1, "one"), worker(2, "other")],
            ledger: Ledger::new(),
            seen: Arc::default(),
            random: Arc::new(Mutex::new(random)),
            slow: Arc::default(),
            plan,
        };
        for worker in &crew.workers {
            let (crew, this) = (crew.clone(), worker.clone());
            worker.host.run(move |_| this.clone().work(crew.clone()));
        }
        crew
    }

    /// A time that the seed draws.
    pub(crate) fn time(&self, range: RangeInclusive<Duration>) -> Duration {
        self.random.lock().unwrap().random_range(range)
    }

    /// A number below this one that the seed draws.
    fn number(&self, below: u32) -> u32 {
        self.random.lock().unwrap().random_range(0..below)
    }

    pub(crate) async fn push(&self, name: &'static str) -> Pushing {
        let host = self.sim.host(name);
        let node = Node::builder("sim").name(name).key(MeshKey::from_bytes(KEY)).env(host.env()).await.unwrap();
        let mut push = node.push("jobs").bound(self.plan.bound, 1 << 20);
        if let Some(failures) = self.plan.max_failures {
            push = push.max_failures(failures);
        }
        let push = Arc::new(push.await.unwrap());
        let (mut events, crew) = (node.events(), self.clone());
        host.spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::Exhausted { message, .. } = event {
                    // Who was lost before it was handed what it had announced has failed, too, which nobody sees from
                    // here.
                    crew.ledger.settled(crew.sim.elapsed(), id_of(&message), End::Exhausted(0));
                }
            }
        });
        Pushing { host, node, push }
    }

    /// Sends for as long as it is let.
    pub(crate) async fn send(self, pushing: Pushing) {
        for number in 0.. {
            self.send_one(&pushing, format!("{}.{number}", pushing.node.name())).await;
            let pause = self.time(1.ms()..=80.ms());
            self.sim.sleep(pause).await;
        }
    }

    /// Sends one message; whoever waits for room gives up now and then, and begins again.
    pub(crate) async fn send_one(&self, pushing: &Pushing, id: String) {
        loop {
            if pushing.push.try_send(id.clone()).is_ok() {
                break;
            }
            let patience = self.time(1.ms()..=300.ms());
            tokio::select! {
                biased;
                sent = pushing.push.send(id.clone()) => {
                    sent.unwrap();
                    break;
                }
                () = self.sim.sleep(patience) => sometimes!("sending future dropped while it waits for room"),
            }
        }
        self.ledger.accepted(self.sim.elapsed(), id, pushing.node.name());
    }

    /// From now on everything takes longer than a link that is gone is waited for, or no longer does.
    pub(crate) fn set_slow(&self, slow: bool) {
        self.slow.store(slow, Relaxed);
    }
}

impl Worker {
    pub(crate) fn id(&self) -> NodeId {
        self.node().unwrap().id()
    }

    pub(crate) fn node(&self) -> Option<Node> {
        self.node.lock().unwrap().clone()
    }

    pub(crate) fn life(&self) -> u32 {
        self.life.load(Relaxed)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    pub(crate) fn close(&self) {
        self.closing.notify_one();
    }

    pub(crate) fn crash(&self, crew: &Crew) {
        self.host.crash();
        crew.ledger.crashed(crew.sim.elapsed(), self.name);
        crew.seen.lock().unwrap().in_hand.clear();
        self.busy.store(false, Relaxed);
    }

    async fn work(self, crew: Crew) {
        let mut env = self.host.env();
        env.random = Arc::new(SameIdentity(self.number, AtomicBool::new(false), env.random));
        let node = Node::builder("sim").name(self.name).key(MeshKey::from_bytes(KEY)).env(env).await.unwrap();
        *self.node.lock().unwrap() = Some(node.clone());
        self.life.fetch_add(1, Relaxed);
        loop {
            let pull = match crew.plan.prefetch {
                Some(messages) => node.pull("jobs").prefetch(messages).await,
                None => node.pull("jobs").await,
            };
            let Ok(pull) = pull else { return };
            loop {
                let patience = crew.time(1.ms()..=100.ms());
                tokio::select! {
                    biased;
                    () = self.closing.notified() => {
                        pull.close();
                        break;
                    }
                    delivery = pull.recv() => {
                        let Ok(delivery) = delivery else { return };
                        self.handle(&crew, delivery).await;
                    }
                    () = crew.sim.sleep(patience) => sometimes!("receiving future dropped while it waits"),
                }
            }
        }
    }

    async fn handle(&self, crew: &Crew, delivery: Delivery) {
        let (id, attempt) = (id_of(&delivery), delivery.attempt());
        let how = Delivered::new(attempt, delivery.redelivered());
        crew.ledger.delivered(crew.sim.elapsed(), id.clone(), self.name, how);
        {
            let mut seen = crew.seen.lock().unwrap();
            let acked = seen.acked.get(&id).is_some_and(|by| by.iter().any(|name| *name != self.name));
            sometimes!("ack lost and redelivered to another puller", acked);
            let nacked = seen.nacked.get(&id).copied().unwrap_or(0);
            sometimes!("failure counted for a worker that was lost", delivery.failures() > nacked);
            seen.in_hand.insert((id.clone(), attempt));
        }
        self.busy.store(true, Relaxed);
        let (long, odd) = (crew.number(25) == 0 || crew.slow.load(Relaxed), crew.number(100));
        let time = if long { 2.s()..=4.s() } else { 0.ms()..=40.ms() };
        let time = crew.time(time);
        self.host.work(time).await;
        self.busy.store(false, Relaxed);
        let answer = match odd {
            0..20 => Answer::Nacked,
            20 => Answer::Rejected,
            _ => Answer::Acked,
        };
        crew.ledger.answered(crew.sim.elapsed(), id.clone(), self.name, attempt, answer);
        let mut seen = crew.seen.lock().unwrap();
        seen.in_hand.remove(&(id.clone(), attempt));
        match answer {
            Answer::Nacked => {
                let linked = self.node().is_some_and(|node| super::linked(&node, delivery.sender()));
                sometimes!("nack while the link is down", !linked);
                *seen.nacked.entry(id).or_default() += 1;
                delivery.nack_after(10.ms());
            }
            Answer::Rejected => delivery.reject("on purpose"),
            _ => {
                let next = seen.in_hand.contains(&(id.clone(), attempt + 1));
                sometimes!("attempt 1 acknowledged late while attempt 2 runs", attempt == 1 && next);
                seen.acked.entry(id).or_default().insert(self.name);
                delivery.ack();
            }
        }
    }
}

/// The message's name, which is all that is in it.
pub(crate) fn id_of(body: &[u8]) -> String {
    std::str::from_utf8(body).unwrap().to_owned()
}

/// A node that is the same one in each of its lives: the first that it draws is who it is.
struct SameIdentity(u8, AtomicBool, Arc<dyn Random>);

impl Random for SameIdentity {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        if self.1.swap(true, Relaxed) {
            return self.2.fill(out);
        }
        out.fill(self.0);
        Ok(())
    }
}
