//! Packets: one way alone, there and back, at a pace, one by one.

use std::{
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use masque_relay::probe::{Http, StreamEnd};
use rustix::{
    io::{Errno, read},
    time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create, timerfd_settime,
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    Failure,
    meter::{Figure, Meter},
    subject::{PATIENCE, Subject},
    wire::{BURST, PAYLOAD, Sending, Shape, Wire, Wires, tunnel},
};

/// One tunnel on one connection, answered packet by packet.
pub(crate) const ONE: Shape = Shape { connections: 1, tunnels: 1, sending: Sending::Singly, http: Http::H3, capsules: false };

/// Packets in flight where one direction alone is measured.
const WINDOW: u64 = 64;

/// Every packet's number is its own; the packets that open a tunnel carry 0.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// What was sent and what came back.
struct Tally {
    sent: u64,
    received: u64,
    /// The number its first packet carries: one that comes too late belongs to a tally before.
    first: u64,
    /// When each packet left.
    left: Vec<Instant>,
    /// Nanoseconds.
    trips: Histogram<u64>,
}

impl Tally {
    fn new(count: u64) -> Result<Self, Failure> {
        let first = NUMBERS.fetch_add(count, Relaxed);
        Ok(Self { sent: 0, received: 0, first, left: Vec::with_capacity(count as usize), trips: Histogram::new(3)? })
    }

    async fn send(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        let mut payload = vec![0; PAYLOAD];
        payload[..8].copy_from_slice(&(self.first + self.sent).to_be_bytes());
        self.sent += 1;
        self.left.push(Instant::now());
        wire.send(payload.into()).await
    }

    fn note(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let number = payload.first_chunk().filter(|_| payload.len() == PAYLOAD).ok_or("a packet came back changed")?;
        let Some(at) = u64::from_be_bytes(*number).checked_sub(self.first) else { return Ok(()) };
        let left = self.left.get(at as usize).ok_or("a packet came that was never sent")?;
        self.received += 1;
        Ok(self.trips.record(left.elapsed().as_nanos() as u64)?)
    }

    fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.sent += other.sent;
        self.received += other.received;
        Ok(self.trips.add(&other.trips)?)
    }

    fn show(&self, figure: Figure) -> Figure {
        let percentile = |at| (!self.trips.is_empty()).then(|| self.trips.value_at_percentile(at) as f64 / 1000.0);
        let loss = Some((self.sent - self.received) as f64 / self.sent as f64);
        Figure { loss, p50: percentile(50.0), p99: percentile(99.0), ..figure }
    }
}

/// Echoes, with at most `window` packets of each tunnel on their way.
pub(crate) async fn echo(subject: &Subject, shape: Shape, window: u64, count: u64) -> Result<Figure, Failure> {
    let mut wires = Wires::open(subject, shape).await?;
    let each = count / wires.all.len() as u64;
    let mut whole = Tally::new(0)?;
    let mut meter = None;
    // Once to warm up, once to be measured.
    for count in [each / 10 + 1, each] {
        meter = Some(Meter::start(subject.pid).await?);
        whole = Tally::new(0)?;
        let mut at_work = JoinSet::new();
        for mut wire in wires.all.drain(..) {
            at_work.spawn(async move {
                let tally = windowed(&mut wire, window, count).await?;
                Ok::<_, Failure>((wire, tally))
            });
        }
        while let Some(done) = at_work.join_next().await {
            let (wire, tally) = done??;
            wires.all.push(wire);
            whole.add(&tally)?;
        }
    }
    finish(subject, meter, &whole).await
}

async fn windowed(wire: &mut Wire, window: u64, count: u64) -> Result<Tally, Failure> {
    let mut tally = Tally::new(count)?;
    let mut flying = 0;
    while tally.sent < count || flying > 0 {
        while flying < window && tally.sent < count {
            tally.send(wire).await?;
            flying += 1;
        }
        match wire.recv().await? {
            Some(payload) => {
                tally.note(&payload)?;
                flying = flying.saturating_sub(1);
            }
            // All that was on its way is lost.
            None => flying = 0,
        }
    }
    Ok(tally)
}

/// Echoes of packets that leave at a steady rate, `a_second` in all.
pub(crate) async fn steady(subject: &Subject, shape: Shape, a_second: u32, count: u64) -> Result<Figure, Failure> {
    let mut wires = Wires::open(subject, shape).await?;
    let number = wires.all.len() as u32;
    let each = count / u64::from(number);
    for wire in &mut wires.all {
        windowed(wire, 1, each / 10 + 1).await?;
    }

    let meter = Meter::start(subject.pid).await?;
    let mut whole = Tally::new(0)?;
    let mut at_work = JoinSet::new();
    let start = clock_gettime(ClockId::Monotonic);
    for (turn, mut wire) in (0..number).zip(wires.all.drain(..)) {
        let ticks = Ticks::start(start, a_second, turn, number)?;
        at_work.spawn(async move {
            let tally = paced(&mut wire, &ticks, each).await?;
            Ok::<_, Failure>((wire, tally))
        });
    }
    while let Some(done) = at_work.join_next().await {
        let (wire, tally) = done??;
        wires.all.push(wire);
        whole.add(&tally)?;
    }
    finish(subject, Some(meter), &whole).await
}

async fn paced(wire: &mut Wire, ticks: &Ticks, count: u64) -> Result<Tally, Failure> {
    let mut tally = Tally::new(count)?;
    while tally.sent < count {
        tokio::select! {
            biased;
            payload = wire.recv() => if let Some(payload) = payload? { tally.note(&payload)? },
            due = ticks.due() => for _ in 0..due?.min(count - tally.sent) { tally.send(wire).await? },
        }
    }
    while tally.received < tally.sent
        && let Some(payload) = wire.recv().await?
    {
        tally.note(&payload)?;
    }
    Ok(tally)
}

/// CPU for a packet in one direction.
async fn finish(subject: &Subject, meter: Option<Meter>, tally: &Tally) -> Result<Figure, Failure> {
    let meter = meter.ok_or("nothing was measured")?;
    Ok(tally.show(meter.stop((tally.received as f64 * subject.hops()).max(1.0)).await?))
}

/// Client to target alone.
pub(crate) async fn out(subject: &Subject, count: u64) -> Result<Figure, Failure> {
    let client = subject.client_for_packets(Http::H3, true).await?;
    let (tunnel, mut target) = tunnel(&client).await?;
    let payload = [0; PAYLOAD];
    let mut figure = None;
    for count in [count / 10 + 1, count] {
        let meter = Meter::start(subject.pid).await?;
        let (mut sent, mut received, mut lost) = (0, 0, 0);
        while received + lost < count {
            while sent < count && sent - received - lost < WINDOW {
                tunnel.send(&payload)?;
                sent += 1;
            }
            match timeout(PATIENCE, target.receive(|_| received += 1)).await {
                Ok(end) => end?,
                Err(_) => lost = sent - received,
            }
        }
        figure = Some(one_way(meter, sent, received).await?);
    }
    figure.ok_or_else(|| "nothing was measured".into())
}

/// Target to client alone.
pub(crate) async fn back(subject: &Subject, sending: Sending, count: u64) -> Result<Figure, Failure> {
    let client = subject.client_for_packets(Http::H3, true).await?;
    let (mut tunnel, target) = tunnel(&client).await?;
    let burst = vec![Bytes::from_static(&[0; PAYLOAD]); if sending == Sending::Singly { 1 } else { BURST }];
    let mut figure = None;
    for count in [count / 10 + 1, count] {
        let meter = Meter::start(subject.pid).await?;
        let (mut sent, mut received, mut lost) = (0, 0, 0);
        while received + lost < count {
            while sent < count && sent - received - lost + burst.len() as u64 <= WINDOW {
                target.send(&burst, sending)?;
                sent += burst.len() as u64;
            }
            match tunnel.recv().await {
                Ok(_) => received += 1,
                Err(StreamEnd::TimedOut) => lost = sent - received,
                Err(end) => return Err(end.into()),
            }
        }
        figure = Some(one_way(meter, sent, received).await?);
    }
    figure.ok_or_else(|| "nothing was measured".into())
}

async fn one_way(meter: Meter, sent: u64, received: u64) -> Result<Figure, Failure> {
    let loss = sent.saturating_sub(received) as f64 / sent as f64;
    Ok(Figure { loss: Some(loss), ..meter.stop(received.max(1) as f64).await? })
}

/// The round trip to a target without anything between, in microseconds: what a relay adds to.
pub(crate) async fn direct(_: &Subject, count: u64) -> Result<Figure, Failure> {
    let target = crate::wire::Socket::bind()?;
    let mut wire = Wire::bare(target.address()?)?;
    let mut targets = JoinSet::new();
    targets.spawn(async move {
        target.introduced().await?;
        target.echo(Sending::Singly).await
    });
    let tally = windowed(&mut wire, 1, count).await?;
    let figure = tally.show(Figure::of(0.0));
    Ok(Figure { cost: figure.p50.ok_or("nothing came back")? / 1e6, ..figure })
}

/// Nanoseconds.
const SECOND: u32 = 1_000_000_000;

/// A timer that keeps to 50 µs, where the runtime's own counts in milliseconds.
struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    /// One of `number` that take turns from `start` on and go off `a_second` in all, each less than a second apart.
    fn start(start: Timespec, a_second: u32, turn: u32, number: u32) -> Result<Self, Failure> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let apart = i64::from(SECOND / a_second);
        let first = start.tv_nsec + apart * i64::from(turn + 1);
        let it_value = Timespec { tv_sec: start.tv_sec + first / i64::from(SECOND), tv_nsec: first % i64::from(SECOND) };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: apart * i64::from(number) };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value })?;
        #[expect(deprecated, reason = "the way that replaces it is `unsafe`, and an OwnedFd keeps what that asks for")]
        Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
    }

    /// Waits until at least one packet is due. Cancel safe.
    async fn due(&self) -> Result<u64, Failure> {
        let mut count = [0; 8];
        loop {
            let mut ready = self.0.readable().await?;
            match read(self.0.get_ref(), &mut count) {
                Ok(_) => return Ok(u64::from_ne_bytes(count)),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
