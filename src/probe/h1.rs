//! HTTP/1.1 (RFC 9112): one request on a connection, which becomes its tunnel.

mod head;
mod pipe;
mod stream;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Closed, ProbeError,
    shared::{Shared, within},
    tcp,
};

pub(super) use head::check_upgrade;
pub(super) use pipe::Pipe;
pub(super) use stream::{Receiving, Sending};

/// The client's end of a connection.
#[derive(Debug)]
pub(super) struct Link {
    pipe: Arc<Pipe>,
    used: AtomicBool,
    /// Tells who watches that an exchange reads now.
    taken: CancellationToken,
    /// Writes close_notify when it is time; aborted on drop.
    tasks: JoinSet<()>,
}

impl Link {
    pub(super) fn begin(stream: tcp::Stream, shared: Arc<Shared>) -> Self {
        let pipe = Arc::new(Pipe::new(stream, shared));
        let mut tasks = JoinSet::new();
        tasks.spawn(pipe.clone().finishing());
        Self { pipe, used: AtomicBool::new(false), taken: CancellationToken::new(), tasks }
    }

    /// Both directions, once.
    pub(super) fn exchange(&self) -> Result<(Sending, Receiving), ProbeError> {
        if self.used.swap(true, Ordering::Relaxed) {
            return Err(ProbeError::UsedUp);
        }
        self.taken.cancel();
        Ok((Sending::new(self.pipe.clone()), Receiving::new(self.pipe.clone())))
    }

    pub(super) fn pipe(&self) -> Arc<Pipe> {
        self.pipe.clone()
    }

    /// Reads until the relay closes, unless an exchange does so.
    pub(super) async fn watch(&self) {
        let read = async { while let Ok(Some(_)) = self.pipe.read().await {} };
        tokio::select! {
            biased;
            () = self.taken.cancelled() => std::future::pending().await,
            () = read => {}
        }
        self.pipe.shared().note_closed(Closed::silent(true, "TLS closed"));
    }

    /// Sends close_notify, as far as that goes, and closes.
    pub(super) async fn shut(&mut self) {
        self.pipe.finish();
        within(Some(self.pipe.shared().options.timeout), self.tasks.join_next()).await.ok();
        self.pipe.close();
    }
}

#[cfg(test)]
mod tests;
