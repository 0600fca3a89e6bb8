//! What a message carries, wherever and however often it goes: its headers and its body.

use bytes::{Bytes, BytesMut};

use crate::wire::frame;
use crate::wire::headers::section_len;

/// A message without what differs by dispatch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// As on the wire, without the length before them.
    pub(crate) headers: Bytes,
    pub(crate) body: Bytes,
}

impl Content {
    /// The bytes that bounds and credit count.
    pub(crate) fn size(&self) -> usize {
        section_len(self.headers.len()) + self.body.len()
    }

    /// The flags of its frame that say what it carries.
    pub(super) fn flags(&self) -> u8 {
        if self.headers.is_empty() { 0 } else { frame::HEADERS }
    }

    /// The same in an allocation of its own.
    pub(super) fn copied(&self) -> Self {
        if self.headers.is_empty() {
            return Self { headers: Bytes::new(), body: Bytes::copy_from_slice(&self.body) };
        }
        let mut both = BytesMut::with_capacity(self.headers.len() + self.body.len());
        both.extend_from_slice(&self.headers);
        both.extend_from_slice(&self.body);
        let mut body = both.freeze();
        Self { headers: body.split_to(self.headers.len()), body }
    }
}
