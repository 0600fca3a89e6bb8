//! What a node knows of the others by what was said on its networks; pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use meshmq::NodeId;
use meshmq::discovery::Found;

use crate::network::LanId;

/// Where somebody is, as it was said on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    pub(super) node: NodeId,
    pub(super) incarnation: u64,
    pub(super) addresses: Vec<SocketAddr>,
    /// The LAN that it was said on; `None` within a host.
    pub(super) lan: Option<LanId>,
}

/// Who is there. Every time is one since the start of the run.
#[derive(Debug, Default)]
pub(super) struct Records {
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Debug)]
struct Peer {
    incarnation: u64,
    addresses: BTreeMap<SocketAddr, Record>,
    /// The records are no longer true from then on: a goodbye, or a doubt that nobody answers.
    ends: Option<Duration>,
    /// Until when a doubt is not heard.
    trusted_until: Duration,
    patience: Duration,
}

#[derive(Debug)]
struct Record {
    lan: Option<LanId>,
    heard: Duration,
    /// Whether it was asked for, being about to run out.
    asked: bool,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Something was said; gives what is new in it.
    pub(super) fn heard(&mut self, now: Duration, here: &Here) -> Option<Found> {
        let new = || Peer {
            incarnation: here.incarnation,
            addresses: BTreeMap::new(),
            ends: None,
            trusted_until: Duration::ZERO,
            patience: FIRST_PATIENCE,
        };
        let peer = self.peers.entry(here.node).or_insert_with(new);
        let before = peer.incarnation;
        if before != here.incarnation {
            *peer = new();
        }
        let known: Vec<SocketAddr> = peer.addresses.keys().copied().collect();
        // What the same network said before and does not say now is flushed (RFC 6762, 10.2).
        peer.addresses.retain(|_, record| record.lan != here.lan || now < record.heard + FLUSHED_AFTER);
        for address in &here.addresses {
            peer.addresses.insert(*address, Record { lan: here.lan, heard: now, asked: false });
        }
        peer.ends = None;
        let is_new = before != here.incarnation || !peer.addresses.keys().eq(&known);
        is_new.then(|| peer.seen(here.node))
    }

    /// It has said goodbye.
    pub(super) fn left(&mut self, now: Duration, node: NodeId, incarnation: u64) {
        if let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.incarnation == incarnation) {
            peer.ends = Some(now + GOODBYE);
        }
    }

    /// It is not where it is said to be. True when the network is to be asked: what it does not confirm then ends.
    pub(super) fn doubted(&mut self, now: Duration, node: NodeId) -> bool {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| now >= peer.trusted_until) else { return false };
        peer.trusted_until = now + peer.patience;
        peer.patience = (peer.patience * 2).min(LAST_PATIENCE);
        peer.ends.get_or_insert(now + VERIFIED_WITHIN);
        true
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Duration> {
        let records = self.peers.values().flat_map(|peer| peer.addresses.values()).map(Record::next);
        records.chain(self.peers.values().filter_map(|peer| peer.ends)).min()
    }

    /// Does what it is time for: gives what ends, and whether the network is to be asked for what is about to.
    pub(super) fn act(&mut self, now: Duration) -> (Vec<Found>, bool) {
        let (mut news, mut ask) = (Vec::new(), false);
        self.peers.retain(|node, peer| {
            let before = peer.addresses.len();
            if peer.ends.is_some_and(|at| at <= now) {
                peer.addresses.clear();
            }
            peer.addresses.retain(|_, record| now < record.heard + TIME_TO_LIVE);
            for record in peer.addresses.values_mut().filter(|record| record.next() <= now) {
                record.asked = true;
                ask = true;
            }
            if peer.addresses.len() != before {
                news.push(peer.seen(*node));
            }
            !peer.addresses.is_empty()
        });
        (news, ask)
    }
}

impl Peer {
    /// Without an address: the hint is withdrawn.
    fn seen(&self, node: NodeId) -> Found {
        let addresses = self.addresses.keys().copied().collect();
        Found::Seen { node: Some(node), incarnation: Some(self.incarnation), in_touch: false, addresses }
    }
}

impl Record {
    fn next(&self) -> Duration {
        self.heard + if self.asked { TIME_TO_LIVE } else { ASKED_AFTER }
    }
}

/// How long a record is taken to be true (RFC 6762, 10).
const TIME_TO_LIVE: Duration = Duration::from_secs(120);
/// When it is asked for: after 80 % of that (RFC 6762, 5.2).
const ASKED_AFTER: Duration = Duration::from_secs(96);
/// After a goodbye a record lives for so long (RFC 6762, 10.1).
const GOODBYE: Duration = Duration::from_secs(1);
/// Records of the same moment complete each other.
const FLUSHED_AFTER: Duration = Duration::from_secs(1);
/// A doubted record that nobody confirms for so long ends.
const VERIFIED_WITHIN: Duration = Duration::from_secs(3);
/// After a doubt, how long further ones are not heard; doubled each time up to [`LAST_PATIENCE`].
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
const LAST_PATIENCE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_bytes([1; 32]);

    fn here(lan: u8, incarnation: u64, addresses: &[&str]) -> Here {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        Here { node: NODE, incarnation, addresses, lan: Some(LanId::nth(lan)) }
    }

    fn seen(incarnation: u64, addresses: &[&str]) -> Found {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        Found::Seen { node: Some(NODE), incarnation: Some(incarnation), in_touch: false, addresses }
    }

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn sightings_grow_with_what_is_said_and_shrink_with_what_no_longer_is() {
        let mut records = Records::default();
        let (v4, v6, other) = ("10.1.0.1:7", "[fd00:0:0:1::1]:7", "10.2.0.1:7");
        assert_eq!(records.heard(s(0), &here(1, 1, &[v4])), Some(seen(1, &[v4])));
        assert_eq!(records.heard(s(0), &here(1, 1, &[v6])), Some(seen(1, &[v4, v6])));
        assert_eq!(records.heard(s(0), &here(1, 1, &[v6])), None, "nothing new");
        assert_eq!(records.heard(s(5), &here(2, 1, &[other])), Some(seen(1, &[v4, other, v6])));
        assert_eq!(records.heard(s(9), &here(1, 1, &["10.1.0.9:7"])), Some(seen(1, &["10.1.0.9:7", other])));
        assert_eq!(records.heard(s(9), &here(1, 2, &[v4])), Some(seen(2, &[v4])), "another life");
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn a_record_is_asked_for_before_it_runs_out_after_two_minutes() {
        let mut records = Records::default();
        let v4 = "10.1.0.1:7";
        records.heard(s(10), &here(1, 1, &[v4]));
        assert_eq!(records.next(), Some(s(106)));
        assert_eq!(records.act(s(105)), (vec![], false));
        assert_eq!(records.act(s(106)), (vec![], true));
        assert_eq!(records.next(), Some(s(130)));
        assert_eq!(records.heard(s(107), &here(1, 1, &[v4])), None);
        assert_eq!(records.next(), Some(s(203)), "confirmed");
        records.act(s(203));
        assert_eq!(records.act(s(227)), (vec![seen(1, &[])], false));
        assert_eq!((records.len(), records.next()), (0, None));
    }

    #[test]
    fn a_goodbye_ends_it_after_a_second_and_a_doubt_after_three() {
        let mut records = Records::default();
        let v4 = "10.1.0.1:7";
        records.heard(s(10), &here(1, 1, &[v4]));
        records.left(s(20), NODE, 7);
        assert_eq!(records.next(), Some(s(106)), "another life's");
        records.left(s(20), NODE, 1);
        assert_eq!(records.next(), Some(s(21)));
        assert_eq!(records.act(s(21)), (vec![seen(1, &[])], false));

        records.heard(s(30), &here(1, 2, &[v4]));
        assert!(records.doubted(s(31), NODE) && !records.doubted(s(40), NODE));
        assert_eq!(records.heard(s(32), &here(1, 2, &[v4])), None);
        assert_eq!(records.act(s(40)), (vec![], false), "confirmed");
        assert!(records.doubted(s(41), NODE) && !records.doubted(s(60), NODE), "more patience than before");
        assert_eq!(records.act(s(44)), (vec![seen(2, &[])], false));
        assert!(!records.doubted(s(90), NODE));
    }
}
