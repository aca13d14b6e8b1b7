//! The connection's receive window, and what stalled tunnels hold of it.
//!
//! A tunnel whose target takes nothing keeps what its client has sent: up to a stream's window, which counts against the connection's. Two of them
//! would use that up and stop every other tunnel. So the connection's window grows by a stream's window for each stalled tunnel, up to a bound.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::Notify;

use crate::config::memory;

/// How large a connection's window should be.
#[derive(Debug, Default)]
pub(super) struct Window {
    stalled: AtomicU64,
    changed: Notify,
}

/// A tunnel that is stalled, until dropped.
#[derive(Debug)]
pub(super) struct Stalled(Arc<Window>);

/// A tunnel's part in it.
#[derive(Debug)]
pub(super) struct Share {
    window: Arc<Window>,
    stalled: Option<Stalled>,
}

impl Window {
    /// Bytes, once the client is known.
    pub(super) fn size(&self) -> u64 {
        memory::RECEIVE_WINDOW + self.stalled.load(Relaxed).min(memory::STALLED) * memory::STREAM_WINDOW
    }

    /// Resolves when the size may have changed. Cancel safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn stall(self: &Arc<Self>) -> Stalled {
        self.stalled.fetch_add(1, Relaxed);
        self.changed.notify_one();
        Stalled(Arc::clone(self))
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.0.stalled.fetch_sub(1, Relaxed);
        self.0.changed.notify_one();
    }
}

impl Share {
    pub(super) fn of(window: &Arc<Window>) -> Self {
        Self { window: Arc::clone(window), stalled: None }
    }

    /// The tunnel's target takes nothing, or takes again.
    pub(super) fn stalled(&mut self, stalled: bool) {
        self.stalled = stalled.then(|| self.window.stall());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_with_stalled_tunnels_up_to_its_bound() {
        let window = Arc::new(Window::default());
        let mut shares: Vec<_> = (0..memory::STALLED + 2).map(|_| Share::of(&window)).collect();
        let mut sizes = Vec::new();
        for share in &mut shares {
            share.stalled(true);
            sizes.push(window.size());
        }
        let want = (1..=memory::STALLED + 2).map(|n| memory::RECEIVE_WINDOW + n.min(memory::STALLED) * memory::STREAM_WINDOW);
        assert_eq!(sizes, want.collect::<Vec<_>>());
        shares[0].stalled(false);
        shares.truncate(2);
        assert_eq!(window.size(), memory::RECEIVE_WINDOW + memory::STREAM_WINDOW);
    }
}
