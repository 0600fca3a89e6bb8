//! Processes that are stopped, continued and killed while they work.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Place, Process, Role, run, until};
use meshmq::{Pull, Push};
use rustix::process::Signal;

/// Longer than silence is borne, in seconds.
const STOPPED: u64 = 10;
/// What is done before and after something happens, to be sure that work is going on.
const SOME: u64 = 1000;
/// The numbers of one source begin with a multiple of it.
const SERIES: u64 = 1 << 32;
/// Messages that a source has under way.
const BOUND: usize = 1000;

/// A role: pushes numbers of its series until it is told something, and says how many, and of how many it knows that
/// they are handled. Argument: the first number.
#[test]
fn source() {
    let Some(role) = Role::of("source") else { return };
    let enough = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let enough = enough.clone();
        move || {
            std::io::stdin().read_line(&mut String::new()).unwrap();
            enough.store(true, Ordering::Relaxed);
        }
    });
    run(async {
        let node = role.builder().name("source").await.unwrap();
        let push = node.push("jobs").bound(BOUND, 1 << 20).await.unwrap();
        let mut next: u64 = role.arg(0);
        while !enough.load(Ordering::Relaxed) {
            push.send(next.to_le_bytes().to_vec()).await.unwrap();
            next += 1;
        }
        push.flush().await.unwrap();
        let metrics = push.metrics();
        role.say(format!("{} {}", metrics.accepted, metrics.handled));
    });
}

/// A role: does what comes, and says `number redelivered` of each.
#[test]
fn worker() {
    let Some(role) = Role::of("worker") else { return };
    run(async {
        let node = role.builder().name("worker").await.unwrap();
        let pull = node.pull("jobs").await.unwrap();
        role.say("ready");
        while let Ok(job) = pull.recv().await {
            role.say(format!("{} {}", number(&job), job.redelivered()));
            job.ack();
        }
    });
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body.try_into().unwrap())
}

/// How often each number was handed out, and how often it was said that this may not be the first time.
#[derive(Default)]
struct Seen {
    numbers: BTreeMap<u64, (u32, u32)>,
    /// How many there are of each series: asked after every message.
    counts: BTreeMap<u64, u64>,
}

impl Seen {
    fn note(&mut self, number: u64, redelivered: bool) {
        let (times, flagged) = self.numbers.entry(number).or_default();
        if *times == 0 {
            *self.counts.entry(number / SERIES).or_default() += 1;
        }
        *times += 1;
        *flagged += u32::from(redelivered);
    }

    /// What a worker has said by now; its greatest number.
    fn hear(&mut self, worker: &Process) -> Option<u64> {
        let mut greatest = None;
        for line in worker.heard() {
            let (number, redelivered) = line.split_once(' ').unwrap();
            let number = number.parse().unwrap();
            self.note(number, redelivered == "true");
            greatest = greatest.max(Some(number));
        }
        greatest
    }

    fn of(&self, series: Range<u64>) -> u64 {
        self.counts.get(&(series.start / SERIES)).copied().unwrap_or(0)
    }

    /// Exactly the numbers below `count` of this series, and none of them twice without a word.
    #[track_caller]
    fn is_all_of(&self, series: Range<u64>, count: u64) {
        assert_eq!(self.of(series.clone()), count);
        assert_eq!(self.numbers.range(series.start..series.start + count).count() as u64, count);
        for (number, (times, flagged)) in self.numbers.range(series) {
            assert!(flagged + 1 >= *times, "{number} was handed out {times} times, flagged {flagged} times");
        }
    }
}

fn series(nth: u64) -> Range<u64> {
    nth * SERIES..(nth + 1) * SERIES
}

/// Does what comes until it is enough.
async fn work(pull: &Pull, seen: &mut Seen, mut enough: impl FnMut(&Seen) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !enough(seen) {
        assert!(Instant::now() < end, "it is never enough");
        if let Ok(job) = tokio::time::timeout(Duration::from_millis(10), pull.recv()).await {
            let job = job.unwrap();
            seen.note(number(&job), job.redelivered());
            job.ack();
        }
    }
}

#[test]
fn a_pusher_that_was_stopped_at_work_goes_on_and_one_that_was_killed_is_gone() {
    run(async {
        let place = Place::new();
        let node = place.builder().await.unwrap();
        let pull = node.pull("jobs").await.unwrap();
        let mut sources = [0, 1, 2].map(|nth| place.start("source", &[&series(nth).start]));
        let mut seen = Seen::default();
        work(&pull, &mut seen, |seen| (0..3).all(|nth| seen.of(series(nth)) > SOME)).await;
        let [killed, stopped, steady] = &mut sources;
        stopped.signal(Signal::STOP);
        killed.kill();
        let since = Instant::now();
        // All the time the third one is served as ever.
        for second in (2..=STOPPED).step_by(2) {
            let before = seen.of(series(2));
            work(&pull, &mut seen, |_| since.elapsed() >= Duration::from_secs(second)).await;
            assert!(seen.of(series(2)) > before, "nothing in the two seconds before {second}");
        }
        assert!(pull.metrics().pushers.len() <= 2 && node.peers().len() <= 2, "nothing is left of the killed one");
        stopped.signal(Signal::CONT);
        let before = seen.of(series(1));
        work(&pull, &mut seen, |seen| seen.of(series(1)) > before + SOME).await;
        for (nth, source) in [(1, stopped), (2, steady)] {
            source.tell("enough");
            let mut said = None;
            work(&pull, &mut seen, |_| {
                said = source.heard().pop();
                said.is_some()
            })
            .await;
            let said = said.unwrap();
            let (accepted, handled) = said.split_once(' ').unwrap();
            assert_eq!(accepted, handled);
            seen.is_all_of(series(nth), accepted.parse().unwrap());
        }
        let of_killed = seen.of(series(0));
        seen.is_all_of(series(0), of_killed);
        println!("{} of the stopped one, {of_killed} of the killed one", seen.of(series(1)));
    });
}

/// Pushes numbers until it is told to stop, and waits until all are handled.
async fn load(push: &Push, next: &std::cell::Cell<u64>, enough: &std::cell::Cell<bool>) {
    while !enough.get() {
        push.send(next.get().to_le_bytes().to_vec()).await.unwrap();
        next.set(next.get() + 1);
        // The other half of the test runs on the same thread.
        tokio::task::yield_now().await;
    }
    push.flush().await.unwrap();
}

#[test]
fn a_puller_that_was_stopped_at_work_is_at_work_again_afterwards() {
    run(stop_a_puller(None, STOPPED));
    // Here the puller says what it hands out, before it does.
    run(stop_a_puller(Some(5), 4));
}

async fn stop_a_puller(max_failures: Option<u32>, stopped_for: u64) {
    let place = Place::new();
    let node = place.builder().await.unwrap();
    let mut push = node.push("jobs").bound(BOUND, 1 << 20);
    if let Some(failures) = max_failures {
        push = push.max_failures(failures);
    }
    let push = push.await.unwrap();
    let workers = [(); 2].map(|()| place.start("worker", &[]));
    workers.iter().for_each(|worker| worker.hear_this("ready"));
    push.wait_for_pullers(2).await.unwrap();
    let [stopped, other] = &workers;
    let (next, enough) = (std::cell::Cell::new(0), std::cell::Cell::new(false));
    let mut seen = Seen::default();
    let script = async {
        let (mut mine, mut theirs) = (None, None);
        until("both are at work", || {
            mine = mine.max(seen.hear(stopped));
            theirs = theirs.max(seen.hear(other));
            mine > Some(SOME) && theirs > Some(SOME)
        })
        .await;
        stopped.signal(Signal::STOP);
        let since = Instant::now();
        until("the stopped one is given up", || {
            seen.hear(other);
            push.pullers() == 1
        })
        .await;
        println!("a stopped puller was given up after {:?}", since.elapsed());
        for second in (4..=stopped_for).step_by(2) {
            let before = seen.of(series(0));
            until("time passes", || {
                seen.hear(other);
                since.elapsed() >= Duration::from_secs(second)
            })
            .await;
            assert!(seen.of(series(0)) > before, "nothing in the two seconds before {second}");
        }
        let since = next.get();
        stopped.signal(Signal::CONT);
        until("the stopped one has new work", || {
            seen.hear(other);
            seen.hear(stopped) > Some(since)
        })
        .await;
        enough.set(true);
    };
    tokio::join!(load(&push, &next, &enough), script);
    let metrics = push.metrics();
    assert_eq!((metrics.accepted, metrics.handled), (next.get(), next.get()));
    until("all was said", || {
        workers.iter().for_each(|worker| {
            seen.hear(worker);
        });
        seen.of(series(0)) == next.get()
    })
    .await;
    seen.is_all_of(series(0), next.get());
}

#[test]
fn who_stutters_loses_no_link_and_repeats_nothing() {
    run(async {
        let place = Place::new();
        let node = place.builder().await.unwrap();
        let push = node.push("jobs").bound(BOUND, 1 << 20).await.unwrap();
        let workers = [(); 3].map(|()| place.start("worker", &[]));
        workers.iter().for_each(|worker| worker.hear_this("ready"));
        push.wait_for_pullers(3).await.unwrap();
        let (next, enough) = (std::cell::Cell::new(0), std::cell::Cell::new(false));
        let mut seen = Seen::default();
        let script = async {
            // One after the other, and at last all at once, is stopped for a second.
            for stopped in [&workers[..1], &workers[1..2], &workers[2..], &workers] {
                stopped.iter().for_each(|worker| worker.signal(Signal::STOP));
                let since = Instant::now();
                until("a second has passed", || {
                    workers.iter().for_each(|worker| {
                        seen.hear(worker);
                    });
                    since.elapsed() >= Duration::from_secs(1)
                })
                .await;
                stopped.iter().for_each(|worker| worker.signal(Signal::CONT));
                let since = next.get();
                for worker in &workers {
                    until("everybody is at work", || seen.hear(worker) > Some(since)).await;
                }
            }
            enough.set(true);
        };
        tokio::join!(load(&push, &next, &enough), script);
        until("all was said", || {
            workers.iter().for_each(|worker| {
                seen.hear(worker);
            });
            seen.of(series(0)) == next.get()
        })
        .await;
        assert!(seen.numbers.values().all(|times| times.0 == 1), "each once");
        // What comes right after a stop may have waited for so long that somebody else has it: that is told of a few, as the
        // pusher is asked at once.
        let doubted = seen.numbers.values().filter(|times| times.1 > 0).count() as u64;
        assert!(doubted * 20 < next.get(), "{doubted} of {} were doubted", next.get());
        assert_eq!((push.metrics().handled, push.metrics().redelivered), (next.get(), 0));
        assert_eq!(node.metrics().links_opened, 3, "the first links are the only ones");
    });
}
