//! Error codes by name, for logs and records: HTTP/3, HTTP/2, QUIC, TLS alerts, Apple's systems.

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

/// The registered name of an HTTP/3 application error code: `H3_NO_ERROR`, or `None` for an unknown one. Greased codes
/// (RFC 9114 §8.1: 0x1f × N + 0x21) are unknown ones: they mean no more than `H3_NO_ERROR`.
pub const fn h3_name(code: u64) -> Option<&'static str> {
    Some(match code {
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
        h3::DATAGRAM_ERROR => "H3_DATAGRAM_ERROR",
        _ => return None,
    })
}

/// The registered name of an HTTP/2 error code (RFC 9113 §7), or `None` for an unknown one. Its codes and HTTP/3's do not meet.
pub const fn h2_name(code: u64) -> Option<&'static str> {
    Some(match code {
        0x0 => "NO_ERROR",
        0x1 => "PROTOCOL_ERROR",
        0x2 => "INTERNAL_ERROR",
        0x3 => "FLOW_CONTROL_ERROR",
        0x4 => "SETTINGS_TIMEOUT",
        0x5 => "STREAM_CLOSED",
        0x6 => "FRAME_SIZE_ERROR",
        0x7 => "REFUSED_STREAM",
        0x8 => "CANCEL",
        0x9 => "COMPRESSION_ERROR",
        0xa => "CONNECT_ERROR",
        0xb => "ENHANCE_YOUR_CALM",
        0xc => "INADEQUATE_SECURITY",
        0xd => "HTTP_1_1_REQUIRED",
        _ => return None,
    })
}

/// The registered name of a QUIC transport error code; the CRYPTO_ERROR range names its TLS alert:
/// `CRYPTO_ERROR (no_application_protocol)`, or `CRYPTO_ERROR (alert 99)` for an unknown alert. `None` for an unknown code.
pub fn quic_name(code: u64) -> Option<String> {
    let name = match code {
        0x0 => "NO_ERROR",
        0x1 => "INTERNAL_ERROR",
        0x2 => "CONNECTION_REFUSED",
        0x3 => "FLOW_CONTROL_ERROR",
        0x4 => "STREAM_LIMIT_ERROR",
        0x5 => "STREAM_STATE_ERROR",
        0x6 => "FINAL_SIZE_ERROR",
        0x7 => "FRAME_ENCODING_ERROR",
        0x8 => "TRANSPORT_PARAMETER_ERROR",
        0x9 => "CONNECTION_ID_LIMIT_ERROR",
        0xa => "PROTOCOL_VIOLATION",
        0xb => "INVALID_TOKEN",
        0xc => "APPLICATION_ERROR",
        0xd => "CRYPTO_BUFFER_EXCEEDED",
        0xe => "KEY_UPDATE_ERROR",
        0xf => "AEAD_LIMIT_REACHED",
        0x10 => "NO_VIABLE_PATH",
        // RFC 9368 §10.2
        0x11 => "VERSION_NEGOTIATION_ERROR",
        0x100..=0x1ff => {
            let alert = code as u8;
            return Some(match alert_name(alert) {
                Some(name) => format!("CRYPTO_ERROR ({name})"),
                None => format!("CRYPTO_ERROR (alert {alert})"),
            });
        }
        _ => return None,
    };
    Some(name.to_owned())
}

/// The name of a TLS alert in IANA's registry (RFC 8446 §6 and its elders), or `None` for an unknown one.
pub const fn alert_name(alert: u8) -> Option<&'static str> {
    Some(match alert {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
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
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        117 => "general_error",
        120 => "no_application_protocol",
        // Encrypted Client Hello
        121 => "ech_required",
        _ => return None,
    })
}

/// What an Apple system calls an `errno`: its symbol and its words; `None` for one that says nothing about a relay.
pub const fn darwin(errno: i32) -> Option<(&'static str, &'static str)> {
    Some(match errno {
        50 => ("ENETDOWN", "Network is down"),
        51 => ("ENETUNREACH", "Network is unreachable"),
        53 => ("ECONNABORTED", "Software caused connection abort"),
        54 => ("ECONNRESET", "Connection reset by peer"),
        57 => ("ENOTCONN", "Socket is not connected"),
        60 => ("ETIMEDOUT", "Operation timed out"),
        61 => ("ECONNREFUSED", "Connection refused"),
        64 => ("EHOSTDOWN", "Host is down"),
        65 => ("EHOSTUNREACH", "No route to host"),
        80 => ("EAUTH", "Authentication error"),
        89 => ("ECANCELED", "Operation canceled"),
        96 => ("ENODATA", "No message available on STREAM"),
        100 => ("EPROTO", "Protocol error"),
        _ => return None,
    })
}

/// The `errno` behind an Apple system's words for it.
pub fn darwin_errno(words: &str) -> Option<i32> {
    (50..=100).find(|errno| darwin(*errno).is_some_and(|(_, named)| named.eq_ignore_ascii_case(words.trim())))
}

/// What Apple's TLS status says, as far as a relay can be the reason.
pub const fn apple_tls(status: i32) -> Option<&'static str> {
    Some(match status {
        -9807 => "the certificate chain is invalid",
        -9813 => "the chain ends at a root that the device does not have",
        -9814 => "the certificate has expired",
        -9815 => "the certificate is not valid yet",
        -9825 => "the client certificate was refused",
        -9831 => "the CA is unknown",
        -9838 => "the peer reported an internal error",
        -9843 => "the name in the URL is not in the certificate",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registered_http_3_code_has_its_name() {
        // RFC 9114 §8.1 is one run of codes.
        let named: Vec<u64> = (0..0x400).filter(|code| h3_name(*code).is_some()).collect();
        let want: Vec<u64> = [0x33].into_iter().chain(0x100..=0x110).chain(0x200..=0x202).collect();
        assert_eq!(named, want);
        for (code, name) in [
            (0x33, "H3_DATAGRAM_ERROR"),
            (0x100, "H3_NO_ERROR"),
            (0x105, "H3_FRAME_UNEXPECTED"),
            (0x10c, "H3_REQUEST_CANCELLED"),
            (0x10f, "H3_CONNECT_ERROR"),
            (0x110, "H3_VERSION_FALLBACK"),
            (0x200, "QPACK_DECOMPRESSION_FAILED"),
            (0x202, "QPACK_DECODER_STREAM_ERROR"),
        ] {
            assert_eq!(h3_name(code), Some(name));
        }
    }

    #[test]
    fn greased_codes_have_no_name() {
        for n in (0..100).chain([(crate::proto::VARINT_MAX - 0x21) / 0x1f]) {
            assert_eq!(h3_name(0x1f * n + 0x21), None, "N = {n}");
        }
    }

    #[test]
    fn transport_codes_have_their_names() {
        for (code, name) in [
            (0x0, Some("NO_ERROR")),
            (0x2, Some("CONNECTION_REFUSED")),
            (0xa, Some("PROTOCOL_VIOLATION")),
            (0x10, Some("NO_VIABLE_PATH")),
            (0x11, Some("VERSION_NEGOTIATION_ERROR")),
            (0x12, None),
            (0xff, None),
            (0x100, Some("CRYPTO_ERROR (close_notify)")),
            (0x128, Some("CRYPTO_ERROR (handshake_failure)")),
            (0x12a, Some("CRYPTO_ERROR (bad_certificate)")),
            (0x130, Some("CRYPTO_ERROR (unknown_ca)")),
            (0x163, Some("CRYPTO_ERROR (alert 99)")),
            (0x178, Some("CRYPTO_ERROR (no_application_protocol)")),
            (0x1ff, Some("CRYPTO_ERROR (alert 255)")),
            (0x200, None),
            (u64::MAX, None),
        ] {
            assert_eq!(quic_name(code).as_deref(), name, "{code:#x}");
        }
    }

    #[test]
    fn apples_words_lead_to_the_number_and_back() {
        let known: Vec<i32> = (0..200).filter(|errno| darwin(*errno).is_some()).collect();
        assert_eq!(known, [50, 51, 53, 54, 57, 60, 61, 64, 65, 80, 89, 96, 100]);
        for errno in known {
            assert_eq!(darwin_errno(darwin(errno).unwrap().1), Some(errno));
        }
        assert_eq!(darwin_errno("operation TIMED out "), Some(60));
        assert_eq!(darwin_errno("no such words"), None);
        let known: Vec<i32> = (-9900..=0).filter(|status| apple_tls(*status).is_some()).collect();
        assert_eq!(known, [-9843, -9838, -9831, -9825, -9815, -9814, -9813, -9807]);
    }
}
