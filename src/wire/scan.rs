//! MessagePack from others, looked through before serde sees it: without recursion and without allocation, so that
//! neither a deep nesting nor an announced length costs more than the bytes that came. (serde's decoder recurses, and does
//! not count the nesting of every value.)

use super::Violation;
use super::limits::{MAX_CONTROL_DEPTH, MAX_CONTROL_ELEMENTS, MAX_VALUE_DEPTH};

/// Passes one MessagePack map that fills `bytes` exactly and stays within the limits of a control frame.
///
/// # Errors
/// It is something else.
pub(super) fn scan(bytes: &[u8]) -> Result<(), Violation> {
    if bytes.first().is_some_and(|first| !matches!(first, 0x80..=0x8f | 0xde | 0xdf)) {
        return Err(Violation("a control frame that is not a map"));
    }
    let said = |flaw: Flaw| match flaw {
        Flaw::TooMany => "a control frame of too many elements",
        Flaw::TooDeep => "a control frame nested too deeply",
        Flaw::CutShort => "a control frame whose MessagePack is cut short",
        Flaw::Reserved => "a byte that MessagePack does not use",
        Flaw::Trailing => "bytes behind a control frame's map",
    };
    walk::<MAX_CONTROL_DEPTH>(bytes, MAX_CONTROL_ELEMENTS as u64).map_err(|(flaw, _)| Violation(said(flaw)))
}

/// Passes one MessagePack value that fills `bytes` exactly and is nested no deeper than a value may be.
///
/// # Errors
/// It is something else: what is wrong, and at which byte.
pub(crate) fn value(bytes: &[u8]) -> Result<(), (Flaw, usize)> {
    walk::<MAX_VALUE_DEPTH>(bytes, u64::MAX)
}

/// What can be wrong with MessagePack, before its meaning is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    TooMany,
    TooDeep,
    CutShort,
    Reserved,
    Trailing,
}

fn walk<const DEPTH: usize>(bytes: &[u8], most: u64) -> Result<(), (Flaw, usize)> {
    let mut rest = bytes;
    let mut elements = 0;
    // How many values are still to come in each container that is open, from the outermost inwards.
    let mut open = [0_u64; DEPTH];
    let mut depth = 0;
    loop {
        let at = bytes.len() - rest.len();
        elements += 1;
        if elements > most {
            return Err((Flaw::TooMany, at));
        }
        let value = head(&mut rest).ok_or((Flaw::CutShort, at))?;
        match value {
            Value::Plain(length) => rest = rest.get(length as usize..).ok_or((Flaw::CutShort, at))?,
            Value::Map(count) | Value::Array(count) => {
                let values = u64::from(count) * if matches!(value, Value::Map(_)) { 2 } else { 1 };
                // More values than elements may be are refused here, before they are looked for.
                if u64::from(count) > most {
                    return Err((Flaw::TooMany, at));
                }
                *open.get_mut(depth).ok_or((Flaw::TooDeep, at))? = values;
                depth += 1;
            }
            Value::Reserved => return Err((Flaw::Reserved, at)),
        }
        while depth > 0 && open[depth - 1] == 0 {
            depth -= 1;
        }
        if depth == 0 {
            return if rest.is_empty() { Ok(()) } else { Err((Flaw::Trailing, bytes.len() - rest.len())) };
        }
        open[depth - 1] -= 1;
    }
}

enum Value {
    /// A value without others inside: so many bytes follow its head.
    Plain(u32),
    /// So many pairs follow.
    Map(u32),
    /// So many values follow.
    Array(u32),
    /// 0xc1.
    Reserved,
}

/// Takes the head of a value: its type and the length that it announces.
fn head(rest: &mut &[u8]) -> Option<Value> {
    let byte = number(rest, 1)?;
    Some(match byte {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Value::Plain(0),
        0x80..=0x8f => Value::Map(byte & 0x0f),
        0x90..=0x9f => Value::Array(byte & 0x0f),
        0xa0..=0xbf => Value::Plain(byte & 0x1f),
        0xc4 | 0xd9 => Value::Plain(number(rest, 1)?),
        0xc5 | 0xda => Value::Plain(number(rest, 2)?),
        0xc6 | 0xdb => Value::Plain(number(rest, 4)?),
        // Extensions: a type byte stands before the data.
        0xc7 => Value::Plain(number(rest, 1)? + 1),
        0xc8 => Value::Plain(number(rest, 2)? + 1),
        0xc9 => Value::Plain(number(rest, 4)?.checked_add(1)?),
        0xd4..=0xd8 => Value::Plain((1 << (byte - 0xd4)) + 1),
        0xca | 0xce | 0xd2 => Value::Plain(4),
        0xcb | 0xcf | 0xd3 => Value::Plain(8),
        0xcc | 0xd0 => Value::Plain(1),
        0xcd | 0xd1 => Value::Plain(2),
        0xdc => Value::Array(number(rest, 2)?),
        0xdd => Value::Array(number(rest, 4)?),
        0xde => Value::Map(number(rest, 2)?),
        0xdf => Value::Map(number(rest, 4)?),
        _ => Value::Reserved,
    })
}

/// Takes a big-endian number of so many bytes.
fn number(rest: &mut &[u8], bytes: usize) -> Option<u32> {
    let (head, tail) = rest.split_at_checked(bytes)?;
    *rest = tail;
    Some(head.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_passes_or_its_flaw_is_told_with_its_place() {
        let nested = |arrays: usize| [&vec![0x91; arrays][..], &[0xc0]].concat();
        for (bytes, told) in [
            (vec![0xc0], Ok(())),
            (vec![0x93, 1, 2, 3], Ok(())),
            (nested(MAX_VALUE_DEPTH), Ok(())),
            (nested(MAX_VALUE_DEPTH + 1), Err((Flaw::TooDeep, MAX_VALUE_DEPTH))),
            (Vec::new(), Err((Flaw::CutShort, 0))),
            (vec![0x92, 1], Err((Flaw::CutShort, 2))),
            (vec![0x92, 1, 0xa2, b'x'], Err((Flaw::CutShort, 2))),
            (vec![0x92, 1, 0xc1], Err((Flaw::Reserved, 2))),
            (vec![0x91, 1, 7], Err((Flaw::Trailing, 2))),
            (vec![0x92, 1, 1, 7, 7, 7, 7], Err((Flaw::Trailing, 3))),
        ] {
            assert_eq!(value(&bytes), told, "{bytes:x?}");
        }
    }

    #[test]
    fn more_elements_than_may_be_are_refused_before_they_are_looked_for() {
        for (bytes, place) in [
            (&[0xdc, 0, 11][..], 0),
            (&[0xdd, 0xff, 0xff, 0xff, 0xff], 0),
            (&[0x92, 1, 0xdf, 0, 0, 0, 11], 2),
            // One by one: the array counts, too.
            (&[0x9a, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 10),
        ] {
            assert_eq!(walk::<3>(bytes, 10), Err((Flaw::TooMany, place)), "{bytes:x?}");
        }
        assert_eq!(walk::<3>(&[0x99, 1, 1, 1, 1, 1, 1, 1, 1, 1], 10), Ok(()));
    }
}
