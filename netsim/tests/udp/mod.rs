//! Plain datagrams between simulated hosts.

// Each test file uses what it needs.
#![allow(dead_code)]

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use netsim::{Host, Sim};
use quinn::AsyncUdpSocket;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};

/// A bound socket.
pub(crate) struct Udp(Arc<dyn AsyncUdpSocket>);

impl Udp {
    pub(crate) fn bind(host: &Host, at: &str) -> Self {
        Self(host.bind(at.parse().unwrap()).unwrap())
    }

    pub(crate) fn send(&self, to: SocketAddr, contents: &[u8]) {
        self.send_marked(to, contents, None);
    }

    pub(crate) fn send_marked(&self, destination: SocketAddr, contents: &[u8], ecn: Option<EcnCodepoint>) {
        let transmit = Transmit { destination, ecn, contents, segment_size: None, src_ip: None };
        self.0.try_send(&transmit).unwrap();
    }

    /// The next datagram.
    pub(crate) async fn receive(&self) -> (Vec<u8>, RecvMeta) {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The datagrams that are there.
    pub(crate) fn received(&self) -> Vec<(Vec<u8>, RecvMeta)> {
        let mut all = Vec::new();
        while let Poll::Ready(one) = self.poll(&mut Context::from_waker(Waker::noop())) {
            all.push(one);
        }
        all
    }

    /// The datagrams that come within `time`: when, and their contents.
    pub(crate) async fn within(&self, sim: &Sim, time: Duration) -> Vec<(Duration, Vec<u8>)> {
        let (mut all, end) = (Vec::new(), sim.elapsed() + time);
        loop {
            tokio::select! {
                biased;
                (bytes, _) = self.receive() => all.push((sim.elapsed(), bytes)),
                () = sim.sleep(end - sim.elapsed()) => return all,
            }
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<(Vec<u8>, RecvMeta)> {
        let (mut buffer, mut meta) = (vec![0; 1500], [RecvMeta::default()]);
        self.0.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta).map(|result| {
            assert_eq!(result.unwrap(), 1);
            buffer.truncate(meta[0].len);
            (buffer, meta[0])
        })
    }
}

/// This port of a host, at its first address.
pub(crate) fn at(host: &Host, port: u16) -> SocketAddr {
    SocketAddr::new(host.ip(), port)
}
