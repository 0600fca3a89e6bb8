//! The bytes of headers, both directions side by side.
//!
//! ```text
//! section  length (varint, 1 to 65,536) │ block of that many bytes
//! block    (length (varint, ≥ 1) │ name │ length (varint) │ value)*
//! ```
//! Names and values are UTF-8 without control characters. Order and repeated names are kept.

use bytes::BufMut;

use super::Violation;
use super::limits::MAX_HEADERS;
use super::varint;

/// Appends one header to a block.
pub(crate) fn put(block: &mut Vec<u8>, name: &str, value: &str) {
    for text in [name, value] {
        varint::put(block, text.len() as u64);
        block.put_slice(text.as_bytes());
    }
}

/// Appends the section that this block makes; nothing for an empty one.
pub(crate) fn put_section(out: &mut impl BufMut, block: &[u8]) {
    if !block.is_empty() {
        varint::put(out, block.len() as u64);
        out.put_slice(block);
    }
}

/// How many bytes of a frame a block of this length takes. Bounds and credit count them.
#[inline]
pub(crate) fn section_len(block: usize) -> usize {
    match block {
        0 => 0,
        1..0x40 => block + 1,
        0x40..0x4000 => block + 2,
        _ => block + 4,
    }
}

/// Where the block lies in a section at the start of `bytes`; what is in it is not looked at.
pub(crate) fn find(bytes: &[u8]) -> Result<std::ops::Range<usize>, Violation> {
    const SHORT: Violation = Violation("a data frame ends inside its headers");
    let (length, len) = varint::get(bytes).ok_or(SHORT)?;
    if length > MAX_HEADERS as u64 {
        return Err(Violation("the headers of a message are too long"));
    }
    if length == 0 {
        return Err(Violation("headers are announced where there are none"));
    }
    let block = len..len + length as usize;
    if block.end > bytes.len() {
        return Err(SHORT);
    }
    Ok(block)
}

/// What a peer has sent as a block is one.
pub(crate) fn check(block: &[u8]) -> Result<(), Violation> {
    let mut pairs = Pairs::of(block);
    for (name, value) in pairs.by_ref() {
        if name.is_empty() {
            return Err(Violation("a header has no name"));
        }
        if name.chars().chain(value.chars()).any(char::is_control) {
            return Err(Violation("a header has a control character"));
        }
    }
    if pairs.rest.is_empty() { Ok(()) } else { Err(Violation("headers do not fill their length with texts")) }
}

/// The headers of a block, in order. Ends before the first one that is not whole, or not UTF-8.
#[derive(Debug, Clone)]
pub(crate) struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Pairs<'a> {
    pub(crate) fn of(block: &'a [u8]) -> Self {
        Self { rest: block }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = text(self.rest)?;
        let (value, rest) = text(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// The text at the start, and what follows it.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, len) = varint::get(bytes)?;
    // A length is below 2^62: the sum cannot overflow.
    let (text, rest) = bytes[len..].split_at_checked(usize::try_from(length).ok()?)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        headers.iter().for_each(|(name, value)| put(&mut block, name, value));
        block
    }

    #[test]
    fn order_and_repeated_names_stay() {
        let headers = [("b", "1"), ("a", ""), ("b", "ü")];
        let block = block(&headers);
        assert_eq!(Pairs::of(&block).collect::<Vec<_>>(), headers);
        check(&block).unwrap();
    }

    #[test]
    fn a_block_that_lies_is_refused() {
        for (bytes, what) in [
            (&[1][..], "a name that is not there"),
            (&[1, b'a'], "a name without a value"),
            (&[1, b'a', 2, b'b'], "a value that is cut short"),
            (&[1, b'a', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "a value of 2^62 bytes"),
            (&[0, 1, b'a'], "no name"),
            (&[1, b'a', 1, b'\n'], "a line break"),
            (&[2, 0xc2, 0x85, 0], "a control character beyond ASCII"),
            (&[1, 0xff, 0], "a name that is not UTF-8"),
            (&[1, b'a', 1, 0xff], "a value that is not UTF-8"),
            (&[1, b'a', 1, b'b', 0x40], "half a length at the end"),
        ] {
            assert!(check(bytes).is_err(), "{what}");
        }
        check(&[]).unwrap();
    }

    #[test]
    fn a_section_that_lies_is_refused() {
        assert!(find(&[]).is_err(), "no length");
        assert!(find(&[0, 1]).is_err(), "announced and empty");
        assert!(find(&[3, 1, b'a']).is_err(), "longer than the frame");
        assert!(find(&[&[0x80, 1, 0, 1][..], &vec![0; MAX_HEADERS + 1]].concat()).is_err(), "one byte too many");
        assert!(find(&[0xff; 8]).is_err(), "2^62");
        assert_eq!(find(&[2, 1, b'a', b'x']).unwrap(), 1..3);
    }

    #[test]
    fn a_section_is_as_long_as_it_may_be_and_no_longer() {
        for (length, taken) in [(1, true), (MAX_HEADERS, true), (MAX_HEADERS + 1, false)] {
            let mut section = Vec::new();
            put_section(&mut section, &vec![0; length]);
            assert_eq!(section.len(), section_len(length));
            assert_eq!(find(&section).ok(), taken.then_some(section.len() - length..section.len()));
        }
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = find(&bytes);
            let checked = check(&bytes);
            let pairs = Pairs::of(&bytes).count();
            prop_assert!(checked.is_err() || pairs > 0 || bytes.is_empty());
        }

        #[test]
        fn a_section_comes_back(headers in prop::collection::vec(("[^\\p{Cc}]{1,80}", "[^\\p{Cc}]{0,300}"), 1..20)) {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            let block = block(&headers);
            let mut section = Vec::new();
            put_section(&mut section, &block);
            prop_assert_eq!(section.len(), section_len(block.len()));
            let found = find(&section).unwrap();
            prop_assert_eq!(&section[found.clone()], &block[..]);
            check(&section[found]).unwrap();
            prop_assert_eq!(Pairs::of(&block).collect::<Vec<_>>(), headers);
        }
    }
}
