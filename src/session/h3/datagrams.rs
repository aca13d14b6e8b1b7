//! The HTTP Datagrams of one connection (RFC 9297 §2): which request they belong to, out to the targets and back to the client.
//!
//! ```text
//! client ── DATAGRAM [quarter id | context | payload] ──▶ pump: sorted by request ──▶ flow.send, one system call a run ──▶ target
//! client ◀── DATAGRAM ── quinn's short buffer ◀── a short queue for each flow, in turn ◀── lane.send, one batch ◀── target
//! ```
//!
//! Promises:
//!
//! 1. *Nothing waits on the way out*: what has no tunnel is held within bounds or dropped, and counted.
//! 2. *Early datagrams are kept*: 8 for a request that is not answered yet, 8 for at most 100 ms for a stream that is not open yet, 64 KiB in all.
//! 3. *A busy flow costs the others nothing*: on the way back each has its own short queue, its oldest packet is dropped first, and they take turns.
//! 4. *Datagrams leave streams their half*: quinn sends them first, so they are held back while streams wait ([`budget`]).
//! 5. *The connection ends only where RFC 9297 says so*: a datagram without a quarter stream ID, or one for a stream the client may not open.

mod back;
mod budget;
mod table;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::{Notify, watch};

use crate::{
    ended::Ended,
    metrics::{Loss, Metrics, Way},
    proto::{
        codes::h3,
        datagram::{Datagram, take_quarter_id},
        settings::{H3_DATAGRAM, Settings},
    },
    session::link::Link,
    tunnel::udp::Flow,
};
use back::BackQueue;
pub(super) use table::Registration;
use table::{Slot, Table};

/// Datagrams sorted in one go: two full receives of quinn's.
const BATCH: usize = 128;

/// The datagrams of one connection.
pub(super) struct Datagrams {
    link: Link,
    /// The client's SETTINGS, for its side of the agreement.
    settings: watch::Receiver<Option<Settings>>,
    /// The relay has said its part of it.
    offered: bool,
    /// Both sides have said that they take HTTP Datagrams (RFC 9297 §2.1.1).
    agreed: AtomicBool,
    table: Mutex<Table>,
    back: Mutex<BackQueue>,
    /// The queue back is no longer empty.
    stirred: Notify,
    metrics: Arc<Metrics>,
    /// DATAGRAM frames that were read.
    taken: AtomicU64,
}

impl Datagrams {
    pub(super) fn new(link: Link, settings: watch::Receiver<Option<Settings>>, offered: bool, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            link,
            settings,
            offered,
            agreed: AtomicBool::new(false),
            table: Mutex::default(),
            back: Mutex::default(),
            stirred: Notify::new(),
            metrics,
            taken: AtomicU64::new(0),
        })
    }

    /// Whether QUIC datagrams may be sent by now; until then, and for a client that never says so, payloads go in capsules.
    pub(super) fn agreed(&self) -> bool {
        if self.agreed.load(Relaxed) {
            return true;
        }
        let said = self.settings.borrow().as_ref().is_some_and(|settings| settings.get(H3_DATAGRAM) == Some(1));
        let agreed = said && self.offered && self.link.max_datagram_size().is_some();
        self.agreed.store(agreed, Relaxed);
        agreed
    }

    /// Out: sorts what the client sends, until its connection is over. `streams` is how many streams it may have open at once.
    pub(super) async fn pump(self: Arc<Self>, streams: watch::Receiver<u64>) {
        let mut batch = Batch::default();
        while let Ok(first) = self.link.read_datagram().await {
            let mut next = Some(first);
            let mut count = 0;
            while let Some(frame) = next.take() {
                count += 1;
                if let Err((code, why)) = self.sort(frame, &mut batch, *streams.borrow()) {
                    self.metrics.dropped(Way::Out, Loss::Malformed, 1);
                    self.link.close(code, why);
                    break;
                }
                if count < BATCH {
                    next = self.link.read_datagram().now_or_never().and_then(Result::ok);
                }
            }
            self.taken.fetch_add(count as u64, Relaxed);
            self.deliver(&mut batch);
        }
    }

    /// Puts one frame's datagram to the others of its request.
    fn sort(&self, mut frame: Bytes, batch: &mut Batch, streams: u64) -> Result<(), (u64, &'static str)> {
        let Some(id) = take_quarter_id(&mut frame) else {
            return Err((h3::DATAGRAM_ERROR, "a datagram without a quarter stream ID"));
        };
        // At most as many streams as were taken so far are closed, and each closed one lets another be opened.
        if id >= lock(&self.table).opened().saturating_add(streams) {
            return Err((h3::ID_ERROR, "a datagram for a stream the client may not open"));
        }
        batch.push(id, frame);
        Ok(())
    }

    fn deliver(&self, batch: &mut Batch) {
        for (id, datagrams) in batch.sorted() {
            let slot = lock(&self.table).slot(id);
            match slot {
                Some(Slot::Udp(flow)) => send_out(&flow, datagrams),
                Some(Slot::Aborting(aborted)) => {
                    self.metrics.dropped(Way::Out, Loss::NoTunnel, datagrams.drain(..).len() as u64);
                    aborted.cancel();
                }
                Some(Slot::Waiting) | None => {
                    let lost = lock(&self.table).hold(id, datagrams);
                    self.metrics.dropped(Way::Out, Loss::NoTunnel, lost);
                }
            }
        }
    }
}

/// The connection is over: every frame that came is accounted for.
impl Drop for Datagrams {
    fn drop(&mut self) {
        let mut unread = 0;
        while let Some(Ok(_)) = self.link.read_datagram().now_or_never() {
            unread += 1;
        }
        let held = lock(&self.table).held();
        self.metrics.dropped(Way::Out, Loss::NoTunnel, unread + held);
        // Where quinn's buffer is full, the oldest in it are lost without a word.
        let overrun = self.link.stats().frame_rx.datagram.saturating_sub(self.taken.load(Relaxed) + unread);
        self.metrics.dropped(Way::Out, Loss::NoRoom, overrun);
    }
}

/// Out: the payloads of context 0 go to the target, everything else is counted.
fn send_out(flow: &Flow, datagrams: &mut Vec<Bytes>) {
    let mut payloads = Vec::with_capacity(datagrams.len());
    for datagram in datagrams.drain(..) {
        match Datagram::parse(datagram) {
            Datagram::Udp(payload) => payloads.push(payload),
            Datagram::UnknownContext(_) => flow.dropped(Way::Out, Loss::UnknownContext, 1),
            Datagram::Truncated => flow.dropped(Way::Out, Loss::Malformed, 1),
            Datagram::TooLong => flow.abort(Ended::PayloadTooLong),
        }
    }
    flow.send(&payloads);
}

/// Datagrams by request. The buffers are kept from batch to batch, for as many requests as one batch ever held.
#[derive(Default)]
struct Batch {
    used: usize,
    requests: Vec<(u64, Vec<Bytes>)>,
}

impl Batch {
    fn push(&mut self, id: u64, datagram: Bytes) {
        // Mostly the same request as the packet before.
        let place = self.requests[..self.used].iter().rposition(|(other, _)| *other == id);
        let place = place.unwrap_or_else(|| {
            if self.used == self.requests.len() {
                self.requests.push((id, Vec::new()));
            }
            self.requests[self.used].0 = id;
            self.used += 1;
            self.used - 1
        });
        self.requests[place].1.push(datagram);
    }

    fn sorted(&mut self) -> impl Iterator<Item = (u64, &mut Vec<Bytes>)> {
        let used = std::mem::take(&mut self.used);
        self.requests[..used].iter_mut().map(|(id, datagrams)| (*id, datagrams))
    }
}

/// Nothing panics while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
