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

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSlice},
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::{Instant, sleep_until},
};

use super::{ClientRead, ClientWrite, HEADROOM};
use crate::ended::{Ended, Reset};

/// Payload of one write to the client.
const BUFFER: usize = 64 * 1024;
/// Slices of one write to the target.
const SLICES: usize = 64;

/// What one TCP tunnel carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes to the target.
    pub bytes_out: u64,
    /// Bytes to the client.
    pub bytes_back: u64,
}

/// What both directions write down.
struct Progress {
    started: Instant,
    /// Milliseconds from `started` to the last byte that moved.
    active: AtomicU64,
    out: AtomicU64,
    back: AtomicU64,
}

/// Carries bytes until both sides have finished or one broke; both halves of the client's stream are ended accordingly.
/// `cut` resolves when the tunnel must end for a reason that comes from elsewhere.
pub async fn run(
    mut read: impl ClientRead,
    mut write: impl ClientWrite,
    mut target: TcpStream,
    idle: Duration,
    cut: impl Future<Output = Ended> + Send,
) -> (Ended, Totals) {
    let progress = Progress { started: Instant::now(), active: AtomicU64::new(0), out: AtomicU64::new(0), back: AtomicU64::new(0) };
    let ended = {
        let (from_target, to_target) = target.split();
        let carried = async {
            let finished = tokio::try_join!(out(&mut read, to_target, &progress), back(&mut write, from_target, &progress));
            finished.map_or_else(|ended| ended, |((), ())| Ended::Done)
        };
        tokio::select! {
            ended = carried => ended,
            ended = progress.idle(idle) => ended,
            ended = cut => ended,
        }
    };
    match ended.reset() {
        None => {
            // An idle tunnel is cut off on both sides, and says so cleanly to neither target nor client's reader.
            if !matches!(ended, Ended::Done) {
                abort(&target);
                write.reset(Reset::Cancelled);
                read.stop(Reset::Cancelled);
            }
        }
        Some(reset) => {
            abort(&target);
            write.reset(reset);
            read.stop(reset);
        }
    }
    (ended, Totals { bytes_out: progress.out.load(Relaxed), bytes_back: progress.back.load(Relaxed) })
}

/// Client to target, until the client finishes.
async fn out(read: &mut impl ClientRead, mut target: WriteHalf<'_>, progress: &Progress) -> Result<(), Ended> {
    let mut chunks = VecDeque::new();
    while read.read(&mut chunks).await? {
        while !chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = chunks.len().min(SLICES);
            slices.iter_mut().zip(&chunks).for_each(|(slice, chunk)| *slice = IoSlice::new(chunk));
            let written = match target.try_write_vectored(&slices[..count]) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    target.writable().await.map_err(Ended::TargetLost)?;
                    continue;
                }
                Err(error) => return Err(Ended::TargetLost(error)),
            };
            take(&mut chunks, written);
            read.consumed(written);
            progress.moved(&progress.out, written);
        }
    }
    // A target that is gone already says so on the way back.
    target.shutdown().await.map_err(Ended::TargetLost)
}

/// Target to client, until the target finishes. A client that stops reading ends the tunnel.
async fn back(write: &mut impl ClientWrite, target: ReadHalf<'_>, progress: &Progress) -> Result<(), Ended> {
    loop {
        // Nothing is allocated until there is something to read.
        tokio::select! {
            ready = target.readable() => ready.map_err(Ended::TargetLost)?,
            ended = write.stopped() => return Err(ended),
        }
        let mut buffer = BytesMut::with_capacity(HEADROOM + BUFFER);
        buffer.resize(HEADROOM, 0);
        match target.try_read_buf(&mut buffer) {
            Ok(0) => {
                write.finish();
                return Ok(());
            }
            Ok(read) => {
                write.write(buffer).await?;
                progress.moved(&progress.back, read);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Ended::TargetLost(error)),
        }
    }
}

impl Progress {
    fn moved(&self, counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Relaxed);
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active.store(elapsed, Relaxed);
    }

    /// Resolves when nothing has moved for `limit`. The timer is moved on only when it fires.
    async fn idle(&self, limit: Duration) -> Ended {
        let mut quiet = pin!(sleep_until(self.started + limit));
        loop {
            quiet.as_mut().await;
            let until = self.started + Duration::from_millis(self.active.load(Relaxed)) + limit;
            if until <= Instant::now() {
                return Ended::Idle;
            }
            quiet.as_mut().reset(until);
        }
    }
}

/// Takes `written` bytes off the front.
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

/// The socket's drop becomes a RST, so that the target never takes a cut for an end.
fn abort(target: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(target).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a target cannot be reset");
    }
}

#[cfg(test)]
mod tests;
