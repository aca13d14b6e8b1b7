//! A path between a client and a relay that is as bad as a test wants it: delay, jitter, loss, reordering, a rate with a bounded queue, an MTU,
//! and an address that changes.
//!
//! ```text
//! client ──▶ Path::address() ─[ Link out ]─▶ a socket for this client ──▶ server
//! client ◀── Path::address() ◀─[ Link back ]─ a socket for this client ◀── server
//! ```
//!
//! What happens to a packet is decided by [`Link`], which does no I/O and knows no clock; all its chances come from the seed, so the same
//! packets at the same times fare the same. Delivery is as exact as the kernel's timers, 50 µs, where this task gets its turn.
//!
//! Tests and benches take this file in by `#[path = "…/emulator.rs"] mod path;`. Its own tests are in `main.rs` beside it.

#[path = "alarm.rs"]
mod alarm;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, hash_map::Entry},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use alarm::Alarm;

/// What one direction of a path does to packets. The default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Conditions {
    /// From one end to the other.
    pub(crate) delay: Duration,
    /// At most this much is added to the delay, evenly spread; packets keep their order.
    pub(crate) jitter: Duration,
    /// The share of packets that are lost, 0 to 1.
    pub(crate) loss: f64,
    /// The share of packets that come late, 0 to 1, and by how much; others overtake them.
    pub(crate) reorder: (f64, Duration),
    /// Bytes of UDP payload a second; `None`: no limit.
    pub(crate) rate: Option<u64>,
    /// Bytes of UDP payload that may wait for the rate; what does not fit is dropped at the tail.
    pub(crate) queue: usize,
    /// The largest UDP payload; a larger one vanishes without a word. `None`: no limit.
    pub(crate) mtu: Option<usize>,
}

/// What became of the packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Sent on, or on their way.
    pub(crate) passed: u64,
    /// Of these, those that came late.
    pub(crate) late: u64,
    /// Lost by chance.
    pub(crate) lost: u64,
    /// Dropped by a full queue.
    pub(crate) no_room: u64,
    /// Larger than the MTU.
    pub(crate) too_big: u64,
}

/// One direction, as a pure function of time, lengths and the seed.
#[derive(Debug)]
pub(crate) struct Link {
    /// May be changed at any time.
    pub(crate) conditions: Conditions,
    /// So far.
    pub(crate) tally: Tally,
    chance: Chance,
    /// When the last byte accepted has left the queue.
    free_at: Option<Instant>,
    /// When the last packet that was not late arrives.
    last: Option<Instant>,
}

/// A path from any number of clients to one server. Dropping it cuts the path.
pub(crate) struct Path {
    address: SocketAddr,
    out: Arc<Mutex<Link>>,
    back: Arc<Mutex<Link>>,
    rebind: mpsc::Sender<oneshot::Sender<()>>,
    _task: JoinSet<()>,
}

impl Path {
    /// A path to `server`, whose near end is a loopback address of the same family.
    pub(crate) async fn start(server: SocketAddr, seed: u64, out: Conditions, back: Conditions) -> io::Result<Self> {
        let near = Arc::new(socket(server).await?);
        let address = near.local_addr()?;
        let out = Arc::new(Mutex::new(Link::new(out, seed)));
        let back = Arc::new(Mutex::new(Link::new(back, seed ^ 0x5bd1_e995)));
        let (rebind, rebinds) = mpsc::channel(1);
        let middle = Middle { near, server, out: out.clone(), back: back.clone(), clients: HashMap::new(), backs: JoinSet::new() };
        let mut task = JoinSet::new();
        task.spawn(middle.run(rebinds, Alarm::new()?));
        Ok(Self { address, out, back, rebind, _task: task })
    }

    /// The near end: where clients send.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on every client has a new port at the far end; what the server still sends to the old one is lost.
    pub(crate) async fn rebind(&self) {
        let (done, wait) = oneshot::channel();
        self.rebind.send(done).await.expect("the task lives as long as the path");
        wait.await.expect("the task answers");
    }

    /// Changes what happens to packets towards the server. Those on their way are not touched.
    pub(crate) fn set_out(&self, conditions: Conditions) {
        lock(&self.out).conditions = conditions;
    }

    /// Changes what happens to packets towards the clients.
    pub(crate) fn set_back(&self, conditions: Conditions) {
        lock(&self.back).conditions = conditions;
    }

    /// What became of the packets, towards the server and back.
    pub(crate) fn tally(&self) -> (Tally, Tally) {
        (lock(&self.out).tally, lock(&self.back).tally)
    }
}

impl Link {
    /// With these conditions; all chances come from `seed`.
    pub(crate) fn new(conditions: Conditions, seed: u64) -> Self {
        Self { conditions, tally: Tally::default(), chance: Chance(seed), free_at: None, last: None }
    }

    /// A packet of `length` bytes enters at `now`: when it arrives, or `None` if it never does.
    pub(crate) fn take(&mut self, now: Instant, length: usize) -> Option<Instant> {
        let Conditions { delay, jitter, loss, reorder: (reorder, by), rate, queue, mtu } = self.conditions;
        // The same number of chances for every packet, so that changing one condition does not shift the others'.
        let [lose, late, shake] = [self.chance.next(), self.chance.next(), self.chance.next()];
        if mtu.is_some_and(|mtu| length > mtu) {
            self.tally.too_big += 1;
            return None;
        }
        if lose < loss {
            self.tally.lost += 1;
            return None;
        }
        let mut at = now;
        if let Some(rate) = rate {
            let start = self.free_at.map_or(now, |free_at| free_at.max(now));
            let span = |bytes: usize| Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate.max(1));
            if start - now + span(length) > span(queue) {
                self.tally.no_room += 1;
                return None;
            }
            at = start + span(length);
            self.free_at = Some(at);
        }
        at += delay + jitter.mul_f64(shake);
        self.tally.passed += 1;
        if late < reorder {
            self.tally.late += 1;
            return Some(at + by);
        }
        at = self.last.map_or(at, |last| last.max(at));
        self.last = Some(at);
        Some(at)
    }
}

/// Numbers that look random: SplitMix64.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    /// Evenly spread over 0 to 1, 1 excluded.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        f64::from((bits >> 32) as u32) / 4_294_967_296.0
    }
}

/// The task of a path: near end, far ends, and what is on its way out.
struct Middle {
    near: Arc<UdpSocket>,
    server: SocketAddr,
    out: Arc<Mutex<Link>>,
    back: Arc<Mutex<Link>>,
    clients: HashMap<SocketAddr, (Arc<UdpSocket>, AbortHandle)>,
    /// One for each client.
    backs: JoinSet<()>,
}

impl Middle {
    async fn run(mut self, mut rebinds: mpsc::Receiver<oneshot::Sender<()>>, alarm: Alarm) {
        let near = self.near.clone();
        let mut buffer = vec![0; MAX_PACKET];
        let mut on_the_way = OnTheWay::new(alarm);
        loop {
            tokio::select! {
                (packet, client) = on_the_way.due() => {
                    // A client that was never let in has no far end.
                    if let Some((far, _)) = self.clients.get(&client) {
                        send(far, &packet, self.server).await;
                    }
                }
                came = near.recv_from(&mut buffer) => {
                    // An ICMP error: a client is gone.
                    let Ok((length, client)) = came else { continue };
                    if self.admit(client).await.is_ok() && let Some(at) = lock(&self.out).take(Instant::now(), length) {
                        on_the_way.push(at, buffer[..length].to_vec(), client);
                    }
                }
                Some(done) = rebinds.recv() => {
                    self.rebind().await;
                    // Whoever asked may have stopped waiting.
                    done.send(()).ok();
                }
                Some(_ended) = self.backs.join_next() => {}
            }
        }
    }

    /// Gives a new client a far end.
    async fn admit(&mut self, client: SocketAddr) -> io::Result<()> {
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(&client) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if let Entry::Vacant(place) = self.clients.entry(client) {
            let far = Arc::new(socket(self.server).await?);
            let back = self.backs.spawn(back(far.clone(), self.near.clone(), client, self.back.clone(), Alarm::new()?));
            place.insert((far, back));
        }
        Ok(())
    }

    async fn rebind(&mut self) {
        let clients: Vec<_> = self.clients.drain().collect();
        for (client, (old, back)) in clients {
            back.abort();
            // The old socket is held until the new one is there, so that the port is another.
            self.admit(client).await.expect("there was room for it before");
            drop(old);
        }
    }
}

/// Carries what the server sends to one client.
async fn back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, client: SocketAddr, link: Arc<Mutex<Link>>, alarm: Alarm) {
    let mut buffer = vec![0; MAX_PACKET];
    let mut on_the_way = OnTheWay::new(alarm);
    loop {
        tokio::select! {
            (packet, client) = on_the_way.due() => send(&near, &packet, client).await,
            came = far.recv_from(&mut buffer) => {
                // An ICMP error: the server is gone.
                let Ok((length, _)) = came else { continue };
                if let Some(at) = lock(&link).take(Instant::now(), length) {
                    on_the_way.push(at, buffer[..length].to_vec(), client);
                }
            }
        }
    }
}

/// Arrival, number, packet, receiver; the first to arrive is the greatest.
type Waiting = Reverse<(Instant, u64, Vec<u8>, SocketAddr)>;

/// Packets with the time of their arrival.
struct OnTheWay {
    alarm: Alarm,
    packets: BinaryHeap<Waiting>,
    /// Equal times keep their order.
    count: u64,
}

impl OnTheWay {
    fn new(alarm: Alarm) -> Self {
        Self { alarm, packets: BinaryHeap::new(), count: 0 }
    }

    fn push(&mut self, at: Instant, packet: Vec<u8>, to: SocketAddr) {
        self.count += 1;
        self.packets.push(Reverse((at, self.count, packet, to)));
    }

    /// The next packet when its time has come. Cancel safe.
    async fn due(&mut self) -> (Vec<u8>, SocketAddr) {
        match self.packets.peek() {
            Some(Reverse((at, ..))) => self.alarm.wait(*at).await.expect("a timer of the kernel runs"),
            None => std::future::pending().await,
        }
        let Reverse((_, _, packet, to)) = self.packets.pop().expect("it was there before the wait");
        (packet, to)
    }
}

/// A packet the kernel does not take is one more lost packet.
async fn send(socket: &UdpSocket, packet: &[u8], to: SocketAddr) {
    socket.send_to(packet, to).await.ok();
}

/// A loopback socket of `server`'s family, with room for a burst.
async fn socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let ip: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let socket = UdpSocket::bind((ip, 0)).await?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
    Ok(socket)
}

fn lock(link: &Mutex<Link>) -> MutexGuard<'_, Link> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A UDP payload is no larger.
const MAX_PACKET: usize = 65_536;

/// Far ends of one path; each is a descriptor.
const MAX_CLIENTS: usize = 256;
