//! TLS session tickets, kept where a test can see them.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};
use tokio::sync::watch;

/// The tickets of one relay. Clones share them. Holds at most [`MAX_TICKETS`].
#[derive(Clone)]
pub struct Tickets {
    kept: Arc<Mutex<Vec<Tls13ClientSessionValue>>>,
    /// `max_early_data_size` of every ticket that came, in order.
    seen: watch::Sender<Vec<u32>>,
}

impl Tickets {
    /// Waits for the `nth` ticket, counted from 1, and gives what it allows: bytes of 0-RTT data (RFC 8446 §4.6.1), 0 for none.
    /// Over QUIC the value is 0 or `u32::MAX` (RFC 9001 §4.6.1). Unbounded: put a time-out around it.
    pub async fn early_data(&self, nth: usize) -> u32 {
        let mut seen = self.seen.subscribe();
        let seen = seen.wait_for(|seen| seen.len() >= nth.max(1)).await.expect("self holds the sender");
        seen[nth.max(1) - 1]
    }

    /// How many came.
    pub fn seen(&self) -> usize {
        self.seen.borrow().len()
    }

    /// How many can still be used; each is used once.
    pub fn left(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self { kept: Arc::default(), seen: watch::Sender::default() }
    }
}

/// Tickets are secrets.
impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").field("left", &self.left()).finish_non_exhaustive()
    }
}

impl ClientSessionStore for Tickets {
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let early_data = value.max_early_data_size();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_TICKETS {
            kept.push(value);
            self.seen.send_modify(|seen| seen.push(early_data));
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    // TLS 1.2 does not occur in QUIC, and without a hint the first group is offered.
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
}

/// A relay sends two at a time; more than these are not worth keeping.
pub const MAX_TICKETS: usize = 16;
