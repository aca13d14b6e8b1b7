//! HTTP/3 frames (RFC 9114 §7): an incremental reader that buffers nothing but a split header, and the two readers of a request stream built on it.

use bytes::{Bytes, BytesMut};

use super::{codes::h3, read_varint, write_varint};

/// DATA (RFC 9114 §7.2.1).
pub const DATA: u64 = 0x0;
/// HEADERS (RFC 9114 §7.2.2).
pub const HEADERS: u64 = 0x1;
/// CANCEL_PUSH (RFC 9114 §7.2.3).
pub const CANCEL_PUSH: u64 = 0x3;
/// SETTINGS (RFC 9114 §7.2.4).
pub const SETTINGS: u64 = 0x4;
/// PUSH_PROMISE (RFC 9114 §7.2.5).
pub const PUSH_PROMISE: u64 = 0x5;
/// GOAWAY (RFC 9114 §7.2.6).
pub const GOAWAY: u64 = 0x7;
/// MAX_PUSH_ID (RFC 9114 §7.2.7).
pub const MAX_PUSH_ID: u64 = 0xd;

/// The size of what [`data_header`] returns.
pub const DATA_HEADER: usize = 5;

/// Whether HTTP/3 gives this frame type a meaning or keeps HTTP/2's from having one (RFC 9114 §7.2.8). Every other type is skipped.
pub const fn is_known(kind: u64) -> bool {
    matches!(kind, DATA | HEADERS | CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID | 0x2 | 0x6 | 0x8 | 0x9)
}

/// A piece of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A frame begins.
    Start {
        /// Its type.
        kind: u64,
        /// Bytes of payload it declares.
        length: u64,
    },
    /// Some payload of the current frame; never empty.
    Payload(Bytes),
    /// The current frame is over.
    End,
}

/// Cuts a stream into frames, wherever the chunks happen to end. Holds at most 16 bytes.
#[derive(Debug, Default)]
pub struct Frames {
    /// The front of a header that is not whole yet.
    header: [u8; 16],
    filled: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Header,
    Payload {
        left: u64,
    },
}

impl Frames {
    /// The next piece from the front of `input`, which is advanced. `None`: more input is needed.
    pub fn next_piece(&mut self, input: &mut Bytes) -> Option<Piece> {
        match self.state {
            State::Payload { left: 0 } => {
                self.state = State::Header;
                Some(Piece::End)
            }
            State::Payload { .. } if input.is_empty() => None,
            State::Payload { left } => {
                let taken = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                self.state = State::Payload { left: left - taken as u64 };
                Some(Piece::Payload(input.split_to(taken)))
            }
            State::Header => self.start(input),
        }
    }

    /// Whether the stream may end here: between frames.
    pub fn at_boundary(&self) -> bool {
        matches!(self.state, State::Header) && self.filled == 0
    }

    fn start(&mut self, input: &mut Bytes) -> Option<Piece> {
        // Mostly the header lies whole in the chunk.
        if self.filled == 0
            && let Some((kind, length, taken)) = read_header(input)
        {
            *input = input.slice(taken..);
            return Some(self.begin(kind, length));
        }
        let before = self.filled;
        let added = input.len().min(self.header.len() - before);
        self.header[before..before + added].copy_from_slice(&input[..added]);
        self.filled += added;
        // Two integers of 8 bytes always fit: without a whole header, all of `input` was taken.
        let Some((kind, length, taken)) = read_header(&self.header[..self.filled]) else {
            input.clear();
            return None;
        };
        *input = input.slice(taken - before..);
        Some(self.begin(kind, length))
    }

    fn begin(&mut self, kind: u64, length: u64) -> Piece {
        self.filled = 0;
        self.state = State::Payload { left: length };
        Piece::Start { kind, length }
    }
}

fn read_header(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (kind, first) = read_varint(bytes)?;
    let (length, second) = read_varint(&bytes[first..])?;
    Some((kind, length, first + second))
}

/// Why a request stream breaks HTTP/3's framing: always an error of the whole connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A known frame where it may not stand (RFC 9114 §4.1, §4.4, §7.2.8): H3_FRAME_UNEXPECTED.
    #[error("frame type {0:#x} is not allowed here")]
    Unexpected(u64),
    /// The stream ended inside a frame (RFC 9114 §7.1): H3_FRAME_ERROR.
    #[error("the stream ended inside a frame")]
    Truncated,
}

impl FrameError {
    /// The HTTP/3 error code that closes the connection.
    pub const fn code(&self) -> u64 {
        match self {
            Self::Unexpected(_) => h3::FRAME_UNEXPECTED,
            Self::Truncated => h3::FRAME_ERROR,
        }
    }
}

/// What the start of a request stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// The encoded field section, whole.
    Whole(Bytes),
    /// It is longer than the limit: 431. Nothing of it was kept.
    TooLarge,
}

/// Reads the HEADERS frame at the start of a request stream; unknown frames before it are skipped without buffering.
#[derive(Debug)]
pub struct HeadReader {
    limit: usize,
    frames: Frames,
    in_headers: bool,
    section: BytesMut,
}

impl HeadReader {
    /// Keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, frames: Frames::default(), in_headers: false, section: BytesMut::new() }
    }

    /// Feeds a chunk; what is left of `input` after the head belongs to [`Body`].
    pub fn feed(&mut self, input: &mut Bytes) -> Result<Option<Section>, FrameError> {
        while let Some(piece) = self.frames.next_piece(input) {
            match piece {
                Piece::Start { kind: HEADERS, length } if length > self.limit as u64 => return Ok(Some(Section::TooLarge)),
                Piece::Start { kind: HEADERS, .. } => self.in_headers = true,
                Piece::Start { kind, .. } if is_known(kind) => return Err(FrameError::Unexpected(kind)),
                // Whole in one chunk: no copy.
                Piece::Payload(bytes) if self.in_headers && self.section.is_empty() => {
                    if let Some(Piece::End) = self.frames.next_piece(input) {
                        return Ok(Some(Section::Whole(bytes)));
                    }
                    self.section.extend_from_slice(&bytes);
                }
                Piece::Payload(bytes) if self.in_headers => self.section.extend_from_slice(&bytes),
                Piece::End if self.in_headers => return Ok(Some(Section::Whole(self.section.split().freeze()))),
                Piece::Start { .. } | Piece::Payload(_) | Piece::End => {}
            }
        }
        Ok(None)
    }

    /// The stream ended before the head was whole: an error inside a frame, else the request alone is incomplete.
    pub fn end(&self) -> Result<(), FrameError> {
        if self.frames.at_boundary() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

/// Reads the DATA of a tunnel. Empty DATA is nothing, unknown frames are skipped, every other known frame is an error.
#[derive(Debug, Default)]
pub struct Body {
    frames: Frames,
    in_data: bool,
}

impl Body {
    /// The next bytes of DATA in `input`, never empty; `None`: more input is needed.
    pub fn next_data(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, FrameError> {
        while let Some(piece) = self.frames.next_piece(input) {
            match piece {
                Piece::Start { kind: DATA, .. } => self.in_data = true,
                Piece::Start { kind, .. } if is_known(kind) => return Err(FrameError::Unexpected(kind)),
                Piece::Start { .. } => self.in_data = false,
                Piece::Payload(bytes) if self.in_data => return Ok(Some(bytes)),
                Piece::Payload(_) | Piece::End => {}
            }
        }
        Ok(None)
    }

    /// Whether the stream may end here.
    pub fn end(&mut self) -> Result<(), FrameError> {
        // The end of the last frame may not have been asked for yet.
        while self.frames.next_piece(&mut Bytes::new()).is_some() {}
        if self.frames.at_boundary() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

/// The header of a DATA frame of `length` bytes, always [`DATA_HEADER`] long, so that room for it can be left in front of the payload
/// before its length is known.
///
/// # Panics
/// When `length` is 2^30 or more.
pub fn data_header(length: usize) -> [u8; DATA_HEADER] {
    let length = u32::try_from(length).ok().filter(|length| *length < 1 << 30).expect("a tunnel writes at most 64 KiB at once");
    let [a, b, c, d] = (0x8000_0000 | length).to_be_bytes();
    [DATA as u8, a, b, c, d]
}

/// One whole frame.
pub fn encode(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(16 + payload.len());
    write_varint(kind, &mut frame);
    write_varint(payload.len() as u64, &mut frame);
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` in chunks of `size` and gives the DATA that came out, or the error.
    fn body(bytes: &[u8], size: usize) -> Result<Vec<u8>, FrameError> {
        let mut body = Body::default();
        let mut data = Vec::new();
        for chunk in bytes.chunks(size.max(1)) {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while let Some(bytes) = body.next_data(&mut chunk)? {
                assert!(!bytes.is_empty());
                data.extend_from_slice(&bytes);
            }
            assert!(chunk.is_empty(), "every chunk is taken whole");
        }
        body.end().map(|()| data)
    }

    fn head(bytes: &[u8], size: usize, limit: usize) -> Result<Option<(Section, Vec<u8>)>, FrameError> {
        let mut reader = HeadReader::new(limit);
        let mut chunks = bytes.chunks(size.max(1));
        while let Some(chunk) = chunks.next() {
            let mut chunk = Bytes::copy_from_slice(chunk);
            if let Some(section) = reader.feed(&mut chunk)? {
                let mut left = chunk.to_vec();
                chunks.for_each(|chunk| left.extend_from_slice(chunk));
                return Ok(Some((section, left)));
            }
        }
        reader.end().map(|()| None)
    }

    #[test]
    fn c64_data_is_the_same_wherever_the_chunks_end() {
        let mut bytes = encode(DATA, b"one");
        bytes.extend(encode(DATA, b"")); // nothing, not an end
        bytes.extend(encode(0x21, &[9; 70])); // reserved for being skipped
        bytes.extend(encode(DATA, &[7; 300]));
        let want = [&b"one"[..], &[7; 300]].concat();
        for size in 1..=bytes.len() {
            assert_eq!(body(&bytes, size), Ok(want.clone()), "chunks of {size}");
        }
    }

    #[test]
    fn a_known_frame_in_a_tunnel_is_unexpected() {
        for kind in [HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID, 0x2, 0x6, 0x8, 0x9] {
            let error = FrameError::Unexpected(kind);
            assert_eq!(error.code(), h3::FRAME_UNEXPECTED);
            assert_eq!(body(&encode(kind, b"x"), 100), Err(error.clone()));
            if kind != HEADERS {
                assert_eq!(head(&encode(kind, b"x"), 100, 100), Err(error));
            }
        }
        assert_eq!(head(&encode(DATA, b"x"), 100, 100), Err(FrameError::Unexpected(DATA)));
    }

    #[test]
    fn an_end_inside_a_frame_is_truncated() {
        let whole = encode(DATA, b"four");
        for cut in 1..whole.len() {
            assert_eq!(body(&whole[..cut], 1), Err(FrameError::Truncated), "cut at {cut}");
        }
        assert_eq!(body(&whole, 1), Ok(b"four".to_vec()));
        assert_eq!(head(&[0x01], 1, 10), Err(FrameError::Truncated));
        assert_eq!(head(&[], 1, 10), Ok(None));
        assert_eq!(FrameError::Truncated.code(), h3::FRAME_ERROR);
    }

    #[test]
    fn a_head_is_found_behind_unknown_frames_and_leaves_the_rest() {
        let mut bytes = encode(0x1f * 7 + 0x21, &[0; 100]);
        bytes.extend(encode(HEADERS, b"section"));
        bytes.extend(b"rest");
        for size in 1..=bytes.len() {
            let want = Some((Section::Whole(Bytes::from_static(b"section")), b"rest".to_vec()));
            assert_eq!(head(&bytes, size, 7), Ok(want), "chunks of {size}");
        }
        assert_eq!(head(&encode(HEADERS, b""), 1, 7), Ok(Some((Section::Whole(Bytes::new()), Vec::new()))));
    }

    #[test]
    fn a_declared_length_costs_nothing() {
        let mut huge = vec![0x01];
        write_varint(super::super::VARINT_MAX, &mut huge);
        assert_eq!(head(&huge, 1, 1 << 14), Ok(Some((Section::TooLarge, Vec::new()))));
        let mut unknown = vec![0x21];
        write_varint(super::super::VARINT_MAX, &mut unknown);
        unknown.extend([0; 1000]);
        let mut reader = HeadReader::new(16);
        assert_eq!(reader.feed(&mut unknown.into()), Ok(None));
        assert_eq!(reader.section.capacity(), 0, "what is skipped is not kept");
    }

    #[test]
    fn one_byte_above_the_limit_is_too_large() {
        assert!(matches!(head(&encode(HEADERS, &[1; 16]), 64, 16), Ok(Some((Section::Whole(_), _)))));
        assert!(matches!(head(&encode(HEADERS, &[1; 17]), 64, 16), Ok(Some((Section::TooLarge, _)))));
    }

    #[test]
    fn a_data_header_reads_back_at_every_width() {
        for length in [0, 1, 63, 64, 16_383, 16_384, 65_536, (1 << 30) - 1] {
            assert_eq!(read_header(&data_header(length)), Some((DATA, length as u64, DATA_HEADER)));
        }
    }

    proptest! {
        #[test]
        fn frames_go_there_and_back(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8), size in 1_usize..64) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| encode(DATA, payload)).collect();
            prop_assert_eq!(body(&bytes, size), Ok(payloads.concat()));
        }

        #[test]
        fn no_bytes_panic_and_no_cut_matters(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..64) {
            prop_assert_eq!(body(&bytes, size), body(&bytes, usize::MAX));
            prop_assert_eq!(head(&bytes, size, 32), head(&bytes, usize::MAX, 32));
        }
    }
}
