//! What a session lets pass, and when it gives a peer up.

mod arbiter;
mod explored;
mod told;

use std::time::Duration;

use super::*;
use crate::id::{TypeName, Types};
use crate::wire::control::{Peers, SocketKind, Sockets};
use crate::wire::limits::{IDLE_LIVENESS, LIVENESS, PING_INTERVAL};

fn hello(incarnation: u64, live: bool, links: u64) -> Hello {
    Hello { revision: 1, name: String::new(), incarnation, live, links, max_message: 1, addresses: Vec::new() }
}

fn socket(id: u64) -> SocketEntry {
    SocketEntry {
        id: SocketId(id),
        kind: SocketKind::Pull,
        channel: "jobs".into(),
        slots: false,
        types: Types::default(),
    }
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
fn an_arbiter_says_nothing_more_before_its_peer_has_agreed() {
    let now = Instant::now();
    let mut session = Session::new(now, true, hello(1, false, 0));
    assert_eq!(frames(&mut session), [Control::Hello(hello(1, false, 0))]);
    session.handle_frame(now, Control::Hello(hello(2, false, 0))).unwrap();
    session.tell_all([socket(1)]);
    session.tell_peer(NodeId::from_bytes([7; 32]), Vec::new());
    session.ask_status();
    assert_eq!(frames(&mut session), []);
    session.admit(now);
    assert_eq!(frames(&mut session), [Control::Admitted]);
    session.handle_frame(now, Control::Admitted).unwrap();
    let said = frames(&mut session);
    assert!(matches!(said[..], [Control::Sockets(_), Control::Peers(_), Control::StatusAsk]), "{said:?}");
}

#[test]
fn a_word_is_sent_over_the_link_of_two_nodes_and_no_other_connection() {
    let now = Instant::now();
    let mut session = Session::new(now, false, hello(1, false, 0));
    frames(&mut session);
    session.ping();
    assert_eq!(frames(&mut session), []);
    let (mut a, mut b) = admitted_pair(now);
    a.ping();
    a.ping();
    assert_eq!(frames(&mut a), [Control::Ping], "one is enough");
    a.handle_frame(now, Control::Goodbye { reason: "shut down".into() }).unwrap();
    b.leave("shut down");
    frames(&mut b);
    for left in [&mut a, &mut b] {
        left.ping();
        assert_eq!(frames(left), []);
    }
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

    let (mut a, _) = admitted_pair(start);
    frames(&mut a);
    assert_eq!(a.handle_timeout(a.poll_timeout(), 0, true), None);
    assert_eq!(frames(&mut a), [Control::Ping], "also where it is owed from the first");
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
