//! WHO, for control: the conversation of two nodes over one connection, and which of their connections is the link.
//!
//! ```text
//!  the smaller id (arbiter)                      the larger id
//!  Hello ───────────────────────────▶  ◀─────────────────────── Hello      either may have dialled
//!  chooses one connection a peer
//!  Admitted ────────────────────────▶            gives up its older link, if it has one
//!  open             ◀─────────────────────── Admitted           open
//!  Sockets, Ping, … ────────────────▶  ◀──────────────── Sockets, Ping, …
//!  Goodbye ─────────────────────────▶            gone: dialled again only when it is seen again
//! ```
//!
//! A [`Session`] is one end of one connection, an [`Arbiter`] one node's view of all its connections with one peer.
//! Both are pure: time, and how much was received, come in as arguments.

mod arbiter;
mod liveness;
mod status;
mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::id::{NodeId, SocketId};
use crate::wire::Violation;
use crate::wire::control::{Control, Hello, MAX_PEERS_PART, PeerEntry, Peers, SocketEntry, Status};
use crate::wire::limits::{ADMISSION_DEADLINE, MAX_PEERS};

pub(crate) use arbiter::{Arbiter, ConnectionId, Verdict};
use liveness::{Liveness, Pulse};
use status::Asks;
pub(crate) use table::Change;
use table::{Heard as HeardTable, Told};

/// One end of one connection: what may be said when, and what is to be said next.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Session {
    /// This end sends the first [`Control::Admitted`]: its node has the smaller id.
    arbitrates: bool,
    state: State,
    /// By when the connection must be open.
    deadline: Instant,
    /// What the peer said of itself.
    peer: Option<Hello>,
    // What is to be said is kept as state, not as a queue of frames: a peer that does not read makes nothing grow.
    hello: Option<Hello>,
    admitted: bool,
    ping: bool,
    goodbye: Option<String>,
    told: Told,
    heard: HeardTable,
    /// What the peer is still to be told of others, the last word on each.
    peers: BTreeMap<NodeId, Vec<SocketAddr>>,
    asks: Asks,
    liveness: Liveness,
}

/// Where the conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// The peer's Hello has not come.
    Greeting,
    /// Both are known to each other; the arbiter decides.
    Met,
    /// At the arbiter alone: Admitted was sent and not yet answered.
    Asked,
    /// The connection is the link of the two nodes.
    Open,
    /// One of the two has said Goodbye.
    Leaving,
}

/// What a frame of the peer means to the node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Who is there; for [`Arbiter::handle_hello`].
    Hello(Hello),
    /// The peer has chosen this connection, or agreed to it; for [`Arbiter::handle_admitted`].
    Admitted,
    /// The peer's sockets changed.
    Sockets(Change),
    /// Where the peer's own peers may be reached.
    Peers(Vec<PeerEntry>),
    /// The peer wants to know this node's status; for [`Session::answer_status`], once [`Session::owes_status`].
    StatusAsk,
    /// The peer's status, which was asked for.
    Status(Box<Status>),
    /// The peer leaves, for this reason.
    Goodbye(String),
    /// Nothing that the node has to act on.
    Nothing,
}

/// Why an end gives a connection up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Another connection of the two nodes is their link.
    Duplicate,
    /// Another connection of the two nodes has become their link.
    Replaced,
    /// It was not admitted in time.
    Admission,
    /// The peer was silent for too long.
    Silent,
}

impl Session {
    /// A connection has been authenticated; `hello` is what this end says of itself.
    pub(crate) fn new(now: Instant, arbitrates: bool, hello: Hello) -> Self {
        Self {
            arbitrates,
            state: State::Greeting,
            deadline: now + ADMISSION_DEADLINE,
            peer: None,
            hello: Some(hello),
            admitted: false,
            ping: false,
            goodbye: None,
            told: Told::default(),
            heard: HeardTable::default(),
            peers: BTreeMap::new(),
            asks: Asks::default(),
            liveness: Liveness::new(now),
        }
    }

    /// The peer has said this.
    ///
    /// # Errors
    /// It may not be said now, or is over a limit: the connection is closed.
    pub(crate) fn handle_frame(&mut self, now: Instant, frame: Control) -> Result<Heard, Violation> {
        match (frame, self.state) {
            (Control::Hello(hello), State::Greeting) => {
                self.state = State::Met;
                self.peer = Some(hello.clone());
                Ok(Heard::Hello(hello))
            }
            // It was under way when this end said Goodbye.
            (Control::Hello(hello), State::Leaving) if self.peer.is_none() => {
                self.peer = Some(hello);
                Ok(Heard::Nothing)
            }
            (Control::Admitted, State::Leaving) => Ok(Heard::Nothing),
            (Control::Hello(_), _) => Err(Violation("a second Hello")),
            (_, State::Greeting) => Err(Violation("something before Hello")),
            (Control::Admitted, State::Asked) => {
                self.open(now);
                Ok(Heard::Admitted)
            }
            (Control::Admitted, State::Met) if !self.arbitrates => Ok(Heard::Admitted),
            (Control::Admitted, _) => Err(Violation("an Admitted that is out of order")),
            (Control::Sockets(sockets), State::Open | State::Leaving) => {
                Ok(self.heard.handle(sockets)?.map_or(Heard::Nothing, Heard::Sockets))
            }
            (Control::Sockets(_), _) => Err(Violation("sockets before Admitted")),
            (Control::Peers(Peers { peers }), State::Open | State::Leaving) => Ok(Heard::Peers(peers)),
            (Control::Peers(_), _) => Err(Violation("peers before Admitted")),
            (Control::StatusAsk, State::Open | State::Leaving) => {
                self.asks.handle_ask()?;
                Ok(Heard::StatusAsk)
            }
            (Control::Status(part), State::Open | State::Leaving) => {
                Ok(self.asks.handle_status(part)?.map_or(Heard::Nothing, Heard::Status))
            }
            (Control::StatusAsk | Control::Status(_), _) => Err(Violation("a status before Admitted")),
            (Control::Ping, _) => Ok(Heard::Nothing),
            (Control::Goodbye { reason }, _) => {
                self.state = State::Leaving;
                Ok(Heard::Goodbye(reason))
            }
        }
    }

    /// The arbiter has chosen this connection: [`Verdict::Admit`].
    pub(crate) fn admit(&mut self, now: Instant) {
        if self.state == State::Leaving {
            // One of the two has said Goodbye meanwhile, after which nothing follows.
            return;
        }
        debug_assert_eq!(self.state, State::Met, "the arbiter chooses among connections whose Hello it has seen");
        self.admitted = true;
        match self.arbitrates {
            true => self.state = State::Asked,
            false => self.open(now),
        }
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open;
        self.liveness = Liveness::new(now);
    }

    /// Sends a word, for the peer to acknowledge.
    pub(crate) fn ping(&mut self) {
        self.ping = self.state == State::Open;
    }

    /// Tells the peer the whole table of own sockets; once, when the session is open.
    pub(crate) fn tell_all(&mut self, sockets: impl IntoIterator<Item = SocketEntry>) {
        self.told.all(sockets);
    }

    /// Tells the peer of a new socket.
    pub(crate) fn tell_opened(&mut self, socket: SocketEntry) {
        self.told.opened(socket);
    }

    /// Tells the peer that a socket is no more, if it has been told of it.
    pub(crate) fn tell_closed(&mut self, socket: SocketId) {
        self.told.closed(socket);
    }

    /// Tells the peer where another one may be reached; nowhere: that there is no link with it any more.
    pub(crate) fn tell_peer(&mut self, node: NodeId, addresses: Vec<SocketAddr>) {
        // A peer that does not read must not make it grow: of more than there can be at a time it misses some.
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&node) {
            self.peers.pop_first();
        }
        self.peers.insert(node, addresses);
    }

    /// Asks the peer for its status; while an answer is still to come, that one will do.
    pub(crate) fn ask_status(&mut self) {
        self.asks.ask();
    }

    /// The peer has asked for this node's status, and may be told now.
    pub(crate) fn owes_status(&self, now: Instant) -> bool {
        self.is_open() && self.asks.is_due(now)
    }

    /// Tells the peer this node's status, where it [is owed](Self::owes_status).
    pub(crate) fn answer_status(&mut self, now: Instant, status: Status) {
        self.asks.answer(now, status);
    }

    /// Says goodbye as the last frame.
    pub(crate) fn leave(&mut self, reason: &str) {
        self.goodbye.get_or_insert_with(|| reason.into());
    }

    /// The next frame to write, if there is one.
    pub(crate) fn poll_frame(&mut self) -> Option<Control> {
        if let Some(hello) = self.hello.take() {
            return Some(Control::Hello(hello));
        }
        if std::mem::take(&mut self.admitted) {
            return Some(Control::Admitted);
        }
        if (self.state == State::Open || (planted!(BeforeAdmitted) && self.state == State::Asked))
            && let Some(part) = self.told.next_part()
        {
            return Some(Control::Sockets(part));
        }
        if self.state == State::Open && !self.peers.is_empty() {
            let next = std::iter::from_fn(|| self.peers.pop_first()).take(MAX_PEERS_PART);
            let peers = next.map(|(node, addresses)| PeerEntry { node, addresses }).collect();
            return Some(Control::Peers(Peers { peers }));
        }
        if self.state == State::Open {
            if self.asks.poll_ask() {
                return Some(Control::StatusAsk);
            }
            if let Some(part) = self.asks.next_part() {
                return Some(Control::Status(Box::new(part)));
            }
        }
        if std::mem::take(&mut self.ping) {
            return Some(Control::Ping);
        }
        let reason = self.goodbye.take()?;
        self.state = State::Leaving;
        Some(Control::Goodbye { reason })
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Instant {
        match self.state {
            State::Greeting | State::Met | State::Asked => self.deadline,
            State::Open | State::Leaving => self.liveness.next_tick(),
        }
    }

    /// Time has passed. `received` grows with each authenticated packet of the connection; `owed`: somebody waits for
    /// something over it.
    pub(crate) fn handle_timeout(&mut self, now: Instant, received: u64, owed: bool) -> Option<Ending> {
        if !self.is_admitted() {
            return (now >= self.deadline).then_some(Ending::Admission);
        }
        match self.liveness.handle_tick(now, received, owed) {
            Pulse::Fine => None,
            Pulse::Ping => {
                self.ping = true;
                None
            }
            Pulse::Silent => Some(Ending::Silent),
        }
    }

    /// What the peer said of itself, once it has.
    pub(crate) fn peer(&self) -> Option<&Hello> {
        self.peer.as_ref()
    }

    /// This end takes the connection for the link of the two nodes, and neither end has said goodbye.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open || (planted!(BeforeAdmitted) && self.state == State::Asked)
    }

    fn is_admitted(&self) -> bool {
        self.state >= State::Open
    }

    /// The peer's sockets, as far as it has told.
    pub(crate) fn sockets(&self) -> &BTreeMap<SocketId, SocketEntry> {
        self.heard.sockets()
    }

    /// The peer's whole table has arrived.
    pub(crate) fn knows_sockets(&self) -> bool {
        self.heard.is_complete()
    }
}

#[cfg(test)]
mod tests;
