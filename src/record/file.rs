//! Records as lines of JSON in a file, written by a thread of its own.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TryRecvError},
    },
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Log, clerk::Clerk};

/// What did not reach the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Too many waited.
    pub no_room: u64,
    /// The file did not take them.
    pub not_written: u64,
}

/// A worker's way to the file: never waits.
#[derive(Clone, Debug)]
pub struct Queue {
    /// `None`: there will be no more.
    records: SyncSender<Option<Arc<Log>>>,
    lost: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    no_room: AtomicU64,
    not_written: AtomicU64,
}

/// The thread that writes. Dropping this waits until all is written that was told before.
#[derive(Debug)]
pub struct Writer {
    clerk: Clerk<Arc<Log>>,
    lost: Arc<Counters>,
}

impl Writer {
    /// Appends to the file at `path`, which nobody else may read: it says who went where.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let lost = Arc::new(Counters::default());
        let counters = Arc::clone(&lost);
        let clerk = Clerk::start("records", move |waiting| write(BufWriter::new(file), waiting, &counters))?;
        Ok(Self { clerk, lost })
    }

    /// For a worker.
    pub fn queue(&self) -> Queue {
        Queue { records: self.clerk.way(), lost: Arc::clone(&self.lost) }
    }
}

impl Queue {
    pub(super) fn push(&self, log: Arc<Log>) {
        if self.records.try_send(Some(log)).is_err() {
            self.lost.no_room.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn lost(&self) -> Lost {
        Lost { no_room: self.lost.no_room.load(Relaxed), not_written: self.lost.not_written.load(Relaxed) }
    }
}

fn write(mut file: BufWriter<File>, waiting: &Receiver<Option<Arc<Log>>>, lost: &Counters) {
    let mut told = false;
    loop {
        let log = match waiting.try_recv() {
            Ok(Some(log)) => log,
            Ok(None) | Err(TryRecvError::Disconnected) => break,
            // Nothing waits: what was written may be read now.
            Err(TryRecvError::Empty) => {
                complain(file.flush(), &mut told);
                match waiting.recv() {
                    Ok(Some(log)) => log,
                    Ok(None) | Err(_) => break,
                }
            }
        };
        let line = serde_json::to_vec(&log.record()).map(|mut line| {
            line.push(b'\n');
            line
        });
        let written = line.map_err(io::Error::from).and_then(|line| file.write_all(&line));
        if written.is_err() {
            lost.not_written.fetch_add(1, Relaxed);
        }
        complain(written, &mut told);
    }
    complain(file.flush(), &mut told);
}

/// Once: a full disk must not fill the log too.
fn complain(done: io::Result<()>, told: &mut bool) {
    if let Err(error) = done
        && !std::mem::replace(told, true)
    {
        warn!(%error, "records cannot be written; the rest of them is lost without another word");
    }
}
