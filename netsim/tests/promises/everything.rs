//! All patterns at once, in one mesh, over sockets that share their nodes and links.

use std::time::Duration;

use netsim::{Host, Sim, Units};

use super::crew::{Crew, join};
use super::news::{self, News};
use super::requests::Requests;
use super::{by_any_verb, end, settle, watch_bounds};

/// Nodes that push, publish and ask.
const SOURCES: usize = 2;
/// Nodes that pull, subscribe and answer, and are mortal.
const WORKERS: usize = 5;
const TIME: Duration = Duration::from_secs(10);

/// Two nodes push, publish and ask, five pull, subscribe and answer, for ten seconds, under one to three hardships: what
/// holds of each pattern by itself holds of all at once, and afterwards the mesh is whole, ends in time and leaves nothing.
#[netsim::test(seeds = 4, time_limit = 600.s(), meets = ["a message is handed out again", "a request is unknown"])]
async fn all_patterns_hold_at_once_whatever_happens(sim: Sim) {
    all_patterns_hold_at_once(sim).await;
}

/// The newest were dropped at a full queue, and nothing was published after them.
#[netsim::test(seeds = 158_997_762..158_997_763, time_limit = 600.s())]
async fn what_is_dropped_last_is_told_with_what_follows(sim: Sim) {
    all_patterns_hold_at_once(sim).await;
}

/// A worker that had slept looked after its time before it read what had come meanwhile, and took that for new.
#[netsim::test(seeds = 22_805_255..22_805_256, time_limit = 600.s())]
async fn what_a_sleeping_worker_was_sent_is_not_taken_for_new(sim: Sim) {
    all_patterns_hold_at_once(sim).await;
}

async fn all_patterns_hold_at_once(sim: Sim) {
    let hosts = |name: &str, count| (0..count).map(|n| sim.host(&format!("{name} {n}"))).collect::<Vec<Host>>();
    let (sources, workers) = (hosts("source", SOURCES), hosts("worker", WORKERS));
    let crew = Crew::on(&sim, by_any_verb(&sim, TIME), &sources, &workers);
    let news = News::new(&sim, news::Plan::drawn(&sim, TIME, 20.ms()));
    let requests = Requests::new(&sim, TIME, 40.ms());
    for (number, host) in workers.iter().enumerate() {
        let (crew, news, requests) = (crew.clone(), news.clone(), requests.clone());
        host.run(move |host| work(host, number, crew.clone(), news.clone(), requests.clone()));
    }
    let (mut pushing, mut publishing, mut asking) = (Vec::new(), Vec::new(), Vec::new());
    for host in &sources {
        let node = join(host).await;
        pushing.push(host.spawn(crew.clone().push(node.clone(), host.clone())));
        publishing.push(host.spawn(news.clone().publish(node.clone())));
        asking.push(host.spawn(requests.clone().ask(node, host.clone())));
    }
    watch_bounds(&crew);
    let struck = sim.hardships(&crew.hosts()).mortal(&workers).strike(TIME).await;

    for source in asking {
        source.await.expect("sources are not mortal");
    }
    requests.check();
    settle(&crew, pushing, &struck).await;
    news.come_to_the_end(WORKERS, publishing).await;
    news.let_go();
    end(&crew).await;
}

/// One life of a worker.
async fn work(host: Host, number: usize, crew: Crew, news: News, requests: Requests) {
    let node = join(&host).await;
    let at_work = [
        host.spawn(crew.pull(node.clone(), host.clone(), number)),
        host.spawn(news.subscribe(node.clone(), host.clone())),
        host.spawn(requests.answer(node.clone(), host.clone())),
    ];
    for work in at_work {
        work.await.expect("they end with their host, or in peace");
    }
    assert!(node.shutdown(1.s()).await.is_empty(), "a worker has nothing to hand back");
}
