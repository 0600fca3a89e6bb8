//! Requests between real nodes on a network that does its worst: each ends once, in time, and says the truth.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshmq::{Message, Node, RequestError, Requester};
use netsim::{Host, Sim, Units, sometimes};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::crew::join;

const REQUESTERS: usize = 2;
const REPLIERS: usize = 4;
const TIME: Duration = Duration::from_secs(15);
/// A request ends so much later than its time at the most: timers are coarse, and a host may be busy.
const LATE: Duration = Duration::from_millis(20);

/// Requesters and repliers of one mesh.
#[derive(Clone)]
pub(crate) struct Requests {
    sim: Sim,
    /// Each requester asks for so long, so often on average.
    time: Duration,
    every: Duration,
    books: Arc<Mutex<Books>>,
}

/// What is known of all requests.
#[derive(Default)]
struct Books {
    /// By request: how often a handler began to work on it.
    runs: BTreeMap<String, u32>,
    /// By request: how it ended, and whether it was idempotent.
    ended: BTreeMap<String, (Result<(), RequestError>, bool)>,
    asked: u64,
}

/// Two requesters ask four repliers for fifteen seconds, under one to three hardships, repliers die and come back: every
/// request ends once and by its time; what it says of whether a handler has run is true; a handler runs once for a request
/// that is not idempotent.
#[netsim::test(seeds = 4, time_limit = 600.s(), meets = ["a request is answered", "a request is unknown"])]
async fn every_request_ends_once_whatever_happens(sim: Sim) {
    let requests = Requests::new(&sim, TIME, 30.ms());
    let hosts = |name: &str, count| (0..count).map(|n| sim.host(&format!("{name} {n}"))).collect::<Vec<Host>>();
    let (asking, answering) = (hosts("requester", REQUESTERS), hosts("replier", REPLIERS));
    for host in &answering {
        let requests = requests.clone();
        host.run(move |host| {
            let requests = requests.clone();
            async move { requests.answer(join(&host).await, host).await }
        });
    }
    let ask = |host: &Host| {
        let (requests, host) = (requests.clone(), host.clone());
        async move { requests.ask(join(&host).await, host).await }
    };
    let done: Vec<_> = asking.iter().map(|host| host.spawn(ask(host))).collect();
    let all = [asking.clone(), answering.clone()].concat();
    let struck = sim.hardships(&all).mortal(&answering).strike(TIME).await;
    for asking in done {
        asking.await.expect("requesters are not mortal");
    }
    sim.note(format!("ended after {struck:?}"));
    requests.check();
}

impl Requests {
    pub(crate) fn new(sim: &Sim, time: Duration, every: Duration) -> Self {
        Self { sim: sim.clone(), time, every, books: Arc::default() }
    }

    /// All requesters are through: what their requests have said is true.
    pub(crate) fn check(&self) {
        let books = self.books.lock().unwrap();
        assert_eq!(books.ended.len() as u64, books.asked, "each has ended, and once");
        for (name, (ended, idempotent)) in &books.ended {
            let runs = books.runs.get(name).copied().unwrap_or(0);
            match ended {
                Ok(()) => {
                    sometimes!("a request is answered");
                    assert!(runs > 0, "{name} was answered by nobody");
                }
                Err(error) if error.may_have_run() => sometimes!("a request is unknown"),
                Err(error) => assert_eq!(runs, 0, "{name} was handled, and ended with: {error}"),
            }
            assert!(*idempotent || runs <= 1, "{name} was handled {runs} times");
        }
    }

    /// One life of a replier, until its host is asked to stop or its node ends.
    pub(crate) async fn answer(self, node: Node, host: Host) {
        let Self { sim, books, .. } = self;
        let mut random = drawn_by(&sim, &host);
        let limit = [2, 100][random.random_range(0..2)];
        let replier = node.replier("work").limit(limit).await.unwrap();
        let mut serving = pin!(replier.serve(3, |request: Message| {
            let name = request.header("name").unwrap().to_owned();
            *books.lock().unwrap().runs.entry(name.clone()).or_default() += 1;
            let (work, fails) = (random.random_range(0.ms()..=120.ms()), random.random_bool(0.05));
            let sim = sim.clone();
            async move {
                sim.sleep(work).await;
                if fails { Err("on purpose".to_owned()) } else { Ok(name) }
            }
        }));
        tokio::select! {
            biased;
            () = host.asked_to_stop() => {}
            ended = &mut serving => return ended.unwrap(),
        }
        // What runs is finished; nothing new begins.
        replier.close();
        serving.await.unwrap();
    }

    /// Asks for its time; ends when all that was asked has ended.
    pub(crate) async fn ask(self, node: Node, host: Host) {
        let sim = &self.sim;
        let mut random = drawn_by(sim, &host);
        let requester = node.requester("work").bound(50, 1 << 20).await.unwrap();
        let (begin, mut number, mut open) = (sim.elapsed(), 0, Vec::new());
        while sim.elapsed() - begin < self.time {
            let name = format!("{}.{number}", host.name());
            let timeout = random.random_range(50.ms()..=3.s());
            let (idempotent, patient) = (random.random_bool(0.4), random.random_bool(0.3));
            let size = if random.random_bool(0.05) { random.random_range(60_000..200_000) } else { 20 };
            self.books.lock().unwrap().asked += 1;
            let one = One { name, timeout, idempotent, patient, size };
            open.push(host.spawn(one.ask(sim.clone(), requester.clone(), self.books.clone())));
            number += 1;
            sim.sleep(random.random_range(1.ms()..=self.every * 2)).await;
        }
        for one in open {
            one.await.unwrap();
        }
        let figures = requester.metrics();
        assert_eq!((figures.open, figures.bytes), (0, 0), "{figures:?}");
    }
}

fn drawn_by(sim: &Sim, host: &Host) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(sim.seed() ^ host.name().bytes().map(u64::from).sum::<u64>())
}

struct One {
    name: String,
    timeout: Duration,
    idempotent: bool,
    patient: bool,
    size: usize,
}

impl One {
    async fn ask(self, sim: Sim, requester: Requester, books: Arc<Mutex<Books>>) {
        let Self { name, timeout, idempotent, patient, size } = self;
        let mut ask = requester.request(vec![b'x'; size]).header("name", &name).timeout(timeout);
        if idempotent {
            ask = ask.idempotent();
        }
        if patient {
            ask = ask.wait_for_replier();
        }
        let began = sim.elapsed();
        let ended = ask.await;
        let took = sim.elapsed() - began;
        assert!(took <= timeout + LATE, "{name} has ended after {took:?} of {timeout:?}");
        let ended = ended.map(|reply| assert_eq!(reply.body(), name, "a reply to another request"));
        let before = books.lock().unwrap().ended.insert(name, (ended, idempotent));
        assert!(before.is_none());
    }
}
