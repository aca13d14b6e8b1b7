//! The TCP tunnel: bytes between a target's socket and the client's stream.
//!
//! ```text
//! client ── read: chunks as they came ──▶ one writev ──▶ target
//! client ◀── write: header and up to 64 KiB in one buffer ◀── target
//! ```
//!
//! Promises, each with a test below:
//!
//! 1. *Half a close is half a close*: a side that finishes still gets what the other one has to say (C-75).
//! 2. *A break is a break*: a target's reset becomes H3_CONNECT_ERROR, a client's reset becomes a TCP RST; never a clean end (C-76, C-77).
//! 3. *Nobody is read faster than the other side takes*: one buffer each way, and none while idle (C-78).
//!
//! What a megabyte costs, counted as in [`super::udp`]: to the client 18 reads of the target, 19 sends of QUIC packets (HTTP/2: 16 of TLS records) and 4
//! wake-ups; to the target 14 writes, 7 receives of QUIC packets (HTTP/2: 15 of TLS records) and 2 wake-ups; 200 allocations either way.

mod fetter;

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSlice},
    net::Shutdown,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, Interest},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::Notify,
    time::timeout,
};

use super::{ClientRead, ClientWrite, HEADROOM, ReadSize, activity::Activity};
use crate::ended::{Ended, Reset};

/// How long a target takes nothing before its tunnel counts as stalled.
const STALL: Duration = Duration::from_millis(100);

/// What one TCP tunnel carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes to the target.
    pub bytes_out: u64,
    /// Bytes to the client.
    pub bytes_back: u64,
}

pub use fetter::Fetter;

/// Carries bytes until both sides have finished or one broke; both halves of the client's stream are ended accordingly.
/// `cut` resolves when the tunnel must end for a reason that comes from elsewhere.
pub async fn run(
    mut read: impl ClientRead,
    mut write: impl ClientWrite,
    mut target: TcpStream,
    idle: Duration,
    fetter: Option<Fetter>,
    cut: impl Future<Output = Ended> + Send,
) -> (Ended, Totals) {
    let progress = Progress::new(fetter);
    let ended = tokio::select! {
        ended = carry(&mut read, &mut write, &mut target, &progress) => ended,
        () = progress.activity.idle(idle) => Ended::Idle,
        ended = cut => ended,
    };
    if !matches!(ended, Ended::Done) {
        abort(&target);
        // Whatever the reason, one side or the other has not finished: an end that looks clean would hide that.
        let reset = ended.reset().unwrap_or(Reset::Cancelled);
        if !progress.target_finished.load(Relaxed) {
            write.reset(reset);
        }
        if !progress.client_finished.load(Relaxed) {
            read.stop(reset);
        }
    }
    (ended, progress.totals())
}

/// What both directions write down.
struct Progress {
    activity: Activity,
    bytes_out: AtomicU64,
    bytes_back: AtomicU64,
    client_finished: AtomicBool,
    target_finished: AtomicBool,
    fetter: Option<Fetter>,
}

async fn carry(read: &mut impl ClientRead, write: &mut impl ClientWrite, target: &mut TcpStream, progress: &Progress) -> Ended {
    let (mut from_target, to_target) = target.split();
    let said_all = Notify::new();
    let out = async {
        out(read, &to_target, progress).await?;
        said_all.notify_one();
        Ok(())
    };
    let back = async {
        back(write, &mut from_target, progress).await?;
        // Nothing reads the target any more, and nothing the client while the target takes nothing: a break shows only by itself.
        tokio::select! {
            () = said_all.notified() => Ok(()),
            error = broken(to_target.as_ref()) => Err(Ended::TargetLost(error)),
            ended = write.gone() => Err(ended),
        }
    };
    tokio::try_join!(out, back).map_or_else(|ended| ended, |((), ())| Ended::Done)
}

/// Client to target, until the client finishes.
async fn out(read: &mut impl ClientRead, target: &WriteHalf<'_>, progress: &Progress) -> Result<(), Ended> {
    loop {
        let mut chunks = VecDeque::new();
        let more = read.read(&mut chunks).await?;
        progress.client_finished.store(!more, Relaxed);
        if let Some(fetter) = progress.fetter {
            fetter.out(read, &mut chunks, progress.bytes_out.load(Relaxed), more).await;
        }
        while !chunks.is_empty() {
            match write_some(target, &chunks) {
                Ok(written) => {
                    take(&mut chunks, written);
                    // Only now: what the target has not taken must not be replaced by more (C-78).
                    read.consumed(written);
                    progress.moved(&progress.bytes_out, written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => room(read, target, &mut chunks).await?,
                Err(error) => return Err(Ended::TargetLost(error)),
            }
        }
        if !more {
            return SockRef::from(target.as_ref()).shutdown(Shutdown::Write).map_err(Ended::TargetLost);
        }
    }
}

/// Waits until the target takes more of `chunks`.
async fn room(read: &mut impl ClientRead, target: &WriteHalf<'_>, chunks: &mut VecDeque<Bytes>) -> Result<(), Ended> {
    let ready = if let Ok(ready) = timeout(STALL, target.writable()).await {
        ready
    } else {
        read.stalled(true);
        // A chunk keeps all that was received with it: for a wait of any length it is copied.
        let joined = chunks.drain(..).fold(BytesMut::new(), |mut joined, chunk| {
            joined.extend_from_slice(&chunk);
            joined
        });
        chunks.push_back(joined.freeze());
        let ready = target.writable().await;
        read.stalled(false);
        ready
    };
    ready.map_err(Ended::TargetLost)
}

/// Target to client, until the target finishes. A client that stops reading ends the tunnel.
async fn back(write: &mut impl ClientWrite, target: &mut ReadHalf<'_>, progress: &Progress) -> Result<(), Ended> {
    let mut size = ReadSize::default();
    loop {
        // Nothing is allocated until there is something to read.
        tokio::select! {
            ready = target.readable() => ready.map_err(Ended::TargetLost)?,
            ended = write.stopped() => return Err(ended),
        }
        let most = match progress.fetter {
            None => size.get(),
            Some(fetter) => size.get().min(fetter.back(progress.bytes_back.load(Relaxed)).await),
        };
        let mut buffer = BytesMut::with_capacity(HEADROOM + most);
        buffer.resize(HEADROOM, 0);
        // Unlike `try_read`, this knows that a short read means dry; it is done at once or never.
        match target.read_buf(&mut buffer).now_or_never() {
            None => {}
            Some(Ok(0)) => {
                write.finish().await?;
                progress.target_finished.store(true, Relaxed);
                return Ok(());
            }
            Some(Ok(len)) => {
                size.learn(len);
                write.write(fitting(buffer)).await?;
                progress.moved(&progress.bytes_back, len);
            }
            Some(Err(error)) => return Err(Ended::TargetLost(error)),
        }
    }
}

/// Resolves when the peer has reset its connection, for when nobody reads it. Cancel safe.
pub async fn broken(socket: &TcpStream) -> io::Error {
    let error = match socket.ready(Interest::ERROR).await {
        Ok(_) => socket.take_error().unwrap_or_else(Some),
        Err(error) => Some(error),
    };
    error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}

impl Progress {
    fn new(fetter: Option<Fetter>) -> Self {
        Self {
            fetter,
            activity: Activity::new(),
            bytes_out: AtomicU64::new(0),
            bytes_back: AtomicU64::new(0),
            client_finished: AtomicBool::new(false),
            target_finished: AtomicBool::new(false),
        }
    }

    fn moved(&self, counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Relaxed);
        self.activity.mark();
    }

    fn totals(&self) -> Totals {
        Totals { bytes_out: self.bytes_out.load(Relaxed), bytes_back: self.bytes_back.load(Relaxed) }
    }
}

/// Gives as many chunks as one call takes to the target, without waiting.
fn write_some(target: &WriteHalf<'_>, chunks: &VecDeque<Bytes>) -> io::Result<usize> {
    // A client's packet is one chunk of about 1,400 bytes: this is more than a stream hands over at once.
    const SLICES: usize = 256;
    let mut slices = [IoSlice::new(&[]); SLICES];
    let count = chunks.len().min(SLICES);
    slices.iter_mut().zip(chunks).for_each(|(slice, chunk)| *slice = IoSlice::new(chunk));
    target.try_write_vectored(&slices[..count])
}

/// Takes `written` bytes off the front, and empty chunks with them.
fn take(chunks: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = chunks.front_mut() {
        if first.len() > written {
            first.advance(written);
            return;
        }
        written -= first.len();
        chunks.pop_front();
    }
}

/// A buffer waits until the client has acknowledged it: a small payload must not hold a large one for so long, or a target that sends byte by
/// byte would cost thousands of times what flow control counts.
fn fitting(buffer: BytesMut) -> BytesMut {
    if buffer.capacity() / 4 > buffer.len() { BytesMut::from(&buffer[..]) } else { buffer }
}

/// The socket's drop becomes a RST, so that the target never takes a cut for an end (C-77).
fn abort(target: &TcpStream) {
    if let Err(error) = SockRef::from(target).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a target cannot be reset");
    }
}

#[cfg(test)]
mod tests;
