//! One publisher and fifty subscribers in processes of their own, which join, leave, are killed and hang.

use std::collections::BTreeSet;

use crate::support::{PATIENCE, Place, Process, Role, run, until};
use rustix::process::Signal;

/// A role: subscribes, says `ready`, and checks that nothing is missing that it is not told of. Says `end FIRST HANDED MISSED
/// EXACT` at the last message, and leaves when its input ends.
#[test]
fn reader() {
    let Some(role) = Role::of("reader") else { return };
    run(async {
        let node = role.builder().name("reader").await.unwrap();
        let sub = node.subscriber("news").topic("n.>").topic("end").await.unwrap();
        role.say("ready");
        let leave = async {
            let (tell, told) = tokio::sync::oneshot::channel();
            std::thread::spawn(|| tell.send(std::io::read_to_string(std::io::stdin())));
            let _ = told.await;
        };
        let read = async {
            let (mut first, mut next, mut handed, mut missed, mut exact) = (None, None, 0_u64, 0, true);
            loop {
                let news = sub.recv().await.unwrap();
                let number = u64::from_le_bytes(news[..].try_into().unwrap());
                let gap = news.missed();
                if gap.is_some_and(|gap| !gap.exact) {
                    // It was away for so long that nobody knows.
                    (exact, next) = (false, None);
                }
                let count = gap.map_or(0, |gap| gap.count);
                if let Some(next) = next
                    && number != next + count
                {
                    role.say(format!("wrong: {number} where {next} was due, and {count} were said to be missing"));
                }
                first.get_or_insert(number - count);
                (next, handed, missed) = (Some(number + 1), handed + 1, missed + count);
                if news.topic() == "end" {
                    role.say(format!("end {} {handed} {missed} {exact}", first.unwrap()));
                }
            }
        };
        tokio::select! {
            biased;
            () = leave => {}
            () = read => {}
        }
    });
}

struct Crowd<'a> {
    place: &'a Place,
    all: Vec<Process>,
    /// Those that are to have everything from when they were ready on, or be told.
    well: BTreeSet<usize>,
}

impl Crowd<'_> {
    fn join(&mut self, count: usize) {
        let first = self.all.len();
        self.all.extend((0..count).map(|_| self.place.start("reader", &[])));
        for nth in first..first + count {
            self.all[nth].hear_this("ready");
            self.well.insert(nth);
        }
    }

    /// Takes some out.
    fn some(&mut self, count: usize) -> Vec<usize> {
        let some: Vec<_> = self.well.iter().copied().step_by(3).take(count).collect();
        self.well.retain(|nth| !some.contains(nth));
        some
    }
}

#[test]
fn fifty_subscribers_join_leave_are_killed_and_hang_and_every_other_one_has_everything() {
    let place = Place::new();
    run(async {
        let node = place.builder().await.unwrap();
        let news = node.publisher("news").await.unwrap();
        let mut crowd = Crowd { place: &place, all: Vec::new(), well: BTreeSet::new() };
        let mut published = 0_u64;
        let mut publish = async |count: u64| {
            for _ in 0..count {
                news.publish(["n.a", "n.b.c"][published as usize % 2], published.to_le_bytes().to_vec()).await.unwrap();
                published += 1;
                if published.is_multiple_of(50) {
                    tokio::task::yield_now().await;
                }
            }
            published
        };
        crowd.join(30);
        news.wait_for_subscribers(30).await.unwrap();
        publish(1000).await;
        let hung = crowd.some(1)[0];
        crowd.all[hung].stop();
        publish(1000).await;
        for nth in crowd.some(5) {
            crowd.all[nth].kill();
            publish(200).await;
        }
        crowd.join(10);
        publish(1000).await;
        for nth in crowd.some(5) {
            // Its input ends, and it leaves.
            crowd.all[nth].wait();
            publish(200).await;
        }
        crowd.join(10);
        publish(1000).await;
        for nth in crowd.some(5) {
            crowd.all[nth].kill();
        }
        publish(1000).await;
        // Long enough to be given up.
        until("the one that hangs is given up", || news.subscribers() == crowd.well.len()).await;
        publish(1000).await;
        crowd.all[hung].signal(Signal::CONT);
        crowd.well.insert(hung);
        until("it is back", || news.subscribers() == crowd.well.len()).await;
        let last = publish(1000).await;
        news.publish("end", last.to_le_bytes().to_vec()).await.unwrap();
        for nth in &crowd.well {
            let said = crowd.all[*nth].hear_within(PATIENCE).expect("it has come to the end");
            let parts: Vec<_> = said.split(' ').collect();
            let ["end", first, handed, missed, exact] = parts[..] else { panic!("{nth}: {said}") };
            let number = |text: &str| text.parse::<u64>().unwrap();
            if exact == "true" {
                assert_eq!(number(first) + number(handed) + number(missed), last + 1, "{nth}: {said}");
            } else {
                assert_eq!(*nth, hung, "{said}");
            }
            assert!(*nth == hung || number(missed) == 0, "{nth} was well: {said}");
        }
        let metrics = news.metrics();
        for one in &metrics.subscribers {
            assert_eq!(one.matched, one.queued + one.in_flight + one.received + one.dropped.total(), "{one:?}");
        }
    });
}
