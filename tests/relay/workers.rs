//! Several workers on one port: clients stay with theirs wherever they move, and no worker waits for another.

use masque_relay::{metrics::Snapshot, probe::Http};
use tokio::task::JoinSet;

use crate::support::{
    Client, Relay,
    dns::Reply,
    tcp::TcpEcho,
    tunnels::{assert_echoes, assert_echoes_udp, open_tcp, open_udp},
    udp::UdpTarget,
    until, within,
};

const WORKERS: usize = 4;
const CLIENTS: usize = 40;

async fn relay() -> Relay {
    Relay::spawn(|config| config.workers = WORKERS).await
}

/// Connected clients.
async fn clients(relay: &Relay, http: Http) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(relay.client_over(http).await);
    }
    clients
}

fn open_now(workers: &[Snapshot]) -> Vec<u64> {
    workers.iter().map(|worker| worker.connections_open).collect()
}

/// The kernel's hash decides which worker gets a connection. All of forty on fewer than three of four workers happens once in 10^11 times.
#[tokio::test]
async fn connections_spread_over_the_workers() {
    let relay = relay().await;
    let mut held = Vec::new();
    for http in [Http::H3, Http::H2] {
        let before: Vec<_> = relay.workers().iter().map(|worker| worker.connections).collect();
        held.extend(clients(&relay, http).await);
        until("all to be counted", || relay.metrics().connections_open, |open| *open == held.len() as u64).await;
        let busy = relay.workers().iter().zip(before).filter(|(worker, before)| worker.connections > *before).count();
        assert!(busy >= 3, "{http:?}: {:?}", open_now(&relay.workers()));
    }
    drop(held);
    relay.finish().await;
}

#[tokio::test]
async fn c80_forty_clients_move_and_forty_stay_with_their_worker() {
    let relay = relay().await;
    let (udp, tcp) = (UdpTarget::echo().await, TcpEcho::start().await);
    let mut held = Vec::new();
    for client in clients(&relay, Http::H3).await {
        let tunnels = (open_udp(&client, &udp).await, open_tcp(&client, &tcp).await);
        held.push((client, tunnels));
    }
    let before = open_now(&relay.workers());
    for round in 0..3 {
        for (client, _) in &held {
            client.rebind().unwrap();
        }
        for (number, (_, (udp, tcp))) in held.iter_mut().enumerate() {
            assert_echoes(tcp).await;
            assert_echoes_udp(udp, format!("{round} {number}").as_bytes()).await;
        }
    }
    assert_eq!(open_now(&relay.workers()), before);
    assert_eq!(before.iter().sum::<u64>(), CLIENTS as u64);
    assert_eq!(tcp.accepted(), CLIENTS);
    drop(held);
    relay.finish().await;
}

/// One connection keeps its worker busy with requests as fast as it can; those of the other workers are served as if nothing were.
#[tokio::test]
async fn a_busy_worker_delays_nobody_elses_clients() {
    let relay = relay().await;
    relay.dns.always("nobody.test", &Reply::Silence);
    let (echo, udp) = (TcpEcho::start().await, UdpTarget::silent().await);
    let busy = relay.client().await;
    let flooded = open_udp(&busy, &udp).await;
    let mut floods = JoinSet::new();
    floods.spawn(async move {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(1));
        loop {
            ticks.tick().await;
            for _ in 0..32 {
                flooded.send(&[0; 1200]).unwrap_or_default();
            }
        }
    });
    for client in clients(&relay, Http::H3).await {
        let mut tunnel = within("a tunnel", async { open_tcp(&client, &echo).await }).await;
        within("an echo", assert_echoes(&mut tunnel)).await;
    }
    floods.shutdown().await;
    drop(busy);
    relay.finish().await;
}

#[tokio::test]
async fn c79_all_workers_drain_together() {
    let mut relay = relay().await;
    let echo = TcpEcho::start().await;
    let mut held = Vec::new();
    for http in [Http::H3, Http::H2] {
        for client in clients(&relay, http).await {
            let tunnel = open_tcp(&client, &echo).await;
            held.push((client, tunnel));
        }
    }
    let server = relay.take_server();
    let ending = async {
        for (client, tunnel) in &mut held {
            client.goaway(1).await.unwrap();
            assert_echoes(tunnel).await;
            tunnel.finish().unwrap();
            tunnel.ended().await;
        }
    };
    let (cut, ()) = tokio::join!(server.drain(crate::support::PATIENCE), ending);
    assert_eq!(cut, 0);
    relay.finish().await;
}
