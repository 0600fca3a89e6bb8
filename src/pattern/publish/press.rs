//! The press: where a message is encoded once, for all who want it.
//!
//! Messages are written one behind the other into a block. What has been written since the last look is the open piece;
//! whoever takes something of it seals it, and from then on it is bytes that never change and that all subscribers share.

use bytes::{Bytes, BytesMut};

use super::stream::Run;
use super::{Policy, Publisher};
use crate::message::NewMessage;
use crate::pattern::topics::Place;
use crate::wire::frame;

/// Largest allocation of a block.
const BLOCK: usize = 256 << 10;
/// The first one: a lone message never pins much.
const FIRST_BLOCK: usize = 4 << 10;
/// The longest head of a published message without what it carries: its length, flags, the length of the topic, and the
/// length before the headers.
const MAX_HEAD: usize = 4 + 1 + 1 + 4;
/// Bodies from here on stay the publisher's slice.
const LARGE_BODY: usize = 32 << 10;

#[derive(Debug)]
pub(super) struct Press {
    /// The piece that is written to, and the rest of the block.
    open: BytesMut,
    /// Its number. 0 is no piece.
    pub(super) piece: u64,
    /// The number of the block.
    pub(super) block: u64,
    /// How large the block is.
    size: usize,
    /// Who has something in the open piece.
    pub(super) touched: Vec<Place>,
    /// Who has something in the block.
    pub(super) dwellers: Vec<Place>,
}

/// A message as it goes on the wire.
#[derive(Debug, Clone)]
pub(super) enum Printed {
    /// Here in the open piece.
    Open { start: u32, end: u32 },
    /// In allocations of its own: the head, with all that stands before the body, and perhaps the body.
    Own { head: Bytes, body: Option<Bytes> },
}

impl Press {
    pub(super) fn new() -> Self {
        Self { open: BytesMut::new(), piece: 1, block: 1, size: 0, touched: Vec::new(), dwellers: Vec::new() }
    }
}

impl Publisher {
    pub(super) fn print(&mut self, topic: &str, message: &NewMessage) -> Printed {
        let body = message.body();
        if body.len() >= LARGE_BODY {
            return print_alone(topic, message);
        }
        let need = MAX_HEAD + topic.len() + message.size();
        if self.press.open.capacity() - self.press.open.len() < need {
            self.turn_page(need);
        }
        let open = &mut self.press.open;
        let start = open.len() as u32;
        frame::put_published_head(open, topic, message.block(), body.len());
        open.extend_from_slice(body);
        Printed::Open { start, end: open.len() as u32 }
    }

    /// What was written is bytes from now on; whoever has some of it gets them.
    pub(super) fn seal(&mut self) {
        let press = &mut self.press;
        if press.open.is_empty() {
            return;
        }
        let bytes = press.open.split().freeze();
        for place in press.touched.drain(..) {
            if let Some(stream) = &mut self.streams[place as usize] {
                stream.resolve(press.piece, &bytes);
            }
        }
        press.piece += 1;
    }

    /// The block is full: another one.
    #[cold]
    fn turn_page(&mut self, need: usize) {
        self.seal();
        let (block, size) = (self.press.block, self.press.size);
        for place in std::mem::take(&mut self.press.dwellers) {
            if let Some(stream) = &mut self.streams[place as usize] {
                // Few messages must not pin the block of many. With `Latest` any of them may stay for long.
                let apart = self.options.when_full == Policy::Latest;
                stream.move_out(block, size / 2, apart);
            }
        }
        let size = (self.press.size * 2).clamp(FIRST_BLOCK, BLOCK).max(need);
        self.press.open = BytesMut::with_capacity(size);
        self.press.size = size;
        self.press.block += 1;
    }
}

/// In allocations of its own. A large body stays the slice that it is.
pub(super) fn print_alone(topic: &str, message: &NewMessage) -> Printed {
    let body = message.body();
    let large = body.len() >= LARGE_BODY;
    let mut head =
        BytesMut::with_capacity(MAX_HEAD + topic.len() + message.size() - if large { body.len() } else { 0 });
    frame::put_published_head(&mut head, topic, message.block(), body.len());
    if large {
        return Printed::Own { head: head.freeze(), body: Some(body.clone()) };
    }
    head.extend_from_slice(body);
    Printed::Own { head: head.freeze(), body: None }
}

impl Run {
    /// A copy of its own.
    pub(super) fn copied(&mut self) {
        self.bytes = Bytes::copy_from_slice(&self.bytes);
    }
}
