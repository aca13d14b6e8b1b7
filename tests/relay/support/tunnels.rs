//! Tunnels for the sections about them, and what is expected of one.

use bytes::Bytes;
use masque_relay::{
    probe::{Client, Closed, Layer, TcpTunnel, UdpTunnel},
    proto::write_varint,
};
use tokio::net::TcpStream;

use super::{
    tcp::{TcpEcho, TcpTarget},
    udp::UdpTarget,
};

/// The relay closed the connection with this HTTP/3 code.
pub(crate) async fn assert_closed(client: &Client, code: u64, what: &str) {
    let closed = client.closed().await.unwrap();
    let Closed { by_peer, layer, code: seen, .. } = closed;
    assert_eq!((by_peer, layer, seen), (true, Layer::Application, code), "{what}: {closed}");
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

/// A datagram goes there and back.
pub(crate) async fn assert_echoes_udp(tunnel: &mut UdpTunnel, payload: &[u8]) {
    tunnel.send(payload).unwrap();
    assert_eq!(&tunnel.recv().await.unwrap().payload[..], payload);
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
