//! How many round trips it takes to begin, over a path so long that nothing else counts.

use std::time::Duration;

use masque_relay::ended::Reset;
use tokio::time::Instant;

use crate::support::{
    Client, PATIENCE, Relay,
    path::{Conditions, Path},
    tcp::TcpEcho,
    tunnels::{assert_echoes, assert_echoes_udp, open_tcp, open_udp},
    udp::UdpTarget,
};

/// There and back.
const TRIP: Duration = Duration::from_millis(300);

/// A relay at the end of the path.
struct Far {
    relay: Relay,
    path: Path,
}

impl Far {
    async fn start() -> Self {
        let relay = Relay::spawn(|_| {}).await;
        let way = Conditions { delay: TRIP / 2, ..Conditions::default() };
        Self { path: Path::start(relay.address(), 1, way, way).await.unwrap(), relay }
    }

    async fn client(&self) -> Client {
        self.relay.client_with(|options| (options.addresses, options.timeout) = (vec![self.path.address()], PATIENCE)).await
    }
}

/// Fails where it takes half a round trip more than so many; it cannot take less.
async fn takes<T>(trips: u32, what: &str, future: impl Future<Output = T>) -> T {
    let future = Box::pin(future);
    let start = Instant::now();
    let done = future.await;
    let took = start.elapsed();
    println!("{what}: {:.2} round trips", took.as_secs_f64() / TRIP.as_secs_f64());
    assert!(took >= TRIP * trips, "{what}: {took:?}, less than {trips} round trips");
    assert!(took < TRIP * trips + TRIP / 2, "{what}: {took:?}, more than {trips} round trips");
    done
}

/// One for TLS, one for the request: SETTINGS come in the relay's first flight, and the request leaves with the end of the handshake.
#[tokio::test]
async fn a_connection_and_its_first_tunnel_take_two_round_trips() {
    let (far, tcp, udp) = (Far::start().await, TcpEcho::start().await, UdpTarget::echo().await);
    let first = async {
        let client = far.client().await;
        let tunnel = open_tcp(&client, &tcp).await;
        (client, tunnel)
    };
    takes(2, "a connection with a TCP tunnel", first).await;
    let first = async {
        let client = far.client().await;
        let tunnel = open_udp(&client, &udp).await;
        (client, tunnel)
    };
    takes(2, "a connection with a UDP tunnel", first).await;
    far.relay.finish().await;
}

#[tokio::test]
async fn a_further_tunnel_takes_one_round_trip_also_behind_one_that_was_cancelled() {
    let (far, tcp, udp) = (Far::start().await, TcpEcho::start().await, UdpTarget::echo().await);
    let client = far.client().await;
    // SETTINGS are there from here on.
    assert_echoes(&mut open_tcp(&client, &tcp).await).await;
    let mut tunnel = takes(1, "a further UDP tunnel", open_udp(&client, &udp)).await;
    takes(1, "a packet and its echo", assert_echoes_udp(&mut tunnel, b"there and back")).await;
    let mut tunnel = takes(1, "a further TCP tunnel", open_tcp(&client, &tcp)).await;
    takes(1, "bytes and their echo", assert_echoes(&mut tunnel)).await;

    // What an Apple client does whose TCP connection is as good: CONNECT-UDP, which it cancels, and CONNECT right behind.
    let target = udp.address();
    let mut cancelled = client.request(&client.options().udp_head(&target.ip().to_string(), target.port())).await.unwrap();
    cancelled.send.reset_as(Reset::Cancelled).unwrap();
    cancelled.recv.stop_as(Reset::Cancelled).unwrap();
    let mut tunnel = takes(1, "a TCP tunnel behind a cancelled UDP one", open_tcp(&client, &tcp)).await;
    assert_echoes(&mut tunnel).await;
    drop((tunnel, cancelled));
    far.relay.finish().await;
}
