//! A failed handshake in words, for the operators of both sides.

use quinn::ConnectionError;

/// TLS alerts travel as QUIC errors 0x100 + alert (RFC 9001, section 4.8).
const TLS_ALERTS: std::ops::Range<u64> = 0x100..0x200;

/// Why a handshake failed, if it is about trust; `None`: it is about something else.
pub(crate) fn explain(error: &ConnectionError) -> Option<String> {
    let (code, ours) = match error {
        ConnectionError::TransportError(error) => (u64::from(error.code), true),
        ConnectionError::ConnectionClosed(close) => (u64::from(close.error_code), false),
        _ => return None,
    };
    if !TLS_ALERTS.contains(&code) {
        return None;
    }
    let what = match code - TLS_ALERTS.start {
        42 | 43 | 48 => "the certificate is of another mesh: its key or its mesh name differs",
        45 => "the certificate has expired",
        51 => "the certificate's signature is false",
        116 => "no certificate was shown",
        120 => "it speaks another revision of the protocol, or another protocol",
        _ => "the TLS handshake failed",
    };
    let alert = code - TLS_ALERTS.start;
    Some(if ours {
        format!("we refused the peer: {what} (TLS alert {alert})")
    } else {
        format!("the peer refused us: {what} (TLS alert {alert})")
    })
}
