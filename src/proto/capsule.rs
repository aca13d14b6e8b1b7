//! The Capsule Protocol (RFC 9297 §3), incrementally: chunks may end anywhere, unknown capsules of any declared length cost nothing.

use bytes::Bytes;

use super::{
    datagram::MAX_UDP_PAYLOAD,
    frame::{Frames, Gather, Piece},
    write_varint,
};

/// The DATAGRAM capsule's type (RFC 9297 §3.5).
pub const DATAGRAM: u64 = 0x00;

/// The longest value of a DATAGRAM capsule that is kept: a context ID of 8 bytes and a whole UDP payload. A longer one is
/// [`CapsuleError::TooLong`] before a byte of it is buffered (C-55).
pub const MAX_DATAGRAM: u64 = 8 + MAX_UDP_PAYLOAD as u64;

/// A capsule that has arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capsule {
    /// An HTTP Datagram, context ID included.
    Datagram(Bytes),
    /// Any other; its value was discarded as it came.
    Skipped {
        /// Its type.
        kind: u64,
        /// The length of its value in bytes.
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
    /// A capsule has the form of a frame: type, length, value (RFC 9297 §3.2, RFC 9114 §7.1).
    frames: Frames,
    current: Current,
    value: Gather,
}

#[derive(Debug, Default)]
enum Current {
    /// A DATAGRAM capsule that has been handed out or refused; nothing of it is wanted any more.
    #[default]
    Done,
    /// A DATAGRAM capsule of this length.
    Datagram(usize),
    /// Any other.
    Other { kind: u64, length: u64 },
}

impl Capsules {
    /// The next whole capsule from the front of `input`, which is advanced; a DATAGRAM within one chunk is not copied.
    /// `None`: more input is needed.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Capsule>, CapsuleError> {
        while let Some(piece) = self.frames.next(input) {
            let datagram = match (piece, &self.current) {
                (Piece::Start { kind, length }, _) => self.start(kind, length)?,
                (Piece::Payload(piece), Current::Datagram(length)) => self.value.add(piece, *length),
                (Piece::End, &Current::Other { kind, length }) => return Ok(Some(Capsule::Skipped { kind, length })),
                (Piece::Payload(_) | Piece::End, _) => None,
            };
            if let Some(datagram) = datagram {
                self.current = Current::Done;
                return Ok(Some(Capsule::Datagram(datagram)));
            }
        }
        Ok(None)
    }

    /// Whether the stream may end here.
    pub fn end(&self) -> Result<(), CapsuleError> {
        if self.frames.at_boundary() { Ok(()) } else { Err(CapsuleError::Truncated) }
    }

    /// An empty DATAGRAM capsule is whole already: no payload follows.
    fn start(&mut self, kind: u64, length: u64) -> Result<Option<Bytes>, CapsuleError> {
        self.current = match (kind, length) {
            (DATAGRAM, 0) => return Ok(Some(Bytes::new())),
            (DATAGRAM, ..=MAX_DATAGRAM) => Current::Datagram(length as usize),
            (DATAGRAM, _) => {
                self.current = Current::Done;
                return Err(CapsuleError::TooLong(length));
            }
            _ => Current::Other { kind, length },
        };
        Ok(None)
    }
}

/// Appends the front of a DATAGRAM capsule around a UDP payload of `length` bytes: type, length, context ID 0.
pub fn write_udp_header(length: usize, out: &mut Vec<u8>) {
    write_varint(DATAGRAM, out);
    write_varint(length as u64 + 1, out);
    out.push(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::{VARINT_MAX, datagram::Datagram, frame};

    /// All capsules of a stream that comes in these chunks, and how it ends.
    fn capsules(chunks: &[&[u8]]) -> (Vec<Capsule>, Result<(), CapsuleError>) {
        let mut reader = Capsules::default();
        let mut capsules = Vec::new();
        for chunk in chunks {
            let mut input = Bytes::copy_from_slice(chunk);
            loop {
                match reader.next(&mut input) {
                    Ok(Some(capsule)) => capsules.push(capsule),
                    Ok(None) => break,
                    Err(error) => return (capsules, Err(error)),
                }
            }
            assert!(input.is_empty());
        }
        (capsules, reader.end())
    }

    /// A capsule and a frame have one form.
    fn encode(kind: u64, value: &[u8]) -> Vec<u8> {
        frame::encode(kind, value)
    }

    fn front(kind: u64, length: u64) -> Bytes {
        let mut front = Vec::new();
        write_varint(kind, &mut front);
        write_varint(length, &mut front);
        front.into()
    }

    fn datagram(value: &[u8]) -> Capsule {
        Capsule::Datagram(Bytes::copy_from_slice(value))
    }

    #[test]
    fn c64_every_split_of_a_stream_reads_the_same() {
        let mut stream = encode(DATAGRAM, &[0, 1, 2, 3]);
        stream.extend(encode(0x17, &[9; 70]));
        stream.extend(encode(DATAGRAM, b""));
        stream.extend(encode(VARINT_MAX, b""));
        stream.extend(encode(DATAGRAM, &[5; 64]));
        // Non-minimal type and length.
        stream.extend([0x40, 0, 0x80, 0, 0, 2, 0, 7]);
        let whole = capsules(&[&stream]);
        let want = vec![
            datagram(&[0, 1, 2, 3]),
            Capsule::Skipped { kind: 0x17, length: 70 },
            datagram(b""),
            Capsule::Skipped { kind: VARINT_MAX, length: 0 },
            datagram(&[5; 64]),
            datagram(&[0, 7]),
        ];
        assert_eq!(whole, (want, Ok(())));
        for at in 0..=stream.len() {
            let (front, back) = stream.split_at(at);
            assert_eq!(capsules(&[front, back]), whole, "cut at {at}");
        }
        assert_eq!(capsules(&stream.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    }

    #[test]
    fn a_capsule_reads_the_same_at_every_varint_width() {
        for length in [0, 1, 63, 64, 16_383, 16_384, MAX_DATAGRAM] {
            let value = vec![7; length as usize];
            assert_eq!(capsules(&[&encode(DATAGRAM, &value)]), (vec![datagram(&value)], Ok(())), "{length} bytes");
            for kind in [1, 0x3f, 0x40, 0x3fff, 0x4000, 1 << 30, VARINT_MAX] {
                let skipped = vec![Capsule::Skipped { kind, length }];
                assert_eq!(capsules(&[&encode(kind, &value)]), (skipped, Ok(())), "type {kind:#x}, {length} bytes");
            }
        }
    }

    #[test]
    fn a_datagram_above_the_bound_is_too_long_before_its_value_comes() {
        for length in [MAX_DATAGRAM + 1, 1 << 40, VARINT_MAX] {
            let mut reader = Capsules::default();
            assert_eq!(reader.next(&mut front(DATAGRAM, length)), Err(CapsuleError::TooLong(length)));
            assert_eq!(reader.next(&mut Bytes::from(vec![0; 1000])), Ok(None));
            assert_eq!(reader.value.capacity(), 0, "nothing of it is kept, even if it is fed");
        }
    }

    #[test]
    fn unknown_capsules_of_any_declared_length_are_skipped_in_constant_memory() {
        let chunk = Bytes::from(vec![0; 1 << 16]);
        for length in [1 << 40, VARINT_MAX] {
            let mut reader = Capsules::default();
            assert_eq!(reader.next(&mut front(0x17, length)), Ok(None));
            for _ in 0..1000 {
                assert_eq!(reader.next(&mut chunk.clone()), Ok(None));
            }
            assert_eq!(reader.value.capacity(), 0);
            assert_eq!(reader.end(), Err(CapsuleError::Truncated));
        }
    }

    #[test]
    fn the_capsule_after_a_long_unknown_one_parses() {
        let mut stream = encode(0x29 * 5 + 0x17, &vec![0; 128 << 10]);
        stream.extend(encode(DATAGRAM, &[0, 1]));
        let want = vec![Capsule::Skipped { kind: 0x29 * 5 + 0x17, length: 128 << 10 }, datagram(&[0, 1])];
        assert_eq!(capsules(&stream.chunks(1000).collect::<Vec<_>>()), (want, Ok(())));
    }

    #[test]
    fn a_datagram_in_pieces_takes_room_only_as_it_comes() {
        let mut reader = Capsules::default();
        assert_eq!(reader.next(&mut front(DATAGRAM, MAX_DATAGRAM)), Ok(None));
        assert_eq!(reader.value.capacity(), 0);
        for arrived in 1..MAX_DATAGRAM as usize {
            assert_eq!(reader.next(&mut Bytes::from_static(b"x")), Ok(None));
            assert!(reader.value.capacity() <= (2 * arrived).min(MAX_DATAGRAM as usize));
        }
        assert_eq!(reader.next(&mut Bytes::from_static(b"x")), Ok(Some(datagram(&vec![b'x'; MAX_DATAGRAM as usize]))));
        assert_eq!(reader.value.capacity(), 0, "the room goes with the datagram");
    }

    #[test]
    fn a_datagram_within_one_chunk_is_not_copied() {
        let stream = Bytes::from(encode(DATAGRAM, &[0; 100]));
        let mut reader = Capsules::default();
        assert_eq!(reader.next(&mut stream.slice(..1)), Ok(None), "even when its front came before");
        let Ok(Some(Capsule::Datagram(value))) = reader.next(&mut stream.slice(1..)) else { panic!("a whole capsule") };
        assert_eq!(value.as_ptr(), stream[3..].as_ptr());
    }

    #[test]
    fn a_stream_may_end_only_between_capsules() {
        let mut stream = encode(DATAGRAM, &[0, 1]);
        stream.extend(encode(0x17, &[1, 2]));
        for at in 0..=stream.len() {
            let want = if [0, 4, 8].contains(&at) { Ok(()) } else { Err(CapsuleError::Truncated) };
            assert_eq!(capsules(&[&stream[..at]]).1, want, "ends after {at}");
        }
    }

    #[test]
    fn a_udp_header_counts_its_context() {
        for length in [0, 62, 63, 16_382, 16_383, MAX_UDP_PAYLOAD] {
            let payload = vec![7; length];
            let mut stream = Vec::new();
            write_udp_header(length, &mut stream);
            stream.extend_from_slice(&payload);
            let (mut read, end) = capsules(&[&stream]);
            let Some(Capsule::Datagram(value)) = read.pop() else { panic!("a datagram") };
            assert_eq!((Datagram::parse(value), read, end), (Datagram::Udp(payload.into()), vec![], Ok(())), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn there_and_back_in_any_chunks(
            sent in prop::collection::vec((prop_oneof![Just(DATAGRAM), 0..=VARINT_MAX], prop::collection::vec(any::<u8>(), 0..100)), 0..8),
            size in 1_usize..40,
        ) {
            let stream: Vec<u8> = sent.iter().flat_map(|(kind, value)| encode(*kind, value)).collect();
            let want = sent.iter().map(|(kind, value)| match *kind {
                DATAGRAM => datagram(value),
                kind => Capsule::Skipped { kind, length: value.len() as u64 },
            });
            prop_assert_eq!(capsules(&stream.chunks(size).collect::<Vec<_>>()), (want.collect(), Ok(())));
        }
    }
}
