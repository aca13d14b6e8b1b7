//! What it takes to begin: connections, tunnels, and the memory of both.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use masque_relay::{
    ended::Reset,
    probe::{Client, Http, Options, UdpTunnel},
};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

use crate::{
    Failure,
    floor::Floor,
    meter::{Figure, Meter, resident},
    subject::{On, Subject},
    wire::{Socket, tunnel},
};

/// New connections by full handshakes, each with a UDP tunnel on it.
pub(crate) async fn connections(subject: &Subject, http: Http, post_quantum: bool, count: u64) -> Result<Figure, Failure> {
    let target = Socket::bind()?.address()?;
    let host = target.ip().to_string();
    repeat(subject, count, async || {
        if subject.on == On::Floor(Floor::Quinn) {
            let (_endpoint, connection) = subject.quinn().await?;
            connection.close(0_u32.into(), b"");
            return Ok(());
        }
        let change = |options: &mut Options| (options.http, options.post_quantum) = (http, post_quantum);
        let client = subject.client_with(change).await?;
        Ok(client.connect_udp(&host, target.port()).await?.finish()?)
    })
    .await
}

/// New UDP tunnels on one connection, each cancelled at once: what a client does whose TCP connection won.
pub(crate) async fn udp_tunnels(subject: &Subject, http: Http, count: u64) -> Result<Figure, Failure> {
    let target = Socket::bind()?.address()?;
    let (host, client) = (target.ip().to_string(), subject.client(http).await?);
    repeat(subject, count, async || {
        let mut tunnel = client.connect_udp(&host, target.port()).await?;
        tunnel.reset_as(Reset::Cancelled)?;
        Ok(tunnel.stop_as(Reset::Cancelled)?)
    })
    .await
}

/// The same over TCP.
pub(crate) async fn tcp_tunnels(subject: &Subject, http: Http, count: u64) -> Result<Figure, Failure> {
    let (target, client) = (TcpListener::bind(("127.0.0.1", 0)).await?, subject.client(http).await?);
    let authority = target.local_addr()?.to_string();
    let mut accepting = JoinSet::new();
    // Each ends as soon as it is there.
    accepting.spawn(async move { while target.accept().await.is_ok() {} });
    repeat(subject, count, async || {
        let mut tunnel = client.connect_tcp(&authority).await?;
        tunnel.finish()?;
        tunnel.ended().await;
        Ok(())
    })
    .await
}

/// CPU for one of `count` times `one`, some of them at once; a few are done before to warm up.
async fn repeat(subject: &Subject, count: u64, one: impl AsyncFn() -> Result<(), Failure>) -> Result<Figure, Failure> {
    let some = |count| stream::iter(0..count).map(Ok).try_for_each_concurrent(AT_ONCE, |_| one());
    some(WARM_UP).await?;
    let meter = Meter::start(subject.pid).await?;
    some(count).await?;
    meter.stop(count as f64).await
}

/// Resident bytes of an idle connection with one UDP tunnel; with `further` tunnels a connection, of each of those.
pub(crate) async fn memory(subject: &Subject, http: Http, connections: u64, further: u64) -> Result<Figure, Failure> {
    let mut held = Vec::new();
    let _warm = connected(subject, http, &mut held, WARM_UP).await?;
    let mut before = rested(subject).await?;
    let clients = connected(subject, http, &mut held, connections).await?;
    if further == 0 {
        return Ok(Figure::of((rested(subject).await? - before) / connections as f64));
    }
    before = rested(subject).await?;
    for client in &clients {
        for _ in 0..further {
            held.push(tunnel(client).await?);
        }
    }
    Ok(Figure::of((rested(subject).await? - before) / (connections * further) as f64))
}

/// `count` connections with a tunnel each.
async fn connected(subject: &Subject, http: Http, held: &mut Vec<(UdpTunnel, Socket)>, count: u64) -> Result<Vec<Client>, Failure> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = subject.client(http).await?;
        held.push(tunnel(&client).await?);
        clients.push(client);
    }
    Ok(clients)
}

/// What is resident once nothing has happened for a while.
async fn rested(subject: &Subject) -> Result<f64, Failure> {
    sleep(Duration::from_millis(if subject.quick { 100 } else { 1500 })).await;
    resident(subject.pid)
}

/// Those that come first and are not counted: they touch what all share.
const WARM_UP: u64 = 10;

/// What is set up at the same time.
const AT_ONCE: usize = 8;
