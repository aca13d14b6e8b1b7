//! Faults of tunnels: bytes that do not go on, payloads that are lost, late or misaddressed.

use std::time::Duration;

use bytes::Bytes;
use masque_relay::{
    fault::Fault,
    metrics::{Loss, Way},
    probe::{Http, StreamEnd},
};
use tokio::time::Instant;

use super::{open, shows, tcp, udp};
use crate::support::{Relay, tcp::TcpEcho, tunnels::capsule_client, udp::UdpTarget, until};

/// Sends 4,000 bytes to an echo; gives how many come back.
async fn echoed(relay: &Relay, http: Http) -> usize {
    let echo = TcpEcho::start().await;
    let client = open(relay, http).await;
    let mut tunnel = tcp(&client, &echo).await.unwrap();
    tunnel.send(Bytes::from_static(&[7; 4000])).await.unwrap();
    let mut back = 0;
    while back < 4000 {
        match tunnel.recv().await {
            Ok(Some(bytes)) => back += bytes.len(),
            Err(StreamEnd::TimedOut) => break,
            end => panic!("{http}: {end:?}"),
        }
    }
    back
}

#[tokio::test]
async fn tcp_blackhole() {
    shows("tcp-blackhole", async |relay, http| {
        let back = echoed(relay, http).await;
        assert!([0, 4000].contains(&back), "{back} of 4000 bytes");
        back == 0
    })
    .await;
}

#[tokio::test]
async fn stall() {
    shows("stall=1000", async |relay, http| {
        let back = echoed(relay, http).await;
        assert!([1000, 4000].contains(&back), "{back} of 4000 bytes");
        back == 1000
    })
    .await;
}

/// A tunnel that stalls is over when its client goes: nothing is left hanging.
#[tokio::test]
async fn a_tunnel_that_carries_nothing_still_ends() {
    for fault in ["tcp-blackhole", "stall=5"] {
        let relay = Relay::spawn(|config| (config.fault.allow, config.fault.on) = (true, vec![fault.parse().unwrap()])).await;
        let echo = TcpEcho::start().await;
        for http in [Http::H3, Http::H2] {
            let client = relay.client_over(http).await;
            let mut tunnel = client.connect_tcp(&echo.address().to_string()).await.unwrap();
            tunnel.send(Bytes::from_static(b"there and back")).await.unwrap();
            tunnel.reset_as(masque_relay::ended::Reset::Cancelled).unwrap();
        }
        until("the tunnels to end", || relay.metrics().tunnels_open, |open| *open == 0).await;
        relay.finish().await;
    }
}

/// Whether a payload comes back from an echo, and after how long.
async fn answered(relay: &Relay, http: Http) -> Option<Duration> {
    let echo = UdpTarget::echo().await;
    let mut client = super::options(relay, http);
    client.patience = Some(crate::support::PATIENCE);
    let client = masque_relay::probe::Client::open(client).await.unwrap();
    let mut tunnel = udp(&client, &echo).await.unwrap();
    let sent = Instant::now();
    tunnel.send_either(b"there and back").await.unwrap();
    tunnel.recv().await.ok().map(|packet| {
        assert_eq!(packet.payload, "there and back");
        sent.elapsed()
    })
}

#[tokio::test]
async fn datagram_drop() {
    shows("datagram-drop=1", async |relay, http| {
        let echo = UdpTarget::echo().await;
        let client = open(relay, http).await;
        let mut tunnel = udp(&client, &echo).await.unwrap();
        tunnel.send_either(b"there and back").await.unwrap();
        tunnel.recv().await.is_err()
    })
    .await;
}

#[tokio::test]
async fn datagram_delay() {
    shows("datagram-delay=1200", async |relay, http| answered(relay, http).await.expect("an answer") >= Duration::from_millis(1200)).await;
}

/// Sends 40 payloads, of which 20 are to be lost on the whole; gives those that the target got.
async fn survivors(seed: u64) -> Vec<u8> {
    let relay = Relay::spawn(|config| {
        config.fault.allow = true;
        (config.fault.on, config.fault.seed) = (vec!["datagram-drop=0.5".parse().unwrap()], seed);
    })
    .await;
    let target = UdpTarget::silent().await;
    // Capsules come in order, and none is lost on the way.
    let client = relay.client_over(Http::H2).await;
    let mut tunnel = udp(&client, &target).await.unwrap();
    for number in 0..40 {
        tunnel.send_capsule(&[number]).await.unwrap();
    }
    let settled = || relay.metrics().lost(Way::Out, Loss::Fault) + relay.metrics().packets[Way::Out as usize];
    until("40 payloads to be sent or lost", settled, |count| *count == 40).await;
    let sent = relay.metrics().packets[Way::Out as usize] as usize;
    let got = target.received(sent).await.into_iter().map(|packet| packet.payload[0]).collect();
    relay.finish().await;
    got
}

#[tokio::test]
async fn what_is_random_is_the_seeds() {
    let once = survivors(7).await;
    assert_eq!(survivors(7).await, once);
    assert_ne!(survivors(8).await, once);
    assert!((5..35).contains(&once.len()), "{once:?}");
}

#[tokio::test]
async fn datagram_context() {
    shows("datagram-context", async |relay, http| {
        let echo = UdpTarget::echo().await;
        let client = open(relay, http).await;
        let mut tunnel = udp(&client, &echo).await.unwrap();
        tunnel.send_either(b"there and back").await.unwrap();
        let came = tunnel.recv().await.is_ok();
        assert_eq!(tunnel.strange(), u64::from(!came), "{http}");
        !came
    })
    .await;
}

/// Capsules on HTTP/3 too.
#[tokio::test]
async fn datagram_context_in_capsules() {
    let relay = Relay::spawn(|config| (config.fault.allow, config.fault.on) = (true, vec![Fault::DatagramContext])).await;
    let echo = UdpTarget::echo().await;
    let client = capsule_client(&relay, Http::H3, 1 << 20).await;
    let mut exchange = client.request(&client.options().udp_head(&echo.address().ip().to_string(), echo.address().port())).await.unwrap();
    assert_eq!(exchange.answer().await.unwrap().status, 200);
    // DATAGRAM (RFC 9297 §3.5), two bytes: context 0 and a payload.
    exchange.send.send(Bytes::from_static(&[0, 2, 0, 7])).await.unwrap();
    assert_eq!(exchange.recv.recv().await.unwrap().unwrap()[..], [0, 2, 1, 7]);
    relay.finish().await;
}

#[tokio::test]
async fn datagram_stream() {
    shows("datagram-stream", async |relay, http| {
        let echo = UdpTarget::echo().await;
        let client = open(relay, http).await;
        let mut tunnel = udp(&client, &echo).await.unwrap();
        tunnel.send_either(b"there and back").await.unwrap();
        if tunnel.recv().await.is_ok() {
            return false;
        }
        let strays = client.stray_datagrams();
        assert_eq!(strays, [(tunnel.quarter_id() + 1, Bytes::from_static(b"\0there and back"))]);
        true
    })
    .await;
}
