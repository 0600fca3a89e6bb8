//! Pushers and pullers at work, with a ledger of all that happens to their messages.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use meshmq::{Delivery, MeshKey, Message, MessageId, NewMessage, Node, NodeId, Pull, Push};
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
    /// Whether they use all the verbs that there are, or the plain ones.
    pub(crate) verbs: bool,
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
    /// By number of the host: those that are in a life, and how many lives there were.
    pulling: Vec<(Option<Node>, u32)>,
    /// What each message is called by the mesh: the same however often it goes out.
    names: BTreeMap<String, MessageId>,
}

impl Crew {
    /// They are at work from now on, each on a host and a node of its own.
    pub(crate) fn start(sim: &Sim, plan: Plan) -> Self {
        let hosts = |name: &str, count| (0..count).map(|n| sim.host(&format!("{name} {n}"))).collect::<Vec<_>>();
        let crew = Self::on(sim, plan, &hosts("pusher", plan.pushers), &hosts("puller", plan.pullers));
        for (number, host) in crew.pullers.iter().enumerate() {
            let crew = crew.clone();
            host.run(move |host| crew.clone().pull_from(host, number));
        }
        crew
    }

    /// They are going to work on these hosts.
    pub(crate) fn on(sim: &Sim, plan: Plan, pushers: &[Host], pullers: &[Host]) -> Self {
        let crew = Self {
            sim: sim.clone(),
            plan,
            pushers: pushers.to_vec(),
            pullers: pullers.to_vec(),
            ledger: Ledger::new(),
            shared: Arc::default(),
        };
        crew.shared.lock().unwrap().pulling.resize_with(pullers.len(), Default::default);
        crew
    }

    pub(crate) fn hosts(&self) -> Vec<Host> {
        [self.pushers.clone(), self.pullers.clone()].concat()
    }

    /// The pushers begin; each task ends when all that its pusher has sent is settled.
    pub(crate) fn start_pushing(&self) -> Vec<JoinHandle<()>> {
        let push = |host: &Host| {
            let (crew, host) = (self.clone(), host.clone());
            async move { crew.push(join(&host).await, host).await }
        };
        self.pushers.iter().map(|host| host.spawn(push(host))).collect()
    }

    /// All nodes that are up, with their ids.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let shared = self.shared.lock().unwrap();
        let pushing = shared.pushing.iter().map(|(node, _)| node.clone());
        pushing.chain(shared.pulling.iter().filter_map(|(node, _)| node.clone())).collect()
    }

    /// The sockets of the pushers, while they are there.
    pub(crate) fn pushes(&self) -> Vec<Arc<Push>> {
        self.shared.lock().unwrap().pushing.iter().map(|(_, push)| push.clone()).collect()
    }

    /// Whether each node has a link with each other one, and with nobody else.
    pub(crate) fn is_whole(&self) -> bool {
        let nodes = self.nodes();
        let ids = |except: NodeId| {
            let mut ids: Vec<_> = nodes.iter().map(Node::id).filter(|id| *id != except).collect();
            ids.sort();
            ids
        };
        nodes.len() == self.pushers.len() + self.pullers.len()
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

    /// Pushes for its time; ends when all of it is settled.
    pub(crate) async fn push(self, node: Node, host: Host) {
        let push = Arc::new(node.push("jobs").bound(self.plan.bound, 1 << 20).await.unwrap());
        self.shared.lock().unwrap().pushing.push((node, push.clone()));
        let mut random = self.random(host.name());
        let (begin, mut number, mut awaited) = (self.sim.elapsed(), 0, Vec::new());
        while self.sim.elapsed() - begin < self.plan.time {
            let id = format!("{}.{number}", host.name());
            let body = format!("{id} {}", "x".repeat(random.random_range(0..300)));
            let message = NewMessage::new(body).header("id", &id);
            let verb = if self.plan.verbs { random.random_range(0..6) } else { 0 };
            match verb {
                1 => self.give_up_sending(&push, &host, id, message, &mut random).await,
                2 => {
                    push.reserve(400).await.unwrap().send(message).unwrap();
                    self.accepted(id, &host);
                }
                3 => match push.send_timeout(message, random.random_range(Duration::ZERO..=5.ms())).await {
                    Ok(()) => self.accepted(id, &host),
                    Err(refused) => assert_eq!(refused.message.headers().get("id"), Some(id.as_str())),
                },
                4 => {
                    // Before it is: some are delivered while others of them wait for room.
                    let ids: Vec<_> = (0..3).map(|n| format!("{id}.{n}")).collect();
                    ids.iter().for_each(|id| self.accepted(id.clone(), &host));
                    let batch: Vec<_> =
                        ids.iter().map(|id| NewMessage::new(format!("{id} ")).header("id", id)).collect();
                    push.send_batch(batch).await.unwrap();
                }
                5 => {
                    self.accepted(id.clone(), &host);
                    awaited.push(host.spawn(self.clone().handled(push.clone(), id, message)));
                }
                _ => {
                    if let Err(refused) = push.try_send(message) {
                        sometimes!("a pusher is full");
                        push.send(refused.message).await.unwrap();
                    }
                    self.accepted(id, &host);
                }
            }
            number += 1;
            self.sim.sleep(random.random_range(Duration::ZERO..=self.plan.every * 2)).await;
        }
        for waiting in awaited {
            waiting.await.unwrap();
        }
        push.flush().await.unwrap();
        self.ledger.flushed(self.sim.elapsed(), host.name());
    }

    fn accepted(&self, id: String, host: &Host) {
        self.ledger.accepted(self.sim.elapsed(), id, host.name());
    }

    /// A `send` that is dropped after a while has accepted nothing, or all.
    async fn give_up_sending(
        &self,
        push: &Push,
        host: &Host,
        id: String,
        message: NewMessage,
        random: &mut ChaCha8Rng,
    ) {
        let patience = random.random_range(Duration::ZERO..=5.ms());
        let accepted = tokio::select! {
            biased;
            sent = push.send(message) => sent.is_ok(),
            () = self.sim.sleep(patience) => false,
        };
        if accepted {
            self.accepted(id, host);
        } else {
            sometimes!("a send is dropped");
        }
    }

    /// What `handled` says is what a worker has answered.
    async fn handled(self, push: Arc<Push>, id: String, message: NewMessage) {
        let outcome = push.send(message).handled().await;
        let end = self.ledger.end(&id);
        match outcome {
            Ok(()) => assert!(matches!(end, None | Some(netsim::check::End::Handled)), "{id}: {end:?}"),
            Err(meshmq::HandleError::Rejected { reason, .. }) => assert_eq!(reason, "on purpose"),
            Err(other) => panic!("{id}: {other}"),
        }
    }

    async fn pull_from(self, host: Host, number: usize) {
        let node = join(&host).await;
        self.pull(node.clone(), host, number).await;
        assert!(node.shutdown(1.s()).await.is_empty(), "a puller has nothing to hand back");
    }

    /// One life of this puller, until its host is asked to stop or its node ends.
    pub(crate) async fn pull(self, node: Node, host: Host, number: usize) {
        let presence = self.presence(number, node.clone(), &host);
        let name = &presence.name;
        let mut random = self.random(name);
        let verb = if self.plan.verbs { random.random_range(0..5) } else { 0 };
        let builder = node.pull("jobs");
        let builder = match self.plan.prefetch {
            Some(messages) => builder.prefetch(messages),
            None => builder,
        };
        let pull = if verb == 1 { builder.ack_on_receive() } else { builder }.await.unwrap();
        match verb {
            1 => self.pull_what_is_handled_already(pull, &host, name).await,
            2 => self.pull_batches(pull, &host, name, &mut random).await,
            3 => self.serve(pull, &host, name, random).await,
            4 => self.pull_a_stream(pull, &host, name, &mut random).await,
            _ => self.pull_one_by_one(pull, &host, name, &mut random).await,
        }
    }

    async fn pull_one_by_one(&self, pull: Pull, host: &Host, name: &str, random: &mut ChaCha8Rng) {
        loop {
            tokio::select! {
                biased;
                () = host.asked_to_stop() => break,
                delivery = pull.recv() => {
                    let Ok(delivery) = delivery else { break };
                    let id = self.delivered(&delivery, name);
                    self.handle(delivery, id, host, name, random).await;
                }
            }
        }
    }

    async fn pull_what_is_handled_already(&self, pull: Pull, host: &Host, name: &str) {
        loop {
            tokio::select! {
                biased;
                () = host.asked_to_stop() => break,
                delivery = pull.recv() => {
                    let Ok(delivery) = delivery else { break };
                    let id = self.delivered(&delivery, name);
                    self.ledger.answered(self.sim.elapsed(), id, name, delivery.attempt(), Answer::Acked);
                }
            }
        }
    }

    async fn pull_batches(&self, pull: Pull, host: &Host, name: &str, random: &mut ChaCha8Rng) {
        loop {
            tokio::select! {
                biased;
                () = host.asked_to_stop() => break,
                batch = pull.recv_batch(16) => {
                    let Ok(batch) = batch else { break };
                    // All of them are handed out now; the work on the last begins when the others are done, if the host does
                    // not sleep meanwhile.
                    let ids: Vec<_> = batch.iter().map(|delivery| self.delivered(delivery, name)).collect();
                    if random.random_bool(0.5) {
                        for (delivery, id) in batch.iter().zip(ids) {
                            self.ledger.answered(self.sim.elapsed(), id, name, delivery.attempt(), Answer::Acked);
                        }
                        batch.ack_all();
                        continue;
                    }
                    for (delivery, id) in batch.into_iter().zip(ids) {
                        self.handle(delivery, id, host, name, random).await;
                    }
                }
            }
        }
    }

    async fn pull_a_stream(&self, mut pull: Pull, host: &Host, name: &str, random: &mut ChaCha8Rng) {
        loop {
            tokio::select! {
                biased;
                () = host.asked_to_stop() => break,
                delivery = pull.next() => {
                    let Some(delivery) = delivery else { break };
                    let id = self.delivered(&delivery, name);
                    self.handle(delivery, id, host, name, random).await;
                }
            }
        }
    }

    async fn serve(&self, pull: Pull, host: &Host, name: &str, mut random: ChaCha8Rng) {
        let mut serving = pin!(pull.serve(3, |job: Message| {
            let (id, attempt) = (self.delivered(&job, name), job.attempt());
            let (work, fails) = (random.random_range(Duration::ZERO..=4.ms()), random.random_bool(0.05));
            async move {
                host.work(work).await;
                let answer = if fails { Answer::Nacked } else { Answer::Acked };
                self.ledger.answered(self.sim.elapsed(), id, name, attempt, answer);
                if fails { Err("on purpose") } else { Ok(()) }
            }
        }));
        tokio::select! {
            biased;
            () = host.asked_to_stop() => {}
            ended = &mut serving => return ended.unwrap(),
        }
        // What runs is finished; nothing new begins.
        pull.close();
        serving.await.unwrap();
    }

    /// Puts it down that a worker has been handed this message: its id.
    fn delivered(&self, message: &Message, name: &str) -> String {
        let text = std::str::from_utf8(message).unwrap();
        let id = text.rsplit_once(' ').map_or(text, |(id, _)| id).to_owned();
        assert_eq!(message.header("id"), Some(id.as_str()), "headers go with their message");
        let first = *self.shared.lock().unwrap().names.entry(id.clone()).or_insert_with(|| message.id());
        assert_eq!(message.id(), first, "a message that goes out again keeps its name");
        let how = Delivered::new(message.attempt(), message.redelivered()).failures(message.failures());
        self.ledger.delivered(self.sim.elapsed(), id.clone(), name, how);
        sometimes!("a message is handed out again", message.redelivered());
        id
    }

    async fn handle(&self, delivery: Delivery, id: String, host: &Host, name: &str, random: &mut ChaCha8Rng) {
        let attempt = delivery.attempt();
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

    fn presence(&self, number: usize, node: Node, host: &Host) -> Presence {
        let mut shared = self.shared.lock().unwrap();
        let (present, lives) = &mut shared.pulling[number];
        let name = format!("{} life {lives}", host.name());
        (*present, *lives) = (Some(node), *lives + 1);
        Presence { crew: self.clone(), number, name }
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
        let node = self.crew.shared.lock().unwrap().pulling.get_mut(self.number).and_then(|(node, _)| node.take());
        drop(node);
    }
}
