//! The bytes of subscriptions: what a subscriber tells its publishers, both directions side by side.
//!
//! ```text
//! SUBSCRIBE  version (varint) │ flags │ [epoch (varint)] │ [stream (varint) │ position (varint)] │ change*
//! change     1 to add, 0 to remove │ length (1) │ pattern
//! ```
//! A change that does not fit one frame comes in parts of one version, and takes effect at the last.

use super::frame::{Numbers, Payload};
use super::limits::MAX_CONTROL_FRAME;
use super::{Violation, varint};
use crate::error::{check_pattern, check_topic};

/// The changes, of this part and the next ones, are all there is: what was before is forgotten.
const WHOLE: u8 = 1;
/// Another part of this version follows.
const MORE: u8 = 1 << 1;
/// Who subscribes follows: first on each lane, and only there.
const WHO: u8 = 1 << 2;
/// The subscriber goes on where an earlier lane was lost: the stream and the position follow. Only with `WHO`.
const RESUMES: u8 = 1 << 3;
const KNOWN: u8 = WHOLE | MORE | WHO | RESUMES;

/// Room for one more change is kept.
const FULL: usize = MAX_CONTROL_FRAME - 2 - super::limits::MAX_TOPIC;

/// What a frame says beside its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscribe {
    /// Above all before it, but for the parts of one.
    pub(crate) version: u64,
    pub(crate) whole: bool,
    pub(crate) more: bool,
    pub(crate) who: Option<Who>,
}

/// Who subscribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    /// Names the socket, also when it comes again over another lane.
    pub(crate) epoch: u64,
    /// Where it goes on. `None`: it begins anew.
    pub(crate) at: Option<At>,
}

/// How far a subscriber has got with a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    /// The publisher's number for what the subscriber has coming. One that was forgotten and comes again has another one.
    pub(crate) stream: u64,
    /// So many of its messages have arrived, or were told to be missing.
    pub(crate) position: u64,
}

/// One pattern more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) add: bool,
    pub(crate) pattern: &'a str,
}

/// Writes a version in as few frames as it takes; `put` is given the payload of each.
pub(crate) fn write<'a>(
    version: u64,
    whole: bool,
    who: Option<Who>,
    changes: impl IntoIterator<Item = Change<'a>>,
    mut put: impl FnMut(&[u8]),
) {
    let mut changes = changes.into_iter().peekable();
    let mut who = who;
    loop {
        let mut payload = Payload::of(&[version]);
        let flags_at = payload.0.len();
        let mut flags = if whole { WHOLE } else { 0 };
        payload.0.push(0);
        if let Some(Who { epoch, at }) = who.take() {
            flags |= WHO;
            payload.push(epoch);
            if let Some(At { stream, position }) = at {
                flags |= RESUMES;
                payload.push(stream);
                payload.push(position);
            }
        }
        while payload.0.len() < FULL
            && let Some(Change { add, pattern }) = changes.next()
        {
            payload.0.extend([u8::from(add), pattern.len() as u8]);
            payload.0.extend(pattern.as_bytes());
        }
        let more = changes.peek().is_some();
        payload.0[flags_at] = flags | if more { MORE } else { 0 };
        put(&payload.0);
        if !more {
            return;
        }
    }
}

/// Reads a frame; `each` is given its changes.
///
/// # Errors
/// It ends too early, has a flag that is not known, or a pattern that is none; or what `each` says.
pub(crate) fn read<'a>(
    payload: &'a [u8],
    mut each: impl FnMut(Change<'a>) -> Result<(), Violation>,
) -> Result<Subscribe, Violation> {
    const SHORT: Violation = Violation("a subscription ends too early");
    let (version, len) = varint::get(payload).ok_or(SHORT)?;
    let flags = *payload.get(len).ok_or(SHORT)?;
    if flags & !KNOWN != 0 || flags & (WHO | RESUMES) == RESUMES {
        return Err(Violation("a subscription has a flag that this revision does not know"));
    }
    let mut rest = &payload[len + 1..];
    let mut who = None;
    if flags & WHO != 0 {
        let mut numbers = Numbers::new(rest);
        let epoch = numbers.next()?;
        let resumes = flags & RESUMES != 0;
        let at = if resumes { Some(At { stream: numbers.next()?, position: numbers.next()? }) } else { None };
        rest = numbers.rest();
        who = Some(Who { epoch, at });
    }
    while let [add, length, ..] = *rest {
        let pattern = rest.get(2..2 + usize::from(length)).ok_or(SHORT)?;
        rest = &rest[2 + pattern.len()..];
        if add > 1 {
            return Err(Violation("a subscription neither adds nor removes a pattern"));
        }
        each(Change { add: add == 1, pattern: read_pattern(pattern)? })?;
    }
    if !rest.is_empty() {
        return Err(SHORT);
    }
    Ok(Subscribe { version, whole: flags & WHOLE != 0, more: flags & MORE != 0, who })
}

/// A topic of a published message.
pub(crate) fn read_topic(bytes: &[u8]) -> Result<&str, Violation> {
    const BAD: Violation = Violation("a topic is empty, above its limits, or has characters that it must not have");
    let text = std::str::from_utf8(bytes).map_err(|_| BAD)?;
    check_topic(text).map_err(|_| BAD)?;
    Ok(text)
}

fn read_pattern(bytes: &[u8]) -> Result<&str, Violation> {
    const BAD: Violation = Violation("a pattern is empty, above its limits, or no pattern of topics");
    let text = std::str::from_utf8(bytes).map_err(|_| BAD)?;
    check_pattern(text).map_err(|_| BAD)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::limits::MAX_TOPIC;

    fn parts(version: u64, whole: bool, who: Option<Who>, changes: &[(bool, String)]) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        let changes = changes.iter().map(|(add, pattern)| Change { add: *add, pattern });
        write(version, whole, who, changes, |payload| parts.push(payload.to_vec()));
        parts
    }

    #[test]
    fn what_is_too_large_for_one_frame_comes_in_parts() {
        let changes: Vec<_> =
            (0..1000).map(|number| (number % 3 > 0, format!("{number}.{}", "x".repeat(200)))).collect();
        let who = Some(Who { epoch: 7, at: Some(At { stream: 1, position: 9 }) });
        let parts = parts(5, true, who, &changes);
        assert!(parts.len() > 1);
        let (mut seen, mut heads) = (Vec::new(), Vec::new());
        for part in &parts {
            assert!(part.len() <= MAX_CONTROL_FRAME);
            let head = read(part, |Change { add, pattern }| {
                seen.push((add, pattern.to_owned()));
                Ok(())
            });
            heads.push(head.unwrap());
        }
        assert_eq!(seen, changes);
        assert!(heads.iter().all(|head| head.version == 5 && head.whole));
        assert_eq!(heads[0].who, who);
        assert!(heads[1..].iter().all(|head| head.who.is_none()));
        assert_eq!(heads.iter().position(|head| !head.more), Some(heads.len() - 1));
    }

    #[test]
    fn a_part_is_filled_and_fits_a_frame_wherever_its_last_pattern_begins() {
        let longest = "x".repeat(MAX_TOPIC);
        for first in 1..=MAX_TOPIC {
            let mut changes = vec![(true, longest.clone()); 300];
            changes[0].1.truncate(first);
            let length = parts(5, false, None, &changes)[0].len();
            assert!((MAX_CONTROL_FRAME - 2 - MAX_TOPIC..=MAX_CONTROL_FRAME).contains(&length), "{length}, {first}");
        }
    }

    #[test]
    fn what_lies_is_refused() {
        for (bytes, what) in [
            (&[][..], "nothing"),
            (&[1], "no flags"),
            (&[1, 0x10], "an unknown flag"),
            (&[1, 0x08], "it resumes as nobody"),
            (&[1, 0x04], "nobody"),
            (&[1, 0x0c, 7, 1], "no position"),
            (&[1, 0, 1], "half a change"),
            (&[1, 0, 1, 3, b'a'], "a pattern that is cut short"),
            (&[1, 0, 2, 1, b'a'], "neither more nor less"),
            (&[1, 0, 1, 0], "an empty pattern"),
            (&[1, 0, 1, 2, b'a', b'.'], "an empty part"),
            (&[1, 0, 1, 2, b'a', b'*'], "half a part"),
            (&[1, 0, 1, 3, b'>', b'.', b'a'], "no last part"),
            (&[1, 0, 1, 1, 0xff], "not UTF-8"),
        ] {
            assert!(read(bytes, |_| Ok(())).is_err(), "{what}");
        }
        assert!(read(&[1, 0], |_| Ok(())).is_ok(), "no change at all");
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, |_| Ok(()));
        }

        #[test]
        fn any_change_comes_back(
            version in 0..=varint::MAX, whole: bool, epoch in 0..=varint::MAX,
            at in prop::option::of((0..=varint::MAX, 0..=varint::MAX)),
            changes in prop::collection::vec((any::<bool>(), "[a-c*]{1}(\\.[a-c]{1,3}){0,3}(\\.>)?"), 0..20),
        ) {
            let who = Some(Who { epoch, at: at.map(|(stream, position)| At { stream, position }) });
            let parts = parts(version, whole, who, &changes);
            prop_assert_eq!(parts.len(), 1);
            let mut seen = Vec::new();
            let head = read(&parts[0], |Change { add, pattern }| { seen.push((add, pattern.to_owned())); Ok(()) }).unwrap();
            prop_assert_eq!(head, Subscribe { version, whole, more: false, who });
            prop_assert_eq!(seen, changes);
        }
    }
}
