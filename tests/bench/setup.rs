//! What it takes to begin: connections, tunnels, and the memory of both.

use std::time::Duration;

use masque_relay::probe::Client;
use tokio::{net::TcpListener, time::sleep};

use crate::{
    Failure,
    floor::Floor,
    meter::{Figure, Meter, resident},
    subject::{On, Subject},
    wire::{Socket, tunnel},
};

/// New connections, each with a UDP tunnel on it, one after the other; full handshakes.
pub(crate) async fn connections(subject: &Subject, post_quantum: bool, count: u64) -> Result<Figure, Failure> {
    let target = Socket::bind()?.address()?;
    let mut meter = Meter::start(subject.pid).await?;
    for number in 0..count + WARM_UP {
        if number == WARM_UP {
            meter = Meter::start(subject.pid).await?;
        }
        if subject.on == On::Floor(Floor::Quinn) {
            let (_endpoint, connection) = subject.quinn().await?;
            connection.close(0_u32.into(), b"");
            continue;
        }
        let mut options = subject.options();
        options.post_quantum = post_quantum;
        let client = Client::open(options).await?;
        client.connect_udp(&target.ip().to_string(), target.port()).await?.finish()?;
    }
    meter.stop(count as f64).await
}

/// New UDP tunnels on one connection, one after the other, each ended at once.
pub(crate) async fn udp_tunnels(subject: &Subject, count: u64) -> Result<Figure, Failure> {
    let target = Socket::bind()?.address()?;
    let (host, client) = (target.ip().to_string(), subject.client().await?);
    let mut meter = Meter::start(subject.pid).await?;
    for number in 0..count + WARM_UP {
        if number == WARM_UP {
            meter = Meter::start(subject.pid).await?;
        }
        let mut tunnel = client.connect_udp(&host, target.port()).await?;
        tunnel.finish()?;
        tunnel.ended().await;
    }
    meter.stop(count as f64).await
}

/// The same over TCP.
pub(crate) async fn tcp_tunnels(subject: &Subject, count: u64) -> Result<Figure, Failure> {
    let (target, client) = (TcpListener::bind(("127.0.0.1", 0)).await?, subject.client().await?);
    let authority = target.local_addr()?.to_string();
    let mut meter = Meter::start(subject.pid).await?;
    for number in 0..count + WARM_UP {
        if number == WARM_UP {
            meter = Meter::start(subject.pid).await?;
        }
        let (tunnel, accepted) = tokio::join!(client.connect_tcp(&authority), target.accept());
        let mut tunnel = tunnel?;
        drop(accepted?);
        tunnel.finish()?;
        tunnel.ended().await;
    }
    meter.stop(count as f64).await
}

/// Resident bytes of an idle connection with one UDP tunnel; with `further` tunnels a connection, of each of those.
pub(crate) async fn memory(subject: &Subject, connections: u64, further: u64) -> Result<Figure, Failure> {
    let mut held = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..WARM_UP {
        clients.push(subject.client().await?);
        held.push(tunnel(clients.last().ok_or("just pushed")?).await?);
    }
    let mut before = rested(subject).await?;
    for _ in 0..connections {
        clients.push(subject.client().await?);
        held.push(tunnel(clients.last().ok_or("just pushed")?).await?);
    }
    if further == 0 {
        return Ok(Figure::of((rested(subject).await? - before) / connections as f64));
    }
    before = rested(subject).await?;
    for client in &clients[WARM_UP as usize..] {
        for _ in 0..further {
            held.push(tunnel(client).await?);
        }
    }
    Ok(Figure::of((rested(subject).await? - before) / (connections * further) as f64))
}

/// What is resident once nothing has happened for a while.
async fn rested(subject: &Subject) -> Result<f64, Failure> {
    sleep(Duration::from_millis(if subject.quick { 100 } else { 1500 })).await;
    resident(subject.pid)
}

/// Those that come first and are not counted: they touch what all share.
const WARM_UP: u64 = 10;
