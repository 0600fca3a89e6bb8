//! The world as meshmq takes it: a host's clock, tasks, sockets, names, discovery and randomness as one value.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use meshmq::env::{BoxFuture, Env, Network, Random};
use quinn::AsyncUdpSocket;

use crate::crypto::SeededIds;
use crate::discovery::Mdns;
use crate::host::Host;
use crate::network::Life;
use crate::socket::Socket;

impl Host {
    /// The world of this host's present life, for [`Builder::env`](meshmq::Builder::env): a node that is built with it
    /// lives on this host, finds the nodes of its mesh on the other hosts, and ends when the host crashes.
    ///
    /// Give nodes a key of known bytes: a secret one is another in each run. A node that the scenario itself holds, as
    /// here, goes silent in a crash; one that lives in a task of [`Host::spawn`] ends with it.
    ///
    /// ```
    /// use meshmq::{MeshKey, Node};
    /// use netsim::{Link, Sim};
    ///
    /// Sim::run(7, async |sim: Sim| {
    ///     sim.set_link(Link::lan().loss(0.02));
    ///     let join = |name| {
    ///         let node = Node::builder("demo").name(name).key(MeshKey::from_bytes([7; 32]));
    ///         node.env(sim.host(name).env()).into_future()
    ///     };
    ///     let (a, b) = (join("a").await.unwrap(), join("b").await.unwrap());
    ///     let (push, pull) = (a.push("jobs").await.unwrap(), b.pull("jobs").await.unwrap());
    ///     push.send("hello").await.unwrap();
    ///     let job = pull.recv().await.unwrap();
    ///     assert_eq!(&job[..], b"hello");
    ///     job.ack();
    ///     push.flush().await.unwrap();
    /// });
    /// ```
    pub fn env(&self) -> Env {
        let world = Arc::new(World { host: self.clone(), life: self.life() });
        let mut env = Env::new(self.runtime(), world.clone(), self.crypto(), self.certificate_time(), world.clone());
        env.sources.push(Arc::new(Mdns::new(self.clone())));
        env.key_log = Some(self.key_log());
        env.connection_ids = Some(Arc::new(move || Box::new(SeededIds(world.host.stream()))));
        env
    }
}

/// A host in one of its lives: sockets are bound in no other.
struct World {
    host: Host,
    life: Life,
}

impl Network for World {
    fn bind(&self, address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Socket::bind(self.host.sim().network().clone(), self.life, address)?))
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.host.ips()
    }

    /// The names of hosts are names; addresses are looked up as themselves.
    fn resolve(&self, name: String, port: u16) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        let sim = self.host.sim().clone();
        Box::pin(async move {
            sim.sleep(LOOK_UP).await;
            let ips: Vec<IpAddr> = match name.parse() {
                Ok(ip) => vec![ip],
                Err(_) if name == "localhost" => vec![Ipv4Addr::LOCALHOST.into()],
                Err(_) => match sim.network().host_named(&name) {
                    Some(host) => sim.network().addresses(host),
                    None => return Err(io::Error::new(io::ErrorKind::NotFound, format!("no host is named `{name}`"))),
                },
            };
            Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
        })
    }
}

impl Random for World {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        self.host.fill_random(out);
        Ok(())
    }
}

/// How long a name look-up takes: a server on the LAN.
const LOOK_UP: Duration = Duration::from_millis(1);
