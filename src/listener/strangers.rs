//! Clients of QUIC versions that are not spoken here. quinn answers their first packets with Version Negotiation (RFC 9000 §6) and tells nobody;
//! so they are looked for where packets come in. All are counted, some recorded.
//!
//! A packet with a short header costs a look at its first byte, one of version 1 a look at four more.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;
use tracing::debug;

use super::Pace;
use crate::{
    diagnosis::record::{Negotiation, version},
    metrics::Metrics,
    proto::packet::{LongHeader, is_foreign},
    record::Records,
};

/// What Version Negotiation offers: 1, and the drafts that quinn knows.
pub(super) const SPOKEN: &[u32] = quinn_proto::DEFAULT_SUPPORTED_VERSIONS;

/// Records a second, of each worker and address. Addresses may be forged, so more of them tell no more; a client that is really there tries for seconds.
const RECORDED: u32 = 8;

/// Less is not answered (RFC 9000 §5.2.2).
const LEAST: usize = 1200;
/// Nor is what has a longer connection ID: quinn does not read it.
const LONGEST_ID: u8 = 20;
/// The bit that every version so far sets, unless both sides grease it (RFC 9287).
const FIXED: u8 = 0x40;

/// Counts and records them, on one socket.
#[derive(Debug)]
pub(super) struct Strangers {
    metrics: Arc<Metrics>,
    records: Arc<Records>,
    /// Packets without the fixed bit are read.
    grease: bool,
    pace: Mutex<Pace>,
}

impl Strangers {
    pub(super) fn new(metrics: Arc<Metrics>, records: Arc<Records>, grease: bool) -> Self {
        Self { metrics, records, grease, pace: Mutex::new(Pace::new(RECORDED, Instant::now())) }
    }

    /// Looks at what came in one receive: datagrams of `stride` bytes, the last one may be shorter.
    pub(super) fn look(&self, received: &[u8], stride: usize, client: SocketAddr) {
        for datagram in received.chunks(stride.max(1)) {
            if is_foreign(datagram)
                && let Some(header) = self.answered(datagram)
            {
                self.met(header, client);
            }
        }
    }

    /// What quinn answers with Version Negotiation, connection IDs by their lengths.
    fn answered(&self, datagram: &[u8]) -> Option<(u32, [u8; 2])> {
        let LongHeader { version, destination, source } = LongHeader::of(datagram)?;
        let ids = [u8::try_from(destination).ok()?, u8::try_from(source).ok()?];
        let readable = ids.iter().all(|length| *length <= LONGEST_ID) && (self.grease || datagram[0] & FIXED != 0);
        // Version Negotiation itself is never answered.
        (version != 0 && !SPOKEN.contains(&version) && readable && datagram.len() >= LEAST).then_some((version, ids))
    }

    fn met(&self, (offered, connection_ids): (u32, [u8; 2]), client: SocketAddr) {
        self.metrics.version_negotiated();
        // Nothing panics while the lock is held.
        if self.pace.lock().unwrap_or_else(PoisonError::into_inner).is_high(Instant::now()) {
            return;
        }
        debug!(source = %client.ip(), offered = version(offered), "a client's QUIC version is not spoken here: it was told those that are");
        let answered = [reserved(offered)].iter().chain(SPOKEN).copied().collect();
        self.records.negotiate(client, Negotiation { offered, connection_ids, answered });
    }

    /// With counters and records of its own.
    #[cfg(test)]
    pub(super) fn unseen() -> Self {
        let records = Records::new(0, 1, crate::config::Privacy::Full, "", None, Records::notes());
        Self::new(Arc::default(), Arc::new(records), true)
    }
}

/// What quinn puts in front of its list, so that clients don't count on it (RFC 9000 §6.3); another one than was offered.
const fn reserved(offered: u32) -> u32 {
    if offered == 0x0a1a_2a3a { 0x0a1a_2a4a } else { 0x0a1a_2a3a }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, version: u32, destination: u8, source: u8, length: usize) -> Vec<u8> {
        let mut packet = [&[first][..], &version.to_be_bytes(), &[destination], &vec![1; destination.into()], &[source]].concat();
        packet.resize(length, 2);
        packet
    }

    #[tokio::test]
    async fn only_what_quinn_answers_is_a_stranger() {
        for (first, version, destination, source, length, grease, answered) in [
            (0xc0, 0x1a2a_3a4a, 8, 5, 1200, true, true),
            (0xc0, 0x6b33_43cf, 20, 0, 1452, false, true),
            (0x80, 0x6b33_43cf, 8, 0, 1200, true, true),
            (0x80, 0x6b33_43cf, 8, 0, 1200, false, false),
            (0xc0, 0x6b33_43cf, 8, 0, 1199, true, false),
            (0xc0, 0x6b33_43cf, 21, 0, 1200, true, false),
            (0xc0, 0x6b33_43cf, 8, 21, 1200, true, false),
            (0xc0, 0, 8, 5, 1200, true, false),
            (0xc0, 1, 8, 5, 1200, true, false),
            (0xc0, 0xff00_001d, 8, 5, 1200, true, false),
            (0x40, 0x6b33_43cf, 8, 5, 1200, true, false),
        ] {
            let strangers = Strangers { grease, ..Strangers::unseen() };
            strangers.look(&packet(first, version, destination, source, length), length, ([192, 0, 2, 1], 1).into());
            assert_eq!(strangers.metrics.snapshot().version_negotiations, u64::from(answered), "{first:#x} {version:#x} {length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_datagram_of_a_receive_counts_and_some_a_second_are_recorded() {
        let strangers = Strangers::unseen();
        let (one, other) = (packet(0xc0, 0x6b33_43cf, 8, 0, 1200), packet(0x40, 0, 0, 0, 1200));
        for second in 1..=2 {
            strangers.look(&[&one, &other, &one, &one[..1199]].concat(), 1200, ([192, 0, 2, 1], 1).into());
            for _ in 0..100 {
                strangers.look(&one, 1200, ([192, 0, 2, 1], 1).into());
            }
            assert_eq!(strangers.metrics.snapshot().version_negotiations, 102 * second);
            assert_eq!(strangers.records.counts().turned_away as u64, 8 * second);
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
    }
}
