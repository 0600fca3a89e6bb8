//! A path that takes less than the world says: what is too large vanishes, as it does behind a router that tells nobody.

use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::*;
use crate::env::{BoxFuture, Network, Payload};

const TAKES: usize = 1300;

struct Narrow(Arc<dyn Network>);

impl Network for Narrow {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(NarrowSocket(self.0.bind(address)?)))
    }

    fn resolve(&self, host: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        self.0.resolve(host, port)
    }

    fn largest_payload(&self, _to: IpAddr) -> Payload {
        Payload::Certain(65_488)
    }
}

#[derive(Debug)]
struct NarrowSocket(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for NarrowSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let datagram = transmit.segment_size.unwrap_or(transmit.contents.len());
        if datagram > TAKES { Ok(()) } else { self.0.try_send(transmit) }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

/// By the transport's probes, which are small: seconds, and not for ever.
#[tokio::test]
async fn a_link_comes_about_where_the_path_takes_less_than_was_certain() {
    let key = MeshKey::generate().unwrap();
    let site = || {
        let mut env = Env::real(Handle::current());
        env.network = Arc::new(Narrow(env.network.clone()));
        let identity = Identity::ephemeral(&*env.random).unwrap();
        Site::of(&identity, &key, env, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
    };
    let (one, two) = (site(), site());
    let (dialled, accepted) = two.dialled_by(&one).await;
    assert_eq!((dialled.peer(), accepted.peer()), (two.node, one.node));
}
