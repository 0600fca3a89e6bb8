//! Every limit of QUIC, set by us: with the library's own, one peer may pin gigabytes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionIdGenerator, EndpointConfig, MtuDiscoveryConfig, ServerConfig, TimeSource, TransportConfig,
    ValidationTokenConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::time_provider::TimeProvider;

use super::congestion::{Traffic, UntilClosing};
use super::keys::Key;
use crate::env::{ETHERNET_PAYLOAD, Env, Payload};
use crate::trust::Credentials;
use crate::wire::limits::MAX_HANDSHAKES;

/// What a peer may have under way before it is admitted, in bytes: its first frames, and nothing of size.
pub(super) const WINDOW_AT_FIRST: u32 = 16 << 10;
/// Streams that a peer may open before it is admitted: the control stream.
pub(super) const STREAMS_AT_FIRST: u32 = 1;
/// What an admitted peer may have under way on all its lanes, in bytes. The byte credits of a link sum to less, so
/// that lanes which nobody reads leave room for one that is busy.
pub(super) const LINK_WINDOW: u32 = 32 << 20;
/// The same on one lane: 300 MB/s over 13 ms of round trip.
pub(super) const LANE_WINDOW: u32 = 4 << 20;
/// What is kept for sending again, in bytes: a lane's window twice.
const SEND_WINDOW: u64 = 8 << 20;
/// TLS messages that came out of order, or beyond the certificate that is due (0.3 KiB), in bytes.
const CRYPTO_BUFFER: usize = 16 << 10;
/// Packets of a connection that is not accepted yet, in bytes: its first flight.
const INCOMING_BUFFER: u64 = 16 << 10;
/// The backstop. The session gives a silent peer up long before.
const IDLE: Duration = Duration::from_secs(30);
/// The largest packet that is taken: any that UDP carries.
const MAX_UDP_PAYLOAD: u16 = 65_527;
/// UDP payload of the first packets where nothing is known of the path, in bytes: what QUIC asks of every path.
const PAYLOAD_AT_FIRST: u16 = 1200;
/// What may be under way before the first acknowledgement, in bytes (RFC 9002, 7.2), and at least two packets.
const CONGESTION_WINDOW_AT_FIRST: u64 = 12_000;
/// How soon larger packets are tried again after a burst of losses looked as if the path no longer took them.
const SMALL_PACKETS_FOR: Duration = Duration::from_secs(5);
/// How closely the size of packets within a host is searched for, in bytes, should loopback's not pass at first: half the
/// largest, then all of it. A probe is padding, which quinn reads byte by byte.
const COARSE_SEARCH: u16 = 16_500;

/// A connection whose packets have, or may grow to, this size, and that can be closed at any time.
///
/// Where the size is certain it is not looked for: a probe fills the connection's send buffer, which quinn keeps, so that
/// an idle link would hold as much memory as its largest packet has. Nor does the kernel take several such packets in one
/// call, for which quinn would make that buffer ten times as large.
pub(super) fn transport(payload: Payload, traffic: &Traffic) -> Arc<TransportConfig> {
    let (first, most, several_a_call) = match payload {
        Payload::Certain(size) => (size, size, false),
        Payload::AtMost(size) => (PAYLOAD_AT_FIRST, size, true),
    };
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(most).black_hole_cooldown(SMALL_PACKETS_FOR);
    if most > ETHERNET_PAYLOAD {
        mtu.minimum_change(COARSE_SEARCH);
    }
    let mut congestion = CubicConfig::default();
    congestion.initial_window(CONGESTION_WINDOW_AT_FIRST.max(2 * u64::from(first)));
    let congestion = UntilClosing { cubic: Arc::new(congestion), traffic: traffic.clone() };

    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_AT_FIRST))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(WINDOW_AT_FIRST))
        .stream_receive_window(VarInt::from_u32(LANE_WINDOW))
        .send_window(SEND_WINDOW)
        .crypto_buffer_size(CRYPTO_BUFFER)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .max_idle_timeout(Some(IDLE.try_into().expect("30 s fit a QUIC integer")))
        .keep_alive_interval(None)
        .initial_mtu(first)
        .enable_segmentation_offload(several_a_call)
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(congestion));
    Arc::new(config)
}

/// The endpoint, with all that is random in it taken from `env`.
pub(super) fn endpoint(env: &Env, credentials: &Credentials) -> std::io::Result<EndpointConfig> {
    let reset_key = Key::new(&credentials.reset_key);
    // The same in each life of the node: a reset is only sent for connection ids that could be one's own.
    let id_key = reset_key.number(b"connection ids");
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    match env.connection_ids.clone() {
        Some(make) => config.cid_generator(move || make()),
        None => config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key))),
    };
    let mut seed = [0; 32];
    env.random.fill(&mut seed)?;
    config.rng_seed(Some(seed));
    config.max_udp_payload_size(MAX_UDP_PAYLOAD).expect("within the bounds of QUIC");
    Ok(config)
}

/// Connections that this node dials. The transport is chosen for each.
pub(super) fn client(env: &Env, credentials: &Credentials) -> Result<ClientConfig, NoInitialCipherSuite> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(credentials.client.clone())?));
    config.token_store(Arc::new(quinn::NoneTokenStore));
    if let Some(make) = &env.connection_ids {
        let ids: Mutex<Box<dyn ConnectionIdGenerator>> = Mutex::new(make());
        config.initial_dst_cid_provider(Arc::new(move || {
            ids.lock().unwrap_or_else(PoisonError::into_inner).generate_cid()
        }));
    }
    Ok(config)
}

/// Connections that this node accepts. The transport is chosen for each.
pub(super) fn server(env: &Env, credentials: &Credentials) -> Result<ServerConfig, NoInitialCipherSuite> {
    let crypto = Arc::new(QuicServerConfig::try_from(credentials.server.clone())?);
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).log(Arc::new(quinn::NoneTokenLog));

    let mut config = ServerConfig::new(crypto, Arc::new(Key::new(&credentials.token_key)));
    config
        .validation_token_config(tokens)
        .time_source(Arc::new(Clock(env.certificate_time.clone())))
        .migration(false)
        .max_incoming(MAX_HANDSHAKES)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER * MAX_HANDSHAKES as u64);
    Ok(config)
}

/// The clock that a Retry token's age is judged by.
struct Clock(Arc<dyn TimeProvider>);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        let since = self.0.current_time().map_or(Duration::ZERO, |time| Duration::from_secs(time.as_secs()));
        SystemTime::UNIX_EPOCH + since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole and by value: a limit that a new version of the library brings, or another default, shows up here.
    #[test]
    fn every_limit_is_known() {
        every_limit(Payload::Certain(65_488), "initial_mtu: 65488", "enable_segmentation_offload: false");
        every_limit(Payload::AtMost(65_488), "initial_mtu: 1200", "enable_segmentation_offload: true");
    }

    fn every_limit(payload: Payload, initial_mtu: &str, several_a_call: &str) {
        let text = format!("{:?}", transport(payload, &Traffic::default()));
        let (_, limits) = text.split_once('{').unwrap();
        let expected = [
            "max_concurrent_bidi_streams: 1",
            "max_concurrent_uni_streams: 0",
            "max_idle_timeout: Some(30000)",
            "stream_receive_window: 4194304",
            "receive_window: 16384",
            "send_window: 8388608",
            "send_fairness: true",
            "packet_threshold: 3",
            "time_threshold: 1.125",
            "initial_rtt: 333ms",
            initial_mtu,
            "min_mtu: 1200",
            "mtu_discovery_config: Some(MtuDiscoveryConfig { interval: 600s, upper_bound: 65488, \
             minimum_change: 16500, black_hole_cooldown: 5s })",
            "pad_to_mtu: false",
            "ack_frequency_config: None",
            "persistent_congestion_threshold: 3",
            "keep_alive_interval: None",
            "crypto_buffer_size: 16384",
            "allow_spin: true",
            "datagram_receive_buffer_size: None",
            "datagram_send_buffer_size: 0",
            several_a_call,
            ".. }",
        ];
        assert_eq!(limits.trim(), expected.join(", "));
    }
}
