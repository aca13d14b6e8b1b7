//! The Capsule Protocol (RFC 9297 §3), incrementally: chunks may end anywhere, unknown capsules of any declared length cost nothing.

use bytes::Bytes;

/// The DATAGRAM capsule's type (RFC 9297 §3.5).
pub const DATAGRAM: u64 = 0x00;

/// The longest value of a DATAGRAM capsule that is kept: a context ID of 8 bytes and a whole UDP payload. A longer one is
/// [`CapsuleError::TooLong`] before a byte of it is buffered (C-55).
pub const MAX_DATAGRAM: u64 = 8 + super::datagram::MAX_UDP_PAYLOAD as u64;

/// A capsule that has arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capsule {
    /// An HTTP Datagram, context ID included.
    Datagram(Bytes),
    /// Any other; its value was discarded as it came.
    Skipped { kind: u64, length: u64 },
}

/// Why the stream is aborted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapsuleError {
    /// A DATAGRAM capsule no UDP packet can hold (RFC 9298 §5).
    #[error("a DATAGRAM capsule of {0} bytes")]
    TooLong(u64),
    /// The stream ended inside a capsule (RFC 9297 §3.3): a malformed message.
    #[error("the stream ended inside a capsule")]
    Truncated,
}

/// Cuts a stream into capsules. Buffers at most one DATAGRAM capsule, and only when a chunk ends inside it.
#[derive(Debug, Default)]
pub struct Capsules { /* private */ }

impl Capsules {
    /// The next whole capsule from the front of `input`, which is advanced; a DATAGRAM within one chunk is not copied.
    /// `None`: more input is needed.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Capsule>, CapsuleError> { todo!() }

    /// Whether the stream may end here.
    pub fn end(&self) -> Result<(), CapsuleError> { todo!() }
}

/// Appends the front of a DATAGRAM capsule around a UDP payload of `length` bytes: type, length, context ID 0.
pub fn write_udp_header(length: usize, out: &mut Vec<u8>) { todo!() }
