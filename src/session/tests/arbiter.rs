//! Which one of several connections becomes the link?

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[test]
fn the_arbiter_chooses_by_what_the_peer_could_know() {
    use Ending::{Duplicate, Replaced};
    use Verdict::{Admit, Close};
    let (c1, c2) = (ConnectionId(1), ConnectionId(2));
    // What the second Hello says while the first connection is the link: (incarnation, live, links).
    for (name, second, expected) in [
        ("written before the link was agreed on", (7, false, 0), vec![Close(c2, Duplicate)]),
        ("knows of the link", (7, true, 1), vec![Close(c2, Duplicate)]),
        ("knows that the link is dead", (7, false, 1), vec![Close(c1, Replaced), Admit(c2)]),
        ("another life", (8, false, 0), vec![Close(c1, Replaced), Admit(c2)]),
    ] {
        let now = Instant::now();
        let mut arbiter = Arbiter::new(true);
        arbiter.handle_hello(now, c1, &hello(7, false, 0));
        assert_eq!(verdicts(&mut arbiter), [Admit(c1)]);
        assert_eq!(arbiter.link(), None);
        arbiter.handle_admitted(now, c1, &hello(7, false, 0));
        assert_eq!(arbiter.link(), Some(c1));
        let (incarnation, live, links) = second;
        arbiter.handle_hello(now, c2, &hello(incarnation, live, links));
        assert_eq!(verdicts(&mut arbiter), expected, "{name}");
    }
}

#[test]
fn an_unanswered_admitted_gives_way_after_a_second() {
    let now = Instant::now();
    let mut arbiter = Arbiter::new(true);
    arbiter.handle_hello(now, ConnectionId(1), &hello(7, false, 0));
    assert_eq!(arbiter.poll_timeout(), None, "nobody waits");
    for waiting in 2..=6 {
        arbiter.handle_hello(now, ConnectionId(waiting), &hello(7, false, 0));
    }
    let at = arbiter.poll_timeout().unwrap();
    assert_eq!(at, now + Duration::from_secs(1));
    arbiter.handle_timeout(at);
    assert_eq!(
        verdicts(&mut arbiter),
        [
            Verdict::Admit(ConnectionId(1)),
            Verdict::Close(ConnectionId(2), Ending::Duplicate),
            Verdict::Close(ConnectionId(1), Ending::Replaced),
            Verdict::Admit(ConnectionId(6)),
        ]
    );
    arbiter.handle_lost(at, ConnectionId(6));
    assert_eq!(verdicts(&mut arbiter), [Verdict::Admit(ConnectionId(5))]);
}

#[test]
fn who_waits_from_a_life_that_is_over_is_closed_with_it() {
    let now = Instant::now();
    let mut arbiter = Arbiter::new(true);
    for waiting in 1..=3 {
        arbiter.handle_hello(now, ConnectionId(waiting), &hello(7, false, 0));
    }
    assert_eq!(verdicts(&mut arbiter), [Verdict::Admit(ConnectionId(1))]);
    arbiter.handle_hello(now, ConnectionId(4), &hello(8, false, 0));
    let replaced = |connection| Verdict::Close(ConnectionId(connection), Ending::Replaced);
    assert_eq!(verdicts(&mut arbiter), [replaced(2), replaced(3), replaced(1), Verdict::Admit(ConnectionId(4))]);
    arbiter.handle_admitted(now, ConnectionId(4), &hello(8, false, 0));
    assert_eq!((verdicts(&mut arbiter), arbiter.link()), (Vec::new(), Some(ConnectionId(4))));
}

#[test]
fn an_admitted_that_was_under_way_on_another_connection_agrees_to_nothing() {
    let now = Instant::now();
    let mut arbiter = Arbiter::new(true);
    for connection in 1..=2 {
        arbiter.handle_hello(now, ConnectionId(connection), &hello(7, false, 0));
    }
    let later = arbiter.poll_timeout().unwrap();
    arbiter.handle_timeout(later);
    arbiter.handle_admitted(later, ConnectionId(1), &hello(7, false, 0));
    assert_eq!(arbiter.link(), None, "it is closed");
    arbiter.handle_admitted(later, ConnectionId(2), &hello(7, false, 0));
    assert_eq!(arbiter.link(), Some(ConnectionId(2)));
    // Nor does one agree twice.
    let greeting = arbiter.greeting();
    arbiter.handle_admitted(later, ConnectionId(2), &hello(7, false, 5));
    assert_eq!(arbiter.greeting(), greeting);
}

/// Two nodes and the connections between them, of which each end learns in its own time.
struct World {
    now: Instant,
    nodes: [Node; 2],
    /// Under way from each node to the other, by connection.
    under_way: BTreeMap<ConnectionId, [VecDeque<Said>; 2]>,
    next: u64,
}

struct Node {
    arbiter: Arbiter,
    incarnation: u64,
    sessions: BTreeMap<ConnectionId, Session>,
}

#[derive(Debug)]
enum Said {
    Frame(Control),
    Closed,
}

impl World {
    fn new() -> Self {
        let node = |nth: u64| Node { arbiter: Arbiter::new(nth == 0), incarnation: nth, sessions: BTreeMap::new() };
        Self { now: Instant::now(), nodes: [node(0), node(1)], under_way: BTreeMap::new(), next: 10 }
    }

    fn connect(&mut self) {
        self.next += 1;
        let connection = ConnectionId(self.next);
        self.under_way.insert(connection, Default::default());
        for (nth, node) in self.nodes.iter_mut().enumerate() {
            let (live, links) = node.arbiter.greeting();
            let session = Session::new(self.now, nth == 0, hello(node.incarnation, live, links));
            node.sessions.insert(connection, session);
        }
        self.flush();
    }

    /// All that a node has to say is under way, all verdicts are carried out.
    fn flush(&mut self) {
        for nth in 0..2 {
            while let Some(verdict) = self.nodes[nth].arbiter.poll_verdict() {
                match verdict {
                    Verdict::Admit(connection) => {
                        self.nodes[nth].sessions.get_mut(&connection).expect("a known connection").admit(self.now);
                    }
                    Verdict::Close(connection, _) => self.close(nth, connection),
                }
            }
            for (connection, session) in &mut self.nodes[nth].sessions {
                let queue = &mut self.under_way.get_mut(connection).unwrap()[nth];
                queue.extend(frames(session).into_iter().map(Said::Frame));
            }
        }
    }

    fn close(&mut self, nth: usize, connection: ConnectionId) {
        self.nodes[nth].sessions.remove(&connection);
        self.under_way.get_mut(&connection).unwrap()[nth].push_back(Said::Closed);
    }

    fn lose(&mut self, nth: usize, connection: ConnectionId) {
        if self.nodes[nth].sessions.contains_key(&connection) {
            self.close(nth, connection);
            self.nodes[nth].arbiter.handle_lost(self.now, connection);
        }
        self.flush();
    }

    fn restart(&mut self, nth: usize) {
        self.next += 1;
        self.nodes[nth].incarnation = self.next;
        self.nodes[nth].arbiter = Arbiter::new(nth == 0);
        for connection in self.nodes[nth].sessions.keys().copied().collect::<Vec<_>>() {
            self.close(nth, connection);
        }
    }

    /// The next thing that a node said on a connection reaches the other.
    fn deliver(&mut self, from: usize, connection: ConnectionId) {
        let Some(said) = self.under_way.get_mut(&connection).unwrap()[from].pop_front() else { return };
        let (to, now) = (1 - from, self.now);
        match said {
            Said::Closed => self.lose(to, connection),
            Said::Frame(frame) => {
                let node = &mut self.nodes[to];
                let Some(session) = node.sessions.get_mut(&connection) else { return };
                match session.handle_frame(now, frame).expect("both ends keep to the protocol") {
                    Heard::Hello(hello) => node.arbiter.handle_hello(now, connection, &hello),
                    Heard::Admitted => {
                        let hello = session.peer().expect("its Hello came first");
                        node.arbiter.handle_admitted(now, connection, hello);
                    }
                    Heard::Sockets(_) | Heard::Peers(_) | Heard::Goodbye(_) | Heard::Nothing => {}
                    Heard::StatusAsk => session.answer_status(now, Status::default()),
                    Heard::Status(_) => {}
                }
                self.flush();
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for nth in 0..2 {
            self.nodes[nth].arbiter.handle_timeout(self.now);
            let late = |session: &mut Session| session.handle_timeout(self.now, self.next, false).is_some();
            let late: Vec<_> =
                self.nodes[nth].sessions.iter_mut().filter_map(|(id, session)| late(session).then_some(*id)).collect();
            for connection in late {
                self.lose(nth, connection);
            }
        }
        self.flush();
    }

    fn step(&mut self, what: u8, pick: usize) {
        let connections: Vec<_> = self.under_way.keys().copied().collect();
        let one = connections.get(pick / 2 % connections.len().max(1)).copied();
        match (what, one) {
            (0..=1, _) | (_, None) => self.connect(),
            (2, Some(one)) => self.lose(pick % 2, one),
            (3, Some(one)) => {
                // The path is cut: what is under way is lost, and each end finds out later.
                for queue in self.under_way.get_mut(&one).unwrap() {
                    queue.clear();
                    queue.push_back(Said::Closed);
                }
            }
            (4, _) => self.restart(pick % 2),
            (5, _) => self.pass(Duration::from_millis(400)),
            (6, Some(one)) => {
                if let Some(session) = self.nodes[pick % 2].sessions.get_mut(&one) {
                    session.ask_status();
                }
                self.flush();
            }
            (_, Some(one)) => self.deliver(pick % 2, one),
        }
    }

    /// Nothing goes wrong any more; who has no link and no hope of one dials.
    fn settle(&mut self) {
        for round in 0..30 {
            let connections: Vec<_> = self.under_way.keys().copied().collect();
            for connection in connections {
                while self.under_way[&connection].iter().any(|queue| !queue.is_empty()) {
                    self.deliver(round % 2, connection);
                    self.deliver(1 - round % 2, connection);
                }
            }
            if self.nodes.iter().any(|node| node.arbiter.link().is_none() && node.sessions.is_empty()) {
                self.connect();
            }
            self.pass(Duration::from_millis(400));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn two_nodes_end_with_exactly_one_agreed_link(
        steps in proptest::collection::vec((0_u8..16, any::<usize>()), 0..80),
    ) {
        let mut world = World::new();
        for (what, pick) in steps {
            world.step(what, pick);
            for node in &world.nodes {
                let open: Vec<_> = node.sessions.iter().filter(|(_, s)| s.is_open()).map(|(id, _)| *id).collect();
                prop_assert_eq!(open, Vec::from_iter(node.arbiter.link()), "open is what the arbiter says");
            }
        }
        world.settle();
        let [a, b] = &world.nodes;
        prop_assert!(a.arbiter.link().is_some());
        prop_assert_eq!(a.arbiter.link(), b.arbiter.link());
        prop_assert_eq!(a.sessions.len(), 1);
        prop_assert_eq!(b.sessions.len(), 1);
        prop_assert_eq!(a.arbiter.incarnation(), Some(b.incarnation));
        prop_assert_eq!(b.arbiter.incarnation(), Some(a.incarnation));
    }

    #[test]
    fn simultaneous_dials_need_no_second_try(picks in proptest::collection::vec(any::<usize>(), 60)) {
        let mut world = World::new();
        world.connect();
        world.connect();
        for pick in picks {
            world.step(15, pick);
        }
        world.settle();
        prop_assert_eq!(world.next, 12, "nobody had to dial again");
        prop_assert!(world.nodes.iter().all(|node| node.arbiter.greeting() == (true, 1)), "one admission each");
    }
}
