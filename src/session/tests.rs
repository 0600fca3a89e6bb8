use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::control::{MAX_PART, MAX_PEERS_PART, PeerEntry, Peers, SocketFigures, SocketKind, Sockets};
use crate::wire::limits::{IDLE_LIVENESS, LIVENESS, MAX_PEERS, MAX_SOCKETS, MAX_STATUS_SOCKETS, PING_INTERVAL};

fn hello(incarnation: u64, live: bool, links: u64) -> Hello {
    Hello { revision: 1, name: String::new(), incarnation, live, links, max_message: 1, addresses: Vec::new() }
}

fn socket(id: u64) -> SocketEntry {
    SocketEntry { id: SocketId(id), kind: SocketKind::Pull, channel: "jobs".into(), slots: false }
}

fn verdicts(arbiter: &mut Arbiter) -> Vec<Verdict> {
    std::iter::from_fn(|| arbiter.poll_verdict()).collect()
}

fn frames(session: &mut Session) -> Vec<Control> {
    std::iter::from_fn(|| session.poll_frame()).collect()
}

/// Two sessions that talk until nobody has anything to say; both are admitted.
fn admitted_pair(now: Instant) -> (Session, Session) {
    let (mut a, mut b) = (Session::new(now, true, hello(1, false, 0)), Session::new(now, false, hello(2, false, 0)));
    let hello_a = a.poll_frame().unwrap();
    let hello_b = b.poll_frame().unwrap();
    assert!(matches!(a.handle_frame(now, hello_b), Ok(Heard::Hello(_))));
    assert!(matches!(b.handle_frame(now, hello_a), Ok(Heard::Hello(_))));
    a.admit(now);
    assert_eq!(b.handle_frame(now, a.poll_frame().unwrap()), Ok(Heard::Admitted));
    assert!(!a.is_open());
    b.admit(now);
    assert_eq!(a.handle_frame(now, b.poll_frame().unwrap()), Ok(Heard::Admitted));
    assert!(a.is_open() && b.is_open());
    (a, b)
}

#[test]
fn what_is_out_of_order_ends_the_connection() {
    let now = Instant::now();
    let greeting = |frame| Session::new(now, true, hello(1, false, 0)).handle_frame(now, frame);
    let peers = || Control::Peers(Peers { peers: Vec::new() });
    for early in [
        peers(),
        Control::Admitted,
        Control::Ping,
        Control::Sockets(Sockets::default()),
        Control::StatusAsk,
        Control::Status(Box::default()),
    ] {
        assert!(greeting(early.clone()).is_err(), "{early:?} before Hello");
    }
    for arbitrates in [true, false] {
        let mut session = Session::new(now, arbitrates, hello(1, false, 0));
        session.handle_frame(now, Control::Hello(hello(2, false, 0))).unwrap();
        assert!(session.handle_frame(now, Control::Hello(hello(2, false, 0))).is_err());
        assert!(session.handle_frame(now, Control::Sockets(Sockets::default())).is_err());
        assert!(session.handle_frame(now, peers()).is_err());
        assert!(session.handle_frame(now, Control::StatusAsk).is_err());
        assert!(session.handle_frame(now, Control::Status(Box::default())).is_err());
        assert_eq!(session.handle_frame(now, Control::Admitted).is_err(), arbitrates, "only the arbiter asks first");
        assert_eq!(session.handle_frame(now, Control::Ping), Ok(Heard::Nothing));
    }
    let (mut a, mut b) = admitted_pair(now);
    assert!(a.handle_frame(now, Control::Admitted).is_err());
    assert!(b.handle_frame(now, Control::Admitted).is_err());
}

#[test]
fn the_last_word_on_each_peer_is_told_once() {
    let now = Instant::now();
    let (mut a, mut b) = admitted_pair(now);
    let node = |n: usize| NodeId::from_bytes([n as u8; 32]);
    let at = |port| vec![SocketAddr::from(([192, 0, 2, 7], port))];
    for n in 0..=MAX_PEERS_PART {
        a.tell_peer(node(n), at(1));
        a.tell_peer(node(n), at(2));
    }
    a.tell_peer(node(0), Vec::new());
    let mut heard = Vec::new();
    while let Some(frame) = a.poll_frame() {
        if let Heard::Peers(peers) = b.handle_frame(now, frame).unwrap() {
            assert!(peers.len() <= MAX_PEERS_PART);
            heard.extend(peers);
        }
    }
    let expected =
        (0..=MAX_PEERS_PART).map(|n| PeerEntry { node: node(n), addresses: if n == 0 { Vec::new() } else { at(2) } });
    assert_eq!(heard, Vec::from_iter(expected));
}

#[test]
fn a_connection_that_is_not_admitted_in_time_ends() {
    let now = Instant::now();
    let mut session = Session::new(now, true, hello(1, false, 0));
    assert_eq!(session.handle_timeout(now, 0, false), None);
    let deadline = session.poll_timeout();
    assert_eq!(deadline, now + ADMISSION_DEADLINE);
    session.handle_frame(now, Control::Hello(hello(2, false, 0))).unwrap();
    session.admit(now);
    assert_eq!(session.handle_timeout(deadline, 7, false), Some(Ending::Admission));
}

/// Ticks an open session until it gives up: when it pinged, and when it gave up, both since the start.
fn silence(owed: bool, limit: Duration) -> (Vec<Duration>, Option<Duration>) {
    let start = Instant::now();
    let (mut a, _) = admitted_pair(start);
    let mut pings = Vec::new();
    loop {
        let now = a.poll_timeout();
        if now - start > limit {
            return (pings, None);
        }
        if let Some(ending) = a.handle_timeout(now, 0, owed) {
            assert_eq!(ending, Ending::Silent);
            return (pings, Some(now - start));
        }
        pings.extend(frames(&mut a).iter().map(|_| now - start));
    }
}

#[test]
fn a_silent_peer_is_asked_and_given_up() {
    let (pings, end) = silence(true, LIVENESS + Duration::from_millis(500));
    assert!(end.unwrap() >= LIVENESS && end.unwrap() <= LIVENESS + Duration::from_millis(500), "{end:?}");
    assert!(pings.len() >= 4, "{pings:?}");
    assert!(pings.windows(2).all(|pair| pair[1] - pair[0] == PING_INTERVAL), "{pings:?}");
    let (pings, end) = silence(false, IDLE_LIVENESS);
    assert!(end.unwrap() > LIVENESS * 9 && end.unwrap() <= IDLE_LIVENESS, "{end:?}");
    assert_eq!(pings.len(), 4, "{pings:?}");
}

#[test]
fn who_is_heard_is_not_given_up_and_not_asked() {
    let start = Instant::now();
    let (mut a, _) = admitted_pair(start);
    for received in 1..1_000 {
        let now = a.poll_timeout();
        assert_eq!(a.handle_timeout(now, received, true), None);
        assert_eq!(frames(&mut a), []);
    }
}

#[test]
fn an_end_that_slept_looks_before_it_judges() {
    let start = Instant::now();
    let (mut a, _) = admitted_pair(start);
    assert_eq!(a.handle_timeout(start, 1, true), None);
    let woken = start + Duration::from_secs(60);
    assert_eq!(a.handle_timeout(woken, 1, true), None, "the answer may lie in the socket's buffer");
    assert_eq!(a.handle_timeout(a.poll_timeout(), 2, true), None);
}

#[test]
fn silence_counts_from_when_something_is_owed() {
    let start = Instant::now();
    let (mut a, _) = admitted_pair(start);
    while a.poll_timeout() < start + LIVENESS * 4 {
        assert_eq!(a.handle_timeout(a.poll_timeout(), 0, false), None);
    }
    frames(&mut a);
    assert_eq!(a.handle_timeout(a.poll_timeout(), 0, true), None);
    assert_eq!(frames(&mut a), [Control::Ping], "asked at once");
}

#[test]
fn tables_arrive_in_parts_and_take_effect_at_the_last() {
    let now = Instant::now();
    let (mut a, mut b) = admitted_pair(now);
    let all = 2 * MAX_PART as u64 + 1;
    a.tell_all((0..all).map(socket));
    let parts = frames(&mut a);
    assert_eq!(parts.len(), 3);
    for (nth, part) in parts.into_iter().enumerate() {
        match (nth, b.handle_frame(now, part).unwrap()) {
            (0 | 1, heard) => assert_eq!((heard, b.sockets().len(), b.knows_sockets()), (Heard::Nothing, 0, false)),
            (_, Heard::Sockets(change)) => assert_eq!(change.opened.len() as u64, all),
            (_, heard) => panic!("{heard:?}"),
        }
    }
    assert!(b.knows_sockets());

    a.tell_opened(socket(1_000));
    a.tell_opened(socket(1_001));
    a.tell_closed(SocketId(1_001));
    a.tell_closed(SocketId(0));
    let [Control::Sockets(change)] = &frames(&mut a)[..] else { panic!("one frame") };
    assert_eq!((&change.opened[..], &change.closed[..]), (&[socket(1_000)][..], &[SocketId(0)][..]));
    let heard = b.handle_frame(now, Control::Sockets(change.clone())).unwrap();
    assert_eq!(heard, Heard::Sockets(Change { opened: vec![socket(1_000)], closed: vec![SocketId(0)] }));

    a.tell_all([socket(1), socket(2_000)]);
    let [full] = &frames(&mut a)[..] else { panic!("one frame") };
    let Heard::Sockets(change) = b.handle_frame(now, full.clone()).unwrap() else { panic!("a change") };
    assert_eq!(change.opened, [socket(2_000)]);
    assert_eq!(change.closed.len() as u64, all - 1);
    assert_eq!(b.sockets().keys().collect::<Vec<_>>(), [&SocketId(1), &SocketId(2_000)]);
}

#[test]
fn an_empty_table_is_told_too() {
    let (mut a, mut b) = admitted_pair(Instant::now());
    a.tell_all([]);
    for frame in frames(&mut a) {
        b.handle_frame(Instant::now(), frame).unwrap();
    }
    assert!(b.knows_sockets());
}

#[test]
fn tables_over_their_limits_end_the_link() {
    let now = Instant::now();
    let full = |opened: Vec<SocketEntry>, more| Sockets { full: true, more, opened, closed: Vec::new() };
    let (mut a, _) = admitted_pair(now);
    assert!(a.handle_frame(now, Control::Sockets(Sockets::default())).is_err(), "a change before the table");
    let (mut a, _) = admitted_pair(now);
    assert!(a.handle_frame(now, Control::Sockets(full(vec![socket(1), socket(1)], false))).is_err());
    let (mut a, _) = admitted_pair(now);
    a.handle_frame(now, Control::Sockets(full(vec![socket(1)], true))).unwrap();
    assert!(a.handle_frame(now, Control::Sockets(Sockets::default())).is_err(), "another table's part");
    let (mut a, _) = admitted_pair(now);
    let refused = (0..=MAX_SOCKETS as u64).map(|id| Control::Sockets(full(vec![socket(id)], true)));
    let results: Vec<_> = refused.map(|part| a.handle_frame(now, part)).collect();
    assert_eq!(results.iter().position(Result::is_err), Some(MAX_SOCKETS));
}

fn status(sockets: u64) -> Status {
    let socket = |id| SocketFigures { id: SocketId(id), channel: "jobs".into(), ..SocketFigures::default() };
    Status { sockets: (0..sockets).map(socket).collect(), ..Status::default() }
}

#[test]
fn a_status_is_asked_for_and_told_in_parts() {
    let now = Instant::now();
    let (mut a, mut b) = admitted_pair(now);
    a.ask_status();
    a.ask_status();
    assert_eq!(frames(&mut a), [Control::StatusAsk], "one question at a time");
    assert!(!b.owes_status(now));
    assert_eq!(b.handle_frame(now, Control::StatusAsk), Ok(Heard::StatusAsk));
    assert!(b.owes_status(now));
    b.answer_status(now, status(100));
    assert!(!b.owes_status(now));
    let parts = frames(&mut b);
    assert!(parts.len() > 1);
    for (nth, part) in parts.iter().enumerate() {
        a.ask_status();
        assert_eq!(frames(&mut a), [], "the answer to the first question will do");
        match a.handle_frame(now, part.clone()).unwrap() {
            Heard::Nothing => assert!(nth + 1 < parts.len()),
            heard => assert_eq!((heard, nth + 1), (Heard::Status(Box::new(status(100))), parts.len())),
        }
    }
    assert!(a.handle_frame(now, Control::Status(Box::default())).is_err(), "it did not ask again");
    a.ask_status();
    assert_eq!(frames(&mut a), [Control::StatusAsk]);
}

#[test]
fn a_status_is_told_once_a_second() {
    let start = Instant::now();
    let (mut a, mut b) = admitted_pair(start);
    let mut told = Vec::new();
    for tenth in 0..40 {
        let now = start + Duration::from_millis(100) * tenth;
        a.ask_status();
        for frame in frames(&mut a) {
            assert_eq!(b.handle_frame(now, frame), Ok(Heard::StatusAsk));
        }
        if b.owes_status(now) {
            b.answer_status(now, status(1));
        }
        // One that was made at the same time, for the same question.
        b.answer_status(now, status(1));
        for frame in frames(&mut b) {
            told.push(tenth);
            assert!(matches!(a.handle_frame(now, frame), Ok(Heard::Status(_))));
        }
    }
    assert_eq!(told, [0, 10, 20, 30]);
}

#[test]
fn who_asks_twice_or_tells_unasked_or_too_much_loses_the_link() {
    let now = Instant::now();
    let (mut a, mut b) = admitted_pair(now);
    assert!(a.handle_frame(now, Control::Status(Box::default())).is_err(), "it did not ask");
    b.handle_frame(now, Control::StatusAsk).unwrap();
    assert!(b.handle_frame(now, Control::StatusAsk).is_err(), "before the answer is made");
    let (_, mut b) = admitted_pair(now);
    b.handle_frame(now, Control::StatusAsk).unwrap();
    b.answer_status(now, status(100));
    b.poll_frame().unwrap();
    assert!(b.handle_frame(now, Control::StatusAsk).is_err(), "before the answer is written");

    let (mut a, _) = admitted_pair(now);
    a.ask_status();
    frames(&mut a);
    let part = Control::Status(Box::new(Status { more: true, ..status(20) }));
    let results: Vec<_> = (0..100).map(|_| a.handle_frame(now, part.clone())).collect();
    assert_eq!(results.iter().position(Result::is_err), Some(MAX_STATUS_SOCKETS / 20));
}

#[test]
fn goodbye_is_last() {
    let now = Instant::now();
    let (mut a, mut b) = admitted_pair(now);
    a.tell_all([socket(1)]);
    a.leave("shut down");
    let said = frames(&mut a);
    let [Control::Sockets(_), Control::Goodbye { .. }] = &said[..] else { panic!("{said:?}") };
    a.tell_opened(socket(2));
    assert_eq!(frames(&mut a), []);
    let heard: Vec<_> = said.into_iter().map(|frame| b.handle_frame(now, frame).unwrap()).collect();
    assert_eq!(heard[1], Heard::Goodbye("shut down".into()));
    assert!(!b.is_open());
}

#[test]
fn what_was_under_way_when_a_node_left_is_no_breach() {
    let now = Instant::now();
    // Before the Hello of the other has come; and when it has chosen the connection meanwhile.
    let (mut a, mut b) = (Session::new(now, true, hello(1, false, 0)), Session::new(now, false, hello(2, false, 0)));
    let (from_a, from_b) = (frames(&mut a), frames(&mut b));
    b.leave("shut down");
    assert!(matches!(frames(&mut b)[..], [Control::Goodbye { .. }]));
    for frame in from_a {
        assert_eq!(b.handle_frame(now, frame), Ok(Heard::Nothing));
    }
    for frame in from_b {
        a.handle_frame(now, frame).unwrap();
    }
    a.admit(now);
    for frame in frames(&mut a) {
        assert_eq!(b.handle_frame(now, frame), Ok(Heard::Nothing));
    }
    assert!(b.handle_frame(now, Control::Hello(hello(1, false, 0))).is_err(), "a second one is");
    // This end has said Goodbye when its own arbiter turns to the connection.
    b.admit(now);
    assert_eq!(frames(&mut b), [], "nothing follows a Goodbye");
    assert!(!b.is_open());
}

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

#[test]
fn who_does_not_read_misses_some_of_what_is_said_of_others() {
    let mut session = Session::new(Instant::now(), true, hello(1, false, 0));
    for number in 0..5000_u32 {
        let mut raw = [0; 32];
        raw[..4].copy_from_slice(&number.to_be_bytes());
        session.tell_peer(NodeId::from_bytes(raw), Vec::new());
    }
    assert_eq!(session.peers.len(), MAX_PEERS);
}
