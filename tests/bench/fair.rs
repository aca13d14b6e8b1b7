//! Who gets how much, and who waits how long, where somebody wants all of it. Over an emulated path of 10 Mbit/s and 20 ms, so that no CPU decides; a
//! flood is three times what the path takes.

use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use masque_relay::probe::{Client, Http, StreamEnd, UdpTunnel};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};

use crate::{
    Failure,
    emulator::{Conditions, Path},
    meter::Figure,
    subject::{PATIENCE, Subject},
    tcp,
    wire::{PAYLOAD, Sending, Socket, tunnel},
};

/// Bytes a second to the client, and what waits at the narrowest place: 48 ms.
const RATE: u64 = 1_250_000;
const QUEUE: usize = 60_000;
/// One way.
const DELAY: Duration = Duration::from_millis(10);
/// Until the window has grown over what the path takes.
const WARM_UP: Duration = Duration::from_secs(1);

/// What runs beside a measurement, until dropped.
type Beside = JoinSet<Result<(), Failure>>;

/// A TCP tunnel's share of what a connection carries beside a flood.
pub(crate) async fn tcp_beside_udp(subject: &Subject, span: Duration) -> Result<Figure, Failure> {
    let (_path, client) = slow(subject).await?;
    let (mut udp, _flood) = flooded(&client).await?;
    let target = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (mut tunnel, mut accepted) = tcp::opened(&client, &target).await?;
    let mut source = Beside::new();
    source.spawn(async move {
        loop {
            accepted.write_all(&[0; 16 << 10]).await?;
        }
    });
    let begin = Instant::now() + WARM_UP;
    let (mut by_udp, mut by_tcp) = (0, 0);
    loop {
        let (udp, tcp) = tokio::select! {
            packet = udp.recv() => (packet?.payload.len(), 0),
            bytes = tunnel.recv() => (0, bytes?.ok_or("the tunnel ended")?.len()),
            () = sleep_until(begin + span) => return Ok(Figure::of(by_tcp as f64 / (by_tcp + by_udp) as f64)),
        };
        if Instant::now() > begin {
            by_udp += udp;
            by_tcp += tcp;
        }
    }
}

/// What a flood gets of the path beside small exchanges on a TCP tunnel, ten a second; their round trips.
pub(crate) async fn udp_beside_exchanges(subject: &Subject, span: Duration) -> Result<Figure, Failure> {
    let (_path, client) = slow(subject).await?;
    let (mut udp, _flood) = flooded(&client).await?;
    let target = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (mut tunnel, mut accepted) = tcp::opened(&client, &target).await?;
    let mut echo = Beside::new();
    echo.spawn(async move {
        let mut buffer = [0; 1024];
        loop {
            let length = accepted.read(&mut buffer).await?;
            accepted.write_all(&buffer[..length]).await?;
        }
    });
    let begin = Instant::now() + WARM_UP;
    let exchanging = async {
        let (mut trips, mut ticks) = (Histogram::<u64>::new(3)?, interval(Duration::from_millis(100)));
        while Instant::now() < begin + span {
            ticks.tick().await;
            let left = Instant::now();
            tunnel.send(Bytes::from_static(&[0; 100])).await?;
            tunnel.recv().await?;
            if left > begin {
                trips.record(left.elapsed().as_nanos() as u64)?;
            }
        }
        Ok::<_, Failure>(trips)
    };
    let mut exchanging = std::pin::pin!(exchanging);
    let mut bytes = 0;
    loop {
        tokio::select! {
            packet = udp.recv() => {
                let now = Instant::now();
                bytes += if now > begin && now < begin + span { packet?.payload.len() } else { 0 };
            }
            trips = &mut exchanging => return Ok(with_trips(bytes as f64 / (RATE as f64 * span.as_secs_f64()), &trips?)),
        }
    }
}

/// Of 32 tunnels of one connection 4 send all they can: half of what the path takes, three quarters, all, and one and a quarter. What comes of the 28 others' packets, where it is least;
/// how long they took beyond the path's own delay; and what was lost of the greedy ones'.
pub(crate) async fn modest_tunnels(subject: &Subject, span: Duration) -> Result<Figure, Failure> {
    let (_path, client) = slow(subject).await?;
    let (mut tunnels, mut targets, mut receiving) = (Vec::new(), Vec::new(), JoinSet::new());
    for _ in 0..GREEDY + MODEST {
        let (tunnel, target) = tunnel(&client).await?;
        tunnels.push(tunnel);
        targets.push((target, 0));
    }
    let start = Instant::now();
    for (number, mut tunnel) in tunnels.into_iter().enumerate() {
        receiving.spawn(async move {
            let (mut count, mut delays) = (0_u64, Histogram::<u64>::new(3)?);
            loop {
                let packet = match tunnel.recv().await {
                    Ok(packet) => packet.payload,
                    Err(StreamEnd::TimedOut) => return Ok::<_, Failure>((number, count, delays)),
                    Err(end) => return Err(end.into()),
                };
                count += 1;
                let left = packet.first_chunk().map(|left| Duration::from_nanos(u64::from_be_bytes(*left)));
                let took = start.elapsed().saturating_sub(left.ok_or("a packet came back changed")?);
                delays.record(took.saturating_sub(DELAY).as_nanos() as u64)?;
            }
        });
    }
    let mut ticks = interval(Duration::from_millis(25));
    for tick in 0.. {
        let now = ticks.tick().await.duration_since(start);
        for (number, (target, sent)) in targets.iter_mut().enumerate() {
            let (count, length) = match number.checked_sub(GREEDY) {
                None => ((number + 2) * RATE as usize / 160 / PAYLOAD, PAYLOAD),
                Some(modest) => (usize::from(tick % (modest % 8 + 1) == 0), 100),
            };
            let mut packet = vec![0; length];
            packet[..8].copy_from_slice(&(start.elapsed().as_nanos() as u64).to_be_bytes());
            target.send(&vec![packet.into(); count], Sending::Singly)?;
            *sent += count as u64;
        }
        if now > span {
            break;
        }
    }
    let (mut least, mut delays, mut greedy) = (1.0_f64, Histogram::new(3)?, (0, 0));
    while let Some(received) = receiving.join_next().await {
        let (number, came, took) = received??;
        let sent = targets[number].1;
        if number < GREEDY {
            greedy = (greedy.0 + sent, greedy.1 + came);
        } else {
            least = least.min(came as f64 / sent as f64);
            delays.add(took)?;
        }
    }
    Ok(Figure { loss: Some(1.0 - greedy.1 as f64 / greedy.0 as f64), ..with_trips(least, &delays) })
}

const GREEDY: usize = 4;
const MODEST: usize = 28;

/// Round trips of a client beside another one whose target floods it, on the same worker.
pub(crate) async fn modest_client(subject: &Subject, count: u64) -> Result<Figure, Failure> {
    let (_path, greedy) = slow(subject).await?;
    let (mut udp, mut beside) = flooded(&greedy).await?;
    beside.spawn(async move {
        loop {
            udp.recv().await?;
        }
    });
    let modest = subject.client_for_packets(Http::H3, true).await?;
    let (mut tunnel, target) = tunnel(&modest).await?;
    beside.spawn(target.echo(Sending::Singly));
    sleep_until(Instant::now() + WARM_UP).await;
    let (mut trips, mut ticks) = (Histogram::<u64>::new(3)?, interval(Duration::from_millis(5)));
    for _ in 0..count {
        ticks.tick().await;
        let left = Instant::now();
        tunnel.send(&[0; PAYLOAD])?;
        match tunnel.recv().await {
            Ok(_) => trips.record(left.elapsed().as_nanos() as u64)?,
            Err(StreamEnd::TimedOut) => {}
            Err(end) => return Err(end.into()),
        }
    }
    let loss = Some(1.0 - trips.len() as f64 / count as f64);
    Ok(Figure { loss, ..with_trips(trips.value_at_percentile(50.0) as f64 / 1e9, &trips) })
}

/// A client behind the path.
async fn slow(subject: &Subject) -> Result<(Path, Client), Failure> {
    let way = Conditions { delay: DELAY, ..Conditions::default() };
    let path = Path::start(subject.address(), 1, way, Conditions { rate: Some(RATE), queue: QUEUE, ..way }).await?;
    let client = subject.client_with(|options| {
        options.addresses = vec![path.address()];
        options.patience = Some(4 * PATIENCE);
    });
    let client = client.await?;
    Ok((path, client))
}

/// A tunnel whose target floods it.
async fn flooded(client: &Client) -> Result<(UdpTunnel, Beside), Failure> {
    let (tunnel, target) = tunnel(client).await?;
    let mut flood = Beside::new();
    flood.spawn(flood_from(target));
    Ok((tunnel, flood))
}

async fn flood_from(target: Socket) -> Result<(), Failure> {
    let burst = vec![Bytes::from_static(&[0; PAYLOAD]); 3 * RATE as usize / 200 / PAYLOAD];
    let mut ticks = interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        target.send(&burst, Sending::Singly)?;
    }
}

fn with_trips(cost: f64, trips: &Histogram<u64>) -> Figure {
    let percentile = |at| (!trips.is_empty()).then(|| trips.value_at_percentile(at) as f64 / 1000.0);
    Figure { p50: percentile(50.0), p99: percentile(99.0), ..Figure::of(cost) }
}
