//! How often something happens.

use std::time::Duration;

use tokio::time::Instant;

/// How many times something came within this second.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    count: u32,
    most: u32,
}

impl Pace {
    /// High from the one after `most` in a second on.
    pub fn new(most: u32, now: Instant) -> Self {
        Self { since: now, count: 0, most }
    }

    /// Counts one more; whether that is too many.
    pub fn is_high(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(self.most, now);
        }
        self.count = self.count.saturating_add(1);
        self.count > self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_new_second_starts_anew() {
        let now = Instant::now();
        let mut pace = Pace::new(3, now);
        assert_eq!([(); 5].map(|()| pace.is_high(now)), [false, false, false, true, true]);
        assert!(!pace.is_high(now + Duration::from_secs(1)));
    }
}
