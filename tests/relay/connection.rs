//! Section A: connection set-up and SETTINGS.

mod bounds;
mod qpack;

use masque_relay::{
    probe::{Http, Means, SettingsWhen, UdpTunnel},
    proto::{
        codes::h3,
        frame,
        settings::{ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, Settings},
    },
};

use crate::support::{
    Client, Relay, on_versions,
    tcp::TcpEcho,
    tunnels::{assert_closed, assert_works},
    udp::UdpTarget,
    within,
};

on_versions!(c01_settings_allow_extended_connect: h2 h3);

async fn c01_settings_allow_extended_connect(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_over(http).await;

    let settings = client.settings().await.unwrap();

    // The same identifier and value on both versions.
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

async fn open_udp(client: &Client, target: &UdpTarget) -> UdpTunnel {
    client.connect_udp(&target.address().ip().to_string(), target.address().port()).await.unwrap()
}
