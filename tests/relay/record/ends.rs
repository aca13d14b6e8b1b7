//! How connections end, and those that never were.

use std::time::Duration;

use masque_relay::{
    config::Retry,
    diagnosis::{By, Layer, record::Act},
    probe::{self, Http},
    proto::codes::h3,
};
use tokio::net::UdpSocket;

use super::over;
use crate::support::{
    Relay, on_versions,
    tcp::TcpEcho,
    tunnels::{assert_echoes, open_tcp},
    within,
};

on_versions!(a_client_that_does_not_trust_the_certificate_says_so: h2 h3);

async fn a_client_that_does_not_trust_the_certificate_says_so(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    let other = Relay::spawn(|_| {}).await;
    let mut options = relay.options();
    options.http = http;
    options.roots = other.options().roots;
    probe::Client::open(options).await.unwrap_err();
    let record = relay.recorded("the failed handshake", over).await;
    let close = record.close.as_ref().unwrap();
    assert_eq!((close.by, close.layer), (By::Client, Some(Layer::Transport)), "{close}");
    assert!(close.is_about_the_certificate() && record.handshake_ms.is_none(), "{record:#?}");
    assert!(record.hello.as_ref().is_some_and(|hello| hello.ja4.len() > 20), "what failed has its hello too");
    let trouble = record.trouble().unwrap();
    assert_eq!(trouble.means, "the client does not accept the relay's certificate");
    let line = relay.logged("handshake failed").await;
    assert!(line.contains("INFO") && line.contains("the client does not accept"), "{line}");
    let mut other = other;
    other.stop().await;
    relay.finish().await;
}

#[tokio::test]
async fn a_handshake_that_is_never_finished_is_told() {
    let relay = Relay::spawn(|config| config.timeouts.authenticate = Duration::from_millis(300)).await;
    // A client's first packet reaches the relay, and nothing comes back.
    let (front, back) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let mut options = relay.options();
    options.addresses = vec![front.local_addr().unwrap()];
    options.timeout = Duration::from_millis(200);
    let first = async {
        let mut packet = [0; 2000];
        let length = within("the first packet", front.recv(&mut packet)).await.unwrap();
        back.send_to(&packet[..length], relay.address()).await.unwrap();
    };
    let (opened, ()) = tokio::join!(probe::Client::open(options), first);
    opened.unwrap_err();
    let record = relay.recorded("the end of waiting", over).await;
    assert_eq!((record.client, record.handshake_ms, record.requests.len()), (back.local_addr().unwrap(), None, 0));
    let close = record.close.unwrap();
    assert_eq!((close.by, close.reason.as_str()), (By::Relay, "no handshake in time"));
    relay.finish().await;
}

#[tokio::test]
async fn clients_that_are_not_let_in_are_told_apart() {
    let relay = Relay::spawn(|config| {
        config.quic.retry = Retry::Always;
        config.limits.connections = 1;
    })
    .await;
    let client = relay.client().await;
    let local = client.local_addr().unwrap();
    let retry = relay.recorded("the Retry", |record| record.turned_away.as_deref() == Some("retry")).await;
    let open = relay.recorded("the connection", |record| record.turned_away.is_none()).await;
    assert_eq!((retry.client.port(), open.client.port(), open.proven), (local.port(), local.port(), true));

    probe::Client::open(relay.options()).await.unwrap_err();
    let refused = relay.recorded("the refusal", |record| record.turned_away.as_deref() == Some("limit reached: connections")).await;
    assert!(refused.trouble().unwrap().seen.contains("refused"), "{refused:#?}");
    relay.finish().await;
}

#[tokio::test]
async fn an_end_of_a_critical_stream_is_told_by_its_type() {
    let relay = Relay::spawn(|_| {}).await;
    for (reset, act) in [(false, Act::Finished), (true, Act::Reset)] {
        let client = relay.client().await;
        client.settings().await.unwrap();
        let port = client.local_addr().unwrap().port();
        relay.recorded("the client's SETTINGS", |record| record.client.port() == port && record.settings_received_ms.is_some()).await;
        // GREASE in front, so that its number tells nothing.
        let mut grease = client.raw_uni().await.unwrap();
        grease.write_all(&[0x21]).await.unwrap();
        if reset {
            client.control().reset(h3::NO_ERROR).await.unwrap();
        } else {
            client.control().finish().await.unwrap();
        }
        let record = relay.recorded("the end", |record| record.client.port() == port && over(record)).await;
        let critical = record.critical.as_ref().unwrap();
        assert_eq!((critical[0].by, critical[0].act, critical[0].stream.as_str()), (By::Client, act, "control"), "{critical:?}");
        let close = record.close.unwrap();
        assert_eq!((close.by, close.code), (By::Relay, Some(h3::CLOSED_CRITICAL_STREAM)));
    }
    relay.finish().await;
}

#[tokio::test]
async fn a_client_that_moves_is_told_with_its_new_address() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let mut tunnel = open_tcp(&client, &echo).await;
    assert_echoes(&mut tunnel).await;
    let before = client.local_addr().unwrap();
    client.rebind().unwrap();
    assert_echoes(&mut tunnel).await;
    let after = client.local_addr().unwrap();
    client.close(h3::NO_ERROR, b"");
    let record = relay.recorded("the end", over).await;
    assert_eq!((record.client.port(), record.moved[0].client.port()), (before.port(), after.port()));
    relay.finish().await;
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_nobodys_close() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client_with(|options| options.idle = Some(Duration::from_millis(300))).await;
    // Both sides keep the shorter limit (RFC 9000 §10.1).
    let record = relay.recorded("the end", over).await;
    let close = record.close.unwrap();
    assert_eq!((close.by, close.code), (By::Neither, None));
    drop(client);
    relay.finish().await;
}

#[tokio::test]
async fn a_relay_that_stops_says_so_in_the_file() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("records.jsonl");
    let mut relay = Relay::spawn(|config| config.log.records = Some(file.clone())).await;
    let client = relay.client_over(Http::H3).await;
    relay.recorded("the handshake", |record| record.handshake_ms.is_some()).await;
    let server = relay.take_server();
    server.drain(Duration::ZERO).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let record: masque_relay::diagnosis::Record = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(record.client.port(), client.local_addr().unwrap().port());
    assert_eq!(record.close.unwrap().by, By::Relay);
    relay.finish().await;
}
