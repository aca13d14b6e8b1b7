//! Whether the client of a connection is known, which opens it up.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::Notify;

use crate::{
    certs,
    policy::{Policy, Standing, limits::Slot},
};

/// Why a connection ends whose client has nothing to ask any more.
pub(super) const LOST: &str = "the credential that let its client in no longer counts";

/// Shut until the first authenticated request.
pub(super) struct Gate {
    open: AtomicBool,
    client: Mutex<Known>,
    opened: Notify,
}

/// What is known of a connection's client.
enum Known {
    /// Nothing yet: the connection's place among those of unknown clients.
    Not(#[expect(dead_code, reason = "held until the client is known")] Slot),
    /// By what it was let in last.
    By(Standing),
}

impl Gate {
    /// Shut; the connection counts against its source by `slot`.
    pub(super) fn new(slot: Slot) -> Self {
        Self { open: AtomicBool::new(false), client: Mutex::new(Known::Not(slot)), opened: Notify::new() }
    }

    /// An authenticated request: at the first one the connection no longer counts against its source.
    pub(super) fn open(&self, standing: &Standing) {
        *self.client() = Known::By(standing.clone());
        if !self.open.swap(true, Relaxed) {
            self.opened.notify_one();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Whether the client was known, and `policy` would no longer let it in by what it showed last.
    pub(super) fn is_lost(&self, policy: &Policy) -> bool {
        matches!(&*self.client(), Known::By(standing) if standing.is_lost(policy, certs::now()))
    }

    /// Resolves once, when it has been opened. Cancel safe.
    pub(super) async fn opened(&self) {
        self.opened.notified().await;
    }

    fn client(&self) -> MutexGuard<'_, Known> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
