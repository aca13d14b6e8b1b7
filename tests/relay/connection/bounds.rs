//! What a client may make the relay hold before it is known, and for how long.

use std::time::Duration;

use bytes::Bytes;
use masque_relay::{
    config::Timeouts,
    probe::{Layer, RawExchange, StreamEnd},
    proto::{codes::h3, head::Head, settings::MAX_FIELD_SECTION_SIZE},
};
use tokio::time::timeout;

use crate::support::{
    Client, Relay,
    ends::{assert_echoes, assert_works},
    tcp::TcpEcho,
};

#[tokio::test]
async fn c08_a_client_without_an_authenticated_request_is_let_go() {
    let relay = Relay::spawn(|config| config.timeouts.authenticate = Duration::from_millis(400)).await;
    let echo = TcpEcho::start().await;
    let mut options = relay.stranger();
    options.keep_alive = Some(Duration::from_millis(50));

    let authenticated = relay.client().await;
    let mut tunnel = authenticated.connect_tcp(&echo.address().to_string()).await.unwrap();

    let silent = relay.open(options.clone()).await;
    let half = relay.open(options.clone()).await;
    let _exchange = half_sent(&half).await;
    let refused = relay.open(options).await;
    let error = refused.connect_tcp(&echo.address().to_string()).await.unwrap_err();
    assert_eq!(error.refused().map(|refused| refused.status), Some(407), "{error}");

    for (client, what) in [(&silent, "silent"), (&half, "half a head"), (&refused, "refused")] {
        let closed = client.closed().await.unwrap();
        assert!(closed.by_peer && closed.layer == Layer::Application, "{what}: {closed}");
    }
    // By now the first client is past the bound too.
    assert_echoes(&mut tunnel).await;
    relay.finish().await;
}

#[test]
fn c08_c09_the_bounds_are_ten_seconds_by_default() {
    let Timeouts { head, authenticate, .. } = Timeouts::default();
    assert_eq!((head, authenticate), (Duration::from_secs(10), Duration::from_secs(10)));
}

#[tokio::test]
async fn c09_a_head_of_16_kib_is_read_and_one_byte_more_is_431() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    assert_eq!(client.settings().await.unwrap().get(MAX_FIELD_SECTION_SIZE), Some(HEAD as u64));
    let padded = |size: usize| {
        let mut head = client.options().tcp_head(&echo.address().to_string());
        let padding = size - section_size(&head) - "x-padding".len() - 32;
        head.push("x-padding", "v".repeat(padding));
        head
    };
    for (size, status) in [(HEAD - 1, 200), (HEAD, 200), (HEAD + 1, 431), (2 * HEAD, 431), (64 * HEAD, 431)] {
        let head = padded(size);
        assert_eq!(section_size(&head), size);
        assert_eq!(status_of(&client, &head).await, status, "{size} bytes");
    }
    assert_eq!(echo.accepted(), 2);
    assert_works(&client, &echo).await;
    relay.finish().await;
}

#[tokio::test]
async fn c09_many_small_fields_are_an_oversized_head_too() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
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

/// By the count of RFC 9114 §4.2.2.
fn section_size(head: &Head) -> usize {
    head.fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
}

/// The largest head, as designed.
const HEAD: usize = 16 << 10;
