//! What a network and its hosts go through: named hardships, drawn by the seed, several at a time.
//!
//! | hardship | what happens |
//! |---|---|
//! | flaky Wi-Fi | some hosts lose packets in bursts, and wait for others |
//! | asymmetric cut | what one host sends does not arrive, what is sent to it does |
//! | split brain | two halves do not hear each other |
//! | flapping link | two hosts are cut off from each other and joined, again and again |
//! | thundering herd | all hosts crash, and start in the same instant |
//! | laptop lid | a host sleeps, and wakes much later where it was |
//! | clock step | a host's calendar jumps, ahead or back |
//! | slow consumer | a host's [work](crate::Host::work) takes many times as long |
//! | MTU black hole | large packets of a host vanish without a word |
//! | multicast lost | nobody hears who is there, while one host starts again |
//! | duplicate storm | half of all packets arrive twice, some much later |
//! | bandwidth collapse | a host has the line of another century |
//! | restart loop | a host crashes as soon as it is up, again and again |
//! | mass leave | half of the hosts stop at once, and are back later |
//! | bit rot | packets arrive changed |
//! | long way | a host is far away, and its packets overtake each other |
//!
//! Each lasts for the time it is given and no longer, and leaves everything healed: links as they were, hosts up.

mod scripts;

use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha20Rng;

use crate::check::sometimes;
use crate::host::Host;
use crate::sim::Sim;

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // The table of the module says what they are.
pub enum Hardship {
    AsymmetricCut,
    BandwidthCollapse,
    BitRot,
    ClockStep,
    DuplicateStorm,
    FlakyWifi,
    FlappingLink,
    LaptopLid,
    LongWay,
    MassLeave,
    MtuBlackHole,
    MulticastLost,
    RestartLoop,
    SlowConsumer,
    SplitBrain,
    ThunderingHerd,
}

impl Hardship {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::AsymmetricCut,
        Self::BandwidthCollapse,
        Self::BitRot,
        Self::ClockStep,
        Self::DuplicateStorm,
        Self::FlakyWifi,
        Self::FlappingLink,
        Self::LaptopLid,
        Self::LongWay,
        Self::MassLeave,
        Self::MtuBlackHole,
        Self::MulticastLost,
        Self::RestartLoop,
        Self::SlowConsumer,
        Self::SplitBrain,
        Self::ThunderingHerd,
    ];

    /// Its name, as the trace has it and as [`sometimes!`](crate::sometimes) counts it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AsymmetricCut => "asymmetric cut",
            Self::BandwidthCollapse => "bandwidth collapse",
            Self::BitRot => "bit rot",
            Self::ClockStep => "clock step",
            Self::DuplicateStorm => "duplicate storm",
            Self::FlakyWifi => "flaky Wi-Fi",
            Self::FlappingLink => "flapping link",
            Self::LaptopLid => "laptop lid",
            Self::LongWay => "long way",
            Self::MassLeave => "mass leave",
            Self::MtuBlackHole => "MTU black hole",
            Self::MulticastLost => "multicast lost",
            Self::RestartLoop => "restart loop",
            Self::SlowConsumer => "slow consumer",
            Self::SplitBrain => "split brain",
            Self::ThunderingHerd => "thundering herd",
        }
    }

    /// Whether hosts crash or stop in it.
    pub const fn kills(self) -> bool {
        matches!(self, Self::MassLeave | Self::MulticastLost | Self::RestartLoop | Self::ThunderingHerd)
    }
}

impl fmt::Display for Hardship {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Hardships that are about to strike some hosts: [`Sim::hardships`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens before it strikes"]
pub struct Hardships {
    sim: Sim,
    hosts: Vec<Host>,
    mortal: Vec<Host>,
    only: Option<Vec<Hardship>>,
}

/// What one hardship has to do with.
struct Scene {
    sim: Sim,
    hardship: Hardship,
    /// All hosts that are concerned; never empty.
    hosts: Vec<Host>,
    /// Those that may crash, sleep or be slow; none for a hardship that needs one is none at all.
    mortal: Vec<Host>,
    time: Duration,
    random: ChaCha20Rng,
}

impl Sim {
    /// Hardships for these hosts, one to three of them, drawn by the seed.
    ///
    /// ```
    /// use netsim::{Sim, Units};
    ///
    /// Sim::run(7, async |sim: Sim| {
    ///     let hosts = ["a", "b", "c", "d"].map(|name| sim.host(name));
    ///     hosts[0].run(|host| async move { host.work(5.ms()).await });
    ///     let struck = sim.hardships(&hosts).mortal(&hosts[1..]).strike(20.s()).await;
    ///     assert!((1..=3).contains(&struck.len()));
    ///     assert!(sim.elapsed() <= 20.s() && hosts.iter().all(|host| host.is_up()));
    /// });
    /// ```
    pub fn hardships(&self, hosts: &[Host]) -> Hardships {
        Hardships { sim: self.clone(), hosts: hosts.to_vec(), mortal: hosts.to_vec(), only: None }
    }
}

impl Hardships {
    /// Only these hosts may crash, stop, sleep or become slow; all by default.
    pub fn mortal(self, hosts: &[Host]) -> Self {
        Self { mortal: hosts.to_vec(), ..self }
    }

    /// Exactly these strike, all of them.
    pub fn only(self, hardships: &[Hardship]) -> Self {
        Self { only: Some(hardships.to_vec()), ..self }
    }

    /// They strike, each for some part of this time; when it is over, so are they, and everything is healed. Gives which
    /// ones they were.
    ///
    /// # Cancel safety
    /// Dropped, they go on by themselves until their end.
    pub async fn strike(self, time: Duration) -> Vec<Hardship> {
        let Self { sim, hosts, mortal, only } = self;
        let began = sim.elapsed();
        let mut random = sim.faults_stream();
        let hardships = only.unwrap_or_else(|| draw(&mut random));
        let mut running = Vec::new();
        for hardship in hardships.iter().copied().filter(|_| !hosts.is_empty()) {
            let wait = random.random_range(Duration::ZERO..=time / 4);
            let left = time - wait;
            let scene = Scene {
                sim: sim.clone(),
                hardship,
                hosts: hosts.clone(),
                mortal: mortal.clone(),
                time: random.random_range(left / 4..=left),
                random: sim.faults_stream(),
            };
            let (done, over) = tokio::sync::oneshot::channel();
            sim.spawn_beside(async move {
                scene.sim.sleep(wait).await;
                scene.play().await;
                let _ = done.send(());
            });
            running.push(over);
        }
        for over in running {
            let _ = over.await;
        }
        sim.sleep((began + time).saturating_sub(sim.elapsed())).await;
        hardships
    }
}

/// One to three, each once.
fn draw(random: &mut ChaCha20Rng) -> Vec<Hardship> {
    let mut left = Hardship::ALL.to_vec();
    let count = random.random_range(1..=3);
    (0..count).map(|_| left.swap_remove(random.random_range(0..left.len()))).collect()
}

impl Scene {
    async fn play(mut self) {
        let (sim, hardship) = (self.sim.clone(), self.hardship);
        sometimes::visit(hardship.name());
        sim.note(format!("{hardship} begins, for at most {:?}", self.time));
        self.script().await;
        sim.note(format!("{hardship} is over"));
    }
}
