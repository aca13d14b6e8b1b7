//! The two halves of a request stream.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, StoppedError, WriteError};

use super::{
    Answer, ProbeError, StreamEnd,
    shared::{Shared, varint, within},
};
use crate::proto::{
    codes::h3,
    frame::{self, Body, FrameError, HeadReader, Section},
    head::Head,
    qpack::{self, QpackError},
};

/// Our side of a request stream. Dropped before its end it is reset with H3_REQUEST_CANCELLED.
#[derive(Debug)]
pub struct SendHalf {
    stream: SendStream,
    shared: Arc<Shared>,
    /// Finished or reset: dropping does nothing more. (A reset after FIN would take back what is not acknowledged yet.)
    over: bool,
}

impl SendHalf {
    pub(super) fn new(stream: SendStream, shared: Arc<Shared>) -> Self {
        Self { stream, shared, over: false }
    }

    /// The stream's identifier.
    pub fn id(&self) -> u64 {
        quinn::VarInt::from(self.stream.id()).into_inner()
    }

    /// Sends one HEADERS frame.
    pub async fn send_head(&mut self, head: &Head) -> Result<(), StreamEnd> {
        self.send_raw(frame::encode(frame::HEADERS, &qpack::encode(head)).into()).await
    }

    /// Sends `payload` in one DATA frame; nothing for an empty one. Waits for flow control, without a limit. Not cancel safe: a frame may
    /// be left half written.
    pub async fn send(&mut self, payload: Bytes) -> Result<(), StreamEnd> {
        if payload.is_empty() {
            return Ok(());
        }
        let header = frame::data_header(payload.len());
        let sent = self.stream.write_all_chunks(&mut [Bytes::copy_from_slice(&header), payload]).await;
        sent.map_err(|error| write_end(&self.shared, error))
    }

    /// Sends bytes as they are: frames of any kind, or none. Otherwise like [`Self::send`].
    pub async fn send_raw(&mut self, bytes: Bytes) -> Result<(), StreamEnd> {
        self.stream.write_chunk(bytes).await.map_err(|error| write_end(&self.shared, error))
    }

    /// Sends FIN.
    pub fn finish(&mut self) -> Result<(), StreamEnd> {
        self.over = true;
        self.stream.finish().map_err(|_| StreamEnd::EndedHere)
    }

    /// Sends RESET_STREAM.
    pub fn reset(&mut self, code: u64) -> Result<(), StreamEnd> {
        self.over = true;
        self.stream.reset(varint(code)).map_err(|_| StreamEnd::EndedHere)
    }

    /// Waits until the relay stops reading ([`StreamEnd::Stopped`]), or has acknowledged all of a finished stream
    /// ([`StreamEnd::EndedHere`]). Cancel safe.
    pub async fn stopped(&self) -> StreamEnd {
        match within(self.shared.options.patience, self.stream.stopped()).await {
            Ok(Ok(Some(code))) => StreamEnd::Stopped(code.into_inner()),
            Ok(Ok(None) | Err(StoppedError::ZeroRttRejected)) => StreamEnd::EndedHere,
            Ok(Err(StoppedError::ConnectionLost(error))) => self.shared.lost(&error),
            Err(_) => StreamEnd::TimedOut,
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.over {
            // An error says that the relay has stopped it already.
            self.stream.reset(varint(h3::REQUEST_CANCELLED)).ok();
        }
    }
}

/// The relay's side of a request stream. Dropped before its end it is stopped with H3_REQUEST_CANCELLED.
#[derive(Debug)]
pub struct RecvHalf {
    stream: RecvStream,
    shared: Arc<Shared>,
    rest: Bytes,
    body: Body,
    /// How it ended, once it has: asking again gives the same.
    ended: Option<StreamEnd>,
}

impl RecvHalf {
    pub(super) fn new(stream: RecvStream, shared: Arc<Shared>) -> Self {
        Self { stream, shared, rest: Bytes::new(), body: Body::default(), ended: None }
    }

    /// The next bytes of DATA, never empty; `None` after FIN. Cancel safe.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        let patience = self.shared.options.patience;
        within(patience, self.recv_patiently()).await.unwrap_or(Err(StreamEnd::TimedOut))
    }

    /// All the DATA until FIN, for as long as something keeps coming; at most `limit` bytes, above it the stream is stopped here.
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Bytes, StreamEnd> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.recv().await? {
            if whole.len() + bytes.len() > limit {
                self.stop(h3::REQUEST_CANCELLED)?;
                return Err(StreamEnd::EndedHere);
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    /// Throws DATA away until the relay ends its side, and says how.
    pub async fn ended(&mut self) -> StreamEnd {
        loop {
            match self.recv().await {
                Ok(Some(_)) => {}
                Ok(None) => return StreamEnd::Finished,
                Err(end) => return end,
            }
        }
    }

    /// Sends STOP_SENDING.
    pub fn stop(&mut self, code: u64) -> Result<(), StreamEnd> {
        self.ended.get_or_insert(StreamEnd::EndedHere);
        self.stream.stop(varint(code)).map_err(|_| StreamEnd::EndedHere)
    }

    /// Reads the head of the answer; informational ones (1xx) are passed over.
    pub(super) async fn answer(&mut self) -> Result<Answer, ProbeError> {
        let limit = self.shared.options.timeout;
        match within(Some(limit), self.answer_patiently()).await {
            Ok(answer) => answer,
            Err(after) => Err(ProbeError::TimedOut { what: "an answer", after }),
        }
    }

    /// [`Self::recv`] without a limit.
    pub(super) async fn recv_patiently(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        match &self.ended {
            Some(StreamEnd::Finished) => return Ok(None),
            Some(end) => return Err(end.clone()),
            None => {}
        }
        loop {
            match self.body.next(&mut self.rest) {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {}
                Err(error) => return Err(self.misframed(&error)),
            }
            if !self.more().await? {
                return match self.body.end() {
                    Ok(()) => Ok(None),
                    Err(error) => Err(self.misframed(&error)),
                };
            }
        }
    }

    /// What came breaks `rule`: the connection closes with `code`.
    pub(super) fn violated(&mut self, code: u64, rule: impl Into<String>) -> StreamEnd {
        let end = StreamEnd::Violation(self.shared.violated(code, rule));
        self.ended = Some(end.clone());
        end
    }

    async fn answer_patiently(&mut self) -> Result<Answer, ProbeError> {
        loop {
            let head = self.head().await?;
            let status = head.status().map_err(|malformed| {
                let rule = format!("a malformed answer: {malformed} (RFC 9114 §4.1.2)");
                as_error(self.violated(h3::MESSAGE_ERROR, rule))
            })?;
            if !(100..200).contains(&status) {
                return Ok(Answer { status, head });
            }
        }
    }

    async fn head(&mut self) -> Result<Head, ProbeError> {
        let limit = self.shared.options.max_head;
        let mut reader = HeadReader::new(limit);
        let section = loop {
            match reader.feed(&mut self.rest) {
                Ok(Some(section)) => break section,
                Ok(None) => {}
                Err(error) => return Err(as_error(self.misframed(&error))),
            }
            if !self.more().await.map_err(as_error)? {
                return Err(match reader.end() {
                    Ok(()) => ProbeError::Unanswered(StreamEnd::Finished),
                    Err(error) => as_error(self.misframed(&error)),
                });
            }
        };
        let decoded = match section {
            Section::Whole(bytes) => qpack::decode(&bytes, limit),
            Section::TooLarge => Err(QpackError::TooLarge(limit)),
        };
        decoded.map_err(|error| {
            let code = match error {
                QpackError::Decompression(_) => h3::QPACK_DECOMPRESSION_FAILED,
                QpackError::TooLarge(_) => h3::EXCESSIVE_LOAD,
            };
            as_error(self.violated(code, error.to_string()))
        })
    }

    /// Reads on; `false` after FIN.
    async fn more(&mut self) -> Result<bool, StreamEnd> {
        let end = match self.stream.read_chunk(CHUNK, true).await {
            Ok(Some(chunk)) => {
                self.rest = chunk.bytes;
                return Ok(true);
            }
            Ok(None) => {
                self.ended = Some(StreamEnd::Finished);
                return Ok(false);
            }
            Err(ReadError::Reset(code)) => StreamEnd::Reset(code.into_inner()),
            Err(ReadError::ConnectionLost(error)) => self.shared.lost(&error),
            Err(ReadError::ClosedStream | ReadError::ZeroRttRejected | ReadError::IllegalOrderedRead) => StreamEnd::EndedHere,
        };
        self.ended = Some(end.clone());
        Err(end)
    }

    fn misframed(&mut self, error: &FrameError) -> StreamEnd {
        self.violated(error.code(), format!("{error} (RFC 9114 §4.1, §4.4, §7.1)"))
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        // An error says that it has ended already.
        self.stream.stop(varint(h3::REQUEST_CANCELLED)).ok();
    }
}

/// Why writing ended.
pub(super) fn write_end(shared: &Shared, error: WriteError) -> StreamEnd {
    match error {
        WriteError::Stopped(code) => StreamEnd::Stopped(code.into_inner()),
        WriteError::ConnectionLost(error) => shared.lost(&error),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamEnd::EndedHere,
    }
}

/// The end of a stream as the failure of a request.
pub(super) fn as_error(end: StreamEnd) -> ProbeError {
    match end {
        StreamEnd::Violation(violation) => ProbeError::Violation(violation),
        StreamEnd::Lost(closed) => ProbeError::Closed(closed),
        end => ProbeError::Unanswered(end),
    }
}

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
