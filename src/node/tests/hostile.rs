//! Members of the mesh that mean harm, against a real node: raw frames over a connection with valid credentials.

mod exchange;
mod news;

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;

use bytes::BytesMut;
use quinn::{RecvStream, SendStream};

use super::*;
use crate::id::{SocketId, TypeName, Types};
use crate::link::{CloseCode, Connection, ControlReader, ControlWriter, Endpoint};
use crate::trust::{Credentials, Identity, Mesh};
use crate::wire::control::{self, Control, Hello, Level, OpenLane, PeerEntry, Peers, SocketEntry, SocketKind, Sockets};
use crate::wire::frame::{self, Payload, to_receiver, to_sender};
use crate::wire::limits::MAX_PEERS;

/// A site from which a hostile member dials, or listens.
struct Den {
    endpoint: Endpoint,
    node: NodeId,
}

impl Den {
    fn new(key: &MeshKey) -> Self {
        let env = Env::real(Handle::current());
        let identity = Identity::ephemeral(&*env.random).unwrap();
        let credentials = Credentials::new(&Mesh::derive(key, "test").unwrap(), &identity, &env).unwrap();
        Self { endpoint: Endpoint::open(&env, &credentials, loopback()).unwrap(), node: identity.id() }
    }
}

/// An end of a link that says what it likes.
struct Hostile {
    connection: Connection,
    writer: ControlWriter,
    reader: ControlReader,
    heard: BytesMut,
    /// The victim's sockets.
    sockets: Vec<SocketEntry>,
    next_lane: u64,
}

impl Hostile {
    /// As the victim's peer, admitted.
    async fn linked(den: &Den, victim: &Node) -> Self {
        // On a busy machine a handshake may take longer than it is given.
        let connection = loop {
            if let Ok(connection) = den.endpoint.dial(victim.local_addr()).await {
                break connection;
            }
        };
        Self::admitted(den, victim, connection).await
    }

    async fn admitted(den: &Den, victim: &Node, connection: Connection) -> Self {
        let (writer, reader) = connection.control().await.unwrap();
        let (heard, sockets, next_lane) = (BytesMut::new(), Vec::new(), 1);
        let mut this = Self { connection, writer, reader, heard, sockets, next_lane };
        this.say(Control::Hello(hello())).await;
        assert!(matches!(this.hear().await, Control::Hello(_)));
        if den.node < victim.id() {
            this.say(Control::Admitted).await;
        }
        assert_eq!(this.hear().await, Control::Admitted);
        if den.node > victim.id() {
            this.say(Control::Admitted).await;
        }
        this.connection.admitted();
        let Control::Sockets(sockets) = this.hear().await else { panic!("the table comes first") };
        this.sockets = sockets.opened;
        this
    }

    async fn say(&mut self, frame: Control) {
        let mut bytes = BytesMut::new();
        control::encode(&frame, &mut bytes);
        self.raw(bytes).await;
    }

    async fn raw(&mut self, bytes: impl Into<BytesMut>) {
        // Fails once the victim has closed the connection.
        let _ = self.writer.write(bytes.into().freeze()).await;
    }

    async fn hear(&mut self) -> Control {
        loop {
            if let Some(frame) = control::split(&mut self.heard).unwrap() {
                return frame;
            }
            self.heard.extend_from_slice(&self.reader.read().await.unwrap().unwrap());
        }
    }

    /// Tells of sockets of its own.
    async fn tell(&mut self, opened: impl IntoIterator<Item = SocketEntry>, full: bool) {
        let opened: Vec<_> = opened.into_iter().collect();
        let parts = opened.chunks(100).count().max(1);
        for (nth, part) in opened.chunks(100).chain(opened.is_empty().then_some(&[][..])).enumerate() {
            let more = nth + 1 < parts;
            self.say(Control::Sockets(Sockets { full, more, opened: part.to_vec(), closed: Vec::new() })).await;
        }
    }

    /// The victim's socket on this channel.
    fn victims(&self, channel: &str) -> SocketId {
        self.sockets.iter().find(|socket| socket.channel == channel).unwrap().id
    }

    /// Opens a lane to the victim's socket on this channel, and says these bytes on it.
    async fn lane(&mut self, channel: &str, bytes: &[u8]) -> (SendStream, RecvStream) {
        let mut opening = BytesMut::new();
        let from = SocketId(self.next_lane);
        self.next_lane += 1;
        let (to, kind, level) = (self.victims(channel), SocketKind::Push, Level::AtLeastOnce);
        frame::put_open(&mut opening, &OpenLane { from, to, kind, level, epoch: 7, base: 0, taken: false });
        let (mut send, recv) = self.connection.quinn().open_bi().await.unwrap();
        let _ = send.write_all(&opening).await;
        let _ = send.write_all(bytes).await;
        (send, recv)
    }

    /// Takes the lane that the victim opens to the pull socket that it is told of, and answers with these bytes.
    async fn pulls(&mut self, answers: &[u8]) -> (SendStream, RecvStream) {
        self.tell([entry(1, SocketKind::Pull, "from")], true).await;
        let (mut send, recv) = self.connection.quinn().accept_bi().await.unwrap();
        let _ = send.write_all(answers).await;
        (send, recv)
    }

    async fn code(&self) -> Option<CloseCode> {
        self.connection.closed().await.code
    }
}

fn hello() -> Hello {
    let (name, addresses) = ("mallory".into(), Vec::new());
    Hello { revision: 1, name, incarnation: 1, live: false, links: 0, max_message: 1 << 30, addresses }
}

fn entry(id: u64, kind: SocketKind, channel: &str) -> SocketEntry {
    SocketEntry { id: SocketId(id), kind, channel: channel.into(), slots: false, types: Types::default() }
}

fn answer(kind: u8, numbers: &[u64]) -> BytesMut {
    let mut out = BytesMut::new();
    frame::put_answer(&mut out, kind, &Payload::of(numbers).0);
    out
}

fn message(body: usize) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put_plain_head(&mut out, body);
    [&out[..], &vec![0; body]].concat()
}

fn stranger(number: u16) -> NodeId {
    let mut raw = [0xee; 32];
    raw[..2].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(raw)
}

/// Breaches of the protocol, each on a link of its own.
const BREACHES: usize = 13;

async fn breach(hostile: &mut Hostile, which: usize) {
    let mut kept = Vec::new();
    match which {
        0 => hostile.raw(&[0x3f, 0][..]).await,
        1 => hostile.say(Control::Hello(hello())).await,
        2 => hostile.raw(&[0x03, 0xbf, 0xff, 0xff, 0xff][..]).await,
        3 => drop(hostile.writer.finish().await),
        4 => {
            let (mut send, _) = hostile.connection.quinn().open_bi().await.unwrap();
            let _ = send.write_all(b"GET / HTTP/1.1").await;
            kept.push(send);
        }
        5 => kept.push(hostile.lane("from", b"").await.0),
        6 => kept.push(hostile.lane("to", &message(1).repeat(10_000)).await.0),
        // Of a message that was given no slot, and never ends.
        7 => kept.push(hostile.lane("slots", &message(1 << 20)[..1 << 19]).await.0),
        8 => {
            let mut waive = BytesMut::new();
            frame::put_control(&mut waive, to_receiver::WAIVE, &Payload::of(&[1 << 61]).0);
            kept.push(hostile.lane("to", &waive).await.0);
        }
        9 => kept.push(hostile.lane("to", &[10, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]).await.0),
        10 => kept.push(hostile.pulls(&answer(to_sender::ACK_UP_TO, &[1 << 40])).await.0),
        11 => kept.push(hostile.pulls(&answer(to_sender::RETURN, &[0, (1 << 62) - 1, 5, 5])).await.0),
        _ => {
            hostile.tell([entry(1, SocketKind::Push, "to")], true).await;
            hostile.tell([entry(1, SocketKind::Push, "to")], false).await;
        }
    }
    assert_eq!(hostile.code().await, Some(CloseCode::Violation), "breach {which}");
}

/// What is legal, and too much of it.
const FLOODS: usize = 7;

async fn flood(hostile: &mut Hostile, which: usize) {
    match which {
        0 => {
            // As many lanes as there may be, which say nothing.
            hostile.tell((1..=1100).map(|id| entry(id, SocketKind::Push, "to")), true).await;
            let mut lanes = Vec::new();
            for _ in 0..1024 {
                lanes.push(hostile.lane("to", b"").await);
            }
        }
        1 => {
            for _ in 0..3000 {
                let (mut send, _) = hostile.lane("to", b"").await;
                let _ = send.reset(0_u32.into());
            }
        }
        2 => hostile.raw(&[4, 1, 0x80].repeat(300_000)[..]).await,
        3 => {
            hostile.tell([], true).await;
            for id in 1..2000 {
                let (opened, closed) = (vec![entry(id, SocketKind::Push, "to")], vec![SocketId(id - 1)]);
                hostile.say(Control::Sockets(Sockets { full: false, more: false, opened, closed })).await;
            }
        }
        4 => {
            // Says that it has heard, again and again, and reads nothing.
            let (mut send, _recv) = hostile.pulls(&answer(to_sender::CREDIT, &[1 << 60, 1 << 60])).await;
            let _ = send.write_all(&answer(to_sender::TAKEN, &[0]).repeat(500_000)).await;
        }
        5 => {
            for number in 0..3000_u16 {
                let addresses = vec![(Ipv4Addr::LOCALHOST, 9).into()];
                let peers = vec![PeerEntry { node: stranger(number), addresses }];
                hostile.say(Control::Peers(Peers { peers })).await;
            }
        }
        _ => {
            // Pull sockets without end, to whose lanes nobody listens.
            for id in 1..4000 {
                let opened = vec![entry(id, SocketKind::Pull, "from")];
                hostile.say(Control::Sockets(Sockets { full: id == 1, more: false, opened, closed: Vec::new() })).await;
            }
        }
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// In a process of its own, as it measures memory, which other tests of this process take as well.
#[test]
fn a_hostile_member_costs_its_own_link_only() {
    alone("node::tests::hostile::hostile_members_beside_honest_work");
}

#[tokio::test]
#[ignore = "run by the test before it"]
async fn hostile_members_beside_honest_work() {
    let (key, board) = (key(), Board::default());
    let (victim, honest) = (on_board(&key, &board).await, on_board(&key, &board).await);
    let _to = victim.pull("to").await.unwrap();
    let _slots = victim.pull("slots").prefetch(1).await.unwrap();
    let _from = victim.push("from").max_failures(3).await.unwrap();
    let (push, pull) = (honest.push("jobs").await.unwrap(), victim.pull("jobs").await.unwrap());
    push.wait_for_pullers(1).await.unwrap();

    let done = watch::Sender::new(0_u64);
    let work = async {
        loop {
            let job = honest.host.hall.env.timeout(Duration::from_secs(30), async {
                push.send("job").await.unwrap();
                pull.recv().await.unwrap().ack();
                push.flush().await.unwrap();
            });
            job.await.expect("honest work goes on");
            done.send_modify(|done| *done += 1);
        }
    };
    let harm = async {
        let tasks = || Handle::current().metrics().num_alive_tasks();
        // Once before anything is measured, for what is allocated once.
        for round in 0..2 {
            let (before, idle) = (resident(), tasks());
            for which in 0..BREACHES {
                let den = Den::new(&key);
                let mut hostile = Hostile::linked(&den, &victim).await;
                breach(&mut hostile, which).await;
            }
            for which in 0..FLOODS {
                let den = Den::new(&key);
                let mut hostile = Hostile::linked(&den, &victim).await;
                let jobs = *done.borrow();
                flood(&mut hostile, which).await;
                done.subscribe().wait_for(|done| *done > jobs + 1).await.unwrap();
                hostile.say(Control::Goodbye { reason: String::new() }).await;
                until(|| victim.peers().len() == 1).await;
            }
            // Those whom one of them has talked of are still dialled, so many at a time.
            until(|| tasks() <= idle + 256).await;
            let grown = resident().saturating_sub(before);
            assert!(round == 0 || grown < 32 << 20, "{grown} bytes more than before");
        }
    };
    tokio::select! {
        biased;
        () = harm => {}
        () = work => {}
    }
    assert!(*done.borrow() > 20);
    assert_eq!(victim.peers()[0].id, honest.id(), "its link was never lost");
    assert_eq!(honest.metrics().links_opened, 1);
}

#[tokio::test]
async fn a_table_full_of_hearsay_keeps_nobody_out() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let den = Den::new(&key);
    let mut hostile = Hostile::linked(&den, &victim).await;
    for number in 0..2 * MAX_PEERS as u16 {
        let peers = vec![PeerEntry { node: stranger(number), addresses: vec![(Ipv4Addr::LOCALHOST, 9).into()] }];
        hostile.say(Control::Peers(Peers { peers })).await;
    }
    until(|| victim.host.hall.lock().peers.len() == MAX_PEERS).await;
    let newcomer = node(&key).env(world(None)).peer(&victim.local_addr().to_string()).await.unwrap();
    newcomer.wait_for_peers(1).await.unwrap();
    until(|| victim.peers().iter().any(|peer| peer.id == newcomer.id())).await;
    assert!(victim.host.hall.lock().peers.len() <= MAX_PEERS);
}

#[tokio::test]
async fn a_word_taken_back_and_said_again_causes_no_flood_of_dials() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let den = Den::new(&key);
    let mut hostile = Hostile::linked(&den, &victim).await;
    let bystander = UdpSocket::bind(loopback()).unwrap();
    bystander.set_nonblocking(true).unwrap();
    let at = bystander.local_addr().unwrap();
    let is_sought = || victim.host.hall.lock().peers.get(&stranger(1)).is_some_and(|peer| !peer.is_nowhere());
    let (mut dials, start) = (BTreeSet::new(), victim.host.hall.env.now());
    for _ in 0..200 {
        for addresses in [vec![at], Vec::new()] {
            let said = !addresses.is_empty();
            let peers = vec![PeerEntry { node: stranger(1), addresses }];
            hostile.say(Control::Peers(Peers { peers })).await;
            until(|| is_sought() == said).await;
        }
        let mut packet = [0; 2048];
        while let Ok(length) = bystander.recv(&mut packet) {
            // The version and the connection ids of a long header, which a dial makes afresh.
            dials.insert(packet[1..length.min(20)].to_vec());
        }
    }
    let passed = victim.host.hall.env.now() - start;
    assert!(dials.len() as u64 <= 2 + passed.as_secs(), "{} dials in {passed:?}", dials.len());
}

#[tokio::test]
async fn who_has_left_is_not_sought_on_the_word_of_one_that_is_gone_as_well() {
    let key = key();
    let node = node(&key).env(world(None)).await.unwrap();
    let (leaver, teller) = (Den::new(&key), Den::new(&key));
    let mut leaves = Hostile::linked(&leaver, &node).await;
    leaves.say(Control::Goodbye { reason: "done".into() }).await;
    until(|| node.peers().is_empty()).await;
    // Has not noticed yet that it has left, and never will.
    let mut dies = Hostile::linked(&teller, &node).await;
    let peers = vec![PeerEntry { node: leaver.node, addresses: vec![(Ipv4Addr::LOCALHOST, 9).into()] }];
    dies.say(Control::Peers(Peers { peers })).await;
    let is_sought = || node.host.hall.lock().peers.get(&leaver.node).is_some_and(|peer| !peer.is_nowhere());
    until(is_sought).await;
    dies.connection.close(CloseCode::Done, "");
    until(|| node.peers().is_empty()).await;
    assert!(!is_sought());
}

#[tokio::test]
async fn a_peer_that_closes_each_link_at_once_is_dialled_at_a_pace() {
    let key = key();
    let den = Den::new(&key);
    let victim = node(&key).env(world(None)).peer(&den.endpoint.local_addr().to_string()).await.unwrap();
    let until = victim.host.hall.env.now() + Duration::from_secs(3);
    let mut links = 0;
    while let Some(accepted) =
        victim.host.hall.env.timeout(until - victim.host.hall.env.now(), den.endpoint.accept()).await
    {
        let hostile = Hostile::admitted(&den, &victim, accepted.unwrap().unwrap()).await;
        hostile.connection.close(CloseCode::Done, "");
        links += 1;
    }
    // By its address and by its name, each once a second.
    assert!((2..=8).contains(&links), "{links} links in three seconds");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_dialled_once_more_beside_that_connection() {
    let key = key();
    let den = Den::new(&key);
    let _victim = node(&key).env(world(None)).peer(&den.endpoint.local_addr().to_string()).await.unwrap();
    let mute = den.endpoint.accept().await.unwrap().unwrap();
    // By its address and by its name.
    for _ in 0..2 {
        let beside = den.endpoint.accept().await.unwrap().unwrap();
        assert!(mute.quinn().close_reason().is_none(), "the first one is waited for");
        drop(beside);
    }
}

#[tokio::test]
async fn a_peers_words_can_not_act_and_its_sockets_push_out_no_events() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let _from = victim.push("from").await.unwrap();
    let den = Den::new(&key);
    let mut hostile = Hostile::linked(&den, &victim).await;
    for first in (1..4000).step_by(100) {
        let opened = (first..first + 100).map(|id| entry(id, SocketKind::Pull, "from"));
        hostile.tell(opened, first == 1).await;
    }
    hostile.say(Control::Goodbye { reason: "\x1b[2Jgone\n".into() }).await;
    let mut events = victim.events();
    let (mut too_many, mut left) = (0, None);
    while left.is_none() {
        match events.recv().await.unwrap() {
            Event::TooManyLanes { .. } => too_many += 1,
            Event::Missed { count } => panic!("{count} events were pushed out"),
            Event::PeerLeft { why, .. } => left = Some(why),
            _ => {}
        }
    }
    assert_eq!(too_many, 1);
    let why = left.unwrap();
    assert!(why.contains("gone") && !why.contains(char::is_control), "{why:?}");
}

#[tokio::test]
async fn types_that_differ_are_told_once_and_get_no_lane() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let said = |name: &str| Types { message: Some(TypeName::new(name, 1)), reply: None };
    let pull = victim.pull("to").types(said("ours")).await.unwrap();
    let _from = victim.push("from").types(said("ours")).await.unwrap();
    let den = Den::new(&key);
    let mut hostile = Hostile::linked(&den, &victim).await;
    let typed = |id: u64, kind, channel, types: &str| SocketEntry { types: said(types), ..entry(id, kind, channel) };
    // A flood of them pushes out no event.
    for first in (1..4000).step_by(50) {
        let opened = (first..first + 50).map(|id| typed(id, SocketKind::Pull, "from", &format!("theirs {id}")));
        hostile.tell(opened, first == 1).await;
    }
    let mut events = victim.events();
    let told = event(&mut events, |event| matches!(event, Event::TypeMismatch { .. })).await;
    let Event::TypeMismatch { here, there, channel, .. } = told else { unreachable!() };
    assert_eq!((here, there, &channel[..]), (said("ours"), said("theirs 1"), "from"));
    // One that says nothing, as an older node does, has its lane.
    hostile.tell([entry(5000, SocketKind::Push, "to"), typed(5001, SocketKind::Push, "to", "theirs")], false).await;
    event(&mut events, |event| matches!(event, Event::TypeMismatch { channel, .. } if channel == "to")).await;
    hostile.next_lane = 5000;
    let (_send, _recv) = hostile.lane("to", b"").await;
    pull.wait_for_pushers(1).await.unwrap();
    // Who opens one all the same breaks the protocol.
    let (_send, _recv) = hostile.lane("to", b"").await;
    assert_eq!(hostile.code().await, Some(CloseCode::Violation));
    event(&mut events, |event| match event {
        Event::TypeMismatch { channel, .. } if channel == "from" => panic!("it was told"),
        Event::Missed { count } => panic!("{count} events were pushed out"),
        event => matches!(event, Event::PeerLeft { .. }),
    })
    .await;
}

#[tokio::test]
async fn a_lane_that_is_given_up_while_its_link_lives_is_opened_anew() {
    let key = key();
    let victim = node(&key).env(world(None)).await.unwrap();
    let from = victim.push("from").await.unwrap();
    let den = Den::new(&key);
    let mut hostile = Hostile::linked(&den, &victim).await;
    // Dropped, its streams are reset.
    drop(hostile.pulls(&[]).await);
    let again = hostile.connection.quinn().accept_bi();
    let again = victim.host.hall.env.timeout(Duration::from_secs(30), again).await;
    again.expect("a second lane comes").unwrap();
    assert_eq!(victim.metrics().links_opened, 1);
    drop(from);
}
