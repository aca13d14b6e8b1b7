//! What a relay may come to hold in memory, and the bounds that follow it everywhere: listener and session set them, the sum is made here.

use super::Config;

/// Bytes of unread request data a connection may hold before its first authenticated request (QUIC's connection window).
pub const WINDOW_BEFORE: u64 = 64 << 10;
/// Bytes of unread data a request stream may hold.
pub const STREAM_WINDOW: u64 = 8 << 20;
/// The same once authenticated: 100 ms at 1.3 Gbit/s.
pub const RECEIVE_WINDOW: u64 = 16 << 20;
/// Tunnels of a connection that may be stalled before they slow the others: for each, its window grows by a stream's.
pub const STALLED: u64 = 4;
/// Halves of a byte that quinn keeps at most for a byte it has received and not handed over: a slice keeps its whole packet alive.
pub const KEPT_HALVES: u64 = 5;
/// Bytes of answers a connection may hold unsent or unacknowledged.
pub const SEND_WINDOW: u64 = 8 << 20;
/// Received datagrams that wait for the pump; the oldest go first.
pub const DATAGRAMS_IN: u64 = 1 << 20;
/// Bytes of answers an HTTP/2 stream may hold unsent.
pub const STREAM_UNSENT: u64 = 64 << 10;
/// The largest HTTP/2 frame a client may send.
pub const FRAME: u64 = 64 << 10;
/// Datagrams that wait to be sent: more would only be delay.
pub const DATAGRAMS_OUT: u64 = 64 << 10;
/// Datagrams of tunnels that are not open yet (C-56).
pub const EARLY_DATAGRAMS: u64 = 64 << 10;
/// Heads read side by side before the first authenticated request.
pub const HEADS_BEFORE: u64 = 16;
/// The same once authenticated.
pub const HEADS: u64 = 64;
/// The largest head, bytes (announced as SETTINGS_MAX_FIELD_SECTION_SIZE).
pub const HEAD: u64 = 16 << 10;
/// What an idle connection costs: quinn's state for the most part.
pub const CONNECTION_STATE: u64 = 64 << 10;
/// What a tunnel holds besides the windows: a chunk of TCP or a short queue of UDP on the way back, on HTTP/2 as much unsent, and its state.
pub const TUNNEL: u64 = STREAM_UNSENT + ((64 + 8) << 10);
/// A worker's receive arenas.
pub const WORKER: u64 = 8 << 20;

/// The worst that clients within the limits can make the relay hold, in bytes. The kernel's socket buffers are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorstCase {
    /// One connection before its first authenticated request.
    pub before: u64,
    /// One authenticated connection that fills every window, buffer and head.
    pub connection: u64,
    /// One tunnel, besides.
    pub tunnel: u64,
    /// Everything.
    pub total: u64,
}

impl Config {
    /// What the limits allow in the worst case:
    ///
    /// ```text
    /// before     = 64 KiB × 2.5 window + 1 MiB + 64 KiB + 64 KiB datagrams + 16 heads × 16 KiB + 64 KiB state
    /// connection = (16 MiB + 4 × 8 MiB) × 2.5 + 8 MiB windows + 1 MiB + 64 KiB + 64 KiB datagrams + 64 heads × 16 KiB + 64 KiB state
    /// total      = limits.connections × connection + limits.tunnels × 136 KiB + workers × 8 MiB
    /// ```
    ///
    /// All connections count as authenticated: those that are not hold less. HTTP/2 has the same windows and no datagrams; its buffers for TLS and frames
    /// (0.3 MiB) are less than those.
    pub fn worst_case_memory(&self) -> WorstCase {
        let datagrams = DATAGRAMS_IN + DATAGRAMS_OUT + EARLY_DATAGRAMS;
        let before = WINDOW_BEFORE * KEPT_HALVES / 2 + datagrams + HEADS_BEFORE * HEAD + CONNECTION_STATE;
        let connection =
            (RECEIVE_WINDOW + STALLED * STREAM_WINDOW) * KEPT_HALVES / 2 + SEND_WINDOW + datagrams + HEADS * HEAD + CONNECTION_STATE;
        let times = |count: usize, each: u64| each.saturating_mul(count as u64);
        let total = times(self.limits.connections, connection)
            .saturating_add(times(self.limits.tunnels, TUNNEL))
            .saturating_add(times(self.workers, WORKER));
        WorstCase { before, connection, tunnel: TUNNEL, total }
    }
}

/// A number of bytes as people read it: `26.2 MiB`.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (count, 0);
    let mut rest = 0;
    while size >= 1024 && unit + 1 < units.len() {
        rest = size % 1024;
        size /= 1024;
        unit += 1;
    }
    match rest * 10 / 1024 {
        0 => format!("{size} {}", units[unit]),
        tenth => format!("{size}.{tenth} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_moves_the_total() {
        let base = Config::default();
        let total = base.worst_case_memory().total;
        let mut more = base.clone();
        more.limits.connections += 1;
        assert_eq!(more.worst_case_memory().total, total + base.worst_case_memory().connection);
        let mut more = base.clone();
        more.limits.tunnels += 1;
        assert_eq!(more.worst_case_memory().total, total + TUNNEL);
        let mut more = base;
        more.workers += 1;
        assert_eq!(more.worst_case_memory().total, total + WORKER);
    }

    #[test]
    fn the_sum_cannot_overflow() {
        let mut config = Config::default();
        config.limits.connections = usize::MAX;
        assert_eq!(config.worst_case_memory().total, u64::MAX);
    }

    #[test]
    fn bytes_read_like_a_person_writes_them() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (16 << 20, "16 MiB"), (u64::MAX, "16777215.9 TiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
