//! Section A: connection set-up and SETTINGS.

use std::time::Duration;

use bytes::Bytes;
use masque_relay::{
    probe::{Client, Closed, Layer, Means, ProbeError, RawExchange, SettingsWhen, StreamEnd, TcpTunnel, UdpTunnel},
    proto::{
        codes::h3,
        frame,
        settings::{ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, Settings},
    },
};

use crate::support::{Relay, tcp::TcpEcho, udp::UdpTarget, within};

#[tokio::test]
async fn c01_settings_allow_extended_connect() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;

    let settings = client.settings().await.unwrap();

    let sent: Vec<_> = settings.0.iter().filter(|(id, _)| *id == ENABLE_CONNECT_PROTOCOL).collect();
    assert_eq!(sent, [&(ENABLE_CONNECT_PROTOCOL, 1)]);
    relay.finish().await;
}

#[tokio::test]
async fn c02_datagrams_are_announced_by_setting_and_transport_parameter() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;

    assert_eq!(client.settings().await.unwrap().get(H3_DATAGRAM), Some(1));
    // RFC 9221 §3: the parameter says how large a frame may be, 0 is none.
    let largest = client.quinn().max_datagram_size().expect("a max_datagram_frame_size");
    assert!(largest > 1200, "{largest}");
    relay.finish().await;
}

#[tokio::test]
async fn c03_a_datagram_setting_other_than_0_or_1_closes_the_connection() {
    let relay = Relay::spawn(|_| {}).await;
    for value in [2, 3, 64, (1 << 62) - 1] {
        let client = relay.client_with(|options| options.settings = Settings(vec![(H3_DATAGRAM, value)])).await;
        assert_closed(&client, h3::SETTINGS_ERROR, &format!("0x33={value}")).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c03_datagram_settings_0_and_1_are_fine() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    for settings in [vec![], vec![(H3_DATAGRAM, 0)], vec![(H3_DATAGRAM, 1)]] {
        let client = relay.client_with(|options| options.settings = Settings(settings)).await;
        assert_works(&client, &echo).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c04_no_datagram_before_both_sides_have_announced_them() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let client = relay.client_with(|options| options.settings_when = SettingsWhen::Withheld).await;
    let mut tunnel = open_udp(&client, &echo).await;

    for round in 0..3_u8 {
        tunnel.send_capsule(&[round; 100]).await.unwrap();
        let packet = tunnel.recv().await.unwrap();
        assert_eq!((&packet.payload[..], packet.means), (&[round; 100][..], Means::Capsule));
    }
    assert_eq!(client.quinn().stats().frame_rx.datagram, 0);

    // The relay reads the control stream beside the tunnel's, so the tunnel moves some packets later.
    client.send_settings(&Settings(vec![(H3_DATAGRAM, 1)])).await.unwrap();
    within("the tunnel to move to datagrams", async {
        loop {
            tunnel.send_capsule(b"still here").await.unwrap();
            let packet = tunnel.recv().await.unwrap();
            assert_eq!(&packet.payload[..], b"still here");
            if packet.means == Means::Datagram {
                break;
            }
        }
    })
    .await;
    assert_eq!(client.violation(), None);
    relay.finish().await;
}

#[tokio::test]
async fn c05_a_client_that_cannot_take_datagrams_gets_capsules() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    for (setting, parameter) in [(Some(1), None), (Some(0), None), (None, None), (Some(0), Some(1 << 20)), (None, Some(1 << 20))] {
        let client = relay
            .client_with(|options| {
                options.settings = Settings(setting.map(|value| (H3_DATAGRAM, value)).into_iter().collect());
                options.datagram_receive = parameter;
            })
            .await;
        let mut tunnel = open_udp(&client, &echo).await;
        for length in [0, 1, 1200, 9000] {
            let payload = vec![7; length];
            tunnel.send_capsule(&payload).await.unwrap();
            let packet = tunnel.recv().await.unwrap();
            assert_eq!((packet.payload.len(), packet.means), (length, Means::Capsule), "0x33={setting:?}, parameter {parameter:?}");
        }
        assert_eq!(client.quinn().stats().frame_rx.datagram, 0);
    }
    relay.finish().await;
}

#[tokio::test]
async fn c06_the_control_stream_starts_with_settings() {
    let relay = Relay::spawn(|_| {}).await;
    // Reserved and unknown types are no exception (RFC 9114 §6.2.1).
    for kind in [frame::DATA, frame::HEADERS, frame::GOAWAY, 0xd, 0x21, 0x4041] {
        let client = relay.client_with(|options| options.settings_when = SettingsWhen::Withheld).await;
        client.control().write(&frame::encode(kind, &[0])).await.unwrap();
        assert_closed(&client, h3::MISSING_SETTINGS, &format!("frame {kind:#x}")).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c06_settings_come_once() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    client.send_settings(&Settings::default()).await.unwrap();
    assert_closed(&client, h3::FRAME_UNEXPECTED, "a second SETTINGS").await;
    relay.finish().await;
}

#[tokio::test]
async fn c06_critical_streams_stay_open_and_single() {
    let relay = Relay::spawn(|_| {}).await;

    let client = relay.client().await;
    client.control().finish().await.unwrap();
    assert_closed(&client, h3::CLOSED_CRITICAL_STREAM, "FIN on the control stream").await;

    let client = relay.client().await;
    // An answer: by now the relay has the stream's type, which a reset may otherwise overtake.
    client.connect_tcp("nowhere.test:80").await.unwrap_err();
    client.control().reset(h3::NO_ERROR).await.unwrap();
    assert_closed(&client, h3::CLOSED_CRITICAL_STREAM, "the control stream reset").await;

    let client = relay.client().await;
    let mut second = client.raw_uni().await.unwrap();
    second.write_all(&[0x0, 0x4, 0x0]).await.unwrap();
    assert_closed(&client, h3::STREAM_CREATION_ERROR, "a second control stream").await;
    relay.finish().await;
}

#[tokio::test]
async fn c07_tickets_allow_no_0rtt_data() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let tickets = client.options().tickets.clone();

    assert_eq!(within("a session ticket", tickets.early_data(1)).await, 0);

    let mut options = client.again();
    options.early_data = true;
    let client = relay.open(options).await;
    assert!(!client.early_data());
    assert_eq!(tickets.taken(), 1, "resumption was tried");
    assert_works(&client, &echo).await;
    relay.finish().await;
}

#[tokio::test]
async fn c08_a_client_without_an_authenticated_request_is_let_go() {
    let relay = Relay::spawn(|config| config.timeouts.authenticate = Duration::from_millis(400)).await;
    let echo = TcpEcho::start().await;
    let mut options = relay.stranger();
    options.keep_alive = Some(Duration::from_millis(50));

    let authenticated = relay.client().await;
    let mut tunnel = authenticated.connect_tcp(&echo.address().to_string()).await.unwrap();

    let silent = relay.open(options.clone()).await;
    let half = relay.open(options.clone()).await;
    let mut exchange = half.exchange().await.unwrap();
    exchange.send.send_raw(Bytes::from_static(&[0x1, 0x40, 0x80, 0, 0])).await.unwrap();
    let refused = relay.open(options).await;
    let error = refused.connect_tcp(&echo.address().to_string()).await.unwrap_err();
    assert_eq!(error.refused().map(|refused| refused.status), Some(407), "{error}");

    for (client, what) in [(&silent, "silent"), (&half, "half a head"), (&refused, "refused")] {
        let closed = client.closed().await.unwrap();
        assert!(closed.by_peer && closed.layer == Layer::Application, "{what}: {closed}");
    }
    // By now the first client is past the bound too.
    assert_echoes(&mut tunnel).await;
    relay.finish().await;
}

#[tokio::test]
async fn c09_an_oversized_head_is_refused_and_the_connection_lives() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    // The limit is 16 KiB (design); just under twice of it is certainly above, and no field alone need be.
    for (count, length) in [(1, 30_000), (60, 500), (900, 1)] {
        let mut head = client.options().tcp_head(&echo.address().to_string());
        for at in 0..count {
            head.push(format!("x-{at}"), "v".repeat(length));
        }
        let mut exchange = client.request(&head).await.unwrap();
        match exchange.answer().await {
            Ok(answer) => assert_eq!(answer.status, 431, "{count} fields of {length}"),
            Err(ProbeError::Unanswered(StreamEnd::Reset(code))) => assert_eq!(code, h3::EXCESSIVE_LOAD, "{count} fields of {length}"),
            Err(error) => panic!("{count} fields of {length}: {error}"),
        }
    }
    assert_eq!(echo.accepted(), 0);
    assert_works(&client, &echo).await;
    relay.finish().await;
}

#[tokio::test]
async fn c09_half_sent_heads_are_bounded_for_a_connection() {
    let relay = Relay::spawn(|config| config.timeouts.authenticate = Duration::from_millis(500)).await;
    let echo = TcpEcho::start().await;
    let hostile = relay.client().await;

    // 64 heads of 15 KiB, none of them whole: 960 KiB, of which 16 heads and a window of 64 KiB may get through.
    let mut half = vec![0x1, 0x80, 0x00, 0x3e, 0x80, 0, 0];
    half.resize(15 << 10, 0x2f);
    let half = Bytes::from(half);
    let mut exchanges: Vec<RawExchange> = Vec::new();
    for _ in 0..64 {
        exchanges.push(hostile.exchange().await.unwrap());
    }
    let writes = futures_util::future::join_all(exchanges.iter_mut().map(|exchange| exchange.send.send_raw(half.clone())));
    let others = async {
        let client = relay.client().await;
        assert_works(&client, &echo).await;
        let closed = hostile.closed().await.unwrap();
        assert!(closed.by_peer && closed.layer == Layer::Application, "{closed}");
    };
    let (writes, ()) = tokio::join!(writes, others);

    let sent = hostile.quinn().stats().udp_tx.bytes;
    assert!(writes.iter().any(Result::is_err) && sent < 450 << 10, "the relay took {sent} bytes of heads");
    relay.finish().await;
}

#[tokio::test]
async fn c10_a_dynamic_table_reference_closes_the_connection() {
    let relay = Relay::spawn(|_| {}).await;
    for (section, what) in [
        (&[0, 0, 0x80][..], "an indexed field line, dynamic"),
        (&[0, 0, 0x40, 1, b'v'], "a literal with a dynamic name"),
        (&[0, 0, 0x10], "an indexed field line, post-base"),
        (&[0, 0, 0x00, 1, b'v'], "a literal with a post-base name"),
        (&[2, 0, 0xcf], "a required insert count"),
    ] {
        let client = relay.client().await;
        let mut exchange = client.exchange().await.unwrap();
        exchange.send.send_raw(frame::encode(frame::HEADERS, section).into()).await.unwrap();
        assert_closed(&client, h3::QPACK_DECOMPRESSION_FAILED, what).await;
    }
    relay.finish().await;
}

#[tokio::test]
async fn c10_huffman_and_plain_strings_both_decode() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let authority = echo.address().to_string();
    let credentials = client.options().fields[0].1.clone();

    for huffman in [true, false] {
        // RIC 0, base 0; `:method: CONNECT` is static entry 15, `:authority` static name 0.
        let mut section = vec![0, 0, 0xc0 | 15, 0x50];
        if huffman {
            string(0x80, &huffman_coded(&authority), &mut section);
        } else {
            string(0x00, authority.as_bytes(), &mut section);
        }
        let name = b"proxy-authorization";
        section.extend([0x20 | 7, name.len() as u8 - 7]);
        section.extend(name);
        string(0x00, credentials.as_bytes(), &mut section);

        let mut exchange = client.exchange().await.unwrap();
        exchange.send.send_raw(frame::encode(frame::HEADERS, &section).into()).await.unwrap();
        let mut tunnel = exchange.tcp().await.unwrap();
        assert_echoes(&mut tunnel).await;
    }
    relay.finish().await;
}

/// The relay closed the connection with this HTTP/3 code.
async fn assert_closed(client: &Client, code: u64, what: &str) {
    let closed = client.closed().await.unwrap();
    let Closed { by_peer, layer, code: seen, .. } = closed;
    assert_eq!((by_peer, layer, seen), (true, Layer::Application, code), "{what}: {closed}");
}

/// A tunnel can be opened and carries bytes.
async fn assert_works(client: &Client, echo: &TcpEcho) {
    let mut tunnel = client.connect_tcp(&echo.address().to_string()).await.unwrap();
    assert_echoes(&mut tunnel).await;
    tunnel.finish().unwrap();
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
}

async fn assert_echoes(tunnel: &mut TcpTunnel) {
    tunnel.send(Bytes::from_static(b"there and back")).await.unwrap();
    let mut back = Vec::new();
    while back.len() < 14 {
        back.extend_from_slice(&tunnel.recv().await.unwrap().expect("the echo goes on"));
    }
    assert_eq!(back, b"there and back");
}

async fn open_udp(client: &Client, target: &UdpTarget) -> UdpTunnel {
    client.connect_udp(&target.address().ip().to_string(), target.address().port()).await.unwrap()
}

/// A string literal with a 7-bit length (RFC 9204 §4.1.2) below 127.
fn string(flag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    assert!(bytes.len() < 127);
    out.push(flag | bytes.len() as u8);
    out.extend_from_slice(bytes);
}

/// Digits, dot and colon by the table of RFC 7541 appendix B, padded with ones.
fn huffman_coded(text: &str) -> Vec<u8> {
    let code = |byte| match byte {
        b'0'..=b'2' => format!("{:05b}", byte - b'0'),
        b'3'..=b'9' => format!("{:06b}", byte - b'3' + 0b01_1001),
        b'.' => "010111".into(),
        b':' => "1011100".into(),
        other => panic!("{other:#x} is not of an IPv4 address and port"),
    };
    let mut bits: String = text.bytes().map(code).collect();
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    (0..bits.len()).step_by(8).map(|at| u8::from_str_radix(&bits[at..at + 8], 2).expect("eight bits")).collect()
}
