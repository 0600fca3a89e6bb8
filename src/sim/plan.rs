//! What a seed makes: which hosts there are, what their applications do, and what goes wrong when.

use super::random::Random;
use super::{MS, SECOND, Time};

/// All that is drawn before a run; what is drawn while it runs are delays and choices.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) hosts: Vec<Role>,
    /// The order of node ids: who chooses the link.
    pub(super) ids: Vec<u8>,
    pub(super) hardships: Vec<(Time, Hardship)>,
    /// When everything heals.
    pub(super) calm: Time,
    pub(super) latency: (Time, Time),
    /// Chunks of a thousand that come late, as they were lost and sent again.
    pub(super) loss: u64,
    pub(super) cuts: Vec<Cut>,
    pub(super) max_failures: Option<u32>,
    /// Both dial at once.
    pub(super) herd: bool,
    /// Bytes a second of a host's writer, while it is slow.
    pub(super) bandwidth: Option<u64>,
    /// The first sequence of each push socket.
    pub(super) first_sequence: u64,
    /// What is settled is told for each message; else only in sum.
    pub(super) tracked: bool,
    /// This host tells of deliveries that it never had.
    pub(super) liar: Option<usize>,
}

/// What is on a host.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) push: Option<Pushing>,
    pub(super) pull: Option<Pulling>,
}

#[derive(Debug, Clone)]
pub(super) struct Pushing {
    pub(super) bound: (u64, u64),
    pub(super) senders: u64,
    /// How many messages each sender sends.
    pub(super) messages: u64,
    /// Between two of them.
    pub(super) pause: Time,
    /// Largest body.
    pub(super) size: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Pulling {
    pub(super) prefetch: Option<u64>,
    pub(super) receivers: u64,
    /// How long a message takes: from, to.
    pub(super) work: (Time, Time),
    /// Of a thousand answers: nacks, rejections, those that never come.
    pub(super) odd: (u64, u64, u64),
}

/// Nothing gets through from these hosts to those, from a time until another.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) at: Time,
    pub(super) until: Time,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Hardship {
    /// The process is gone at once, and starts again later.
    Crash(usize, Time),
    /// Nothing on the host runs for so long.
    Pause(usize, Time),
    /// It shuts down within so long, and starts again later.
    Leave(usize, Time, Time),
    /// The link of two hosts is lost, and the second one learns of it so much later.
    LoseLink(usize, usize, Time),
    /// Lanes of these hosts are lost, their links are not.
    LoseLanes(usize),
    /// They dial although they may have a link.
    Dial(usize, usize),
    /// The host's pull socket closes and another one opens.
    Reopen(usize),
}

impl Plan {
    pub(super) fn draw(random: &mut Random) -> Self {
        let pushers = random.from(1, 3) as usize;
        let pullers = random.from(1, 3) as usize;
        let count = pushers + pullers;
        let prefetch = match random.below(10) {
            0..=3 => None,
            4..=6 => Some(1),
            _ => Some(random.from(2, 5)),
        };
        let mut hosts = Vec::new();
        for host in 0..count {
            let (push, pull) = (host < pushers, host >= pushers);
            let both = random.chance(60);
            hosts.push(Role {
                push: (push || both).then(|| Pushing::draw(random)),
                pull: (pull || both).then(|| Pulling::draw(random, prefetch)),
            });
        }
        let mut ids: Vec<u8> = (1..=count as u8).collect();
        for at in (1..count).rev() {
            ids.swap(at, random.below(at as u64 + 1) as usize);
        }
        let fast = random.chance(500);
        let mut plan = Self {
            hosts,
            ids,
            hardships: Vec::new(),
            calm: random.from(2, 8) * SECOND,
            latency: if fast { (50, 300) } else { (MS, random.from(2, 60) * MS) },
            loss: random.pick(&[0, 0, 20, 100, 300]),
            cuts: Vec::new(),
            max_failures: random.pick(&[None, None, Some(1), Some(2), Some(5)]),
            herd: random.chance(300),
            bandwidth: random.chance(100).then(|| random.from(2_000, 200_000)),
            first_sequence: if random.chance(100) { (1 << 61) - 5_000 - random.below(1_000) } else { 0 },
            tracked: random.chance(750),
            liar: (pullers > 1 && random.chance(200)).then(|| count - 1),
        };
        for _ in 0..random.below(7) {
            plan.draw_hardship(random, count);
        }
        plan.hardships.sort_by_key(|(at, _)| *at);
        plan
    }

    /// One of the named hardships, as netsim has them too.
    fn draw_hardship(&mut self, random: &mut Random, count: usize) {
        let at = random.below(self.calm);
        let host = random.below(count as u64) as usize;
        let other = (host + 1 + random.below(count as u64 - 1) as usize) % count;
        let (own, theirs) = (1 << host, 1 << other);
        let all = (1 << count) - 1;
        let long = |random: &mut Random| match random.below(3) {
            0 => random.from(1, 400) * MS,
            1 => random.from(400, 2_400) * MS,
            _ => random.from(2_400, 6_000) * MS,
        };
        let until = (at + long(random)).min(self.calm);
        let cut = |from: u64, to: u64| Cut { from, to, at, until };
        match random.below(16) {
            // Asymmetric cut.
            0 | 1 => {
                netsim::sometimes!("one-way partition");
                self.cuts.push(cut(own, if random.chance(500) { all } else { theirs }));
            }
            // Split brain.
            2 => {
                let side = random.from(1, all - 1);
                self.cuts.push(cut(side, all & !side));
                self.cuts.push(cut(all & !side, side));
            }
            // Flapping link.
            3 => {
                for nth in 0..random.from(2, 6) {
                    let at = at + nth * 300 * MS;
                    self.hardships.push((at, Hardship::LoseLink(host, other, 0)));
                }
            }
            // Thundering herd: everybody crashes.
            4 => {
                for host in 0..count {
                    let back = random.below(300) * MS;
                    self.hardships.push((at, Hardship::Crash(host, back)));
                }
            }
            // Laptop lid.
            5 | 6 => self.hardships.push((at, Hardship::Pause(host, long(random)))),
            // Restart loop.
            7 => {
                for nth in 0..random.from(2, 4) {
                    self.hardships.push((at + nth * 500 * MS, Hardship::Crash(host, random.below(200) * MS)));
                }
            }
            8 | 9 => self.hardships.push((at, Hardship::Crash(host, random.below(2_000) * MS))),
            // Mass leave.
            10 => {
                let drain = random.pick(&[0, 50 * MS, SECOND]);
                for host in 0..count {
                    if random.chance(300) {
                        continue;
                    }
                    self.hardships.push((at, Hardship::Leave(host, drain, random.below(1_000) * MS)));
                }
            }
            11 => {
                let drain = random.pick(&[0, 10 * MS, 300 * MS, 2 * SECOND]);
                self.hardships.push((at, Hardship::Leave(host, drain, random.below(1_000) * MS)));
                if random.chance(500) {
                    self.hardships
                        .push((at + random.below(MS), Hardship::Leave(other, drain, random.below(1_000) * MS)));
                }
            }
            12 => self.hardships.push((at, Hardship::LoseLanes(host))),
            13 => self.hardships.push((at, Hardship::Dial(host, other))),
            14 => self.hardships.push((at, Hardship::Reopen(host))),
            _ => {
                let later = random.pick(&[0, MS, 100 * MS, 3 * SECOND]);
                self.hardships.push((at, Hardship::LoseLink(host, other, random.below(later + 1))));
            }
        }
    }

    /// Whether what is sent now gets through, or when the cut is over.
    pub(super) fn cut_until(&self, from: usize, to: usize, mut at: Time) -> Option<Time> {
        let mut until = None;
        while let Some(cut) = self
            .cuts
            .iter()
            .find(|cut| cut.from >> from & 1 == 1 && cut.to >> to & 1 == 1 && (cut.at..cut.until).contains(&at))
        {
            at = cut.until;
            until = Some(at);
        }
        until
    }
}

impl Pushing {
    fn draw(random: &mut Random) -> Self {
        let messages = match random.below(4) {
            0 => 1,
            1 => random.from(2, 6),
            _ => random.from(2, 40),
        };
        Self {
            bound: (messages, random.pick(&[100, 1_000, 1 << 30, 1 << 30])),
            senders: random.from(1, 2),
            messages: random.from(2, 25),
            pause: random.pick(&[0, 0, 5 * MS, 100 * MS, 300 * MS]),
            size: random.pick(&[16, 60, 60, 300, 40_000]),
        }
    }
}

impl Pulling {
    fn draw(random: &mut Random, prefetch: Option<u64>) -> Self {
        let odd = |random: &mut Random| random.pick(&[0, 0, 50, 300]);
        Self {
            prefetch,
            receivers: random.from(1, 3),
            // The slow consumer is one of them.
            work: random.pick(&[(0, 0), (0, 2 * MS), (5 * MS, 50 * MS), (110 * MS, 300 * MS), (0, 400 * MS)]),
            odd: (odd(random), odd(random) / 4, odd(random) / 3),
        }
    }
}
