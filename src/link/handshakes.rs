//! Who may be proving itself now: how many together, and how many from one place.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::wire::limits::{HANDSHAKES_OF_ONE, MAX_HANDSHAKES, PROOF_FROM};

/// The handshakes of an endpoint that others have begun.
#[derive(Debug)]
pub(super) struct Handshakes {
    room: Arc<Semaphore>,
    /// How many each place has under way.
    by_place: Mutex<BTreeMap<IpAddr, usize>>,
}

/// What is done with somebody who connects.
#[derive(Debug)]
pub(super) enum Admission {
    /// The handshake begins.
    Begin(Turn),
    /// First the address has to be proven.
    Prove,
    /// There is no room. The peer's transport sends its first packet again, and may find room then.
    Wait,
}

/// A handshake under way; dropped, its place is free.
#[derive(Debug)]
pub(super) struct Turn {
    handshakes: Arc<Handshakes>,
    place: IpAddr,
    _room: OwnedSemaphorePermit,
}

impl Handshakes {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { room: Arc::new(Semaphore::new(MAX_HANDSHAKES)), by_place: Mutex::default() })
    }

    pub(super) fn under_way(&self) -> usize {
        MAX_HANDSHAKES - self.room.available_permits()
    }

    /// `proven`: the address is shown to be the sender's, or can not be shown any more.
    pub(super) fn admit(self: &Arc<Self>, from: IpAddr, proven: bool) -> Admission {
        let busy = self.under_way() >= PROOF_FROM;
        if busy && !proven {
            return Admission::Prove;
        }
        let place = place(from);
        let mut by_place = self.lock();
        let here = by_place.get(&place).copied().unwrap_or(0);
        // Many processes of this host may start at once, and no stranger is among them.
        if busy && here >= HANDSHAKES_OF_ONE && !place.is_loopback() {
            return Admission::Wait;
        }
        let Ok(room) = self.room.clone().try_acquire_owned() else { return Admission::Wait };
        by_place.insert(place, here + 1);
        Admission::Begin(Turn { handshakes: self.clone(), place, _room: room })
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> &Semaphore {
        &self.room
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.by_place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut by_place = self.handshakes.lock();
        if let Some(here) = by_place.get_mut(&self.place) {
            *here -= 1;
            if *here == 0 {
                by_place.remove(&self.place);
            }
        }
    }
}

/// Whoever has one IPv6 address has, as a rule, all of its network of 64 bits.
fn place(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn begin(handshakes: &Arc<Handshakes>, from: &str) -> Option<Turn> {
        match handshakes.admit(ip(from), true) {
            Admission::Begin(turn) => Some(turn),
            Admission::Prove | Admission::Wait => None,
        }
    }

    #[test]
    fn one_place_leaves_room_for_others() {
        let handshakes = Handshakes::new();
        let mut turns: Vec<_> = (0..MAX_HANDSHAKES).map_while(|_| begin(&handshakes, "192.0.2.1")).collect();
        assert_eq!(turns.len(), PROOF_FROM, "as long as it is quiet it may have all");
        assert!(matches!(handshakes.admit(ip("192.0.2.2"), false), Admission::Prove));
        for host in 1..=255 {
            // Of one network of IPv6, which is one place.
            turns.extend(begin(&handshakes, &format!("2001:db8::{host:x}")));
        }
        assert_eq!(turns.len(), PROOF_FROM + HANDSHAKES_OF_ONE);
        turns.extend(begin(&handshakes, "192.0.2.2"));
        assert_eq!(turns.len(), PROOF_FROM + HANDSHAKES_OF_ONE + 1, "there is room for somebody else");
        drop(turns);
        assert_eq!((handshakes.under_way(), handshakes.lock().len()), (0, 0));
    }

    #[test]
    fn processes_of_this_host_may_have_all_the_room_there_is() {
        let handshakes = Handshakes::new();
        let turns: Vec<_> = (0..2 * MAX_HANDSHAKES).map_while(|_| begin(&handshakes, "::ffff:127.0.0.1")).collect();
        assert_eq!(turns.len(), MAX_HANDSHAKES);
        assert!(matches!(handshakes.admit(ip("192.0.2.2"), true), Admission::Wait));
    }
}
