//! When a tunnel last moved something, and the wait until that is too long ago.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Cheap to mark: no timer is touched until one fires.
#[derive(Debug)]
pub(super) struct Activity {
    started: Instant,
    /// Microseconds from `started` to the last mark.
    last: AtomicU64,
}

impl Activity {
    /// Counts as active now.
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Something moved.
    pub(super) fn mark(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Relaxed);
    }

    /// Resolves once nothing has moved for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        let mut quiet = pin!(sleep_until(self.last() + limit));
        loop {
            quiet.as_mut().await;
            let until = self.last() + limit;
            if until <= Instant::now() {
                return;
            }
            quiet.as_mut().reset(until);
        }
    }

    fn last(&self) -> Instant {
        self.started + Duration::from_micros(self.last.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, pause};

    use super::*;

    const LIMIT: Duration = Duration::from_mins(2);

    #[tokio::test]
    async fn c70_a_mark_puts_the_end_off_by_the_whole_limit() {
        pause();
        let start = Instant::now();
        let activity = Activity::new();
        let idle = async {
            activity.idle(LIMIT).await;
            start.elapsed()
        };
        let marks = async {
            for _ in 0..3 {
                advance(Duration::from_secs(100)).await;
                activity.mark();
            }
        };
        let (ended, ()) = tokio::join!(idle, marks);
        assert_eq!(ended.as_secs(), 420);
    }
}
