//! What stands beside a body: names and values.

use std::fmt;

use bytes::Bytes;

use crate::wire::headers::Pairs;

/// The headers of a message: names and values, in the order in which the sender gave them. A name may stand there more
/// than once. Cloning them is cheap.
///
/// Those of a received message are a slice of what was received together, and keep that alive.
///
/// ```
/// use meshmq::NewMessage;
///
/// let headers = NewMessage::new("body").header("kind", "resize").header("tag", "a").header("tag", "b").headers();
/// assert_eq!(headers.get("kind"), Some("resize"));
/// assert_eq!(headers.get("tag"), Some("a"), "the first one");
/// assert_eq!(headers.iter().collect::<Vec<_>>(), [("kind", "resize"), ("tag", "a"), ("tag", "b")]);
/// ```
#[derive(Clone, Default)]
pub struct Headers {
    /// As on the wire.
    block: Bytes,
}

impl Headers {
    /// A block that was checked, or that this node has written.
    pub(crate) fn of(block: Bytes) -> Self {
        Self { block }
    }

    /// The value of the first header of this name, byte by byte: `Kind` is another name than `kind`.
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.block, name)
    }

    /// Each name and value, in order.
    pub fn iter(&self) -> HeaderIter<'_> {
        HeaderIter(Pairs::of(&self.block))
    }

    /// How many there are. They are counted: this takes as long as reading them.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// Bytes of memory that they take.
    pub(crate) fn size(&self) -> usize {
        self.block.len()
    }
}

/// The value of the first header of this name.
pub(super) fn find<'a>(block: &'a [u8], name: &str) -> Option<&'a str> {
    Pairs::of(block).find_map(|(each, value)| (each == name).then_some(value))
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other)
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a str);
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// Each name and value: see [`Headers::iter`].
#[derive(Debug, Clone)]
pub struct HeaderIter<'a>(Pairs<'a>);

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}
