//! A failed handshake in words, for the operators of both sides.

use quinn::ConnectionError;

/// TLS alerts travel as QUIC errors 0x100 + alert (RFC 9001, section 4.8).
const TLS_ALERTS: std::ops::Range<u64> = 0x100..0x200;

/// Why a handshake failed, if it is about trust; `None`: it is about something else.
pub(crate) fn explain(error: &ConnectionError) -> Option<String> {
    let (code, outcome) = match error {
        ConnectionError::TransportError(error) => (u64::from(error.code), "we refused the peer"),
        ConnectionError::ConnectionClosed(close) => (u64::from(close.error_code), "the peer refused us"),
        _ => return None,
    };
    if !TLS_ALERTS.contains(&code) {
        return None;
    }
    let alert = code - TLS_ALERTS.start;
    // Numbers of RFC 8446, section 6. They say the same on both sides.
    let why = match alert {
        42 | 43 => "the certificate is not one of meshmq's",
        45 => "the certificate is not valid at this time; a clock may be wrong",
        48 => "the certificate is of another mesh (unknown issuer): the mesh key or the mesh name differs",
        51 => "the certificate's signature is false",
        116 => "no certificate was shown",
        120 => "there is no revision of the protocol that both speak",
        _ => "the TLS handshake failed",
    };
    Some(format!("{outcome}: {why} (TLS alert {alert})"))
}
