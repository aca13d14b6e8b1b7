//! The two halves of a request stream, as guards: what is not ended on purpose is reset, so that an error path or a cancelled task never looks
//! like a successful end (dropped as they are, quinn's halves send a clean FIN and STOP_SENDING(0)).

use std::{
    collections::VecDeque,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;

use crate::{
    diagnosis::{By, record::Act},
    ended::{Ended, Reset},
    proto::frame::{Body, FrameError},
    record::What,
    session::{
        link::{Link, varint},
        window::Share,
    },
};

/// Chunks taken from a stream in one go: with 1,350-byte packets about 43 KiB, one `writev`.
const CHUNKS: usize = 32;

/// Bytes read of a request that is not answered yet.
const AHEAD: usize = 64 * 1024;

/// A piece of DATA shorter than this joins its neighbour: by itself it would cost more to keep than it holds.
const SMALL: usize = 128;

/// The relay's half: towards the client.
pub(super) struct SendHalf {
    stream: quinn::SendStream,
    link: Link,
    over: bool,
    /// The end was a clean one.
    finished: Arc<AtomicBool>,
}

/// The client's half, still in its framing.
pub(super) struct RecvHalf {
    stream: quinn::RecvStream,
    link: Link,
    /// What came while its request waited for an answer; copied, since a chunk keeps its whole packet alive.
    ahead: BytesMut,
    /// The client's FIN was read.
    finished: bool,
    over: bool,
}

/// The client's half without its framing: the DATA of a tunnel.
pub(super) struct BodyHalf {
    recv: RecvHalf,
    body: Body,
    /// What came in the packet of the head.
    left: Bytes,
    share: Share,
}

impl SendHalf {
    pub(super) fn new(stream: quinn::SendStream, link: Link) -> Self {
        Self { stream, link, over: false, finished: Arc::default() }
    }

    /// Sends all of `bytes`, as flow control allows. Not cancel safe.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), Ended> {
        let mut left = [bytes];
        while !left[0].is_empty() {
            self.stream.write_chunks(&mut left).await.map_err(|error| self.write_ended(&error))?;
            self.link.wrote();
        }
        Ok(())
    }

    /// Sends as much of `bytes` as there is room for now; the rest stays.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Ended>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes).map_err(|error| self.write_ended(&error));
        if written.is_ready() {
            self.link.wrote();
        }
        written
    }

    /// A clean end.
    pub(super) fn finish(&mut self) {
        // The stream can only be closed already, by the client's STOP_SENDING: then there is nothing left to end.
        if self.stream.finish().is_ok() {
            note(&self.link, self.id(), By::Relay, Act::Finished, None);
        }
        self.over = true;
        self.finished.store(true, Relaxed);
    }

    /// Breaks off, unless it has ended.
    pub(super) fn reset(&mut self, reset: Reset) {
        // Closed already: as above.
        if !std::mem::replace(&mut self.over, true) && self.stream.reset(varint(reset.h3())).is_ok() {
            note(&self.link, self.id(), By::Relay, Act::Reset, Some(reset.h3()));
        }
    }

    fn id(&self) -> u64 {
        u64::from(self.stream.id())
    }

    /// Waits until the client stops reading, or its connection is gone. `None` once everything was finished and acknowledged. Cancel safe.
    pub(super) fn stopped(&self) -> impl Future<Output = Option<Ended>> + Send + 'static {
        let stopped = self.stream.stopped();
        let (link, id) = (self.link.clone(), self.id());
        async move {
            match stopped.await {
                Ok(Some(code)) => {
                    note(&link, id, By::Client, Act::Stopped, Some(code.into_inner()));
                    Some(Ended::ClientStopped(code.into_inner()))
                }
                Ok(None) => None,
                Err(quinn::StoppedError::ConnectionLost(_) | quinn::StoppedError::ZeroRttRejected) => Some(link.lost()),
            }
        }
    }

    /// Waits until the client's connection is gone. Cancel safe.
    pub(super) async fn lost(&self) -> Ended {
        self.link.closed().await;
        self.link.lost()
    }

    /// Waits until the client has all of a stream that was finished, or wants no more of it; does not wait for one that was not. To be awaited
    /// once this half is gone.
    pub(super) fn delivered(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.stream.stopped();
        let finished = Arc::clone(&self.finished);
        async move {
            // quinn tells of no acknowledgement of a reset.
            if finished.load(Relaxed) {
                stopped.map(drop).await;
            }
        }
    }
}

impl SendHalf {
    fn write_ended(&self, error: &quinn::WriteError) -> Ended {
        match error {
            quinn::WriteError::Stopped(code) => {
                note(&self.link, self.id(), By::Client, Act::Stopped, Some(code.into_inner()));
                Ended::ClientStopped(code.into_inner())
            }
            quinn::WriteError::ConnectionLost(_) | quinn::WriteError::ClosedStream | quinn::WriteError::ZeroRttRejected => self.link.lost(),
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.reset(Reset::Cancelled);
    }
}

impl RecvHalf {
    pub(super) fn new(stream: quinn::RecvStream, link: Link) -> Self {
        Self { stream, link, ahead: BytesMut::new(), finished: false, over: false }
    }

    /// The stream's number divided by four (RFC 9297 §2.1).
    pub(super) fn quarter_id(&self) -> u64 {
        self.stream.id().index()
    }

    /// The next chunk; `None` at the client's FIN. Cancel safe.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Ended> {
        if self.ahead.is_empty() {
            return self.read_stream().await;
        }
        Ok(Some(std::mem::take(&mut self.ahead).freeze()))
    }

    async fn read_stream(&mut self) -> Result<Option<Bytes>, Ended> {
        if self.finished {
            return Ok(None);
        }
        match self.stream.read_chunk(usize::MAX, true).await {
            Ok(chunk) => {
                if chunk.is_none() {
                    self.has_finished();
                }
                Ok(chunk.map(|chunk| chunk.bytes))
            }
            Err(error) => Err(self.read_ended(error)),
        }
    }

    /// The next chunks, at most `chunks.len()`; `None` at the client's FIN. The array lives only while something is read, not in the future.
    async fn read_many(&mut self, mut take: impl FnMut(Bytes)) -> Result<bool, Ended> {
        if !self.ahead.is_empty() {
            take(std::mem::take(&mut self.ahead).freeze());
            return Ok(true);
        }
        if self.finished {
            return Ok(false);
        }
        let read = std::future::poll_fn(|cx| {
            let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
            // Cancel safe: made anew at every poll, it takes nothing before it is ready.
            let read = std::task::ready!(pin!(self.stream.read_chunks(&mut chunks)).poll(cx));
            Poll::Ready(read.map(|count| count.map(|count| chunks.into_iter().take(count).for_each(&mut take)).is_some()))
        })
        .await;
        match read {
            Ok(more) => {
                if !more {
                    self.has_finished();
                }
                Ok(more)
            }
            Err(error) => Err(self.read_ended(error)),
        }
    }

    /// Waits until the client has reset the stream, or its connection is gone; for ever when it has finished cleanly. What comes meanwhile is kept,
    /// up to [`AHEAD`]; beyond that flow control holds the client, and a reset is noticed only later. Cancel safe.
    pub(super) async fn abandoned(&mut self) -> Ended {
        // Not by quinn's `received_reset`: its waker stays behind when the FIN was there before it, for as long as the connection lives.
        while !self.finished && self.ahead.len() < AHEAD {
            match self.read_stream().await {
                Ok(chunk) => self.ahead.extend_from_slice(&chunk.unwrap_or_default()),
                Err(ended) => return ended,
            }
        }
        std::future::pending().await
    }

    /// No more is read.
    pub(super) fn stop(&mut self, reset: Reset) {
        // Closed already: nothing to stop.
        if !std::mem::replace(&mut self.over, true) && self.stream.stop(varint(reset.h3())).is_ok() {
            note(&self.link, self.id(), By::Relay, Act::Stopped, Some(reset.h3()));
        }
    }

    fn has_finished(&mut self) {
        (self.finished, self.over) = (true, true);
        note(&self.link, self.id(), By::Client, Act::Finished, None);
    }

    fn id(&self) -> u64 {
        u64::from(self.stream.id())
    }

    /// Closes the whole connection: the client broke HTTP/3's framing.
    pub(super) fn misframed(&mut self, error: &FrameError) -> Ended {
        let why = error.to_string();
        self.link.close(error.code(), why.clone());
        Ended::Misframed { code: error.code(), why }
    }

    fn read_ended(&mut self, error: quinn::ReadError) -> Ended {
        self.over = true;
        match error {
            quinn::ReadError::Reset(code) => {
                note(&self.link, self.id(), By::Client, Act::Reset, Some(code.into_inner()));
                Ended::ClientReset(code.into_inner())
            }
            quinn::ReadError::ConnectionLost(_)
            | quinn::ReadError::ClosedStream
            | quinn::ReadError::IllegalOrderedRead
            | quinn::ReadError::ZeroRttRejected => self.link.lost(),
        }
    }
}

/// Notes the end of a direction. On a connection that is gone the relay's own are said to nobody.
fn note(link: &Link, stream: u64, by: By, act: Act, code: Option<u64>) {
    if by == By::Client || link.close_reason().is_none() {
        link.note(stream, What::End { by, act, code });
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.stop(Reset::Cancelled);
    }
}

impl BodyHalf {
    pub(super) fn new(recv: RecvHalf, left: Bytes, share: Share) -> Self {
        Self { recv, body: Body::default(), left, share }
    }

    /// Appends what has arrived, at least one byte; `false` at a clean end. Cancel safe.
    pub(super) async fn read(&mut self, into: &mut VecDeque<Bytes>) -> Result<bool, Ended> {
        let before = into.len();
        let mut left = std::mem::take(&mut self.left);
        let mut broken = self.decode(&mut left, into);
        while into.len() == before {
            broken?;
            let body = &mut self.body;
            let mut frames = Ok(());
            let more = self
                .recv
                .read_many(|mut chunk| {
                    if frames.is_ok() {
                        frames = decode(body, &mut chunk, into);
                    }
                })
                .await?;
            broken = frames.map_err(|error| self.recv.misframed(&error));
            if !more {
                return match self.body.end() {
                    Ok(()) => Ok(false),
                    Err(error) => Err(self.recv.misframed(&error)),
                };
            }
        }
        // Bytes in front of a broken frame do not matter any more: the connection is closed.
        broken.map(|()| true)
    }

    pub(super) fn stalled(&mut self, stalled: bool) {
        self.share.stalled(stalled);
    }

    pub(super) fn stop(&mut self, reset: Reset) {
        self.recv.stop(reset);
    }

    fn decode(&mut self, chunk: &mut Bytes, into: &mut VecDeque<Bytes>) -> Result<(), Ended> {
        decode(&mut self.body, chunk, into).map_err(|error| self.recv.misframed(&error))
    }
}

/// Appends the DATA of one chunk. A frame of one byte takes three in a packet and ten times as much as a slice of its own, and a target that does
/// not read lets them wait: runs of small ones become one piece.
fn decode(body: &mut Body, chunk: &mut Bytes, into: &mut VecDeque<Bytes>) -> Result<(), FrameError> {
    let mut run = BytesMut::new();
    let before = into.len();
    while let Some(bytes) = body.next(chunk)? {
        let last_is_small = !run.is_empty() || into.len() > before && into.back().is_some_and(|last| last.len() < SMALL);
        if bytes.len() >= SMALL || !last_is_small {
            into.extend((!run.is_empty()).then(|| run.split().freeze()));
            into.push_back(bytes);
            continue;
        }
        if run.is_empty() {
            run.extend_from_slice(&into.pop_back().unwrap_or_default());
        }
        run.extend_from_slice(&bytes);
    }
    into.extend((!run.is_empty()).then(|| run.freeze()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_become_one_piece_and_large_ones_stay_slices() {
        let large = [7; SMALL];
        let frames = [&[1; 1][..], &[2; 2], &[3; 3], &large, &large, &[4; 1], &large, &[5; 1], &[6; 1]];
        let mut chunk: Bytes = frames.iter().flat_map(|frame| [&crate::proto::frame::data_header(frame.len()), *frame].concat()).collect();
        let mut pieces = VecDeque::from([Bytes::from_static(b"before")]);
        decode(&mut Body::default(), &mut chunk, &mut pieces).unwrap();
        assert_eq!(pieces, [b"before", &[1, 2, 2, 3, 3, 3][..], &large, &large, &[4], &large, &[5, 6]]);
    }
}
