//! Section I: the life of a relay and of its tunnels.

use std::{io::ErrorKind, time::Duration};

use masque_relay::{
    probe::{Client, ProbeError, StreamEnd},
    proto::codes::h3,
};
use quinn::ConnectionError;
use tokio::io::AsyncWriteExt;

use crate::support::{
    PATIENCE, Relay,
    tcp::{self, TcpEcho, TcpTarget},
    tunnels::{assert_closed, assert_echoes, assert_echoes_udp, open_tcp, open_udp, pair},
    udp::UdpTarget,
    until, within,
};

#[tokio::test]
async fn c79_a_drain_says_goaway_and_lets_tunnels_end() {
    let mut relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let mut tunnel = open_tcp(&client, &echo).await;
    let server = relay.take_server();
    let work = async {
        // The largest there is, then the last that counts.
        client.goaway(2).await.unwrap();
        assert_echoes(&mut tunnel).await;
        tunnel.finish().unwrap();
        assert_eq!(tunnel.ended().await, StreamEnd::Finished);
    };
    let (cut, ()) = tokio::join!(server.drain(Duration::from_secs(4)), work);
    assert_eq!(cut, 0);
    assert!(client.goaways()[0] >= client.goaways()[1], "{:?}", client.goaways());
    relay.finish().await;
}

#[tokio::test]
async fn c79_a_draining_relay_rejects_later_streams_and_refuses_connections() {
    let mut relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let mut tunnel = open_tcp(&client, &echo).await;
    let server = relay.take_server();
    let work = async {
        let next = client.goaway(2).await.unwrap();
        // First the largest there is, which takes nothing back; then the first stream that was not taken.
        assert_eq!(client.goaways(), [(1 << 62) - 4, tunnel.send.id() + 4]);
        let mut late = client.request(&client.options().tcp_head(&echo.address().to_string())).await.unwrap();
        assert_eq!(late.id(), next);
        let error = late.answer().await.unwrap_err();
        assert!(matches!(error, ProbeError::Unanswered(StreamEnd::Reset(h3::REQUEST_REJECTED))), "{error}");
        assert_eq!(late.send.stopped().await, StreamEnd::Stopped(h3::REQUEST_REJECTED));
        assert_refused(&relay).await;

        assert_echoes(&mut tunnel).await;
        assert_eq!(echo.accepted(), 1);
        tunnel.finish().unwrap();
        assert_eq!(tunnel.ended().await, StreamEnd::Finished);
        assert_closed(&client, h3::NO_ERROR, "drained").await;
    };
    let (cut, ()) = tokio::join!(server.drain(PATIENCE), work);
    assert_eq!(cut, 0);
    relay.finish().await;
}

#[tokio::test]
async fn c79_a_drain_waits_until_the_client_has_all_of_a_finished_tunnel() {
    const DOWNLOAD: usize = 4 << 20;
    let mut relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;
    let (mut tunnel, mut stream) = pair(&client, &target).await;
    let server = relay.take_server();
    let work = async {
        client.goaway(2).await.unwrap();
        tunnel.finish().unwrap();
        stream.write_all(&vec![7; DOWNLOAD]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(tunnel.read_to_end(DOWNLOAD).await.unwrap().len(), DOWNLOAD);
    };
    let (cut, ()) = tokio::join!(server.drain(PATIENCE), work);
    assert_eq!(cut, 0);
    drop(stream);
    relay.finish().await;
}

#[tokio::test]
async fn c79_tunnels_are_cut_when_the_grace_is_over() {
    let mut relay = Relay::spawn(|_| {}).await;
    let (echo, target) = (UdpTarget::echo().await, TcpTarget::start().await);
    let client = relay.client().await;
    let (mut udp, (mut tcp, mut stream)) = (open_udp(&client, &echo).await, pair(&client, &target).await);
    let cut = within("the drain", relay.take_server().drain(Duration::from_millis(300))).await;
    assert_eq!(cut, 2);
    assert_eq!(udp.ended().await, StreamEnd::Reset(h3::REQUEST_CANCELLED));
    assert_eq!(tcp.ended().await, StreamEnd::Reset(h3::REQUEST_CANCELLED));
    assert_eq!(tcp::read_to_end(&mut stream).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_closed(&client, h3::NO_ERROR, "cut").await;
    drop(stream);
    relay.finish().await;
}

#[tokio::test]
async fn c79_a_client_without_credit_for_goaway_holds_no_drain() {
    let mut relay = Relay::spawn(|_| {}).await;
    let mut options = relay.options();
    // Our SETTINGS have 12 bytes; a GOAWAY behind them does not fit, and nobody reads.
    options.stream_window = 16;
    options.keep_alive = Some(Duration::from_millis(100));
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(options.quinn().unwrap());
    let client = endpoint.connect(relay.address(), &options.server_name).unwrap().await.unwrap();
    let _control = client.accept_uni().await.unwrap();
    within("the drain", relay.take_server().drain(Duration::from_millis(300))).await;
    assert!(matches!(client.closed().await, ConnectionError::ApplicationClosed(_)));
    endpoint.wait_idle().await;
    drop((client, endpoint));
    relay.finish().await;
}

#[tokio::test]
async fn c79_a_client_without_room_for_its_answer_holds_no_drain() {
    let mut relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_with(|options| options.stream_window = 16).await;
    let unread = client.request(&client.options().tcp_head(&target.address().to_string())).await.unwrap();
    let stream = target.accept().await;
    within("the drain", relay.take_server().drain(Duration::from_millis(300))).await;
    drop((unread, stream));
    relay.finish().await;
}

#[tokio::test]
async fn c79_idle_connections_hold_no_drain() {
    let mut relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    client.settings().await.unwrap();
    // The grace is longer than anything here is waited for.
    let cut = within("the drain", relay.take_server().drain(PATIENCE * 2)).await;
    assert_eq!(cut, 0);
    assert_closed(&client, h3::NO_ERROR, "idle").await;
    relay.finish().await;
}

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

#[tokio::test]
async fn c80_a_tunnel_beyond_a_limit_is_503_until_another_ends() {
    for all in [true, false] {
        let relay = Relay::spawn(|config| {
            let limit = if all { &mut config.limits.tunnels } else { &mut config.limits.tunnels_per_connection };
            *limit = 2;
        })
        .await;
        let (udp, tcp) = (UdpTarget::echo().await, TcpEcho::start().await);
        let (client, other) = (relay.client().await, relay.client().await);
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

#[tokio::test]
async fn c80_a_connection_beyond_a_limit_is_refused_until_another_ends() {
    let relay = Relay::spawn(|config| config.limits.connections = 1).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    assert_echoes(&mut open_tcp(&client, &echo).await).await;
    assert_refused(&relay).await;
    client.close(h3::NO_ERROR, b"");
    until("the connection to be over", || relay.metrics().connections_open, |open| *open == 0).await;
    assert_echoes(&mut open_tcp(&relay.client().await, &echo).await).await;
    relay.finish().await;
}

#[tokio::test]
async fn c80_only_clients_that_are_not_known_yet_count_against_their_source() {
    let relay = Relay::spawn(|config| config.limits.unauthenticated_per_source = 1).await;
    let echo = TcpEcho::start().await;
    let known = relay.client().await;
    assert_refused(&relay).await;
    let mut tunnel = open_tcp(&known, &echo).await;
    let _unknown = relay.client().await;
    assert_refused(&relay).await;
    assert_echoes(&mut tunnel).await;
    relay.finish().await;
}

#[tokio::test]
async fn c80_gauges_return_to_zero() {
    let relay = Relay::spawn(|_| {}).await;
    let (udp, tcp) = (UdpTarget::echo().await, TcpEcho::start().await);
    let client = relay.client().await;
    let gauges = || (relay.metrics().connections_open, relay.metrics().tunnels_open);
    let tunnels = (open_tcp(&client, &tcp).await, open_udp(&client, &udp).await);
    assert_eq!(gauges(), (1, 2));
    drop(tunnels);
    until("both tunnels to be over", gauges, |open| *open == (1, 0)).await;
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
async fn assert_refused(relay: &Relay) {
    const CONNECTION_REFUSED: u64 = 0x2;
    let Err(ProbeError::Connect { source: ConnectionError::ConnectionClosed(close), .. }) = Client::open(relay.options()).await else {
        panic!("a connection was not refused");
    };
    assert_eq!(u64::from(close.error_code), CONNECTION_REFUSED);
}
