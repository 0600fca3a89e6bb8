//! Pushers and pullers at work, with a ledger of all that happens to their messages.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshmq::{Delivery, MeshKey, Node, NodeId, Push};
use netsim::check::{Answer, Delivered, Ledger};
use netsim::{Host, Sim, Units, sometimes};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinHandle;

/// The key of the mesh; a secret would be another in each run.
pub(crate) const KEY: [u8; 32] = [7; 32];

/// A node on this host.
pub(crate) async fn join(host: &Host) -> Node {
    Node::builder("sim").name(host.name()).key(MeshKey::from_bytes(KEY)).env(host.env()).await.unwrap()
}

/// What pushers and pullers do.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) pushers: usize,
    pub(crate) pullers: usize,
    /// Each pusher sends for so long, so often.
    pub(crate) time: Duration,
    pub(crate) every: Duration,
    /// The bound of each pusher, in messages.
    pub(crate) bound: usize,
    pub(crate) prefetch: Option<usize>,
}

/// Pushers and pullers of one mesh.
#[derive(Clone)]
pub(crate) struct Crew {
    pub(crate) sim: Sim,
    pub(crate) plan: Plan,
    pub(crate) pushers: Vec<Host>,
    pub(crate) pullers: Vec<Host>,
    pub(crate) ledger: Ledger<String>,
    shared: Arc<Mutex<Shared>>,
}

/// Handles of what lives on hosts, for who looks on.
#[derive(Default)]
struct Shared {
    pushing: Vec<(Node, Arc<Push>)>,
    /// By number of the host: those that are in a life.
    pulling: Vec<Option<Node>>,
}

impl Crew {
    /// They are at work from now on.
    pub(crate) fn start(sim: &Sim, plan: Plan) -> Self {
        let hosts = |name: &str, count| (0..count).map(|n| sim.host(&format!("{name} {n}"))).collect::<Vec<_>>();
        let crew = Self {
            sim: sim.clone(),
            plan,
            pushers: hosts("pusher", plan.pushers),
            pullers: hosts("puller", plan.pullers),
            ledger: Ledger::new(),
            shared: Arc::default(),
        };
        crew.shared.lock().unwrap().pulling = (0..plan.pullers).map(|_| None).collect();
        for (number, host) in crew.pullers.iter().enumerate() {
            let (crew, lives) = (crew.clone(), Arc::new(AtomicU32::new(0)));
            host.run(move |host| {
                let life = lives.fetch_add(1, Ordering::Relaxed);
                crew.clone().pull(host, number, life)
            });
        }
        crew
    }

    pub(crate) fn hosts(&self) -> Vec<Host> {
        [self.pushers.clone(), self.pullers.clone()].concat()
    }

    /// The pushers begin; each task ends when all that its pusher has sent is settled.
    pub(crate) fn push(&self) -> Vec<JoinHandle<()>> {
        self.pushers.iter().map(|host| host.spawn(self.clone().push_from(host.clone()))).collect()
    }

    /// All nodes that are up, with their ids.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let shared = self.shared.lock().unwrap();
        let pushing = shared.pushing.iter().map(|(node, _)| node.clone());
        pushing.chain(shared.pulling.iter().flatten().cloned()).collect()
    }

    /// The socket of this pusher, while it is there.
    pub(crate) fn push_of(&self, host: &Host) -> Option<Arc<Push>> {
        let shared = self.shared.lock().unwrap();
        let found = shared.pushing.iter().find(|(node, _)| node.name() == host.name());
        found.map(|(_, push)| push.clone())
    }

    /// Whether each node has a link with each other one, and with nobody else.
    pub(crate) fn is_whole(&self) -> bool {
        let nodes = self.nodes();
        let ids = |except: NodeId| {
            let mut ids: Vec<_> = nodes.iter().map(Node::id).filter(|id| *id != except).collect();
            ids.sort();
            ids
        };
        nodes.len() == self.plan.pushers + self.plan.pullers
            && nodes.iter().all(|node| {
                let mut peers: Vec<_> = node.peers().into_iter().map(|peer| peer.id).collect();
                peers.sort();
                peers == ids(node.id())
            })
    }

    /// Forgets the handles, so that nodes end with their hosts' tasks.
    pub(crate) fn let_go(&self) {
        *self.shared.lock().unwrap() = Shared::default();
    }

    async fn push_from(self, host: Host) {
        let node = join(&host).await;
        let push = Arc::new(node.push("jobs").bound(self.plan.bound, 1 << 20).await.unwrap());
        self.shared.lock().unwrap().pushing.push((node, push.clone()));
        let mut random = self.random(host.name());
        let (begin, mut number) = (self.sim.elapsed(), 0);
        while self.sim.elapsed() - begin < self.plan.time {
            let id = format!("{}.{number}", host.name());
            let body = format!("{id} {}", "x".repeat(random.random_range(0..300)));
            if push.try_send(body.clone()).is_err() {
                sometimes!("a pusher is full");
                push.send(body).await.unwrap();
            }
            self.ledger.accepted(self.sim.elapsed(), id, host.name());
            number += 1;
            self.sim.sleep(random.random_range(Duration::ZERO..=self.plan.every * 2)).await;
        }
        push.flush().await.unwrap();
        self.ledger.flushed(self.sim.elapsed(), host.name());
    }

    async fn pull(self, host: Host, number: usize, life: u32) {
        let name = format!("{} life {life}", host.name());
        let node = join(&host).await;
        let _presence = self.presence(number, node.clone(), &name);
        let pull = match self.plan.prefetch {
            Some(messages) => node.pull("jobs").prefetch(messages).await.unwrap(),
            None => node.pull("jobs").await.unwrap(),
        };
        let mut random = self.random(&name);
        loop {
            tokio::select! {
                biased;
                () = host.asked_to_stop() => break,
                delivery = pull.recv() => {
                    let Ok(delivery) = delivery else { break };
                    self.handle(delivery, &host, &name, &mut random).await;
                }
            }
        }
        assert!(node.shutdown(1.s()).await.is_empty(), "a puller has nothing to hand back");
    }

    async fn handle(&self, delivery: Delivery, host: &Host, name: &str, random: &mut ChaCha8Rng) {
        let text = std::str::from_utf8(&delivery).unwrap();
        let id = text.split_once(" x").map_or_else(|| text.trim_end(), |(id, _)| id).to_owned();
        let attempt = delivery.attempt();
        let how = Delivered::new(attempt, delivery.redelivered()).failures(delivery.failures());
        self.ledger.delivered(self.sim.elapsed(), id.clone(), name, how);
        sometimes!("a message is handed out again", delivery.redelivered());
        host.work(random.random_range(Duration::ZERO..=4.ms())).await;
        let answer = match random.random_range(0..100) {
            0..3 => Answer::Nacked,
            3 => Answer::Rejected,
            4 => Answer::Dropped,
            _ => Answer::Acked,
        };
        self.ledger.answered(self.sim.elapsed(), id, name, attempt, answer);
        match answer {
            Answer::Nacked => delivery.nack_after(random.random_range(Duration::ZERO..=100.ms())),
            Answer::Rejected => delivery.reject("on purpose"),
            Answer::Dropped => drop(delivery),
            _ => delivery.ack(),
        }
    }

    fn random(&self, whose: &str) -> ChaCha8Rng {
        let sum = whose.bytes().fold(self.sim.seed(), |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        ChaCha8Rng::seed_from_u64(sum)
    }

    fn presence(&self, number: usize, node: Node, name: &str) -> Presence {
        self.shared.lock().unwrap().pulling[number] = Some(node);
        Presence { crew: self.clone(), number, name: name.to_owned() }
    }
}

/// A puller's life: when it ends, what it had in hand is gone.
struct Presence {
    crew: Crew,
    number: usize,
    name: String,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.crew.ledger.crashed(self.crew.sim.elapsed(), self.name.as_str());
        let node = self.crew.shared.lock().unwrap().pulling.get_mut(self.number).and_then(Option::take);
        drop(node);
    }
}
