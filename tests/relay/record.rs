//! What the relay keeps of a connection.

mod ends;
mod first;
mod hypotheses;
mod kept;
mod qlog;
mod secrets;
mod versions;

use masque_relay::{
    config::Privacy,
    diagnosis::{By, Layer, Record, record::Act},
    probe::Http,
    proto::codes::h3,
};

use crate::support::{
    NAME, Relay, USER, on_versions,
    tcp::{TcpEcho, closed_port},
    tunnels::{assert_echoes, assert_echoes_udp, open_tcp, open_udp},
    udp::UdpTarget,
};

/// The connection is over.
fn over(record: &Record) -> bool {
    record.close.is_some()
}

/// The times of a record that is over are in order.
#[track_caller]
fn assert_in_order(record: &Record) {
    let end = record.duration_ms.expect("it is over");
    for request in &record.requests {
        let times: Vec<_> =
            [request.opened_ms, request.at_ms, request.answered_ms, request.ended_ms, Some(end)].into_iter().flatten().collect();
        assert!(times.is_sorted() && times[0] >= 0.0, "{times:?}");
    }
}

on_versions!(a_connection_is_told_from_its_beginning_to_its_end: h2 h3);

async fn a_connection_is_told_from_its_beginning_to_its_end(http: Http) {
    let relay = Relay::spawn(|config| config.log.privacy = Privacy::Full).await;
    let (tcp, udp) = (TcpEcho::start().await, UdpTarget::echo().await);
    let client = relay.client_over(http).await;
    let mut tunnel = open_tcp(&client, &tcp).await;
    assert_echoes(&mut tunnel).await;
    let mut datagrams = open_udp(&client, &udp).await;
    assert_echoes_udp(&mut datagrams, b"ping").await;
    // What is open is told too.
    let open = relay.recorded("two tunnels", |record| record.requests.iter().filter(|request| request.succeeded()).count() == 2).await;
    assert!(open.close.is_none() && open.bytes_in > 500 && open.bytes_out > 500, "{open:#?}");

    tunnel.finish().unwrap();
    tunnel.ended().await;
    relay.recorded("the first tunnel's end", |record| record.requests.iter().any(|request| request.ended.is_some())).await;
    drop(datagrams);
    relay.recorded("the second one's", |record| record.requests.iter().all(|request| request.ended.is_some())).await;
    client.close(h3::NO_ERROR, b"bye");
    let record = relay.recorded("the connection's end", over).await;

    assert_in_order(&record);
    assert_eq!((record.client.port(), record.http), (client.local_addr().unwrap().port(), Some(if http == Http::H3 { 3 } else { 2 })));
    assert!(record.handshake_ms.is_some() && !record.cut, "{record:#?}");
    let hello = record.hello.as_ref().unwrap();
    assert_eq!((hello.sni.as_deref(), hello.parameters.is_some()), (Some(NAME), http == Http::H3));
    let [first, second] = &record.requests[..] else { panic!("{record:#?}") };
    assert_eq!((first.is_plain_connect(), first.status, first.user.as_deref()), (true, Some(200), Some(USER)));
    assert_eq!(first.target, Some(tcp.address().to_string()));
    assert_eq!(first.carried.unwrap().bytes_out, 14);
    assert_eq!((first.ended.as_deref(), first.reset), (Some("both sides finished"), None));
    let ends: Vec<_> = first.ends.iter().map(|end| (end.by, end.act)).collect();
    assert_eq!(ends, [(By::Client, Act::Finished), (By::Relay, Act::Finished)]);
    assert_eq!(second.protocol.as_deref(), Some("connect-udp"));
    let carried = second.carried.unwrap();
    assert_eq!((carried.packets_out, carried.bytes_out, carried.packets_back), (1, 4, 1));
    assert_eq!(second.head.iter().find(|field| field.name == "capsule-protocol").unwrap().value.as_deref(), Some("?1"));
    assert!(second.ends.iter().any(|end| end.by == By::Client && end.act != Act::Finished), "{second:#?}");
    assert_eq!(second.reset, None, "the relay's own reset only follows from the client's");

    let close = record.close.as_ref().unwrap();
    match http {
        Http::H3 => {
            assert_eq!(
                (close.by, close.layer, close.code, close.reason.as_str()),
                (By::Client, Some(Layer::Application), Some(0x100), "bye")
            );
            assert_eq!(record.settings_sent, [(0x6, 16_384), (0x8, 1), (0x33, 1)]);
            assert_eq!(record.settings_received, [(0x33, 1)]);
            assert_eq!(record.critical, Some(Vec::new()));
            let path = record.path.unwrap();
            assert!(path.rtt_ms > 0.0 && path.mtu >= 1200 && path.sent > 0 && path.received > 0, "{path:?}");
        }
        _ => assert_eq!(close.by, By::Client),
    }
    // And in the log, under the same name.
    let line = relay.logged("connection closed").await;
    assert!(line.contains(&format!("session={}", record.id.unwrap())), "{line}");
    relay.finish().await;
}

#[tokio::test]
async fn the_one_request_of_http_1_1_is_told() {
    let relay = Relay::spawn(|_| {}).await;
    let udp = UdpTarget::echo().await;
    let client = relay.client_over(Http::H1).await;
    let mut tunnel = open_udp(&client, &udp).await;
    assert_echoes_udp(&mut tunnel, b"ping").await;
    drop(tunnel);
    client.close(0, b"");
    let record = relay.recorded("the connection's end", over).await;
    assert_in_order(&record);
    let [request] = &record.requests[..] else { panic!("{record:#?}") };
    assert_eq!((record.http, request.status, request.carried.unwrap().packets_out), (Some(1), Some(101), 1));
    assert!(record.bytes_in > 0 && record.bytes_out > 0);
    relay.finish().await;
}

on_versions!(a_refusal_is_told_with_its_reason: h1 h2 h3);

async fn a_refusal_is_told_with_its_reason(http: Http) {
    let relay = Relay::spawn(|_| {}).await;
    for (client, target, status, error) in [
        (relay.stranger_over(http).await, format!("{NAME}:443"), 407, "http_request_denied"),
        (relay.client_over(http).await, closed_port().to_string(), 502, "connection_refused"),
        (relay.client_over(http).await, "nowhere.test:80".into(), 502, "dns_error"),
    ] {
        client.connect_tcp(&target).await.unwrap_err();
        let port = client.local_addr().unwrap().port();
        let record = relay
            .recorded("an answer", |record| record.client.port() == port && record.requests.iter().any(|one| one.status.is_some()))
            .await;
        let request = &record.requests[0];
        assert_eq!((request.status, request.proxy_status.as_deref(), request.reset), (Some(status), Some(error), None));
        assert!(request.why.as_ref().is_some_and(|why| !why.is_empty()));
        client.close(h3::NO_ERROR, b"");
    }
    if http == Http::H3 {
        let line = relay.logged("finding=").await;
        assert!(line.contains("CONNECT was answered 407") && line.contains("the credential was missing or wrong"), "{line}");
    }
    relay.finish().await;
}
