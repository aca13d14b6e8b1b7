//! How a connection goes on, and how it ends.

use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::probe::{Closed, Http, Layer, ProbeError, StreamEnd, fake::tcp::TcpFake};

#[tokio::test]
async fn a_broken_frame_costs_the_connection() {
    let fake = TcpFake::start(Http::H2).await;
    let (client, mut stream) = fake.pair().await;
    // SETTINGS, then DATA on stream 0 (RFC 9113 §6.1).
    stream.write_all(&[&SETTINGS[..], &[0, 0, 1, 0, 0, 0, 0, 0, 0, 0]].concat()).await.unwrap();
    let closed = client.closed().await.unwrap();
    assert_eq!((closed.by_peer, closed.layer, closed.code), (false, Layer::Application, 1), "{closed}");
    assert_eq!(client.violation().unwrap().code, 1);
    assert!(matches!(client.connect_tcp("a.test:80").await, Err(ProbeError::Violation(_))));
}

#[tokio::test]
async fn a_goaway_says_its_last_stream_and_its_code() {
    let fake = TcpFake::start(Http::H2).await;
    let (client, mut relay) = fake.h2_pair(fake.options()).await;
    let (tunnel, _held) = tokio::join!(client.connect_tcp("a.test:80"), relay.accept(&[]));
    let mut tunnel = tunnel.unwrap();
    relay.goaway.take().unwrap().send(Reason::ENHANCE_YOUR_CALM).unwrap();
    assert_eq!(client.goaway(1).await.unwrap(), 1);
    let closed = client.closed().await.unwrap();
    assert_eq!(closed, Closed { by_peer: true, layer: Layer::Application, code: 0xb, reason: String::new() });
    assert_eq!(tunnel.ended().await, StreamEnd::Lost(closed));
    assert!(matches!(client.connect_tcp("a.test:80").await, Err(ProbeError::Closed(_))));
}

#[tokio::test]
async fn who_closes_is_told() {
    let fake = TcpFake::start(Http::H2).await;
    // The relay, without a word.
    let (client, stream) = fake.pair().await;
    drop(stream);
    let closed = client.closed().await.unwrap();
    assert_eq!((closed.by_peer, closed.layer), (true, Layer::None), "{closed}");

    // The client, from elsewhere: its tunnel knows.
    let (client, mut relay) = fake.h2_pair(fake.options()).await;
    let (tunnel, _held) = tokio::join!(client.connect_tcp("a.test:80"), relay.accept(&[]));
    client.closer().close(0, b"");
    let here = Closed { by_peer: false, layer: Layer::None, code: 0, reason: "closed here".into() };
    assert_eq!(tunnel.unwrap().ended().await, StreamEnd::Lost(here.clone()));
    assert_eq!(client.closed().await.unwrap(), here);
    // The h2 crate takes the end of TCP for a good one, but it sees it.
    relay.ended().await.unwrap();

    // The client in order: GOAWAY (type 7) without an error, then close_notify.
    let (client, mut stream) = fake.pair().await;
    stream.write_all(&SETTINGS).await.unwrap();
    client.settings().await.unwrap();
    let mut rest = Vec::new();
    let ((), read) = tokio::join!(client.shut(), stream.read_to_end(&mut rest));
    read.expect("close_notify");
    assert!(rest.ends_with(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "{rest:?}");

    // Dropped.
    let (client, mut stream) = fake.pair().await;
    drop(client);
    let mut rest = Vec::new();
    assert!(stream.read_to_end(&mut rest).await.is_err(), "close_notify from a client that was dropped");
}

#[tokio::test]
async fn pings_keep_a_connection_alive() {
    let fake = TcpFake::start(Http::H2).await;
    let mut options = fake.options();
    options.keep_alive = Some(std::time::Duration::from_millis(20));
    let (_client, mut stream) = fake.pair_with(options).await;
    stream.write_all(&SETTINGS).await.unwrap();
    let mut came = Vec::new();
    // PING: eight bytes, type 6, no flags, stream 0 (RFC 9113 §6.7).
    while !came.windows(9).any(|bytes| bytes == [0, 0, 8, 6, 0, 0, 0, 0, 0]) {
        assert!(stream.read_buf(&mut came).await.unwrap() > 0);
    }
}

/// A SETTINGS frame that says nothing (RFC 9113 §6.5).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
