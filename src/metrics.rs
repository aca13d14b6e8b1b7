//! Counters, and gauges as guards. Each worker owns one [`Metrics`]; they are added up when read ([`Snapshot::sum`]).

mod samples;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::ended::Ended;
pub use samples::{Sample, prometheus};

/// The direction of a packet or byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Client to target.
    Out,
    /// Target to client.
    Back,
}

/// Why a packet went no further. Every loss is counted; none is logged by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A queue or a socket buffer was full.
    NoRoom,
    /// Larger than the path or a DATAGRAM frame carries (RFC 9298 §6.1).
    TooBig,
    /// No context ID, or one that does not parse.
    Malformed,
    /// A context ID nobody registered (RFC 9298 §4).
    UnknownContext,
    /// The target has not answered, and the cap on packets to a silent target is reached.
    Unanswered,
    /// For a request that is not open (yet, or any more), or that was refused.
    NoTunnel,
    /// The client does not read its capsules.
    Unread,
    /// The socket said no in a way that costs only this packet.
    Socket,
    /// The relay misbehaves on purpose.
    Fault,
}

/// Number of [`Loss`] variants.
const LOSSES: usize = 9;

impl Loss {
    /// In the order of their counters.
    pub const ALL: [Self; LOSSES] = [
        Self::NoRoom,
        Self::TooBig,
        Self::Malformed,
        Self::UnknownContext,
        Self::Unanswered,
        Self::NoTunnel,
        Self::Unread,
        Self::Socket,
        Self::Fault,
    ];

    /// For counters: one word or two.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::TooBig => "too_big",
            Self::Malformed => "malformed",
            Self::UnknownContext => "unknown_context",
            Self::Unanswered => "unanswered",
            Self::NoTunnel => "no_tunnel",
            Self::Unread => "unread",
            Self::Socket => "socket",
            Self::Fault => "fault",
        }
    }
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct Metrics {
    connections: AtomicU64,
    version_negotiations: AtomicU64,
    tunnels: AtomicU64,
    connections_open: AtomicU64,
    tunnels_open: AtomicU64,
    packets: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
    tcp_bytes: [AtomicU64; 2],
    dropped: [[AtomicU64; LOSSES]; 2],
    // Once a request, never once a packet: a lock is cheap enough.
    refused: Mutex<BTreeMap<u16, u64>>,
    ended: Mutex<BTreeMap<&'static str, u64>>,
    quirks: Mutex<BTreeMap<&'static str, u64>>,
}

/// Something counts as open while this lives.
#[derive(Debug)]
#[must_use = "it counts as open only while this lives"]
pub struct Open {
    metrics: Arc<Metrics>,
    gauge: fn(&Metrics) -> &AtomicU64,
}

/// The counters at one moment, of one worker or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Client connections accepted.
    pub connections: u64,
    /// First packets of a QUIC version that is not spoken here, to be answered with Version Negotiation.
    pub version_negotiations: u64,
    /// Tunnels opened.
    pub tunnels: u64,
    /// Client connections open now.
    pub connections_open: u64,
    /// Tunnels open now.
    pub tunnels_open: u64,
    /// UDP packets carried, out and back.
    pub packets: [u64; 2],
    /// Payload bytes of UDP tunnels carried, out and back.
    pub bytes: [u64; 2],
    /// Bytes of TCP tunnels that are over, out and back.
    pub tcp_bytes: [u64; 2],
    /// UDP packets dropped, out and back, by the order of [`Loss`].
    pub dropped: [[u64; LOSSES]; 2],
    /// Requests refused, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Tunnels and requests over, by [`Ended::name`].
    pub ended: BTreeMap<&'static str, u64>,
    /// What Apple's clients alone do, and was met: by the names of `apple`.
    pub quirks: BTreeMap<&'static str, u64>,
}

impl Metrics {
    /// A client's connection was let in.
    pub fn connection_open(self: &Arc<Self>) -> Open {
        self.connections.fetch_add(1, Relaxed);
        Open::new(self, |metrics| &metrics.connections_open)
    }

    /// A packet is to be answered with Version Negotiation.
    pub fn version_negotiated(&self) {
        self.version_negotiations.fetch_add(1, Relaxed);
    }

    /// A request got its tunnel.
    pub fn tunnel_open(self: &Arc<Self>) -> Open {
        self.tunnels.fetch_add(1, Relaxed);
        Open::new(self, |metrics| &metrics.tunnels_open)
    }

    /// UDP packets went on.
    pub fn carried(&self, way: Way, packets: u64, bytes: u64) {
        self.packets[way as usize].fetch_add(packets, Relaxed);
        self.bytes[way as usize].fetch_add(bytes, Relaxed);
    }

    /// UDP packets did not.
    pub fn dropped(&self, way: Way, loss: Loss, packets: u64) {
        self.dropped[way as usize][loss as usize].fetch_add(packets, Relaxed);
    }

    /// A TCP tunnel is over that carried these bytes.
    pub fn tcp_carried(&self, out: u64, back: u64) {
        self.tcp_bytes[Way::Out as usize].fetch_add(out, Relaxed);
        self.tcp_bytes[Way::Back as usize].fetch_add(back, Relaxed);
    }

    /// A request was answered with no.
    pub fn refused(&self, status: u16) {
        *lock(&self.refused).entry(status).or_default() += 1;
    }

    /// A tunnel, or a request that never got one, is over.
    pub fn ended(&self, ended: &Ended) {
        *lock(&self.ended).entry(ended.name()).or_default() += 1;
    }

    /// A quirk of the shim was met; names it.
    pub fn quirk(&self, name: &'static str) {
        *lock(&self.quirks).entry(name).or_default() += 1;
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Snapshot {
            connections: read(&self.connections),
            version_negotiations: read(&self.version_negotiations),
            tunnels: read(&self.tunnels),
            connections_open: read(&self.connections_open),
            tunnels_open: read(&self.tunnels_open),
            packets: self.packets.each_ref().map(read),
            bytes: self.bytes.each_ref().map(read),
            tcp_bytes: self.tcp_bytes.each_ref().map(read),
            dropped: self.dropped.each_ref().map(|ways| ways.each_ref().map(read)),
            refused: lock(&self.refused).clone(),
            ended: lock(&self.ended).clone(),
            quirks: lock(&self.quirks).clone(),
        }
    }
}

impl Snapshot {
    /// All workers' counters added up.
    pub fn sum(workers: impl IntoIterator<Item = Self>) -> Self {
        workers.into_iter().fold(Self::default(), |mut sum, worker| {
            sum.connections += worker.connections;
            sum.version_negotiations += worker.version_negotiations;
            sum.tunnels += worker.tunnels;
            sum.connections_open += worker.connections_open;
            sum.tunnels_open += worker.tunnels_open;
            for way in [Way::Out as usize, Way::Back as usize] {
                sum.packets[way] += worker.packets[way];
                sum.bytes[way] += worker.bytes[way];
                sum.tcp_bytes[way] += worker.tcp_bytes[way];
                sum.dropped[way].iter_mut().zip(worker.dropped[way]).for_each(|(sum, worker)| *sum += worker);
            }
            worker.refused.into_iter().for_each(|(status, count)| *sum.refused.entry(status).or_default() += count);
            worker.ended.into_iter().for_each(|(name, count)| *sum.ended.entry(name).or_default() += count);
            worker.quirks.into_iter().for_each(|(name, count)| *sum.quirks.entry(name).or_default() += count);
            sum
        })
    }

    /// Packets lost one way for one reason.
    pub fn lost(&self, way: Way, loss: Loss) -> u64 {
        self.dropped[way as usize][loss as usize]
    }
}

impl Open {
    fn new(metrics: &Arc<Metrics>, gauge: fn(&Metrics) -> &AtomicU64) -> Self {
        gauge(metrics).fetch_add(1, Relaxed);
        Self { metrics: Arc::clone(metrics), gauge }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics).fetch_sub(1, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_falls_with_its_guard_and_workers_add_up() {
        let (a, b) = (Arc::new(Metrics::default()), Arc::new(Metrics::default()));
        let open = a.tunnel_open();
        b.dropped(Way::Back, Loss::Socket, 3);
        a.dropped(Way::Back, Loss::Socket, 1);
        a.refused(502);
        b.refused(502);
        a.version_negotiated();
        b.version_negotiated();
        a.ended(&Ended::Idle);
        a.tcp_carried(7, 1);
        b.tcp_carried(2, 30);
        let sum = Snapshot::sum([a.snapshot(), b.snapshot()]);
        assert_eq!((sum.tunnels, sum.tunnels_open), (1, 1));
        assert_eq!(sum.lost(Way::Back, Loss::Socket), 4);
        assert_eq!((sum.tcp_bytes, sum.version_negotiations), ([9, 31], 2));
        assert_eq!((sum.refused[&502], sum.ended["idle"]), (2, 1));
        drop(open);
        assert_eq!(a.snapshot().tunnels_open, 0);
    }
}
