//! What a client may say on its unidirectional streams (RFC 9114 §6.2, RFC 9204 §4.2), checked before h3 sees a byte of it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::proto::{
    codes::h3 as code,
    frame::{self, Frames, Piece},
    read_varint,
    settings::Settings,
};

/// The longest SETTINGS frame read: 4 KiB hold some 250 settings; a client has less than 20.
const MAX_SETTINGS: u64 = 4096;

/// A rule was broken: the connection closes with this code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) code: u64,
    pub(super) why: &'static str,
}

/// The state of one of the client's unidirectional streams.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// The bytes of a type that is not whole yet, at most 7.
    start: Vec<u8>,
    kind: Kind,
    settings: Option<Settings>,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Unknown,
    Control(Box<ControlStream>),
    Encoder,
    Decoder {
        skipping: bool,
    },
    /// Any other type: h3 stops it and nobody reads it.
    Other,
}

#[derive(Debug, Default)]
struct ControlStream {
    frames: Frames,
    current: u64,
    payload: BytesMut,
    settled: bool,
    max_push: Option<u64>,
}

impl Inbound {
    /// Takes what arrived and gives what h3 may see of it, which may be nothing.
    pub(super) fn feed(&mut self, chunk: Bytes) -> Result<Bytes, Breach> {
        if !matches!(self.kind, Kind::Unknown) {
            return self.rest(chunk);
        }
        let taken = self.start.len();
        self.start.extend_from_slice(&chunk[..chunk.len().min(8 - taken)]);
        let Some((kind, len)) = read_varint(&self.start) else { return Ok(Bytes::new()) };
        self.kind = match kind {
            0x00 => Kind::Control(Box::default()),
            0x01 => return Err(Breach { code: code::STREAM_CREATION_ERROR, why: "a client cannot push" }),
            0x02 => Kind::Encoder,
            0x03 => Kind::Decoder { skipping: false },
            _ => Kind::Other,
        };
        let mut visible = BytesMut::from(&self.start[..len]);
        self.start = Vec::new();
        visible.extend_from_slice(&self.rest(chunk.slice(len - taken..))?);
        Ok(visible.freeze())
    }

    /// The stream was finished or reset.
    pub(super) fn ended(&self) -> Result<(), Breach> {
        match self.kind {
            // RFC 9114 §6.2: a stream may end before its type came.
            Kind::Unknown | Kind::Other => Ok(()),
            Kind::Control(_) | Kind::Encoder | Kind::Decoder { .. } => {
                Err(Breach { code: code::CLOSED_CRITICAL_STREAM, why: "the client closed a critical stream" })
            }
        }
    }

    /// The client's SETTINGS, once, when they have come.
    pub(super) fn settings(&mut self) -> Option<Settings> {
        self.settings.take()
    }

    /// What is called critical of it (RFC 9114 §6.2.1, RFC 9204 §4.2).
    pub(super) const fn critical(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Control(_) => Some("control"),
            Kind::Encoder => Some("encoder"),
            Kind::Decoder { .. } => Some("decoder"),
            Kind::Unknown | Kind::Other => None,
        }
    }

    /// Whether this is a QPACK stream, which h3 would leave unread.
    pub(super) fn is_qpack(&self) -> bool {
        matches!(self.kind, Kind::Encoder | Kind::Decoder { .. })
    }

    fn rest(&mut self, chunk: Bytes) -> Result<Bytes, Breach> {
        match &mut self.kind {
            Kind::Control(control) => control.feed(chunk, &mut self.settings),
            Kind::Encoder => check_encoder(&chunk).map(|()| Bytes::new()),
            Kind::Decoder { skipping } => check_decoder(&chunk, skipping).map(|()| Bytes::new()),
            Kind::Unknown | Kind::Other => Ok(Bytes::new()),
        }
    }
}

impl ControlStream {
    /// Known frames go on to h3 whole and of bounded size; unknown ones are skipped.
    fn feed(&mut self, mut chunk: Bytes, settings: &mut Option<Settings>) -> Result<Bytes, Breach> {
        let mut visible = BytesMut::new();
        while let Some(piece) = self.frames.next(&mut chunk) {
            match piece {
                Piece::Start { kind, length } => self.start(kind, length)?,
                Piece::Payload(bytes) if is_kept(self.current) => self.payload.put(bytes),
                Piece::End if is_kept(self.current) => {
                    self.whole(settings)?;
                    visible.extend_from_slice(&frame::encode(self.current, &self.payload));
                    self.payload.clear();
                }
                Piece::Payload(_) | Piece::End => {}
            }
        }
        Ok(visible.freeze())
    }

    fn start(&mut self, kind: u64, length: u64) -> Result<(), Breach> {
        // RFC 9114 §6.2.1: the first frame is SETTINGS, and a frame of unknown type is a frame too.
        if kind != frame::SETTINGS && !self.settled {
            return Err(Breach { code: code::MISSING_SETTINGS, why: "the control stream does not begin with SETTINGS" });
        }
        if kind == frame::SETTINGS && self.settled {
            return Err(Breach { code: code::FRAME_UNEXPECTED, why: "a second SETTINGS" });
        }
        match kind {
            frame::SETTINGS if length > MAX_SETTINGS => Err(Breach { code: code::EXCESSIVE_LOAD, why: "SETTINGS of more than 4096 bytes" }),
            // An identifier is one variable-length integer.
            frame::GOAWAY | frame::CANCEL_PUSH | frame::MAX_PUSH_ID if length > 8 || length == 0 => {
                Err(Breach { code: code::FRAME_ERROR, why: "a control frame of impossible length" })
            }
            kind if !is_kept(kind) && frame::is_known(kind) => {
                Err(Breach { code: code::FRAME_UNEXPECTED, why: "a frame that does not belong on the control stream" })
            }
            _ => Ok(()),
        }?;
        self.current = kind;
        self.settled = true;
        Ok(())
    }

    /// A kept frame is whole: what h3 leaves unchecked.
    fn whole(&mut self, settings: &mut Option<Settings>) -> Result<(), Breach> {
        if self.current == frame::SETTINGS {
            let read = Settings::parse(&self.payload)
                .map_err(|error| Breach { code: error.code(), why: "SETTINGS break a rule of HTTP/3 or of HTTP Datagrams" })?;
            *settings = Some(read);
            return Ok(());
        }
        let id = match read_varint(&self.payload) {
            Some((id, len)) if len == self.payload.len() => id,
            _ => return Err(Breach { code: code::FRAME_ERROR, why: "a control frame of impossible length" }),
        };
        match self.current {
            // RFC 9114 §7.2.3: we never promised a push.
            frame::CANCEL_PUSH => Err(Breach { code: code::ID_ERROR, why: "a push that was never promised is cancelled" }),
            // RFC 9114 §7.2.7.
            frame::MAX_PUSH_ID if self.max_push.is_some_and(|max| id < max) => {
                Err(Breach { code: code::ID_ERROR, why: "MAX_PUSH_ID went down" })
            }
            frame::MAX_PUSH_ID => {
                self.max_push = Some(id);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Frames that belong on a control stream (RFC 9114 §7, table 1).
fn is_kept(kind: u64) -> bool {
    matches!(kind, frame::SETTINGS | frame::GOAWAY | frame::CANCEL_PUSH | frame::MAX_PUSH_ID)
}

/// With a table of capacity 0 the only instruction is to set the capacity to 0 (RFC 9204 §4.3.1).
fn check_encoder(bytes: &[u8]) -> Result<(), Breach> {
    if bytes.iter().all(|byte| *byte == 0x20) {
        return Ok(());
    }
    Err(Breach { code: code::QPACK_ENCODER_STREAM_ERROR, why: "an encoder instruction for a table of capacity 0" })
}

/// We never refer to a table, so nothing can be acknowledged: only streams can be cancelled (RFC 9204 §4.4.2).
fn check_decoder(bytes: &[u8], skipping: &mut bool) -> Result<(), Breach> {
    for byte in bytes {
        if *skipping {
            *skipping = byte & 0x80 != 0;
        } else if byte & 0xc0 == 0x40 {
            *skipping = byte & 0x3f == 0x3f;
        } else {
            return Err(Breach { code: code::QPACK_DECODER_STREAM_ERROR, why: "the acknowledgement of something that was never sent" });
        }
    }
    Ok(())
}
