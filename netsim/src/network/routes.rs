//! Which router is next on the way from one LAN to another? Pure.

use std::collections::VecDeque;

use super::{LanId, RouterId};

/// The next step from each LAN to each other: over as few routers as there are.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// By the LAN that a packet is on, and by that of its address.
    next: Vec<Vec<Option<(RouterId, LanId)>>>,
}

impl Routes {
    /// `routers`: those that work, and the LANs that each joins. Of ways of one length the first router's is taken.
    pub(super) fn find(lans: usize, routers: &[(RouterId, &[LanId])]) -> Self {
        let next = (0..lans).map(|from| Self::from(LanId(from as u8), lans, routers)).collect();
        Self { next }
    }

    /// The router to take, and the LAN behind it.
    pub(super) fn next(&self, from: LanId, to: LanId) -> Option<(RouterId, LanId)> {
        *self.next.get(usize::from(from.0))?.get(usize::from(to.0))?
    }

    fn from(from: LanId, lans: usize, routers: &[(RouterId, &[LanId])]) -> Vec<Option<(RouterId, LanId)>> {
        let mut first = vec![None; lans];
        let mut reached = VecDeque::from([from]);
        while let Some(lan) = reached.pop_front() {
            for (router, joined) in routers.iter().filter(|(_, joined)| joined.contains(&lan)) {
                for behind in joined.iter().copied().filter(|behind| *behind != from) {
                    let step = if lan == from { Some((*router, behind)) } else { first[usize::from(lan.0)] };
                    let way = &mut first[usize::from(behind.0)];
                    if way.is_none() {
                        *way = step;
                        reached.push_back(behind);
                    }
                }
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_leads_over_as_few_routers_as_there_are() {
        let (a, b, c, d) = (LanId(0), LanId(1), LanId(2), LanId(3));
        let (first, second, third) = (RouterId(0), RouterId(1), RouterId(2));
        let routes = Routes::find(5, &[(first, &[a, b]), (second, &[b, c]), (third, &[a, c, d])]);
        for (from, to, expected) in [
            (a, b, Some((first, b))),
            (a, c, Some((third, c))),
            (b, c, Some((second, c))),
            (b, d, Some((first, a))),
            (d, b, Some((third, a))),
            (a, a, None),
            (a, LanId(4), None),
            (LanId(4), a, None),
            (a, LanId(9), None),
        ] {
            assert_eq!(routes.next(from, to), expected, "{from:?} {to:?}");
        }
    }
}
