//! Tunnels opened and abandoned in every way leave nothing behind: `finish` counts descriptors, tunnels and threads, and a relay of its own process
//! shows its memory.

use std::net::Ipv4Addr;

use masque_relay::{ended::Reset, probe::Http, proto::codes::h3};

use crate::support::{
    Client, Relay,
    process::{Memory, RelayProcess},
    tcp::{TcpEcho, TcpTarget, reset},
    udp::UdpTarget,
};

/// Tunnels in all. Each of the ways takes its turn.
const TUNNELS: usize = 10_000;
/// Ways to abandon a tunnel.
const WAYS: usize = 13;
/// One connection is lost with its tunnels after so many.
const PER_CONNECTION: usize = 250;

#[tokio::test]
async fn c72_ten_thousand_abandoned_tunnels_leave_nothing_behind() {
    let relay = Relay::spawn(|_| {}).await;
    let targets = Targets::start().await;
    for connection in 0..TUNNELS / PER_CONNECTION {
        targets.churn(relay.client_over(http(connection)).await).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c72_memory_after_ten_thousand_abandoned_tunnels_is_that_after_one_thousand() {
    let relay = RelayProcess::start("");
    let targets = Targets::start().await;
    let idle = relay.descriptors();
    let mut memory = Vec::new();
    for connection in 1..=TUNNELS / PER_CONNECTION {
        targets.churn(relay.client_over(http(connection)).await).await;
        if (connection * PER_CONNECTION).is_multiple_of(1000) {
            relay.descriptors_back_at(idle).await;
            memory.push(relay.memory());
        }
    }
    for Memory { rss, anonymous, .. } in &memory {
        println!("after another 1,000 tunnels: RSS {rss} KiB, of it {anonymous} KiB heap and stacks");
    }
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    assert!(last.rss * 10 <= first.rss * 11, "it grows: {memory:#?}");
    // Most of the RSS is the program itself. This is less than 64 bytes a tunnel, the least that a leak costs.
    assert!(last.anonymous <= first.anonymous + 512, "its heap grows: {memory:#?}");
    relay.finish().await;
}

/// HTTP/3 and HTTP/2 take turns.
fn http(connection: usize) -> Http {
    if connection.is_multiple_of(2) { Http::H3 } else { Http::H2 }
}

/// Where the tunnels lead.
struct Targets {
    echo: TcpEcho,
    target: TcpTarget,
    silent: UdpTarget,
    chatty: UdpTarget,
}

impl Targets {
    async fn start() -> Self {
        let chatty = UdpTarget::start(Ipv4Addr::LOCALHOST.into(), |payload| vec![payload.to_vec(); 20]);
        Self { echo: TcpEcho::start().await, target: TcpTarget::start().await, silent: UdpTarget::silent().await, chatty: chatty.await }
    }

    /// One connection's tunnels, and its end.
    async fn churn(&self, client: Client) {
        for number in 0..PER_CONNECTION {
            abandon(number % WAYS, &client, self).await;
        }
        client.close(h3::NO_ERROR, b"lost with all its tunnels");
        client.shut().await;
    }
}

async fn abandon(way: usize, client: &Client, targets: &Targets) {
    if let 0..=6 = way {
        let to = if way == 4 { targets.target.address() } else { targets.echo.address() };
        let mut tunnel = client.connect_tcp(&to.to_string()).await.unwrap();
        match way {
            0 => tunnel.finish().unwrap(),
            1 => tunnel.reset_as(Reset::Cancelled).unwrap(),
            2 => tunnel.stop_as(Reset::Cancelled).unwrap(),
            3 => drop(tunnel),
            4 => {
                reset(targets.target.accept().await);
                tunnel.ended().await;
            }
            // Data on its way in both directions.
            5 => {
                tunnel.send(vec![5; 40_000].into()).await.unwrap();
                tunnel.recv().await.unwrap();
                tunnel.reset_as(Reset::Cancelled).unwrap();
            }
            _ => {
                tunnel.send(vec![6; 40_000].into()).await.unwrap();
                drop(tunnel);
            }
        }
    } else {
        let to = if way > 10 { targets.chatty.address() } else { targets.silent.address() };
        let mut tunnel = client.connect_udp(&to.ip().to_string(), to.port()).await.unwrap();
        match way {
            7 => tunnel.finish().unwrap(),
            8 => tunnel.reset_as(Reset::Cancelled).unwrap(),
            9 => tunnel.stop_as(Reset::Cancelled).unwrap(),
            10 => {
                tunnel.finish().unwrap();
                tunnel.ended().await;
            }
            // Packets on their way back.
            11 => {
                tunnel.send_either(&[11; 1000]).await.unwrap();
                drop(tunnel);
            }
            _ => {
                tunnel.send_capsule(&[12; 1000]).await.unwrap();
                tunnel.recv().await.unwrap();
                drop(tunnel);
            }
        }
    }
}
