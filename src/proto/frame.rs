//! HTTP/3 frames (RFC 9114 §7): an incremental reader that buffers nothing, and the two readers built on it.

use bytes::Bytes;

/// DATA (RFC 9114 §7.2.1).
pub const DATA: u64 = 0x0;
/// HEADERS (RFC 9114 §7.2.2).
pub const HEADERS: u64 = 0x1;
/// SETTINGS (RFC 9114 §7.2.4).
pub const SETTINGS: u64 = 0x4;
/// GOAWAY (RFC 9114 §7.2.6).
pub const GOAWAY: u64 = 0x7;

/// The size of what [`data_header`] returns.
pub const DATA_HEADER: usize = 5;

/// A piece of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A frame begins.
    Start { kind: u64, length: u64 },
    /// Some payload of the current frame; never empty.
    Payload(Bytes),
    /// The current frame is over.
    End,
}

/// Cuts a stream into frames, wherever the chunks happen to end. Holds at most 16 bytes.
#[derive(Debug, Default)]
pub struct Frames { /* private */ }

impl Frames {
    /// The next piece from the front of `input`, which is advanced. `None`: more input is needed.
    pub fn next(&mut self, input: &mut Bytes) -> Option<Piece> { todo!() }

    /// Whether the stream may end here: between frames.
    pub fn at_boundary(&self) -> bool { todo!() }
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
    pub fn code(&self) -> u64 { todo!() }
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
pub struct HeadReader { /* private */ }

impl HeadReader {
    /// Keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self { todo!() }

    /// Feeds a chunk; what is left of `input` after the head belongs to [`Body`].
    pub fn feed(&mut self, input: &mut Bytes) -> Result<Option<Section>, FrameError> { todo!() }

    /// The stream ended before the head was whole: `Truncated` inside a frame, else `Ok` (H3_REQUEST_INCOMPLETE on the stream).
    pub fn end(&self) -> Result<(), FrameError> { todo!() }
}

/// Reads the DATA of a tunnel. Empty DATA is nothing, unknown frames are skipped, every other known frame is an error.
#[derive(Debug, Default)]
pub struct Body { /* private */ }

impl Body {
    /// The next bytes of DATA in `input`, never empty; `None`: more input is needed.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, FrameError> { todo!() }

    /// Whether the stream may end here.
    pub fn end(&self) -> Result<(), FrameError> { todo!() }
}

/// The header of a DATA frame of `length` bytes, always [`DATA_HEADER`] long, so that room for it can be left in front of the payload
/// before its length is known.
///
/// # Panics
/// When `length` is 2^30 or more.
pub fn data_header(length: usize) -> [u8; DATA_HEADER] { todo!() }

/// One whole frame.
pub fn encode(kind: u64, payload: &[u8]) -> Vec<u8> { todo!() }
