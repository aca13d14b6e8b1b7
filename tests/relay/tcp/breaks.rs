//! A side that breaks off: the other one must not take it for an end (C-76, C-77).

use std::{io::ErrorKind, time::Duration};

use bytes::Bytes;
use masque_relay::{
    probe::{StreamEnd, TcpTunnel},
    proto::codes::h3,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
};

use crate::support::{
    Relay,
    tcp::{self, TcpTarget},
    tunnels::pair,
    within,
};

#[tokio::test]
async fn c76_a_reset_by_the_target_is_a_connect_error() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;
    let (mut tunnel, stream) = pair(&client, &target).await;
    tcp::reset(stream);
    assert_connect_error(&mut tunnel).await;
    relay.finish().await;
}

#[tokio::test]
async fn c76_a_reset_while_downloading_is_a_connect_error() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;
    let (mut tunnel, mut stream) = pair(&client, &target).await;
    for _ in 0..8 {
        stream.write_all(&vec![7; 64 << 10]).await.unwrap();
        tunnel.recv().await.unwrap().expect("the download goes on");
    }
    tcp::reset(stream);
    assert_connect_error(&mut tunnel).await;
    relay.finish().await;
}

#[tokio::test]
async fn c76_a_reset_while_uploading_is_a_connect_error() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;
    let (mut tunnel, mut stream) = pair(&client, &target).await;
    tunnel.send(vec![7; 64 << 10].into()).await.unwrap();
    stream.read_exact(&mut [0; 1 << 10]).await.unwrap();
    tcp::reset(stream);
    let end = loop {
        if let Err(end) = tunnel.send(vec![7; 64 << 10].into()).await {
            break end;
        }
    };
    assert_eq!(end, StreamEnd::Stopped(h3::CONNECT_ERROR));
    assert_connect_error(&mut tunnel).await;
    // quinn never says CONNECTION_CLOSE once its congestion window is full at that moment: by the next answer it no longer is.
    drop(tunnel);
    client.connect_tcp("nowhere.test:80").await.unwrap_err();
    relay.finish().await;
}

#[tokio::test]
async fn c76_a_reset_behind_a_clean_end_stops_the_other_direction_only() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;

    let (mut tunnel, mut stream) = pair(&client, &target).await;
    stream.write_all(b"all there is").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(tunnel.read_to_end(100).await.unwrap(), "all there is");
    tcp::reset(stream);
    assert_eq!(tunnel.send.stopped().await, StreamEnd::Stopped(h3::CONNECT_ERROR));
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);

    // The client's own end takes nothing from the target's reset.
    let (mut tunnel, mut stream) = pair(&client, &target).await;
    tunnel.finish().unwrap();
    assert_eq!(tcp::read_to_end(&mut stream).await.unwrap(), b"");
    tcp::reset(stream);
    assert_eq!(tunnel.ended().await, StreamEnd::Reset(h3::CONNECT_ERROR));
    relay.finish().await;
}

#[tokio::test]
async fn c77_an_abort_by_the_client_resets_the_target() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;
    for way in ["reset", "stop", "drop", "close"] {
        let (mut tunnel, mut stream) = pair(&client, &target).await;
        tunnel.send(Bytes::from_static(b"the first part of")).await.unwrap();
        tcp::read(&mut stream, 17).await;
        match way {
            "reset" => tunnel.reset(h3::REQUEST_CANCELLED).unwrap(),
            "stop" => tunnel.stop(h3::REQUEST_CANCELLED).unwrap(),
            "drop" => drop(tunnel),
            _ => client.close(h3::NO_ERROR, b""),
        }
        assert_reset(&mut stream, way).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c77_a_client_that_goes_silent_resets_the_target() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    // The shorter of both sides' idle limits is the connection's: after it each side forgets the other without a word.
    let client = relay.client_with(|options| options.idle = Some(Duration::from_millis(500))).await;
    let (_tunnel, mut stream) = pair(&client, &target).await;
    assert_reset(&mut stream, "silent").await;
    drop(stream);
    relay.finish().await;
}

#[tokio::test]
async fn c77_an_abort_behind_the_clients_clean_end_resets_the_target_too() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;
    for way in ["stop", "close"] {
        let (mut tunnel, mut stream) = pair(&client, &target).await;
        tunnel.send(Bytes::from_static(b"all there is")).await.unwrap();
        tunnel.finish().unwrap();
        assert_eq!(tcp::read_to_end(&mut stream).await.unwrap(), b"all there is");
        match way {
            "stop" => tunnel.stop(h3::REQUEST_CANCELLED).unwrap(),
            _ => client.close(h3::NO_ERROR, b""),
        }
        // The FIN has been read, so that nothing shows by reading; and writing would be answered with a reset in any case.
        within("the relay's reset", stream.ready(Interest::ERROR)).await.unwrap();
        assert_eq!(stream.take_error().unwrap().map(|error| error.kind()), Some(ErrorKind::BrokenPipe), "{way}");
    }
    relay.finish().await;
}

/// Both directions were broken off, for the target's sake.
async fn assert_connect_error(tunnel: &mut TcpTunnel) {
    assert_eq!(tunnel.ended().await, StreamEnd::Reset(h3::CONNECT_ERROR));
    assert_eq!(tunnel.send.stopped().await, StreamEnd::Stopped(h3::CONNECT_ERROR));
}

/// The relay broke its connection to the target off.
async fn assert_reset(stream: &mut TcpStream, what: &str) {
    let error = tcp::read_to_end(stream).await.expect_err(what);
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{what}");
}
