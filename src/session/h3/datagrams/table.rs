//! Which request a quarter stream ID stands for, and what is held for one that cannot take it yet (C-50, C-56).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Datagrams, lock};
use crate::{
    config::memory,
    ended::Ended,
    metrics::{Loss, Way},
    tunnel::udp::Flow,
};

/// Datagrams held for one request.
const HELD: usize = 8;
/// Bytes held for all of a connection's.
const HELD_BYTES: usize = memory::EARLY_DATAGRAMS as usize;
/// How long they wait for a stream that is not open yet: reordering within a flight.
const UNOPENED: Duration = Duration::from_millis(100);

/// Who gets the datagrams of a request.
#[derive(Clone)]
pub(super) enum Slot {
    /// Nobody yet: the request is not answered.
    Waiting,
    /// A UDP tunnel.
    Udp(Arc<Flow>),
    /// A tunnel that has no datagrams: one aborts it (RFC 9297 §2.1).
    Aborting(CancellationToken),
}

/// The requests of a connection and what is held for them.
#[derive(Default)]
pub(super) struct Table {
    slots: HashMap<u64, Slot>,
    held: HashMap<u64, Held>,
    held_bytes: usize,
    /// Streams of the client taken so far; the first quarter ID that is not open.
    opened: u64,
    /// Quarter IDs held for before their stream was open, in the order they came.
    unopened: VecDeque<(Instant, u64)>,
}

#[derive(Default)]
struct Held(Vec<Bytes>);

impl Table {
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    pub(super) fn slot(&self, id: u64) -> Option<Slot> {
        self.slots.get(&id).cloned()
    }

    /// Holds what fits of `datagrams` for a request that is not answered, or a stream that is not open; gives how many were lost.
    pub(super) fn hold(&mut self, id: u64, datagrams: &mut Vec<Bytes>) -> u64 {
        let now = Instant::now();
        let mut lost = self.expire(now);
        let known = self.slots.contains_key(&id);
        // Neither open nor to come: the datagrams of a tunnel that is over.
        if !known && id < self.opened {
            return lost + std::mem::take(datagrams).len() as u64;
        }
        if !known && !self.held.contains_key(&id) {
            self.unopened.push_back((now, id));
        }
        let held = self.held.entry(id).or_default();
        for datagram in datagrams.drain(..) {
            if held.0.len() == HELD || self.held_bytes + datagram.len() > HELD_BYTES {
                lost += 1;
                continue;
            }
            self.held_bytes += datagram.len();
            // A slice keeps its whole packet alive; a copy keeps what is counted.
            held.0.push(Bytes::copy_from_slice(&datagram));
        }
        lost
    }

    /// The stream is open now; gives how many datagrams waited in vain for others.
    fn open(&mut self, id: u64) -> u64 {
        let lost = self.expire(Instant::now());
        self.opened = self.opened.max(id + 1);
        self.unopened.retain(|(_, other)| *other != id);
        self.slots.insert(id, Slot::Waiting);
        lost
    }

    /// How many wait for a request, or for a stream.
    pub(super) fn held(&self) -> u64 {
        self.held.values().map(|held| held.0.len() as u64).sum()
    }

    fn take_held(&mut self, id: u64) -> Vec<Bytes> {
        let held = self.held.remove(&id).unwrap_or_default().0;
        self.held_bytes -= held.iter().map(Bytes::len).sum::<usize>();
        held
    }

    /// Gives how many datagrams were lost by it.
    fn expire(&mut self, now: Instant) -> u64 {
        let mut lost = 0;
        while let Some((since, id)) = self.unopened.front()
            && now.duration_since(*since) > UNOPENED
        {
            let id = *id;
            self.unopened.pop_front();
            lost += self.take_held(id).len() as u64;
        }
        lost
    }
}

/// A request's claim on the datagrams of its stream, from the moment the stream is taken until the tunnel is over.
pub(in crate::session::h3) struct Registration {
    datagrams: Arc<Datagrams>,
    id: u64,
}

impl Registration {
    pub(in crate::session::h3) fn new(datagrams: &Arc<Datagrams>, quarter_id: u64) -> Self {
        let lost = lock(&datagrams.table).open(quarter_id);
        datagrams.metrics.dropped(Way::Out, Loss::NoTunnel, lost);
        Self { datagrams: Arc::clone(datagrams), id: quarter_id }
    }

    pub(in crate::session::h3) fn quarter_id(&self) -> u64 {
        self.id
    }

    /// From now on datagrams go to `flow`, those held first.
    pub(in crate::session::h3) fn carry(&self, flow: Arc<Flow>) {
        let mut held = {
            let mut table = lock(&self.datagrams.table);
            table.slots.insert(self.id, Slot::Udp(Arc::clone(&flow)));
            table.take_held(self.id)
        };
        super::send_out(&flow, &mut held);
    }

    /// The tunnel has no datagrams: resolves when one comes nevertheless, or has come already.
    pub(in crate::session::h3) fn without_datagrams(self) -> impl Future<Output = Ended> + Send {
        let aborted = CancellationToken::new();
        {
            let mut table = lock(&self.datagrams.table);
            if !table.take_held(self.id).is_empty() {
                aborted.cancel();
            }
            table.slots.insert(self.id, Slot::Aborting(aborted.clone()));
        }
        async move {
            aborted.cancelled().await;
            drop(self);
            Ended::DatagramOnTcp
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let held = {
            let mut table = lock(&self.datagrams.table);
            table.slots.remove(&self.id);
            table.take_held(self.id)
        };
        self.datagrams.metrics.dropped(Way::Out, Loss::NoTunnel, held.len() as u64);
        self.datagrams.forget(self.id);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn datagrams(count: usize, length: usize) -> Vec<Bytes> {
        vec![vec![7; length].into(); count]
    }

    #[tokio::test(start_paused = true)]
    async fn c50_a_stream_not_open_yet_is_waited_for_a_tenth_of_a_second() {
        let mut table = Table::default();
        assert_eq!(table.hold(5, &mut datagrams(3, 10)), 0);
        advance(UNOPENED).await;
        assert_eq!(table.open(5), 0);
        assert_eq!(table.take_held(5).len(), 3);

        assert_eq!(table.hold(7, &mut datagrams(3, 10)), 0);
        advance(UNOPENED + Duration::from_millis(1)).await;
        assert_eq!(table.open(7), 3, "what waited in vain is counted");
        assert_eq!((table.take_held(7).len(), table.held_bytes), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn c50_a_stream_that_is_over_keeps_nothing() {
        let mut table = Table::default();
        table.open(5);
        table.slots.remove(&5);
        assert_eq!(table.hold(5, &mut datagrams(2, 10)), 2);
        // Below the highest one, whose number says that this one was open too.
        assert_eq!(table.hold(3, &mut datagrams(2, 10)), 2);
        assert!(table.held.is_empty() && table.unopened.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn c56_an_answer_is_waited_for_within_both_bounds() {
        let mut table = Table::default();
        table.open(0);
        assert_eq!(table.hold(0, &mut datagrams(HELD - 1, 10)), 0);
        advance(Duration::from_secs(10)).await;
        assert_eq!(table.hold(0, &mut datagrams(3, 10)), 2);

        let room = HELD_BYTES - HELD * 10;
        table.open(1);
        assert_eq!(table.hold(1, &mut datagrams(1, room)), 0);
        assert_eq!(table.hold(1, &mut datagrams(1, 1)), 1);
        assert_eq!(table.take_held(0).len(), HELD);
        assert_eq!(table.hold(1, &mut datagrams(1, 1)), 0, "what was taken makes room");
    }
}
