//! Whether the client of a connection is known, which opens it up.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    certs,
    policy::{Counts, Policy, Standing, limits::Slot},
};

/// The clock of certificates counts seconds.
const MOMENT: Duration = Duration::from_secs(1);

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
    /// By what it was let in, the latest last.
    By(Vec<Standing>),
}

/// Credentials of one connection that are remembered.
const MOST: usize = 8;

impl Gate {
    /// Shut; the connection counts against its source by `slot`.
    pub(super) fn new(slot: Slot) -> Self {
        Self { open: AtomicBool::new(false), client: Mutex::new(Known::Not(slot)), opened: Notify::new() }
    }

    /// An authenticated request: at the first one the connection no longer counts against its source.
    pub(super) fn open(&self, standing: &Standing) {
        match &mut *self.client() {
            Known::By(known) if known.iter().any(|known| known.is(standing)) => {}
            Known::By(known) => {
                if known.len() == MOST {
                    known.remove(0);
                }
                known.push(standing.clone());
            }
            client @ Known::Not(_) => *client = Known::By(vec![standing.clone()]),
        }
        if !self.open.swap(true, Relaxed) {
            self.opened.notify_one();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Whether the client was known, and `policy` would no longer let it in by anything it has shown.
    pub(super) fn is_lost(&self, policy: &Policy) -> bool {
        let now = certs::now();
        matches!(&*self.client(), Known::By(known) if known.iter().all(|known| known.counts(policy, now) == Counts::No))
    }

    /// Resolves when time has taken something from what the client was let in by. Cancel safe.
    pub(super) async fn expired(&self) {
        let left = match &*self.client() {
            // What is over already was looked at, or will be in a moment.
            Known::By(known) if known.iter().all(|known| matches!(known, Standing::Certificate(_))) => {
                let now = certs::now();
                known.iter().map(|known| known.lasts(now).unwrap_or_default().max(MOMENT)).min()
            }
            _ => None,
        };
        super::after(left).await;
    }

    /// Resolves once, when it has been opened. Cancel safe.
    pub(super) async fn opened(&self) {
        self.opened.notified().await;
    }

    fn client(&self) -> MutexGuard<'_, Known> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
