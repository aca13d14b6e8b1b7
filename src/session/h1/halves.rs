//! The two halves of an HTTP/1.1 tunnel. What is not ended on purpose ends in a TCP RST.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::{
    ended::{Ended, Reset},
    listener::tcp::{Outbox, Stream, broke},
    session::capsules::PollWrite,
    tunnel::{ClientRead, ClientWrite, HEADROOM, ReadSize},
};

/// The client's half.
pub(crate) struct H1Read {
    stream: ReadHalf<Stream>,
    /// Read ahead, or with the head.
    left: VecDeque<Bytes>,
    size: ReadSize,
    finished: bool,
    outbox: Outbox,
}

/// The relay's half.
pub(crate) struct H1Write {
    stream: WriteHalf<Stream>,
    outbox: Outbox,
    over: bool,
}

impl H1Read {
    pub(super) fn new(stream: ReadHalf<Stream>, left: Bytes, outbox: Outbox) -> Self {
        let left = if left.is_empty() { VecDeque::new() } else { VecDeque::from([left]) };
        Self { stream, left, size: ReadSize::default(), finished: false, outbox }
    }

    /// Reads on while a request waits, up to `limit` bytes, and resolves only when the client is gone. Cancel safe.
    pub(super) async fn abandoned(&mut self, limit: usize) -> Ended {
        while !self.finished && self.left.iter().map(Bytes::len).sum::<usize>() < limit {
            match self.read_stream().await {
                Ok(chunk) => self.left.extend(chunk),
                Err(ended) => return ended,
            }
        }
        Ended::ClientLost(broke(&self.outbox.broken().await))
    }

    /// Throws away up to `limit` bytes.
    pub(super) async fn discard(&mut self, limit: usize) {
        let mut discarded = 0;
        while discarded < limit {
            match self.read_stream().await {
                Ok(Some(chunk)) => discarded += chunk.len(),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The next bytes; `None` once the client has said that it has no more (TLS close_notify). Cancel safe.
    async fn read_stream(&mut self) -> Result<Option<Bytes>, Ended> {
        if self.finished {
            return Ok(None);
        }
        let mut chunk = BytesMut::with_capacity(self.size.get());
        match self.stream.read_buf(&mut chunk).await {
            Ok(0) => {
                self.finished = true;
                Ok(None)
            }
            Ok(len) => {
                self.size.learn(len);
                Ok(Some(chunk.freeze()))
            }
            Err(error) => Err(Ended::ClientLost(broke(&error))),
        }
    }
}

impl ClientRead for H1Read {
    async fn read(&mut self, into: &mut VecDeque<Bytes>) -> Result<bool, Ended> {
        if !self.left.is_empty() {
            into.append(&mut self.left);
            return Ok(true);
        }
        let chunk = self.read_stream().await?;
        let more = chunk.is_some();
        into.extend(chunk);
        Ok(more)
    }

    fn consumed(&mut self, _: usize) {} // TCP's window opens as the relay reads, which it does as the target takes

    fn stalled(&mut self, _: bool) {} // there is no other tunnel

    fn stop(&mut self, reset: Reset) {
        if reset != Reset::Nothing {
            self.outbox.abort();
        }
    }
}

impl H1Write {
    pub(super) fn new(stream: WriteHalf<Stream>, outbox: Outbox) -> Self {
        Self { stream, outbox, over: false }
    }

    /// Sends all of `bytes`.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| Ended::ClientLost(broke(&error)))
    }
}

impl ClientWrite for H1Write {
    async fn write(&mut self, buffer: BytesMut) -> Result<(), Ended> {
        self.write_all(&buffer[HEADROOM..]).await
    }

    async fn finish(&mut self) -> Result<(), Ended> {
        self.stream.shutdown().await.map_err(|error| Ended::ClientLost(broke(&error)))?;
        // Only now: an end that is cut short must not look like one.
        self.over = true;
        Ok(())
    }

    fn reset(&mut self, _: Reset) {
        if !std::mem::replace(&mut self.over, true) {
            self.outbox.abort();
        }
    }

    /// One that no longer reads can say so only by breaking off, which shows here when its own end has been read.
    async fn stopped(&mut self) -> Ended {
        Ended::ClientLost(broke(&self.outbox.broken().await))
    }

    async fn gone(&mut self) -> Ended {
        self.stopped().await
    }
}

impl PollWrite for H1Write {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Ended>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes).map_err(|error| Ended::ClientLost(broke(&error)))
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(|error| Ended::ClientLost(broke(&error)))
    }
}

impl Drop for H1Write {
    fn drop(&mut self) {
        self.reset(Reset::Cancelled);
    }
}
