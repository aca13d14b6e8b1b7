//! Section E: HTTP Datagrams. Those ahead of their answer, and those on the way back, are below.

mod back;
mod early;

use bytes::Bytes;
use masque_relay::{
    ended::Reset,
    metrics::{Loss, Way},
    probe::{Http, Means, StreamEnd, UdpTunnel},
    proto::codes::h3,
};

use crate::support::{
    Relay, descriptors, on_versions,
    tcp::TcpEcho,
    tunnels::{assert_closed, assert_echoes_udp, assert_reset, capsule, capsule_client, datagram, open_tcp, open_udp, payloads},
    udp::UdpTarget,
    until,
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
    client.send_raw_datagram(datagram(tunnel.quarter_id() + 5, b"\0too early")).unwrap();

    assert_echoes_udp(&mut tunnel, b"alive").await;
    assert_eq!(payloads(&echo), [b"alive"]);
    relay.finish().await;
}

#[tokio::test]
async fn c50_a_datagram_for_a_stream_the_client_may_not_open_closes_the_connection() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    // 100 streams are permitted at first; the last ID is the largest there is.
    for id in [200, (1 << 60) - 1] {
        let client = relay.client().await;
        let mut tunnel = open_udp(&client, &echo).await;
        client.send_raw_datagram(datagram(99, b"\0may be opened")).unwrap();
        assert_echoes_udp(&mut tunnel, b"alive").await;
        client.send_raw_datagram(datagram(id, b"\0may not")).unwrap();
        assert_closed(&client, h3::ID_ERROR, &format!("{id:#x}")).await;
    }
    relay.finish().await;
}

/// Of all that came, also what nobody took when the connection ended.
#[tokio::test]
async fn c59_every_datagram_is_counted_whatever_becomes_of_it() {
    let relay = Relay::spawn(|_| {}).await;
    let (echo, target) = (UdpTarget::echo().await, TcpEcho::start().await);
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    let mut tcp = open_tcp(&client, &target).await;

    client.send_raw_datagram(datagram(tunnel.quarter_id(), b"\x07another context")).unwrap();
    client.send_raw_datagram(datagram(tcp.send.id() / 4, b"\0none has these")).unwrap();
    assert_eq!(tcp.ended().await, StreamEnd::Reset(h3::DATAGRAM_ERROR));
    assert_echoes_udp(&mut tunnel, b"first").await;
    // More than are held for a stream that never opens.
    for _ in 0..12 {
        client.send_raw_datagram(datagram(tunnel.quarter_id() + 9, b"\0too early")).unwrap();
    }
    assert_echoes_udp(&mut tunnel, b"last").await;
    client.close(h3::NO_ERROR, b"");

    let out = || {
        let metrics = relay.metrics();
        let dropped = [Loss::UnknownContext, Loss::NoTunnel].map(|loss| metrics.lost(Way::Out, loss));
        (metrics.packets[Way::Out as usize], dropped, metrics.dropped[Way::Out as usize].iter().sum::<u64>())
    };
    until("all sixteen to be counted", out, |counted| *counted == (2, [1, 13], 14)).await;
    relay.finish().await;
}

#[tokio::test]
async fn c51_a_datagram_for_a_classic_connect_aborts_that_request_only() {
    let relay = Relay::spawn(|_| {}).await;
    let (echo, target) = (UdpTarget::echo().await, TcpEcho::start().await);
    let client = relay.client().await;
    let mut tunnel = open_udp(&client, &echo).await;
    let mut tcp = open_tcp(&client, &target).await;

    client.send_raw_datagram(datagram(tcp.send.id() / 4, b"\0x")).unwrap();

    assert_eq!(tcp.ended().await, StreamEnd::Reset(h3::DATAGRAM_ERROR));
    assert_echoes_udp(&mut tunnel, b"alive").await;
    relay.finish().await;
}

on_versions!(c52_unknown_contexts_are_neither_forwarded_nor_fatal: h1 h2 h3);

async fn c52_unknown_contexts_are_neither_forwarded_nor_fatal(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    let mut tunnel = open_udp(&client, &echo).await;

    for context in [&[2][..], &[4], &[1], &[0x40, 0x64], &[0xff; 8]] {
        if http == Http::H3 {
            tunnel.send_datagram_raw(&[context, b"no"].concat()).unwrap();
        }
        tunnel.send.send(capsule(&[0], &[context, b"no"].concat())).await.unwrap();
    }

    assert_echoes_udp(&mut tunnel, b"by datagram, if there are any").await;
    tunnel.send_capsule(b"by capsule").await.unwrap();
    tunnel.recv().await.unwrap();
    assert_eq!(payloads(&echo), [&b"by datagram, if there are any"[..], b"by capsule"]);
    relay.finish().await;
}

on_versions!(c53_integers_need_not_be_minimal: h1 h2 h3);

async fn c53_integers_need_not_be_minimal(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    let mut tunnel = open_udp(&client, &echo).await;
    let long = |value: u8| [0xc0, 0, 0, 0, 0, 0, 0, value];

    if http == Http::H3 {
        let quarter = u8::try_from(tunnel.quarter_id()).unwrap();
        client.send_raw_datagram([&long(quarter)[..], &long(0), b"datagram"].concat().into()).unwrap();
        assert_eq!(tunnel.recv().await.unwrap().payload, "datagram");
    }

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
    assert_eq!(payloads(&echo), [b""]);
    assert_eq!(relay.metrics().lost(Way::Out, Loss::Malformed), 3);
    relay.finish().await;
}

on_versions!(c54_an_empty_payload_is_forwarded_both_ways: h1 h2 h3);

async fn c54_an_empty_payload_is_forwarded_both_ways(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = capsule_client(&relay, http, 4096).await;
    let mut tunnel = open_udp(&client, &echo).await;
    tunnel.send_capsule(b"").await.unwrap();
    let packet = tunnel.recv().await.unwrap();
    assert_eq!((&packet.payload[..], packet.means), (&b""[..], Means::Capsule));
    assert_eq!(payloads(&echo), [b""]);
    relay.finish().await;
}

on_versions!(c54_a_capsule_without_context_is_malformed: h1 h2 h3);

async fn c54_a_capsule_without_context_is_malformed(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    for value in [&[][..], &[0x40]] {
        let mut tunnel = open_udp(&client, &echo).await;
        tunnel.send.send(capsule(&[0], value)).await.unwrap();
        assert_aborted(&mut tunnel, Reset::Message, &format!("{value:x?}")).await;
    }
    let mut tunnel = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut tunnel, b"alive").await;
    relay.finish().await;
}

on_versions!(c55_a_payload_above_65527_bytes_ends_its_tunnel_only: h1 h2 h3);

async fn c55_a_payload_above_65527_bytes_ends_its_tunnel_only(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    let mut other = open_udp(&client, &echo).await;
    // 65528 bytes of payload and the context ID; then one that only claims its length: no byte of its value is waited for.
    for bytes in [[&[0, 0x80, 0, 0xff, 0xf9][..], &vec![0; 65529]].concat(), vec![0, 0xc0, 0, 1, 0, 0, 0, 0, 0]] {
        let mut tunnel = open_udp(&client, &echo).await;
        let claimed = bytes.len();
        // The relay may stop it before all of it is sent.
        tunnel.send.send(bytes.into()).await.ok();
        assert_aborted(&mut tunnel, Reset::Message, &format!("{claimed} bytes")).await;
    }
    assert_echoes_udp(&mut other, b"alive").await;
    assert_eq!(payloads(&echo), [b"alive"]);
    relay.finish().await;
}

on_versions!(c57_nothing_is_forwarded_either_way_after_fin: h1 h2 h3);

async fn c57_nothing_is_forwarded_either_way_after_fin(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    let mut over = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut over, b"first").await;
    over.finish().unwrap();
    assert_eq!(over.ended().await, StreamEnd::Finished);
    descriptors::none_towards(echo.address()).await;
    let from = echo.so_far()[0].from;

    if http == Http::H3 {
        for _ in 0..10 {
            over.send(b"too late").unwrap();
        }
    }
    echo.send(b"nor back", from).await;
    let mut tunnel = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut tunnel, b"last").await;
    assert_eq!(payloads(&echo), [&b"first"[..], b"last"]);
    if http == Http::H3 {
        assert_eq!(client.quinn().stats().frame_rx.datagram, 2);
    }
    until("both packets to be counted", || relay.metrics().packets, |packets| *packets == [2, 2]).await;
    relay.finish().await;
}

/// Both directions of the tunnel's stream were broken off for this reason.
async fn assert_aborted(tunnel: &mut UdpTunnel, reset: Reset, what: &str) {
    let http = tunnel.send.http();
    assert_reset(&tunnel.ended().await, http, reset, what);
    assert_reset(&tunnel.send.stopped().await, http, reset, what);
}
