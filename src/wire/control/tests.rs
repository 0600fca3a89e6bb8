use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::id::{NodeId, TypeName};
use crate::wire::limits::{MAX_CONTROL_DEPTH, MAX_CONTROL_ELEMENTS, MAX_LINKS, MAX_STATUS_SOCKETS};

fn hello() -> Hello {
    Hello {
        revision: 1,
        name: "worker-1".into(),
        incarnation: 0x0123_4567_89ab_cdef,
        live: false,
        links: 2,
        max_message: 16 << 20,
        addresses: vec!["192.0.2.7:4100".parse().unwrap(), "[2001:db8::7]:4100".parse().unwrap()],
    }
}

fn entry(id: u64, kind: SocketKind, channel: &str, slots: bool) -> SocketEntry {
    SocketEntry { id: SocketId(id), kind, channel: channel.into(), slots, types: Types::default() }
}

/// With a type of this name, and another one of its replies.
fn typed(name: &str, reply: Option<&str>) -> Types {
    let named = |name: &str, version| Some(TypeName::new(name, version));
    Types { message: named(name, 3), reply: reply.and_then(|reply| named(reply, 70_000)) }
}

fn sockets() -> Sockets {
    Sockets {
        full: true,
        more: false,
        opened: vec![
            entry(1, SocketKind::Push, "jobs", false),
            entry(2, SocketKind::Pull, "räume", true),
            entry(300, SocketKind::Publisher, "ticks", false),
        ],
        closed: Vec::new(),
    }
}

fn typed_sockets() -> Sockets {
    let mut opened = vec![
        entry(1, SocketKind::Push, "jobs", false),
        entry(2, SocketKind::Requester, "thumbs", false),
        entry(3, SocketKind::Pull, "jobs", true),
    ];
    opened[0].types = typed("shop.Job", None);
    opened[1].types = typed("shop.Image", Some("shop.Thumb"));
    Sockets { full: true, opened, ..Sockets::default() }
}

fn typed_status() -> Status {
    let sockets = vec![FiguresEntry { types: typed("shop.Job", None), ..pull_figures() }];
    Status { links: Vec::new(), sockets, sockets_left_out: 0, ..status() }
}

fn peers() -> Peers {
    let entry = |node, addresses| PeerEntry { node: NodeId::from_bytes([node; 32]), addresses };
    Peers { peers: vec![entry(7, hello().addresses), entry(8, Vec::new())] }
}

fn status() -> Status {
    let link = LinkEntry {
        node: NodeId::from_bytes([7; 32]),
        name: "worker-1".into(),
        address: SocketText("192.0.2.7:4100".parse().unwrap()),
        round_trip_us: 250,
        age_ms: 61_000,
        found: vec!["local".into(), "fixed".into()],
    };
    Status {
        version: "0.1.0".into(),
        uptime_ms: 3_600_000,
        links: vec![link],
        sockets: vec![push_figures(), pull_figures()],
        sockets_left_out: 9,
        ..Status::default()
    }
}

fn push_figures() -> FiguresEntry {
    FiguresEntry {
        id: SocketId(1),
        kind: "push".into(),
        channel: "jobs".into(),
        types: Types::default(),
        peers: 2,
        queued: 3,
        in_flight: 4,
        bytes: 700,
        bound_messages: 100_000,
        bound_bytes: 64 << 20,
        total: 1000,
        handled: 990,
        nacked: 5,
        returned: 6,
        redelivered: 11,
        rejected: 2,
        exhausted: 1,
        missed: 0,
        oldest_ms: Some(1500),
    }
}

fn pull_figures() -> FiguresEntry {
    FiguresEntry { id: SocketId(2), kind: "pull".into(), channel: "räume".into(), ..FiguresEntry::default() }
}

fn open() -> OpenLane {
    OpenLane {
        from: SocketId(1),
        to: SocketId(70_000),
        kind: SocketKind::Push,
        level: Level::AtLeastOnce,
        epoch: 0xfeed_face_cafe_beef,
        base: 42,
        taken: true,
    }
}

/// The bytes of a file under `tests/vectors/control`: pairs of hexadecimal digits; `#` begins a comment.
fn vector(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/control").join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits = text.lines().flat_map(|line| line.split('#').next().unwrap().split_whitespace());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn encoded(frame: &Control) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(frame, &mut bytes);
    bytes
}

fn framed(kind: u8, map: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::from(&[kind][..]);
    varint::put(&mut bytes, map.len() as u64);
    bytes.put_slice(map);
    bytes
}

#[test]
fn vectors_run_both_ways() {
    for (name, frame) in [
        ("hello", Control::Hello(hello())),
        ("admitted", Control::Admitted),
        ("sockets-full", Control::Sockets(sockets())),
        (
            "sockets-change",
            Control::Sockets(Sockets {
                opened: vec![entry(3, SocketKind::Subscriber, "ticks", false)],
                closed: vec![SocketId(1), SocketId(300)],
                ..Sockets::default()
            }),
        ),
        ("sockets-typed", Control::Sockets(typed_sockets())),
        ("ping", Control::Ping),
        ("peers", Control::Peers(peers())),
        ("goodbye", Control::Goodbye { reason: "shut down".into() }),
        ("status-typed", Control::Status(Box::new(typed_status()))),
        ("status-ask", Control::StatusAsk),
        ("status", Control::Status(Box::new(status()))),
        (
            "status-part",
            Control::Status(Box::new(Status {
                more: true,
                links: Vec::new(),
                sockets: Vec::new(),
                sockets_left_out: 0,
                ..status()
            })),
        ),
    ] {
        let bytes = vector(name);
        assert_eq!(encoded(&frame), bytes, "{name} encodes to other bytes");
        let mut buffer = BytesMut::from(&bytes[..]);
        assert_eq!(split(&mut buffer), Ok(Some(frame)), "{name}");
        assert!(buffer.is_empty(), "{name}");
    }
    assert_eq!(encode_open(&open()), vector("open-lane"));
    assert_eq!(decode_open(&vector("open-lane")), Ok(open()));
}

#[test]
fn vectors_of_a_later_revision_are_understood() {
    let mut buffer = BytesMut::from(&vector("later-hello")[..]);
    assert_eq!(split(&mut buffer), Ok(Some(Control::Hello(Hello { revision: 2, ..hello() }))));
    let mut buffer = BytesMut::from(&vector("later-frame-then-ping")[..]);
    assert_eq!(split(&mut buffer), Ok(Some(Control::Ping)), "the unknown frame before it is skipped");
    let mut buffer = BytesMut::from(&vector("later-socket-kind")[..]);
    let known = Sockets { opened: vec![entry(1, SocketKind::Push, "jobs", false)], ..Sockets::default() };
    assert_eq!(split(&mut buffer), Ok(Some(Control::Sockets(known))), "the unknown entry is left out");
    let mut buffer = BytesMut::from(&vector("later-types")[..]);
    let mut known = entry(1, SocketKind::Push, "jobs", false);
    known.types = typed("shop.Job", None);
    let known = Sockets { opened: vec![known], ..Sockets::default() };
    assert_eq!(split(&mut buffer), Ok(Some(Control::Sockets(known))), "unknown keys are ignored");
    let mut buffer = BytesMut::from(&vector("later-status")[..]);
    let known =
        Status { sockets: vec![push_figures(), FiguresEntry { kind: "stream".into(), ..pull_figures() }], ..status() };
    assert_eq!(split(&mut buffer), Ok(Some(Control::Status(Box::new(known)))), "unknown keys are ignored");
}

#[test]
fn vectors_that_end_the_link() {
    for name in [
        "bad-kind",
        "bad-length",
        "bad-not-a-map",
        "bad-cut-short",
        "bad-trailing",
        "bad-nested",
        "bad-missing-field",
        "bad-channel-empty",
        "bad-channel-control",
        "bad-type-empty",
        "bad-type-control",
        "bad-type-long",
        "bad-type-version",
        "bad-types",
        "bad-status-type",
        "bad-status-word",
        "bad-status-address",
        "bad-status-channel",
        "bad-status-node",
    ] {
        let mut buffer = BytesMut::from(&vector(name)[..]);
        assert!(split(&mut buffer).is_err(), "{name} was accepted");
    }
}

#[test]
fn a_frame_in_pieces_waits_for_the_rest() {
    let whole = encoded(&Control::Hello(hello()));
    for cut in 0..whole.len() {
        let mut buffer = BytesMut::from(&whole[..cut]);
        assert_eq!(split(&mut buffer), Ok(None), "cut at {cut}");
        buffer.extend_from_slice(&whole[cut..]);
        assert_eq!(split(&mut buffer), Ok(Some(Control::Hello(hello()))));
    }
}

#[test]
fn the_largest_part_is_within_the_limits() {
    let channel = "c".repeat(MAX_CHANNEL);
    let mut part = Sockets { full: true, more: true, ..Sockets::default() };
    part.opened = (0..MAX_PART as u64).map(|id| entry(u64::MAX - id, SocketKind::Subscriber, &channel, true)).collect();
    // Each type that a socket says takes another of the places.
    let name = "t".repeat(MAX_TYPE_NAME);
    let mut typed_part = Sockets { full: true, more: true, ..Sockets::default() };
    for (types, places) in [(typed(&name, None), 2), (typed(&name, Some(&name)), 3)] {
        typed_part.opened = part.opened.iter().take(MAX_PART / places).cloned().collect();
        typed_part.opened.iter_mut().for_each(|entry| entry.types = types.clone());
        assert_eq!(typed_part.opened[0].places(), places);
        let frame = Control::Sockets(typed_part.clone());
        assert_eq!(split(&mut encoded(&frame)), Ok(Some(frame)));
    }
    let longest: SocketAddr = "[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535".parse().unwrap();
    let peer = PeerEntry { node: NodeId::from_bytes([255; 32]), addresses: vec![longest; MAX_ADDRESSES] };
    let peers = Peers { peers: vec![peer; MAX_PEERS_PART] };
    for frame in [Control::Sockets(part), Control::Peers(peers)] {
        assert_eq!(split(&mut encoded(&frame)), Ok(Some(frame)));
    }
}

/// A link of which nothing more can be said.
fn largest_link(nth: u64) -> LinkEntry {
    LinkEntry {
        node: NodeId::from_bytes([0xff; 32]),
        name: "n".repeat(MAX_NODE_NAME),
        address: SocketText("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535".parse().unwrap()),
        round_trip_us: u64::MAX,
        age_ms: nth,
        found: vec!["s".repeat(status::MAX_WORD); MAX_FOUND],
    }
}

/// The same of a socket that says so many types.
fn largest_socket(nth: u64, types: u64) -> FiguresEntry {
    let (most, name) = (u64::MAX, "t".repeat(MAX_TYPE_NAME));
    FiguresEntry {
        id: SocketId(nth),
        kind: "k".repeat(status::MAX_WORD),
        channel: "c".repeat(MAX_CHANNEL),
        types: match types {
            0 => Types::default(),
            1 => typed(&name, None),
            _ => typed(&name, Some(&name)),
        },
        peers: most,
        queued: most,
        in_flight: most,
        bytes: most,
        bound_messages: most,
        bound_bytes: most,
        total: most,
        handled: most,
        nacked: most,
        returned: most,
        redelivered: most,
        rejected: most,
        exhausted: most,
        missed: most,
        oldest_ms: Some(most),
    }
}

#[test]
fn the_largest_status_is_told_in_parts_within_the_limits() {
    let most = u64::MAX;
    let whole = Status {
        version: "v".repeat(status::MAX_WORD),
        uptime_ms: most,
        links: (0..MAX_LINKS as u64).map(largest_link).collect(),
        // Of every kind: in a frame there are fewer of those that say more.
        sockets: (0..MAX_STATUS_SOCKETS as u64).map(|nth| largest_socket(nth, nth % 3)).collect(),
        links_left_out: most,
        sockets_left_out: most,
        ..Status::default()
    };
    let mut parts = whole.clone().into_parts().into_iter();
    let mut heard = parts.next().unwrap();
    for part in std::iter::once(heard.clone()).chain(parts.clone()) {
        let frame = Control::Status(Box::new(part));
        assert_eq!(split(&mut encoded(&frame)), Ok(Some(frame)));
    }
    for part in parts {
        assert!(heard.more);
        heard.extend(part).unwrap();
    }
    assert_eq!(heard, whole, "in order, and nothing is missing");

    assert_eq!(Status::default().into_parts(), [Status::default()], "nothing to tell is told too");
    let mut more = whole.clone();
    assert!(more.extend(Status { sockets: vec![largest_socket(0, 0)], ..Status::default() }).is_err());
    let mut more = whole;
    assert!(more.extend(Status { links: vec![largest_link(0)], ..Status::default() }).is_err());
}

#[test]
fn a_status_is_told_in_parts_that_fit_each_by_itself_and_no_two_together() {
    for types in 0..3 {
        let links = (0..MAX_LINKS as u64).map(largest_link).collect();
        let sockets = (0..MAX_STATUS_SOCKETS as u64).map(|nth| largest_socket(nth, types)).collect();
        let parts = Status { links, sockets, ..Status::default() }.into_parts();
        assert!(parts.iter().all(|part| scan::scan(&to_map(part)).is_ok()), "sockets that say {types} types");
        // The last one is what is left.
        for pair in parts[..parts.len() - 1].windows(2) {
            let mut both = pair[0].clone();
            both.extend(pair[1].clone()).unwrap();
            assert!(scan::scan(&to_map(&both)).is_err(), "sockets that say {types} types");
        }
    }
}

#[test]
fn a_status_with_names_that_nobody_has_ends_the_link() {
    let links = |name: &str| vec![LinkEntry { name: name.into(), ..status().links[0].clone() }];
    let longest = "n".repeat(MAX_NODE_NAME);
    for (name, taken) in [("", true), (&longest, true), (&format!("{longest}n"), false), ("a\nb", false)] {
        let status = Status { links: links(name), ..status() };
        assert_eq!(split(&mut framed(STATUS, &to_map(&status))).is_ok(), taken, "{name:?}");
    }
    let sources = |count| vec![LinkEntry { found: vec!["s".into(); count], ..status().links[0].clone() }];
    for (count, taken) in [(MAX_FOUND, true), (MAX_FOUND + 1, false)] {
        let status = Status { links: sources(count), ..status() };
        assert_eq!(split(&mut framed(STATUS, &to_map(&status))).is_ok(), taken, "found by {count} sources");
    }
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let mut bytes = encoded(&Control::Goodbye { reason: "ü".repeat(MAX_REASON) });
    let Ok(Some(Control::Goodbye { reason })) = split(&mut bytes) else { panic!("refused") };
    assert_eq!(reason, "ü".repeat(MAX_REASON / 2));
}

#[test]
fn names_and_numbers_above_their_limits_end_the_link() {
    let long = Hello { name: "n".repeat(MAX_NODE_NAME + 1), ..hello() };
    assert!(split(&mut framed(HELLO, &to_map(&long))).is_err());
    let many = Hello { addresses: vec!["192.0.2.7:1".parse().unwrap(); MAX_ADDRESSES + 1], ..hello() };
    assert!(split(&mut framed(HELLO, &to_map(&many))).is_err());
    let mut peers = peers();
    peers.peers[0].addresses = vec!["192.0.2.7:1".parse().unwrap(); MAX_ADDRESSES + 1];
    assert!(split(&mut framed(PEERS, &to_map(&peers))).is_err());
    let long = Sockets { opened: vec![entry(1, SocketKind::Pull, &"c".repeat(256), true)], ..Sockets::default() };
    assert!(split(&mut framed(SOCKETS, &to_map(&long))).is_err());
    for (len, taken) in [(MAX_TYPE_NAME, true), (MAX_TYPE_NAME + 1, false)] {
        let mut said = entry(1, SocketKind::Pull, "jobs", true);
        said.types = typed("t", Some(&"t".repeat(len)));
        let sockets = Sockets { opened: vec![said], ..Sockets::default() };
        assert_eq!(split(&mut framed(SOCKETS, &to_map(&sockets))).is_ok(), taken, "{len} bytes");
    }
    assert!(decode_open(&to_map(&OpenLane { kind: SocketKind::Pull, ..open() })).is_err());
    for (base, taken) in [(MAX_SEQUENCE_SAID, true), (MAX_SEQUENCE_SAID + 1, false), (u64::MAX, false)] {
        assert_eq!(decode_open(&to_map(&OpenLane { base, ..open() })).is_ok(), taken, "base {base}");
    }
}

#[test]
fn names_and_numbers_at_their_limits_are_taken() {
    let addresses = vec!["192.0.2.7:1".parse().unwrap(); MAX_ADDRESSES];
    let mut peers = peers();
    peers.peers[0].addresses = addresses.clone();
    for frame in [
        Control::Hello(Hello { name: "n".repeat(MAX_NODE_NAME), ..hello() }),
        Control::Hello(Hello { addresses, ..hello() }),
        Control::Peers(peers),
        Control::Sockets(Sockets {
            opened: vec![entry(1, SocketKind::Pull, &"c".repeat(MAX_CHANNEL), true)],
            ..Sockets::default()
        }),
        Control::Goodbye { reason: "r".repeat(MAX_REASON) },
    ] {
        assert_eq!(split(&mut encoded(&frame)), Ok(Some(frame)));
    }
}

#[test]
fn a_frame_may_be_as_long_as_the_longest_and_no_longer() {
    for (length, taken) in [(MAX_CONTROL_FRAME, true), (MAX_CONTROL_FRAME + 1, false)] {
        // One that is skipped, and what follows it.
        let mut buffer = framed(0x7f, &vec![0; length]);
        buffer.extend_from_slice(&encoded(&Control::Ping));
        assert_eq!(split(&mut buffer).ok(), taken.then_some(Some(Control::Ping)), "{length} bytes");

        // The map that opens a lane, with an unknown key more: "x", and so many bytes.
        let mut map = to_map(&open());
        map[0] += 1;
        map.extend_from_slice(&[0xa1, b'x', 0xc6]);
        let rest = length - map.len() - 4;
        map.put_u32(rest as u32);
        map.resize(length, 0);
        assert_eq!(decode_open(&map).ok(), taken.then(open), "{length} bytes");
    }
}

#[test]
fn each_kind_of_socket_is_called_as_on_the_wire_and_meets_one_other_kind() {
    for (kind, name, other) in [
        (SocketKind::Push, "push", "pull"),
        (SocketKind::Publisher, "publisher", "subscriber"),
        (SocketKind::Requester, "requester", "replier"),
    ] {
        assert_eq!((kind.name(), kind.matching().name(), kind.matching().matching()), (name, other, kind));
        assert!(kind.opens_lane() && !kind.matching().opens_lane());
        for kind in [kind, kind.matching()] {
            assert_eq!(to_map(&kind), to_map(&kind.name()));
        }
    }
}

#[test]
fn nesting_and_elements_stop_at_their_limits() {
    // {"x": [[[…]]]}: the map is one level, the innermost array of none another.
    let nested = |arrays: usize| [&[0x81, 0xa1, b'x'][..], &vec![0x91; arrays - 1], &[0x90]].concat();
    assert!(scan::scan(&nested(MAX_CONTROL_DEPTH - 1)).is_ok());
    assert!(scan::scan(&nested(MAX_CONTROL_DEPTH)).is_err());

    // {"x": [0, 0, …]}: the map, the key and the array count too.
    let wide = |zeros: u16| {
        let mut bytes = vec![0x81, 0xa1, b'x', 0xdc];
        bytes.put_u16(zeros);
        bytes.resize(bytes.len() + usize::from(zeros), 0);
        bytes
    };
    assert!(scan::scan(&wide(MAX_CONTROL_ELEMENTS as u16 - 3)).is_ok());
    assert!(scan::scan(&wide(MAX_CONTROL_ELEMENTS as u16 - 2)).is_err());
}

#[test]
fn each_kind_of_value_is_as_long_as_it_says() {
    for (head, rest) in [
        (&[0x7f][..], 0),
        (&[0xc0], 0),
        (&[0xe0], 0),
        (&[0xa2], 2),
        (&[0xcc], 1),
        (&[0xd0], 1),
        (&[0xcd], 2),
        (&[0xd1], 2),
        (&[0xca], 4),
        (&[0xce], 4),
        (&[0xd2], 4),
        (&[0xcb], 8),
        (&[0xcf], 8),
        (&[0xd3], 8),
        (&[0xc4, 3], 3),
        (&[0xd9, 3], 3),
        (&[0xc5, 1, 0], 256),
        (&[0xda, 1, 0], 256),
        (&[0xc6, 0, 1, 0, 1], 65_537),
        (&[0xdb, 0, 1, 0, 1], 65_537),
        // Extensions, with their type.
        (&[0xc7, 3], 4),
        (&[0xc8, 1, 0], 257),
        (&[0xc9, 0, 1, 0, 1], 65_538),
        (&[0xd4], 2),
        (&[0xd5], 3),
        (&[0xd6], 5),
        (&[0xd7], 9),
        (&[0xd8], 17),
        // Values of one byte each; a pair is two.
        (&[0x92], 2),
        (&[0x82], 4),
        (&[0xdc, 0, 3], 3),
        (&[0xdd, 0, 0, 0, 3], 3),
        (&[0xde, 0, 3], 6),
        (&[0xdf, 0, 0, 0, 3], 6),
    ] {
        let whole = [&[0x81, 0xa1, b'x'][..], head, &vec![0; rest]].concat();
        assert!(scan::scan(&whole).is_ok(), "{head:x?}");
        assert!(scan::scan(&whole[..whole.len() - 1]).is_err(), "{head:x?} is cut short");
        assert!(scan::scan(&[&whole[..], &[0]].concat()).is_err(), "{head:x?} and something more");
    }
    assert!(scan::scan(&[0x81, 0xa1, b'x', 0xc1]).is_err());
}

#[test]
fn announced_lengths_cost_nothing() {
    for bytes in [
        &[0xdf, 0xff, 0xff, 0xff, 0xff][..],
        &[0x81, 0xa1, b'x', 0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0x81, 0xa1, b'x', 0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0x81, 0xa1, b'x', 0xc9, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert!(scan::scan(bytes).is_err());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(kind in 0_u8..0x44, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut buffer = framed(kind, &bytes);
        let _ = split(&mut buffer);
        let _ = decode_open(&bytes);
        let mut raw = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = split(&mut raw) {}
    }

    #[test]
    fn any_damaged_frame_is_taken_or_refused(at in 0_usize..1000, with in any::<u8>()) {
        for frame in [Control::Sockets(sockets()), Control::Status(Box::new(status()))] {
            let mut buffer = encoded(&frame);
            let at = at % buffer.len();
            buffer[at] = with;
            let _ = split(&mut buffer);
        }
    }
}
