//! Section H: TCP tunnels. What breaks them, and what holds them up, is below.

mod breaks;
mod pressure;

use bytes::Bytes;
use masque_relay::{
    probe::StreamEnd,
    proto::{codes::h3, frame},
};
use tokio::io::AsyncWriteExt;

use crate::support::{
    Relay,
    tcp::{self, TcpEcho, TcpTarget},
    tunnels::{assert_closed, open_tcp, pair},
};

#[tokio::test]
async fn c74_headers_in_a_tunnel_close_the_connection() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    for kind in [frame::HEADERS, frame::SETTINGS, frame::GOAWAY, 0x3, 0x5, 0xd] {
        let client = relay.client().await;
        let mut tunnel = open_tcp(&client, &echo).await;
        tunnel.send.send_raw(frame::encode(kind, &[0, 0]).into()).await.unwrap();
        assert_closed(&client, h3::FRAME_UNEXPECTED, &format!("frame {kind:#x}")).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c74_unknown_frames_are_skipped_and_early_data_is_delivered_in_order() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;
    let mut exchange = client.request(&client.options().tcp_head(&target.address().to_string())).await.unwrap();
    exchange.send.send(Bytes::from_static(b"early ")).await.unwrap();
    exchange.send.send_raw(frame::encode(0x21, b"grease").into()).await.unwrap();
    let mut tunnel = exchange.tcp().await.unwrap();
    tunnel.send.send_raw(frame::encode(0x4041, b"grease").into()).await.unwrap();
    tunnel.send(Bytes::from_static(b"late")).await.unwrap();
    tunnel.finish().unwrap();
    assert_eq!(tcp::read_to_end(&mut target.accept().await).await.unwrap(), b"early late");
    relay.finish().await;
}

#[tokio::test]
async fn c75_each_direction_closes_alone() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;

    let (mut tunnel, mut stream) = pair(&client, &target).await;
    tunnel.finish().unwrap();
    assert_eq!(tcp::read_to_end(&mut stream).await.unwrap(), b"");
    stream.write_all(b"still down").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(tunnel.read_to_end(100).await.unwrap(), "still down");
    drop(stream);

    let (mut tunnel, mut stream) = pair(&client, &target).await;
    stream.shutdown().await.unwrap();
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
    tunnel.send(Bytes::from_static(b"still up")).await.unwrap();
    tunnel.finish().unwrap();
    assert_eq!(tcp::read_to_end(&mut stream).await.unwrap(), b"still up");
    drop(stream);
    relay.finish().await;
}
