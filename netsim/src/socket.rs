//! A UDP socket of a host, as quinn wants it. The traits differ between quinn's versions: they are named in this file
//! alone.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::inbox::SocketId;
use crate::network::{Life, Network, Outgoing};

/// A bound UDP socket. One that is bound to `[::]` is dual-stack: it sees IPv4 as mapped addresses.
pub(crate) struct Socket {
    network: Arc<Network>,
    life: Life,
    id: SocketId,
    bound: SocketAddr,
}

impl Socket {
    pub(crate) fn bind(network: Arc<Network>, life: Life, address: SocketAddr) -> io::Result<Self> {
        let (id, port) = network.bind(life, address.ip().to_canonical(), address.port())?;
        Ok(Self { network, life, id, bound: SocketAddr::new(address.ip(), port) })
    }

    /// An address as this socket shows it.
    fn shown(&self, address: SocketAddr) -> SocketAddr {
        let ip = match address.ip() {
            IpAddr::V4(ip) if self.bound.is_ipv6() => IpAddr::V6(ip.to_ipv6_mapped()),
            ip => ip,
        };
        SocketAddr::new(ip, address.port())
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.network.send(
            self.life,
            &Outgoing {
                bound: SocketAddr::new(self.bound.ip().to_canonical(), self.bound.port()),
                source: transmit.src_ip.map(|ip| ip.to_canonical()),
                to: SocketAddr::new(transmit.destination.ip().to_canonical(), transmit.destination.port()),
                ecn: transmit.ecn,
                contents: transmit.contents,
                segment: transmit.segment_size.unwrap_or(transmit.contents.len()),
            },
        );
        // What can't be sent is gone: so it is with quinn's own sockets, which write it into their log.
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
            let Poll::Ready(packet) = self.network.poll_receive(self.life, self.id, cx) else { break };
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
        self.network.unbind(self.life, self.id);
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

/// Packets in one call, as segmentation offload has them: fewer calls, the same packets.
const SEGMENTS: usize = 10;
