//! Sections E to I: datagrams, capsules, the sockets towards targets, and the life of tunnels.

use std::time::Duration;

use bytes::Bytes;
use masque_relay::{
    probe::{Client, Closed, Layer, Means, StreamEnd, TcpTunnel, UdpTunnel},
    proto::{codes::h3, frame, write_varint},
};
use tokio::io::AsyncWriteExt;

use crate::support::{
    Relay, descriptors,
    tcp::{self, TcpEcho, TcpTarget},
    udp::{self, UdpTarget},
};

#[tokio::test]
async fn c48_each_of_100_tunnels_gets_its_own_traffic() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut tunnels = Vec::new();
    for _ in 0..100 {
        tunnels.push(open_udp(&client, &echo).await);
    }
    assert!(tunnels.last().unwrap().quarter_id() > 63);

    // Few enough at once that none is lost on loopback.
    for chunk in tunnels.chunks_mut(10) {
        for tunnel in chunk.iter() {
            tunnel.send(&tunnel.quarter_id().to_be_bytes()).unwrap();
        }
        for tunnel in chunk {
            let packet = tunnel.recv().await.unwrap();
            assert_eq!((&packet.payload[..], packet.means), (&tunnel.quarter_id().to_be_bytes()[..], Means::Datagram));
        }
    }
    relay.finish().await;
}

#[tokio::test]
async fn c49_a_quarter_stream_id_out_of_range_or_cut_off_closes_the_connection() {
    let relay = Relay::spawn(|_| {}).await;
    for datagram in [&[][..], &[0x40], &[0xc0, 0, 0, 0], &[0xd0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[0xff; 12]] {
        let client = relay.client().await;
        client.settings().await.unwrap();
        client.send_raw_datagram(Bytes::copy_from_slice(datagram)).unwrap();
        assert_closed(&client, h3::DATAGRAM_ERROR, &format!("{datagram:x?}")).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c50_datagrams_of_streams_not_open_or_over_are_dropped() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut over = open_udp(&client, &echo).await;
    let mut tunnel = open_udp(&client, &echo).await;
    over.finish().unwrap();
    assert_eq!(over.ended().await, StreamEnd::Finished);

    over.send(b"too late").unwrap();
    let mut early = Vec::new();
    write_varint(tunnel.quarter_id() + 5, &mut early);
    early.extend_from_slice(&[0, b'x']);
    client.send_raw_datagram(early.into()).unwrap();

    assert_echoes_udp(&mut tunnel, b"alive").await;
    assert_eq!(payloads(&echo), [b"alive"]);
    relay.finish().await;
}

#[tokio::test]
async fn c51_a_datagram_for_a_classic_connect_aborts_that_request_only() {
    let relay = Relay::spawn(|_| {}).await;
    let (echo, target) = (UdpTarget::echo().await, TcpEcho::start().await);
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    let mut tcp = open_tcp(&client, &target).await;

    let mut datagram = Vec::new();
    write_varint(tcp.send.id() / 4, &mut datagram);
    datagram.extend_from_slice(&[0, b'x']);
    client.send_raw_datagram(datagram.into()).unwrap();

    assert_eq!(tcp.ended().await, StreamEnd::Reset(h3::DATAGRAM_ERROR));
    assert_echoes_udp(&mut tunnel, b"alive").await;
    relay.finish().await;
}

#[tokio::test]
async fn c52_unknown_contexts_are_neither_forwarded_nor_fatal() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;

    for context in [&[2][..], &[4], &[1], &[0x40, 0x64], &[0xff; 8]] {
        tunnel.send_datagram_raw(&[context, b"no"].concat()).unwrap();
        tunnel.send.send(capsule(&[0], &[context, b"no"].concat())).await.unwrap();
    }

    assert_echoes_udp(&mut tunnel, b"by datagram").await;
    tunnel.send_capsule(b"by capsule").await.unwrap();
    tunnel.recv().await.unwrap();
    assert_eq!(payloads(&echo), [&b"by datagram"[..], b"by capsule"]);
    relay.finish().await;
}

#[tokio::test]
async fn c53_integers_need_not_be_minimal() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    let long = |value: u8| [0xc0, 0, 0, 0, 0, 0, 0, value];

    let quarter = u8::try_from(tunnel.quarter_id()).unwrap();
    client.send_raw_datagram([&long(quarter)[..], &long(0), b"datagram"].concat().into()).unwrap();
    assert_eq!(tunnel.recv().await.unwrap().payload, "datagram");

    let bytes = [&long(0)[..], &long(10), &[0x40, 0], b"capsule!"].concat();
    tunnel.send.send(bytes.into()).await.unwrap();
    assert_eq!(tunnel.recv().await.unwrap().payload, "capsule!");
    relay.finish().await;
}

#[tokio::test]
async fn c54_a_datagram_without_context_is_dropped_and_an_empty_payload_forwarded() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;

    for cut in [&[][..], &[0x40], &[0x80, 0, 0]] {
        tunnel.send_datagram_raw(cut).unwrap();
    }
    assert_echoes_udp(&mut tunnel, b"").await;
    tunnel.send_capsule(b"").await.unwrap();
    assert_eq!(tunnel.recv().await.unwrap().payload, "");
    assert_eq!(payloads(&echo), [b"", b""]);
    relay.finish().await;
}

#[tokio::test]
async fn c54_a_capsule_without_context_is_malformed() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    for value in [&[][..], &[0x40]] {
        let mut tunnel = open_udp(&client, &echo).await;
        tunnel.send.send(capsule(&[0], value)).await.unwrap();
        assert!(matches!(tunnel.ended().await, StreamEnd::Reset(_)), "{value:x?}");
    }
    let mut tunnel = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut tunnel, b"alive").await;
    relay.finish().await;
}

#[tokio::test]
async fn c55_a_payload_above_65527_bytes_ends_its_tunnel_only() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut other = open_udp(&client, &echo).await;
    // 65528 bytes of payload and the context ID; then one that only claims its length, and sends no value beyond the context ID.
    for bytes in [[&[0, 0x80, 0, 0xff, 0xf9][..], &vec![0; 65529]].concat(), vec![0, 0xc0, 0, 1, 0, 0, 0, 0, 0, 0]] {
        let mut tunnel = open_udp(&client, &echo).await;
        let claimed = bytes.len();
        // The relay may stop it before all of it is sent.
        tunnel.send.send(bytes.into()).await.ok();
        let end = tunnel.ended().await;
        assert!(matches!(end, StreamEnd::Reset(_)), "{claimed} bytes: {end:?}");
    }
    assert_echoes_udp(&mut other, b"alive").await;
    assert_eq!(payloads(&echo), [b"alive"]);
    relay.finish().await;
}

#[tokio::test]
async fn c56_datagrams_ahead_of_the_answer_are_delivered_after_it() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    client.settings().await.unwrap();
    let head = client.options().udp_head("127.0.0.1", echo.address().port());
    let mut exchange = client.exchange().await.unwrap();
    let mut early = Vec::new();
    write_varint(exchange.quarter_id(), &mut early);
    early.extend_from_slice(&[0, b'e']);
    exchange.send_head(&head).await.unwrap();
    client.send_raw_datagram(early.into()).unwrap();
    let mut tunnel = exchange.udp().await.unwrap();
    assert_eq!(tunnel.recv().await.unwrap().payload, "e");
    relay.finish().await;
}

#[tokio::test]
async fn c57_datagrams_after_fin_are_not_forwarded() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut over = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut over, b"first").await;
    over.finish().unwrap();
    assert_eq!(over.ended().await, StreamEnd::Finished);
    descriptors::none_towards(echo.address()).await;
    let from = echo.so_far()[0].from;

    for _ in 0..10 {
        over.send(b"too late").unwrap();
    }
    echo.send(b"nor back", from).await;
    let mut tunnel = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut tunnel, b"last").await;
    assert_eq!(payloads(&echo), [&b"first"[..], b"last"]);
    assert_eq!(client.quinn().stats().frame_rx.datagram, 2);
    relay.finish().await;
}

#[tokio::test]
async fn c61_capsules_and_datagrams_mix() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    for round in 0..10_u8 {
        if round % 2 == 0 {
            tunnel.send(&[round; 500]).unwrap();
        } else {
            tunnel.send_capsule(&[round; 500]).await.unwrap();
        }
        assert_eq!(&tunnel.recv().await.unwrap().payload[..], [round; 500]);
    }
    relay.finish().await;
}

#[tokio::test]
async fn c62_unknown_capsules_are_skipped() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    for (kind, length) in [(0x17, 0), (0x29 * 5 + 0x17, 3), (0x29 * 1000 + 0x17, 128 << 10), (0x1234, 70_000)] {
        let mut number = Vec::new();
        write_varint(kind, &mut number);
        tunnel.send.send(capsule(&number, &vec![0; length])).await.unwrap();
        tunnel.send_capsule(b"next").await.unwrap();
        assert_eq!(tunnel.recv().await.unwrap().payload, "next", "type {kind:#x} of {length}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c62_a_capsule_of_2_to_the_40_takes_no_memory_and_datagrams_go_on() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    tunnel.send.send(Bytes::from_static(&[0x17, 0xc0, 0, 1, 0, 0, 0, 0, 0])).await.unwrap();
    // Many times the flow control window: it is read and thrown away.
    for _ in 0..64 {
        tunnel.send.send(vec![0; 128 << 10].into()).await.unwrap();
    }
    assert_echoes_udp(&mut tunnel, b"beside it").await;
    relay.finish().await;
}

#[tokio::test]
async fn c63_a_capsule_cut_off_by_fin_is_malformed() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    for cut in [&[0x40][..], &[0], &[0, 5], &[0, 5, 0, b'x'], &[0x17, 4, 1]] {
        let mut tunnel = open_udp(&client, &echo).await;
        tunnel.send.send(Bytes::copy_from_slice(cut)).await.unwrap();
        tunnel.finish().unwrap();
        assert_eq!(tunnel.ended().await, StreamEnd::Reset(h3::MESSAGE_ERROR), "{cut:x?}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c66_capsules_of_other_extensions_leave_the_tunnel_working() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    // CONNECT-IP, bound UDP, QUIC-aware proxying, WRAP_UP.
    for kind in [0x1, 0x2, 0x3, 0x11, 0x12, 0x13, 0xff_e400, 0xff_e401, 0xff_e402, 0xff_e403, 0xff_e404, 0x272d_da5e] {
        let mut number = Vec::new();
        write_varint(kind, &mut number);
        tunnel.send.send(capsule(&number, &[0, 1, 2])).await.unwrap();
        tunnel.send_capsule(b"next").await.unwrap();
        assert_eq!(tunnel.recv().await.unwrap().payload, "next", "type {kind:#x}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c68_a_closed_port_ends_the_tunnel() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    let closed = udp::closed_port();
    let mut tunnel = client.connect_udp("127.0.0.1", closed.port()).await.unwrap();
    tunnel.send(b"anyone?").unwrap();
    let end = tunnel.ended().await;
    assert!(matches!(end, StreamEnd::Reset(_) | StreamEnd::Finished), "{end:?}");
    descriptors::none_towards(closed).await;
    relay.finish().await;
}

#[tokio::test]
async fn c70_an_idle_tunnel_ends_with_its_socket() {
    let relay = Relay::spawn(|config| config.timeouts.udp_idle = Duration::from_millis(300)).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut tunnel, b"once").await;
    let end = tunnel.ended().await;
    assert!(matches!(end, StreamEnd::Reset(_) | StreamEnd::Finished), "{end:?}");
    descriptors::none_towards(echo.address()).await;
    relay.finish().await;
}

#[test]
fn c70_the_default_is_two_minutes_at_least() {
    assert!(masque_relay::config::Config::default().timeouts.udp_idle >= Duration::from_secs(120));
}

#[tokio::test]
async fn c72_every_end_by_the_client_closes_the_socket() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client().await;
    for end in 0..4 {
        let mut tunnel = open_udp(&client, &echo).await;
        assert_echoes_udp(&mut tunnel, b"open").await;
        match end {
            0 => tunnel.finish().unwrap(),
            1 => tunnel.reset(h3::REQUEST_CANCELLED).unwrap(),
            2 => tunnel.stop(h3::REQUEST_CANCELLED).unwrap(),
            _ => client.close(h3::NO_ERROR, b""),
        }
        descriptors::none_towards(echo.address()).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c73_packets_to_a_silent_target_are_capped_until_it_answers() {
    let relay = Relay::spawn(|config| config.limits.unanswered_packets = 5).await;
    let (silent, other, echo) = (UdpTarget::silent().await, UdpTarget::silent().await, UdpTarget::echo().await);
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &silent).await;
    for _ in 0..20 {
        tunnel.send_capsule(b"hello?").await.unwrap();
    }
    // FIN is behind the capsules: once it is answered, all have been looked at.
    tunnel.finish().unwrap();
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
    assert_eq!(silent.received(5).await.len(), 5);

    let mut tunnel = open_udp(&client, &other).await;
    for _ in 0..5 {
        tunnel.send_capsule(b"hello?").await.unwrap();
    }
    let from = other.received(5).await[0].from;
    other.send(b"here", from).await;
    assert_eq!(tunnel.recv().await.unwrap().payload, "here");
    for _ in 0..20 {
        tunnel.send_capsule(b"again").await.unwrap();
    }
    assert_eq!(other.received(25).await.len(), 25);

    let mut tunnel = open_udp(&client, &echo).await;
    for _ in 0..20 {
        assert_echoes_udp(&mut tunnel, b"answered").await;
    }
    relay.finish().await;
}

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

#[tokio::test]
async fn c76_a_reset_by_the_target_is_a_connect_error() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;
    let (mut tunnel, stream) = pair(&client, &target).await;
    tcp::reset(stream);
    assert_eq!(tunnel.ended().await, StreamEnd::Reset(h3::CONNECT_ERROR));
    assert_eq!(tunnel.send.stopped().await, StreamEnd::Stopped(h3::CONNECT_ERROR));
    relay.finish().await;
}

#[tokio::test]
async fn c77_an_abort_by_the_client_resets_the_target() {
    let relay = Relay::spawn(|_| {}).await;
    let target = TcpTarget::start().await;
    let client = relay.client().await;
    for lost in [false, true] {
        let (mut tunnel, mut stream) = pair(&client, &target).await;
        if lost {
            client.close(h3::NO_ERROR, b"");
        } else {
            tunnel.reset(h3::REQUEST_CANCELLED).unwrap();
        }
        let error = tcp::read_to_end(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "connection lost: {lost}");
    }
    relay.finish().await;
}

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

/// The relay closed the connection with this HTTP/3 code.
async fn assert_closed(client: &Client, code: u64, what: &str) {
    let closed = client.closed().await.unwrap();
    let Closed { by_peer, layer, code: seen, .. } = closed;
    assert_eq!((by_peer, layer, seen), (true, Layer::Application, code), "{what}: {closed}");
}

async fn assert_echoes(tunnel: &mut TcpTunnel) {
    tunnel.send(Bytes::from_static(b"there and back")).await.unwrap();
    let mut back = Vec::new();
    while back.len() < 14 {
        back.extend_from_slice(&tunnel.recv().await.unwrap().expect("the echo goes on"));
    }
    assert_eq!(back, b"there and back");
}

/// A datagram goes there and back.
async fn assert_echoes_udp(tunnel: &mut UdpTunnel, payload: &[u8]) {
    tunnel.send(payload).unwrap();
    assert_eq!(&tunnel.recv().await.unwrap().payload[..], payload);
}

async fn open_udp(client: &Client, target: &UdpTarget) -> UdpTunnel {
    client.connect_udp(&target.address().ip().to_string(), target.address().port()).await.unwrap()
}

async fn open_tcp(client: &Client, target: &TcpEcho) -> TcpTunnel {
    client.connect_tcp(&target.address().to_string()).await.unwrap()
}

/// Both ends of a TCP tunnel.
async fn pair(client: &Client, target: &TcpTarget) -> (TcpTunnel, tokio::net::TcpStream) {
    let tunnel = client.connect_tcp(&target.address().to_string()).await.unwrap();
    (tunnel, target.accept().await)
}

/// What the target has received.
fn payloads(target: &UdpTarget) -> Vec<Vec<u8>> {
    target.so_far().into_iter().map(|packet| packet.payload).collect()
}

/// A capsule of an encoded type.
fn capsule(kind: &[u8], value: &[u8]) -> Bytes {
    let mut bytes = kind.to_vec();
    write_varint(value.len() as u64, &mut bytes);
    bytes.extend_from_slice(value);
    bytes.into()
}
