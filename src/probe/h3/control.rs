//! The unidirectional streams: ours to write on, the relay's to check (RFC 9114 §6.2, §7; RFC 9204 §4.2).

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt};
use tokio::{sync::Mutex, time::Instant};

use super::{Quic, note_closed, stream::write_end, varint};
use crate::{
    probe::{CriticalEnd, StreamEnd},
    proto::{
        codes::h3,
        frame::{self, Frames, Piece},
        read_varint,
        settings::Settings,
    },
};

/// Our control stream, to be used well or badly.
#[derive(Debug)]
pub struct Control<'a> {
    pub(super) stream: &'a Mutex<SendStream>,
    pub(super) quic: &'a Quic,
}

impl Control<'_> {
    /// Writes bytes as they are.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), StreamEnd> {
        self.stream.lock().await.write_all(bytes).await.map_err(|error| write_end(self.quic, error))
    }

    /// Sends FIN: H3_CLOSED_CRITICAL_STREAM for the relay.
    pub async fn finish(&self) -> Result<(), StreamEnd> {
        self.stream.lock().await.finish().map_err(|_| StreamEnd::EndedHere)
    }

    /// Resets it: likewise.
    pub async fn reset(&self, code: u64) -> Result<(), StreamEnd> {
        self.stream.lock().await.reset(varint(code)).map_err(|_| StreamEnd::EndedHere)
    }
}

/// Reads every unidirectional stream the relay opens, until the connection is over.
pub(super) async fn watch(quic: Arc<Quic>) {
    let critical = std::sync::Mutex::new(Vec::new());
    let mut streams = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = quic.connection.accept_uni() => match stream {
                Ok(stream) => streams.push(read(&quic, &critical, stream)),
                Err(error) => return note_closed(&quic, &error),
            },
            Some(()) = streams.next() => {}
        }
    }
}

/// Waits for the relay to stop one of ours, which it must not ask for (RFC 9114 §6.2.1, RFC 9204 §4.2).
pub(super) async fn watch_ours(quic: Arc<Quic>, kind: u64, stopped: impl Future<Output = Result<Option<VarInt>, StoppedError>>) {
    let Ok(Some(code)) = stopped.await else { return };
    note(&quic, CriticalEnd::Stopped(kind, code.into_inner()));
    quic.violated(h3::CLOSED_CRITICAL_STREAM, format!("our stream of type {kind:#x} was stopped (RFC 9114 §6.2.1, RFC 9204 §4.2)"));
}

fn note(quic: &Quic, end: CriticalEnd) {
    quic.shared.state.send_modify(|state| state.critical.push(end));
}

async fn read(quic: &Quic, critical: &std::sync::Mutex<Vec<u64>>, stream: RecvStream) {
    let mut stream = Incoming { stream, rest: Bytes::new(), reset: None };
    // A stream may end before its type is known (RFC 9114 §6.2).
    let Some(kind) = stream.varint().await else { return };
    if matches!(kind, CONTROL | QPACK_ENCODER | QPACK_DECODER) {
        let mut critical = critical.lock().expect("nothing panics while it is held");
        if critical.contains(&kind) {
            quic.violated(h3::STREAM_CREATION_ERROR, format!("a second stream of type {kind:#x} (RFC 9114 §6.2.1, RFC 9204 §4.2)"));
            return;
        }
        critical.push(kind);
    }
    let ended = match kind {
        CONTROL => control(quic, &mut stream).await,
        QPACK_ENCODER => encoder(quic, &mut stream).await,
        QPACK_DECODER => stream.discard().await,
        PUSH => {
            quic.violated(h3::ID_ERROR, "a push stream, though no push was allowed (RFC 9114 §4.6)");
            return;
        }
        _ => {
            stream.stop();
            return;
        }
    };
    if ended {
        note(quic, stream.reset.map_or(CriticalEnd::Finished(kind), |code| CriticalEnd::Reset(kind, code)));
        quic.violated(h3::CLOSED_CRITICAL_STREAM, format!("the stream of type {kind:#x} was closed (RFC 9114 §6.2.1, RFC 9204 §4.2)"));
    }
}

/// Reads the relay's control stream. Gives whether the relay ended it; otherwise a violation is noted or the connection is over.
async fn control(quic: &Quic, stream: &mut Incoming) -> bool {
    let mut frames = Frames::default();
    let mut reader = ControlReader::default();
    loop {
        while let Some(piece) = frames.next(&mut stream.rest) {
            if let Err((code, rule)) = reader.take(quic, piece) {
                quic.violated(code, rule);
                return false;
            }
        }
        match stream.more().await {
            More::Some => {}
            More::Ended => return true,
            More::Lost => return false,
        }
    }
}

/// What the control stream said so far.
#[derive(Default)]
struct ControlReader {
    settings: bool,
    kind: u64,
    payload: Vec<u8>,
}

impl ControlReader {
    fn take(&mut self, quic: &Quic, piece: Piece) -> Result<(), (u64, String)> {
        match piece {
            Piece::Start { kind, length } => self.start(kind, length),
            Piece::Payload(bytes) => {
                if matches!(self.kind, frame::SETTINGS | frame::GOAWAY) {
                    self.payload.extend_from_slice(&bytes);
                }
                Ok(())
            }
            Piece::End => self.end(quic),
        }
    }

    fn start(&mut self, kind: u64, length: u64) -> Result<(), (u64, String)> {
        let limit = match (self.settings, kind) {
            (false, frame::SETTINGS) => MAX_SETTINGS,
            (false, _) => return Err((h3::MISSING_SETTINGS, format!("frame {kind:#x} before SETTINGS (RFC 9114 §6.2.1)"))),
            (true, frame::SETTINGS) => return Err((h3::FRAME_UNEXPECTED, "a second SETTINGS frame (RFC 9114 §7.2.4)".into())),
            (true, frame::GOAWAY) => 8,
            (true, CANCEL_PUSH) => return Err((h3::ID_ERROR, "CANCEL_PUSH without a push (RFC 9114 §7.2.3)".into())),
            // MAX_PUSH_ID is the client's to send; the others are HTTP/2's or belong on request streams.
            (true, frame::DATA | frame::HEADERS | PUSH_PROMISE | MAX_PUSH_ID | 0x2 | 0x6 | 0x8 | 0x9) => {
                return Err((h3::FRAME_UNEXPECTED, format!("frame {kind:#x} on the control stream (RFC 9114 §7.2)")));
            }
            (true, _) => u64::MAX,
        };
        if length > limit {
            return Err((h3::EXCESSIVE_LOAD, format!("frame {kind:#x} of {length} bytes on the control stream")));
        }
        self.kind = kind;
        self.payload.clear();
        Ok(())
    }

    fn end(&mut self, quic: &Quic) -> Result<(), (u64, String)> {
        match self.kind {
            frame::SETTINGS => {
                let settings = Settings::parse(&self.payload).map_err(|error| (error.code(), error.to_string()))?;
                self.settings = true;
                quic.shared.state.send_modify(|state| {
                    state.settings = Some(settings);
                    state.settings_at = Some(Instant::now());
                });
                Ok(())
            }
            frame::GOAWAY => self.goaway(quic),
            _ => Ok(()),
        }
    }

    fn goaway(&self, quic: &Quic) -> Result<(), (u64, String)> {
        let id = match read_varint(&self.payload) {
            Some((id, length)) if length == self.payload.len() => id,
            _ => return Err((h3::FRAME_ERROR, "a GOAWAY that does not hold one integer (RFC 9114 §7.1)".into())),
        };
        if id % 4 != 0 {
            return Err((h3::ID_ERROR, format!("GOAWAY {id}, not a request stream's identifier (RFC 9114 §7.2.6)")));
        }
        if quic.shared.state.borrow().goaways.last().is_some_and(|last| *last < id) {
            return Err((h3::ID_ERROR, format!("GOAWAY {id}, larger than the one before (RFC 9114 §5.2)")));
        }
        quic.shared.state.send_modify(|state| state.goaways.push(id));
        Ok(())
    }
}

/// We allow a dynamic table of no bytes, so the only instruction that can come is to set its capacity to 0 (RFC 9204 §3.2.3, §4.3.1).
async fn encoder(quic: &Quic, stream: &mut Incoming) -> bool {
    loop {
        // What came with the stream's type first.
        if std::mem::take(&mut stream.rest).iter().any(|byte| *byte != SET_CAPACITY_0) {
            quic.violated(h3::QPACK_ENCODER_STREAM_ERROR, "an entry for a dynamic table of no bytes (RFC 9204 §3.2.2)");
            return false;
        }
        match stream.more().await {
            More::Some => {}
            More::Ended => return true,
            More::Lost => return false,
        }
    }
}

/// A unidirectional stream of the relay's.
struct Incoming {
    stream: RecvStream,
    rest: Bytes,
    /// The code it was reset with, if it was.
    reset: Option<u64>,
}

/// What more there is of it.
enum More {
    /// Bytes, in `rest`.
    Some,
    /// The relay finished or reset it.
    Ended,
    /// The connection is over.
    Lost,
}

impl Incoming {
    async fn more(&mut self) -> More {
        match self.stream.read_chunk(CHUNK, true).await {
            Ok(Some(chunk)) => {
                self.rest = chunk.bytes;
                More::Some
            }
            Ok(None) => More::Ended,
            Err(ReadError::Reset(code)) => {
                self.reset = Some(code.into_inner());
                More::Ended
            }
            Err(_) => More::Lost,
        }
    }

    async fn varint(&mut self) -> Option<u64> {
        let mut bytes = Vec::new();
        loop {
            if let Some((value, length)) = read_varint(&bytes) {
                self.rest = Bytes::from(bytes).split_off(length);
                return Some(value);
            }
            match self.more().await {
                More::Some => bytes.extend_from_slice(&self.rest),
                More::Ended | More::Lost => return None,
            }
        }
    }

    async fn discard(&mut self) -> bool {
        loop {
            match self.more().await {
                More::Some => {}
                More::Ended => return true,
                More::Lost => return false,
            }
        }
    }

    /// A type nobody here knows (RFC 9114 §6.2.3).
    fn stop(&mut self) {
        // It may have ended by itself, which is as good.
        self.stream.stop(varint(h3::STREAM_CREATION_ERROR)).ok();
    }
}

/// Stream types (RFC 9114 §6.2, RFC 9204 §4.2).
pub(super) const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const QPACK_ENCODER: u64 = 0x2;
const QPACK_DECODER: u64 = 0x3;

/// Frame types that only matter here (RFC 9114 §7.2).
const CANCEL_PUSH: u64 = 0x3;
const PUSH_PROMISE: u64 = 0x5;
const MAX_PUSH_ID: u64 = 0xd;

/// Set Dynamic Table Capacity (RFC 9204 §4.3.1).
const SET_CAPACITY_0: u8 = 0x20;

/// A thousand settings of sixteen bytes: nobody has more to say.
const MAX_SETTINGS: u64 = 16 << 10;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
