//! What datagrams leave to the streams of their connection.
//!
//! quinn sends DATAGRAM frames in front of STREAM frames: beside a target that sends more than the path takes, a TCP tunnel, an answer or a lost
//! packet of either would wait for ever. So while something waits on streams, datagrams get half of what the connection sends, whatever it is that
//! bounds that, and streams the other half and what datagrams do not use.
//!
//! ```text
//!                 ── a stream is written; or, soon after, packets are lost ──▶
//! all for datagrams                                                            half for datagrams
//!                 ◀── an acknowledgement finds the connection with nothing left to send ──
//! ```
//!
//! Neither edge is a guess: half of what is sent does not keep a connection busy, so when its streams have nothing left, the next acknowledgement
//! says so. Nothing is lost to the limit for longer than that.
//!
//! Without a write and without a loss a batch of packets pays one load and one comparison for this. Under the limit it pays for a look at the
//! connection: a lock, an allocation, a clock.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    listener::spare::{self, Spare},
    session::link::Link,
};

/// How long a loss is taken for one of a stream's, once streams have nothing left: so many round trips, and at least so long.
const WATCHED: (u32, Duration) = (3, Duration::from_secs(1));
/// No pause is longer, so that the end of the limit shows soon.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// Less than a packet is not worth a refill: rounding would eat it up.
const WORTH: u64 = 1024;
/// While nothing else is sent, datagrams get this part of half a window a round trip: the acknowledgement that ends the limit is one of theirs.
const TRICKLE: u64 = 8;

/// The budget of a connection's datagrams.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Seen so far.
    writes: u64,
    losses: u64,
    limit: Option<Limit>,
    /// Until when a loss may be of a stream, and where it shows.
    watch: Option<(Instant, Arc<Spare>)>,
}

/// Streams have something to send.
#[derive(Debug)]
struct Limit {
    /// Bytes sent before it was last known that they have.
    sent: u64,
    /// Bytes that datagrams may take now, at most `half`: a burst of a modest flow is not held.
    left: u64,
    /// When that was last refilled, and for how many bytes sent.
    refilled: (Instant, u64),
    /// Half of the congestion window, bytes.
    half: u64,
    rtt: Duration,
}

/// What is known of a connection.
struct Sight {
    now: Instant,
    rtt: Duration,
    window: u64,
    writes: u64,
    spare: Arc<Spare>,
    sent: u64,
    sated: u64,
    losses: u64,
}

impl Budget {
    /// Bytes of datagrams that may be handed to quinn now. `backlog`: others wait already, so that a limit that begins now begins with nothing.
    pub(super) fn room(&mut self, link: &Link, backlog: bool) -> usize {
        let writes = link.writes();
        if self.is_free(writes) {
            return usize::MAX;
        }
        let Some((window, spare)) = spare::look(link) else { return usize::MAX };
        let (sent, sated, losses) = (spare.sent(), spare.sated(), spare.losses());
        self.look(Sight { now: Instant::now(), rtt: link.rtt(), window, writes, spare, sent, sated, losses }, backlog)
    }

    /// So many bytes were handed over.
    pub(super) fn spend(&mut self, bytes: usize) {
        if let Some(limit) = &mut self.limit {
            limit.left = limit.left.saturating_sub(bytes as u64);
        }
    }

    /// How long a packet of `bytes` has to wait; `None`: it may go, and is spent.
    pub(super) fn pause(&mut self, link: &Link, bytes: usize) -> Option<Duration> {
        self.room(link, true);
        let pause = self.limit.as_ref().and_then(|limit| limit.pause(bytes as u64));
        if pause.is_none() {
            self.spend(bytes);
        }
        pause
    }

    /// Nothing has happened that could begin a limit.
    fn is_free(&self, writes: u64) -> bool {
        self.limit.is_none() && self.writes == writes && self.watch.as_ref().is_none_or(|(_, spare)| spare.losses() == self.losses)
    }

    fn look(&mut self, seen: Sight, backlog: bool) -> usize {
        // Only what was sent since tells: an acknowledgement may have come between the write and quinn's next look at its streams.
        if self.limit.as_ref().is_some_and(|limit| seen.sated > limit.sent) {
            self.limit = None;
            let (trips, least) = WATCHED;
            self.watch = Some((seen.now + (seen.rtt * trips).max(least), seen.spare));
        }
        self.watch = self.watch.take().filter(|(until, _)| seen.now < *until);
        let lost = self.watch.is_some() && self.losses != seen.losses;
        let half = seen.window / 2;
        if lost || self.writes != seen.writes {
            let left = if backlog { 0 } else { half };
            let limit = self.limit.get_or_insert(Limit { sent: 0, left, refilled: (seen.now, seen.sent), half, rtt: seen.rtt });
            limit.sent = seen.sent;
            self.watch = None;
        }
        (self.writes, self.losses) = (seen.writes, seen.losses);
        self.limit.as_mut().map_or(usize::MAX, |limit| {
            (limit.half, limit.rtt) = (half, seen.rtt);
            limit.refill(seen.now, seen.sent);
            usize::try_from(limit.left).unwrap_or(usize::MAX)
        })
    }
}

impl Limit {
    fn refill(&mut self, now: Instant, sent: u64) {
        let (since, counted) = self.refilled;
        // Another path counts anew.
        if sent < counted {
            (self.refilled, self.sent) = ((now, sent), self.sent.min(sent));
            return;
        }
        let time = u128::from(self.half / TRICKLE) * now.duration_since(since).as_nanos() / self.rtt.as_nanos().max(1);
        let gained = u64::try_from(time).unwrap_or(u64::MAX).max((sent - counted) / 2);
        if gained >= WORTH.min(self.half) {
            self.left = self.left.saturating_add(gained).min(self.half);
            self.refilled = (now, sent);
        }
    }

    fn pause(&self, bytes: u64) -> Option<Duration> {
        // The smallest window may be smaller than two packets.
        let missing = bytes.min(self.half).saturating_sub(self.left);
        let span = self.rtt.as_nanos() * u128::from(missing) / u128::from(self.half.max(1));
        (missing > 0).then(|| Duration::from_nanos(span as u64).min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);
    const WINDOW: u64 = 200_000;
    const ALL: usize = usize::MAX;
    const HALF: usize = WINDOW as usize / 2;

    fn seen(start: Instant, ms: u64, writes: u64, [sent, sated, losses]: [u64; 3]) -> Sight {
        Sight { now: start + Duration::from_millis(ms), rtt: RTT, window: WINDOW, writes, spare: Arc::default(), sent, sated, losses }
    }

    #[test]
    fn half_of_what_is_sent_while_streams_wait() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        assert!(budget.is_free(0) && !budget.is_free(1));
        // A flood begins with nothing, and has half of it all by the end, however fast or slowly the connection sends.
        assert_eq!(budget.look(seen(start, 0, 1, [5, 5, 0]), true), 0);
        let (mut given, mut sent) = (0, 5);
        for ms in 1..=1000 {
            sent += if ms < 500 { 3000 } else { 400 };
            let room = budget.look(seen(start, ms, 1, [sent, 5, 0]), true);
            budget.spend(room);
            given += room as u64;
        }
        assert!(given.abs_diff(sent / 2) < 2 * WORTH, "{given} of {sent}");
        // What was not used does not pile up, and a burst of a modest flow is not held.
        assert_eq!(budget.look(seen(start, 9000, 1, [9_000_000, 5, 0]), true), HALF);
        assert_eq!(Budget::default().look(seen(start, 0, 1, [5, 5, 0]), false), HALF);
    }

    #[test]
    fn while_nothing_is_sent_some_of_it_goes_and_another_path_counts_anew() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        budget.look(seen(start, 0, 1, [900_000, 5, 0]), true);
        assert_eq!(budget.look(seen(start, 100, 1, [900_000, 5, 0]), true), HALF / TRICKLE as usize);
        budget.spend(HALF);
        assert_eq!(budget.look(seen(start, 101, 1, [3000, 5, 0]), true), 0);
        assert_eq!(budget.look(seen(start, 102, 1, [7000, 5, 0]), true), 2000);
        assert_eq!(budget.look(seen(start, 103, 1, [8000, 7000, 0]), true), ALL);
    }

    #[test]
    fn the_limit_ends_when_nothing_was_left_to_send_since_the_last_write() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        budget.look(seen(start, 0, 1, [5, 5, 0]), true);
        // Known before anything was sent since the write: of an acknowledgement that was there already.
        assert_eq!(budget.look(seen(start, 0, 1, [5, 5, 0]), true), 0);
        // Written again in the meantime.
        assert_ne!(budget.look(seen(start, 10, 2, [7, 6, 0]), true), ALL);
        assert_ne!(budget.look(seen(start, 20, 2, [8, 7, 0]), true), ALL);
        assert_eq!(budget.look(seen(start, 30, 2, [9, 8, 0]), true), ALL);
        assert!(budget.is_free(2));
    }

    #[test]
    fn a_loss_soon_after_is_one_of_a_stream_and_later_it_is_not() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        assert_eq!(budget.look(seen(start, 0, 0, [5, 5, 1]), true), ALL, "no stream was ever written");
        budget.look(seen(start, 0, 1, [5, 5, 1]), true);
        assert_eq!(budget.look(seen(start, 10, 1, [9, 6, 1]), true), ALL);
        assert_ne!(budget.look(seen(start, 500, 1, [10, 6, 2]), true), ALL);
        assert_eq!(budget.look(seen(start, 510, 1, [12, 11, 2]), true), ALL);
        assert_eq!(budget.look(seen(start, 1600, 1, [20, 11, 3]), true), ALL, "more than a second later");
        assert!(budget.watch.is_none());
    }

    #[test]
    fn a_packet_waits_for_its_part_of_the_round_trip() {
        let now = Instant::now();
        let limit = |left, half| Limit { sent: 0, left, refilled: (now, 0), half, rtt: RTT };
        assert_eq!(limit(1200, 100_000).pause(1200), None);
        assert_eq!(limit(200, 100_000).pause(1200), Some(RTT / 100));
        assert_eq!(limit(0, 2400).pause(1200), Some(LONGEST_PAUSE));
        assert_eq!(limit(1000, 1000).pause(1200), None, "else it would never go");
    }
}
