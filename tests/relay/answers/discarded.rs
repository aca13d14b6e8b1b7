//! What becomes of a refused request's stream: the client gets the whole answer before anything is cut.

use std::time::Duration;

use bytes::Bytes;
use masque_relay::{
    probe::{RawExchange, StreamEnd},
    proto::codes::h3,
};
use tokio::time::Instant;

use crate::support::{
    Client, Relay,
    request::{Fields, ask, path, tcp, udp},
};

#[tokio::test]
async fn c47_a_rejection_is_small_and_finishes_the_stream() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
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

#[tokio::test]
async fn c47_a_refused_request_is_read_for_a_second_and_then_stopped_with_no_error() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for fields in refused(&client) {
        let started = Instant::now();
        let mut exchange = refused_exchange(&client, &fields).await;
        // Less than 64 KiB in several pieces: none of it is a reason to stop earlier.
        for _ in 0..3 {
            exchange.send.send(Bytes::from(vec![7; 16 << 10])).await.expect("the relay reads on");
        }
        assert_eq!(exchange.send.stopped().await, StreamEnd::Stopped(h3::NO_ERROR));
        assert!(started.elapsed() >= Duration::from_secs(1), "stopped after {:?}", started.elapsed());
    }
    relay.finish().await;
}

#[tokio::test]
async fn c47_a_refused_request_that_goes_on_is_stopped_after_64_kib() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
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
    let stopped = async {
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
        end = stopped => (end, true),
    };
    assert_eq!(first, StreamEnd::Stopped(h3::NO_ERROR));
    assert!(!was_first || sent >= 64 << 10, "stopped after {sent} bytes");
    was_first
}

#[tokio::test]
async fn c47_a_refused_request_that_ends_is_not_stopped() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for fields in refused(&client) {
        let mut exchange = refused_exchange(&client, &fields).await;
        exchange.send.send(Bytes::from(vec![7; 60 << 10])).await.unwrap();
        exchange.send.finish().unwrap();
        assert_eq!(exchange.send.stopped().await, StreamEnd::EndedHere, "all of it is acknowledged");
    }
    relay.finish().await;
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
