use std::net::{Ipv6Addr, UdpSocket};

use super::*;
use crate::env::OwnThread;
use crate::wire::limits::MAX_HANDSHAKES;

#[tokio::test]
async fn both_ends_know_who_the_other_is() {
    let [(one, dialled), (two, accepted)] = connected().await;
    assert_eq!((dialled.peer(), accepted.peer()), (two.node, one.node));
    assert!(dialled.dialled() && !accepted.dialled());
    assert_eq!((dialled.remote_address(), accepted.remote_address()), (two.address(), one.address()));
    assert!(accepted.grants().allows(SocketKind::Push, "jobs"));
    assert!(dialled.round_trip() < Duration::from_secs(5));
    assert!(accepted.received() > 0);
}

#[tokio::test]
async fn a_port_of_both_families_is_reached_by_v4_and_shows_plain_addresses() {
    let key = MeshKey::generate().unwrap();
    let (one, two) = (Site::open(&key), Site::at(&key, (Ipv6Addr::UNSPECIFIED, 0).into()).unwrap());
    let address = (Ipv4Addr::LOCALHOST, two.address().port()).into();
    let (dialled, accepted) = tokio::join!(one.endpoint.dial(address), two.endpoint.accept());
    assert_eq!(dialled.unwrap().remote_address(), address);
    assert_eq!(accepted.unwrap().unwrap().remote_address(), one.address());

    let error = one.endpoint.dial((Ipv6Addr::LOCALHOST, 1).into()).await.err().unwrap();
    assert!(error.to_string().contains("IPv4 only"), "{error}");
}

#[tokio::test]
async fn another_mesh_is_refused_and_both_are_told() {
    let (one, two) = (Site::open(&MeshKey::generate().unwrap()), Site::open(&MeshKey::generate().unwrap()));
    let (dialled, accepted) = tokio::join!(one.endpoint.dial(two.address()), two.endpoint.accept());
    let dialled = dialled.err().unwrap().to_string();
    assert!(dialled.contains("another mesh") && dialled.contains(&two.address().to_string()), "{dialled}");
    let refused = accepted.unwrap().err().unwrap();
    assert!(refused.address == one.address() && refused.why.contains("refused us"), "{refused}");
}

#[tokio::test]
async fn a_silent_address_is_given_up() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let site = Site::open(&MeshKey::generate().unwrap());
    let time = Duration::from_millis(50);
    let error = site.endpoint.dial_within(silent.local_addr().unwrap(), time).await.err().unwrap();
    assert!(matches!(error, DialError::Silent { .. }), "{error}");
    assert_eq!(error.to_string(), format!("{} did not answer within 50 ms", silent.local_addr().unwrap()));
}

#[tokio::test]
async fn a_dial_that_its_own_node_ends_says_nothing_of_who_is_there() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let site = Site::open(&MeshKey::generate().unwrap());
    let dialling = site.endpoint.dial(silent.local_addr().unwrap());
    let closing = site.endpoint.close(CloseCode::Done, "", Duration::ZERO);
    let (dialled, ()) = tokio::join!(biased; dialling, closing);
    let error = dialled.err().unwrap();
    assert!(matches!(error, DialError::Closing), "{error}");
    let error = site.endpoint.dial(silent.local_addr().unwrap()).await.err().unwrap();
    assert!(matches!(error, DialError::Closing), "{error}");
}

#[tokio::test]
async fn who_is_leaving_is_not_taken_for_a_stranger() {
    let key = MeshKey::generate().unwrap();
    let (one, two) = (Site::open(&key), Site::open(&key));
    two.endpoint.close(CloseCode::Done, "", Duration::ZERO).await;
    let error = one.endpoint.dial(two.address()).await.err().unwrap();
    assert!(matches!(error, DialError::Leaving { .. }), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_remedy() {
    let key = MeshKey::generate().unwrap();
    let first = Site::open(&key);
    let error = Site::at(&key, first.address()).err().unwrap().to_string();
    assert!(error.contains(&first.address().to_string()) && error.contains("listen on port 0"), "{error}");

    let error = Site::at(&key, ([192, 0, 2, 1], 0).into()).err().unwrap().to_string();
    assert!(error.contains("192.0.2.1") && error.contains("[::]"), "{error}");
}

#[tokio::test]
async fn busy_nodes_ask_for_proof_and_then_wait() {
    let key = MeshKey::generate().unwrap();
    let (one, two) = (Site::open(&key), Site::open(&key));
    let half = two.endpoint.handshakes().acquire_many(MAX_HANDSHAKES as u32 / 2).await.unwrap();
    // The dialler is asked for proof, and shows the token.
    let (_dialled, _accepted) = two.dialled_by(&one).await;

    let rest = two.endpoint.handshakes().acquire_many(MAX_HANDSHAKES as u32 / 2).await.unwrap();
    let accepting = two.endpoint.accept();
    let dialling = one.endpoint.dial(two.address());
    let release = async {
        two.ignored_one().await;
        drop((half, rest));
    };
    let (dialled, accepted, ()) = tokio::join!(dialling, accepting, release);
    assert_eq!((dialled.unwrap().peer(), accepted.unwrap().unwrap().peer()), (two.node, one.node));
}

impl Site {
    async fn ignored_one(&self) {
        while self.endpoint.quinn().stats().ignored_handshakes == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn control_frames_go_both_ways_and_the_last_one_arrives_before_the_close() {
    let [(_one, dialled), (_two, accepted)] = connected().await;
    let (mut writer, mut reader) = dialled.control().await.unwrap();
    writer.write("hello".into()).await.unwrap();
    let (mut their_writer, mut their_reader) = accepted.control().await.unwrap();
    assert_eq!(their_reader.read().await.unwrap().unwrap(), "hello");
    their_writer.write("you".into()).await.unwrap();
    assert_eq!(reader.read().await.unwrap().unwrap(), "you");

    writer.write("goodbye".into()).await.unwrap();
    writer.finish().await.unwrap();
    dialled.close(CloseCode::Goodbye, "maintenance");
    let lost = accepted.closed().await;
    assert_eq!(
        (lost.code, lost.to_string()),
        (Some(CloseCode::Goodbye), "the peer has shut down (maintenance)".into())
    );
    assert_eq!(dialled.closed().await, LinkLost { code: None, why: "closed by this node".into(), refused: false });
    assert!(their_writer.write("late".into()).await.is_err());
    assert!(accepted.open_lane().await.is_err() && accepted.accept_lane().await.is_err());
}

#[tokio::test]
async fn a_closed_endpoint_tells_its_peers_and_itself() {
    let [(one, dialled), (two, accepted)] = connected().await;
    let ((), none) =
        tokio::join!(two.endpoint.close(CloseCode::Goodbye, "", Duration::from_secs(1)), two.endpoint.accept());
    assert!(none.is_none());
    assert_eq!(dialled.closed().await.code, Some(CloseCode::Goodbye));
    assert_eq!(accepted.closed().await.code, None);
    assert!(two.endpoint.dial(one.address()).await.is_err());
}

#[tokio::test]
async fn a_node_that_was_restarted_says_at_once_that_it_has_forgotten_the_link() {
    let key = MeshKey::generate().unwrap();
    let one = Site::open(&key);
    let identity = Identity::ephemeral(&*one.env.random).unwrap();
    let first_life = OwnThread::start().unwrap();
    let two = Site::of(&identity, &key, first_life.env(), (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = two.address();
    let (dialled, accepted) = two.dialled_by(&one).await;
    // As a crash: nothing of it runs any more, and nobody was told.
    first_life.join();
    drop((two, accepted));

    let second_life = OwnThread::start().unwrap();
    let _two = Site::of(&identity, &key, second_life.env(), address).unwrap();
    let (mut writer, _reader) = dialled.control().await.unwrap();
    writer.write("are you there?".into()).await.unwrap();
    let lost = dialled.closed().await;
    assert!(lost.to_string().contains("restarted"), "{lost}");
}
