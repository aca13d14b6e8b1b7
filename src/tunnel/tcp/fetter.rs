//! How a TCP tunnel of a relay that misbehaves is held back: the faults `tcp-blackhole` and `stall`.

use std::{collections::VecDeque, future::pending};

use bytes::Bytes;

use crate::{
    fault::{Fault, Faults},
    tunnel::ClientRead,
};

/// What a tunnel lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetter {
    /// Nothing; what comes is swallowed.
    Hole,
    /// So many bytes each way; then nothing is read any more.
    Stall(u64),
}

impl Fetter {
    /// That of a new tunnel; `None` in a healthy relay.
    pub fn of(faults: &Faults) -> Option<Self> {
        if faults.on(Fault::TcpBlackhole) {
            return Some(Self::Hole);
        }
        faults.stall().map(Self::Stall)
    }

    /// Client to target: leaves in `chunks` what may go on after `carried` bytes, and waits for ever where nothing comes any more.
    pub(super) async fn out(self, read: &mut impl ClientRead, chunks: &mut VecDeque<Bytes>, carried: u64, more: bool) {
        match self {
            Self::Hole => {
                read.consumed(chunks.drain(..).map(|chunk| chunk.len()).sum());
                if !more {
                    pending::<()>().await;
                }
            }
            Self::Stall(bytes) => {
                let mut room = usize::try_from(bytes.saturating_sub(carried)).unwrap_or(usize::MAX);
                if room == 0 {
                    pending::<()>().await;
                }
                for chunk in chunks.iter_mut() {
                    chunk.truncate(room);
                    room -= chunk.len();
                }
                chunks.retain(|chunk| !chunk.is_empty());
            }
        }
    }

    /// Target to client: how much may be read after `carried` bytes; waits for ever where that is nothing.
    pub(super) async fn back(self, carried: u64) -> usize {
        match self {
            Self::Stall(bytes) if carried < bytes => usize::try_from(bytes - carried).unwrap_or(usize::MAX),
            Self::Hole | Self::Stall(_) => pending().await,
        }
    }
}
