//! Section H: TCP tunnels. What breaks them, and what holds them up, is below.

mod breaks;
mod pressure;

use bytes::Bytes;
use masque_relay::{
    probe::{Http, StreamEnd},
    proto::{codes::h3, frame},
};
use tokio::io::AsyncWriteExt;

use crate::support::{
    Relay,
    dns::Reply,
    on_versions,
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
async fn c74_unknown_frames_are_skipped() {
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

on_versions!(c74_early_data_is_delivered_in_order: h1 h2 h3);

async fn c74_early_data_is_delivered_in_order(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;
    relay.dns.always("slow.test", &Reply::Held(Box::new(Reply::Addresses(vec![target.address().ip()]))));
    let head = client.options().tcp_head(&format!("slow.test:{}", target.address().port()));
    let mut exchange = client.request(&head).await.unwrap();
    relay.dns.asked("slow.test", 1).await;
    for part in [&b"sent "[..], b"ahead ", b"of the answer "] {
        exchange.send.send(Bytes::copy_from_slice(part)).await.unwrap();
    }
    relay.dns.release();
    let mut tunnel = exchange.tcp().await.unwrap();
    tunnel.send(Bytes::from_static(b"and behind it")).await.unwrap();
    tunnel.finish().unwrap();
    let mut stream = target.accept().await;
    assert_eq!(tcp::read_to_end(&mut stream).await.unwrap(), b"sent ahead of the answer and behind it");
    drop(stream);
    relay.finish().await;
}

on_versions!(c75_each_direction_closes_alone: h1 h2 h3);

async fn c75_each_direction_closes_alone(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client_over(http).await;

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
