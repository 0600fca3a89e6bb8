//! What breaks by itself, at random and again and again: one line each in a scenario.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha20Rng;

use crate::host::Host;
use crate::sim::Sim;

/// Faults of a run that go on beside the scenario: [`Sim::faults`].
#[derive(Debug, Clone)]
pub struct Faults(Sim);

/// How often something happens: [`every`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every(Duration);

/// How long it takes until a host is up again: [`restart_after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartAfter(Duration);

/// Once in so long on average: evenly between a half and one and a half of it.
pub fn every(time: Duration) -> Every {
    Every(time)
}

/// A host that has crashed starts again after so long.
pub fn restart_after(time: Duration) -> RestartAfter {
    RestartAfter(time)
}

/// A fault that goes on until it is stopped, or the scenario ends. Dropped, it goes on.
#[derive(Debug, Clone)]
pub struct Fault {
    sim: Sim,
    stopped: Arc<AtomicBool>,
}

impl Faults {
    pub(crate) fn new(sim: Sim) -> Self {
        Self(sim)
    }

    /// One of these hosts, at random among those that are up, loses power, and starts again later; what its
    /// [program](Host::run) is begins anew.
    ///
    /// ```
    /// use netsim::{Sim, Units, every, restart_after};
    ///
    /// Sim::run(7, async |sim: Sim| {
    ///     let workers = [sim.host("a"), sim.host("b")];
    ///     sim.faults().crash_random(&workers, every(2.s()), restart_after(500.ms())).during(30.s());
    ///     sim.run_for(40.s()).await;
    ///     assert!(workers.iter().all(|host| host.is_up()));
    ///     assert!(sim.trace().log.iter().filter(|line| line.ends_with(" crashes")).count() >= 10);
    /// });
    /// ```
    pub fn crash_random(&self, hosts: &[Host], every: Every, restart: RestartAfter) -> Fault {
        let hosts = hosts.to_vec();
        self.again_and_again(every, move |sim, random| {
            let up: Vec<_> = hosts.iter().filter(|host| host.is_up()).collect();
            let Some(host) = up.choose(random) else { return };
            host.crash();
            let host = (*host).clone();
            let at = sim.elapsed() + restart.0;
            sim.at(at, move || host.restart());
        })
    }

    /// Nothing passes between two of these hosts, at random, for so long.
    pub fn cut_random(&self, hosts: &[Host], every: Every, lasting: Duration) -> Fault {
        let hosts = hosts.to_vec();
        self.again_and_again(every, move |sim, random| {
            let Some(a) = hosts.choose(random) else { return };
            let others: Vec<_> = hosts.iter().filter(|host| host.name() != a.name()).collect();
            if let Some(b) = others.choose(random) {
                sim.cut(a, b).during(lasting);
            }
        })
    }

    fn again_and_again(&self, every: Every, happen: impl Fn(&Sim, &mut ChaCha20Rng) + Send + 'static) -> Fault {
        let fault = Fault { sim: self.0.clone(), stopped: Arc::default() };
        let mut random = self.0.faults_stream();
        let (sim, stopped) = (self.0.clone(), fault.stopped.clone());
        self.0.spawn_beside(async move {
            loop {
                sim.sleep(random.random_range(every.0 / 2..=every.0 * 3 / 2)).await;
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                happen(&sim, &mut random);
            }
        });
        fault
    }
}

impl Fault {
    /// It happens no more. What has happened is still made good: hosts start again.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// It stops by itself after so long.
    pub fn during(self, time: Duration) {
        let at = self.sim.elapsed() + time;
        self.sim.clone().at(at, move || self.stop());
    }
}
