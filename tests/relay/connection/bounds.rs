//! What a client may make the relay hold before it is known, and for how long.

use std::time::Duration;

use bytes::Bytes;
use masque_relay::{
    config::Timeouts,
    probe::{Http, Layer, Options, RawExchange, StreamEnd},
    proto::{codes::h3, head::Head, settings::MAX_FIELD_SECTION_SIZE},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::support::{
    Client, Relay,
    h2::{GOAWAY, HEADERS, Raw, block, frame},
    on_versions,
    tcp::TcpEcho,
    tls,
    tunnels::{assert_echoes, assert_works},
    within,
};

on_versions!(c08_a_client_without_an_authenticated_request_is_let_go: h1 h2 h3);

async fn c08_a_client_without_an_authenticated_request_is_let_go(http: Http) {
    let relay = Relay::spawn(|config| config.timeouts.authenticate = Duration::from_millis(400)).await;
    let echo = TcpEcho::start().await;
    let mut options = relay.stranger();
    options.http = http;
    options.keep_alive = Some(Duration::from_millis(50));

    let authenticated = relay.client_over(http).await;
    let mut tunnel = authenticated.connect_tcp(&echo.address().to_string()).await.unwrap();

    let silent = relay.open(options.clone()).await;
    let half = half_a_head(&relay, options.clone());
    let refused = async {
        let refused = relay.open(options).await;
        let error = refused.connect_tcp(&echo.address().to_string()).await.unwrap_err();
        assert_eq!(error.refused().map(|refused| refused.status), Some(407), "{error}");
        // On HTTP/1.1 that was the end of it.
        if http != Http::H1 {
            assert_let_go(&refused, "refused").await;
        }
    };
    tokio::join!(assert_let_go(&silent, "silent"), half, refused);
    relay.logged(if http == Http::H1 { "no request in time" } else { "no authenticated request in time" }).await;
    // By now the first client is past the bound too.
    assert_echoes(&mut tunnel).await;
    relay.finish().await;
}

async fn assert_let_go(client: &Client, what: &str) {
    let closed = client.closed().await.unwrap();
    // HTTP/1.1 has nothing to say it with.
    let layer = if client.http() == Http::H1 { Layer::None } else { Layer::Application };
    assert_eq!((closed.by_peer, closed.layer), (true, layer), "{what}: {closed}");
}

/// A connection that ends in the middle of its first head.
async fn half_a_head(relay: &Relay, options: Options) {
    match options.http {
        Http::H1 => {
            let mut stream = tls::connect(relay, &["http/1.1"]).await.unwrap();
            stream.write_all(b"CONNECT a.test:80 HTTP/1.1\r\n").await.unwrap();
            let mut rest = Vec::new();
            // With or without close_notify.
            within("the end", stream.read_to_end(&mut rest)).await.unwrap_or_default();
            assert_eq!(rest, b"");
        }
        Http::H2 => {
            let mut raw = Raw::open(relay).await;
            raw.send(&frame(HEADERS, 0, 1, &block(&[(":method", "CONNECT")]))).await;
            let end = raw.next_of(&[GOAWAY]).await.expect("a word before the end");
            assert_eq!(end.code(), 0, "{end:?}");
            while raw.next().await.is_some() {}
        }
        Http::H3 => {
            let client = relay.open(options).await;
            let _exchange = half_sent(&client).await;
            assert_let_go(&client, "half a head").await;
        }
    }
}

#[test]
fn c08_c09_the_bounds_are_ten_seconds_by_default() {
    let Timeouts { head, authenticate, .. } = Timeouts::default();
    assert_eq!((head, authenticate), (Duration::from_secs(10), Duration::from_secs(10)));
}

on_versions!(c09_a_head_of_16_kib_is_read_and_one_byte_more_is_431: h1 h2 h3);

async fn c09_a_head_of_16_kib_is_read_and_one_byte_more_is_431(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client_over(http).await;
    // The same identifier on both versions.
    if http != Http::H1 {
        assert_eq!(client.settings().await.unwrap().get(MAX_FIELD_SECTION_SIZE), Some(HEAD as u64));
    }
    let padded = |size: usize| {
        let mut head = client.options().tcp_head(&echo.address().to_string());
        head.push("x-padding", "");
        let padding = size - head_size(http, &head);
        head.fields.pop();
        head.push("x-padding", "v".repeat(padding));
        head
    };
    // The h2 crate already refuses what is as large as announced.
    let largest = if http == Http::H2 { HEAD - 1 } else { HEAD };
    // On HTTP/1.1 more than that is cut off, as after any refusal (C-47); to the h2 crate it is an attack, and ends the connection.
    let huge = if http == Http::H3 { 64 * HEAD } else { 3 * HEAD };
    for (size, status) in [(largest - 1, 200), (largest, 200), (largest + 1, 431), (2 * HEAD, 431), (huge, 431)] {
        let head = padded(size);
        assert_eq!(head_size(http, &head), size);
        assert_eq!(status_of(&client, &head).await, status, "{size} bytes");
    }
    assert_eq!(echo.accepted(), 2);
    assert_works(&client, &echo).await;
    relay.finish().await;
}

on_versions!(c09_many_small_fields_are_an_oversized_head_too: h1 h2 h3);

async fn c09_many_small_fields_are_an_oversized_head_too(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for (count, length) in [(60, 500), (900, 1), (500, 0)] {
        let mut head = client.options().tcp_head("nowhere.test:80");
        for at in 0..count {
            head.push(format!("x-{at}"), "v".repeat(length));
        }
        assert_eq!(status_of(&client, &head).await, 431, "{count} fields of {length}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c09_a_head_that_stays_half_sent_costs_its_stream_only() {
    let relay = Relay::spawn(|config| config.timeouts.head = Duration::from_millis(200)).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    assert_works(&client, &echo).await;
    let mut half = half_sent(&client).await;
    assert_eq!(half.recv.ended().await, StreamEnd::Reset(h3::REQUEST_REJECTED));
    assert_eq!(half.send.stopped().await, StreamEnd::Stopped(h3::REQUEST_REJECTED));
    assert_works(&client, &echo).await;
    relay.finish().await;
}

#[tokio::test]
async fn c09_16_heads_are_read_at_once_before_the_client_is_known_and_64_after() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let (stranger, known) = (relay.open(relay.stranger()).await, relay.client().await);
    assert_works(&known, &echo).await;
    for (client, most, status) in [(stranger, 16, 407), (known, 64, 502)] {
        let mut halves = Vec::new();
        for _ in 1..most {
            halves.push(half_sent(&client).await);
        }
        let head = client.options().tcp_head("nowhere.test:80");
        assert_eq!(status_of(&client, &head).await, status, "{} half heads leave room for one", halves.len());

        halves.push(half_sent(&client).await);
        let mut held = client.request(&head).await.unwrap();
        let early = timeout(Duration::from_millis(300), held.answer()).await;
        assert!(early.is_err(), "{} half heads leave no room: {early:?}", halves.len());
        halves[0].send.reset(h3::REQUEST_CANCELLED).unwrap();
        assert_eq!(held.answer().await.unwrap().status, status, "one has left");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c09_half_sent_heads_are_bounded_for_a_connection() {
    let relay = Relay::spawn(|config| config.timeouts.authenticate = Duration::from_millis(500)).await;
    let echo = TcpEcho::start().await;
    let hostile = relay.client().await;

    // 64 heads of 15 KiB, none of them whole: 960 KiB, of which 16 heads and a window of 64 KiB may get through.
    let mut half = vec![0x1, 0x80, 0x00, 0x3e, 0x80, 0, 0];
    half.resize(15 << 10, 0x2f);
    let half = Bytes::from(half);
    let mut exchanges: Vec<RawExchange> = Vec::new();
    for _ in 0..64 {
        exchanges.push(hostile.exchange().await.unwrap());
    }
    let writes = futures_util::future::join_all(exchanges.iter_mut().map(|exchange| exchange.send.send_raw(half.clone())));
    let others = async {
        let client = relay.client().await;
        assert_works(&client, &echo).await;
        let closed = hostile.closed().await.unwrap();
        assert!(closed.by_peer && closed.layer == Layer::Application, "{closed}");
    };
    let (writes, ()) = tokio::join!(writes, others);

    let sent = hostile.quinn().stats().udp_tx.bytes;
    assert!(writes.iter().any(Result::is_err) && sent < 450 << 10, "the relay took {sent} bytes of heads");
    relay.finish().await;
}

/// The first bytes of a HEADERS frame of 128.
async fn half_sent(client: &Client) -> RawExchange {
    let mut exchange = client.exchange().await.unwrap();
    exchange.send.send_raw(Bytes::from_static(&[0x1, 0x40, 0x80, 0, 0])).await.unwrap();
    exchange
}

async fn status_of(client: &Client, head: &Head) -> u16 {
    client.request(head).await.unwrap().answer().await.unwrap().status
}

/// By the count of RFC 9114 §4.2.2 and RFC 9113 §6.5.2; for HTTP/1.1 the bytes of a classic CONNECT, whose authority stands there twice.
fn head_size(http: Http, head: &Head) -> usize {
    let size = |each: usize| head.fields.iter().map(|(name, value)| name.len() + value.len() + each).sum::<usize>();
    match http {
        Http::H1 => size(": \r\n".len()) - ":method: \r\n:authority: \r\n".len() + authority(head) + "  HTTP/1.1\r\nHost: \r\n\r\n".len(),
        _ => size(32),
    }
}

fn authority(head: &Head) -> usize {
    head.get(":authority").expect("a CONNECT has one").len()
}

/// The largest head, as designed.
const HEAD: usize = 16 << 10;
