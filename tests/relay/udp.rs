//! Section G: the UDP socket towards a target. What ends it from outside is below.

mod unreachable;
mod wire;

use std::{net::UdpSocket, time::Duration};

use masque_relay::{
    ended::Reset,
    metrics::Way,
    probe::{Http, StreamEnd},
    proto::codes::h3,
};
use tokio::time::interval;

use crate::support::{
    Relay, descriptors, on_versions,
    tunnels::{assert_echoes_udp, open_udp, payloads, upstream},
    udp::UdpTarget,
    until,
};

on_versions!(c67_only_the_targets_own_packets_reach_the_client: h1 h2 h3);

async fn c67_only_the_targets_own_packets_reach_the_client(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    let mut tunnel = open_udp(&client, &echo).await;
    let upstream = upstream(&mut tunnel, &echo).await;
    assert_eq!(tunnel.recv().await.unwrap().payload, "where are you");

    // The same address on another port, another address on the same port.
    let spoofers = [UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind(("127.0.0.2", echo.address().port()))].map(Result::unwrap);
    for spoofer in &spoofers {
        spoofer.send_to(b"not from your target", upstream).unwrap();
    }
    for _ in 0..3 {
        assert_echoes_udp(&mut tunnel, b"from your target").await;
    }
    until("the packets to be counted", || relay.metrics().packets[Way::Back as usize], |packets| *packets == 4).await;
    relay.finish().await;
}

on_versions!(c70_an_idle_tunnel_ends_with_its_socket: h1 h2 h3);

async fn c70_an_idle_tunnel_ends_with_its_socket(http: Http) {
    let relay = Relay::spawn(|config| config.timeouts.udp_idle = Duration::from_millis(300)).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    let mut tunnel = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut tunnel, b"once").await;
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
    descriptors::none_towards(echo.address()).await;
    relay.finish().await;
}

on_versions!(c70_packets_of_either_direction_keep_a_tunnel: h1 h2 h3);

async fn c70_packets_of_either_direction_keep_a_tunnel(http: Http) {
    let relay = Relay::spawn(|config| {
        config.timeouts.udp_idle = Duration::from_millis(1500);
        config.limits.unanswered_packets = 10_000;
    })
    .await;
    let [out, back, quiet] = [UdpTarget::silent().await, UdpTarget::silent().await, UdpTarget::silent().await];
    let client = relay.client_over(http).await;
    let (mut talking, mut listening) = (open_udp(&client, &out).await, open_udp(&client, &back).await);
    let upstream = upstream(&mut listening, &back).await;
    // Two quiet tunnels, one after the other, are the clock: the others live for twice the limit.
    let clock = async {
        for _ in 0..2 {
            assert_eq!(open_udp(&client, &quiet).await.ended().await, StreamEnd::Finished);
        }
    };
    let mut ticks = interval(Duration::from_millis(20));
    let talk = async {
        loop {
            ticks.tick().await;
            talking.send_either(b"out").await.unwrap();
            back.send_now(b"back", upstream);
        }
    };
    tokio::select! {
        () = clock => {}
        () = talk => {}
    }
    // The client may hear of an end before it is counted.
    until("both quiet tunnels to be counted", || relay.metrics().ended.get("idle").copied(), |idle| *idle == Some(2)).await;
    assert_eq!(listening.recv().await.unwrap().payload, "back");
    talking.send_either(b"still here").await.unwrap();
    until("a packet through the tunnel", || payloads(&out), |all| all.iter().any(|payload| payload == b"still here")).await;
    relay.finish().await;
}

#[test]
fn c70_the_default_is_two_minutes_at_least() {
    assert!(masque_relay::config::Config::default().timeouts.udp_idle >= Duration::from_secs(120));
}

on_versions!(c72_every_end_by_the_client_closes_the_socket: h1 h2 h3);

async fn c72_every_end_by_the_client_closes_the_socket(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    for end in 0..4 {
        let mut tunnel = open_udp(&client, &echo).await;
        assert_echoes_udp(&mut tunnel, b"open").await;
        match end {
            0 => tunnel.finish().unwrap(),
            1 => tunnel.reset_as(Reset::Cancelled).unwrap(),
            2 => tunnel.stop_as(Reset::Cancelled).unwrap(),
            _ => client.close(h3::NO_ERROR, b""),
        }
        descriptors::none_towards(echo.address()).await;
    }
    relay.finish().await;
}

on_versions!(c73_packets_to_a_silent_target_are_capped_until_it_answers: h1 h2 h3);

async fn c73_packets_to_a_silent_target_are_capped_until_it_answers(http: Http) {
    let relay = Relay::spawn(|config| config.limits.unanswered_packets = 5).await;
    let (silent, other, echo) = (UdpTarget::silent().await, UdpTarget::silent().await, UdpTarget::echo().await);
    let client = relay.client_over(http).await;
    let mut tunnel = open_udp(&client, &silent).await;
    for _ in 0..20 {
        tunnel.send_capsule(b"hello?").await.unwrap();
    }
    // FIN is behind the capsules: once it is answered, all have been looked at.
    tunnel.finish().unwrap();
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
    assert_eq!(silent.received(5).await.len(), 5);

    let mut tunnel = open_udp(&client, &other).await;
    for _ in 0..5 {
        tunnel.send_capsule(b"hello?").await.unwrap();
    }
    let from = other.received(5).await[0].from;
    other.send(b"here", from).await;
    assert_eq!(tunnel.recv().await.unwrap().payload, "here");
    for _ in 0..20 {
        tunnel.send_capsule(b"again").await.unwrap();
    }
    assert_eq!(other.received(25).await.len(), 25);

    let mut tunnel = open_udp(&client, &echo).await;
    for _ in 0..20 {
        assert_echoes_udp(&mut tunnel, b"answered").await;
    }
    relay.finish().await;
}
