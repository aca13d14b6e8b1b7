//! HTTP/3 frames (RFC 9114 §7): an incremental reader that buffers no payload, and the two readers built on it.
//!
//! ```text
//! chunks ──▶ Frames ── Start, Payload…, End ──▶ HeadReader   the HEADERS a request stream starts with
//!                                          └──▶ Body         the DATA of a tunnel
//! ```
//!
//! Where the chunks end never changes what is read, and a declared length costs nothing until its bytes arrive.

use std::mem;

use bytes::{Buf, Bytes};

use super::{codes, read_varint, varint_len, write_varint};

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

/// A piece of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A frame begins.
    Start {
        /// Its type, known or not.
        kind: u64,
        /// The length of its payload as declared: up to 2^62 − 1, not to be trusted.
        length: u64,
    },
    /// Some payload of the current frame; never empty, never copied.
    Payload(Bytes),
    /// The current frame is over.
    End,
}

/// Cuts a stream into frames, wherever the chunks happen to end. Holds at most 16 bytes: a frame header cut by the end of a chunk.
#[derive(Debug, Default)]
pub struct Frames {
    header: [u8; MAX_HEADER],
    /// How many bytes of `header` are there.
    held: usize,
    /// Payload of the current frame still to come; `None` between frames.
    left: Option<u64>,
}

impl Frames {
    /// The next piece from the front of `input`, which is advanced. `None`: more input is needed.
    pub fn next(&mut self, input: &mut Bytes) -> Option<Piece> {
        let Some(left) = self.left else { return self.start(input) };
        if left == 0 {
            self.left = None;
            return Some(Piece::End);
        }
        if input.is_empty() {
            return None;
        }
        let payload = input.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(input.len()));
        self.left = Some(left - payload.len() as u64);
        Some(Piece::Payload(payload))
    }

    /// Whether the stream may end here: between frames.
    pub fn at_boundary(&self) -> bool {
        self.held == 0 && self.left.unwrap_or(0) == 0
    }

    fn start(&mut self, input: &mut Bytes) -> Option<Piece> {
        let room = &mut self.header[self.held..];
        let taken = room.len().min(input.len());
        room[..taken].copy_from_slice(&input[..taken]);
        let Some((kind, length, size)) = read_header(&self.header[..self.held + taken]) else {
            // Both varints fit into `header`, so all of `input` was taken.
            self.held += taken;
            input.advance(taken);
            return None;
        };
        input.advance(size - self.held);
        self.held = 0;
        self.left = Some(length);
        Some(Piece::Start { kind, length })
    }
}

/// Two varints of 8 bytes.
const MAX_HEADER: usize = 16;

/// A frame's type, the length of its payload and the size of the header itself.
fn read_header(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (kind, kind_size) = read_varint(bytes)?;
    let (length, length_size) = read_varint(&bytes[kind_size..])?;
    Some((kind, length, kind_size + length_size))
}

/// Puts a payload of known length together; one that comes in one piece is not copied.
#[derive(Debug, Default)]
pub(super) struct Gather(Vec<u8>);

impl Gather {
    /// Adds a piece; gives the payload once all `length` bytes are there, and is empty again.
    pub(super) fn add(&mut self, piece: Bytes, length: usize) -> Option<Bytes> {
        let Self(held) = self;
        if held.is_empty() && piece.len() == length {
            return Some(piece);
        }
        let needed = held.len() + piece.len();
        if needed > held.capacity() {
            // Doubling keeps one-byte pieces linear; room for bytes that may never come is not taken beforehand.
            let room = needed.max(length.min(2 * held.capacity()));
            held.reserve_exact(room - held.len());
        }
        held.extend_from_slice(&piece);
        (held.len() >= length).then(|| mem::take(held).into())
    }

    /// The room taken for a payload that is not whole yet.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }
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
    pub fn code(&self) -> u64 {
        match self {
            Self::Unexpected(_) => codes::h3::FRAME_UNEXPECTED,
            Self::Truncated => codes::h3::FRAME_ERROR,
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
    frames: Frames,
    limit: usize,
    stage: Stage,
    section: Gather,
}

#[derive(Debug)]
enum Stage {
    /// Unknown frames may come first.
    Before,
    /// Inside HEADERS of this length.
    Inside(usize),
    /// [`HeadReader::feed`] has given its one answer.
    Answered,
}

impl HeadReader {
    /// Keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { frames: Frames::default(), limit, stage: Stage::Before, section: Gather::default() }
    }

    /// Feeds a chunk; what is left of `input` after the head belongs to [`Body`]. Answers once and takes nothing more after that;
    /// after [`Section::TooLarge`] the rest of the stream is the caller's to discard.
    pub fn feed(&mut self, input: &mut Bytes) -> Result<Option<Section>, FrameError> {
        loop {
            if matches!(self.stage, Stage::Answered) {
                return Ok(None);
            }
            let Some(piece) = self.frames.next(input) else { return Ok(None) };
            let section = match (piece, &self.stage) {
                (Piece::Start { kind: HEADERS, length }, _) => self.begin(length),
                (Piece::Start { kind, .. }, _) if is_known(kind) => return Err(FrameError::Unexpected(kind)),
                (Piece::Payload(piece), Stage::Inside(length)) => self.section.add(piece, *length).map(Section::Whole),
                (Piece::Start { .. } | Piece::Payload(_) | Piece::End, _) => None,
            };
            if section.is_some() {
                self.stage = Stage::Answered;
                return Ok(section);
            }
        }
    }

    /// The stream ended before the head was whole: `Truncated` inside a frame, else `Ok` (H3_REQUEST_INCOMPLETE on the stream).
    pub fn end(&self) -> Result<(), FrameError> {
        if self.frames.at_boundary() { Ok(()) } else { Err(FrameError::Truncated) }
    }

    /// The declared length alone may already be the answer.
    fn begin(&mut self, length: u64) -> Option<Section> {
        match usize::try_from(length) {
            Ok(0) => Some(Section::Whole(Bytes::new())),
            Ok(length) if length <= self.limit => {
                self.stage = Stage::Inside(length);
                None
            }
            _ => Some(Section::TooLarge),
        }
    }
}

/// Reads the DATA of a tunnel. Empty DATA is nothing, unknown frames are skipped, every other known frame is an error.
#[derive(Debug, Default)]
pub struct Body {
    frames: Frames,
    /// Whether the current frame is DATA; others are skipped.
    data: bool,
}

impl Body {
    /// The next bytes of DATA in `input`, never empty, never copied; `None`: more input is needed.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, FrameError> {
        while let Some(piece) = self.frames.next(input) {
            match piece {
                Piece::Start { kind: DATA, .. } => self.data = true,
                // RFC 9114 §4.4: after the 2xx of a CONNECT not even HEADERS may come.
                Piece::Start { kind, .. } if is_known(kind) => return Err(FrameError::Unexpected(kind)),
                Piece::Start { .. } => self.data = false,
                Piece::Payload(bytes) if self.data => return Ok(Some(bytes)),
                Piece::Payload(_) | Piece::End => {}
            }
        }
        Ok(None)
    }

    /// Whether the stream may end here.
    pub fn end(&self) -> Result<(), FrameError> {
        if self.frames.at_boundary() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

/// Frame types RFC 9114 gives a meaning (§7.2, Table 1), or reserves because HTTP/2 did (§7.2.8). All others are skipped (§9).
pub(crate) const fn is_known(kind: u64) -> bool {
    matches!(kind, DATA | HEADERS | CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID) || matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
}

/// The header of a DATA frame of `length` bytes, always [`DATA_HEADER`] long, so that room for it can be left in front of the payload
/// before its length is known.
///
/// # Panics
/// When `length` is 2^30 or more.
pub fn data_header(length: usize) -> [u8; DATA_HEADER] {
    assert!(length < 1 << 30, "a DATA frame of this relay is shorter than 2^30 bytes");
    let [a, b, c, d] = (0x8000_0000 | length as u32).to_be_bytes();
    [DATA as u8, a, b, c, d]
}

/// One whole frame.
pub fn encode(kind: u64, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u64;
    let mut frame = Vec::with_capacity(varint_len(kind) + varint_len(length) + payload.len());
    write_varint(kind, &mut frame);
    write_varint(length, &mut frame);
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::VARINT_MAX;

    /// A greased type (RFC 9114 §7.2.8): 0x1f × 0 + 0x21.
    const GREASE: u64 = 0x21;

    /// The front of a frame whose payload may never come.
    fn front(kind: u64, length: u64) -> Vec<u8> {
        let mut front = Vec::new();
        write_varint(kind, &mut front);
        write_varint(length, &mut front);
        front
    }

    /// All frames of a stream that comes in these chunks, and whether it may end there.
    fn frames(chunks: &[&[u8]]) -> (Vec<(u64, Vec<u8>)>, bool) {
        let mut reader = Frames::default();
        let mut frames = Vec::new();
        for chunk in chunks {
            let mut input = Bytes::copy_from_slice(chunk);
            while let Some(piece) = reader.next(&mut input) {
                match piece {
                    Piece::Start { kind, .. } => frames.push((kind, Vec::new())),
                    Piece::Payload(bytes) => frames.last_mut().unwrap().1.extend_from_slice(&bytes),
                    Piece::End => {}
                }
            }
            assert!(input.is_empty());
        }
        (frames, reader.at_boundary())
    }

    /// What a request stream that comes in these chunks says: the head, the DATA after it, the error if there is one.
    fn request(chunks: &[&[u8]]) -> (Option<Section>, Vec<u8>, Result<(), FrameError>) {
        let mut head = HeadReader::new(64);
        let mut body = Body::default();
        let mut section = None;
        let mut data = Vec::new();
        for chunk in chunks {
            let mut input = Bytes::copy_from_slice(chunk);
            if section.is_none() {
                match head.feed(&mut input) {
                    Ok(answer) => section = answer,
                    Err(error) => return (section, data, Err(error)),
                }
            }
            if section.is_none() {
                assert!(input.is_empty());
                continue;
            }
            loop {
                match body.next(&mut input) {
                    Ok(Some(bytes)) => data.extend_from_slice(&bytes),
                    Ok(None) => break,
                    Err(error) => return (section, data, Err(error)),
                }
            }
        }
        let end = if section.is_some() { body.end() } else { head.end() };
        (section, data, end)
    }

    fn head(bytes: &[u8], limit: usize) -> Result<Option<Section>, FrameError> {
        HeadReader::new(limit).feed(&mut Bytes::copy_from_slice(bytes))
    }

    fn body(bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut input = Bytes::copy_from_slice(bytes);
        let mut body = Body::default();
        let mut data = Vec::new();
        while let Some(bytes) = body.next(&mut input)? {
            data.extend_from_slice(&bytes);
        }
        body.end().map(|()| data)
    }

    fn lies_in(part: &Bytes, whole: &Bytes) -> bool {
        whole.as_ptr_range().contains(&part.as_ptr())
    }

    #[test]
    fn a_frame_reads_the_same_at_every_varint_width() {
        for length in [0, 1, 63, 64, 16_383, 16_384, 70_000] {
            for kind in [0x0, 0x3f, 0x40, 0x3fff, 0x4000, (1 << 30) - 1, 1 << 30, VARINT_MAX] {
                let payload = vec![7; length];
                let frame = encode(kind, &payload);
                assert_eq!(frames(&[&frame]), (vec![(kind, payload)], true), "type {kind:#x}, {length} bytes");
            }
        }
    }

    #[test]
    fn non_minimal_varints_are_accepted() {
        let bytes = [0x40, 0x00, 0xc0, 0, 0, 0, 0, 0, 0, 2, 7, 8];
        assert_eq!(frames(&[&bytes]), (vec![(DATA, vec![7, 8])], true));
    }

    #[test]
    fn c64_every_split_of_a_stream_reads_the_same() {
        let mut stream = encode(GREASE, &[9; 70]);
        stream.extend(encode(VARINT_MAX, b""));
        stream.extend(encode(HEADERS, &[1; 64]));
        stream.extend(encode(DATA, b"one"));
        stream.extend(encode(DATA, b""));
        stream.extend(encode(GREASE + 0x1f, &[9; 3]));
        stream.extend([0x80, 0, 0, 0, 0x40, 3]);
        stream.extend(b"two");
        let whole = request(&[&stream]);
        assert_eq!(whole, (Some(Section::Whole(vec![1; 64].into())), b"onetwo".to_vec(), Ok(())));
        for at in 0..=stream.len() {
            let (front, back) = stream.split_at(at);
            assert_eq!(request(&[front, back]), whole, "cut at {at}");
        }
        assert_eq!(request(&stream.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    }

    #[test]
    fn a_stream_may_end_only_between_frames() {
        let mut stream = encode(GREASE, b"ab");
        stream.extend(encode(DATA, b""));
        stream.extend(encode(DATA, b"c"));
        let boundaries: Vec<_> = (0..=stream.len()).filter(|at| frames(&[&stream[..*at]]).1).collect();
        assert_eq!(boundaries, [0, 4, 6, 9]);
        assert_eq!(body(&stream), Ok(b"c".to_vec()));
        assert_eq!(body(&stream[..8]), Err(FrameError::Truncated));
        assert_eq!(request(&[&stream[..4]]), (None, vec![], Ok(())));
        assert_eq!(request(&[&stream[..3]]), (None, vec![], Err(FrameError::Truncated)));
        assert_eq!(request(&[&[0x40]]), (None, vec![], Err(FrameError::Truncated)));
    }

    #[test]
    fn known_frames_are_unexpected_before_the_head() {
        for kind in [DATA, 0x2, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, 0x6, GOAWAY, 0x8, 0x9, MAX_PUSH_ID] {
            assert_eq!(head(&front(kind, 0), 64), Err(FrameError::Unexpected(kind)), "alone");
            let mut later = encode(GREASE, b"x");
            later.extend(front(kind, VARINT_MAX));
            assert_eq!(head(&later, 64), Err(FrameError::Unexpected(kind)), "after an unknown frame");
        }
    }

    #[test]
    fn known_frames_other_than_data_are_unexpected_in_a_tunnel() {
        for kind in [HEADERS, 0x2, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, 0x6, GOAWAY, 0x8, 0x9, MAX_PUSH_ID] {
            assert_eq!(body(&front(kind, 0)), Err(FrameError::Unexpected(kind)));
        }
        for kind in [0xa, 0xb, 0xc, 0xe, GREASE, 0xf_0700, VARINT_MAX] {
            let mut stream = encode(kind, b"skipped");
            stream.extend(encode(DATA, b"kept"));
            assert_eq!(body(&stream), Ok(b"kept".to_vec()), "type {kind:#x}");
        }
    }

    #[test]
    fn errors_know_their_code() {
        assert_eq!(FrameError::Unexpected(HEADERS).code(), 0x105);
        assert_eq!(FrameError::Truncated.code(), 0x106);
    }

    #[test]
    fn a_head_at_the_limit_is_whole_and_one_above_is_too_large() {
        for limit in [0, 1, 63, 64, 16_384] {
            let (fits, above) = (vec![1; limit], vec![1; limit + 1]);
            assert_eq!(head(&encode(HEADERS, &fits), limit), Ok(Some(Section::Whole(fits.into()))));
            assert_eq!(head(&encode(HEADERS, &above), limit), Ok(Some(Section::TooLarge)));
        }
    }

    #[test]
    fn too_large_follows_from_the_declared_length_alone() {
        for length in [65, 1 << 40, VARINT_MAX] {
            let mut reader = HeadReader::new(64);
            let mut input = Bytes::from(front(HEADERS, length));
            assert_eq!(reader.feed(&mut input), Ok(Some(Section::TooLarge)));
            let mut more = Bytes::from(vec![0; 1000]);
            assert_eq!(reader.feed(&mut more), Ok(None));
            assert_eq!((more.len(), reader.section.capacity()), (1000, 0), "nothing more is taken");
        }
    }

    #[test]
    fn an_unknown_frame_of_any_declared_length_is_skipped_without_buffering() {
        let chunk = Bytes::from(vec![0; 1 << 16]);
        for length in [1 << 40, VARINT_MAX] {
            let mut reader = HeadReader::new(64);
            let mut tunnel = Body::default();
            let mut input = Bytes::from(front(GREASE, length));
            assert_eq!(tunnel.next(&mut input.clone()), Ok(None));
            assert_eq!(reader.feed(&mut input), Ok(None));
            for _ in 0..1000 {
                assert_eq!(reader.feed(&mut chunk.clone()), Ok(None));
                assert_eq!(tunnel.next(&mut chunk.clone()), Ok(None));
            }
            assert_eq!(reader.section.capacity(), 0);
            assert_eq!((reader.end(), tunnel.end()), (Err(FrameError::Truncated), Err(FrameError::Truncated)));
        }
    }

    #[test]
    fn a_head_in_pieces_takes_room_only_as_it_comes() {
        let mut reader = HeadReader::new(16_384);
        assert_eq!(reader.feed(&mut Bytes::from(front(HEADERS, 16_384))), Ok(None));
        assert_eq!(reader.section.capacity(), 0);
        for arrived in 1..16_384 {
            assert_eq!(reader.feed(&mut Bytes::from_static(b"x")), Ok(None));
            assert!(reader.section.capacity() <= 2 * arrived);
        }
        let mut last = Bytes::from_static(b"xrest");
        assert_eq!(reader.feed(&mut last), Ok(Some(Section::Whole(vec![b'x'; 16_384].into()))));
        assert_eq!(last, "rest", "what follows the head is left");
    }

    #[test]
    fn room_for_a_payload_in_pieces_never_exceeds_its_length() {
        let mut gather = Gather::default();
        assert_eq!(gather.add(vec![1; 600].into(), 1000), None);
        assert_eq!(gather.add(vec![1; 300].into(), 1000), None);
        assert!(gather.capacity() <= 1000);
        assert_eq!(gather.add(vec![1; 100].into(), 1000), Some(vec![1; 1000].into()));
        assert_eq!(gather.capacity(), 0);
    }

    #[test]
    fn what_lies_in_one_chunk_is_not_copied() {
        let mut stream = encode(HEADERS, &[1; 50]);
        stream.extend(encode(DATA, &[2; 50]));
        let chunk = Bytes::from(stream);
        let mut input = chunk.clone();
        let Ok(Some(Section::Whole(section))) = HeadReader::new(64).feed(&mut input) else { panic!("a whole head") };
        let Ok(Some(data)) = Body::default().next(&mut input) else { panic!("some data") };
        assert!(lies_in(&section, &chunk) && lies_in(&data, &chunk));
    }

    #[test]
    fn data_of_one_byte_frames_is_linear() {
        const FRAMES: usize = 1 << 20;
        let chunk = Bytes::from(encode(DATA, b"x").repeat(FRAMES));
        let (mut input, mut body, mut pieces) = (chunk.clone(), Body::default(), 0);
        while let Some(data) = body.next(&mut input).unwrap() {
            pieces += 1;
            assert!(data == "x" && lies_in(&data, &chunk));
            assert_eq!(input.len(), 3 * (FRAMES - pieces), "each call takes one frame and no more");
        }
        assert_eq!(pieces, FRAMES);
    }

    #[test]
    fn a_data_header_has_room_for_every_length() {
        for length in [0, 63, 64, 16_383, 16_384, (1 << 30) - 1] {
            let header = data_header(length);
            assert_eq!(read_header(&header), Some((DATA, length as u64, DATA_HEADER)));
        }
    }

    #[test]
    #[should_panic(expected = "shorter than 2^30 bytes")]
    fn a_data_header_of_2_to_the_30_panics() {
        data_header(1 << 30);
    }

    proptest! {
        #[test]
        fn frames_there_and_back(
            sent in prop::collection::vec((0..=VARINT_MAX, prop::collection::vec(any::<u8>(), 0..200)), 0..8),
            size in 1_usize..40,
        ) {
            let stream: Vec<u8> = sent.iter().flat_map(|(kind, payload)| encode(*kind, payload)).collect();
            prop_assert_eq!(frames(&stream.chunks(size).collect::<Vec<_>>()), (sent, true));
        }

        #[test]
        fn any_bytes_read_the_same_in_any_chunks(
            stream in prop::collection::vec(prop_oneof![0_u8..16, any::<u8>()], 0..200),
            size in 1_usize..40,
        ) {
            prop_assert_eq!(request(&stream.chunks(size).collect::<Vec<_>>()), request(&[&stream]));
        }
    }
}
