use std::net::SocketAddr;
use std::sync::Mutex;

use quinn::AsyncUdpSocket;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc};

use super::*;
use crate::env::Network;
use crate::id::NodeId;

/// Answers each look-up with the next of these.
struct Names(Mutex<Vec<io::Result<Vec<SocketAddr>>>>);

impl Network for Names {
    fn bind(&self, _: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn resolve(&self, _: String, _: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        let answer = self.0.lock().unwrap().remove(0);
        Box::pin(std::future::ready(answer))
    }
}

fn start(peer: &str, answers: Vec<io::Result<Vec<SocketAddr>>>) -> mpsc::Receiver<(usize, Found)> {
    let mut env = Env::real(Handle::current());
    env.network = Arc::new(Names(Mutex::new(answers)));
    let bound = "0.0.0.0:1".parse().unwrap();
    let own = Advert { mesh_tag: [0; 8], node: NodeId::from_bytes([0; 32]), incarnation: 1, port: 1, bound };
    let (tell, found) = mpsc::channel(16);
    let source = Arc::new(Fixed::new(peer.parse().unwrap()));
    tokio::spawn(source.run(own, env, Finder::new(0, tell, broadcast::Sender::new(1))));
    found
}

async fn next(found: &mut mpsc::Receiver<(usize, Found)>) -> Found {
    found.recv().await.unwrap().1
}

fn seen(addresses: &[&str]) -> Found {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Found::Seen { node: None, incarnation: None, in_touch: false, addresses }
}

#[tokio::test]
async fn all_addresses_of_a_name_are_told() {
    let answer = vec!["10.0.0.1:7".parse().unwrap(), "[fd00::1]:7".parse().unwrap()];
    let mut found = start("host:7", vec![Ok(answer)]);
    assert_eq!(next(&mut found).await, seen(&["10.0.0.1:7", "[fd00::1]:7"]));
    assert!(matches!(next(&mut found).await, Found::Report(_)));
    assert_eq!(next(&mut found).await, Found::FirstPass);
}

#[tokio::test]
async fn an_address_needs_no_resolver() {
    let mut found = start("[::1]:7", Vec::new());
    assert_eq!(next(&mut found).await, seen(&["[::1]:7"]));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_reported_and_looked_up_again() {
    let answers = vec![Err(io::Error::other("no such host")), Ok(Vec::new()), Ok(vec!["10.0.0.1:7".parse().unwrap()])];
    let mut found = start("host:7", answers);
    let begin = tokio::time::Instant::now();
    let Found::Trouble(report) = next(&mut found).await else { panic!("nothing reported") };
    assert!(report.contains("host:7") && report.contains("no such host") && report.contains("IP address"), "{report}");
    assert_eq!(next(&mut found).await, Found::FirstPass);
    let Found::Trouble(report) = next(&mut found).await else { panic!("nothing reported") };
    assert!(report.contains("no address"), "{report}");
    assert_eq!(next(&mut found).await, seen(&["10.0.0.1:7"]));
    assert_eq!(begin.elapsed().as_secs(), 3);
}

#[test]
fn peers_are_written_as_host_and_port() {
    for text in ["host:7", "10.0.0.1:7400", "[fd00::1]:65535", "a.b-c.example:1"] {
        assert_eq!(text.parse::<PeerAddress>().unwrap().to_string(), text);
    }
    for (text, why) in [
        ("host", "port is missing"),
        ("", "port is missing"),
        (":7", "host is missing"),
        ("fd00::1:7", "brackets"),
        ("[fd00::1]", "brackets"),
        ("udp://host:7", "without scheme"),
        ("//host:7", "without scheme"),
        ("my host:7", "not a name"),
        ("host:0", "1 to 65535"),
        ("10.0.0.1:0", "1 to 65535"),
        ("host:65536", "1 to 65535"),
        ("host:x", "1 to 65535"),
    ] {
        let error = text.parse::<PeerAddress>().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(text), "{text}: {error}");
    }
}
