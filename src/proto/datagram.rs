//! HTTP Datagrams: the quarter stream ID in a QUIC DATAGRAM frame (RFC 9297 §2.1) and the context ID in front of a UDP payload (RFC 9298 §5).

use bytes::{Buf, Bytes};

use super::{read_varint, write_varint};

/// The longest UDP payload (RFC 9298 §5).
pub const MAX_UDP_PAYLOAD: usize = 65_527;

/// The longest header this relay writes in front of a UDP payload in a DATAGRAM frame: quarter stream ID and context ID 0.
pub const MAX_HEADER: usize = 9;

/// The largest quarter stream ID: stream IDs have 62 bits.
const MAX_QUARTER_ID: u64 = (1 << 60) - 1;

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
    pub fn parse(mut bytes: Bytes) -> Self {
        match read_varint(&bytes) {
            Some((0, len)) if bytes.len() - len > MAX_UDP_PAYLOAD => Self::TooLong,
            Some((0, len)) => {
                bytes.advance(len);
                Self::Udp(bytes)
            }
            Some((context, _)) => Self::UnknownContext(context),
            None => Self::Truncated,
        }
    }
}

/// Takes the quarter stream ID off the front of a DATAGRAM frame's payload. `None` is H3_DATAGRAM_ERROR on the connection: too short, or above 2^60 − 1.
pub fn take_quarter_id(frame: &mut Bytes) -> Option<u64> {
    let (id, len) = read_varint(frame)?;
    frame.advance(len);
    (id <= MAX_QUARTER_ID).then_some(id)
}

/// Appends quarter stream ID and context ID 0.
pub fn write_header(quarter_id: u64, out: &mut Vec<u8>) {
    write_varint(quarter_id, out);
    out.push(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn contexts_are_read_at_their_edges() {
        let too_long = vec![0; MAX_UDP_PAYLOAD + 2];
        for (bytes, want) in [
            (&[0, 7, 8][..], Datagram::Udp(Bytes::from_static(&[7, 8]))),
            (&[0], Datagram::Udp(Bytes::new())),                              // an empty packet is a packet
            (&[0x40, 0x00, 7], Datagram::Udp(Bytes::from_static(&[7]))),      // C-53: a non-minimal zero is still zero
            (&[2, 7], Datagram::UnknownContext(2)),
            (&[0x40, 0x43, 1], Datagram::UnknownContext(67)),
            (&[], Datagram::Truncated),
            (&[0x40], Datagram::Truncated),
            (&too_long, Datagram::TooLong),
            (&too_long[1..], Datagram::Udp(Bytes::copy_from_slice(&too_long[2..]))),
        ] {
            assert_eq!(Datagram::parse(Bytes::copy_from_slice(bytes)), want, "{:02x?}", &bytes[..bytes.len().min(8)]);
        }
    }

    #[test]
    fn c49_a_quarter_id_has_sixty_bits() {
        for (id, valid) in [(0, true), (63, true), (64, true), (MAX_QUARTER_ID, true), (MAX_QUARTER_ID + 1, false), (super::super::VARINT_MAX, false)] {
            let mut bytes = Vec::new();
            write_varint(id, &mut bytes);
            let mut frame = Bytes::from(bytes);
            assert_eq!(take_quarter_id(&mut frame), valid.then_some(id));
            assert!(frame.is_empty());
        }
        assert_eq!(take_quarter_id(&mut Bytes::new()), None);
        assert_eq!(take_quarter_id(&mut Bytes::from_static(&[0x80, 0])), None);
        assert_eq!(take_quarter_id(&mut Bytes::from_static(&[0x40, 5, 9])), Some(5), "C-53: not minimal");
    }

    proptest! {
        #[test]
        fn datagrams_go_there_and_back(id in 0..=MAX_QUARTER_ID, payload in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let mut bytes = Vec::new();
            write_header(id, &mut bytes);
            prop_assert!(bytes.len() <= MAX_HEADER);
            bytes.extend_from_slice(&payload);
            let mut frame = Bytes::from(bytes);
            prop_assert_eq!(take_quarter_id(&mut frame), Some(id));
            prop_assert_eq!(Datagram::parse(frame), Datagram::Udp(payload.into()));
        }
    }
}
