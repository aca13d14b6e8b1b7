//! HTTP Datagrams: the quarter stream ID in a QUIC DATAGRAM frame (RFC 9297 §2.1) and the context ID in front of a UDP payload (RFC 9298 §5).
//!
//! ```text
//! DATAGRAM frame:   quarter stream ID │ context ID │ UDP payload
//! DATAGRAM capsule:                     context ID │ UDP payload
//! ```

use bytes::{Buf, Bytes};

use super::{read_varint, write_varint};

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
    pub fn parse(mut bytes: Bytes) -> Self {
        let Some((context, size)) = read_varint(&bytes) else { return Self::Truncated };
        if context != 0 {
            return Self::UnknownContext(context);
        }
        bytes.advance(size);
        if bytes.len() > MAX_UDP_PAYLOAD { Self::TooLong } else { Self::Udp(bytes) }
    }
}

/// Takes the quarter stream ID off the front of a DATAGRAM frame's payload. `None` is H3_DATAGRAM_ERROR on the connection: too short, or above 2^60 − 1.
pub fn take_quarter_id(frame: &mut Bytes) -> Option<u64> {
    let (quarter_id, size) = read_varint(frame)?;
    if quarter_id > MAX_QUARTER_ID {
        return None;
    }
    frame.advance(size);
    Some(quarter_id)
}

/// Appends quarter stream ID and context ID 0.
pub fn write_header(quarter_id: u64, out: &mut Vec<u8>) {
    write_varint(quarter_id, out);
    out.push(0);
}

/// Stream IDs have 62 bits.
const MAX_QUARTER_ID: u64 = (1 << 60) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_context_decides_what_a_datagram_is() {
        let longest = vec![0; 1 + MAX_UDP_PAYLOAD];
        let too_long = vec![0; 2 + MAX_UDP_PAYLOAD];
        let mut wide_longest = vec![0xc0, 0, 0, 0, 0, 0, 0, 0];
        wide_longest.extend_from_slice(&longest[1..]);
        let mut unknown_and_long = too_long.clone();
        unknown_and_long[0] = 2;
        for (bytes, want) in [
            (&[0, 7, 8][..], Datagram::Udp(Bytes::from_static(&[7, 8]))),
            (&[0][..], Datagram::Udp(Bytes::new())),
            // Non-minimal zeros are still zero.
            (&[0x40, 0, 7][..], Datagram::Udp(Bytes::from_static(&[7]))),
            (&[0x80, 0, 0, 0, 7][..], Datagram::Udp(Bytes::from_static(&[7]))),
            (&[0xc0, 0, 0, 0, 0, 0, 0, 0][..], Datagram::Udp(Bytes::new())),
            (&longest[..], Datagram::Udp(longest[1..].to_vec().into())),
            (&wide_longest[..], Datagram::Udp(longest[1..].to_vec().into())),
            (&too_long[..], Datagram::TooLong),
            (&[0x3f, 7][..], Datagram::UnknownContext(63)),
            (&[0x40, 0x40, 7][..], Datagram::UnknownContext(64)),
            (&[0x7f, 0xff][..], Datagram::UnknownContext(16_383)),
            (&[0x80, 0, 0x40, 0][..], Datagram::UnknownContext(16_384)),
            (&[0xff; 8][..], Datagram::UnknownContext((1 << 62) - 1)),
            (&unknown_and_long[..], Datagram::UnknownContext(2)),
            (&[][..], Datagram::Truncated),
            (&[0x40][..], Datagram::Truncated),
            (&[0x80, 0, 0][..], Datagram::Truncated),
            (&[0xc0, 0, 0, 0, 0, 0, 0][..], Datagram::Truncated),
        ] {
            let front = &bytes[..bytes.len().min(9)];
            assert_eq!(Datagram::parse(Bytes::copy_from_slice(bytes)), want, "{front:02x?}, {} bytes", bytes.len());
        }
    }

    #[test]
    fn a_payload_is_not_copied() {
        let bytes = Bytes::from(vec![0, 1, 2, 3]);
        let Datagram::Udp(payload) = Datagram::parse(bytes.clone()) else { panic!("context 0") };
        assert_eq!(payload.as_ptr(), bytes[1..].as_ptr());
    }

    #[test]
    fn a_quarter_stream_id_above_2_to_the_60_minus_1_is_an_error() {
        for (bytes, want, rest) in [
            (&[0x00, 9][..], Some(0), &[9][..]),
            (&[0x3f][..], Some(63), &[]),
            (&[0x40, 0x40, 9][..], Some(64), &[9]),
            (&[0x40, 0x01, 9][..], Some(1), &[9]),
            (&[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], Some((1 << 60) - 1), &[]),
            (&[0xd0, 0, 0, 0, 0, 0, 0, 0][..], None, &[0xd0, 0, 0, 0, 0, 0, 0, 0]),
            (&[0xff; 8][..], None, &[0xff; 8]),
            (&[][..], None, &[]),
            (&[0x40][..], None, &[0x40]),
        ] {
            let mut frame = Bytes::copy_from_slice(bytes);
            assert_eq!(take_quarter_id(&mut frame), want, "{bytes:02x?}");
            assert_eq!(frame, rest, "{bytes:02x?}");
        }
    }

    #[test]
    fn the_longest_header_is_nine_bytes() {
        for (quarter_id, size) in [(0, 2), (63, 2), (64, 3), (16_384, 5), (1 << 30, 9), (MAX_QUARTER_ID, MAX_HEADER)] {
            let mut header = Vec::new();
            write_header(quarter_id, &mut header);
            assert_eq!(header.len(), size, "{quarter_id}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(quarter_id in 0..=MAX_QUARTER_ID, payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut frame = Vec::new();
            write_header(quarter_id, &mut frame);
            frame.extend_from_slice(&payload);
            let mut frame = Bytes::from(frame);
            prop_assert_eq!(take_quarter_id(&mut frame), Some(quarter_id));
            prop_assert_eq!(Datagram::parse(frame), Datagram::Udp(payload.into()));
        }
    }
}
