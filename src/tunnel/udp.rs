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
//! What a packet of 1200 bytes costs over HTTP/3 datagrams, either way:
//!
//! | | one in flight | 64 in flight |
//! | --- | --- | --- |
//! | receives (recvmmsg) | 1.0 | 0.05 |
//! | sends (sendmsg, sendto) | 1.0 | 0.06 |
//! | wake-ups (epoll_wait) | 1.0 | 0.02 |
//! | allocations | 3.0 | 0.4 |
//! | copies in user space, out / back | 0 / 2 | 0 / 2 |
//!
//! Out, a payload is sent from where quinn has deciphered it. Back, it is copied out of the arena, which is the worker's, and by quinn into its
//! packet. An idle tunnel holds no buffer. Counted with `perf trace -s -p PID`, and `perf stat` with probes on libc's `malloc`, while
//! `cargo bench -- --rows "1 tunnel" --peer URL --pid PID …` ran; packets are those of `udp_packets_total`.

mod capsules;

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
    io::unix::{AsyncFd, AsyncFdReadyGuard},
    sync::Notify,
    time::{Instant, sleep_until},
};

pub use self::capsules::{CapsuleQueue, Framing};
use super::{Lane, activity::Activity};
use crate::{
    ended::Ended,
    fault::{Chance, Faults},
    metrics::{Loss, Metrics, Way},
    sys::{self, Arena, Received},
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
    activity: Activity,
    totals: [AtomicU64; 5],
    /// The tunnel is over: nothing more goes out, even while the client's side is still being ended (C-57).
    over: AtomicBool,
    /// Why the tunnel has to end, said outside its task.
    abort: Mutex<Option<Ended>>,
    aborted: Notify,
    faults: Arc<Faults>,
    /// Until when a fault holds what came from the target.
    held: Mutex<Option<Instant>>,
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
    pub fn new(socket: UdpSocket, unanswered_packets: u32, metrics: Arc<Metrics>, faults: Arc<Faults>) -> io::Result<Self> {
        Ok(Self {
            socket: sys::watch_reading(socket)?,
            metrics,
            unanswered: AtomicU32::new(unanswered_packets),
            answered: AtomicBool::new(false),
            activity: Activity::new(),
            totals: Default::default(),
            over: AtomicBool::new(false),
            abort: Mutex::default(),
            aborted: Notify::new(),
            faults,
            held: Mutex::default(),
        })
    }

    /// Out: sends UDP payloads to the target. Never waits: what does not fit is dropped and counted. An ICMP error that ends the tunnel is kept
    /// for its task.
    pub fn send(&self, payloads: &[Bytes]) {
        if self.over.load(Relaxed) {
            return self.dropped(Way::Out, Loss::NoTunnel, payloads.len() as u64);
        }
        if let Some(chance) = self.faults.datagram_drop() {
            let kept: Vec<_> = payloads.iter().filter(|_| !self.loses(Way::Out, chance)).cloned().collect();
            return self.send_all(&kept);
        }
        self.send_all(payloads);
    }

    fn send_all(&self, payloads: &[Bytes]) {
        let (allowed, beyond) = payloads.split_at(self.allowance().min(payloads.len()));
        self.dropped(Way::Out, Loss::Unanswered, beyond.len() as u64);
        let sent = sys::send(self.socket.get_ref(), allowed);
        self.spend(sent.packets);
        self.carried(Way::Out, sent.packets, sent.bytes);
        self.dropped(Way::Out, Loss::NoRoom, sent.no_room);
        self.dropped(Way::Out, Loss::TooBig, sent.too_big);
        self.dropped(Way::Out, Loss::Socket, sent.refused);
        if let Some(error) = sent.fatal {
            self.abort(Ended::Unreachable(error));
        }
    }

    /// Ends the tunnel from outside its task, once; later calls change nothing.
    pub fn abort(&self, ended: Ended) {
        self.abort.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ended);
        self.aborted.notify_one();
    }

    /// Counts packets that went on: once a batch, since it reads the clock.
    pub fn carried(&self, way: Way, packets: u64, bytes: u64) {
        if packets == 0 {
            return;
        }
        self.activity.mark();
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

    /// The packets of a batch that go on to the client: all, in a healthy relay.
    pub fn kept<'a>(&'a self, packets: &'a Received<'_>) -> impl Iterator<Item = &'a [u8]> {
        let chance = self.faults.datagram_drop();
        packets.iter().filter(move |_| chance.is_none_or(|chance| !self.loses(Way::Back, chance)))
    }

    /// How the relay misbehaves.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Whether a packet is lost on purpose; counted if so.
    fn loses(&self, way: Way, chance: Chance) -> bool {
        let lost = self.faults.happens(chance);
        self.dropped(way, Loss::Fault, lost.into());
        lost
    }

    /// What was carried so far.
    pub fn totals(&self) -> Totals {
        let [packets_out, bytes_out, packets_back, bytes_back, dropped] = self.totals.each_ref().map(|total| total.load(Relaxed));
        Totals { packets_out, bytes_out, packets_back, bytes_back, dropped }
    }

    /// How many packets may go out now (C-73).
    fn allowance(&self) -> usize {
        if self.answered.load(Relaxed) {
            return usize::MAX;
        }
        self.unanswered.load(Relaxed) as usize
    }

    fn spend(&self, packets: u64) {
        let packets = u32::try_from(packets).unwrap_or(u32::MAX);
        self.unanswered.store(self.unanswered.load(Relaxed).saturating_sub(packets), Relaxed);
    }

    /// The socket has packets, or an error.
    async fn ready(&self) -> Result<AsyncFdReadyGuard<'_, UdpSocket>, Ended> {
        let ready = self.socket.ready(sys::READABLE_OR_BROKEN).await.map_err(Ended::Unreachable)?;
        if let Some(delay) = self.faults.datagram_delay() {
            Box::pin(self.hold(delay)).await;
        }
        Ok(ready)
    }

    /// Waits `delay` from the first time it is called for what is waiting now, until the socket is dry. Cancel safe.
    async fn hold(&self, delay: Duration) {
        let held = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let until = *held().get_or_insert_with(|| Instant::now() + delay);
        sleep_until(until).await;
    }

    /// Nothing waits any more: what comes next is held anew.
    fn dry(&self, ready: &mut AsyncFdReadyGuard<'_, UdpSocket>) {
        ready.clear_ready();
        if self.faults.datagram_delay().is_some() {
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Back: one batch from the socket into the worker's arena and on to `lane`. Gives the number of messages.
    fn receive(&self, ready: &mut AsyncFdReadyGuard<'_, UdpSocket>, lane: &mut impl Lane) -> Result<usize, Ended> {
        let socket = self.socket.get_ref();
        let errors = ready.ready().is_error();
        ARENA.with_borrow_mut(|arena| {
            let messages = match sys::receive(socket, arena) {
                Ok(packets) => {
                    // A short receive means dry: no second call to learn it.
                    if !packets.full() {
                        self.dry(ready);
                    }
                    self.hand_back(&packets, lane);
                    packets.messages()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.dry(ready);
                    0
                }
                Err(error) if sys::is_fatal(&error) => return Err(self.last_words(arena, lane, error)),
                // What an earlier packet met on its way. It stays ready: packets may be waiting behind the error.
                Err(error) => {
                    self.dropped(Way::Out, loss(&error), 1);
                    0
                }
            };
            // Only after the receive: emptying the queue forgets what that would have said.
            match errors.then(|| sys::drain_errors(socket)).flatten() {
                Some(error) => Err(self.last_words(arena, lane, error)),
                None => Ok(messages),
            }
        })
    }

    /// What the target said before it was gone is still the client's.
    fn last_words(&self, arena: &mut Arena, lane: &mut impl Lane, error: io::Error) -> Ended {
        if let Ok(packets) = sys::receive(self.socket.get_ref(), arena) {
            self.hand_back(&packets, lane);
        }
        Ended::Unreachable(error)
    }

    fn hand_back(&self, packets: &Received<'_>, lane: &mut impl Lane) {
        self.answered.store(true, Relaxed);
        lane.send(packets, self);
    }

    /// Resolves when [`abort`](Self::abort) was called. Cancel safe.
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
#[expect(clippy::manual_async_fn, reason = "an async fn holds what it is given twice, for as long as the tunnel lives")]
pub fn run(
    mut lane: impl Lane,
    flow: Arc<Flow>,
    idle: Duration,
    cut: impl Future<Output = Ended> + Send,
) -> impl Future<Output = Ended> + Send {
    async move {
        let ended = carry(&mut lane, &flow, idle, cut).await;
        flow.over.store(true, Relaxed);
        // What the target sent while this worker was elsewhere for too long.
        flow.dropped(Way::Back, Loss::NoRoom, sys::overrun(flow.socket.get_ref()));
        // Larger than the tunnel's whole life before.
        Box::pin(lane.end(&ended)).await;
        ended
    }
}

async fn carry(lane: &mut impl Lane, flow: &Flow, idle: Duration, cut: impl Future<Output = Ended> + Send) -> Ended {
    let (mut cut, mut aborted, mut quiet) = (pin!(cut), pin!(flow.aborted()), pin!(flow.activity.idle(idle)));
    let mut payloads = Vec::new();
    loop {
        let messages = tokio::select! {
            received = lane.recv(&mut payloads) => received.map(|()| {
                flow.send(&payloads);
                payloads.clear();
                payloads.shrink_to(sys::MAX_RUN);
                0
            }),
            ready = flow.ready() => ready.and_then(|mut ready| flow.receive(&mut ready, lane)),
            ended = &mut aborted => Err(ended),
            ended = &mut cut => Err(ended),
            () = &mut quiet => Err(Ended::Idle),
        };
        match messages {
            Ok(messages) if messages >= YIELD_FROM => tokio::task::yield_now().await,
            Ok(_) => {}
            Err(ended) => return ended,
        }
    }
}

/// What a socket error that costs only its packet is counted as: EMSGSIZE tells that the packet was larger than the path's MTU.
fn loss(error: &io::Error) -> Loss {
    if error.raw_os_error() == Some(libc::EMSGSIZE) { Loss::TooBig } else { Loss::Socket }
}

#[cfg(test)]
mod tests;
