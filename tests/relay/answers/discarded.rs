//! What becomes of a refused request's stream: the client gets the whole answer before anything is cut. On HTTP/1.1 it is the connection.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use masque_relay::{
    ended::Reset,
    probe::{Http, RawExchange, StreamEnd},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, interval},
};
use tokio_rustls::client::TlsStream;

use crate::support::{
    Client, PATIENCE, Relay, on_versions,
    request::{Fields, answer_to, ask, path, tcp, udp},
    tls, within,
};

on_versions!(c47_a_rejection_is_small_and_finishes_the_stream: h1 h2 h3);

async fn c47_a_rejection_is_small_and_finishes_the_stream(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for fields in refused(&client) {
        let mut exchange = ask(&client, &fields).await;
        let answer = exchange.answer().await.unwrap();
        let size: usize = answer.head.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(answer.status >= 400 && size < 512, "{size}: {answer:?}");
        assert_eq!(answer.field("content-length").as_deref(), Some("0"));
        assert_eq!(exchange.recv.read_to_end(1024).await.expect("a FIN"), "");
    }
    relay.finish().await;
}

on_versions!(c47_a_refused_request_is_read_for_a_second_and_then_stopped_with_no_error: h2 h3);

async fn c47_a_refused_request_is_read_for_a_second_and_then_stopped_with_no_error(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for fields in refused(&client) {
        let started = Instant::now();
        let mut exchange = refused_exchange(&client, &fields).await;
        // Less than 64 KiB in several pieces: none of it is a reason to stop earlier.
        for _ in 0..3 {
            exchange.send.send(Bytes::from(vec![7; 16 << 10])).await.expect("the relay reads on");
        }
        assert_eq!(exchange.send.stopped().await, stopped(http));
        assert!(started.elapsed() >= Duration::from_secs(1), "stopped after {:?}", started.elapsed());
    }
    relay.finish().await;
}

on_versions!(c47_a_refused_request_that_goes_on_is_stopped_after_64_kib: h2 h3);

async fn c47_a_refused_request_that_goes_on_is_stopped_after_64_kib(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    // Were time alone what ends it, the flood, begun after the silent one, would never be stopped before it. A machine that stands still for a
    // second can make it come second once.
    let mut was_first = false;
    for _ in 0..3 {
        was_first = was_first || flood_is_stopped_before_silence(&client).await;
    }
    assert!(was_first);
    relay.finish().await;
}

async fn flood_is_stopped_before_silence(client: &Client) -> bool {
    let [fields, _] = refused(client);
    let silent = refused_exchange(client, &fields).await;
    let mut flood = refused_exchange(client, &fields).await;
    let mut sent = 0;
    let flooded = async {
        loop {
            match flood.send.send(Bytes::from(vec![7; 4 << 10])).await {
                Ok(()) => sent += 4 << 10,
                Err(end) => return end,
            }
        }
    };
    let (first, was_first) = tokio::select! {
        biased;
        end = silent.send.stopped() => (end, false),
        end = flooded => (end, true),
    };
    assert_eq!(first, stopped(client.http()));
    assert!(!was_first || sent >= 64 << 10, "stopped after {sent} bytes");
    was_first
}

on_versions!(c47_a_refused_request_that_ends_is_not_stopped: h2 h3);

async fn c47_a_refused_request_that_ends_is_not_stopped(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;
    for fields in refused(&client) {
        let mut exchange = refused_exchange(&client, &fields).await;
        exchange.send.send(Bytes::from(vec![7; 60 << 10])).await.unwrap();
        exchange.send.finish().unwrap();
        if http == Http::H3 {
            assert_eq!(exchange.send.stopped().await, StreamEnd::EndedHere, "all of it is acknowledged");
        } else {
            // Nothing is; but a reset would stand before the next answer.
            answer_to(&client, fields, "the next").await;
            assert_eq!(exchange.send.stopped().now_or_never(), None);
        }
    }
    relay.finish().await;
}

/// No more is read, though nothing is wrong.
fn stopped(http: Http) -> StreamEnd {
    StreamEnd::Stopped(http.code(Reset::Nothing))
}

/// Refused by name and by form.
fn refused(client: &Client) -> [Fields; 2] {
    [tcp(client, "nowhere.test:80"), udp(client, &path("127.0.0.1", "0"))]
}

/// A request whose answer was read to its end, and whose own side is open.
async fn refused_exchange(client: &Client, fields: &Fields) -> RawExchange {
    let mut exchange = ask(client, fields).await;
    assert!(exchange.answer().await.unwrap().status >= 400);
    assert_eq!(exchange.recv.ended().await, StreamEnd::Finished);
    exchange
}

/// HTTP/1.1 has no way to stop a client: the relay says its answer and that it has no more to say, reads on, and then closes TCP.
#[tokio::test]
async fn c47_a_refused_connection_is_read_for_a_second_or_64_kib_and_then_closed() {
    let relay = Relay::spawn(|_| {}).await;
    // As above: the flood, begun later, ends before the slow one.
    let mut was_first = false;
    for _ in 0..3 {
        let (mut slow, started) = (refused_connection(&relay).await, Instant::now());
        let mut flood = refused_connection(&relay).await;
        let slow = async {
            let mut ticks = interval(Duration::from_millis(10));
            while ticks.tick().await.elapsed() < PATIENCE && written(&mut slow, 16).await {}
            started.elapsed()
        };
        let flood = async {
            let mut sent = 0;
            while written(&mut flood, 4 << 10).await {
                sent += 4 << 10;
            }
            (sent, started.elapsed())
        };
        let (slow, (sent, flood)) = tokio::join!(slow, flood);
        assert!(slow >= Duration::from_secs(1) && slow < PATIENCE, "closed after {slow:?}");
        assert!(sent >= 64 << 10, "closed after {sent} bytes");
        was_first = was_first || flood < slow;
    }
    assert!(was_first);
    relay.finish().await;
}

/// A connection whose request was refused, its whole answer read.
async fn refused_connection(relay: &Relay) -> TlsStream<TcpStream> {
    let mut stream = tls::connect(relay, &["http/1.1"]).await.unwrap();
    stream.write_all(b"CONNECT nowhere.test:80 HTTP/1.1\r\nHost: nowhere.test:80\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    within("the whole answer", stream.read_to_end(&mut answer)).await.expect("close_notify");
    assert!(answer.starts_with(b"HTTP/1.1 407 ") && answer.ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Whether the relay's TCP still takes bytes.
async fn written(stream: &mut TlsStream<TcpStream>, size: usize) -> bool {
    stream.write_all(&vec![7; size]).await.is_ok() && stream.flush().await.is_ok()
}
