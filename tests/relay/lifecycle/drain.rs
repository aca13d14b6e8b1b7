//! A relay that is drained (C-79).

use std::{io::ErrorKind, time::Duration};

use masque_relay::{
    ended::Reset,
    probe::{Http, ProbeError, StreamEnd},
    proto::codes::h3,
};
use quinn::ConnectionError;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::interval};

use super::assert_refused;
use crate::support::{
    Client, PATIENCE, Relay, on_versions,
    tcp::{self, TcpEcho, TcpTarget},
    tunnels::{assert_closed, assert_echoes, assert_echoes_udp, assert_reset, open_tcp, open_udp, pair},
    udp::UdpTarget,
    until, within,
};

on_versions!(c79_a_drain_says_goaway_and_lets_tunnels_end: h1 h2 h3);

async fn c79_a_drain_says_goaway_and_lets_tunnels_end(http: Http) {
    let mut relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
    let mut tunnel = open_tcp(&client, &echo).await;
    let server = relay.take_server();
    let work = async {
        is_draining(&relay, &client).await;
        if http != Http::H1 {
            // First the largest there is, which takes nothing back; then the last that counts.
            let largest = if http == Http::H3 { (1 << 62) - 4 } else { (1 << 31) - 1 };
            let last = if http == Http::H3 { tunnel.send.id() + 4 } else { tunnel.send.id() };
            assert_eq!(client.goaways(), [largest, last]);
        }
        assert_echoes(&mut tunnel).await;
        tunnel.finish().unwrap();
        assert_eq!(tunnel.ended().await, StreamEnd::Finished);
    };
    let (cut, ()) = tokio::join!(server.drain(Duration::from_secs(4)), work);
    assert_eq!(cut, 0);
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
        let mut late = client.request(&client.options().tcp_head(&echo.address().to_string())).await.unwrap();
        assert_eq!(late.id(), next);
        let error = late.answer().await.unwrap_err();
        assert!(matches!(error, ProbeError::Unanswered(StreamEnd::Reset(h3::REQUEST_REJECTED))), "{error}");
        assert_eq!(late.send.stopped().await, StreamEnd::Stopped(h3::REQUEST_REJECTED));
        assert_refused(&relay, Http::H3).await;

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

on_versions!(c79_a_draining_relay_refuses_connections_and_carries_its_tunnels_on: h1 h2 h3);

async fn c79_a_draining_relay_refuses_connections_and_carries_its_tunnels_on(http: Http) {
    let mut relay = Relay::spawn(|_| {}).await;
    let (echo, udp_echo) = (TcpEcho::start().await, UdpTarget::echo().await);
    let client = relay.client_over(http).await;
    let (mut tunnel, mut udp) = (open_tcp(&client, &echo).await, open_udp(&client, &udp_echo).await);
    let server = relay.take_server();
    let work = async {
        is_draining(&relay, &client).await;
        assert_refused(&relay, http).await;
        assert_echoes(&mut tunnel).await;
        assert_echoes_udp(&mut udp, b"still here").await;
        udp.finish().unwrap();
        assert_eq!(udp.ended().await, StreamEnd::Finished);
        tunnel.finish().unwrap();
        assert_eq!(tunnel.ended().await, StreamEnd::Finished);
        if http != Http::H1 {
            assert_closed(&client, http.code(Reset::Nothing), "drained").await;
        }
    };
    let (cut, ()) = tokio::join!(server.drain(PATIENCE), work);
    assert_eq!(cut, 0);
    relay.finish().await;
}

on_versions!(c79_a_drain_waits_until_the_client_has_all_of_a_finished_tunnel: h1 h2 h3);

async fn c79_a_drain_waits_until_the_client_has_all_of_a_finished_tunnel(http: Http) {
    const DOWNLOAD: usize = 4 << 20;
    let mut relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;
    let (mut tunnel, mut stream) = pair(&client, &target).await;
    let server = relay.take_server();
    let work = async {
        is_draining(&relay, &client).await;
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

on_versions!(c79_tunnels_are_cut_when_the_grace_is_over: h1 h2 h3);

async fn c79_tunnels_are_cut_when_the_grace_is_over(http: Http) {
    let mut relay = Relay::spawn(|_| {}).await;
    let (echo, target) = (UdpTarget::echo().await, TcpTarget::start().await);
    let client = relay.client_over(http).await;
    let (mut udp, (mut tcp, mut stream)) = (open_udp(&client, &echo).await, pair(&client, &target).await);
    let cut = within("the drain", relay.take_server().drain(Duration::from_millis(300))).await;
    assert_eq!(cut, 2);
    assert_reset(&udp.ended().await, http, Reset::Cancelled, "udp");
    assert_reset(&tcp.ended().await, http, Reset::Cancelled, "tcp");
    assert_eq!(tcp::read_to_end(&mut stream).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    if http != Http::H1 {
        assert_closed(&client, http.code(Reset::Nothing), "cut").await;
    }
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

on_versions!(c79_idle_connections_hold_no_drain: h1 h2 h3);

async fn c79_idle_connections_hold_no_drain(http: Http) {
    let mut relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    if http != Http::H1 {
        client.settings().await.unwrap();
    }
    until("the connection to be taken", || relay.metrics().connections_open, |open| *open == 1).await;
    // The grace is longer than anything here is waited for.
    let cut = within("the drain", relay.take_server().drain(PATIENCE * 2)).await;
    assert_eq!(cut, 0);
    match http {
        Http::H1 => assert!(client.closed().await.unwrap().by_peer),
        _ => assert_closed(&client, http.code(Reset::Nothing), "idle").await,
    }
    relay.finish().await;
}

/// Waits until a drain has begun, as `client` sees it; over HTTP/1.1, which has no word for it, until there is no way in any more.
async fn is_draining(relay: &Relay, client: &Client) {
    if client.http() != Http::H1 {
        client.goaway(2).await.unwrap();
        return;
    }
    let mut ticks = interval(Duration::from_millis(5));
    let refused = async {
        while TcpStream::connect(relay.address()).await.is_ok() {
            ticks.tick().await;
        }
    };
    within("the relay to refuse connections", refused).await;
}
