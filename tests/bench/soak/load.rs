//! Mixed load, everything of it counted at both ends: what the relay says is held against it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use masque_relay::{
    ended::Reset,
    probe::{Client, Http, Packet, StreamEnd, TcpTunnel, UdpTunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{Failure, subject::Subject};

/// Packets and their payload.
#[derive(Default)]
pub(super) struct Count {
    pub(super) packets: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Count {
    fn add(&self, length: usize) {
        self.packets.fetch_add(1, Relaxed);
        self.bytes.fetch_add(length as u64, Relaxed);
    }

    pub(super) fn now(&self) -> [u64; 2] {
        [self.packets.load(Relaxed), self.bytes.load(Relaxed)]
    }
}

/// What the load did so far.
pub(super) struct Ledger {
    started: Instant,
    /// The latest round trip of a packet of a steady tunnel, microseconds.
    pub(super) trip: AtomicU64,
    /// By clients, into UDP tunnels.
    pub(super) sent: Count,
    /// By UDP targets.
    pub(super) arrived: Count,
    /// By UDP targets, as an echo.
    pub(super) answered: Count,
    /// By clients, out of UDP tunnels.
    pub(super) returned: Count,
    /// Bytes of TCP tunnels that came through, out and back; a tunnel in which any is missing fails.
    pub(super) tcp: [AtomicU64; 2],
    /// Tunnels that were opened.
    pub(super) tunnels: AtomicU64,
    /// Requests that were cancelled before their answer.
    pub(super) cancelled: AtomicU64,
    pub(super) connections: AtomicU64,
    /// Changes of a client's address.
    pub(super) moves: AtomicU64,
    /// QUIC packets that clients thought lost.
    pub(super) lost: AtomicU64,
    /// Datagrams that clients dropped themselves: before they left, or when they had come.
    pub(super) neglected: AtomicU64,
}

impl Ledger {
    pub(super) fn new() -> Self {
        let [sent, arrived, answered, returned] = Default::default();
        let [tunnels, cancelled, connections, moves, lost, neglected, trip] = Default::default();
        Self {
            started: Instant::now(),
            trip,
            sent,
            arrived,
            answered,
            returned,
            tcp: Default::default(),
            tunnels,
            cancelled,
            connections,
            moves,
            lost,
            neglected,
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

/// Where clients go: echoes, and a place for bulk.
#[derive(Clone, Copy)]
pub(super) struct Targets {
    udp: SocketAddr,
    tcp: SocketAddr,
}

/// Everything that a flow needs.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) subject: Arc<Subject>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) targets: Targets,
    /// Nothing new begins; what is on its way is waited for.
    pub(super) stop: CancellationToken,
    /// Bytes that each bulk flow moves in a [`TICK`]; may be changed while they run.
    pub(super) bulk: Arc<AtomicU64>,
}

/// A client, and the UDP payloads that it was given and gave out.
struct Guest {
    client: Client,
    sent: AtomicU64,
    returned: AtomicU64,
}

/// All flows run in here, and end by themselves once they are told to.
pub(super) type Flows = JoinSet<Result<(), Failure>>;

impl Targets {
    pub(super) async fn start(flows: &mut Flows, ledger: &Arc<Ledger>) -> Result<Self, Failure> {
        let (udp, tcp) = (UdpSocket::bind(("127.0.0.1", 0)).await?, TcpListener::bind(("127.0.0.1", 0)).await?);
        socket2::SockRef::from(&udp).set_recv_buffer_size(4 << 20)?;
        let targets = Self { udp: udp.local_addr()?, tcp: tcp.local_addr()? };
        let ledger = Arc::clone(ledger);
        flows.spawn(async move {
            let mut buffer = [0; 2000];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await?;
                ledger.arrived.add(length);
                udp.send_to(&buffer[..length], from).await?;
                ledger.answered.add(length);
            }
        });
        flows.spawn(async move {
            let mut echoes = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = tcp.accept() => {
                        let (mut stream, _) = accepted?;
                        echoes.spawn(async move {
                            let (mut read, mut write) = stream.split();
                            tokio::io::copy(&mut read, &mut write).await
                        });
                    }
                    // One whose client went away without a word has an error to tell.
                    Some(_ended) = echoes.join_next() => {}
                }
            }
        });
        Ok(targets)
    }
}

impl Load {
    async fn guest(&self, http: Http) -> Result<Guest, Failure> {
        let client = self.subject.client(http).await?;
        self.ledger.connections.fetch_add(1, Relaxed);
        Ok(Guest { client, sent: AtomicU64::new(0), returned: AtomicU64::new(0) })
    }

    /// The client goes; what it knows to be lost is noted.
    fn leave(&self, guest: Guest) {
        if guest.client.http() == Http::H3 {
            let stats = guest.client.quinn().stats();
            self.ledger.lost.fetch_add(stats.path.lost_packets, Relaxed);
            let unsent = guest.sent.into_inner().saturating_sub(stats.frame_tx.datagram);
            let unread = stats.frame_rx.datagram.saturating_sub(guest.returned.into_inner());
            self.ledger.neglected.fetch_add(unsent + unread, Relaxed);
        }
    }

    async fn udp(&self, Guest { client, .. }: &Guest) -> Result<UdpTunnel, Failure> {
        let tunnel = client.connect_udp(&self.targets.udp.ip().to_string(), self.targets.udp.port()).await?;
        self.ledger.tunnels.fetch_add(1, Relaxed);
        Ok(tunnel)
    }

    async fn tcp(&self, Guest { client, .. }: &Guest, to: SocketAddr) -> Result<TcpTunnel, Failure> {
        let tunnel = client.connect_tcp(&to.to_string()).await?;
        self.ledger.tunnels.fetch_add(1, Relaxed);
        Ok(tunnel)
    }

    async fn send(&self, guest: &Guest, tunnel: &mut UdpTunnel, payload: &[u8]) -> Result<(), Failure> {
        tunnel.send_either(payload).await?;
        guest.sent.fetch_add(1, Relaxed);
        self.ledger.sent.add(payload.len());
        Ok(())
    }

    fn returned(&self, guest: &Guest, packet: &Packet) {
        guest.returned.fetch_add(1, Relaxed);
        self.ledger.returned.add(packet.payload.len());
    }

    /// One packet there and back, unless it is lost.
    async fn echo_udp(&self, guest: &Guest, tunnel: &mut UdpTunnel, payload: &[u8]) -> Result<(), Failure> {
        self.send(guest, tunnel, payload).await?;
        if let Ok(packet) = timeout(LOST, tunnel.recv()).await {
            self.returned(guest, &packet?);
        }
        Ok(())
    }

    /// Bytes there and back, and the end of both directions.
    async fn echo_tcp(&self, tunnel: &mut TcpTunnel) -> Result<(), Failure> {
        tunnel.send(Bytes::from_static(&[7; SHORT])).await?;
        tunnel.finish()?;
        let came = tunnel.read_to_end(SHORT).await?.len();
        self.carried([SHORT, came])
    }

    fn carried(&self, [out, back]: [usize; 2]) -> Result<(), Failure> {
        if out != back {
            return Err(format!("{back} bytes came of {out} in a TCP tunnel").into());
        }
        for count in &self.ledger.tcp {
            count.fetch_add(out as u64, Relaxed);
        }
        Ok(())
    }

    /// A UDP tunnel at a steady rate.
    pub(super) async fn steady(self, http: Http, length: usize, a_second: u32) -> Result<(), Failure> {
        let guest = self.guest(http).await?;
        let mut tunnel = self.udp(&guest).await?;
        let (mut payload, mut ticks, mut due) = (vec![1; length], ticks(TICK), 0.0);
        while !self.stop.is_cancelled() {
            tokio::select! {
                biased;
                packet = tunnel.recv() => {
                    let packet = packet?;
                    self.returned(&guest, &packet);
                    let left = packet.payload.first_chunk().ok_or("a packet came back changed")?;
                    self.ledger.trip.store(self.ledger.now() - u64::from_be_bytes(*left), Relaxed);
                }
                _ = ticks.tick() => {
                    due += f64::from(a_second) * TICK.as_secs_f64();
                    while due >= 1.0 {
                        due -= 1.0;
                        payload[..8].copy_from_slice(&self.ledger.now().to_be_bytes());
                        self.send(&guest, &mut tunnel, &payload).await?;
                    }
                }
            }
        }
        while let Ok(packet) = timeout(LOST, tunnel.recv()).await {
            self.returned(&guest, &packet?);
        }
        tunnel.finish()?;
        Self::ended(tunnel.ended().await)?;
        self.leave(guest);
        Ok(())
    }

    /// A TCP tunnel in which as much moves as [`Self::bulk`] says, `back` to the client or out to a target.
    pub(super) async fn bulk(self, http: Http, back: bool) -> Result<(), Failure> {
        let guest = self.guest(http).await?;
        let target = TcpListener::bind(("127.0.0.1", 0)).await?;
        let to = target.local_addr()?;
        let (tunnel, accepted) = tokio::join!(self.tcp(&guest, to), target.accept());
        let (mut tunnel, (mut stream, _)) = (tunnel?, accepted?);
        let (sent, came) = if back { self.down(&mut tunnel, &mut stream).await? } else { self.up(&mut tunnel, &mut stream).await? };
        if sent != came {
            return Err(format!("{came} bytes came of {sent} in a TCP tunnel").into());
        }
        self.ledger.tcp[usize::from(back)].fetch_add(sent, Relaxed);
        self.leave(guest);
        Ok(())
    }

    async fn down(&self, tunnel: &mut TcpTunnel, stream: &mut TcpStream) -> Result<(u64, u64), Failure> {
        let send = async {
            let (mut sent, mut ticks) = (0, ticks(TICK));
            while !self.stop.is_cancelled() {
                ticks.tick().await;
                let chunk = vec![3; self.bulk.load(Relaxed) as usize];
                stream.write_all(&chunk).await?;
                sent += chunk.len() as u64;
            }
            stream.shutdown().await?;
            Ok::<_, Failure>(sent)
        };
        let receive = async {
            let mut came = 0;
            while let Some(bytes) = tunnel.recv().await? {
                came += bytes.len() as u64;
            }
            tunnel.finish()?;
            Ok(came)
        };
        tokio::try_join!(send, receive)
    }

    async fn up(&self, tunnel: &mut TcpTunnel, stream: &mut TcpStream) -> Result<(u64, u64), Failure> {
        let send = async {
            let (mut sent, mut ticks) = (0, ticks(TICK));
            while !self.stop.is_cancelled() {
                ticks.tick().await;
                let chunk = Bytes::from(vec![3; self.bulk.load(Relaxed) as usize]);
                sent += chunk.len() as u64;
                tunnel.send(chunk).await?;
            }
            tunnel.finish()?;
            Ok::<_, Failure>(sent)
        };
        let receive = async {
            let (mut came, mut buffer) = (0, vec![0; 256 << 10]);
            loop {
                match stream.read(&mut buffer).await? {
                    0 => return Ok(came),
                    length => came += length as u64,
                }
            }
        };
        let ends = tokio::try_join!(send, receive)?;
        stream.shutdown().await?;
        Self::ended(tunnel.ended().await)?;
        Ok(ends)
    }

    /// Tunnels on one connection that come, carry a little, and are finished, reset, or cancelled before they are answered.
    pub(super) async fn tunnels_come_and_go(self, http: Http, apart: Duration) -> Result<(), Failure> {
        let guest = self.guest(http).await?;
        let (mut ticks, mut turn) = (ticks(apart), 0_u32);
        while !self.stop.is_cancelled() {
            ticks.tick().await;
            turn += 1;
            if turn.is_multiple_of(4) {
                let head = guest.client.options().udp_head(&self.targets.udp.ip().to_string(), self.targets.udp.port());
                let mut exchange = guest.client.request(&head).await?;
                self.ledger.cancelled.fetch_add(1, Relaxed);
                exchange.send.reset_as(Reset::Cancelled)?;
                exchange.recv.stop_as(Reset::Cancelled)?;
                continue;
            }
            let mut udp = self.udp(&guest).await?;
            self.echo_udp(&guest, &mut udp, &[2; 300]).await?;
            if turn.is_multiple_of(2) {
                udp.reset_as(Reset::Cancelled)?;
                udp.stop_as(Reset::Cancelled)?;
            } else {
                udp.finish()?;
                Self::ended(udp.ended().await)?;
            }
            let mut tcp = self.tcp(&guest, self.targets.tcp).await?;
            self.echo_tcp(&mut tcp).await?;
        }
        self.leave(guest);
        Ok(())
    }

    /// Connections that come, carry a little, and go, with their tunnels open or closed.
    pub(super) async fn connections_come_and_go(self, apart: Duration) -> Result<(), Failure> {
        let (mut ticks, mut turn) = (ticks(apart), 0_usize);
        while !self.stop.is_cancelled() {
            ticks.tick().await;
            turn += 1;
            let guest = self.guest([Http::H3, Http::H2][turn % 2]).await?;
            let (mut udp, mut tcp) = (self.udp(&guest).await?, self.tcp(&guest, self.targets.tcp).await?);
            self.echo_udp(&guest, &mut udp, &[4; 1000]).await?;
            self.echo_tcp(&mut tcp).await?;
            if turn.is_multiple_of(3) {
                udp.finish()?;
                Self::ended(udp.ended().await)?;
            }
            self.leave(guest);
        }
        Ok(())
    }

    /// A client that changes its address again and again, both kinds of tunnel open.
    pub(super) async fn moving(self, every: Duration) -> Result<(), Failure> {
        let guest = self.guest(Http::H3).await?;
        let (mut udp, mut ticks) = (self.udp(&guest).await?, ticks(every / 10));
        for turn in 1_u32.. {
            ticks.tick().await;
            self.echo_udp(&guest, &mut udp, &[5; 700]).await?;
            if turn.is_multiple_of(10) {
                guest.client.rebind()?;
                self.ledger.moves.fetch_add(1, Relaxed);
                let mut tcp = self.tcp(&guest, self.targets.tcp).await?;
                self.echo_tcp(&mut tcp).await?;
            }
            if self.stop.is_cancelled() {
                break;
            }
        }
        udp.finish()?;
        Self::ended(udp.ended().await)?;
        self.leave(guest);
        Ok(())
    }

    /// A tunnel has to end as it was asked to.
    fn ended(end: StreamEnd) -> Result<(), Failure> {
        if end == StreamEnd::Finished { Ok(()) } else { Err(format!("a tunnel that was finished ended otherwise: {end}").into()) }
    }
}

fn ticks(apart: Duration) -> Interval {
    let mut ticks = interval(apart);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Between two portions of what is sent at a rate.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// A packet that has not come by now is lost.
const LOST: Duration = Duration::from_secs(2);

/// Bytes of a short TCP tunnel, each way.
const SHORT: usize = 1000;
