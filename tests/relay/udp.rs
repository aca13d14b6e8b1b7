//! Section G: the UDP socket towards a target.

use std::time::Duration;

use masque_relay::{probe::StreamEnd, proto::codes::h3};

use crate::support::{
    Relay, descriptors,
    tunnels::{assert_echoes_udp, open_udp},
    udp::{self, UdpTarget},
};

#[tokio::test]
async fn c68_a_closed_port_ends_the_tunnel() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    let closed = udp::closed_port();
    let mut tunnel = client.connect_udp("127.0.0.1", closed.port()).await.unwrap();
    tunnel.send(b"anyone?").unwrap();
    let end = tunnel.ended().await;
    assert!(matches!(end, StreamEnd::Reset(_) | StreamEnd::Finished), "{end:?}");
    descriptors::none_towards(closed).await;
    relay.finish().await;
}

#[tokio::test]
async fn c70_an_idle_tunnel_ends_with_its_socket() {
    let relay = Relay::spawn(|config| config.timeouts.udp_idle = Duration::from_millis(300)).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut tunnel, b"once").await;
    let end = tunnel.ended().await;
    assert!(matches!(end, StreamEnd::Reset(_) | StreamEnd::Finished), "{end:?}");
    descriptors::none_towards(echo.address()).await;
    relay.finish().await;
}

#[test]
fn c70_the_default_is_two_minutes_at_least() {
    assert!(masque_relay::config::Config::default().timeouts.udp_idle >= Duration::from_secs(120));
}

#[tokio::test]
async fn c72_every_end_by_the_client_closes_the_socket() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    for end in 0..4 {
        let mut tunnel = open_udp(&client, &echo).await;
        assert_echoes_udp(&mut tunnel, b"open").await;
        match end {
            0 => tunnel.finish().unwrap(),
            1 => tunnel.reset(h3::REQUEST_CANCELLED).unwrap(),
            2 => tunnel.stop(h3::REQUEST_CANCELLED).unwrap(),
            _ => client.close(h3::NO_ERROR, b""),
        }
        descriptors::none_towards(echo.address()).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c73_packets_to_a_silent_target_are_capped_until_it_answers() {
    let relay = Relay::spawn(|config| config.limits.unanswered_packets = 5).await;
    let (silent, other, echo) = (UdpTarget::silent().await, UdpTarget::silent().await, UdpTarget::echo().await);
    let client = relay.client().await;
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
