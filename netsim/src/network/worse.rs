//! What makes the cables of a host worse for a while, on top of what they are. Several may at a time.

use std::sync::Arc;

use super::state::State;
use super::{HostId, Network};
use crate::link::Link;

/// Which of a host's packets are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Both,
}

/// Its number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorseId(u64);

/// All of a host.
#[derive(Clone, Default)]
pub(super) struct Worse {
    made: u64,
    all: Vec<(u64, Way, Change)>,
}

type Change = Arc<dyn Fn(Link) -> Link + Send + Sync>;

impl Worse {
    /// What becomes of the link of the packets that a host sends, or is sent.
    pub(super) fn apply(&self, link: Link, incoming: bool) -> Link {
        let concerned = self.all.iter().filter(|(_, way, _)| incoming || *way == Way::Both);
        concerned.fold(link, |link, (_, _, change)| change(link))
    }
}

impl Network {
    /// From now on the host's cables are what `change` makes of them.
    pub(crate) fn worsen(
        &self,
        host: HostId,
        way: Way,
        change: impl Fn(Link) -> Link + Send + Sync + 'static,
    ) -> WorseId {
        let mut state = self.lock();
        let worse = worse_of(&mut state, host);
        worse.made += 1;
        worse.all.push((worse.made, way, Arc::new(change)));
        WorseId(worse.made)
    }

    /// And now they are not any more.
    pub(crate) fn mend(&self, host: HostId, id: WorseId) {
        let mut state = self.lock();
        worse_of(&mut state, host).all.retain(|(other, _, _)| *other != id.0);
    }
}

fn worse_of(state: &mut State, host: HostId) -> &mut Worse {
    &mut state.host_mut(host).worse
}
