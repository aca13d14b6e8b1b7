//! Section F: capsules. Those a client does not read are below.

mod unread;

use bytes::Bytes;
use masque_relay::{
    ended::Reset,
    probe::{Http, StreamEnd},
    proto::{capsule::write_udp_header, write_varint},
};

use crate::support::{
    Relay, descriptors, on_versions,
    tunnels::{assert_echoes_udp, assert_reset, capsule, open_udp},
    udp::UdpTarget,
};

on_versions!(c61_capsules_and_datagrams_mix: h1 h2 h3);

async fn c61_capsules_and_datagrams_mix(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    let mut tunnel = open_udp(&client, &echo).await;
    for round in 0..10_u8 {
        if round % 2 == 0 {
            tunnel.send_either(&[round; 500]).await.unwrap();
        } else {
            tunnel.send_capsule(&[round; 500]).await.unwrap();
        }
        assert_eq!(&tunnel.recv().await.unwrap().payload[..], [round; 500]);
    }
    relay.finish().await;
}

on_versions!(c62_unknown_capsules_are_skipped: h1 h2 h3);

async fn c62_unknown_capsules_are_skipped(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
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

on_versions!(c62_a_capsule_of_2_to_the_40_takes_no_memory_and_datagrams_go_on: h1 h2 h3);

async fn c62_a_capsule_of_2_to_the_40_takes_no_memory_and_datagrams_go_on(http: Http) {
    /// Many times what the windows on the way hold: it is read and thrown away.
    const SENT: usize = 32 << 20;
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay
        .client_with(|options| {
            options.http = http;
            options.send_window = 1 << 20;
        })
        .await;
    let mut tunnel = open_udp(&client, &echo).await;
    tunnel.send.send(Bytes::from_static(&[0x17, 0xc0, 0, 1, 0, 0, 0, 0, 0])).await.unwrap();
    let chunk = Bytes::from(vec![0; 128 << 10]);
    let mut before = 0;
    for sent in (0..SENT).step_by(chunk.len()) {
        tunnel.send.send(chunk.clone()).await.unwrap();
        // By then whatever is allocated once has been.
        if sent == SENT / 4 {
            before = descriptors::resident();
        }
    }
    // The stream is inside of it for good; but datagrams are beside it.
    if http == Http::H3 {
        assert_echoes_udp(&mut tunnel, b"beside it").await;
    }
    // Under `cargo test` others take memory at the same time.
    let more = descriptors::resident().saturating_sub(before);
    assert!(more < SENT / 4 || !descriptors::alone(), "it took {more} bytes");
    relay.finish().await;
}

on_versions!(c63_a_capsule_cut_off_by_fin_is_malformed: h1 h2 h3);

async fn c63_a_capsule_cut_off_by_fin_is_malformed(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    for cut in [&[0x40][..], &[0], &[0, 5], &[0, 5, 0, b'x'], &[0x17, 4, 1]] {
        let mut tunnel = open_udp(&client, &echo).await;
        tunnel.send.send(Bytes::copy_from_slice(cut)).await.unwrap();
        tunnel.finish().unwrap();
        assert_reset(&tunnel.ended().await, http, Reset::Message, &format!("{cut:x?}"));
    }
    let mut tunnel = open_udp(&client, &echo).await;
    assert_echoes_udp(&mut tunnel, b"alive").await;
    relay.finish().await;
}

on_versions!(c64_capsules_may_be_cut_anywhere: h1 h2 h3);

async fn c64_capsules_may_be_cut_anywhere(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
    let mut tunnel = open_udp(&client, &echo).await;
    let mut bytes = Vec::new();
    for payload in [&b"one"[..], &[2; 100], b"three"] {
        write_udp_header(payload.len(), &mut bytes);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&capsule(&[0x17], b"skipped"));
    }
    // As DATA frames or TLS records of a byte each, and then of seven.
    for size in [1, 7] {
        for piece in bytes.chunks(size) {
            tunnel.send.send(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        for payload in [&b"one"[..], &[2; 100], b"three"] {
            assert_eq!(&tunnel.recv().await.unwrap().payload[..], payload);
        }
    }
    tunnel.finish().unwrap();
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
    relay.finish().await;
}

on_versions!(c66_capsules_of_other_extensions_leave_the_tunnel_working: h1 h2 h3);

async fn c66_capsules_of_other_extensions_leave_the_tunnel_working(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_over(http).await;
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
