//! Section I: the life of a relay and of its tunnels. How it is drained is below.

mod drain;

use masque_relay::{
    probe::{self, Http, ProbeError, StreamEnd},
    proto::codes::h3,
};
use quinn::ConnectionError;

use crate::support::{
    Client, Relay, on_versions,
    tcp::TcpEcho,
    tunnels::{assert_echoes, assert_echoes_udp, open_tcp, open_udp},
    udp::UdpTarget,
    until,
};

#[tokio::test]
async fn c80_tunnels_outlive_a_change_of_address() {
    let relay = Relay::spawn(|_| {}).await;
    let (echo, target) = (UdpTarget::echo().await, TcpEcho::start().await);
    let client = relay.client().await;
    let (mut udp, mut tcp) = (open_udp(&client, &echo).await, open_tcp(&client, &target).await);
    assert_echoes_udp(&mut udp, b"before").await;
    client.rebind().unwrap();
    assert_echoes(&mut tcp).await;
    assert_echoes_udp(&mut udp, b"after").await;
    assert_eq!((target.accepted(), echo.so_far().len()), (1, 2));
    relay.finish().await;
}

on_versions!(c80_a_tunnel_beyond_a_limit_is_503_until_another_ends: h1 h2 h3);

async fn c80_a_tunnel_beyond_a_limit_is_503_until_another_ends(http: Http) {
    // Over HTTP/1.1 a connection is a tunnel.
    let limits = if http == Http::H1 { &[true][..] } else { &[true, false] };
    for &all in limits {
        let relay = Relay::spawn(|config| {
            let limit = if all { &mut config.limits.tunnels } else { &mut config.limits.tunnels_per_connection };
            *limit = 2;
        })
        .await;
        let (udp, tcp) = (UdpTarget::echo().await, TcpEcho::start().await);
        let (client, other) = (relay.client_over(http).await, relay.client_over(http).await);
        let (mut first, mut second) = (open_tcp(&client, &tcp).await, open_udp(&client, &udp).await);
        assert_limited(&client, &tcp).await;
        // Whose limit it is tells the other connection.
        if all {
            assert_limited(&other, &tcp).await;
        } else {
            open_tcp(&other, &tcp).await.finish().unwrap();
        }
        first.finish().unwrap();
        assert_eq!(first.ended().await, StreamEnd::Finished);
        until("the tunnel's place to be free", || relay.metrics().ended.get("done").copied(), Option::is_some).await;
        assert_echoes(&mut open_tcp(&client, &tcp).await).await;
        assert_echoes_udp(&mut second, b"never touched").await;
        relay.finish().await;
    }
}

on_versions!(c80_a_connection_beyond_a_limit_is_refused_until_another_ends: h1 h2 h3);

async fn c80_a_connection_beyond_a_limit_is_refused_until_another_ends(http: Http) {
    let relay = Relay::spawn(|config| config.limits.connections = 1).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
    let mut tunnel = open_tcp(&client, &echo).await;
    assert_echoes(&mut tunnel).await;
    assert_refused(&relay, http).await;
    client.close(h3::NO_ERROR, b"");
    until("the connection to be over", || relay.still_open(), |open| *open == 0).await;
    assert_echoes(&mut open_tcp(&relay.client_over(http).await, &echo).await).await;
    relay.finish().await;
}

on_versions!(c80_only_clients_that_are_not_known_yet_count_against_their_source: h1 h2 h3);

async fn c80_only_clients_that_are_not_known_yet_count_against_their_source(http: Http) {
    let relay = Relay::spawn(|config| config.limits.unauthenticated_per_source = 1).await;
    let echo = TcpEcho::start().await;
    let known = relay.client_over(http).await;
    assert_refused(&relay, http).await;
    let mut tunnel = open_tcp(&known, &echo).await;
    let _unknown = relay.client_over(http).await;
    assert_refused(&relay, http).await;
    assert_echoes(&mut tunnel).await;
    relay.finish().await;
}

on_versions!(c80_gauges_return_to_zero: h1 h2 h3);

async fn c80_gauges_return_to_zero(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let (udp, tcp) = (UdpTarget::echo().await, TcpEcho::start().await);
    let client = relay.client_over(http).await;
    let gauges = || (relay.metrics().connections_open, relay.metrics().tunnels_open);
    let tunnels = (open_tcp(&client, &tcp).await, open_udp(&client, &udp).await);
    // Over HTTP/1.1 each tunnel has a connection.
    let connections = if http == Http::H1 { 2 } else { 1 };
    assert_eq!(gauges(), (connections, 2));
    drop(tunnels);
    until("both tunnels to be over", gauges, |open| open.1 == 0).await;
    let _left_open = (open_tcp(&client, &tcp).await, open_udp(&client, &udp).await);
    client.close(h3::NO_ERROR, b"");
    until("the connection to be over", gauges, |open| *open == (0, 0)).await;
    relay.finish().await;
}

/// A request is answered with 503 for the limit's sake.
async fn assert_limited(client: &Client, target: &TcpEcho) {
    let error = client.connect_tcp(&target.address().to_string()).await.unwrap_err();
    let refused = error.refused().expect("an answer");
    assert_eq!(refused.status, 503);
    let status = refused.proxy_status.as_deref().unwrap_or_default();
    assert!(status.contains("error=connection_limit_reached"), "{status}");
}

/// The relay takes no connection.
async fn assert_refused(relay: &Relay, http: Http) {
    const CONNECTION_REFUSED: u64 = 0x2;
    let mut options = relay.options();
    options.http = http;
    match (http, probe::Client::open(options).await) {
        (Http::H3, Err(ProbeError::Connect { source: ConnectionError::ConnectionClosed(close), .. })) => {
            assert_eq!(u64::from(close.error_code), CONNECTION_REFUSED);
        }
        // TCP is refused, or closed before TLS.
        (Http::H1 | Http::H2, Err(ProbeError::ConnectTcp { .. })) => {}
        (_, Err(error)) => panic!("a connection was refused, but as {error:?}"),
        (_, Ok(_)) => panic!("a connection was not refused"),
    }
}
