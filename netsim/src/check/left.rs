//! What is left of a node after its end?

use std::fmt;
use std::sync::Weak;

use super::Violation;

/// Holds that "after its end nothing is left of a node": neither tasks, which [`Host::tasks`](crate::Host::tasks)
/// counts, nor memory that somebody still holds.
///
/// ```
/// # use std::sync::Arc;
/// use netsim::check::Left;
///
/// let state = Arc::new(7);
/// let mut left = Left::new();
/// left.memory("the state", &Arc::downgrade(&state));
/// assert!(left.check().is_err());
/// drop(state);
/// left.check().unwrap();
/// ```
#[derive(Default)]
pub struct Left(Vec<(String, Counts)>);

type Counts = Box<dyn Fn() -> usize + Send>;

impl Left {
    /// Nothing is watched.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches what nobody may hold any more.
    pub fn memory<T: Send + Sync + 'static>(&mut self, what: impl Into<String>, held: &Weak<T>) {
        let held = held.clone();
        self.count(what, move || held.strong_count());
    }

    /// Watches a count that has to be 0.
    pub fn count(&mut self, what: impl Into<String>, count: impl Fn() -> usize + Send + 'static) {
        self.0.push((what.into(), Box::new(count)));
    }

    /// # Errors
    /// Something is left: all of that.
    pub fn check(&self) -> Result<(), Violation> {
        let left = self.0.iter().map(|(what, count)| (what, count())).filter(|(_, count)| *count > 0);
        let left: Vec<String> = left.map(|(what, count)| format!("{count} × {what}")).collect();
        if left.is_empty() { Ok(()) } else { Err(Violation::new(NOTHING, left.join(", "))) }
    }
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(what, count)| (what, count()))).finish()
    }
}

const NOTHING: &str = "after its end nothing is left of a node";
