//! A quinn endpoint with mutual TLS on a simulated host.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use netsim::Host;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, TransportConfig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};
use rustls::RootCertStore;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;

pub(crate) const PORT: u16 = 7000;
pub(crate) const NAME: &str = "peer";
/// A silent peer is given up after this.
pub(crate) const IDLE: Duration = Duration::from_secs(3);

/// Who signs whom. Ed25519 keys: their signatures need no randomness.
pub(crate) struct Certificates {
    authority: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = key([1; 32]);
        let authority = params.self_signed(&key).unwrap().der().clone();
        Self { authority, issuer: Issuer::new(params, key) }
    }
}

/// An endpoint that dials and accepts, on all addresses of the host.
pub(crate) fn endpoint(host: &Host, certificates: &Certificates) -> Endpoint {
    let key = key(host.random_bytes());
    let certificate = CertificateParams::new([NAME.to_owned()]).unwrap().signed_by(&key, &certificates.issuer).unwrap();
    let chain = vec![certificate.der().clone()];
    let private = || PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let mut roots = RootCertStore::empty();
    roots.add(certificates.authority.clone()).unwrap();
    let (roots, provider) = (Arc::new(roots), host.crypto());

    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
    let mut client = rustls::ClientConfig::builder_with_details(provider.clone(), host.certificate_time())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain.clone(), private())
        .unwrap();
    client.resumption = Resumption::disabled();
    client.key_log = host.key_log();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().unwrap();
    let mut server = rustls::ServerConfig::builder_with_details(provider, host.certificate_time())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private())
        .unwrap();
    server.send_tls13_tickets = 0;
    server.key_log = host.key_log();

    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(IDLE.try_into().unwrap())).keep_alive_interval(Some(Duration::from_secs(1)));
    let transport = Arc::new(transport);
    let mut server = host.server_config(Arc::new(QuicServerConfig::try_from(server).unwrap()));
    server.transport_config(transport.clone());
    let mut client = host.client_config(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    client.transport_config(transport);

    let socket = host.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))).unwrap();
    let mut endpoint =
        Endpoint::new_with_abstract_socket(host.endpoint_config(), Some(server), socket, host.runtime()).unwrap();
    endpoint.set_default_client_config(client);
    endpoint
}

/// The private key of these bytes: 16 bytes of PKCS#8 before them (RFC 8410).
fn key(secret: [u8; 32]) -> KeyPair {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend_from_slice(&secret);
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519).unwrap()
}
