//! Sockets of every kind on one channel, whose types are drawn: who meets whom?

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshmq::{MeshKey, Node, Publisher, Pull, Push, Replier, Requester, Subscriber, Typed};
use netsim::{Host, Sim, Units, sometimes};

const HOSTS: usize = 4;
const KINDS: u64 = 4;

struct Job;

impl Typed for Job {
    const NAME: &'static str = "shop.Job";
}

struct NewJob;

impl Typed for NewJob {
    const NAME: &'static str = "shop.Job";
    const VERSION: u32 = 2;
}

struct Order;

impl Typed for Order {
    const NAME: &'static str = "shop.Order";
}

/// What a socket says of its messages, which is also all that its messages say. 0: nothing.
type Kind = u8;

/// Who has exchanged a message, by pattern and the kinds of both ends; it is outside of the simulated world.
type Seen = Arc<Mutex<BTreeSet<(&'static str, Kind, Kind)>>>;

/// Those that send, or ask.
struct Senders {
    push: Push,
    publisher: Publisher,
    requester: Requester,
}

/// Those that take, or answer.
struct Takers {
    pull: Pull,
    subscriber: Subscriber,
    replier: Replier,
}

impl Senders {
    async fn open(node: &Node, kind: Kind) -> Self {
        match kind {
            1 => Self::of::<Job>(node).await,
            2 => Self::of::<NewJob>(node).await,
            3 => Self::of::<Order>(node).await,
            _ => Self {
                push: node.push("work").await.unwrap(),
                publisher: node.publisher("work").await.unwrap(),
                requester: node.requester("work").await.unwrap(),
            },
        }
    }

    async fn of<T: Typed>(node: &Node) -> Self {
        Self {
            push: node.push("work").typed::<T>().await.unwrap().into_untyped(),
            publisher: node.publisher("work").typed::<T>().await.unwrap().into_untyped(),
            requester: node.requester("work").typed::<T, T>().await.unwrap().into_untyped(),
        }
    }

    async fn work(&self, sim: &Sim, kind: Kind, seen: &Seen) {
        loop {
            // What finds no room, or nobody, is of no account here.
            let _ = self.push.try_send(vec![kind]);
            let _ = self.publisher.try_publish("work", vec![kind]);
            if let Ok(reply) = self.requester.request(vec![kind]).timeout(300.ms()).await {
                meet(seen, "reply", kind, reply.body()[0]);
            }
            sim.sleep(20.ms()).await;
        }
    }
}

impl Takers {
    async fn open(node: &Node, kind: Kind) -> Self {
        match kind {
            1 => Self::of::<Job>(node).await,
            2 => Self::of::<NewJob>(node).await,
            3 => Self::of::<Order>(node).await,
            _ => Self {
                pull: node.pull("work").await.unwrap(),
                subscriber: node.subscriber("work").confirm_within(60.s()).await.unwrap(),
                replier: node.replier("work").await.unwrap(),
            },
        }
    }

    async fn of<T: Typed>(node: &Node) -> Self {
        Self {
            pull: node.pull("work").typed::<T>().await.unwrap().into_untyped(),
            subscriber: node.subscriber("work").confirm_within(60.s()).typed::<T>().await.unwrap().into_untyped(),
            replier: node.replier("work").typed::<T, T>().await.unwrap().into_untyped(),
        }
    }

    async fn work(&self, kind: Kind, seen: &Seen) {
        let pulls = async {
            while let Ok(job) = self.pull.recv().await {
                meet(seen, "push", job[0], kind);
                job.ack();
            }
        };
        let hears = async {
            while let Ok(news) = self.subscriber.recv().await {
                meet(seen, "publish", news[0], kind);
            }
        };
        let answers = async {
            while let Ok(request) = self.replier.recv().await {
                meet(seen, "request", request[0], kind);
                let _ = request.reply(vec![kind]);
            }
        };
        tokio::join!(pulls, hears, answers);
    }
}

/// A message has passed between sockets of these kinds.
fn meet(seen: &Seen, what: &'static str, one: Kind, other: Kind) {
    if one == 0 || other == 0 {
        sometimes!("an untyped socket meets a typed one");
    } else {
        sometimes!("typed sockets meet");
        assert_eq!(one, other, "no message passes between sockets of different types: {what}");
    }
    seen.lock().unwrap().insert((what, one, other));
}

/// A node with senders of one kind and takers of another one, which are others in each life.
async fn party(sim: Sim, host: Host, nth: u64, seen: Seen) {
    let key = MeshKey::from_bytes([7; 32]);
    let node = Node::builder("sim").name(host.name()).key(key).env(host.env()).await.unwrap();
    let life = sim.elapsed().as_millis() as u64;
    let kind = |more: u64| ((sim.seed() % KINDS + nth + life + more) % KINDS) as Kind;
    let senders = Senders::open(&node, kind(0)).await;
    let takers = Takers::open(&node, kind(1)).await;
    tokio::join!(senders.work(&sim, kind(0), &seen), takers.work(kind(1), &seen));
}

/// Four nodes with sockets of every kind on one channel, whose types are drawn, for so long under one to three hardships,
/// and a while in calm: no message passes between two that say different types, and messages pass between all others.
pub(crate) async fn sockets_of_different_types_exchange_nothing(sim: Sim, time: Duration) {
    let seen = Seen::default();
    let hosts: Vec<_> = (0..HOSTS).map(|nth| sim.host(&format!("host {nth}"))).collect();
    for (nth, host) in hosts.iter().enumerate() {
        let (sim, seen) = (sim.clone(), seen.clone());
        host.run(move |host| party(sim.clone(), host, nth as u64, seen.clone()));
    }
    // Two live on, of which one sends what the other one takes.
    sim.hardships(&hosts).mortal(&hosts[2..]).strike(time).await;
    seen.lock().unwrap().clear();
    let has_all = || {
        let seen = seen.lock().unwrap();
        ["push", "publish", "request", "reply"].iter().all(|what| seen.iter().any(|(seen, ..)| seen == what))
    };
    sim.until(60.s(), has_all).await;
}
