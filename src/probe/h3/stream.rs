//! The two halves of an HTTP/3 request stream.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, StoppedError, WriteError};

use super::{Quic, varint};
use crate::{
    probe::{
        Answer, ProbeError, StreamEnd,
        shared::{Shared, within},
    },
    proto::{
        codes::h3,
        frame::{self, Body, FrameError, HeadReader, Section},
        head::Head,
        qpack::{self, QpackError},
    },
};

/// Our side of a request stream. Dropped before its end it is reset with H3_REQUEST_CANCELLED.
#[derive(Debug)]
pub(in crate::probe) struct Sending {
    stream: SendStream,
    quic: Arc<Quic>,
    /// Finished or reset: dropping does nothing more. (A reset after FIN would take back what is not acknowledged yet.)
    over: bool,
}

impl Sending {
    pub(in crate::probe) fn new(stream: SendStream, quic: Arc<Quic>) -> Self {
        Self { stream, quic, over: false }
    }

    /// The stream's identifier.
    pub(in crate::probe) fn id(&self) -> u64 {
        quinn::VarInt::from(self.stream.id()).into_inner()
    }

    /// Sends one HEADERS frame.
    pub(in crate::probe) async fn send_head(&mut self, head: &Head) -> Result<(), StreamEnd> {
        self.send_raw(frame::encode(frame::HEADERS, &qpack::encode(head)).into()).await
    }

    /// Sends `payload` in one DATA frame; nothing for an empty one. Waits for flow control, without a limit. Not cancel safe: a frame may
    /// be left half written.
    pub(in crate::probe) async fn send(&mut self, payload: Bytes) -> Result<(), StreamEnd> {
        if payload.is_empty() {
            return Ok(());
        }
        let header = frame::data_header(payload.len());
        let sent = self.stream.write_all_chunks(&mut [Bytes::copy_from_slice(&header), payload]).await;
        sent.map_err(|error| write_end(&self.quic, error))
    }

    /// Sends bytes as they are: frames of any kind, or none. Otherwise like [`Self::send`].
    pub(in crate::probe) async fn send_raw(&mut self, bytes: Bytes) -> Result<(), StreamEnd> {
        self.stream.write_chunk(bytes).await.map_err(|error| write_end(&self.quic, error))
    }

    /// Sends FIN.
    pub(in crate::probe) fn finish(&mut self) -> Result<(), StreamEnd> {
        self.over = true;
        self.stream.finish().map_err(|_| StreamEnd::EndedHere)
    }

    /// Sends RESET_STREAM.
    pub(in crate::probe) fn reset(&mut self, code: u64) -> Result<(), StreamEnd> {
        self.over = true;
        self.stream.reset(varint(code)).map_err(|_| StreamEnd::EndedHere)
    }

    /// Waits until the relay stops reading ([`StreamEnd::Stopped`]), or has acknowledged all of a finished stream
    /// ([`StreamEnd::EndedHere`]). Cancel safe.
    pub(in crate::probe) async fn stopped(&self) -> StreamEnd {
        match within(self.quic.shared.options.patience, self.stream.stopped()).await {
            Ok(Ok(Some(code))) => StreamEnd::Stopped(code.into_inner()),
            Ok(Ok(None) | Err(StoppedError::ZeroRttRejected)) => StreamEnd::EndedHere,
            Ok(Err(StoppedError::ConnectionLost(error))) => self.quic.shared.lost(&error),
            Err(_) => StreamEnd::TimedOut,
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.over {
            // An error says that the relay has stopped it already.
            self.stream.reset(varint(h3::REQUEST_CANCELLED)).ok();
        }
    }
}

/// The relay's side of a request stream. Dropped before its end it is stopped with H3_REQUEST_CANCELLED.
#[derive(Debug)]
pub(in crate::probe) struct Receiving {
    stream: RecvStream,
    quic: Arc<Quic>,
    rest: Bytes,
    body: Body,
    /// How it ended, once it has: asking again gives the same.
    ended: Option<StreamEnd>,
}

impl Receiving {
    pub(in crate::probe) fn new(stream: RecvStream, quic: Arc<Quic>) -> Self {
        Self { stream, quic, rest: Bytes::new(), body: Body::default(), ended: None }
    }

    /// Sends STOP_SENDING.
    pub(in crate::probe) fn stop(&mut self, code: u64) -> Result<(), StreamEnd> {
        self.ended.get_or_insert(StreamEnd::EndedHere);
        self.stream.stop(varint(code)).map_err(|_| StreamEnd::EndedHere)
    }

    /// The head of the answer; informational ones (1xx) are passed over.
    pub(in crate::probe) async fn answer(&mut self) -> Result<Answer, ProbeError> {
        loop {
            let head = self.head().await?;
            let status = head.status().map_err(|malformed| {
                let rule = format!("a malformed answer: {malformed} (RFC 9114 §4.1.2)");
                self.violated(h3::MESSAGE_ERROR, rule)
            })?;
            if !(100..200).contains(&status) {
                return Ok(Answer { status, head });
            }
        }
    }

    /// The next bytes of DATA, never empty; `None` after FIN. Cancel safe.
    pub(in crate::probe) async fn recv(&mut self) -> Result<Option<Bytes>, StreamEnd> {
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

    pub(in crate::probe) fn shared(&self) -> &Shared {
        &self.quic.shared
    }

    /// What came breaks `rule`: the connection closes with `code`.
    pub(in crate::probe) fn violated(&mut self, code: u64, rule: impl Into<String>) -> StreamEnd {
        let end = StreamEnd::Violation(self.quic.violated(code, rule));
        self.ended = Some(end.clone());
        end
    }

    async fn head(&mut self) -> Result<Head, ProbeError> {
        let limit = self.quic.shared.options.max_head;
        let mut reader = HeadReader::new(limit);
        let section = loop {
            match reader.feed(&mut self.rest) {
                Ok(Some(section)) => break section,
                Ok(None) => {}
                Err(error) => return Err(self.misframed(&error).into()),
            }
            if !self.more().await? {
                return Err(match reader.end() {
                    Ok(()) => ProbeError::Unanswered(StreamEnd::Finished),
                    Err(error) => self.misframed(&error).into(),
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
            self.violated(code, error.to_string()).into()
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
            Err(ReadError::ConnectionLost(error)) => self.quic.shared.lost(&error),
            Err(ReadError::ClosedStream | ReadError::ZeroRttRejected | ReadError::IllegalOrderedRead) => StreamEnd::EndedHere,
        };
        self.ended = Some(end.clone());
        Err(end)
    }

    fn misframed(&mut self, error: &FrameError) -> StreamEnd {
        self.violated(error.code(), format!("{error} (RFC 9114 §4.1, §4.4, §7.1)"))
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // An error says that it has ended already.
        self.stream.stop(varint(h3::REQUEST_CANCELLED)).ok();
    }
}

/// Why writing ended.
pub(super) fn write_end(quic: &Quic, error: WriteError) -> StreamEnd {
    match error {
        WriteError::Stopped(code) => StreamEnd::Stopped(code.into_inner()),
        WriteError::ConnectionLost(error) => quic.shared.lost(&error),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamEnd::EndedHere,
    }
}

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
