//! TLS over TCP: which HTTP is spoken, and what becomes of a client that says too little.

use std::time::Duration;

use masque_relay::{config::Config, probe::Http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::support::{
    PATIENCE, Relay, USER,
    h2::{GOAWAY, Raw},
    tcp::TcpEcho,
    tls::connect,
    tunnels::{assert_echoes, assert_works},
    within,
};

fn soon(config: &mut Config) {
    config.timeouts.authenticate = Duration::from_millis(300);
}

#[tokio::test]
async fn a_client_without_alpn_gets_an_alert_where_http_1_1_is_off() {
    // As it is by default.
    let relay = Relay::spawn(|config| config.http = Config::default().http).await;
    let error = connect(&relay, &[]).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    let line = relay.logged("handshake failed").await;
    assert!(line.contains("the client offers no ALPN"), "{line}");
    let error = connect(&relay, &["http/1.1"]).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    relay.finish().await;
}

#[tokio::test]
async fn a_client_without_alpn_speaks_http_1_1_where_it_is_on() {
    let relay = Relay::spawn(|_| {}).await;
    let mut stream = connect(&relay, &[]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    within("an answer", stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 407 "), "{}", String::from_utf8_lossy(&answer));
    relay.finish().await;
}

#[tokio::test]
async fn c08_slow_handshakes_prefaces_and_heads_are_let_go() {
    let relay = Relay::spawn(soon).await;
    // No TLS at all.
    let mut silent = TcpStream::connect(relay.address()).await.unwrap();
    // TLS, and no preface.
    let mut prefaceless = connect(&relay, &["h2"]).await.unwrap();
    // TLS, and half a head.
    let mut headless = connect(&relay, &["http/1.1"]).await.unwrap();
    headless.write_all(b"CONNECT a.test:80 HTTP/1.1\r\n").await.unwrap();
    let mut rest = Vec::new();
    within("the silent one's end", silent.read_to_end(&mut rest)).await.unwrap_or_default();
    within("the prefaceless one's end", prefaceless.read_to_end(&mut rest)).await.unwrap_or_default();
    within("the headless one's end", headless.read_to_end(&mut rest)).await.unwrap_or_default();
    for why in ["no handshake in time", "no HTTP/2 preface in time", "no request in time"] {
        relay.logged(why).await;
    }
    relay.finish().await;
}

/// However long ago the connection last did something: longer than the relay waits for a close to be taken.
#[tokio::test]
async fn c08_the_one_let_go_is_told_so_on_http_2() {
    let relay = Relay::spawn(|config| config.timeouts.authenticate = Duration::from_millis(5_500)).await;
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let mut raw = Raw::open(&relay).await;
        clients.spawn(timeout(2 * PATIENCE, async move {
            let mut frames = Vec::new();
            while let Some(frame) = raw.next_late().await {
                frames.push(frame);
            }
            frames.into_iter().find(|frame| frame.kind == GOAWAY).map(|goaway| goaway.code())
        }));
    }
    while let Some(told) = clients.join_next().await {
        assert_eq!(told.unwrap().expect("the connection ends"), Some(0));
    }
    relay.finish().await;
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_let_go_on_http_2() {
    let relay = Relay::spawn(|config| config.timeouts.idle = Duration::from_millis(300)).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(Http::H2).await;
    // A tunnel keeps it.
    let mut tunnel = client.connect_tcp(&echo.address().to_string()).await.unwrap();
    let early = timeout(Duration::from_millis(600), client.closed()).await;
    assert!(early.is_err(), "{early:?}");
    assert_echoes(&mut tunnel).await;
    drop(tunnel);
    client.closed().await.unwrap();
    let line = relay.logged("connection closed").await;
    assert!(line.contains("the client asks for nothing"), "{line}");
    relay.finish().await;
}

#[tokio::test]
async fn one_version_alone_listens_alone() {
    let echo = TcpEcho::start().await;
    for (h2, h3) in [(true, false), (false, true)] {
        let relay = Relay::spawn(|config| (config.http.h1, config.http.h2, config.http.h3) = (false, h2, h3)).await;
        let (on, off) = if h2 { (Http::H2, Http::H3) } else { (Http::H3, Http::H2) };
        assert_works(&relay.client_over(on).await, &echo).await;
        let mut options = relay.options();
        options.http = off;
        options.timeout = Duration::from_millis(500);
        masque_relay::probe::Client::open(options).await.unwrap_err();
        relay.finish().await;
    }
}

#[tokio::test]
async fn the_log_tells_the_version() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    for (http, name) in [(Http::H1, "h1"), (Http::H2, "h2"), (Http::H3, "h3")] {
        assert_works(&relay.client_over(http).await, &echo).await;
        let line = relay.logged(&format!("http=\"{name}\"")).await;
        assert!(line.contains(USER), "{line}");
    }
    relay.finish().await;
}
