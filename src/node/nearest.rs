//! Which name was meant: `jbos` → `jobs`.

/// The name among `names` that is most similar to `wanted`, if one is similar enough to be a slip of the fingers.
pub(super) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = wanted.chars().collect();
    // A third of the name may be wrong, two letters of a short one: swapped neighbours count as one.
    let mut limit = (wanted.len() / 3).clamp(1, 5);
    let mut best = None;
    for name in names.into_iter().take(MAX_NAMES) {
        let length = name.chars().count();
        if length.abs_diff(wanted.len()) > limit {
            continue;
        }
        let distance = distance(&wanted, &name.chars().collect::<Vec<_>>());
        if distance > 0 && (distance < limit || distance == limit && best.is_none()) {
            limit = distance;
            best = Some(name);
        }
    }
    best
}

/// Changes, insertions, deletions and swaps of neighbours that turn one into the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let changed = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut cost = changed.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(before[j - 2] + 1);
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

/// Most names that are looked through: peers may tell thousands, of 255 bytes.
const MAX_NAMES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_found() {
        for (wanted, names, expected) in [
            ("jbos", &["ticks", "jobs"][..], Some("jobs")),
            ("job", &["jobs"], Some("jobs")),
            ("thumbnails", &["thumbs", "thumbnials", "thumb-nails"], Some("thumbnials")),
            ("jobs", &["jobs"], None),
            ("jobs", &["ticks", "rooms"], None),
            ("a", &["b"], Some("b")),
            ("", &[], None),
        ] {
            assert_eq!(nearest(wanted, names.iter().copied()), expected, "{wanted}");
        }
    }
}
