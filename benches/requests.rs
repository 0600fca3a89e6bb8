//! What becomes of requests when things go wrong, between processes of one host: how soon a handler hears that nobody waits
//! for it any more, and how soon the requests of a killed replier end, or are with another one.
//!
//! ```sh
//! cargo bench --bench requests                  # 9 rounds
//! cargo bench --bench requests -- 20 --check    # other numbers of rounds; a missed target is an error
//! ```
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::future::{IntoFuture, pending};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use meshmq::{Message, RequestError};
use support::{Options, Place, Role, Table, run};

/// Requests that a replier holds when it is killed.
const HELD: usize = 1000;
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        run(replier(&role));
        return ExitCode::SUCCESS;
    }
    let options = Options::read();
    let mut table = Table::new(&options);
    let rounds = options.number(0, 9);
    let (mut cancels, mut trips) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let [trip, cancel] = run(cancelled());
        trips.push(trip);
        cancels.push(cancel - trip);
    }
    table.row("round trip of a request, median of 200", " ms", trips, None);
    table.row("a dropped request's handler is dropped, beyond that", " ms", cancels, Some(5.0));
    let (mut unknown, mut again) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let [first, second] = run(killed());
        unknown.push(first);
        again.push(second);
    }
    table.row("500 open requests of a killed replier are unknown", " ms", unknown, Some(1000.0));
    table.row("500 idempotent ones are answered by another one", " ms", again, Some(1000.0));
    table.end()
}

struct SaysWhenDropped<'a>(&'a Role);

impl Drop for SaysWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.say("dropped");
    }
}

/// Answers `echo` at once, and anything else never; of that it says that it has it, and when its handler is dropped.
async fn replier(role: &Role) {
    let node = role.builder().await.unwrap();
    let replier = node.replier("work").limit(2 * HELD).await.unwrap();
    role.say("ready");
    let answers = role.arg::<bool>(0);
    let handler = |request: Message| async move {
        match &request[..] {
            b"never" => {
                role.say("begun");
                let _says = SaysWhenDropped(role);
                pending().await
            }
            b"hold" if !answers => pending().await,
            _ => Ok::<_, String>(request.body()),
        }
    };
    replier.serve(2 * HELD, handler).await.unwrap();
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// A round trip, and from a drop to the word of the handler.
async fn cancelled() -> [f64; 2] {
    let place = Place::new();
    let replier = place.start("replier", &[&true]);
    replier.hear_this("ready");
    let node = place.builder().await.unwrap();
    let requester = node.requester("work").await.unwrap();
    requester.wait_for_repliers(1).await.unwrap();
    let mut trips = Vec::new();
    for _ in 0..200 {
        let asked = Instant::now();
        requester.request("echo").await.unwrap();
        trips.push(milliseconds(asked));
    }
    trips.sort_by(f64::total_cmp);
    let asking = tokio::spawn(requester.request("never").timeout(LONG).into_future());
    while requester.metrics().open == 0 {
        tokio::task::yield_now().await;
    }
    replier.hear_this("begun");
    let dropped = Instant::now();
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let heard = replier.hear_this("dropped");
    [trips[trips.len() / 2], (heard - dropped).as_secs_f64() * 1e3]
}

/// From the kill until the last request is unknown, and until the last idempotent one is answered.
async fn killed() -> [f64; 2] {
    let place = Place::new();
    let mut holder = place.start("replier", &[&false]);
    holder.hear_this("ready");
    let node = place.builder().await.unwrap();
    let requester = node.requester("work").await.unwrap();
    requester.wait_for_repliers(1).await.unwrap();
    let ask = |number: usize| {
        let ask = requester.request("hold").timeout(LONG);
        tokio::spawn(if number.is_multiple_of(2) { ask.idempotent() } else { ask }.into_future())
    };
    let asking: Vec<_> = (0..HELD).map(ask).collect();
    while requester.metrics().repliers.iter().map(|replier| replier.open).sum::<u64>() < HELD as u64 {
        tokio::task::yield_now().await;
    }
    let other = place.start("replier", &[&true]);
    other.hear_this("ready");
    requester.wait_for_repliers(2).await.unwrap();
    let begun = Instant::now();
    holder.kill();
    let (mut unknown, mut again) = (0.0, 0.0);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (number, asking) in asking.into_iter().enumerate() {
        if number.is_multiple_of(2) { second.push(asking) } else { first.push(asking) }
    }
    for asking in first {
        let ended = asking.await.unwrap();
        assert!(matches!(ended, Err(RequestError::Unknown { .. })), "{ended:?}");
        unknown = milliseconds(begun);
    }
    for asking in second {
        assert_eq!(asking.await.unwrap().unwrap().attempt(), 2);
        again = milliseconds(begun);
    }
    [unknown, again]
}
