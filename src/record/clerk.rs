//! A thread that writes what workers hand it, so that none of them waits for a disk.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use tracing::warn;

use crate::config::memory;

/// Things that may wait for the disk.
pub(super) const WAITING: usize = memory::WAITING as usize;

/// Dropping this waits until all is written that was handed over before.
#[derive(Debug)]
pub(super) struct Clerk<T> {
    /// `None`: there will be no more.
    things: SyncSender<Option<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Clerk<T> {
    /// Runs `write` on a thread called `name`, until it is handed `None` or nobody is left who could hand it anything.
    pub(super) fn start(name: &str, write: impl FnOnce(&Receiver<Option<T>>) + Send + 'static) -> io::Result<Self> {
        let (things, waiting) = sync_channel(WAITING);
        let thread = thread::Builder::new().name(name.into()).spawn(move || write(&waiting))?;
        Ok(Self { things, thread: Some(thread) })
    }

    /// A way to it, for a worker that never waits: by `try_send`.
    pub(super) fn way(&self) -> SyncSender<Option<T>> {
        self.things.clone()
    }
}

impl<T> Drop for Clerk<T> {
    fn drop(&mut self) {
        // Gone already only if it broke.
        self.things.send(None).unwrap_or_default();
        if let Some(thread) = self.thread.take() {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                warn!("the thread that writes {name} broke");
            }
        }
    }
}
