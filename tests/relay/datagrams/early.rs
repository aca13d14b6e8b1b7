//! Datagrams ahead of the answer to their request.

use std::net::{IpAddr, Ipv4Addr};

use hickory_resolver::proto::op::ResponseCode;
use masque_relay::{
    metrics::{Loss, Way},
    probe::{Http, RawExchange},
};

use crate::support::{
    Client, Relay,
    dns::Reply,
    on_versions,
    tunnels::{assert_echoes_udp, capsule, datagram, payloads},
    udp::UdpTarget,
    until,
};

#[tokio::test]
async fn c56_datagrams_ahead_of_the_answer_are_delivered_after_it() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    client.settings().await.unwrap();
    let head = client.options().udp_head("127.0.0.1", echo.address().port());
    let mut exchange = client.exchange().await.unwrap();
    exchange.send_head(&head).await.unwrap();
    client.send_raw_datagram(datagram(exchange.quarter_id(), b"\0e")).unwrap();
    let mut tunnel = exchange.udp().await.unwrap();
    assert_eq!(tunnel.recv().await.unwrap().payload, "e");
    relay.finish().await;
}

#[tokio::test]
async fn c56_eight_are_held_for_a_slow_answer() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let exchange = ask_slowly(&relay, &client, &Reply::Addresses(vec![LOCALHOST]), echo.address().port()).await;
    for number in 0..12 {
        client.send_raw_datagram(datagram(exchange.quarter_id(), &[0, number])).unwrap();
    }
    lost(&relay, 4).await;
    assert!(echo.so_far().is_empty());

    relay.dns.release();
    let mut tunnel = exchange.udp().await.unwrap();
    assert_eq!(payloads_of(&echo, 8).await, (0..8).map(|number| vec![number]).collect::<Vec<_>>());
    for number in 0..8 {
        assert_eq!(tunnel.recv().await.unwrap().payload, vec![number]);
    }
    assert_echoes_udp(&mut tunnel, b"alive").await;
    assert_eq!(payloads(&echo).len(), 9);
    relay.finish().await;
}

on_versions!(c56_capsules_ahead_of_the_answer_are_delivered_after_it: h1 h2 h3);

async fn c56_capsules_ahead_of_the_answer_are_delivered_after_it(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    relay.dns.always("slow.test", &Reply::Held(Box::new(Reply::Addresses(vec![LOCALHOST]))));
    let mut exchange = client.exchange().await.unwrap();
    exchange.send_head(&client.options().udp_head("slow.test", echo.address().port())).await.unwrap();
    relay.dns.asked("slow.test", 1).await;
    for number in 0..20 {
        exchange.send.send(capsule(&[0], &[0, number])).await.unwrap();
    }
    assert!(echo.so_far().is_empty());

    relay.dns.release();
    let mut tunnel = exchange.udp().await.unwrap();
    for number in 0..20 {
        assert_eq!(tunnel.recv().await.unwrap().payload, vec![number]);
    }
    assert_echoes_udp(&mut tunnel, b"alive").await;
    relay.finish().await;
}

#[tokio::test]
async fn c56_64_kib_are_held_for_a_connection() {
    let relay = Relay::spawn(|_| {}).await;
    let silent = UdpTarget::silent().await;
    let client = relay.client_with(|options| options.datagram_send = 1 << 20).await;
    let mut exchanges = Vec::new();
    for _ in 0..8 {
        exchanges.push(ask_slowly(&relay, &client, &Reply::Addresses(vec![LOCALHOST]), silent.address().port()).await);
    }
    // The context ID counts, as it is held.
    let (size, all) = (1100, 64);
    let held = (64 << 10) / size;
    for exchange in &exchanges {
        for _ in 0..8 {
            client.send_raw_datagram(datagram(exchange.quarter_id(), &vec![0; size])).unwrap();
        }
    }
    lost(&relay, all - held as u64).await;
    relay.dns.release();
    for exchange in exchanges {
        exchange.udp().await.unwrap();
    }
    assert_eq!(silent.received(held).await.len(), held);
    relay.finish().await;
}

#[tokio::test]
async fn c56_a_refusal_discards_what_was_held() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    let mut exchange = ask_slowly(&relay, &client, &Reply::Error(ResponseCode::ServFail), 53).await;
    for _ in 0..3 {
        client.send_raw_datagram(datagram(exchange.quarter_id(), b"\0held")).unwrap();
    }
    // A round trip behind them: they are there.
    let over = client.options().udp_head("127.0.0.1", 0);
    assert_eq!(client.request(&over).await.unwrap().answer().await.unwrap().status, 400);
    relay.dns.release();
    assert_eq!(exchange.answer().await.unwrap().status, 502);
    lost(&relay, 3).await;
    relay.finish().await;
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A CONNECT-UDP whose name is being looked up until the name server's release.
async fn ask_slowly(relay: &Relay, client: &Client, reply: &Reply, port: u16) -> RawExchange {
    client.settings().await.unwrap();
    let exchange = client.exchange().await.unwrap();
    let name = format!("slow{}.test", exchange.id());
    relay.dns.always(&name, &Reply::Held(Box::new(reply.clone())));
    let mut exchange = exchange;
    exchange.send_head(&client.options().udp_head(&name, port)).await.unwrap();
    relay.dns.asked(&name, 1).await;
    exchange
}

/// So many datagrams found no tunnel.
async fn lost(relay: &Relay, count: u64) {
    until(&format!("{count} datagrams to be lost"), || relay.metrics().lost(Way::Out, Loss::NoTunnel), |lost| *lost == count).await;
}

async fn payloads_of(target: &UdpTarget, count: usize) -> Vec<Vec<u8>> {
    target.received(count).await.into_iter().map(|packet| packet.payload).collect()
}
