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
/// Bytes of a client's certificate and those it comes with, which are kept for as long as its connection lives.
pub const CLIENT_CHAIN: u64 = 16 << 10;
/// Heads read side by side before the first authenticated request.
pub const HEADS_BEFORE: u64 = 16;
/// The same once authenticated.
pub const HEADS: u64 = 64;
/// The largest head, bytes (announced as SETTINGS_MAX_FIELD_SECTION_SIZE).
pub const HEAD: u64 = 16 << 10;
/// What an idle connection costs: quinn's state for the most part.
pub const CONNECTION_STATE: u64 = 64 << 10;
/// Packets of targets that wait behind the datagrams that wait to be sent.
pub const PACKETS_BACK: u64 = 512;
/// The largest of them: no path that is tried carries more (QUIC's MTU is 1,452 at most).
pub const PACKET: u64 = 1500;
/// What is kept of such a packet, beside its bytes.
const PACKET_STATE: u64 = 100;
/// Bytes a TCP tunnel holds in hand, each way.
pub const CHUNK: u64 = 64 << 10;
/// Bytes of whole capsules that wait for a client that does not read.
pub const CAPSULES: u64 = 64 << 10;
/// The state of a tunnel.
pub const TUNNEL_STATE: u64 = 8 << 10;
/// What a tunnel holds besides the windows, at most: a UDP tunnel by capsules. They wait in a buffer of one and a half times [`CAPSULES`] and as much as a
/// half in what is noted of each (for empty packets), one may be half written and one half read, each as large as a UDP packet, and HTTP/2 holds some
/// unsent. A TCP tunnel has a chunk each way.
pub const TUNNEL: u64 = CAPSULES * 3 / 2 + CAPSULES + 2 * (64 << 10) + STREAM_UNSENT + TUNNEL_STATE;
/// A worker's receive arenas.
pub const WORKER: u64 = 8 << 20;
/// What a connection collects for its qlog file before it is handed over to be written.
pub const QLOG: u64 = 4 << 10;
/// The line that reaches over that: the longest that quinn writes has some 400 bytes.
pub const QLOG_LINE: u64 = 1 << 10;
/// Things that may wait for the disk, of all connections.
pub const WAITING: u64 = 1024;

/// The worst that clients within the limits can make the relay hold, in bytes. The kernel's socket buffers are not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorstCase {
    /// One connection before its first authenticated request, in its parts.
    pub before: Vec<Part>,
    /// All that one address may have of these.
    pub address: u64,
    /// One authenticated connection that fills every window, buffer and head, without its tunnels, in its parts.
    pub connection: Vec<Part>,
    /// The tunnels that one connection may have, besides.
    pub tunnels: u64,
    /// What waits to be written into qlog files, of all connections; 0 without them.
    pub qlog: u64,
    /// Everything.
    pub total: u64,
}

/// A part of the worst case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is, and how it is computed.
    pub what: String,
    /// How much it is.
    pub bytes: u64,
}

impl Part {
    fn new(what: &str, bytes: u64) -> Self {
        Self { what: what.into(), bytes }
    }
}

/// The sum of parts.
pub fn sum(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.bytes).sum()
}

impl Config {
    /// What the limits allow in the worst case. All connections count as authenticated in the total: those that are not hold less. HTTP/2 has the same
    /// windows and no datagrams; its buffers for TLS and frames (0.3 MiB) are less than those.
    pub fn worst_case_memory(&self) -> WorstCase {
        let limits = &self.limits;
        let window = format!("receive window: {} × {KEPT_HALVES} / 2", bytes(WINDOW_BEFORE));
        let windows = format!("receive windows: ({} + {STALLED} × {}) × {KEPT_HALVES} / 2", bytes(RECEIVE_WINDOW), bytes(STREAM_WINDOW));
        let datagrams = Part::new(
            &format!("datagrams: {} in, {} out, {} early", bytes(DATAGRAMS_IN), bytes(DATAGRAMS_OUT), bytes(EARLY_DATAGRAMS)),
            DATAGRAMS_IN + DATAGRAMS_OUT + EARLY_DATAGRAMS,
        );
        let heads = |count: u64| Part::new(&format!("heads: {count} × {}", bytes(HEAD)), count * HEAD);
        let state = Part::new("state", CONNECTION_STATE);
        let mut before = vec![Part::new(&window, WINDOW_BEFORE * KEPT_HALVES / 2), datagrams.clone(), heads(HEADS_BEFORE), state.clone()];
        let mut connection = vec![
            Part::new(&windows, (RECEIVE_WINDOW + STALLED * STREAM_WINDOW) * KEPT_HALVES / 2),
            Part::new("send window", SEND_WINDOW),
            datagrams,
            Part::new(&format!("packets back: {PACKETS_BACK} × {} B", PACKET + PACKET_STATE), PACKETS_BACK * (PACKET + PACKET_STATE)),
            heads(HEADS),
            state,
        ];
        let qlog = if self.log.qlog.is_some() {
            let part = Part::new(&format!("qlog: {}, and a line of {}", bytes(QLOG), bytes(QLOG_LINE)), QLOG + QLOG_LINE);
            before.push(part.clone());
            connection.push(part);
            WAITING * (QLOG + QLOG_LINE)
        } else {
            0
        };
        if self.access.client_ca.is_some() {
            let part = Part::new(&format!("certificate of the client: {}", bytes(CLIENT_CHAIN)), CLIENT_CHAIN);
            before.push(part.clone());
            connection.push(part);
        }
        let times = |count: usize, each: u64| each.saturating_mul(count as u64);
        let total = times(limits.connections, sum(&connection))
            .saturating_add(times(limits.tunnels, TUNNEL))
            .saturating_add(times(self.workers, WORKER))
            .saturating_add(qlog);
        WorstCase {
            address: times(limits.unauthenticated_per_source, sum(&before)),
            tunnels: times(limits.tunnels_per_connection, TUNNEL),
            before,
            connection,
            qlog,
            total,
        }
    }

    /// `limits.connections` and `limits.tunnels`, lowered alike until the worst case is three quarters of `memory` bytes; `None` where it fits.
    pub fn limits_that_fit(&self, memory: u64) -> Option<(usize, usize)> {
        let worst = self.worst_case_memory();
        if worst.total <= memory {
            return None;
        }
        // Whatever the limits.
        let fixed = WORKER.saturating_mul(self.workers as u64).saturating_add(worst.qlog);
        let (room, needed) = ((memory / 4 * 3).saturating_sub(fixed), worst.total.saturating_sub(fixed).max(1));
        let lowered = |limit: usize| (limit as u128 * u128::from(room) / u128::from(needed)).max(1) as usize;
        Some((lowered(self.limits.connections), lowered(self.limits.tunnels)))
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
    fn every_limit_moves_what_it_limits() {
        let base = Config::default();
        let worst = base.worst_case_memory();
        let more = |change: fn(&mut Config)| {
            let mut more = base.clone();
            change(&mut more);
            more.worst_case_memory()
        };
        assert_eq!(more(|config| config.limits.connections += 1).total, worst.total + sum(&worst.connection));
        assert_eq!(more(|config| config.limits.tunnels += 1).total, worst.total + TUNNEL);
        assert_eq!(more(|config| config.workers += 1).total, worst.total + WORKER);
        assert_eq!(more(|config| config.limits.tunnels_per_connection += 1).tunnels, worst.tunnels + TUNNEL);
        assert_eq!(more(|config| config.limits.unauthenticated_per_source += 1).address, worst.address + sum(&worst.before));
    }

    #[test]
    fn qlog_is_counted_where_it_is_written() {
        let mut config = Config::default();
        let without = config.worst_case_memory();
        config.log.qlog = Some("packets".into());
        let with = config.worst_case_memory();
        assert_eq!(sum(&with.before) - sum(&without.before), 5 << 10);
        assert_eq!(sum(&with.connection) - sum(&without.connection), 5 << 10);
        assert_eq!(with.connection.last().unwrap().what, "qlog: 4 KiB, and a line of 1 KiB");
        assert_eq!(with.total - without.total, 10_000 * (5 << 10) + (5 << 20));
        let (connections, tunnels) = config.limits_that_fit(8 << 30).unwrap();
        (config.limits.connections, config.limits.tunnels) = (connections, tunnels);
        assert!(config.worst_case_memory().total <= 8 << 30);
    }

    #[test]
    fn the_sum_cannot_overflow() {
        let mut config = Config::default();
        config.limits.connections = usize::MAX;
        assert_eq!(config.worst_case_memory().total, u64::MAX);
        assert!(config.limits_that_fit(8 << 30).is_some());
    }

    #[test]
    fn limits_that_fit_fit() {
        let mut config = Config::default();
        for memory in [512 << 20, 8 << 30, 1 << 40] {
            let (connections, tunnels) = config.limits_that_fit(memory).unwrap();
            assert!(connections < config.limits.connections && tunnels < config.limits.tunnels);
            let mut lower = config.clone();
            (lower.limits.connections, lower.limits.tunnels) = (connections, tunnels);
            let total = lower.worst_case_memory().total;
            assert!(total <= memory && total > memory / 2, "{total} of {memory}");
            assert_eq!(lower.limits_that_fit(memory), None);
        }
        config.limits.connections = 1;
        config.limits.tunnels = 1;
        assert_eq!(config.limits_that_fit(1 << 30), None);
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
