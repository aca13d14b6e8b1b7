//! Tunnels for the sections about them, and what is expected of one.

use std::net::SocketAddr;

use bytes::Bytes;
use masque_relay::{
    ended::Reset,
    probe::{Closed, Http, Layer, StreamEnd, TcpTunnel, UdpTunnel},
    proto::{settings::Settings, write_varint},
};
use tokio::net::TcpStream;

use super::{
    Client, Relay,
    tcp::{TcpEcho, TcpTarget},
    udp::UdpTarget,
};

/// The relay closed the connection with this HTTP/3 code.
pub(crate) async fn assert_closed(client: &Client, code: u64, what: &str) {
    let closed = client.closed().await.unwrap();
    let Closed { by_peer, layer, code: seen, .. } = closed;
    assert_eq!((by_peer, layer, seen), (true, Layer::Application, code), "{what}: {closed}");
}

/// A stream ended like this, whatever the version.
#[track_caller]
pub(crate) fn assert_reset(end: &StreamEnd, http: Http, reset: Reset, what: &str) {
    assert!(end.is_reset(http, reset), "{what}: {end:?} is no {reset:?}");
}

/// A tunnel can be opened and carries bytes.
pub(crate) async fn assert_works(client: &Client, target: &TcpEcho) {
    let mut tunnel = open_tcp(client, target).await;
    assert_echoes(&mut tunnel).await;
    tunnel.finish().unwrap();
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
}

/// Bytes go there and back.
pub(crate) async fn assert_echoes(tunnel: &mut TcpTunnel) {
    tunnel.send(Bytes::from_static(b"there and back")).await.unwrap();
    let mut back = Vec::new();
    while back.len() < 14 {
        back.extend_from_slice(&tunnel.recv().await.unwrap().expect("the echo goes on"));
    }
    assert_eq!(back, b"there and back");
}

/// A packet goes there and back.
pub(crate) async fn assert_echoes_udp(tunnel: &mut UdpTunnel, payload: &[u8]) {
    tunnel.send_either(payload).await.unwrap();
    assert_eq!(&tunnel.recv().await.unwrap().payload[..], payload);
}

/// A client that takes no QUIC datagrams, and gives so many bytes of credit on each stream; over HTTP/1.1 TCP gives its own.
pub(crate) async fn capsule_client(relay: &Relay, http: Http, window: u32) -> Client {
    relay
        .client_with(|options| {
            options.http = http;
            options.settings = Settings(Vec::new());
            options.datagram_receive = None;
            options.stream_window = window;
        })
        .await
}

/// A tunnel to a UDP target.
pub(crate) async fn open_udp(client: &Client, target: &UdpTarget) -> UdpTunnel {
    client.connect_udp(&target.address().ip().to_string(), target.address().port()).await.unwrap()
}

/// A tunnel to a TCP echo.
pub(crate) async fn open_tcp(client: &Client, target: &TcpEcho) -> TcpTunnel {
    client.connect_tcp(&target.address().to_string()).await.unwrap()
}

/// Both ends of a TCP tunnel.
pub(crate) async fn pair(client: &Client, target: &TcpTarget) -> (TcpTunnel, TcpStream) {
    let tunnel = client.connect_tcp(&target.address().to_string()).await.unwrap();
    (tunnel, target.accept().await)
}

/// The relay's socket of this tunnel, as its target sees it after a first packet.
pub(crate) async fn upstream(tunnel: &mut UdpTunnel, target: &UdpTarget) -> SocketAddr {
    tunnel.send_capsule(b"where are you").await.unwrap();
    target.received(1).await[0].from
}

/// What the target has received.
pub(crate) fn payloads(target: &UdpTarget) -> Vec<Vec<u8>> {
    target.so_far().into_iter().map(|packet| packet.payload).collect()
}

/// A capsule of an encoded type.
pub(crate) fn capsule(kind: &[u8], value: &[u8]) -> Bytes {
    let mut bytes = kind.to_vec();
    write_varint(value.len() as u64, &mut bytes);
    bytes.extend_from_slice(value);
    bytes.into()
}

/// An HTTP Datagram, context ID and all, for a request of this quarter stream ID.
pub(crate) fn datagram(quarter_id: u64, value: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    write_varint(quarter_id, &mut bytes);
    bytes.extend_from_slice(value);
    bytes.into()
}
