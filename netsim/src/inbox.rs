//! What has arrived at a bound port and was not received yet.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};

use quinn::udp::EcnCodepoint;

/// A datagram on its way. No address in it is an IPv4 one that is mapped into IPv6.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) bytes: Vec<u8>,
}

impl Packet {
    /// Its size as an IP packet, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + if self.to.is_ipv4() { IPV4_AND_UDP } else { IPV6_AND_UDP }
    }
}

/// A bound port, its packets, and who waits for the next.
pub(crate) struct Inbox {
    pub(crate) socket: SocketId,
    /// The address that the port is bound to. `0.0.0.0` for all of IPv4, `[::]` for all of both.
    ip: IpAddr,
    port: u16,
    packets: VecDeque<Packet>,
    bytes: usize,
    waiting: Option<Waker>,
}

/// The number of a socket; never used twice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketId(pub(crate) u64);

impl Inbox {
    pub(crate) fn new(socket: SocketId, ip: IpAddr, port: u16) -> Self {
        Self { socket, ip, port, packets: VecDeque::new(), bytes: 0, waiting: None }
    }

    /// Whether another socket may not be bound to this address as well.
    pub(crate) fn occupies(&self, ip: IpAddr, port: u16) -> bool {
        self.port == port && (includes(self.ip, ip) || includes(ip, self.ip))
    }

    /// Whether packets to this address are for this port.
    pub(crate) fn hears(&self, to: SocketAddr) -> bool {
        self.port == to.port() && includes(self.ip, to.ip())
    }

    /// Whether the packet has room where so many bytes may wait.
    pub(crate) fn has_room(&self, packet: &Packet, capacity: usize) -> bool {
        self.bytes + packet.bytes.len() <= capacity
    }

    /// Puts a packet in; gives who is to be woken for it.
    #[must_use]
    pub(crate) fn put(&mut self, packet: Packet) -> Option<Waker> {
        self.bytes += packet.bytes.len();
        self.packets.push_back(packet);
        self.waiting.take()
    }

    /// Takes the next packet, or waits for one; gives who has waited before as well, to be dropped outside of locks.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> (Poll<Packet>, Option<Waker>) {
        match self.packets.pop_front() {
            Some(packet) => {
                self.bytes -= packet.bytes.len();
                (Poll::Ready(packet), None)
            }
            None if self.waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) => (Poll::Pending, None),
            None => (Poll::Pending, self.waiting.replace(cx.waker().clone())),
        }
    }
}

/// Whether a socket that is bound to `bound` has this address, which may be a bound one itself.
fn includes(bound: IpAddr, ip: IpAddr) -> bool {
    bound == ip || bound.is_unspecified() && (bound.is_ipv6() || ip.is_ipv4())
}

/// What a port holds unreceived unless its host says otherwise, in bytes: enough that a burst over an unlimited link
/// isn't lost for that.
pub(crate) const CAPACITY: usize = 2 << 20;
/// Bytes of an IPv4 and a UDP header.
const IPV4_AND_UDP: usize = 28;
/// Bytes of an IPv6 and a UDP header.
const IPV6_AND_UDP: usize = 48;
