//! How nodes on the simulated LAN hear of each other: everybody with the same mesh tag is told, after a little while.
//!
//! Modelled on mDNS, without its packets: a node announces itself when it starts and again from time to time, those who
//! are there answer it, and who leaves in peace says so. A crash says nothing. Nothing is heard across a cut, until the
//! next announcement after it has healed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshmq::discovery::{Advert, Finder, Found, Source};
use meshmq::env::{BoxFuture, Env};
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use tokio::sync::mpsc;

use crate::host::Host;
use crate::network::{Life, Network};
use crate::random;

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
        "lan"
    }

    fn run(self: Arc<Self>, own: Advert, _: Env, found: Finder) -> BoxFuture<()> {
        Box::pin(async move {
            let sim = self.host.sim();
            let (heard, mut inbox) = mpsc::unbounded_channel();
            let bound = own.bound.ip();
            let ips = if bound.is_unspecified() { self.host.ips() } else { vec![bound] };
            let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, own.port)).collect();
            let seat = sim.board().join(Member { life: self.life, addresses, advert: own, heard });
            let mut next = sim.elapsed() + ANNOUNCED_EVERY;
            loop {
                let wait = next.saturating_sub(sim.elapsed());
                tokio::select! {
                    biased;
                    Some(news) = inbox.recv() => found.tell(news).await,
                    () = sim.sleep(wait) => {
                        seat.announce();
                        next += ANNOUNCED_EVERY;
                    }
                }
            }
        })
    }
}

/// Who is on the LAN.
pub(crate) struct Board {
    network: Arc<Network>,
    state: Mutex<State>,
}

struct State {
    random: ChaCha20Rng,
    members: BTreeMap<u64, Member>,
    joined: u64,
}

struct Member {
    life: Life,
    addresses: Vec<SocketAddr>,
    advert: Advert,
    heard: mpsc::UnboundedSender<Found>,
}

impl Board {
    pub(crate) fn new(network: Arc<Network>, seed: u64) -> Self {
        let state = State { random: random::stream(seed, "discovery"), members: BTreeMap::new(), joined: 0 };
        Self { network, state: Mutex::new(state) }
    }

    /// The member announces itself and is answered by all who are there.
    fn join(self: &Arc<Self>, member: Member) -> Seat {
        let number = {
            let mut state = self.lock();
            state.joined += 1;
            let number = state.joined;
            state.members.insert(number, member);
            number
        };
        let seat = Seat { board: self.clone(), number };
        seat.announce();
        seat.listen();
        seat
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn seen(&self) -> Found {
        self.hint(self.addresses.clone())
    }

    fn withdrawn(&self) -> Found {
        self.hint(Vec::new())
    }

    fn hint(&self, addresses: Vec<SocketAddr>) -> Found {
        Found::Seen { node: Some(self.advert.node), incarnation: Some(self.advert.incarnation), addresses }
    }
}

/// A member's place; dropping it says goodbye, if the host is up to say so.
struct Seat {
    board: Arc<Board>,
    number: u64,
}

impl Seat {
    /// All others of the mesh hear of this member.
    fn announce(&self) {
        self.say(&mut self.board.lock(), Member::seen);
    }

    /// This member hears of all others of the mesh, and that this was the first pass.
    fn listen(&self) {
        let mut state = self.board.lock();
        let state = &mut *state;
        let own = &state.members[&self.number];
        for other in others(&state.members, self.number) {
            // It heard the announcement, and its answer was heard.
            if self.board.network.reaches(own.life.host, other.life.host) {
                self.tell(delay(&mut state.random) + delay(&mut state.random), other, own, other.seen());
            }
        }
        self.tell(MOST * 2, own, own, Found::FirstPass);
    }

    fn say(&self, state: &mut State, what: impl Fn(&Member) -> Found) {
        let own = &state.members[&self.number];
        for other in others(&state.members, self.number) {
            self.tell(delay(&mut state.random), own, other, what(own));
        }
    }

    /// `to` hears `news` from `from`, unless there is a cut between them.
    fn tell(&self, delay: Duration, from: &Member, to: &Member, news: Found) {
        let network = &self.board.network;
        if !network.reaches(from.life.host, to.life.host) || network.clock.is_over() {
            return;
        }
        let heard = to.heard.clone();
        network.clock.at(network.clock.now() + delay, move || {
            // Who has left meanwhile hears nothing.
            let _ = heard.send(news);
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.board.lock();
        if self.board.network.is_up(state.members[&self.number].life) {
            self.say(&mut state, Member::withdrawn);
        }
        let _member = state.members.remove(&self.number);
    }
}

/// The other members of the same mesh, in the order in which they have joined.
fn others(members: &BTreeMap<u64, Member>, number: u64) -> impl Iterator<Item = &Member> {
    let tag = members[&number].advert.mesh_tag;
    members
        .iter()
        .filter(move |(other, member)| **other != number && member.advert.mesh_tag == tag)
        .map(|(_, member)| member)
}

fn delay(random: &mut ChaCha20Rng) -> Duration {
    random.random_range(LEAST..=MOST)
}

/// The least time until a word is heard.
const LEAST: Duration = Duration::from_micros(500);
/// The most time until a word is heard.
const MOST: Duration = Duration::from_millis(5);
/// How often a member announces itself anew: after so long at most, a healed cut is known to be healed.
const ANNOUNCED_EVERY: Duration = Duration::from_secs(5);
