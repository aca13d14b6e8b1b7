//! Section I: the life of a relay and of its tunnels.

use std::time::Duration;

use masque_relay::probe::StreamEnd;

use crate::support::{
    Relay,
    tcp::TcpEcho,
    tunnels::{assert_echoes, assert_echoes_udp, open_tcp, open_udp},
    udp::UdpTarget,
};

#[tokio::test]
async fn c79_a_drain_says_goaway_and_lets_tunnels_end() {
    let mut relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let mut tunnel = open_tcp(&client, &echo).await;
    let server = relay.take_server();
    let work = async {
        // The largest there is, then the last that counts.
        client.goaway(2).await.unwrap();
        assert_echoes(&mut tunnel).await;
        tunnel.finish().unwrap();
        assert_eq!(tunnel.ended().await, StreamEnd::Finished);
    };
    let (cut, ()) = tokio::join!(server.drain(Duration::from_secs(4)), work);
    assert_eq!(cut, 0);
    assert!(client.goaways()[0] >= client.goaways()[1], "{:?}", client.goaways());
    relay.finish().await;
}

#[tokio::test]
async fn c80_tunnels_outlive_a_change_of_address() {
    let relay = Relay::spawn(|_| {}).await;
    let (echo, target) = (UdpTarget::echo().await, TcpEcho::start().await);
    let client = relay.client().await;
    let (mut udp, mut tcp) = (open_udp(&client, &echo).await, open_tcp(&client, &target).await);
    assert_echoes_udp(&mut udp, b"before").await;
    client.rebind().unwrap();
    assert_echoes(&mut tcp).await;
    assert_echoes_udp(&mut udp, b"after").await;
    assert_eq!((target.accepted(), echo.so_far().len()), (1, 2));
    relay.finish().await;
}
