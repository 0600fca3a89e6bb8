//! Which of the connections of two nodes is their link.
//!
//! Both may dial at the same time, either may restart, and each learns of a loss in its own time. So one of the two,
//! the one with the smaller id, chooses; the other only agrees. What the chooser has to find out of a Hello is whether
//! its sender knew of the link that there is: when it did not, because that link is dead at its end, the new
//! connection replaces it; when it could not have known, because it wrote before that link came to be, the new
//! connection is a duplicate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Ending;
use crate::wire::control::Hello;

/// How long the peer may leave an Admitted unanswered while another connection waits.
const ANSWER: Duration = Duration::from_secs(1);
/// Most connections that wait for the answer of another; of more, the oldest is given up.
const MAX_WAITING: usize = 4;

/// A connection, in the numbering of the node that holds this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// One node's view of its connections with one peer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Arbiter {
    /// This node chooses: it has the smaller id.
    chooses: bool,
    link: Option<Chosen>,
    /// At the chooser: who wants to be the link while the chosen one has not answered; oldest first.
    waiting: Vec<Candidate>,
    /// At the chooser: the least count of admissions that the peer tells in a Hello which it wrote after it agreed to
    /// the link.
    admissions: u64,
    /// How many connections with this peer were admitted here.
    links: u64,
    verdicts: VecDeque<Verdict>,
}

#[derive(Debug, Clone, Copy)]
struct Chosen {
    candidate: Candidate,
    /// Both have said Admitted.
    agreed: bool,
    since: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    connection: ConnectionId,
    // What the peer's Hello said on it.
    incarnation: u64,
    live: bool,
    links: u64,
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Say Admitted on it.
    Admit(ConnectionId),
    /// Close it. [`Arbiter::handle_lost`] need not be called.
    Close(ConnectionId, Ending),
}

impl Arbiter {
    pub(crate) fn new(chooses: bool) -> Self {
        Self { chooses, link: None, waiting: Vec::new(), admissions: 0, links: 0, verdicts: VecDeque::new() }
    }

    /// The connection that both nodes have admitted, as far as is known here.
    pub(crate) fn link(&self) -> Option<ConnectionId> {
        self.link.filter(|link| link.agreed || planted!(BeforeAdmitted)).map(|link| link.candidate.connection)
    }

    /// What this node's next Hello says: `live` and `links`.
    pub(crate) fn greeting(&self) -> (bool, u64) {
        (self.link().is_some(), self.links)
    }

    /// The life of the peer at the other end of the link.
    pub(crate) fn incarnation(&self) -> Option<u64> {
        self.link.filter(|link| link.agreed).map(|link| link.candidate.incarnation)
    }

    /// The peer's Hello has come on a connection.
    ///
    /// Lives of a peer have no order: a Hello that was under way when its sender ended is believed too, once. Its
    /// connection is dead, so the present life finds itself without a link, dials, and replaces it in turn.
    pub(crate) fn handle_hello(&mut self, now: Instant, connection: ConnectionId, hello: &Hello) {
        if self.chooses {
            self.weigh(now, Candidate::new(connection, hello));
        }
    }

    /// The peer's Admitted has come on a connection, whose Hello was this.
    pub(crate) fn handle_admitted(&mut self, now: Instant, connection: ConnectionId, hello: &Hello) {
        if !self.chooses {
            if let Some(old) = self.link.take().filter(|_| !planted!(BothLinksKept)) {
                self.close(old.candidate.connection, Ending::Replaced);
            }
            let candidate = Candidate::new(connection, hello);
            self.link = Some(Chosen { candidate, agreed: true, since: now });
            self.links += 1;
            self.verdicts.push_back(Verdict::Admit(connection));
            return;
        }
        // On any other connection it was written before the peer learned that this one is closed.
        if let Some(link) = self.link.as_mut().filter(|link| link.candidate.connection == connection && !link.agreed) {
            link.agreed = true;
            self.admissions = link.candidate.links + 1;
            self.links += 1;
            for candidate in std::mem::take(&mut self.waiting) {
                self.weigh(now, candidate);
            }
        }
    }

    /// A connection has ended, for any reason but a verdict.
    pub(crate) fn handle_lost(&mut self, now: Instant, connection: ConnectionId) {
        self.waiting.retain(|candidate| candidate.connection != connection);
        if self.link.is_some_and(|link| link.candidate.connection == connection) {
            self.link = None;
            if let Some(newest) = self.waiting.pop() {
                self.choose(now, newest);
            }
        }
    }

    /// When [`Arbiter::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let link = self.link.filter(|link| !link.agreed && !self.waiting.is_empty())?;
        Some(link.since + ANSWER)
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now)
            && let Some(newest) = self.waiting.pop()
        {
            self.replace(now, newest);
        }
    }

    /// What is to be done next.
    pub(crate) fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    fn weigh(&mut self, now: Instant, candidate: Candidate) {
        let Some(link) = self.link else { return self.choose(now, candidate) };
        if link.candidate.incarnation != candidate.incarnation && !planted!(IncarnationIgnored) {
            // The life that the link was with is over, and with it every connection of it: all who wait are of that life.
            for other in std::mem::take(&mut self.waiting) {
                self.close(other.connection, Ending::Replaced);
            }
            self.replace(now, candidate);
        } else if !link.agreed {
            self.waiting.push(candidate);
            if self.waiting.len() > MAX_WAITING {
                let oldest = self.waiting.remove(0);
                self.close(oldest.connection, Ending::Duplicate);
            }
        } else if candidate.live || candidate.links < self.admissions || planted!(StaleLinkKept) {
            self.close(candidate.connection, Ending::Duplicate);
        } else {
            self.replace(now, candidate);
        }
    }

    fn replace(&mut self, now: Instant, candidate: Candidate) {
        if let Some(link) = self.link.take() {
            self.close(link.candidate.connection, Ending::Replaced);
        }
        self.choose(now, candidate);
    }

    fn choose(&mut self, now: Instant, candidate: Candidate) {
        self.link = Some(Chosen { candidate, agreed: false, since: now });
        self.verdicts.push_back(Verdict::Admit(candidate.connection));
    }

    fn close(&mut self, connection: ConnectionId, why: Ending) {
        self.verdicts.push_back(Verdict::Close(connection, why));
    }
}

impl Candidate {
    fn new(connection: ConnectionId, hello: &Hello) -> Self {
        Self { connection, incarnation: hello.incarnation, live: hello.live, links: hello.links }
    }
}
