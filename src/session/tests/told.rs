//! What nodes tell each other of their sockets, of themselves and of others.

use super::*;
use crate::wire::control::{FiguresEntry, MAX_PART, MAX_PEERS_PART, PeerEntry};
use crate::wire::limits::{MAX_PEERS, MAX_SOCKETS, MAX_STATUS_SOCKETS, MAX_TYPE_NAME};

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
fn sockets_that_say_their_types_take_more_of_a_part() {
    let now = Instant::now();
    let (mut a, mut b) = admitted_pair(now);
    let longest = Some(TypeName::new("t".repeat(MAX_TYPE_NAME), u32::MAX));
    let typed = |id: u64| {
        let message = if id.is_multiple_of(3) { None } else { longest.clone() };
        let reply = if id % 3 == 2 { longest.clone() } else { None };
        SocketEntry { types: Types { message, reply }, ..socket(id) }
    };
    let all = MAX_PART as u64;
    a.tell_all((0..all).map(typed));
    let parts = frames(&mut a);
    assert_eq!(parts.len(), 2, "199 places");
    for part in parts {
        let mut bytes = bytes::BytesMut::new();
        crate::wire::control::encode(&part, &mut bytes);
        assert_eq!(crate::wire::control::split(&mut bytes), Ok(Some(part.clone())), "within a frame");
        b.handle_frame(now, part).unwrap();
    }
    assert_eq!(b.sockets().len() as u64, all);
    assert!(b.sockets().iter().all(|(id, told)| *told == typed(id.0)));
}

#[test]
fn ends_of_sockets_arrive_in_parts_too() {
    let now = Instant::now();
    let (mut a, mut b) = admitted_pair(now);
    let all = MAX_PART as u64 + 1;
    a.tell_all((0..all).map(socket));
    for frame in frames(&mut a) {
        b.handle_frame(now, frame).unwrap();
    }
    (0..all).for_each(|id| a.tell_closed(SocketId(id)));
    a.tell_opened(socket(1_000));
    let parts = frames(&mut a);
    let [Control::Sockets(first), Control::Sockets(last)] = &parts[..] else { panic!("two frames") };
    assert_eq!((first.closed.len(), first.opened.len(), first.more), (MAX_PART, 0, true));
    assert_eq!((last.closed.len(), last.opened.len(), last.more), (1, 1, false));
    for part in parts {
        b.handle_frame(now, part).unwrap();
    }
    assert_eq!(b.sockets().keys().collect::<Vec<_>>(), [&SocketId(1_000)]);
}

#[test]
fn an_empty_table_is_told_too() {
    let (mut a, mut b) = admitted_pair(Instant::now());
    a.tell_all([]);
    for frame in frames(&mut a) {
        b.handle_frame(Instant::now(), frame).unwrap();
    }
    assert!(b.knows_sockets());
    // The end of a socket that was never told changes nothing.
    let end = Sockets { closed: vec![SocketId(7)], ..Sockets::default() };
    let heard = b.handle_frame(Instant::now(), Control::Sockets(end)).unwrap();
    assert_eq!(heard, Heard::Sockets(Change::default()));
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

#[test]
fn a_socket_is_told_once_and_stays_as_it_was_told() {
    let now = Instant::now();
    let other = SocketEntry { channel: "other".into(), ..socket(1) };
    let table = |full, opened| Control::Sockets(Sockets { full, opened: vec![opened], ..Sockets::default() });
    for (full, opened, taken) in
        [(true, socket(1), true), (true, other.clone(), false), (false, socket(1), false), (false, other, false)]
    {
        let (mut a, _) = admitted_pair(now);
        a.handle_frame(now, table(true, socket(1))).unwrap();
        let heard = a.handle_frame(now, table(full, opened.clone()));
        let expected = taken.then(|| Heard::Sockets(Change::default()));
        assert_eq!(heard.ok(), expected, "{opened:?}, full: {full}");
    }
}

#[test]
fn a_node_that_has_as_many_sockets_as_may_be_opens_one_for_each_that_it_closes() {
    let now = Instant::now();
    let (mut a, _) = admitted_pair(now);
    let opened = (0..MAX_SOCKETS as u64).map(socket).collect();
    a.handle_frame(now, Control::Sockets(Sockets { full: true, opened, ..Sockets::default() })).unwrap();
    let change = |opened: &[u64], closed: &[u64]| {
        let opened = opened.iter().copied().map(socket).collect();
        let closed = closed.iter().copied().map(SocketId).collect();
        Control::Sockets(Sockets { opened, closed, ..Sockets::default() })
    };
    a.handle_frame(now, change(&[10_000, 10_001], &[0, 1])).unwrap();
    assert_eq!(a.sockets().len(), MAX_SOCKETS);
    assert!(a.handle_frame(now, change(&[10_002, 10_003], &[2])).is_err(), "one too many");
}

fn status(sockets: u64) -> Status {
    let socket = |id| FiguresEntry { id: SocketId(id), channel: "jobs".into(), ..FiguresEntry::default() };
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
fn who_does_not_read_misses_some_of_what_is_said_of_others() {
    let mut session = Session::new(Instant::now(), true, hello(1, false, 0));
    for number in 0..5000_u32 {
        let mut raw = [0; 32];
        raw[..4].copy_from_slice(&number.to_be_bytes());
        session.tell_peer(NodeId::from_bytes(raw), Vec::new());
    }
    assert_eq!(session.peers.len(), MAX_PEERS);
}
