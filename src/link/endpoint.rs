//! One UDP port: connections are dialled from it and accepted at it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::NoInitialCipherSuite;
use quinn::{ClientConfig, ConnectError, ConnectionError, Incoming, ServerConfig};
use tokio::sync::{Mutex, mpsc};

use super::close::{CloseCode, LinkLost};
use super::congestion::Traffic;
use super::connection::{Connection, plain};
use super::handshakes::{Admission, Handshakes, Turn};
use super::transport;
use crate::env::Env;
use crate::trust::Credentials;
use crate::wire::limits::ADMISSION_DEADLINE;

/// One UDP port. It is open while a clone of it or a connection is there.
#[derive(Clone)]
pub(crate) struct Endpoint(Arc<Inner>);

struct Inner {
    quinn: quinn::Endpoint,
    env: Env,
    client: ClientConfig,
    server: ServerConfig,
    local: SocketAddr,
    /// A turn is held from a connection's first packet until it is handed out.
    handshakes: Arc<Handshakes>,
    finished: mpsc::UnboundedSender<Finished>,
    accepted: Mutex<mpsc::UnboundedReceiver<Finished>>,
}

type Finished = (Turn, Result<Connection, Refused>);

impl Endpoint {
    /// Takes the port; port 0 takes a free one.
    ///
    /// # Errors
    /// The port can not be taken, or the environment is not fit for QUIC. Nothing stays open.
    pub(crate) fn open(env: &Env, credentials: &Credentials, listen: SocketAddr) -> Result<Self, BindError> {
        let client = transport::client(env, credentials)?;
        let server = transport::server(env, credentials)?;
        let config = transport::endpoint(env, credentials).map_err(BindError::Random)?;
        let bind = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(listen),
            io::ErrorKind::AddrNotAvailable => BindError::NotOurs(listen),
            _ => BindError::Bind(listen, error),
        };
        let socket = env.network.bind(listen).map_err(bind)?;
        let local = socket.local_addr().map_err(bind)?;
        let runtime = env.runtime.clone();
        let quinn =
            quinn::Endpoint::new_with_abstract_socket(config, Some(server.clone()), socket, runtime).map_err(bind)?;
        let (finished, accepted) = mpsc::unbounded_channel();
        Ok(Self(Arc::new(Inner {
            quinn,
            env: env.clone(),
            client,
            server,
            local,
            handshakes: Handshakes::new(),
            finished,
            accepted: Mutex::new(accepted),
        })))
    }

    /// The address that the port is bound to.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// Connects to whoever is at this address; the whole handshake has [`ADMISSION_DEADLINE`]. The peer is proven
    /// when it returns, but may itself still refuse this node: only its first frame says that it has not.
    ///
    /// # Errors
    /// No link came about; the error says why, for people.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the attempt is given up.
    pub(crate) async fn dial(&self, address: SocketAddr) -> Result<Connection, DialError> {
        self.dial_within(address, ADMISSION_DEADLINE).await
    }

    pub(super) async fn dial_within(&self, address: SocketAddr, time: Duration) -> Result<Connection, DialError> {
        let failed = |why| DialError::Failed { address, why, refused: false };
        let env = &self.0.env;
        let mut config = self.0.client.clone();
        let traffic = Traffic::default();
        config.transport_config(transport::transport(env.network.largest_payload(address.ip()), &traffic));
        let connecting = self.0.quinn.connect_with(config, address, SERVER_NAME).map_err(|error| match error {
            ConnectError::EndpointStopping => DialError::Closing,
            ConnectError::InvalidRemoteAddress(_) if address.is_ipv6() => {
                failed(format!("this node listens on IPv4 only ({})", self.0.local))
            }
            other => failed(other.to_string()),
        })?;
        let connection = env.timeout(time, connecting).await.ok_or(DialError::Silent { address, time })?;
        let connection = connection.map_err(|error| match error {
            ConnectionError::ConnectionClosed(close)
                if close.error_code == quinn_proto::TransportErrorCode::CONNECTION_REFUSED =>
            {
                DialError::Leaving { address }
            }
            ConnectionError::LocallyClosed => DialError::Closing,
            error => {
                let LinkLost { why, refused, .. } = error.into();
                DialError::Failed { address, why, refused }
            }
        })?;
        Connection::new(connection, true, traffic).map_err(failed)
    }

    /// The next connection from outside, its peer proven, or word of one that was refused. `None`: the endpoint is
    /// closed. Handshakes run beside each other, and only while somebody waits here new ones begin.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no connection is lost.
    pub(crate) async fn accept(&self) -> Option<Result<Connection, Refused>> {
        let mut accepted = self.0.accepted.lock().await;
        loop {
            tokio::select! {
                biased;
                Some((_turn, result)) = accepted.recv() => return Some(result),
                incoming = self.0.quinn.accept() => self.begin(incoming?),
            }
        }
    }

    /// Somebody from outside is being proven.
    pub(crate) fn is_shaking_hands(&self) -> bool {
        self.0.handshakes.under_way() > 0
    }

    /// Closes all connections, telling their peers, and takes no more. Waits until that is through, at most so long.
    ///
    /// # Cancel safety
    /// The connections are closed in any case.
    pub(crate) async fn close(&self, code: CloseCode, reason: &str, time: Duration) {
        self.0.quinn.close(code.number(), reason.as_bytes());
        self.0.env.timeout(time, self.0.quinn.wait_idle()).await;
    }

    /// Begins a handshake, within the limits.
    fn begin(&self, incoming: Incoming) {
        let from = plain(incoming.remote_address()).ip();
        let turn = match self.0.handshakes.admit(from, incoming.remote_address_validated()) {
            Admission::Begin(turn) => turn,
            Admission::Prove => {
                // An address that is not validated may always be asked to prove itself.
                let _ = incoming.retry();
                return;
            }
            Admission::Wait => return incoming.ignore(),
        };
        let endpoint = self.clone();
        self.0.env.spawn(async move {
            let address = plain(incoming.remote_address());
            let result = endpoint.shake_hands(incoming).await.map_err(|why| Refused { address, why });
            // Nobody accepts any more: the connection closes.
            let _ = endpoint.0.finished.send((turn, result));
        });
    }

    async fn shake_hands(&self, incoming: Incoming) -> Result<Connection, String> {
        let env = &self.0.env;
        let mut config = self.0.server.clone();
        let payload = env.network.largest_payload(plain(incoming.remote_address()).ip());
        let traffic = Traffic::default();
        config.transport_config(transport::transport(payload, &traffic));
        let why = |error: ConnectionError| LinkLost::from(error).why;
        let connecting = incoming.accept_with(Arc::new(config)).map_err(why)?;
        match env.timeout(ADMISSION_DEADLINE, connecting).await {
            Some(connection) => Connection::new(connection.map_err(why)?, false, traffic),
            None => Err(format!("the handshake was not finished within {} s", ADMISSION_DEADLINE.as_secs())),
        }
    }

    #[cfg(test)]
    pub(super) fn quinn(&self) -> &quinn::Endpoint {
        &self.0.quinn
    }

    #[cfg(test)]
    pub(super) fn handshakes(&self) -> &tokio::sync::Semaphore {
        self.0.handshakes.room()
    }
}

/// The name in every node's certificate: which node it is, its key says.
const SERVER_NAME: &str = "meshmq";

/// The port can not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Another process, or another node, has the port.
    #[error("UDP {0} is in use; stop whoever holds it, or listen on port 0 to take a free one")]
    InUse(SocketAddr),
    /// The host does not have the address.
    #[error("UDP {0} can not be listened on: this host does not have the address; listen on [::] to take all it has")]
    NotOurs(SocketAddr),
    /// The operating system refuses for another reason.
    #[error("UDP {0} can not be listened on: {1}")]
    Bind(SocketAddr, #[source] io::Error),
    /// There is no randomness.
    #[error("the source of randomness fails: {0}")]
    Random(#[source] io::Error),
    /// The environment's cryptography lacks what QUIC begins with.
    #[error("the cryptography has no TLS13_AES_128_GCM_SHA256, which QUIC needs")]
    Crypto,
}

impl From<NoInitialCipherSuite> for BindError {
    fn from(_: NoInitialCipherSuite) -> Self {
        Self::Crypto
    }
}

/// No link came about with whoever is at an address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Nothing answered, or not in time.
    #[error("{address} did not answer within {}", in_words(*time))]
    Silent { address: SocketAddr, time: Duration },
    /// Somebody is there and takes in nobody any more: a node that is about to be gone.
    #[error("{address} is leaving")]
    Leaving { address: SocketAddr },
    /// This node has closed meanwhile, which says nothing of who is there.
    #[error("this node is closing")]
    Closing,
    /// The handshake failed, or could not begin; `refused`: because of a certificate.
    #[error("{address}: {why}")]
    Failed { address: SocketAddr, why: String, refused: bool },
}

/// `50 ms`, `3.9 s`
fn in_words(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// Somebody connected and was turned away.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {why}")]
pub(crate) struct Refused {
    /// Where it came from.
    pub(crate) address: SocketAddr,
    /// Why, for people.
    pub(crate) why: String,
}
