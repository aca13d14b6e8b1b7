//! A TLS connection that two halves and the client share.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::probe::{Closed, StreamEnd, shared::Shared, tcp};

/// The connection; whoever closes it, closes it for all.
#[derive(Debug)]
pub(in crate::probe) struct Pipe {
    /// Gone once it is closed here.
    stream: Mutex<Option<tcp::Stream>>,
    /// Wakes who waits for a stream that is gone.
    closed: CancellationToken,
    /// No more is written: close_notify is due.
    finished: CancellationToken,
    shared: Arc<Shared>,
}

impl Pipe {
    pub(super) fn new(stream: tcp::Stream, shared: Arc<Shared>) -> Self {
        Self { stream: Mutex::new(Some(stream)), closed: CancellationToken::new(), finished: CancellationToken::new(), shared }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The next bytes; `None` after close_notify. A connection that ends without it was cut off (RFC 9112 §9.8). Cancel safe.
    pub(super) async fn read(&self) -> Result<Option<Bytes>, StreamEnd> {
        let mut chunk = vec![0; CHUNK];
        let read = self.io(|stream, cx| {
            let mut buffer = ReadBuf::new(&mut chunk);
            Pin::new(stream).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
        });
        let len = read.await?;
        chunk.truncate(len);
        Ok((len > 0).then(|| chunk.into()))
    }

    /// Writes all of it and sees it off. Not cancel safe.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> Result<(), StreamEnd> {
        if self.finished.is_cancelled() {
            return Err(StreamEnd::EndedHere);
        }
        while !bytes.is_empty() {
            let len = self.io(|stream, cx| Pin::new(stream).poll_write(cx, bytes)).await?;
            bytes = &bytes[len..];
        }
        self.io(|stream, cx| Pin::new(stream).poll_flush(cx)).await
    }

    /// No more is written. Close_notify and FIN go out in [`Self::finishing`].
    pub(super) fn finish(&self) {
        self.finished.cancel();
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.is_cancelled()
    }

    /// Waits for [`Self::finish`] and does what it promised.
    pub(super) async fn finishing(self: Arc<Self>) {
        self.finished.cancelled().await;
        // How the connection ended is for the reader to see.
        self.io(|stream, cx| Pin::new(stream).poll_shutdown(cx)).await.ok();
    }

    /// Closes TCP with RST.
    pub(super) fn abort(&self) {
        if let Some(stream) = &*self.lock() {
            // Without it TCP would close cleanly; the socket is open, so it cannot fail.
            SockRef::from(stream.get_ref().0.get_ref()).set_linger(Some(Duration::ZERO)).ok();
        }
        self.close();
    }

    /// Closes TCP, without close_notify.
    pub(in crate::probe) fn close(&self) {
        self.shared.note_closed(Closed::silent(false, "closed here"));
        drop(self.lock().take());
        self.closed.cancel();
    }

    async fn io<T>(&self, mut poll: impl FnMut(&mut tcp::Stream, &mut Context<'_>) -> Poll<io::Result<T>>) -> Result<T, StreamEnd> {
        let io = poll_fn(|cx| match &mut *self.lock() {
            Some(stream) => poll(stream, cx).map(Some),
            None => Poll::Ready(None),
        });
        let done = tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            done = io => done,
        };
        match done {
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) => {
                let closed = Closed::silent(true, error.to_string());
                self.shared.note_closed(closed.clone());
                Err(self.shared.lost(closed))
            }
            None => Err(self.shared.lost(Closed::silent(false, "closed here"))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<tcp::Stream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
