//! The Capsule Protocol (RFC 9297 §3), incrementally: chunks may end anywhere, unknown capsules of any declared length cost nothing.

use bytes::{Bytes, BytesMut};

use super::{
    frame::{Frames, Piece},
    write_varint,
};

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
    Skipped {
        /// Its type.
        kind: u64,
        /// Bytes its value had.
        length: u64,
    },
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
pub struct Capsules {
    /// A capsule is a type, a length and a value, as an HTTP/3 frame is.
    frames: Frames,
    kind: u64,
    length: u64,
    value: Value,
}

#[derive(Debug, Default)]
enum Value {
    #[default]
    Empty,
    Whole(Bytes),
    Gathered(BytesMut),
}

impl Capsules {
    /// The next whole capsule from the front of `input`, which is advanced; a DATAGRAM within one chunk is not copied.
    /// `None`: more input is needed.
    pub fn next_capsule(&mut self, input: &mut Bytes) -> Result<Option<Capsule>, CapsuleError> {
        while let Some(piece) = self.frames.next_piece(input) {
            match piece {
                Piece::Start { kind: DATAGRAM, length } if length > MAX_DATAGRAM => return Err(CapsuleError::TooLong(length)),
                Piece::Start { kind, length } => (self.kind, self.length) = (kind, length),
                Piece::Payload(bytes) if self.kind == DATAGRAM => self.keep(bytes),
                Piece::Payload(_) => {}
                Piece::End => return Ok(Some(self.whole())),
            }
        }
        // What is kept must not hold on to the packet it came in: a chunk ended inside the capsule.
        if let Value::Whole(bytes) = &self.value {
            self.value = Value::Gathered(BytesMut::from(&bytes[..]));
        }
        Ok(None)
    }

    /// Whether the stream may end here.
    pub fn end(&self) -> Result<(), CapsuleError> {
        if self.frames.at_boundary() { Ok(()) } else { Err(CapsuleError::Truncated) }
    }

    fn keep(&mut self, bytes: Bytes) {
        match &mut self.value {
            Value::Empty => self.value = Value::Whole(bytes),
            Value::Whole(first) => {
                let mut gathered = BytesMut::from(&first[..]);
                gathered.extend_from_slice(&bytes);
                self.value = Value::Gathered(gathered);
            }
            Value::Gathered(gathered) => gathered.extend_from_slice(&bytes),
        }
    }

    fn whole(&mut self) -> Capsule {
        if self.kind != DATAGRAM {
            return Capsule::Skipped { kind: self.kind, length: self.length };
        }
        Capsule::Datagram(match std::mem::take(&mut self.value) {
            Value::Empty => Bytes::new(),
            Value::Whole(bytes) => bytes,
            Value::Gathered(bytes) => bytes.freeze(),
        })
    }
}

/// Appends the front of a DATAGRAM capsule around a UDP payload of `length` bytes: type, length, context ID 0.
pub fn write_udp_header(length: usize, out: &mut Vec<u8>) {
    out.push(DATAGRAM as u8);
    write_varint(length as u64 + 1, out);
    out.push(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::frame::encode, *};

    fn capsules(bytes: &[u8], size: usize) -> Result<Vec<Capsule>, CapsuleError> {
        let mut capsules = Capsules::default();
        let mut found = Vec::new();
        for chunk in bytes.chunks(size.max(1)) {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while let Some(capsule) = capsules.next_capsule(&mut chunk)? {
                found.push(capsule);
            }
        }
        capsules.end().map(|()| found)
    }

    #[test]
    fn c64_capsules_are_the_same_wherever_the_chunks_end() {
        let mut bytes = encode(DATAGRAM, b"\0one");
        bytes.extend(encode(0x29 * 3 + 0x17, &[1; 130])); // reserved for being skipped
        bytes.extend(encode(DATAGRAM, b""));
        bytes.extend(encode(DATAGRAM, &[0; 300]));
        let want = vec![
            Capsule::Datagram(Bytes::from_static(b"\0one")),
            Capsule::Skipped { kind: 0x29 * 3 + 0x17, length: 130 },
            Capsule::Datagram(Bytes::new()),
            Capsule::Datagram(vec![0; 300].into()),
        ];
        for size in 1..=bytes.len() {
            assert_eq!(capsules(&bytes, size), Ok(want.clone()), "chunks of {size}");
        }
    }

    #[test]
    fn c62_an_unknown_capsule_of_any_length_costs_nothing() {
        let mut reader = Capsules::default();
        let mut bytes = vec![0x17];
        write_varint(1 << 40, &mut bytes);
        bytes.extend([0; 5000]);
        assert_eq!(reader.next_capsule(&mut bytes.into()), Ok(None));
        assert!(matches!(reader.value, Value::Empty));
        assert_eq!(reader.end(), Err(CapsuleError::Truncated));
    }

    #[test]
    fn c55_a_payload_no_packet_holds_is_refused_before_it_comes() {
        let header = |length| {
            let mut bytes = vec![0x00];
            write_varint(length, &mut bytes);
            bytes
        };
        assert_eq!(capsules(&header(MAX_DATAGRAM + 1), 1), Err(CapsuleError::TooLong(MAX_DATAGRAM + 1)));
        assert_eq!(capsules(&header(MAX_DATAGRAM), 1), Err(CapsuleError::Truncated));
    }

    #[test]
    fn c63_an_end_inside_a_capsule_is_truncated() {
        let whole = encode(DATAGRAM, b"\0four");
        for cut in 1..whole.len() {
            assert_eq!(capsules(&whole[..cut], 1), Err(CapsuleError::Truncated), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn udp_payloads_go_there_and_back(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..6), size in 1_usize..64) {
            let mut bytes = Vec::new();
            for payload in &payloads {
                write_udp_header(payload.len(), &mut bytes);
                bytes.extend_from_slice(payload);
            }
            let want = payloads.iter().map(|payload| Capsule::Datagram([&[0][..], payload].concat().into())).collect();
            prop_assert_eq!(capsules(&bytes, size), Ok(want));
        }

        #[test]
        fn no_bytes_panic_and_no_cut_matters(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..64) {
            prop_assert_eq!(capsules(&bytes, size), capsules(&bytes, usize::MAX));
        }
    }
}
