//! Error codes by name, for logs and records.

/// HTTP/3 error codes this relay sends (RFC 9114 §8.1, RFC 9204 §8.3, RFC 9297 §5.2).
pub mod h3 {
    /// Nothing went wrong.
    pub const NO_ERROR: u64 = 0x100;
    /// A rule was broken that has no code of its own.
    pub const GENERAL_PROTOCOL_ERROR: u64 = 0x101;
    /// The relay itself broke.
    pub const INTERNAL_ERROR: u64 = 0x102;
    /// A stream the peer may not open.
    pub const STREAM_CREATION_ERROR: u64 = 0x103;
    /// A control or QPACK stream was closed.
    pub const CLOSED_CRITICAL_STREAM: u64 = 0x104;
    /// A frame where it may not stand.
    pub const FRAME_UNEXPECTED: u64 = 0x105;
    /// A frame of impossible form.
    pub const FRAME_ERROR: u64 = 0x106;
    /// The peer causes more work than is fair.
    pub const EXCESSIVE_LOAD: u64 = 0x107;
    /// An identifier used wrongly.
    pub const ID_ERROR: u64 = 0x108;
    /// A SETTINGS frame with a forbidden value.
    pub const SETTINGS_ERROR: u64 = 0x109;
    /// The control stream did not start with SETTINGS.
    pub const MISSING_SETTINGS: u64 = 0x10a;
    /// Not processed at all: the client may try again.
    pub const REQUEST_REJECTED: u64 = 0x10b;
    /// No longer needed.
    pub const REQUEST_CANCELLED: u64 = 0x10c;
    /// The stream ended before the request was whole.
    pub const REQUEST_INCOMPLETE: u64 = 0x10d;
    /// A malformed message.
    pub const MESSAGE_ERROR: u64 = 0x10e;
    /// The TCP connection of a CONNECT was reset or closed abnormally.
    pub const CONNECT_ERROR: u64 = 0x10f;
    /// Use HTTP/1.1.
    pub const VERSION_FALLBACK: u64 = 0x110;
    /// A field section that cannot be decoded.
    pub const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
    /// A broken encoder stream.
    pub const QPACK_ENCODER_STREAM_ERROR: u64 = 0x201;
    /// A broken decoder stream.
    pub const QPACK_DECODER_STREAM_ERROR: u64 = 0x202;
    /// A broken HTTP Datagram.
    pub const DATAGRAM_ERROR: u64 = 0x33;
}

/// The registered name of an HTTP/3 application error code: `H3_NO_ERROR`, or `None` for an unknown or reserved one.
pub const fn h3_name(code: u64) -> Option<&'static str> {
    Some(match code {
        h3::DATAGRAM_ERROR => "H3_DATAGRAM_ERROR",
        h3::NO_ERROR => "H3_NO_ERROR",
        h3::GENERAL_PROTOCOL_ERROR => "H3_GENERAL_PROTOCOL_ERROR",
        h3::INTERNAL_ERROR => "H3_INTERNAL_ERROR",
        h3::STREAM_CREATION_ERROR => "H3_STREAM_CREATION_ERROR",
        h3::CLOSED_CRITICAL_STREAM => "H3_CLOSED_CRITICAL_STREAM",
        h3::FRAME_UNEXPECTED => "H3_FRAME_UNEXPECTED",
        h3::FRAME_ERROR => "H3_FRAME_ERROR",
        h3::EXCESSIVE_LOAD => "H3_EXCESSIVE_LOAD",
        h3::ID_ERROR => "H3_ID_ERROR",
        h3::SETTINGS_ERROR => "H3_SETTINGS_ERROR",
        h3::MISSING_SETTINGS => "H3_MISSING_SETTINGS",
        h3::REQUEST_REJECTED => "H3_REQUEST_REJECTED",
        h3::REQUEST_CANCELLED => "H3_REQUEST_CANCELLED",
        h3::REQUEST_INCOMPLETE => "H3_REQUEST_INCOMPLETE",
        h3::MESSAGE_ERROR => "H3_MESSAGE_ERROR",
        h3::CONNECT_ERROR => "H3_CONNECT_ERROR",
        h3::VERSION_FALLBACK => "H3_VERSION_FALLBACK",
        h3::QPACK_DECOMPRESSION_FAILED => "QPACK_DECOMPRESSION_FAILED",
        h3::QPACK_ENCODER_STREAM_ERROR => "QPACK_ENCODER_STREAM_ERROR",
        h3::QPACK_DECODER_STREAM_ERROR => "QPACK_DECODER_STREAM_ERROR",
        _ => return None,
    })
}

/// The registered name of a QUIC transport error code (RFC 9000 §20.1); one of the CRYPTO_ERROR range names its TLS alert.
pub fn quic_name(code: u64) -> Option<String> {
    let name = match code {
        0x00 => "NO_ERROR",
        0x01 => "INTERNAL_ERROR",
        0x02 => "CONNECTION_REFUSED",
        0x03 => "FLOW_CONTROL_ERROR",
        0x04 => "STREAM_LIMIT_ERROR",
        0x05 => "STREAM_STATE_ERROR",
        0x06 => "FINAL_SIZE_ERROR",
        0x07 => "FRAME_ENCODING_ERROR",
        0x08 => "TRANSPORT_PARAMETER_ERROR",
        0x09 => "CONNECTION_ID_LIMIT_ERROR",
        0x0a => "PROTOCOL_VIOLATION",
        0x0b => "INVALID_TOKEN",
        0x0c => "APPLICATION_ERROR",
        0x0d => "CRYPTO_BUFFER_EXCEEDED",
        0x0e => "KEY_UPDATE_ERROR",
        0x0f => "AEAD_LIMIT_REACHED",
        0x10 => "NO_VIABLE_PATH",
        0x100..=0x1ff => return Some(crypto_error(code)),
        _ => return None,
    };
    Some(name.into())
}

fn crypto_error(code: u64) -> String {
    let alert = code - 0x100;
    alert_name(alert).map_or_else(|| format!("CRYPTO_ERROR (alert {alert})"), |name| format!("CRYPTO_ERROR ({name})"))
}

/// The name of a TLS alert (RFC 8446 §6).
pub const fn alert_name(alert: u64) -> Option<&'static str> {
    Some(match alert {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_registered_names() {
        assert_eq!(h3_name(0x100), Some("H3_NO_ERROR"));
        assert_eq!(h3_name(0x10f), Some("H3_CONNECT_ERROR"));
        assert_eq!(h3_name(0x202), Some("QPACK_DECODER_STREAM_ERROR"));
        assert_eq!(h3_name(0x33), Some("H3_DATAGRAM_ERROR"));
        assert_eq!(h3_name(0x1f * 5 + 0x21), None, "reserved to be unknown");
        assert_eq!(quic_name(0x0a).as_deref(), Some("PROTOCOL_VIOLATION"));
        assert_eq!(quic_name(0x178).as_deref(), Some("CRYPTO_ERROR (no_application_protocol)"));
        assert_eq!(quic_name(0x1ff).as_deref(), Some("CRYPTO_ERROR (alert 255)"));
        assert_eq!(quic_name(0x200), None);
    }
}
