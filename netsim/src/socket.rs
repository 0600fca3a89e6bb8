//! A UDP socket of a host, as quinn wants it. The traits differ between quinn's versions: they are named in this file
//! alone.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::inbox::Packet;
use crate::network::{Life, Network};

/// A bound UDP socket. An IPv6 one is dual-stack: it sees IPv4 as mapped addresses.
pub(crate) struct Socket {
    network: Arc<Network>,
    life: Life,
    bound: SocketAddr,
    ip: Ipv4Addr,
}

impl Socket {
    pub(crate) fn bind(network: Arc<Network>, life: Life, address: SocketAddr) -> io::Result<Self> {
        let ip = match address.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::UNSPECIFIED,
            IpAddr::V6(ip) if ip.is_loopback() => Ipv4Addr::LOCALHOST,
            ip => ipv4(ip).ok_or(io::ErrorKind::AddrNotAvailable)?,
        };
        let port = network.bind(life, ip, address.port())?;
        Ok(Self { network, life, bound: SocketAddr::new(address.ip(), port), ip })
    }

    /// The address that a packet is sent from: the one that quinn asks for, which is where it was received.
    fn source(&self, to: Ipv4Addr, wanted: Option<IpAddr>) -> SocketAddrV4 {
        let ip = match wanted.and_then(ipv4) {
            Some(ip) if !ip.is_unspecified() => ip,
            _ if !self.ip.is_unspecified() => self.ip,
            _ if to.is_loopback() => to,
            _ => self.life.host.ip(),
        };
        SocketAddrV4::new(ip, self.bound.port())
    }

    /// An address as this socket shows it.
    fn shown(&self, address: SocketAddrV4) -> SocketAddr {
        let ip = match self.bound {
            SocketAddr::V4(_) => IpAddr::V4(*address.ip()),
            SocketAddr::V6(_) => IpAddr::V6(address.ip().to_ipv6_mapped()),
        };
        SocketAddr::new(ip, address.port())
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(ip) = ipv4(transmit.destination.ip()) else {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        };
        let to = SocketAddrV4::new(ip, transmit.destination.port());
        let from = self.source(ip, transmit.src_ip);
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for bytes in transmit.contents.chunks(segment) {
            self.network.send(self.life, Packet { from, to, ecn: transmit.ecn, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut received = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Poll::Ready(packet) = self.network.poll_receive(self.life, self.bound.port(), cx) else { break };
            let len = packet.bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&packet.bytes[..len]);
            let dst_ip = Some(self.shown(packet.to).ip());
            *meta = RecvMeta { addr: self.shown(packet.from), len, stride: len, ecn: packet.ecn, dst_ip };
            received += 1;
        }
        if received == 0 { Poll::Pending } else { Poll::Ready(Ok(received)) }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.bound)
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.network.unbind(self.life, self.bound.port());
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("bound", &self.bound).field("life", &self.life).finish_non_exhaustive()
    }
}

/// The network takes all that is sent, at once.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn ipv4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

/// Packets in one call, as segmentation offload has them: fewer calls, the same packets.
const SEGMENTS: usize = 10;
