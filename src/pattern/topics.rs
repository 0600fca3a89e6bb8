//! Who wants a topic? A tree of the parts of patterns, at whose nodes subscribers are noted.
//!
//! To match a topic, its parts are followed from the root: each step goes to the node of that very part and to the one of
//! `*`, and whoever has a `>` there wants it. What others have subscribed to elsewhere in the tree is never looked at.

use std::collections::HashMap;

/// A subscriber, by its place in the publisher's table.
pub(super) type Place = u32;

/// Patterns, and who has them. No one has the same pattern twice; several patterns of one may match a topic.
#[derive(Debug, Default)]
pub(super) struct Topics {
    root: Branch,
    count: usize,
}

/// A node of the tree: the patterns that begin alike.
#[derive(Debug, Default)]
struct Branch {
    /// What goes on with a part that is said. Only looked up, never walked through.
    parts: HashMap<Box<str>, Self>,
    /// What goes on with `*`.
    any: Option<Box<Self>>,
    /// Whose pattern ends here.
    here: Vec<Place>,
    /// Whose pattern ends in `>` here.
    rest: Vec<Place>,
}

impl Topics {
    /// This one wants what matches the pattern. False: it has said so before.
    pub(super) fn add(&mut self, pattern: &str, place: Place) -> bool {
        let mut branch = &mut self.root;
        let mut parts = pattern.split('.').peekable();
        while let Some(part) = parts.next() {
            if part == ">" && parts.peek().is_none() {
                let added = note(&mut branch.rest, place);
                self.count += usize::from(added);
                return added;
            }
            branch = match part {
                "*" => branch.any.get_or_insert_default(),
                // Looked up twice, as an entry would want the part in an allocation of its own.
                _ if branch.parts.contains_key(part) => branch.parts.get_mut(part).expect("just seen"),
                _ => branch.parts.entry(part.into()).or_default(),
            };
        }
        let added = note(&mut branch.here, place);
        self.count += usize::from(added);
        added
    }

    /// It does not any more. False: it never did.
    pub(super) fn remove(&mut self, pattern: &str, place: Place) -> bool {
        let parts: Vec<&str> = pattern.split('.').collect();
        // As deep as a pattern may be.
        let removed = self.root.remove(&parts, place);
        self.count -= usize::from(removed);
        removed
    }

    /// How many patterns there are, each one's counted by itself.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Calls `each` for whoever wants the topic, once for each of its patterns that match.
    pub(super) fn matches(&self, topic: &str, mut each: impl FnMut(Place)) {
        self.root.matches(topic, &mut each);
    }
}

impl Branch {
    /// Recursion goes as deep as the topic, which has a limited number of parts.
    fn matches(&self, topic: &str, each: &mut impl FnMut(Place)) {
        if !planted!(TrieForgetsRest) || topic.contains('.') {
            self.rest.iter().for_each(|place| each(*place));
        }
        let (part, rest) = match topic.split_once('.') {
            Some((part, rest)) => (part, Some(rest)),
            None => (topic, None),
        };
        // A tree of wildcards alone need not hash the part.
        let said = if self.parts.is_empty() { None } else { self.parts.get(part) };
        for branch in said.into_iter().chain(self.any.as_deref()) {
            match rest {
                Some(rest) => branch.matches(rest, each),
                None => branch.here.iter().for_each(|place| each(*place)),
            }
        }
    }

    fn remove(&mut self, parts: &[&str], place: Place) -> bool {
        let Some((part, rest)) = parts.split_first() else { return forget(&mut self.here, place) };
        if *part == ">" && rest.is_empty() {
            return forget(&mut self.rest, place);
        }
        if *part == "*" {
            let Some(branch) = &mut self.any else { return false };
            let removed = branch.remove(rest, place);
            if branch.is_empty() {
                self.any = None;
            }
            return removed;
        }
        let Some(branch) = self.parts.get_mut(*part) else { return false };
        let removed = branch.remove(rest, place);
        if branch.is_empty() {
            self.parts.remove(*part);
            // What subscriptions that are gone have left must not stay.
            if self.parts.capacity() > 64 && self.parts.len() < self.parts.capacity() / 4 {
                self.parts.shrink_to_fit();
            }
        }
        removed
    }

    fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }
}

/// Whether a topic matches a pattern, one part after the other.
pub(super) fn is_match(pattern: &str, topic: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('.').peekable(), topic.split('.'));
    while let Some(pattern) = patterns.next() {
        let Some(part) = parts.next() else { return false };
        if pattern == ">" && patterns.peek().is_none() {
            return true;
        }
        if pattern != "*" && pattern != part {
            return false;
        }
    }
    parts.next().is_none()
}

/// What every topic that matches the pattern begins with.
pub(super) fn beginning(pattern: &str) -> &str {
    let mut end = 0;
    for part in pattern.split_inclusive('.') {
        if part.starts_with(['*', '>']) {
            return &pattern[..end];
        }
        end += part.len();
    }
    pattern
}

/// In order, so that each one is found quickly; true: it was not there.
fn note(places: &mut Vec<Place>, place: Place) -> bool {
    match places.binary_search(&place) {
        Ok(_) => false,
        Err(at) => {
            places.insert(at, place);
            true
        }
    }
}

fn forget(places: &mut Vec<Place>, place: Place) -> bool {
    match places.binary_search(&place) {
        Ok(at) => {
            places.remove(at);
            true
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Whether they match, written as the documentation says it.
    fn naive(pattern: &[&str], topic: &[&str]) -> bool {
        match (pattern, topic) {
            ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, topic @ ..]) => naive(pattern, topic),
            ([part, pattern @ ..], [same, topic @ ..]) if part == same => naive(pattern, topic),
            ([], []) => true,
            _ => false,
        }
    }

    fn matching(topics: &Topics, topic: &str) -> Vec<Place> {
        let mut found = Vec::new();
        topics.matches(topic, |place| found.push(place));
        found.sort_unstable();
        found
    }

    #[test]
    fn wildcards_stand_for_whole_parts() {
        let mut topics = Topics::default();
        let patterns = ["eu.dax", "eu.*", "eu.>", ">", "*", "*.dax", "eu.*.close", "*.>"];
        for (place, pattern) in patterns.iter().enumerate() {
            assert!(topics.add(pattern, place as Place));
            assert!(!topics.add(pattern, place as Place), "{pattern} twice");
        }
        for (topic, wanted) in [
            ("eu", &[3, 4][..]),
            ("eu.dax", &[0, 1, 2, 3, 5, 7]),
            ("eu.dax.close", &[2, 3, 6, 7]),
            ("us.dax", &[3, 5, 7]),
            ("eu.dax.close.now", &[2, 3, 7]),
        ] {
            assert_eq!(matching(&topics, topic), wanted, "{topic}");
        }
        assert_eq!(topics.len(), patterns.len());
    }

    #[test]
    fn nothing_stays_of_patterns_that_are_gone() {
        let mut topics = Topics::default();
        for number in 0..1000 {
            topics.add(&format!("a.{number}.*.b.>"), number);
        }
        for number in 0..1000 {
            assert!(topics.remove(&format!("a.{number}.*.b.>"), number));
            assert!(!topics.remove(&format!("a.{number}.*.b.>"), number));
        }
        assert!(topics.root.is_empty() && topics.root.parts.capacity() <= 64);
        assert_eq!(topics.len(), 0);
    }

    #[test]
    fn room_for_patterns_stays_for_those_that_come_again_until_most_are_gone() {
        let mut topics = Topics::default();
        (0..1000).for_each(|number| assert!(topics.add(&number.to_string(), number)));
        (500..1000).for_each(|number| assert!(topics.remove(&number.to_string(), number)));
        assert!(topics.root.parts.capacity() >= 1000, "{}", topics.root.parts.capacity());
        (10..500).for_each(|number| assert!(topics.remove(&number.to_string(), number)));
        assert!(topics.root.parts.capacity() <= 64, "{}", topics.root.parts.capacity());
        assert_eq!(matching(&topics, "9"), [9]);
        assert_eq!(topics.len(), 10);
    }

    #[test]
    fn the_beginning_is_what_is_said() {
        for (pattern, begins) in [(">", ""), ("*.a", ""), ("eu.>", "eu."), ("eu.dax", "eu.dax"), ("eu.*.close", "eu.")]
        {
            assert_eq!(beginning(pattern), begins, "{pattern}");
        }
    }

    /// Few different parts, so that much matches.
    fn pattern() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "*"]), 1..5)
            .prop_flat_map(|parts| (Just(parts), any::<bool>()))
            .prop_map(|(mut parts, rest)| {
                if rest {
                    parts.pop();
                    parts.push(">");
                }
                parts.join(".")
            })
    }

    fn topic() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d"]), 1..6).prop_map(|parts| parts.join("."))
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_naive_search_finds(
            changes in prop::collection::vec((any::<bool>(), 0..6u32, pattern()), 0..60),
            published in prop::collection::vec(topic(), 1..20),
        ) {
            let (mut topics, mut list) = (Topics::default(), BTreeSet::new());
            for (add, place, pattern) in changes {
                let changed = if add { topics.add(&pattern, place) } else { topics.remove(&pattern, place) };
                let entry = (pattern, place);
                prop_assert_eq!(changed, if add { list.insert(entry) } else { list.remove(&entry) });
            }
            prop_assert_eq!(topics.len(), list.len());
            for topic in published {
                let parts: Vec<_> = topic.split('.').collect();
                let mut wanted: Vec<_> = list
                    .iter()
                    .filter(|(pattern, _)| naive(&pattern.split('.').collect::<Vec<_>>(), &parts))
                    .map(|(_, place)| *place)
                    .collect();
                wanted.sort_unstable();
                prop_assert_eq!(matching(&topics, &topic), wanted);
                for (pattern, _) in &list {
                    prop_assert_eq!(is_match(pattern, &topic), naive(&pattern.split('.').collect::<Vec<_>>(), &parts));
                    prop_assert!(!is_match(pattern, &topic) || topic.starts_with(beginning(pattern)));
                }
            }
            for (pattern, place) in list {
                topics.remove(&pattern, place);
            }
            prop_assert!(topics.root.is_empty());
        }
    }
}
