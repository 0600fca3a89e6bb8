//! What each hardship does.

use std::time::Duration;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::{Hardship, Scene};
use crate::host::Host;
use crate::link::Link;
use crate::network::Way;
use crate::units::Units;

impl Scene {
    pub(super) async fn script(&mut self) {
        match self.hardship {
            Hardship::AsymmetricCut => self.asymmetric_cut().await,
            Hardship::BandwidthCollapse => {
                let rate = self.random.random_range(64_000..=1_000_000);
                self.worse_for_one(Way::Both, move |link| link.bandwidth(rate).queue(32 * 1024)).await;
            }
            Hardship::BitRot => self.worse_for_some(Way::In, |link| link.corruption(0.03)).await,
            Hardship::ClockStep => self.clock_step().await,
            Hardship::DuplicateStorm => {
                self.worse_for_some(Way::In, |link| link.duplicates(0.5).jitter(30.ms())).await;
            }
            Hardship::FlakyWifi => {
                let loss = self.random.random_range(0.02..0.2);
                let wifi = move |link: Link| link.latency(2.ms()).jitter(40.ms()).burst_loss(loss, 4.0);
                self.worse_for_some(Way::Both, wifi).await;
            }
            Hardship::FlappingLink => self.flapping_link().await,
            Hardship::LaptopLid => self.laptop_lid().await,
            Hardship::LongWay => {
                self.worse_for_one(Way::Both, |link| link.latency(150.ms()).reorder(0.1, 40.ms())).await;
            }
            Hardship::MassLeave => self.mass_leave().await,
            Hardship::MtuBlackHole => self.worse_for_one(Way::Both, |link| link.mtu(1280)).await,
            Hardship::MulticastLost => self.multicast_lost().await,
            Hardship::RestartLoop => self.restart_loop().await,
            Hardship::SlowConsumer => self.slow_consumer().await,
            Hardship::SplitBrain => self.split_brain().await,
            Hardship::ThunderingHerd => self.thundering_herd().await,
        }
    }

    // --- links ---

    async fn worse_for_one(&mut self, way: Way, worse: impl Fn(Link) -> Link + Send + Sync + Clone + 'static) {
        let hosts = self.some(1);
        self.worse(&hosts, way, worse).await;
    }

    async fn worse_for_some(&mut self, way: Way, worse: impl Fn(Link) -> Link + Send + Sync + Clone + 'static) {
        let count = self.random.random_range(1..=self.hosts.len());
        let hosts = self.some(count);
        self.worse(&hosts, way, worse).await;
    }

    async fn worse(&self, hosts: &[Host], way: Way, worse: impl Fn(Link) -> Link + Send + Sync + Clone + 'static) {
        self.tell(hosts);
        let network = self.sim.network();
        let made: Vec<_> =
            hosts.iter().map(|host| (host.id(), network.worsen(host.id(), way, worse.clone()))).collect();
        self.sim.sleep(self.time).await;
        for (host, id) in made {
            network.mend(host, id);
        }
    }

    // --- cuts ---

    async fn asymmetric_cut(&mut self) {
        let (one, others) = self.split(1);
        self.tell(&one);
        let cut = match self.random.random_bool(0.5) {
            true => self.sim.partition_one_way(&one, &others),
            false => self.sim.partition_one_way(&others, &one),
        };
        self.sim.sleep(self.time).await;
        cut.heal();
    }

    async fn split_brain(&mut self) {
        let count = self.random.random_range(1..=(self.hosts.len() / 2).max(1));
        let (one, other) = self.split(count);
        self.tell(&one);
        let cut = self.sim.partition(&one, &other);
        self.sim.sleep(self.time).await;
        cut.heal();
    }

    async fn flapping_link(&mut self) {
        let two = self.some(2);
        let [a, b] = &two[..] else { return };
        self.tell(&two);
        let end = self.sim.elapsed() + self.time;
        while self.sim.elapsed() < end {
            let cut = self.sim.cut(a, b);
            self.sleep_some(50.ms(), 1500.ms(), end).await;
            cut.heal();
            self.sleep_some(50.ms(), 1500.ms(), end).await;
        }
    }

    async fn multicast_lost(&mut self) {
        self.hosts.iter().for_each(|host| host.set_multicast(false));
        let one = self.mortal.choose(&mut self.random).cloned();
        if let Some(host) = &one {
            self.tell(std::slice::from_ref(host));
            host.crash();
        }
        let end = self.sim.elapsed() + self.time;
        self.sleep_some(0.ms(), 2.s(), end).await;
        one.iter().for_each(Host::restart);
        self.sim.sleep(end.saturating_sub(self.sim.elapsed())).await;
        self.hosts.iter().for_each(|host| host.set_multicast(true));
    }

    // --- lives ---

    async fn thundering_herd(&mut self) {
        self.tell(&self.mortal);
        self.mortal.iter().for_each(Host::crash);
        let end = self.sim.elapsed() + self.time;
        self.sleep_some(10.ms(), self.time, end).await;
        self.mortal.iter().for_each(Host::restart);
    }

    async fn restart_loop(&mut self) {
        let Some(host) = self.mortal.choose(&mut self.random).cloned() else { return };
        self.tell(std::slice::from_ref(&host));
        let end = self.sim.elapsed() + self.time;
        while self.sim.elapsed() < end {
            host.crash();
            self.sleep_some(1.ms(), 500.ms(), end).await;
            host.restart();
            self.sleep_some(1.ms(), 1.s(), end).await;
        }
    }

    async fn mass_leave(&mut self) {
        self.mortal.shuffle(&mut self.random);
        let leaving = self.mortal[..self.mortal.len().div_ceil(2)].to_vec();
        self.tell(&leaving);
        let end = self.sim.elapsed() + self.time;
        let grace = self.random.random_range(Duration::ZERO..=self.time / 2);
        // All at once, and each as long as it needs.
        let stops: Vec<_> = leaving.iter().map(|host| (host.clone(), grace)).collect();
        let stopping = stops.into_iter().map(|(host, grace)| async move { host.stop(grace).await });
        join_all(stopping).await;
        self.sleep_some(1.ms(), self.time, end).await;
        leaving.iter().for_each(Host::restart);
    }

    async fn laptop_lid(&mut self) {
        let Some(host) = self.mortal.choose(&mut self.random).cloned() else { return };
        self.tell(std::slice::from_ref(&host));
        host.pause();
        self.sim.sleep(self.time).await;
        host.resume();
    }

    // --- what a host is like ---

    async fn slow_consumer(&mut self) {
        let Some(host) = self.mortal.choose(&mut self.random).cloned() else { return };
        self.tell(std::slice::from_ref(&host));
        let before = host.set_slowness(self.random.random_range(10..=200));
        self.sim.sleep(self.time).await;
        host.set_slowness(before);
    }

    async fn clock_step(&mut self) {
        let host = &self.some(1)[0];
        self.tell(std::slice::from_ref(host));
        let by = Duration::from_secs(self.random.random_range(1..=400 * 24 * 60 * 60));
        match self.random.random_bool(0.5) {
            true => {
                host.step_calendar_ahead(by);
                self.sim.sleep(self.time).await;
                host.step_calendar_back(by);
            }
            false => {
                host.step_calendar_back(by);
                self.sim.sleep(self.time).await;
                host.step_calendar_ahead(by);
            }
        }
    }

    // --- whom it strikes, and for how long ---

    /// So many hosts, if there are as many.
    fn some(&mut self, count: usize) -> Vec<Host> {
        self.split(count).0
    }

    fn split(&mut self, count: usize) -> (Vec<Host>, Vec<Host>) {
        let mut all = self.hosts.clone();
        all.shuffle(&mut self.random);
        let others = all.split_off(count.min(all.len()));
        (all, others)
    }

    async fn sleep_some(&mut self, least: Duration, most: Duration, end: Duration) {
        let wait = self.random.random_range(least..=most.max(least));
        self.sim.sleep(wait.min(end.saturating_sub(self.sim.elapsed()))).await;
    }

    fn tell(&self, hosts: &[Host]) {
        let names: Vec<_> = hosts.iter().map(Host::name).collect();
        self.sim.note(format!("{} strikes {}", self.hardship, names.join(", ")));
    }
}

/// Waits for all of them, side by side.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) {
    let mut waiting: Vec<_> = futures.map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|cx| {
        for place in &mut waiting {
            if place.as_mut().is_some_and(|future| future.as_mut().poll(cx).is_ready()) {
                *place = None;
            }
        }
        if waiting.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
