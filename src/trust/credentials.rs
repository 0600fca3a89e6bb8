//! What a node brings to every handshake.

use std::fmt;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::TrustError;
use super::certificate::issue;
use super::identity::Identity;
use super::mesh::Mesh;
use crate::env::Env;
use crate::id::NodeId;

/// The protocol, and its revision: peers of another one do not get past the handshake.
const ALPN: &[u8] = b"meshmq/1";

/// TLS for both directions, and keys that outlive a restart with the same identity.
pub(crate) struct Credentials {
    pub(crate) node: NodeId,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    /// Of stateless resets: a peer of an earlier life notices at once.
    pub(crate) reset_key: [u8; 64],
    /// Of address validation tokens.
    pub(crate) token_key: [u8; 64],
}

impl Credentials {
    pub(crate) fn new(mesh: &Mesh, identity: &Identity, env: &Env) -> Result<Self, TrustError> {
        let failed = |error: &dyn fmt::Display| TrustError(format!("cannot set up TLS: {error}"));
        let certificate = issue(mesh, identity)?;
        let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(mesh.ca.clone()).map_err(|error| failed(&error))?;
        let (roots, provider) = (Arc::new(roots), &env.crypto);

        let server_verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| failed(&error))?;
        let mut client = ClientConfig::builder_with_details(provider.clone(), env.certificate_time.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&error))?
            .with_webpki_verifier(server_verifier)
            .with_client_auth_cert(vec![certificate.clone()], key())
            .map_err(|error| failed(&error))?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();

        let client_verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| failed(&error))?;
        let mut server = ServerConfig::builder_with_details(provider.clone(), env.certificate_time.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(client_verifier)
            .with_single_cert(vec![certificate], key())
            .map_err(|error| failed(&error))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;

        if let Some(log) = &env.key_log {
            client.key_log = log.clone();
            server.key_log = log.clone();
        }
        Ok(Self {
            node: identity.id(),
            client: Arc::new(client),
            server: Arc::new(server),
            reset_key: identity.derive(b"stateless reset"),
            token_key: identity.derive(b"address token"),
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("node", &self.node).finish_non_exhaustive()
    }
}
