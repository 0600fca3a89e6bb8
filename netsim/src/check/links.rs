//! Who has a link with whom?

use std::collections::BTreeMap;
use std::time::Duration;

use super::books::Time;
use super::{Name, Violation};

/// Holds that links are "within a mesh, and at most one at a time for each two nodes as either of them sees it".
#[derive(Debug, Clone, Default)]
pub struct Links {
    meshes: BTreeMap<Name, Name>,
    /// By who sees it and with whom.
    open: BTreeMap<(Name, Name), u64>,
    steps: Vec<(Duration, Name, Name, u64, bool)>,
}

impl Links {
    /// No nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node, and the mesh that it is in.
    pub fn node(&mut self, node: impl Into<Name>, mesh: impl Into<Name>) {
        self.meshes.insert(node.into(), mesh.into());
    }

    /// A node says that it has a link with another; `link` is a number that no other link has.
    ///
    /// # Errors
    /// The other is of another mesh, or there is a link between the two already.
    pub fn opened(
        &mut self,
        now: Duration,
        at: impl Into<Name>,
        with: impl Into<Name>,
        link: u64,
    ) -> Result<(), Violation> {
        let (at, with) = (at.into(), with.into());
        self.steps.push((now, at.clone(), with.clone(), link, true));
        let mesh = |node: &Name| self.meshes.get(node).cloned();
        if mesh(&at) != mesh(&with) || mesh(&at).is_none() {
            let what = format!("{at} of {:?} has a link with {with} of {:?}", mesh(&at), mesh(&with));
            return Err(self.broken(WITHIN, what, &at, &with));
        }
        match self.open.insert((at.clone(), with.clone()), link) {
            Some(other) if other != link => {
                let what = format!("{at} has links {other} and {link} with {with}");
                Err(self.broken(ONE, what, &at, &with))
            }
            _ => Ok(()),
        }
    }

    /// A node says that a link is over.
    pub fn closed(&mut self, now: Duration, at: impl Into<Name>, with: impl Into<Name>, link: u64) {
        let (at, with) = (at.into(), with.into());
        self.steps.push((now, at.clone(), with.clone(), link, false));
        let key = (at, with);
        if self.open.get(&key) == Some(&link) {
            self.open.remove(&key);
        }
    }

    /// A node has crashed: it has no links.
    pub fn crashed(&mut self, node: impl Into<Name>) {
        let node = node.into();
        self.open.retain(|(at, _), _| *at != node);
    }

    /// The link between two nodes as the first one sees it.
    pub fn between(&self, at: impl Into<Name>, with: impl Into<Name>) -> Option<u64> {
        self.open.get(&(at.into(), with.into())).copied()
    }

    fn broken(&self, rule: &'static str, what: String, a: &Name, b: &Name) -> Violation {
        let of_both = |at: &Name, with: &Name| (at == a && with == b) || (at == b && with == a);
        let line = |(time, at, with, link, opened): &(Duration, Name, Name, u64, bool)| {
            let verb = if *opened { "opens" } else { "closes" };
            of_both(at, with).then(|| format!("{} {at} {verb} link {link} with {with}", Time(*time)))
        };
        Violation::new(rule, what).with_history(self.steps.iter().filter_map(line).collect())
    }
}

const WITHIN: &str = "links are within a mesh";
const ONE: &str = "two nodes have one link";
