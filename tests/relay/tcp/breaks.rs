//! A side that breaks off: the other one must not take it for an end (C-76, C-77).

use std::{io::ErrorKind, time::Duration};

use bytes::Bytes;
use masque_relay::{
    ended::Reset,
    probe::{Http, StreamEnd, TcpTunnel},
    proto::codes::h3,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    Relay, on_versions,
    tcp::{self, TcpTarget},
    tunnels::{assert_reset, pair},
    within,
};

on_versions!(c76_a_reset_by_the_target_is_a_connect_error: h1 h2 h3);

async fn c76_a_reset_by_the_target_is_a_connect_error(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;
    let (mut tunnel, stream) = pair(&client, &target).await;
    tcp::reset(stream);
    assert_connect_error(&mut tunnel).await;
    relay.finish().await;
}

on_versions!(c76_a_reset_while_downloading_is_a_connect_error: h1 h2 h3);

async fn c76_a_reset_while_downloading_is_a_connect_error(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;
    let (mut tunnel, mut stream) = pair(&client, &target).await;
    for _ in 0..8 {
        stream.write_all(&vec![7; 64 << 10]).await.unwrap();
        tunnel.recv().await.unwrap().expect("the download goes on");
    }
    tcp::reset(stream);
    assert_connect_error(&mut tunnel).await;
    relay.finish().await;
}

on_versions!(c76_a_reset_while_uploading_is_a_connect_error: h1 h2 h3);

async fn c76_a_reset_while_uploading_is_a_connect_error(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;
    let (mut tunnel, mut stream) = pair(&client, &target).await;
    tunnel.send(vec![7; 64 << 10].into()).await.unwrap();
    stream.read_exact(&mut [0; 1 << 10]).await.unwrap();
    tcp::reset(stream);
    assert_reset(&refused(&mut tunnel).await, http, Reset::Connect, "sending");
    assert_connect_error(&mut tunnel).await;
    // quinn never says CONNECTION_CLOSE once its congestion window is full at that moment: by the next answer it no longer is.
    drop(tunnel);
    client.connect_tcp("nowhere.test:80").await.unwrap_err();
    relay.finish().await;
}

on_versions!(c76_a_reset_behind_a_clean_end_stops_the_other_direction_only: h1 h2 h3);

async fn c76_a_reset_behind_a_clean_end_stops_the_other_direction_only(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;

    let (mut tunnel, mut stream) = pair(&client, &target).await;
    stream.write_all(b"all there is").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(tunnel.read_to_end(100).await.unwrap(), "all there is");
    tcp::reset(stream);
    let end = match http {
        // Nobody reads any more. Only who writes sees it.
        Http::H1 => refused(&mut tunnel).await,
        _ => tunnel.send.stopped().await,
    };
    assert_reset(&end, http, Reset::Connect, "behind the target's end");
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);

    // The client's own end takes nothing from the target's reset.
    let (mut tunnel, mut stream) = pair(&client, &target).await;
    tunnel.finish().unwrap();
    assert_eq!(tcp::read_to_end(&mut stream).await.unwrap(), b"");
    tcp::reset(stream);
    assert_reset(&tunnel.ended().await, http, Reset::Connect, "behind the client's end");
    relay.finish().await;
}

on_versions!(c77_an_abort_by_the_client_resets_the_target: h1 h2 h3);

async fn c77_an_abort_by_the_client_resets_the_target(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;
    for way in ["reset", "stop", "drop", "close"] {
        let (mut tunnel, mut stream) = pair(&client, &target).await;
        tunnel.send(Bytes::from_static(b"the first part of")).await.unwrap();
        tcp::read(&mut stream, 17).await;
        match way {
            "reset" => tunnel.reset_as(Reset::Cancelled).unwrap(),
            "stop" => tunnel.stop_as(Reset::Cancelled).unwrap(),
            "drop" => drop(tunnel),
            _ => client.close(h3::NO_ERROR, b""),
        }
        assert_target_reset(&mut stream, way).await;
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
    assert_target_reset(&mut stream, "silent").await;
    drop(stream);
    relay.finish().await;
}

on_versions!(c77_an_abort_behind_the_clients_clean_end_resets_the_target_too: h1 h2 h3);

async fn c77_an_abort_behind_the_clients_clean_end_resets_the_target_too(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;
    let ways = match http {
        // A close behind FIN is no packet at all.
        Http::H1 => &["stop"][..],
        _ => &["stop", "close"],
    };
    for way in ways {
        let (mut tunnel, mut stream) = pair(&client, &target).await;
        tunnel.send(Bytes::from_static(b"all there is")).await.unwrap();
        tunnel.finish().unwrap();
        assert_eq!(tcp::read_to_end(&mut stream).await.unwrap(), b"all there is");
        match *way {
            "stop" => tunnel.stop_as(Reset::Cancelled).unwrap(),
            _ => client.close(h3::NO_ERROR, b""),
        }
        // The FIN has been read, so that nothing shows by reading; and writing would be answered with a reset in any case.
        within("the relay's reset", stream.ready(Interest::ERROR)).await.unwrap();
        assert_eq!(stream.take_error().unwrap().map(|error| error.kind()), Some(ErrorKind::BrokenPipe), "{way}");
    }
    relay.finish().await;
}

on_versions!(c77_an_abort_while_a_finished_target_takes_nothing_resets_it: h2 h3);

async fn c77_an_abort_while_a_finished_target_takes_nothing_resets_it(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;
    let (mut tunnel, mut stream) = pair(&client, &target).await;
    stream.shutdown().await.unwrap();
    assert_eq!(tunnel.read_to_end(100).await.unwrap(), "");
    // Until the relay takes no more.
    while timeout(Duration::from_millis(500), tunnel.send(vec![7; 64 << 10].into())).await.is_ok() {}
    client.close(h3::NO_ERROR, b"");
    let error = timeout(Duration::from_secs(3), stream.ready(Interest::ERROR)).await;
    assert!(error.is_ok(), "the target's connection is not broken off");
    drop((tunnel, stream));
    relay.finish().await;
}

/// Both directions were broken off, for the target's sake.
async fn assert_connect_error(tunnel: &mut TcpTunnel) {
    let http = tunnel.send.http();
    assert_reset(&tunnel.ended().await, http, Reset::Connect, "from the target");
    assert_reset(&tunnel.send.stopped().await, http, Reset::Connect, "towards the target");
}

/// Sends until the relay takes no more, and says why it does not.
async fn refused(tunnel: &mut TcpTunnel) -> StreamEnd {
    loop {
        if let Err(end) = tunnel.send(vec![7; 64 << 10].into()).await {
            return end;
        }
    }
}

/// The relay broke its connection to the target off.
async fn assert_target_reset(stream: &mut TcpStream, what: &str) {
    let error = tcp::read_to_end(stream).await.expect_err(what);
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{what}");
}
