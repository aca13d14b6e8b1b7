//! HTTP Datagrams: the quarter stream ID in a QUIC DATAGRAM frame (RFC 9297 §2.1) and the context ID in front of a UDP payload (RFC 9298 §5).

use bytes::Bytes;

/// The longest UDP payload (RFC 9298 §5).
pub const MAX_UDP_PAYLOAD: usize = 65_527;

/// The longest header this relay writes in front of a UDP payload in a DATAGRAM frame: quarter stream ID and context ID 0.
pub const MAX_HEADER: usize = 9;

/// What an HTTP Datagram of a CONNECT-UDP tunnel carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// Context 0: a UDP payload.
    Udp(Bytes),
    /// A context nobody registered: dropped.
    UnknownContext(u64),
    /// Too short for a context ID: dropped.
    Truncated,
    /// Context 0 with more than [`MAX_UDP_PAYLOAD`] bytes: the tunnel is aborted.
    TooLong,
}

impl Datagram {
    /// Parses what follows the quarter stream ID, or a DATAGRAM capsule's value. No copy.
    pub fn parse(bytes: Bytes) -> Self { todo!() }
}

/// Takes the quarter stream ID off the front of a DATAGRAM frame's payload. `None` is H3_DATAGRAM_ERROR on the connection: too short, or above 2^60 − 1.
pub fn take_quarter_id(frame: &mut Bytes) -> Option<u64> { todo!() }

/// Appends quarter stream ID and context ID 0.
pub fn write_header(quarter_id: u64, out: &mut Vec<u8>) { todo!() }
