//! An input as messages: lines, NUL-separated parts, or whole files.

use bytes::{Bytes, BytesMut};

/// Cuts what is read into messages that end with a separator. Feed it, take all there is, feed it again.
pub(crate) struct Splitter {
    separator: u8,
    /// Longest message; beyond it the input is refused before it fills the memory.
    limit: usize,
    buffer: BytesMut,
    /// Up to here the buffer holds no separator.
    searched: usize,
    /// How many messages were cut, to name the one that is too long.
    cut: u64,
}

/// A message is too long; names which one, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) message: u64,
}

impl Splitter {
    pub(crate) fn new(separator: u8, limit: usize) -> Self {
        Self { separator, limit, buffer: BytesMut::new(), searched: 0, cut: 0 }
    }

    pub(crate) fn feed(&mut self, read: &[u8]) {
        self.buffer.extend_from_slice(read);
    }

    /// The next message that is here in full, without its separator.
    pub(crate) fn take(&mut self) -> Result<Option<Bytes>, TooLong> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == self.separator);
        let length = found.map_or(self.buffer.len(), |at| self.searched + at);
        if length > self.limit {
            return Err(TooLong { message: self.cut + 1 });
        }
        if found.is_none() {
            self.searched = length;
            return Ok(None);
        }
        let mut message = self.buffer.split_to(length + 1);
        message.truncate(length);
        self.searched = 0;
        self.cut += 1;
        Ok(Some(message.freeze()))
    }

    /// What came after the last separator, at the end of a file: a message too, unless nothing is there.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        self.searched = 0;
        let rest = self.buffer.split().freeze();
        (!rest.is_empty()).then(|| {
            self.cut += 1;
            rest
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(separator: u8, parts: &[&[u8]]) -> Vec<Bytes> {
        let mut splitter = Splitter::new(separator, 100);
        let mut messages = Vec::new();
        for part in parts {
            splitter.feed(part);
            while let Some(message) = splitter.take().unwrap() {
                messages.push(message);
            }
        }
        messages.extend(splitter.rest());
        messages
    }

    #[test]
    fn lines_are_messages() {
        assert_eq!(split(b'\n', &[b"one\ntwo\n"]), ["one", "two"]);
        assert_eq!(split(b'\n', &[b"one\n\nthree"]), ["one", "", "three"]);
        assert_eq!(split(b'\n', &[b""]), [""; 0]);
        assert_eq!(split(b'\n', &[b"\n"]), [""]);
        assert_eq!(split(b'\n', &[b"windows\r\n"]), ["windows\r"]);
    }

    #[test]
    fn nul_separates_as_well() {
        assert_eq!(split(0, &[b"a b\n\0c\0d"]), ["a b\n", "c", "d"]);
    }

    #[test]
    fn where_the_reads_end_makes_no_difference() {
        let input = b"alpha\nbeta\n\ngamma";
        for at in 0..=input.len() {
            let (head, tail) = input.split_at(at);
            assert_eq!(split(b'\n', &[head, tail]), ["alpha", "beta", "", "gamma"], "split at {at}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(split(b'\n', &bytes), ["alpha", "beta", "", "gamma"]);
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut splitter = Splitter::new(b'\n', 5);
        splitter.feed(b"12345\n12345");
        assert_eq!(splitter.take(), Ok(Some(Bytes::from_static(b"12345"))));
        assert_eq!(splitter.take(), Ok(None));
        splitter.feed(b"6");
        assert_eq!(splitter.take(), Err(TooLong { message: 2 }));
    }
}
