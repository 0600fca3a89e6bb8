//! Which trace does a message belong to? W3C Trace Context in one value.

use std::fmt;
use std::str::FromStr;

/// Where a message stands in a distributed trace: the value of its header `traceparent`, as
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header) has it, version 00.
///
/// Parsing it and writing it are the two ends of a bridge to OpenTelemetry, or to any other tracer.
///
/// ```
/// use meshmq::{NewMessage, TraceParent};
///
/// let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// assert_eq!(parent.span_id(), 0x00f0_67aa_0ba9_02b7);
/// assert!(parent.is_sampled());
/// let message = NewMessage::new("job").header(TraceParent::HEADER, parent.to_string());
/// # Ok::<(), meshmq::InvalidTraceParent>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

/// A text is not a `traceparent` of version 00. A message with it is not sent; of a received one it is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a traceparent: it has the form 00-<trace id>-<span id>-<flags> with 32, 16 and 2 digits of lower-case \
     hexadecimal, and neither id is 0"
)]
#[non_exhaustive]
pub struct InvalidTraceParent;

impl TraceParent {
    /// The name of the header.
    pub const HEADER: &str = "traceparent";

    /// `None`: an id is 0.
    pub const fn new(trace_id: u128, span_id: u64, flags: u8) -> Option<Self> {
        if trace_id == 0 || span_id == 0 { None } else { Some(Self { trace_id, span_id, flags }) }
    }

    /// Names the whole trace; never 0.
    pub const fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// Names the span that the message was sent from; never 0.
    pub const fn span_id(self) -> u64 {
        self.span_id
    }

    /// Flags: the lowest bit says that the sender records the trace.
    pub const fn flags(self) -> u8 {
        self.flags
    }

    /// The sender records the trace.
    pub const fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let parse = || {
            let mut parts = text.split('-');
            let mut next = |digits: usize| {
                let part = parts.next()?;
                let plain = part.len() == digits && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
                if plain { u128::from_str_radix(part, 16).ok() } else { None }
            };
            let (version, trace_id, span_id, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
            if version != 0 || parts.next().is_some() {
                return None;
            }
            Self::new(trace_id, span_id as u64, flags as u8)
        };
        parse().ok_or(InvalidTraceParent)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_grammar_is_that_of_version_00() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parsed: TraceParent = good.parse().unwrap();
        assert_eq!((parsed.trace_id(), parsed.flags()), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 1));
        assert_eq!(parsed.to_string(), good);
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-+0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(InvalidTraceParent), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_comes_back(trace_id in 1..=u128::MAX, span_id in 1..=u64::MAX, flags: u8) {
            let parent = TraceParent::new(trace_id, span_id, flags).unwrap();
            prop_assert_eq!(parent.to_string().parse::<TraceParent>(), Ok(parent));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<TraceParent>();
        }
    }
}
