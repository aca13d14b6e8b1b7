//! Whether the client of a connection is known, which opens it up.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::Notify;

use crate::policy::limits::Slot;

/// Shut until the first authenticated request.
pub(super) struct Gate {
    open: AtomicBool,
    /// The connection's place among those of unknown clients.
    slot: Mutex<Option<Slot>>,
    opened: Notify,
}

impl Gate {
    /// Shut; the connection counts against its source by `slot`.
    pub(super) fn new(slot: Slot) -> Self {
        Self { open: AtomicBool::new(false), slot: Mutex::new(Some(slot)), opened: Notify::new() }
    }

    /// An authenticated request: at the first one the connection no longer counts against its source.
    pub(super) fn open(&self) {
        if !self.open.swap(true, Relaxed) {
            self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.opened.notify_one();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Resolves once, when it has been opened. Cancel safe.
    pub(super) async fn opened(&self) {
        self.opened.notified().await;
    }
}
