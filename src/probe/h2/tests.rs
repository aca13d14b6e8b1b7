//! Against an HTTP/2 server whose every answer is the test's: requests here, the connection in a file of its own.

mod connection;

use bytes::Bytes;
use h2::{Reason, RecvStream};

use crate::{
    ended::Reset,
    probe::{
        Http, Means, ProbeError, StreamEnd,
        fake::tcp::{H2Relay, TcpFake, response},
    },
    proto::{head::Head, settings::ENABLE_CONNECT_PROTOCOL},
};

/// All the body until its clean end.
async fn read(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = body.data().await {
        all.extend_from_slice(&bytes.unwrap());
    }
    all
}

/// The code the client reset the stream with.
async fn reset(body: &mut RecvStream) -> Reason {
    loop {
        if let Err(error) = body.data().await.expect("no clean end") {
            return error.reason().expect("a reset");
        }
    }
}

#[tokio::test]
async fn a_tcp_tunnel_carries_bytes_and_half_closes() {
    let fake = TcpFake::start(Http::H2).await;
    let mut options = fake.options();
    options.basic("user", "token");
    let (client, mut relay) = fake.h2_pair(options).await;
    let (tunnel, (request, mut send)) = tokio::join!(client.connect_tcp("a.test:80"), relay.accept(&[("server", "x")]));
    let mut tunnel = tunnel.unwrap();
    assert_eq!((tunnel.answer.status, tunnel.answer.field("server").as_deref()), (200, Some("x")));
    assert_eq!((request.method().as_str(), request.uri().to_string()), ("CONNECT", "a.test:80".into()));
    assert!(request.headers().contains_key("proxy-authorization") && request.extensions().get::<h2::ext::Protocol>().is_none());

    tunnel.send(Bytes::from_static(b"out")).await.unwrap();
    tunnel.finish().unwrap();
    let mut body = request.into_body();
    assert_eq!(read(&mut body).await, b"out");
    send.send_data(Bytes::from_static(b"back"), false).unwrap();
    assert_eq!(tunnel.recv().await.unwrap().unwrap(), "back");
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!((tunnel.recv().await, tunnel.ended().await), (Ok(None), StreamEnd::Finished));
    assert_eq!(tunnel.send.id(), 1);
}

#[tokio::test]
async fn a_refusal_keeps_its_head() {
    let fake = TcpFake::start(Http::H2).await;
    let (client, mut relay) = fake.h2_pair(fake.options()).await;
    let serve = async {
        let (_request, mut respond) = relay.request().await;
        respond.send_informational(response(103, &[])).unwrap();
        respond.send_response(response(502, &[("proxy-status", "r; error=dns_error")]), true).unwrap();
    };
    let (error, ()) = tokio::join!(client.connect_tcp("a.test:80"), serve);
    let error = error.unwrap_err();
    let refused = error.refused().unwrap();
    assert_eq!((refused.status, refused.proxy_status.as_deref()), (502, Some("r; error=dns_error")));
}

#[tokio::test]
async fn a_reset_has_its_code_both_ways() {
    let fake = TcpFake::start(Http::H2).await;
    let (client, mut relay) = fake.h2_pair(fake.options()).await;

    let (tunnel, (_request, mut send)) = tokio::join!(client.connect_tcp("a.test:80"), relay.accept(&[]));
    let mut tunnel = tunnel.unwrap();
    send.send_reset(Reason::CONNECT_ERROR);
    assert_eq!((tunnel.ended().await, tunnel.ended().await), (StreamEnd::Reset(0xa), StreamEnd::Reset(0xa)));
    assert_eq!(tunnel.send.stopped().await, StreamEnd::Stopped(0xa));
    assert_eq!(tunnel.send(Bytes::from_static(b"x")).await, Err(StreamEnd::Stopped(0xa)));
    assert!(tunnel.ended().await.is_reset(Http::H2, Reset::Connect) && !tunnel.ended().await.is_reset(Http::H2, Reset::Cancelled));

    let head = client.options().tcp_head("a.test:80");
    let (unanswered, (_request, mut respond)) = tokio::join!(client.request(&head), relay.request());
    respond.send_reset(Reason::REFUSED_STREAM);
    let error = unanswered.unwrap().tcp().await.unwrap_err();
    assert!(matches!(error, ProbeError::Unanswered(StreamEnd::Reset(7))), "{error}");
    assert_eq!(error.to_string(), "no answer: the relay reset the stream with REFUSED_STREAM");

    for (way, code) in [
        (Some(Reset::Connect), Reason::CONNECT_ERROR),
        (Some(Reset::Message), Reason::PROTOCOL_ERROR),
        // Dropped.
        (None, Reason::CANCEL),
    ] {
        let (tunnel, (request, _send)) = tokio::join!(client.connect_tcp("a.test:80"), relay.accept(&[]));
        let mut tunnel = tunnel.unwrap();
        if let Some(way) = way {
            tunnel.reset_as(way).unwrap();
            assert_eq!(tunnel.finish(), Err(StreamEnd::EndedHere));
        }
        drop(tunnel);
        assert_eq!(reset(&mut request.into_body()).await, code);
    }

    let (tunnel, (request, _send)) = tokio::join!(client.connect_tcp("a.test:80"), relay.accept(&[]));
    let mut tunnel = tunnel.unwrap();
    tunnel.stop_as(Reset::Nothing).unwrap();
    assert_eq!(reset(&mut request.into_body()).await, Reason::NO_ERROR);
    assert_eq!(tunnel.ended().await, StreamEnd::EndedHere);

    // Finished and dropped: what was sent arrives.
    let (tunnel, (request, _send)) = tokio::join!(client.connect_tcp("a.test:80"), relay.accept(&[]));
    let mut tunnel = tunnel.unwrap();
    tunnel.send(Bytes::from_static(b"bye")).await.unwrap();
    tunnel.finish().unwrap();
    let mut body = request.into_body();
    assert_eq!(read(&mut body).await, b"bye");
    assert_eq!(client.violation(), None);
}

#[tokio::test]
async fn payloads_go_in_capsules() {
    let fake = TcpFake::start(Http::H2).await;
    let (client, mut relay) = fake.h2_pair(fake.options()).await;
    let (tunnel, (request, mut send)) = tokio::join!(client.connect_udp("2001:db8::1", 53), relay.accept(&[("capsule-protocol", "?1")]));
    let mut tunnel = tunnel.unwrap();
    assert_eq!(client.settings().await.unwrap().get(ENABLE_CONNECT_PROTOCOL), Some(1));
    assert!(client.settings_timing().unwrap().settings > client.handshake());
    assert_eq!(request.extensions().get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str), Some("connect-udp"));
    assert_eq!(request.uri().path(), "/.well-known/masque/udp/2001%3Adb8%3A%3A1/53/");
    assert_eq!(request.uri().scheme_str(), Some("https"));
    assert_eq!(request.headers()["capsule-protocol"], "?1");

    assert!(!tunnel.carries_datagrams());
    assert!(matches!(tunnel.send(b"x"), Err(ProbeError::Missing { http: Http::H2, .. })));
    tunnel.send_either(b"out").await.unwrap();
    tunnel.finish().unwrap();
    assert_eq!(read(&mut request.into_body()).await, [0, 4, 0, b'o', b'u', b't']);

    // An unknown capsule, then a DATAGRAM capsule over two DATA frames.
    send.send_data(Bytes::from_static(&[0x17, 1, 7, 0x0]), false).unwrap();
    send.send_data(Bytes::from_static(&[3, 0, b'h', b'i']), true).unwrap();
    let packet = tunnel.recv().await.unwrap();
    assert_eq!((&packet.payload[..], packet.means), (&b"hi"[..], Means::Capsule));
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
}

#[tokio::test]
async fn extended_connect_waits_for_leave() {
    let fake = TcpFake::start(Http::H2).await;
    let (client, stream) = fake.pair().await;
    let _relay = H2Relay::start(stream, h2::server::Builder::new()).await;
    let error = client.connect_udp("192.0.2.1", 53).await.unwrap_err();
    assert!(matches!(error, ProbeError::Unsupported("SETTINGS_ENABLE_CONNECT_PROTOCOL")), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_a_rule_costs_its_stream() {
    let fake = TcpFake::start(Http::H2).await;
    let (client, mut relay) = fake.h2_pair(fake.options()).await;
    for (fields, body, trailers, what) in [
        (&[("content-length", "0")][..], &[][..], false, "content-length"),
        (&[("content-type", "a/b")], &[], false, "content-type"),
        (&[], &[0x0, 5], false, "an end inside a capsule"),
        (&[], &[0x0, 0], false, "a capsule without context"),
        (&[], &[0x0, 2, 0, 7], true, "trailers"),
    ] {
        let ask = async {
            let mut tunnel = match client.connect_udp("192.0.2.1", 53).await {
                Ok(tunnel) => tunnel,
                Err(error) => {
                    assert!(matches!(error, ProbeError::Violation(_)), "{what}: {error}");
                    return;
                }
            };
            assert!(matches!(tunnel.ended().await, StreamEnd::Violation(_)), "{what}");
        };
        let serve = async {
            let (request, mut send) = relay.accept(fields).await;
            // The client may have reset the stream by now.
            send.send_data(Bytes::copy_from_slice(body), body == [0x0, 5]).ok();
            if trailers {
                send.send_trailers(http::HeaderMap::new()).unwrap();
            }
            assert_eq!(reset(&mut request.into_body()).await, Reason::PROTOCOL_ERROR, "{what}");
        };
        tokio::join!(ask, serve);
    }
    let violation = client.violation().unwrap();
    assert_eq!((violation.rule.as_str(), violation.code), ("content-length in a 200 answer to CONNECT-UDP (RFC 9297 §3.2)", 1));
    let (tunnel, _held) = tokio::join!(client.connect_tcp("a.test:80"), relay.accept(&[]));
    tunnel.unwrap();
}

#[tokio::test]
async fn windows_are_what_was_asked_and_grow_only_if_told() {
    for grows in [true, false] {
        let fake = TcpFake::start(Http::H2).await;
        let mut options = fake.options();
        (options.stream_window, options.window_updates) = (1000, grows);
        let (client, mut relay) = fake.h2_pair(options).await;
        let (tunnel, (request, mut send)) = tokio::join!(client.connect_tcp("a.test:80"), relay.accept(&[]));
        let mut tunnel = tunnel.unwrap();
        send.send_data(vec![7; 3000].into(), false).unwrap();
        let mut came = 0;
        while came < 1000 {
            came += tunnel.recv().await.unwrap().unwrap().len();
        }
        if grows {
            while came < 3000 {
                came += tunnel.recv().await.unwrap().unwrap().len();
            }
        } else {
            // What comes back behind the answer would have brought WINDOW_UPDATE along.
            tunnel.send(Bytes::from_static(b"x")).await.unwrap();
            request.into_body().data().await.unwrap().unwrap();
            assert_eq!((came, send.capacity()), (1000, 0));
        }
    }
}

#[tokio::test]
async fn sending_waits_for_the_relays_window() {
    let fake = TcpFake::start(Http::H2).await;
    let (client, mut relay) = fake.h2_pair(fake.options()).await;
    let (tunnel, (request, _send)) = tokio::join!(client.connect_tcp("a.test:80"), relay.accept(&[]));
    let mut tunnel = tunnel.unwrap();
    let mut body = request.into_body();
    let all = vec![7; 1 << 20];
    let take = async {
        let mut came = 0;
        while let Some(bytes) = body.data().await {
            let len = bytes.unwrap().len();
            came += len;
            body.flow_control().release_capacity(len).unwrap();
        }
        came
    };
    let give = async {
        tunnel.send(all.clone().into()).await.unwrap();
        tunnel.finish().unwrap();
    };
    let (came, ()) = tokio::join!(take, give);
    assert_eq!(came, all.len());
}

#[tokio::test]
async fn the_first_head_is_the_last() {
    let fake = TcpFake::start(Http::H2).await;
    let (client, mut relay) = fake.h2_pair(fake.options()).await;
    let head = client.options().tcp_head("a.test:80");
    let mut exchange = client.request(&head).await.unwrap();
    assert!(matches!(exchange.send_head(&head).await, Err(StreamEnd::Unsendable(_))));
    let _held = relay.accept(&[]).await;
    exchange.tcp().await.unwrap();

    let mut wrong = Head::default();
    wrong.push(":nothing", "x");
    let error = client.request(&wrong).await.unwrap_err();
    assert!(matches!(error, ProbeError::Unanswered(StreamEnd::Unsendable(_))), "{error}");
    // After one that cannot be sent, another can.
    let mut connection = head.clone();
    connection.push("connection", "close");
    let mut exchange = client.exchange().await.unwrap();
    assert!(matches!(exchange.send_head(&connection).await, Err(StreamEnd::Unsendable(_))));
    exchange.send_head(&head).await.unwrap();
    let _held = relay.accept(&[]).await;
    exchange.tcp().await.unwrap();

    let mut exchange = client.exchange().await.unwrap();
    drop(exchange.send);
    assert_eq!((exchange.recv.ended().await, exchange.recv.ended().await), (StreamEnd::EndedHere, StreamEnd::EndedHere));
}
