//! A UDP socket for both small packets, of which the kernel takes many in one call, and those of loopback's size, of
//! which it takes one.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::{AsyncUdpSocket, UdpPoller};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Type};
use tokio::io::Interest;
use tokio_util::sync::ReusableBoxFuture;

/// The most that one call sends: IPv4's largest payload. The kernel's answer to more is an error that says nothing of
/// the packets, and quinn drops it as it would a probe that is too large.
const MAX_SEND: usize = 65_507;
/// Room for bursts in the kernel, in bytes. It gives what its administrator allows.
const KERNEL_BUFFER: usize = 4 << 20;

/// Binds a socket with large buffers; `[::]` takes IPv4 as well. A host without IPv6 gets `0.0.0.0` in its place.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    match bind_exactly(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
            bind_exactly((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        result => result,
    }
}

fn bind_exactly(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
    let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[derive(Debug)]
pub(super) struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    /// Called within a tokio runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self { state: UdpSocketState::new((&socket).into())?, io: tokio::net::UdpSocket::from_std(socket)? })
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), transmit))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller::new(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // quinn hands over up to ten segments; ten of loopback's size are more than a call takes. When the kernel's
        // buffer fills up on the way, quinn sends all of them again: the peer ignores what it has already.
        split(transmit, MAX_SEND).try_for_each(|part| self.send(&part))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            match self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), buffers, meta)) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An error would end quinn's endpoint with every link; none that a bound UDP socket gives is for good.
                Err(error) => {
                    tracing::debug!(target: "meshmq::env", %error, "receiving failed");
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// One: quinn multiplies its receive buffers with it, and they have room for the largest datagram (64 KiB), which
    /// is also the most that the kernel joins.
    fn max_receive_segments(&self) -> usize {
        1
    }

    /// Without this, quinn would never look for a larger packet size.
    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// The same segments, in parts of at most `limit` bytes, or of one segment where that is larger.
pub(super) fn split<'a>(transmit: &'a Transmit<'a>, limit: usize) -> impl Iterator<Item = Transmit<'a>> {
    let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
    let part = (limit / segment).max(1) * segment;
    transmit.contents.chunks(part).map(move |contents| Transmit {
        destination: transmit.destination,
        ecn: transmit.ecn,
        contents,
        segment_size: transmit.segment_size.filter(|&segment| contents.len() > segment),
        src_ip: transmit.src_ip,
    })
}

/// Waits for room in the kernel's buffer, for one connection: tokio's `poll_send_ready` would wake only the last one.
struct Poller {
    socket: Arc<Socket>,
    writable: ReusableBoxFuture<'static, io::Result<()>>,
}

impl Poller {
    fn new(socket: Arc<Socket>) -> Self {
        Self { writable: ReusableBoxFuture::new(writable(socket.clone())), socket }
    }
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(self.writable.poll(cx));
        let next = writable(self.socket.clone());
        self.writable.set(next);
        Poll::Ready(result)
    }
}

async fn writable(socket: Arc<Socket>) -> io::Result<()> {
    socket.io.writable().await
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}
