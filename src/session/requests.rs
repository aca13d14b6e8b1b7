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
pub(super) struct Requests<T = ()> {
    client: SocketAddr,
    /// Each gives what it leaves behind.
    tasks: JoinSet<T>,
    /// How many there were in all.
    pub(super) count: u64,
}

impl<T: Send + 'static> Requests<T> {
    pub(super) fn new(client: SocketAddr) -> Self {
        Self { client, tasks: JoinSet::new(), count: 0 }
    }

    pub(super) fn spawn(&mut self, request: impl Future<Output = T> + Send + 'static) {
        self.count += 1;
        self.tasks.spawn(request);
    }

    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// What one leaves behind that has ended; waits for it, for ever while none runs. Cancel safe.
    pub(super) async fn one_ended(&mut self) -> T {
        while let Some(done) = self.tasks.join_next().await {
            if let Some(left) = self.noted(done) {
                return left;
            }
        }
        std::future::pending().await
    }

    /// Waits for the last words of all, each of which has learnt by now that it is over, and for what they leave behind.
    pub(super) async fn finish(&mut self, mut done: impl FnMut(T)) {
        while !self.tasks.is_empty() {
            match timeout(LAST_WORDS, self.tasks.join_next()).await {
                Ok(Some(ended)) => self.noted(ended).into_iter().for_each(&mut done),
                Ok(None) => return,
                Err(_) => {
                    error!(client = %self.client, left = self.tasks.len(), "requests did not end with their connection");
                    return self.tasks.abort_all();
                }
            }
        }
    }

    fn noted(&self, done: Result<T, JoinError>) -> Option<T> {
        done.inspect_err(|failed| error!(client = %self.client, %failed, "a request's task broke")).ok()
    }
}
