//! The requests of one connection, a task each, and the wait for their last words.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tracing::error;

/// How long tunnels have to notice that their connection is gone.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);

/// Running requests. Dropping it aborts them.
pub(super) struct Requests {
    client: SocketAddr,
    tasks: JoinSet<()>,
    /// How many there were in all.
    pub(super) count: u64,
}

impl Requests {
    pub(super) fn new(client: SocketAddr) -> Self {
        Self { client, tasks: JoinSet::new(), count: 0 }
    }

    pub(super) fn spawn(&mut self, request: impl Future<Output = ()> + Send + 'static) {
        self.count += 1;
        self.tasks.spawn(request);
    }

    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Resolves when one has ended, never while none runs. Cancel safe.
    pub(super) async fn one_ended(&mut self) {
        match self.tasks.join_next().await {
            Some(done) => self.note(done),
            None => std::future::pending().await,
        }
    }

    /// Waits for the last words of all: each has learnt by now that it is over.
    pub(super) async fn finish(&mut self) {
        while !self.tasks.is_empty() {
            match timeout(LAST_WORDS, self.tasks.join_next()).await {
                Ok(Some(done)) => self.note(done),
                Ok(None) => return,
                Err(_) => {
                    error!(client = %self.client, left = self.tasks.len(), "requests did not end with their connection");
                    return self.tasks.abort_all();
                }
            }
        }
    }

    fn note(&self, done: Result<(), JoinError>) {
        if let Err(failed) = done {
            error!(client = %self.client, %failed, "a request's task broke");
        }
    }
}
