//! What has arrived at a bound port and was not received yet.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::task::{Context, Poll, Waker};

use quinn::udp::EcnCodepoint;

/// A datagram on its way.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) bytes: Vec<u8>,
}

/// The packets of a bound port, and who waits for the next.
pub(crate) struct Inbox {
    /// The address that the port is bound to; unspecified for all.
    ip: Ipv4Addr,
    packets: VecDeque<Packet>,
    bytes: usize,
    waiting: Option<Waker>,
}

impl Inbox {
    pub(crate) fn new(ip: Ipv4Addr) -> Self {
        Self { ip, packets: VecDeque::new(), bytes: 0, waiting: None }
    }

    /// Whether the packet is for this port's address and has room.
    pub(crate) fn takes(&self, packet: &Packet) -> bool {
        let bound = self.ip.is_unspecified() || self.ip == *packet.to.ip();
        bound && self.bytes + packet.bytes.len() <= CAPACITY
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
            None => (Poll::Pending, self.waiting.replace(cx.waker().clone())),
        }
    }
}

/// What a port holds unreceived, in bytes: enough that a burst over an unlimited link isn't lost for that.
const CAPACITY: usize = 2 << 20;
