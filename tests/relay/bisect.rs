//! Switches for bisection: each can be seen on the wire. Retry, which is one of them, is `c80_…` in `connection`; the reserved transport parameter
//! is seen in `listener/grease.rs`, since it is sealed on the wire.

use masque_relay::{
    config::Bisect,
    probe::{self, Http, ProbeError},
    proto::settings::{ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM},
};

use crate::support::{
    Relay, tap,
    tap::Tap,
    tcp::TcpEcho,
    tunnels::{assert_echoes, assert_echoes_udp, open_udp},
    udp::UdpTarget,
    until,
};

/// RFC 9221 §3.
const MAX_DATAGRAM_FRAME_SIZE: u64 = 0x20;
/// RFC 9287 §3.
const GREASE_QUIC_BIT: u64 = 0x2ab2;

async fn relay(change: impl FnOnce(&mut Bisect)) -> Relay {
    Relay::spawn(|config| change(&mut config.bisect)).await
}

/// Whether the relay sends this transport parameter.
async fn sends(relay: &Relay, parameter: u64) -> bool {
    let options = relay.options();
    let parameters = options.parameters.clone();
    relay.open(options).await;
    assert!(parameters.came());
    parameters.has(parameter)
}

#[tokio::test]
async fn grease() {
    for on in [true, false] {
        let relay = relay(|bisect| bisect.grease = on).await;
        assert_eq!(sends(&relay, GREASE_QUIC_BIT).await, on);
        relay.finish().await;
    }
}

#[tokio::test]
async fn datagrams() {
    for on in [true, false] {
        let relay = relay(|bisect| bisect.datagrams = on).await;
        assert_eq!(sends(&relay, MAX_DATAGRAM_FRAME_SIZE).await, on);
        relay.finish().await;
    }
}

/// Without it UDP tunnels go on, in capsules.
#[tokio::test]
async fn h3_datagram() {
    for on in [true, false] {
        let relay = relay(|bisect| bisect.h3_datagram = on).await;
        let echo = UdpTarget::echo().await;
        let client = relay.client().await;
        assert_eq!(client.settings().await.unwrap().get(H3_DATAGRAM) == Some(1), on);
        let mut tunnel = open_udp(&client, &echo).await;
        assert_eq!(tunnel.carries_datagrams(), on);
        assert_echoes_udp(&mut tunnel, b"there and back").await;
        relay.finish().await;
    }
}

#[tokio::test]
async fn extended_connect() {
    for on in [true, false] {
        let relay = relay(|bisect| bisect.extended_connect = on).await;
        for http in [Http::H3, Http::H2] {
            let client = relay.client_over(http).await;
            assert_eq!(client.settings().await.unwrap().get(ENABLE_CONNECT_PROTOCOL) == Some(1), on, "{http}");
            // And the record says what was sent.
            let number = if http == Http::H3 { 3 } else { 2 };
            let record = relay.recorded("SETTINGS", |record| record.http == Some(number) && !record.settings_sent.is_empty()).await;
            assert_eq!(record.settings_sent.contains(&(ENABLE_CONNECT_PROTOCOL, 1)), on, "{http}");
            let echo = TcpEcho::start().await;
            assert_echoes(&mut client.connect_tcp(&echo.address().to_string()).await.unwrap()).await;
        }
        relay.finish().await;
    }
}

#[tokio::test]
async fn new_token() {
    for on in [true, false] {
        let relay = relay(|bisect| bisect.new_token = on).await;
        let client = relay.client().await;
        let received = || client.quinn().stats().frame_rx.new_token;
        if on {
            until("a NEW_TOKEN frame", received, |count| *count > 0).await;
        }
        // What comes behind it has come.
        let echo = TcpEcho::start().await;
        assert_echoes(&mut client.connect_tcp(&echo.address().to_string()).await.unwrap()).await;
        assert_eq!(received() > 0, on);
        relay.finish().await;
    }
}

#[tokio::test]
async fn mtu_discovery() {
    for on in [true, false] {
        let relay = relay(|bisect| bisect.mtu_discovery = on).await;
        let tap = Tap::on(&relay).await;
        let client = tap.client(&relay).await;
        let largest = || tap.said().iter().map(Vec::len).max().unwrap_or_default();
        if on {
            until("a packet above 1350 bytes", largest, |size| *size > 1350).await;
        }
        let echo = TcpEcho::start().await;
        let mut tunnel = client.connect_tcp(&echo.address().to_string()).await.unwrap();
        for _ in 0..20 {
            assert_echoes(&mut tunnel).await;
        }
        assert_eq!(largest() > 1350, on);
        drop(tunnel);
        client.shut().await;
        drop(tap);
        relay.finish().await;
    }
}

#[tokio::test]
async fn cid_length() {
    for length in [4, 8, 20] {
        let relay = relay(|bisect| bisect.cid_length = length).await;
        let said = tap::handshake(&relay).await;
        assert_eq!(tap::source_id_length(&said[0]), usize::from(length));
        relay.finish().await;
    }
}

/// No UDP tunnel may be asked for where the relay does not announce extended CONNECT.
#[tokio::test]
async fn a_strict_client_does_without_what_is_not_announced() {
    let relay = relay(|bisect| bisect.extended_connect = false).await;
    let client = probe::Client::open(relay.options()).await.unwrap();
    let error = client.connect_udp("127.0.0.1", 9).await.unwrap_err();
    assert!(matches!(error, ProbeError::Unsupported(_)), "{error}");
    client.shut().await;
    relay.finish().await;
}
