//! Handshakes over the loopback interface: who gets in, and what both sides are told of who does not.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, KeyLog, ServerConfig};
use tokio::runtime::Handle;

use super::identity;
use crate::env::Env;
use crate::id::NodeId;
use crate::trust::certificate::SERVER_NAME;
use crate::trust::*;

fn credentials(key: &MeshKey, name: &str) -> Credentials {
    Credentials::new(&Mesh::derive(key, name).unwrap(), &identity(), &Env::real(Handle::current())).unwrap()
}

/// What the two ends get: the peer that they see, or why there is none.
async fn meet(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> [Result<NodeId, String>; 2] {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).unwrap()));
    let listening = Endpoint::server(server, here).unwrap();
    let dialling = Endpoint::client(here).unwrap();
    let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    let dial = dialling.connect_with(client, listening.local_addr().unwrap(), SERVER_NAME).unwrap();
    let (dialled, accepted) = tokio::join!(dial, async { listening.accept().await.unwrap().await });
    let dialled = match (dialled, &accepted) {
        // The dialler looks connected before the other end has judged its certificate.
        (Ok(connection), Err(_)) => Err(connection.closed().await),
        (dialled, _) => dialled,
    };
    [dialled, accepted].map(|end| end.map(|connection| peer(&connection)).map_err(words))
}

fn peer(connection: &quinn::Connection) -> NodeId {
    let chain = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
    member(&chain).unwrap().node
}

fn words(error: ConnectionError) -> String {
    explain(&error).unwrap_or_else(|| panic!("not about trust: {error}"))
}

fn assert_refused(ends: [Result<NodeId, String>; 2], by_the_dialler: bool, why: &str) {
    let [dialler, listener] = ends.map(Result::unwrap_err);
    let (refuser, refused) = if by_the_dialler { (dialler, listener) } else { (listener, dialler) };
    assert!(refuser.starts_with("we refused the peer") && refuser.contains(why), "{refuser}");
    assert!(refused.starts_with("the peer refused us") && refused.contains(why), "{refused}");
}

#[tokio::test]
async fn members_of_a_mesh_know_who_the_other_is() {
    let key = MeshKey::generate().unwrap();
    let (one, two) = (credentials(&key, "shop"), credentials(&key, "shop"));
    assert_eq!(meet(one.client, two.server).await, [Ok(two.node), Ok(one.node)]);
}

#[tokio::test]
async fn a_stranger_is_refused_in_words_in_both_directions() {
    let key = MeshKey::generate().unwrap();
    let ours = credentials(&key, "shop");
    for theirs in [credentials(&MeshKey::generate().unwrap(), "shop"), credentials(&key, "shed")] {
        assert_refused(meet(ours.client.clone(), theirs.server.clone()).await, true, "of another mesh");
        assert_refused(meet(theirs.client.clone(), ours.server.clone()).await, true, "of another mesh");
        // One that takes us for a friend, and so gets as far as showing its own certificate.
        let mut trusting = (*ours.client).clone();
        trusting.client_auth_cert_resolver = theirs.client.client_auth_cert_resolver.clone();
        assert_refused(meet(Arc::new(trusting), ours.server.clone()).await, false, "of another mesh");
    }
}

#[tokio::test]
async fn whoever_shows_nothing_or_speaks_otherwise_is_refused() {
    let ours = credentials(&MeshKey::generate().unwrap(), "shop");
    let mut shy = (*ours.client).clone();
    shy.client_auth_cert_resolver = Arc::new(Shy);
    assert_refused(meet(Arc::new(shy), ours.server.clone()).await, false, "no certificate was shown");
    let mut foreign = (*ours.client).clone();
    foreign.alpn_protocols = vec![b"meshmq/0".to_vec()];
    assert_refused(meet(Arc::new(foreign), ours.server.clone()).await, false, "protocol");
}

/// Has no certificate.
#[derive(Debug)]
struct Shy;

impl rustls::client::ResolvesClientCert for Shy {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn nothing_of_a_handshake_serves_for_another() {
    let ours = credentials(&MeshKey::generate().unwrap(), "shop");
    assert_eq!((ours.server.send_tls13_tickets, ours.server.max_early_data_size), (0, 0));
    assert!(!ours.client.enable_early_data);
    // Word for word: an id is text too, and may by chance hold any word.
    assert_eq!(format!("{ours:?}"), format!("Credentials {{ node: {:?}, .. }}", ours.node));
}

/// Writes down which secrets there are, and what they are.
#[derive(Debug, Default)]
struct Recorder(Mutex<BTreeMap<String, Vec<u8>>>);

impl KeyLog for Recorder {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().insert(label.into(), secret.into());
    }
}

#[tokio::test]
async fn the_key_log_is_given_the_secrets_at_both_ends() {
    let mesh = Mesh::derive(&MeshKey::generate().unwrap(), "shop").unwrap();
    let recorders = [(); 2].map(|()| Arc::new(Recorder::default()));
    let [one, two] = recorders.clone().map(|recorder| {
        let mut env = Env::real(Handle::current());
        env.key_log = Some(recorder);
        Credentials::new(&mesh, &identity(), &env).unwrap()
    });
    assert_eq!(meet(one.client, two.server).await, [Ok(two.node), Ok(one.node)]);
    let [dialler, listener] = recorders.map(|recorder| recorder.0.lock().unwrap().clone());
    for label in [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    ] {
        assert!(dialler.get(label).is_some_and(|secret| !secret.is_empty()), "{label} in {:?}", dialler.keys());
    }
    assert_eq!(dialler, listener, "both ends have the same secrets");
}

#[tokio::test]
async fn keys_come_back_with_the_identity_and_differ_by_use() {
    let env = Env::real(Handle::current());
    let mesh = Mesh::derive(&MeshKey::generate().unwrap(), "shop").unwrap();
    let (one, other) = (identity(), identity());
    let keys = |identity| {
        let made = Credentials::new(&mesh, identity, &env).unwrap();
        (made.reset_key, made.token_key)
    };
    assert_eq!(keys(&one), keys(&one));
    assert_ne!(keys(&one).0, keys(&one).1);
    assert_ne!(keys(&one).0, keys(&other).0);
}
