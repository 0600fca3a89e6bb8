//! Why a link ends: the codes that its two ends tell each other, and the words for people.

use quinn::{ConnectionError, VarInt};

use crate::trust;
use crate::wire::limits::MAX_REASON;

/// The application error codes of CONNECTION_CLOSE. A number never gets another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum CloseCode {
    /// Nothing is left to do on this connection.
    Done = 0,
    /// The node shuts down.
    Goodbye = 1,
    /// The two nodes have a link already; this connection is not needed.
    Duplicate = 2,
    /// Another connection has taken the place of this one.
    Replaced = 3,
    /// Nothing was heard from the peer for too long.
    Silent = 4,
    /// The peer broke the protocol.
    Violation = 5,
    /// The peer's certificate does not allow this.
    Refused = 6,
    /// More lanes than a link may carry.
    TooManyLanes = 7,
    /// More links than the node may have.
    TooManyLinks = 8,
    /// The peer was not admitted in time.
    Admission = 9,
    /// The node ran into a defect of its own.
    Internal = 10,
}

impl CloseCode {
    const ALL: [Self; 11] = [
        Self::Done,
        Self::Goodbye,
        Self::Duplicate,
        Self::Replaced,
        Self::Silent,
        Self::Violation,
        Self::Refused,
        Self::TooManyLanes,
        Self::TooManyLinks,
        Self::Admission,
        Self::Internal,
    ];

    pub(super) fn number(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// `None`: a code of a later revision, or of something else that speaks QUIC.
    pub(super) fn from_number(number: VarInt) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// What the peer means by it, for people.
    fn words(self) -> &'static str {
        match self {
            Self::Done => "closed by the peer",
            Self::Goodbye => "the peer has shut down",
            Self::Duplicate => "closed by the peer: there is another link",
            Self::Replaced => "closed by the peer: another link has replaced it",
            Self::Silent => "closed by the peer: it did not hear from us",
            Self::Violation => "closed by the peer: it says that we broke the protocol",
            Self::Refused => "the peer has refused us",
            Self::TooManyLanes => "closed by the peer: too many lanes",
            Self::TooManyLinks => "the peer has as many links as it may have",
            Self::Admission => "closed by the peer: we were not admitted in time",
            Self::Internal => "closed by the peer: it ran into a defect of its own",
        }
    }
}

/// The link is over. What was in flight on it goes back to its queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct LinkLost {
    /// What the peer said when it closed the link; `None` when it did not, or in no code that is known here.
    pub(crate) code: Option<CloseCode>,
    /// Why, for people.
    pub(crate) why: String,
    /// It never came to be: one end does not accept the other's certificate.
    pub(crate) refused: bool,
}

impl LinkLost {
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self { code: None, why: why.into(), refused: false }
    }
}

impl From<ConnectionError> for LinkLost {
    fn from(error: ConnectionError) -> Self {
        if let Some(why) = trust::explain(&error) {
            return Self { refused: true, ..Self::because(why) };
        }
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let code = CloseCode::from_number(close.error_code);
                let mut why = match code {
                    Some(code) => code.words().to_owned(),
                    None => format!("closed by the peer with the unknown code {}", close.error_code),
                };
                if !close.reason.is_empty() {
                    why = format!("{why} ({})", harmless(&close.reason));
                }
                Self { code, why, refused: false }
            }
            ConnectionError::Reset => Self::because("the peer has forgotten the link: it was restarted"),
            ConnectionError::TimedOut => Self::because("nothing was heard from the peer for 30 s"),
            ConnectionError::LocallyClosed => Self::because("closed by this node"),
            other => Self::because(harmless(other.to_string().as_bytes())),
        }
    }
}

/// Text of a peer, for a log or a terminal: bounded, and without characters that would act there.
fn harmless(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_REASON)]);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_number() {
        for (number, code) in CloseCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert_eq!(CloseCode::from_number(code.number()), Some(code));
        }
        assert_eq!(CloseCode::from_number(VarInt::from_u32(11)), None);
    }

    #[test]
    fn what_a_peer_says_is_bounded_and_can_not_act() {
        let close = quinn::ApplicationClose { error_code: VarInt::MAX, reason: vec![0x1b; 1 << 16].into() };
        let lost = LinkLost::from(ConnectionError::ApplicationClosed(close));
        assert_eq!(lost.code, None);
        assert!(lost.why.chars().count() < MAX_REASON + 100 && !lost.why.contains('\x1b'), "{}", lost.why);
    }
}
