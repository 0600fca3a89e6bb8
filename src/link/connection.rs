//! One encrypted connection to a peer whose identity is proven.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;

use super::close::{CloseCode, LinkLost};
use super::congestion::Traffic;
use super::lane::LaneStream;
use super::transport::LINK_WINDOW;
use crate::id::NodeId;
use crate::trust::{self, Grants, Member};
use crate::wire::limits::{LANES_AT_FIRST, MAX_CONTROL_FRAME, MAX_LANES};

/// A connection with a proven peer. It carries nothing but the first control frames before [`Connection::admitted`].
///
/// It stays open while a clone of it or one of its streams is there.
#[derive(Clone)]
pub(crate) struct Connection {
    quinn: quinn::Connection,
    member: Arc<Member>,
    dialled: bool,
    traffic: Traffic,
}

impl Connection {
    /// # Errors
    /// The certificate, which the mesh has signed, is not one of meshmq's; the connection is closed.
    pub(super) fn new(quinn: quinn::Connection, dialled: bool, traffic: Traffic) -> Result<Self, String> {
        let chain = quinn.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        match trust::member(&chain.unwrap_or_default()) {
            Ok(member) => Ok(Self { quinn, member: Arc::new(member), dialled, traffic }),
            Err(error) => {
                traffic.close();
                quinn.close(CloseCode::Refused.number(), b"certificate");
                Err(error.to_string())
            }
        }
    }

    /// Who the peer is, as its certificate proves.
    pub(crate) fn peer(&self) -> NodeId {
        self.member.node
    }

    /// What the mesh allows the peer.
    pub(crate) fn grants(&self) -> &Grants {
        &self.member.grants
    }

    /// This node has dialled; else the peer has.
    pub(crate) fn dialled(&self) -> bool {
        self.dialled
    }

    /// Where the peer is.
    pub(crate) fn remote_address(&self) -> SocketAddr {
        plain(self.quinn.remote_address())
    }

    /// The current estimate of the time that a packet and its acknowledgement take.
    pub(crate) fn round_trip(&self) -> Duration {
        self.quinn.rtt()
    }

    /// Grows with each authenticated packet that comes in: who sent it lives, even if what it says was lost.
    pub(crate) fn received(&self) -> u64 {
        let rx = self.quinn.stats().frame_rx;
        let rare = [
            rx.ack_frequency,
            rx.connection_close,
            rx.crypto,
            rx.data_blocked,
            rx.datagram,
            u64::from(rx.handshake_done),
            rx.immediate_ack,
            rx.max_streams_bidi,
            rx.max_streams_uni,
            rx.new_connection_id,
            rx.new_token,
            rx.path_challenge,
            rx.path_response,
            rx.reset_stream,
            rx.retire_connection_id,
            rx.stop_sending,
            rx.stream_data_blocked,
            rx.streams_blocked_bidi,
            rx.streams_blocked_uni,
        ];
        rx.acks + rx.stream + rx.ping + rx.max_data + rx.max_stream_data + rare.iter().sum::<u64>()
    }

    /// When the last of the packets was sent that the peer is known to have received; of those that it had to acknowledge.
    pub(crate) fn acked(&self) -> Option<Instant> {
        self.traffic.acked()
    }

    /// The control stream; asked for once. It is the first stream, opened by the dialler, and goes before all others.
    ///
    /// # Errors
    /// The link is lost.
    ///
    /// # Cancel safety
    /// Not cancel safe: the stream would be lost, and the link with it.
    pub(crate) async fn control(&self) -> Result<(ControlWriter, ControlReader), LinkLost> {
        let (send, recv) = if self.dialled { self.quinn.open_bi().await? } else { self.quinn.accept_bi().await? };
        // Fails only for a stream that is closed already, which the next write tells.
        let _ = send.set_priority(i32::MAX);
        Ok((ControlWriter(send), ControlReader(recv)))
    }

    /// Opens a stream for a lane; waits while the peer allows no more.
    ///
    /// # Errors
    /// The link is lost.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing was opened.
    pub(crate) async fn open_lane(&self) -> Result<LaneStream, LinkLost> {
        let (send, recv) = self.quinn.open_bi().await?;
        Ok(LaneStream::new(send, recv))
    }

    /// The next stream that the peer has opened for a lane.
    ///
    /// # Errors
    /// The link is lost.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, no stream was taken.
    pub(crate) async fn accept_lane(&self) -> Result<LaneStream, LinkLost> {
        let (send, recv) = self.quinn.accept_bi().await?;
        Ok(LaneStream::new(send, recv))
    }

    /// The peer is admitted: from now on it may open lanes and have a window's worth of bytes under way.
    pub(crate) fn admitted(&self) {
        self.quinn.set_receive_window(VarInt::from_u32(LINK_WINDOW));
        self.allow_lanes(LANES_AT_FIRST);
    }

    /// The peer may have so many lanes open, at most [`MAX_LANES`].
    pub(crate) fn allow_lanes(&self, lanes: u32) {
        let control = u32::from(!self.dialled);
        self.quinn.set_max_concurrent_bi_streams(VarInt::from_u32(lanes.min(MAX_LANES) + control));
    }

    /// Closes the connection at once: what is not acknowledged yet may not arrive. The peer is told why, also where as
    /// much is under way as may be. Only the first call counts.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.traffic.close();
        self.quinn.close(code.number(), reason.as_bytes());
    }

    /// Waits for the end of the connection, whoever closes it, and tells why it came.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(crate) async fn closed(&self) -> LinkLost {
        self.quinn.closed().await.into()
    }

    #[cfg(test)]
    pub(crate) fn quinn(&self) -> &quinn::Connection {
        &self.quinn
    }
}

/// The address without IPv6's clothes around IPv4, which a socket that takes both puts on.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// This node's direction of the control stream.
#[derive(Debug)]
pub(crate) struct ControlWriter(SendStream);

impl ControlWriter {
    /// Writes all of it; waits while the peer does not read.
    ///
    /// # Errors
    /// The link is lost.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part may have been written.
    pub(crate) async fn write(&mut self, frames: Bytes) -> Result<(), LinkLost> {
        match self.0.write_chunk(frames).await {
            Ok(()) => Ok(()),
            Err(quinn::WriteError::ConnectionLost(error)) => Err(error.into()),
            Err(other) => Err(LinkLost::because(format!("the control stream has ended: {other}"))),
        }
    }

    /// Ends this direction and waits until the peer's transport has all of it; only then may a close follow.
    ///
    /// # Errors
    /// The link is lost.
    ///
    /// # Cancel safety
    /// It may be called again.
    pub(crate) async fn finish(&mut self) -> Result<(), LinkLost> {
        // Fails only when it was called before.
        let _ = self.0.finish();
        match self.0.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(LinkLost::because("the peer has stopped the control stream")),
            Err(quinn::StoppedError::ConnectionLost(error)) => Err(error.into()),
            Err(other) => Err(LinkLost::because(other.to_string())),
        }
    }
}

/// The peer's direction of the control stream.
#[derive(Debug)]
pub(crate) struct ControlReader(RecvStream);

impl ControlReader {
    /// The next bytes, at most [`MAX_CONTROL_FRAME`]; `None`: the peer has ended its direction.
    ///
    /// # Errors
    /// The link is lost.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing was read.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, LinkLost> {
        match self.0.read_chunk(MAX_CONTROL_FRAME, true).await {
            Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
            Err(quinn::ReadError::ConnectionLost(error)) => Err(error.into()),
            Err(other) => Err(LinkLost::because(format!("the control stream has ended: {other}"))),
        }
    }
}
