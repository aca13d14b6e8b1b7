//! The fixture's own promises.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use masque_relay::probe::{Http, Means};
use tokio::{
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::support::{
    Relay,
    descriptors::{self, Descriptors, Own},
    tcp::{self, TcpBlackHole, TcpEcho, TcpTarget},
    udp::UdpTarget,
};

#[tokio::test]
async fn a_socket_towards_a_target_is_seen_until_it_is_closed() {
    let target = UdpTarget::echo().await;
    assert_eq!(descriptors::towards(target.address()), []);

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(target.address()).await.unwrap();
    socket.send(b"one").await.unwrap();

    let came = target.received(1).await;
    assert_eq!((came[0].from, came[0].payload.as_slice()), (socket.local_addr().unwrap(), &b"one"[..]));
    let mut answer = [0; 8];
    assert_eq!(socket.recv(&mut answer).await.unwrap(), 3);
    let seen = descriptors::towards(target.address());
    assert_eq!(seen.iter().map(|socket| socket.local).collect::<Vec<_>>(), [socket.local_addr().unwrap()]);
    drop(socket);
    descriptors::none_towards(target.address()).await;
}

#[tokio::test]
async fn what_is_left_over_is_told_from_what_is_the_tests_own() {
    let before = Descriptors::now();
    let own = Own { dns: "127.0.0.1:1".parse().unwrap(), relay: vec![] };
    let target = UdpTarget::silent().await;
    let (upstream, client) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    upstream.connect(target.address()).await.unwrap();
    let file = std::fs::File::open("Cargo.toml").unwrap();

    let left = before.left_over(&own).join("\n");
    for (address, listed) in [(upstream.local_addr(), true), (client.local_addr(), false), (Ok(target.address()), false)] {
        assert_eq!(left.contains(&format!("local: {}", address.unwrap())), listed, "{left}");
    }
    assert!(left.contains("Cargo.toml"), "{left}");
    let relay = Own { relay: vec![client.local_addr().unwrap()], ..own };
    assert!(before.left_over(&relay).join("\n").contains(&format!("local: {}", client.local_addr().unwrap())));
    drop(file);
}

#[tokio::test]
async fn a_black_hole_never_answers_a_syn() {
    let hole = TcpBlackHole::start().await;
    let answered = timeout(Duration::from_millis(300), TcpStream::connect(hole.address())).await;
    assert!(answered.is_err(), "{answered:?}");
}

#[tokio::test]
async fn a_reset_is_no_clean_end() {
    let target = TcpTarget::start().await;
    let mut stream = TcpStream::connect(target.address()).await.unwrap();
    tcp::reset(target.accept().await);
    assert_eq!(tcp::read_to_end(&mut stream).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_echo_finishes_when_its_client_has() {
    use tokio::io::AsyncWriteExt;

    let echo = TcpEcho::start().await;
    let mut stream = TcpStream::connect(echo.address()).await.unwrap();
    stream.write_all(b"two").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(tcp::read_to_end(&mut stream).await.unwrap(), b"two");
    assert_eq!(echo.accepted(), 1);
}

#[tokio::test]
async fn one_body_serves_every_version_and_finish_closes_its_clients() {
    for http in Http::ALL {
        let relay = Relay::spawn(|config| config.http.h1 = true).await;
        let (tcp, udp) = (TcpEcho::start().await, UdpTarget::echo().await);

        let client = relay.client_over(http).await;
        let mut tunnel = client.connect_tcp(&tcp.address().to_string()).await.expect("a TCP tunnel");
        tunnel.send(Bytes::from_static(b"there and back")).await.expect("room");
        tunnel.finish().expect("an open stream");
        assert_eq!(tunnel.read_to_end(100).await.expect("a clean end"), "there and back", "{http}");

        // HTTP/1.1 has one request a connection.
        let other = relay.client_over(http).await;
        let to = udp.address();
        let mut lane = other.connect_udp(&to.ip().to_string(), to.port()).await.expect("a UDP tunnel");
        lane.send_either(b"one").await.expect("room");
        let packet = lane.recv().await.expect("an echo");
        let means = if http == Http::H3 { Means::Datagram } else { Means::Capsule };
        assert_eq!((&packet.payload[..], packet.means), (&b"one"[..], means), "{http}");

        relay.finish().await;
        let closed = other.closed().await.expect("an end");
        assert!(!closed.by_peer, "{http}: {closed}");
        drop((tunnel, lane));
    }
}

mod dns {
    use std::{net::IpAddr, time::Duration};

    use hickory_resolver::{
        Resolver, TokioResolver,
        config::{ConnectionConfig, NameServerConfig, ResolverConfig},
        net::runtime::TokioRuntimeProvider,
        proto::{op::ResponseCode, rr::RecordType},
    };

    use super::*;
    use crate::support::dns::{Reply, ScriptedDns};

    fn resolver(server: SocketAddr) -> TokioResolver {
        let mut udp = ConnectionConfig::udp();
        udp.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().timeout = Duration::from_millis(300);
        builder.options_mut().attempts = 0;
        builder.build().unwrap()
    }

    async fn looked_up(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Vec<IpAddr>, String> {
        match resolver.lookup(format!("{name}."), kind).await {
            Ok(found) => Ok(found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn answers_come_as_scripted() {
        let dns = ScriptedDns::start().await;
        let ask = resolver(dns.address());
        let [one, two]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        dns.addresses("both.test", &[one, two]);
        dns.script("flip.test", RecordType::A, vec![Reply::Addresses(vec![one]), Reply::Error(ResponseCode::ServFail)]);
        dns.always("silent.test", &Reply::Silence);

        assert_eq!(looked_up(&ask, "Both.test", RecordType::A).await.unwrap(), [one]);
        assert_eq!(looked_up(&ask, "both.test", RecordType::AAAA).await.unwrap(), [two]);
        assert_eq!(dns.count("both.test"), 2);
        assert_eq!(looked_up(&ask, "flip.test", RecordType::A).await.unwrap(), [one]);
        looked_up(&ask, "flip.test", RecordType::A).await.unwrap_err();
        looked_up(&ask, "nobody.test", RecordType::A).await.unwrap_err();
        looked_up(&ask, "silent.test", RecordType::A).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_held_answer_waits_for_its_release() {
        let dns = ScriptedDns::start().await;
        let ask = resolver(dns.address());
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        dns.always("held.test", &Reply::Held(Box::new(Reply::Addresses(vec![one]))));
        let release = async {
            dns.asked("held.test", 1).await;
            dns.release();
        };
        let (found, ()) = tokio::join!(looked_up(&ask, "held.test", RecordType::A), release);
        assert_eq!(found.unwrap(), [one]);
    }
}
