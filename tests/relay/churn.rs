//! Tunnels opened and abandoned in every way leave nothing behind: `finish` counts descriptors, tunnels and threads.

use masque_relay::{probe::Client, proto::codes::h3};

use crate::support::{
    Relay,
    tcp::{TcpEcho, TcpTarget, reset},
    udp::UdpTarget,
};

/// Tunnels in all. Each of the ten ways takes its turn.
const TUNNELS: usize = 10_000;
/// One connection is lost with its tunnels after so many.
const PER_CONNECTION: usize = 250;

#[tokio::test]
async fn c72_ten_thousand_abandoned_tunnels_leave_nothing_behind() {
    let relay = Relay::spawn(|_| {}).await;
    let (echo, target, silent) = (TcpEcho::start().await, TcpTarget::start().await, UdpTarget::silent().await);
    for _ in 0..TUNNELS / PER_CONNECTION {
        let client = relay.client().await;
        for number in 0..PER_CONNECTION {
            abandon(number % 10, &client, &echo, &target, &silent).await;
        }
        client.close(h3::NO_ERROR, b"lost with all its tunnels");
        client.shut().await;
    }
    relay.finish().await;
}

async fn abandon(way: usize, client: &Client, echo: &TcpEcho, target: &TcpTarget, silent: &UdpTarget) {
    let (host, port) = (silent.address().ip().to_string(), silent.address().port());
    if let 0..=4 = way {
        let to = if way == 4 { target.address() } else { echo.address() };
        let mut tunnel = client.connect_tcp(&to.to_string()).await.unwrap();
        match way {
            0 => tunnel.finish().unwrap(),
            1 => tunnel.reset(h3::REQUEST_CANCELLED).unwrap(),
            2 => tunnel.stop(h3::REQUEST_CANCELLED).unwrap(),
            3 => drop(tunnel),
            _ => {
                reset(target.accept().await);
                tunnel.ended().await;
            }
        }
    } else {
        let mut tunnel = client.connect_udp(&host, port).await.unwrap();
        match way {
            5 => tunnel.finish().unwrap(),
            6 => tunnel.reset(h3::REQUEST_CANCELLED).unwrap(),
            7 => tunnel.stop(h3::REQUEST_CANCELLED).unwrap(),
            8 => drop(tunnel),
            _ => {
                tunnel.finish().unwrap();
                tunnel.ended().await;
            }
        }
    }
}
