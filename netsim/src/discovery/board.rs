//! What is said by multicast, and who hears it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshmq::NodeId;
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use tokio::sync::mpsc;

use super::records::Here;
use crate::network::{HostId, LanId, Life, Network};
use crate::random;

/// All who speak and listen on the networks of a run.
pub(crate) struct Board {
    network: Arc<Network>,
    state: Mutex<State>,
}

struct State {
    random: ChaCha20Rng,
    /// Their ears, by host and in the order in which they have joined.
    members: BTreeMap<(HostId, u64), mpsc::Sender<Said>>,
    joined: u64,
}

/// Who speaks, and where it is to be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) life: Life,
    pub(super) node: NodeId,
    pub(super) incarnation: u64,
    pub(super) mesh_tag: [u8; 8],
    /// With the port that it listens on.
    pub(super) bound: SocketAddr,
}

/// What is said.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// By a node of this mesh.
    Here([u8; 8], Here),
    /// This life of the node is over.
    Goodbye(NodeId, u64),
    /// Who is there?
    Question(NodeId),
}

/// What a member says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word {
    Here,
    Goodbye,
    Question,
}

/// A member's place. Dropping it says goodbye, if the host is up to say so.
pub(super) struct Seat {
    board: Arc<Board>,
    key: (HostId, u64),
    own: Own,
}

impl Board {
    pub(crate) fn new(network: Arc<Network>, seed: u64) -> Self {
        let state = State { random: random::stream(seed, "discovery"), members: BTreeMap::new(), joined: 0 };
        Self { network, state: Mutex::new(state) }
    }

    /// From now on the member hears what is said.
    pub(super) fn join(self: &Arc<Self>, own: Own) -> (Seat, mpsc::Receiver<Said>) {
        let (heard, inbox) = mpsc::channel(UNHEARD);
        let mut state = self.lock();
        state.joined += 1;
        let key = (own.life.host, state.joined);
        state.members.insert(key, heard);
        (Seat { board: self.clone(), key, own }, inbox)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Says something on all networks of the host, and within it.
    pub(super) fn say(&self, word: Word) {
        let Self { board, own, .. } = self;
        let network = &board.network;
        if !network.is_up(own.life) || network.clock.is_over() {
            return;
        }
        network.note(format!("{} {}", network.host_name(own.life.host), word.spoken()));
        let mut state = board.lock();
        let state = &mut *state;
        // Whatever is no address is said once.
        let words = if matches!(word, Word::Here) { usize::MAX } else { 1 };
        for ip in own.addresses(network, None).into_iter().take(words) {
            self.tell(state, own.life.host, None, ip, word, WITHIN_A_HOST);
        }
        for (host, lan, delay) in network.multicast(own.life.host, &mut state.random) {
            // Sockets that are bound to one network are spoken of there.
            let mut delay = delay;
            for ip in own.addresses(network, Some(lan)).into_iter().take(words) {
                self.tell(state, host, Some(lan), ip, word, delay);
                delay += state.random.random_range(APART);
            }
        }
    }

    /// All members of a host hear it. One address at a time: what is known of a node grows.
    fn tell(&self, state: &State, host: HostId, lan: Option<LanId>, ip: IpAddr, word: Word, delay: Duration) {
        let Own { node, incarnation, mesh_tag, bound, .. } = self.own;
        let said = match word {
            Word::Here => {
                let addresses = vec![SocketAddr::new(ip, bound.port())];
                Said::Here(mesh_tag, Here { node, incarnation, addresses, lan })
            }
            Word::Goodbye => Said::Goodbye(node, incarnation),
            Word::Question => Said::Question(node),
        };
        let clock = &self.board.network.clock;
        for (_, heard) in state.members.range((host, 0)..=(host, u64::MAX)) {
            let (heard, said) = (heard.clone(), said.clone());
            // Who has left meanwhile, or does not listen, misses it.
            clock.at(clock.now() + delay, move || drop(heard.try_send(said)));
        }
    }

    /// A time from this range, evenly.
    pub(super) fn draw(&self, range: RangeInclusive<Duration>) -> Duration {
        self.board.lock().random.random_range(range)
    }

    /// All addresses that the member is to be reached at from other hosts.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let network = &self.board.network;
        let lans = network.lans_of(self.own.life.host);
        lans.into_iter().flat_map(|lan| self.own.addresses(network, Some(lan))).collect()
    }

    /// Whether anybody might hear it.
    pub(super) fn has_multicast(&self) -> bool {
        self.board.network.has_multicast(self.own.life.host) && !self.addresses().is_empty()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let member = self.board.lock().members.remove(&self.key);
        drop(member);
        self.say(Word::Goodbye);
    }
}

impl Own {
    /// Where it is to be reached on this LAN; for `None` within its host.
    fn addresses(&self, network: &Network, lan: Option<LanId>) -> Vec<IpAddr> {
        let all = match lan {
            Some(lan) => network.addresses_on(self.life.host, lan),
            None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        };
        let bound = self.bound.ip().to_canonical();
        let takes = |ip: &IpAddr| bound == *ip || bound.is_unspecified() && (bound.is_ipv6() || ip.is_ipv4());
        all.into_iter().filter(takes).collect()
    }
}

impl Word {
    fn spoken(self) -> &'static str {
        match self {
            Self::Here => "says by multicast where it is",
            Self::Goodbye => "says goodbye by multicast",
            Self::Question => "asks by multicast who is there",
        }
    }
}

/// What waits to be heard; more is lost, as at a socket.
const UNHEARD: usize = 1024;
const WITHIN_A_HOST: Duration = Duration::from_micros(10);
/// How long after one address the next is heard.
const APART: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_millis(5);
