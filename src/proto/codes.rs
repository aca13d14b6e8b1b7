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

/// The registered name of an HTTP/3 application error code: `H3_NO_ERROR`, or `None` for an unknown one.
pub fn h3_name(code: u64) -> Option<&'static str> { todo!() }

/// The registered name of a QUIC transport error code; the CRYPTO_ERROR range names its TLS alert.
pub fn quic_name(code: u64) -> Option<String> { todo!() }
