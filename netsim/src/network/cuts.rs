//! From whom to whom nothing gets through.

use std::collections::BTreeMap;

use super::HostId;

/// The cuts that there are. They may overlap: what two have cut is whole when both have healed.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    cuts: BTreeMap<CutId, Vec<(HostId, HostId)>>,
    /// How many of them cut a pair.
    pairs: BTreeMap<(HostId, HostId), u32>,
    made: u64,
}

/// A cut's number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CutId(u64);

impl Cuts {
    /// From now on nothing gets from the first of each pair to the second.
    pub(super) fn add(&mut self, pairs: Vec<(HostId, HostId)>) -> CutId {
        let id = CutId(self.made);
        self.made += 1;
        for pair in &pairs {
            *self.pairs.entry(*pair).or_default() += 1;
        }
        self.cuts.insert(id, pairs);
        id
    }

    /// Undoes a cut; false when that was done before.
    pub(super) fn heal(&mut self, id: CutId) -> bool {
        let Some(pairs) = self.cuts.remove(&id) else { return false };
        for pair in pairs {
            if let Some(cuts) = self.pairs.get_mut(&pair) {
                *cuts -= 1;
                if *cuts == 0 {
                    self.pairs.remove(&pair);
                }
            }
        }
        true
    }

    /// Undoes all of them.
    pub(super) fn heal_all(&mut self) {
        self.cuts.clear();
        self.pairs.clear();
    }

    pub(super) fn is_cut(&self, from: HostId, to: HostId) -> bool {
        !self.pairs.is_empty() && self.pairs.contains_key(&(from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_have_cut_is_whole_when_both_have_healed() {
        let (a, b) = (HostId(0), HostId(1));
        let mut cuts = Cuts::default();
        let first = cuts.add(vec![(a, b)]);
        let second = cuts.add(vec![(a, b), (b, a)]);
        assert!(cuts.heal(first));
        assert!(!cuts.heal(first));
        assert!(cuts.is_cut(a, b) && cuts.is_cut(b, a));
        assert!(cuts.heal(second));
        assert!(!cuts.is_cut(a, b) && !cuts.is_cut(b, a));
        cuts.add(vec![(a, b)]);
        cuts.heal_all();
        assert!(!cuts.is_cut(a, b));
    }
}
