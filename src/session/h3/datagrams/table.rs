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
        self.expire(now);
        let known = self.slots.contains_key(&id);
        // Neither open nor to come: the datagrams of a tunnel that is over.
        if !known && id < self.opened {
            return std::mem::take(datagrams).len() as u64;
        }
        if !known && !self.held.contains_key(&id) {
            self.unopened.push_back((now, id));
        }
        let held = self.held.entry(id).or_default();
        let mut lost = 0;
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

    fn open(&mut self, id: u64) {
        self.expire(Instant::now());
        self.opened = self.opened.max(id + 1);
        self.unopened.retain(|(_, other)| *other != id);
        self.slots.insert(id, Slot::Waiting);
    }

    fn take_held(&mut self, id: u64) -> Vec<Bytes> {
        let held = self.held.remove(&id).unwrap_or_default().0;
        self.held_bytes -= held.iter().map(Bytes::len).sum::<usize>();
        held
    }

    fn expire(&mut self, now: Instant) {
        while let Some((since, id)) = self.unopened.front()
            && now.duration_since(*since) > UNOPENED
        {
            let id = *id;
            self.unopened.pop_front();
            self.take_held(id);
        }
    }
}

/// A request's claim on the datagrams of its stream, from the moment the stream is taken until the tunnel is over.
pub(in crate::session::h3) struct Registration {
    datagrams: Arc<Datagrams>,
    id: u64,
}

impl Registration {
    pub(in crate::session::h3) fn new(datagrams: &Arc<Datagrams>, quarter_id: u64) -> Self {
        lock(&datagrams.table).open(quarter_id);
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
