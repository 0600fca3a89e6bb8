//! How nodes on a simulated network hear of each other: by a model of multicast DNS (RFC 6762).
//!
//! mDNS itself has threads and a clock of its own; this is its behaviour, as it was measured with real daemons on a real
//! network. A node announces itself as it starts and once more a second later, and asks who is there; who is asked
//! answers after 20 to 120 ms, but repeats nothing within a second. So those who are there see a newcomer after a
//! millisecond, and it sees them after 20 ms to 1.1 s. It hears its own advert as well, and of others one address after
//! the other. Who leaves in peace says so and is forgotten a second later; who crashes, 120 s after it was last heard.
//! Nodes ask anew every 30 s, all together.
//!
//! Multicast stays on its LAN, may be lost or not pass at all, and stops at cuts like everything else.
//!
//! | file | question |
//! |---|---|
//! | `board` | what is said, and who hears it? |
//! | `records` | who is there, as far as one has heard? Pure |

mod board;
mod records;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use meshmq::NodeId;
use meshmq::discovery::{Advert, Finder, Found, Source};
use meshmq::env::{BoxFuture, Env};
use tokio::sync::mpsc;

pub(crate) use board::Board;

use crate::host::Host;
use crate::network::Life;
use crate::sim::Sim;
use board::{Own, Said, Seat, Word};
use records::Records;

/// The discovery source of a host.
pub(crate) struct Mdns {
    host: Host,
    life: Life,
}

impl Mdns {
    /// Of the present life of this host.
    pub(crate) fn new(host: Host) -> Self {
        let life = host.life();
        Self { host, life }
    }
}

impl Source for Mdns {
    fn name(&self) -> &'static str {
        "mdns"
    }

    fn run(self: Arc<Self>, own: Advert, _: Env, found: Finder) -> BoxFuture<()> {
        Box::pin(async move {
            let own = Own {
                life: self.life,
                node: own.node,
                incarnation: own.incarnation,
                mesh_tag: own.mesh_tag,
                bound: SocketAddr::new(own.bound.ip(), own.port),
            };
            let mut doubts = found.doubts();
            let mut listener = Listener::new(self.host.sim(), own);
            loop {
                tokio::select! {
                    biased;
                    news = listener.next() => found.tell(news).await,
                    node = doubts.next() => listener.doubt(node),
                }
            }
        })
    }
}

/// A node's part in it.
struct Listener {
    sim: Sim,
    own: Own,
    seat: Seat,
    inbox: mpsc::Receiver<Said>,
    records: Records,
    /// What is to be told.
    news: VecDeque<Found>,
    /// When it says next where it is; `None` until there is a reason to.
    speaks: Option<Duration>,
    /// When it has last said so.
    spoken: Duration,
    asks: Duration,
    /// When it looks next at the addresses of its host, and those of the last time.
    looks: Duration,
    addresses: Vec<IpAddr>,
    /// When the first pass is finished; `None` when it is.
    first_pass: Option<Duration>,
    began: Duration,
}

impl Listener {
    fn new(sim: &Sim, own: Own) -> Self {
        let now = sim.elapsed();
        let (seat, inbox) = sim.board().join(own);
        let mut listener = Self {
            sim: sim.clone(),
            own,
            inbox,
            records: Records::default(),
            news: VecDeque::new(),
            speaks: None,
            spoken: now,
            asks: now,
            looks: now + LOOKS_EVERY,
            addresses: seat.addresses(),
            first_pass: Some(now + if seat.has_multicast() { LISTENS_AT_MOST } else { Duration::ZERO }),
            began: now,
            seat,
        };
        listener.announce(now);
        listener
    }

    /// What is new.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    async fn next(&mut self) -> Found {
        loop {
            if let Some(news) = self.news.pop_front() {
                return news;
            }
            let times = [self.speaks, Some(self.asks), Some(self.looks), self.first_pass, self.records.next()];
            let next = times.into_iter().flatten().min().expect("it looks and asks again and again");
            let wait = next.saturating_sub(self.sim.elapsed());
            tokio::select! {
                biased;
                Some(said) = self.inbox.recv() => self.hear(said),
                () = self.sim.sleep(wait) => self.act(),
            }
        }
    }

    /// A node is not where it is said to be.
    fn doubt(&mut self, node: NodeId) {
        if self.records.doubted(self.sim.elapsed(), node) {
            self.seat.say(Word::Question);
        }
    }

    fn hear(&mut self, said: Said) {
        let now = self.sim.elapsed();
        match said {
            Said::Here(tag, _) if tag != self.own.mesh_tag => {}
            Said::Here(_, here) => {
                if let Some(news) = self.records.heard(now, &here) {
                    self.news.push_back(news);
                    if let Some(at) = self.first_pass.as_mut().filter(|_| here.node != self.own.node) {
                        *at = (now + QUIET).clamp(self.began + LISTENS, self.began + LISTENS_AT_MOST);
                    }
                }
            }
            Said::Goodbye(node, incarnation) => self.records.left(now, node, incarnation),
            Said::Question(node) if node == self.own.node => {}
            Said::Question(_) => {
                let at = now.max(self.spoken + REPEATED_AFTER) + self.seat.draw(ANSWERS);
                self.speaks.get_or_insert(at);
            }
        }
    }

    fn act(&mut self) {
        let now = self.sim.elapsed();
        let (ended, ask) = self.records.act(now);
        self.news.extend(ended);
        if self.speaks.is_some_and(|at| at <= now) {
            self.speak(now);
        }
        if now >= self.looks {
            self.looks = now + LOOKS_EVERY;
            let addresses = self.seat.addresses();
            if addresses != self.addresses {
                self.addresses = addresses;
                self.announce(now);
                self.asks = now;
            }
        }
        if ask || now >= self.asks {
            self.seat.say(Word::Question);
        }
        if now >= self.asks {
            // All who are there ask as often as one alone would.
            let all = u32::try_from(self.records.len()).unwrap_or(u32::MAX).max(1);
            self.asks = now + self.seat.draw(ASKS_EVERY * 3 / 4..=ASKS_EVERY * 5 / 4) * all;
        }
        if self.first_pass.is_some_and(|at| at <= now) {
            self.first_pass = None;
            let report = if self.seat.has_multicast() { "asked by multicast" } else { "no multicast" };
            self.news.extend([Found::Report(report.to_owned()), Found::FirstPass]);
        }
    }

    /// Says where it is, now and once more after a second (RFC 6762, 8.3).
    fn announce(&mut self, now: Duration) {
        self.speak(now);
        self.speaks = Some(now + REPEATED_AFTER);
    }

    fn speak(&mut self, now: Duration) {
        self.seat.say(Word::Here);
        (self.speaks, self.spoken) = (None, now);
    }
}

/// How long a question waits for its answer (RFC 6762, 6).
const ANSWERS: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_millis(120);
/// Nothing is said again earlier (RFC 6762, 6).
const REPEATED_AFTER: Duration = Duration::from_secs(1);
/// How often all nodes together ask anew.
const ASKS_EVERY: Duration = Duration::from_secs(30);
/// How often a node looks whether its host has other addresses.
const LOOKS_EVERY: Duration = Duration::from_secs(5);
/// The first pass is over when there was no news for so long,
const QUIET: Duration = Duration::from_millis(250);
/// but not before,
const LISTENS: Duration = Duration::from_millis(500);
/// and not after this.
const LISTENS_AT_MOST: Duration = Duration::from_millis(1200);
