//! The UDP tunnel (RFC 9298): packets between a connected socket and the client's [`Lane`].
//!
//! ```text
//! client ── DATAGRAM frames, by the connection's pump ──▶ Flow::send ──▶ one send a run ──▶ target
//!        ── capsules, by the lane ────────────────────▶
//! client ◀── Lane::send, one batch ◀── one receive into the worker's arena ◀── target
//! ```
//!
//! Promises, each with a test below:
//!
//! 1. *Nothing waits.* What cannot move now is dropped and counted: UDP may lose, it may not lag.
//! 2. *A bad packet costs itself*, never the tunnel; an ICMP error that says the target cannot be reached ends it (RFC 9298 §3.1).
//! 3. *A silent target is not flooded*: only so many packets go out until it has answered once.
//! 4. *One end, one reason.*
//!
//! A packet each way costs two system calls when it is alone and a fraction of one in a burst; an idle tunnel holds no buffer.

use std::{
    cell::RefCell,
    future::Future,
    io,
    net::UdpSocket,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::unix::AsyncFd,
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::Lane;
use crate::{
    ended::Ended,
    metrics::{Loss, Metrics, Way},
    sys::{self, Arena},
};

/// Messages in a receive from which on others get a turn before the next one; for fewer a yield costs more than it gives.
const YIELD_FROM: usize = 8;

thread_local! {
    /// Where this worker's packets lie for the moment between a receive and the lane.
    static ARENA: RefCell<Arena> = RefCell::default();
}

/// The upstream of one UDP tunnel, shared between the tunnel's task and the connection's pump.
#[derive(Debug)]
pub struct Flow {
    socket: AsyncFd<UdpSocket>,
    metrics: Arc<Metrics>,
    /// Packets that may still go to a target that has not answered.
    unanswered: AtomicU32,
    answered: AtomicBool,
    started: Instant,
    /// Milliseconds from `started` to the last packet that moved.
    active: AtomicU64,
    totals: [AtomicU64; 5],
    /// Why the tunnel has to end, said outside its task.
    abort: Mutex<Option<Ended>>,
    aborted: Notify,
}

/// What one UDP tunnel carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets to the target.
    pub packets_out: u64,
    /// Payload bytes to the target.
    pub bytes_out: u64,
    /// Packets to the client.
    pub packets_back: u64,
    /// Payload bytes to the client.
    pub bytes_back: u64,
    /// Packets lost either way.
    pub dropped: u64,
}

impl Flow {
    /// Takes a connected, non-blocking socket onto the current runtime. At most `unanswered_packets` go out before the first one comes back.
    pub fn new(socket: UdpSocket, unanswered_packets: u32, metrics: Arc<Metrics>) -> io::Result<Self> {
        Ok(Self {
            socket: sys::watch_reading(socket)?,
            metrics,
            unanswered: AtomicU32::new(unanswered_packets),
            answered: AtomicBool::new(false),
            started: Instant::now(),
            active: AtomicU64::new(0),
            totals: Default::default(),
            abort: Mutex::default(),
            aborted: Notify::new(),
        })
    }

    /// Out: sends UDP payloads to the target. Never waits: what does not fit is dropped and counted. An ICMP error that ends the tunnel is kept
    /// for its task.
    pub fn send(&self, payloads: &[Bytes]) {
        let allowed = &payloads[..self.allowance(payloads.len())];
        self.dropped(Way::Out, Loss::Unanswered, (payloads.len() - allowed.len()) as u64);
        if allowed.is_empty() {
            return;
        }
        match sys::send(self.socket.get_ref(), allowed) {
            Ok(sent) => {
                self.carried(Way::Out, sent.packets, sent.bytes);
                self.dropped(Way::Out, Loss::NoRoom, sent.no_room);
                self.dropped(Way::Out, Loss::TooBig, sent.too_big);
                self.dropped(Way::Out, Loss::Socket, sent.refused);
            }
            Err(error) => self.abort(Ended::Unreachable(error)),
        }
    }

    /// Ends the tunnel from outside its task, once; later calls change nothing.
    pub fn abort(&self, ended: Ended) {
        self.abort.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ended);
        self.aborted.notify_one();
    }

    /// Counts packets that went on.
    pub fn carried(&self, way: Way, packets: u64, bytes: u64) {
        if packets == 0 {
            return;
        }
        self.active.store(millis(self.started.elapsed()), Relaxed);
        let [count, size] = match way {
            Way::Out => [0, 1],
            Way::Back => [2, 3],
        };
        self.totals[count].fetch_add(packets, Relaxed);
        self.totals[size].fetch_add(bytes, Relaxed);
        self.metrics.carried(way, packets, bytes);
    }

    /// Counts packets that did not. A dropped packet is not activity.
    pub fn dropped(&self, way: Way, loss: Loss, packets: u64) {
        if packets > 0 {
            self.totals[4].fetch_add(packets, Relaxed);
            self.metrics.dropped(way, loss, packets);
        }
    }

    /// What was carried so far.
    pub fn totals(&self) -> Totals {
        let [packets_out, bytes_out, packets_back, bytes_back, dropped] = self.totals.each_ref().map(|total| total.load(Relaxed));
        Totals { packets_out, bytes_out, packets_back, bytes_back, dropped }
    }

    /// How many of `wanted` packets may go out now.
    fn allowance(&self, wanted: usize) -> usize {
        if self.answered.load(Relaxed) {
            return wanted;
        }
        let left = self.unanswered.load(Relaxed);
        let taken = u32::try_from(wanted).unwrap_or(u32::MAX).min(left);
        self.unanswered.store(left - taken, Relaxed);
        taken as usize
    }

    fn last_active(&self) -> Instant {
        self.started + Duration::from_millis(self.active.load(Relaxed))
    }

    /// Waits for packets of the target and hands them to `lane`, in one synchronous stretch. Cancel safe.
    async fn receive(&self, lane: &mut impl Lane) -> Result<(), Ended> {
        let mut ready = self.socket.ready(sys::READABLE_OR_BROKEN).await.map_err(Ended::Unreachable)?;
        let messages = ARENA.with_borrow_mut(|arena| match sys::receive(self.socket.get_ref(), arena) {
            Ok(packets) => {
                self.answered.store(true, Relaxed);
                // A short receive means dry: no second call to learn it.
                if !packets.full() {
                    ready.clear_ready();
                }
                lane.send(&packets, self);
                Ok(packets.messages())
            }
            Err(error) => {
                ready.clear_ready();
                sys::drain_errors(self.socket.get_ref());
                match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                    _ if sys::is_fatal(&error) => Err(Ended::Unreachable(error)),
                    // EMSGSIZE tells of the path's MTU: the packet it is about is lost already.
                    _ => {
                        self.dropped(Way::Back, Loss::Socket, 1);
                        Ok(0)
                    }
                }
            }
        })?;
        if messages >= YIELD_FROM {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn aborted(&self) -> Ended {
        loop {
            if let Some(ended) = self.abort.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return ended;
            }
            self.aborted.notified().await;
        }
    }
}

/// Carries packets until a side ends the tunnel, both stay silent for `idle`, or `cut` says why it must end; then ends the lane and gives the reason.
pub async fn run(mut lane: impl Lane, flow: Arc<Flow>, idle: Duration, cut: impl Future<Output = Ended> + Send) -> Ended {
    let ended = carry(&mut lane, &flow, idle, cut).await;
    lane.end(&ended).await;
    ended
}

async fn carry(lane: &mut impl Lane, flow: &Flow, idle: Duration, cut: impl Future<Output = Ended> + Send) -> Ended {
    let mut cut = pin!(cut);
    let mut quiet = pin!(sleep_until(flow.last_active() + idle));
    let mut payloads = Vec::new();
    loop {
        // `receive` borrows the lane too, and only uses it once `recv` has let go: so the socket's readiness is awaited beside it.
        let step = tokio::select! {
            received = lane.recv(&mut payloads) => received.map(|()| {
                flow.send(&payloads);
                payloads.clear();
                false
            }),
            ready = flow.socket.ready(sys::READABLE_OR_BROKEN) => match ready {
                Ok(_) => Ok(true),
                Err(error) => Err(Ended::Unreachable(error)),
            },
            ended = flow.aborted() => Err(ended),
            ended = &mut cut => Err(ended),
            () = &mut quiet => {
                // Moved on only when it fires: no timer is touched for a packet.
                let until = flow.last_active() + idle;
                if until <= Instant::now() {
                    return Ended::Idle;
                }
                quiet.as_mut().reset(until);
                Ok(false)
            }
        };
        let step = match step {
            Ok(true) => flow.receive(lane).await,
            Ok(false) => Ok(()),
            Err(ended) => Err(ended),
        };
        if let Err(ended) = step {
            return ended;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
