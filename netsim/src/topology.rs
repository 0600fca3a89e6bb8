//! Laying out the network: LANs, hosts on them, routers between them, and what is cut.

use std::fmt;
use std::time::Duration;

use crate::host::Host;
use crate::link::{Link, words};
use crate::network::{CutId, Families, HostId, LanId, RouterId};
use crate::sim::Sim;

/// The network of a run, laid out.
impl Sim {
    /// A new LAN, with [`Link::lan`] or what [`Sim::set_link`] has said between its hosts. The `n`-th one made has the
    /// addresses `10.n.0.0/16` and `fd00:0:0:n::/64`; number 0 is the [default one](Sim::default_lan).
    ///
    /// ```
    /// use netsim::{Sim, Units};
    ///
    /// Sim::run(7, async |sim: Sim| {
    ///     let office = sim.lan("office").latency(1.ms()..5.ms()).loss(0.01);
    ///     let shop = sim.lan("shop").burst_loss(0.02, 5.0);
    ///     sim.router("line", &[&office, &shop]).latency(20.ms()).bandwidth(50_000_000);
    ///     let producer = office.host("producer");
    ///     let workers = shop.hosts("worker", 5);
    ///     sim.partition(&[producer], &workers).during(3.s());
    ///     sim.sleep(10.s()).await;
    /// });
    /// ```
    ///
    /// # Panics
    /// There is a LAN of this name, or there are 256.
    pub fn lan(&self, name: &str) -> Lan {
        Lan { sim: self.clone(), id: self.network().add_lan(name) }
    }

    /// The LAN that is there from the start, named `lan`.
    pub fn default_lan(&self) -> Lan {
        Lan { sim: self.clone(), id: self.network().default_lan() }
    }

    /// A new host on the [default LAN](Sim::default_lan), which is up. The first has the addresses `10.0.0.1` and
    /// `fd00::1`.
    ///
    /// # Panics
    /// There is a host of this name, or there are 65,534.
    pub fn host(&self, name: &str) -> Host {
        self.default_lan().host(name)
    }

    /// A new router, which passes packets on between these LANs. Multicast does not cross it. By itself it takes no time
    /// and loses nothing; what is said of its [`Link`] holds in each direction between each two of the LANs.
    ///
    /// # Panics
    /// There is a router of this name.
    pub fn router(&self, name: &str, lans: &[&Lan]) -> Router {
        let lans: Vec<LanId> = lans.iter().map(|lan| lan.id).collect();
        Router { sim: self.clone(), id: self.network().add_router(name, &lans) }
    }

    /// The link of all LANs, also those to come, for packets sent from now on.
    pub fn set_link(&self, link: Link) {
        self.network().set_link(link);
    }

    /// The link between these two hosts, in both directions, for packets sent from now on. It takes the place of all LANs
    /// and routers between them.
    pub fn set_link_between(&self, a: &Host, b: &Host, link: Link) {
        self.set_link_one_way(a, b, link);
        self.set_link_one_way(b, a, link);
    }

    /// The link from one host to another, for packets sent from now on. It takes the place of all LANs and routers
    /// between them.
    pub fn set_link_one_way(&self, from: &Host, to: &Host, link: Link) {
        self.network().set_link_one_way(from.id(), to.id(), link);
    }

    /// From now on nothing gets through between these hosts. What is on its way arrives.
    pub fn cut(&self, a: &Host, b: &Host) -> Cut {
        self.add_cut(&[a.id()], &[b.id()], true)
    }

    /// From now on nothing gets through from one host to the other.
    pub fn cut_one_way(&self, from: &Host, to: &Host) -> Cut {
        self.add_cut(&[from.id()], &[to.id()], false)
    }

    /// From now on nothing gets through between any of the first hosts and any of the others. A host that is in both
    /// groups reaches neither.
    pub fn partition(&self, a: &[Host], b: &[Host]) -> Cut {
        self.add_cut(&ids(a), &ids(b), true)
    }

    /// From now on nothing gets through from any of the first hosts to any of the others.
    pub fn partition_one_way(&self, from: &[Host], to: &[Host]) -> Cut {
        self.add_cut(&ids(from), &ids(to), false)
    }

    /// Undoes every cut between hosts.
    pub fn heal(&self) {
        self.network().heal();
    }

    fn add_cut(&self, from: &[HostId], to: &[HostId], both_ways: bool) -> Cut {
        Cut { sim: self.clone(), id: self.network().cut(from, to, both_ways) }
    }
}

/// A network whose hosts reach each other directly, by unicast and by multicast; clones are the same LAN.
///
/// What is sent on it meets its [`Link`]: by default all hosts of a LAN have the same. Bandwidth, queue and bursts of
/// loss are each sender's own, as on a switch; a host with a cable of its own has
/// [`set_uplink`](Lan::set_uplink) and [`set_downlink`](Lan::set_downlink) on top. The words that change the link
/// change it for packets sent from now on.
#[derive(Clone)]
pub struct Lan {
    sim: Sim,
    id: LanId,
}

words!(Lan);

impl Lan {
    /// A new host on this LAN, which is up.
    ///
    /// # Panics
    /// There is a host of this name, or no address is left.
    pub fn host(&self, name: &str) -> Host {
        Host::new(self.sim.clone(), name, self.id)
    }

    /// So many new hosts: `worker 0`, `worker 1`, and so on.
    ///
    /// # Panics
    /// There is a host of one of these names, or no address is left.
    pub fn hosts(&self, name: &str, count: usize) -> Vec<Host> {
        (0..count).map(|n| self.host(&format!("{name} {n}"))).collect()
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.sim.network().lan_name(self.id)
    }

    /// Hosts have IPv4 addresses only. By default they have both.
    ///
    /// # Panics
    /// It has hosts already.
    pub fn ipv4_only(&self) -> Self {
        self.sim.network().set_families(self.id, Families::V4);
        self.clone()
    }

    /// Hosts have IPv6 addresses only. By default they have both.
    ///
    /// # Panics
    /// It has hosts already.
    pub fn ipv6_only(&self) -> Self {
        self.sim.network().set_families(self.id, Families::V6);
        self.clone()
    }

    /// The whole link, for packets sent from now on.
    pub fn set_link(&self, link: Link) {
        self.change(|_| link);
    }

    /// What a host's packets meet before they come onto the LAN, on top of the LAN's link; [`Link::ideal`] by default.
    ///
    /// # Panics
    /// The host has never been on this LAN.
    pub fn set_uplink(&self, host: &Host, link: Link) {
        self.sim.network().set_uplink(host.id(), self.id, link);
    }

    /// What packets meet between the LAN and a host, on top of the LAN's link; [`Link::ideal`] by default.
    ///
    /// # Panics
    /// The host has never been on this LAN.
    pub fn set_downlink(&self, host: &Host, link: Link) {
        self.sim.network().set_downlink(host.id(), self.id, link);
    }

    /// How likely a multicast does not reach a host, each by itself, on top of what the link loses; 0 by default, and 1
    /// for a network that passes no multicast at all.
    ///
    /// # Panics
    /// It is not between 0 and 1.
    pub fn multicast_loss(&self, loss: f64) -> Self {
        assert!((0.0..=1.0).contains(&loss), "a probability is between 0 and 1, not {loss}");
        self.sim.network().set_multicast_loss(self.id, loss);
        self.clone()
    }

    /// Nothing passes, until it is up again: its switch has lost power. What is on its way arrives.
    pub fn down(&self) {
        self.sim.network().set_lan_up(self.id, false);
    }

    /// It works again.
    pub fn up(&self) {
        self.sim.network().set_lan_up(self.id, true);
    }

    pub(crate) fn id(&self) -> LanId {
        self.id
    }

    fn change(&self, change: impl FnOnce(Link) -> Link) -> Self {
        self.sim.network().change_lan_link(self.id, change);
        self.clone()
    }
}

/// What passes packets on between LANs; clones are the same router.
///
/// Packets take the way over the fewest routers, and of several such ways that of the router made first. Changes of the
/// [`Link`] hold for packets that come to the router from now on.
#[derive(Clone)]
pub struct Router {
    sim: Sim,
    id: RouterId,
}

words!(Router);

impl Router {
    /// Its name.
    pub fn name(&self) -> String {
        self.sim.network().router_name(self.id)
    }

    /// The whole link, for packets that come to it from now on.
    pub fn set_link(&self, link: Link) {
        self.change(|_| link);
    }

    /// It passes nothing on, and packets take another way if there is one.
    pub fn down(&self) {
        self.sim.network().set_router_up(self.id, false);
    }

    /// It works again.
    pub fn up(&self) {
        self.sim.network().set_router_up(self.id, true);
    }

    fn change(&self, change: impl FnOnce(Link) -> Link) -> Self {
        self.sim.network().change_router_link(self.id, change);
        self.clone()
    }
}

/// A cut between hosts. It stays when this is dropped, until it is healed.
#[derive(Clone)]
pub struct Cut {
    sim: Sim,
    id: CutId,
}

impl Cut {
    /// Undoes it. Hosts that another cut keeps apart stay so.
    pub fn heal(&self) {
        self.sim.network().heal_cut(self.id);
    }

    /// It heals by itself after so long.
    pub fn during(self, time: Duration) {
        let clock = self.sim.network().clock.clone();
        clock.at(clock.now() + time, move || self.heal());
    }
}

impl fmt::Debug for Lan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lan").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cut").field(&self.id).finish()
    }
}

fn ids(hosts: &[Host]) -> Vec<HostId> {
    hosts.iter().map(Host::id).collect()
}
