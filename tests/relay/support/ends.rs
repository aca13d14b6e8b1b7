//! How connections end, and tunnels that go on.

use bytes::Bytes;
use masque_relay::probe::{Closed, Layer, StreamEnd, TcpTunnel};

use super::{Client, tcp::TcpEcho};

/// The relay closed the connection with this HTTP/3 code.
pub(crate) async fn assert_closed(client: &Client, code: u64, what: &str) {
    let closed = client.closed().await.unwrap();
    let Closed { by_peer, layer, code: seen, .. } = closed;
    assert_eq!((by_peer, layer, seen), (true, Layer::Application, code), "{what}: {closed}");
}

/// A tunnel can be opened and carries bytes.
pub(crate) async fn assert_works(client: &Client, echo: &TcpEcho) {
    let mut tunnel = client.connect_tcp(&echo.address().to_string()).await.unwrap();
    assert_echoes(&mut tunnel).await;
    tunnel.finish().unwrap();
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
}

/// A tunnel to a [`TcpEcho`] carries bytes both ways.
pub(crate) async fn assert_echoes(tunnel: &mut TcpTunnel) {
    tunnel.send(Bytes::from_static(b"there and back")).await.unwrap();
    let mut back = Vec::new();
    while back.len() < 14 {
        back.extend_from_slice(&tunnel.recv().await.unwrap().expect("the echo goes on"));
    }
    assert_eq!(back, b"there and back");
}
