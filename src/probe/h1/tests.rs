//! Against a server that reads heads and writes what the test says.

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::{
    ended::Reset,
    probe::{
        Client, Closed, Http, Layer, Means, ProbeError, StreamEnd, TcpTunnel,
        fake::tcp::{TcpFake, h1_answer, h1_head},
    },
};

const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
const UPGRADED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, upgrade\r\nUpgrade: connect-udp\r\nCapsule-Protocol: ?1\r\n\r\n";

async fn tunnel(fake: &TcpFake) -> (Client, TcpTunnel, TlsStream<TcpStream>) {
    let (client, mut stream) = fake.pair().await;
    let (tunnel, _head) = tokio::join!(client.connect_tcp("a.test:80"), h1_answer(&mut stream, OK));
    (client, tunnel.unwrap(), stream)
}

#[tokio::test]
async fn a_tcp_tunnel_carries_bytes_and_half_closes() {
    let fake = TcpFake::start(Http::H1).await;
    let mut options = fake.options();
    options.bearer("token");
    let (client, mut stream) = fake.pair_with(options).await;
    let answer = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nServer: x\r\n\r\nfirst";
    let (tunnel, head) = tokio::join!(client.connect_tcp("a.test:80"), h1_answer(&mut stream, answer));
    assert_eq!(head, "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\nproxy-authorization: Bearer token\r\n\r\n");
    let mut tunnel = tunnel.unwrap();
    assert_eq!((tunnel.answer.status, tunnel.answer.field("server").as_deref()), (200, Some("x")));
    assert_eq!(tunnel.recv().await.unwrap().unwrap(), "first");

    tunnel.send(Bytes::from_static(b"out")).await.unwrap();
    tunnel.finish().unwrap();
    assert_eq!(tunnel.send(Bytes::from_static(b"more")).await, Err(StreamEnd::EndedHere));
    let mut out = Vec::new();
    stream.read_to_end(&mut out).await.expect("close_notify, then FIN");
    assert_eq!(out, b"out");
    stream.write_all(b"back").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(tunnel.read_to_end(100).await.unwrap(), "back");
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
}

#[tokio::test]
async fn a_refusal_keeps_its_head_and_its_content() {
    let fake = TcpFake::start(Http::H1).await;
    let answer = "HTTP/1.1 502 Bad Gateway\r\nProxy-Status: r; error=dns_error\r\nContent-Length: 3\r\n\r\nwhy?";
    let (client, mut stream) = fake.pair().await;
    let (error, _head) = tokio::join!(client.connect_tcp("a.test:80"), h1_answer(&mut stream, answer));
    let error = error.unwrap_err();
    let refused = error.refused().unwrap();
    assert_eq!((refused.status, refused.proxy_status.as_deref()), (502, Some("r; error=dns_error")));

    let (client, mut stream) = fake.pair().await;
    let head = client.options().udp_head("192.0.2.1", 53);
    let (exchange, _head) = tokio::join!(client.request(&head), h1_answer(&mut stream, answer));
    let mut exchange = exchange.unwrap();
    assert_eq!(exchange.answer().await.unwrap().status, 502);
    assert_eq!(exchange.recv.read_to_end(100).await.unwrap(), "why");
}

#[tokio::test]
async fn one_connection_carries_one_request() {
    let fake = TcpFake::start(Http::H1).await;
    let (client, _tunnel, _stream) = tunnel(&fake).await;
    assert!(matches!(client.connect_tcp("a.test:80").await, Err(ProbeError::UsedUp)));
    assert!(matches!(client.connect_udp("192.0.2.1", 53).await, Err(ProbeError::UsedUp)));
    assert!(matches!(client.settings().await, Err(ProbeError::Missing { http: Http::H1, .. })));
}

#[tokio::test]
async fn payloads_go_in_capsules() {
    let fake = TcpFake::start(Http::H1).await;
    let (client, mut stream) = fake.pair().await;
    let (tunnel, head) = tokio::join!(client.connect_udp("2001:db8::1", 53), h1_answer(&mut stream, UPGRADED));
    assert_eq!(
        head,
        format!(
            "GET /.well-known/masque/udp/2001%3Adb8%3A%3A1/53/ HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\n\
             capsule-protocol: ?1\r\n\r\n",
            client.options().authority
        )
    );
    let mut tunnel = tunnel.unwrap();
    assert!(!tunnel.carries_datagrams());
    tunnel.send_either(b"out").await.unwrap();
    let mut out = [0; 6];
    stream.read_exact(&mut out).await.unwrap();
    assert_eq!(out, [0, 4, 0, b'o', b'u', b't']);

    stream.write_all(&[0x17, 1, 7, 0x0, 3, 0, b'h']).await.unwrap();
    stream.write_all(b"i").await.unwrap();
    let packet = tunnel.recv().await.unwrap();
    assert_eq!((&packet.payload[..], packet.means), (&b"hi"[..], Means::Capsule));
    stream.shutdown().await.unwrap();
    assert_eq!(tunnel.ended().await, StreamEnd::Finished);
}

#[tokio::test]
async fn an_answer_that_breaks_a_rule_is_a_violation() {
    let fake = TcpFake::start(Http::H1).await;
    let upgraded = |tail: &str| format!("{}{tail}", UPGRADED.trim_end_matches("\r\n"));
    let with = |field: &str| upgraded(&format!("\r\n{field}\r\n\r\n"));
    for (answer, udp, what) in [
        (OK.to_owned(), true, "200 to an upgrade"),
        (UPGRADED.to_owned(), false, "101 to CONNECT"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n".into(), true, "101 without Upgrade"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: connect-udp\r\n\r\n".into(), true, "101 without Connection"),
        (UPGRADED.replace("connect-udp", "websocket"), true, "another protocol"),
        (UPGRADED.replace("connect-udp", "connect-udp, websocket"), true, "two protocols"),
        (with("Content-Length: 0"), true, "content-length"),
        (with("Transfer-Encoding: chunked"), true, "transfer-encoding"),
        (OK.replace("1.1", "1.0"), false, "HTTP/1.0"),
        ("nonsense\r\n\r\n".into(), false, "no HTTP at all"),
        (format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(65 << 10)), false, "a head too large"),
        (upgraded("\r\n\r\n\0\0"), true, "a capsule without context"),
    ] {
        let (client, mut stream) = fake.pair().await;
        let ask = async {
            let end = if udp {
                match client.connect_udp("192.0.2.1", 53).await {
                    Ok(mut tunnel) => tunnel.ended().await,
                    Err(ProbeError::Violation(violation)) => StreamEnd::Violation(violation),
                    Err(error) => panic!("{what}: {error}"),
                }
            } else {
                match client.connect_tcp("a.test:80").await {
                    Err(ProbeError::Violation(violation)) => StreamEnd::Violation(violation),
                    other => panic!("{what}: {other:?}"),
                }
            };
            let violation = client.violation().expect(what);
            assert_eq!((end, violation.code), (StreamEnd::Violation(violation.clone()), 0), "{what}");
        };
        let serve = async {
            h1_answer(&mut stream, &answer).await;
            // The connection is cut off, not closed.
            stream.read_u8().await.unwrap_err()
        };
        tokio::join!(ask, serve);
    }

    // Ends where none may be.
    for (answer, what) in
        [("HTTP/1.1 200 OK\r\n", "inside a head"), ("HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nx", "inside its content")]
    {
        let (client, mut stream) = fake.pair().await;
        let ask = async {
            let mut exchange = client.request(&client.options().tcp_head("a.test:80")).await.unwrap();
            if exchange.answer().await.is_ok() {
                assert!(matches!(exchange.recv.ended().await, StreamEnd::Violation(_)), "{what}");
            }
            assert!(client.violation().is_some(), "{what}");
        };
        let serve = async {
            h1_answer(&mut stream, answer).await;
            stream.shutdown().await.unwrap();
        };
        tokio::join!(ask, serve);
    }
}

#[tokio::test]
async fn a_cut_connection_is_no_clean_end() {
    let fake = TcpFake::start(Http::H1).await;
    for abort in [true, false] {
        let (client, mut tunnel, stream) = tunnel(&fake).await;
        if abort {
            socket2::SockRef::from(stream.get_ref().0).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        drop(stream);
        let end = tunnel.ended().await;
        assert!(matches!(&end, StreamEnd::Lost(Closed { by_peer: true, layer: Layer::None, .. })), "{end}");
        assert!(end.is_reset(Http::H1, Reset::Connect));
        assert_eq!((tunnel.ended().await, tunnel.send.stopped().await), (end.clone(), end.clone()));
        assert_eq!(StreamEnd::Lost(client.closed().await.unwrap()), end);
    }
}

#[tokio::test]
async fn whoever_resets_cuts_the_connection() {
    let fake = TcpFake::start(Http::H1).await;
    for way in ["reset", "stop", "drop", "drop finished"] {
        let (_client, mut tunnel, mut stream) = tunnel(&fake).await;
        match way {
            "reset" => tunnel.reset_as(Reset::Connect).unwrap(),
            "stop" => tunnel.stop_as(Reset::Cancelled).unwrap(),
            "drop" => drop(tunnel),
            _ => {
                tunnel.finish().unwrap();
                stream.read_to_end(&mut Vec::new()).await.unwrap();
                drop(tunnel);
                // What is written now meets RST.
                while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {}
                continue;
            }
        }
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{way}");
    }
}

#[tokio::test]
async fn who_closes_is_told() {
    let fake = TcpFake::start(Http::H1).await;
    // The relay, before any request.
    let (client, mut stream) = fake.pair().await;
    stream.shutdown().await.unwrap();
    assert!(client.closed().await.unwrap().by_peer);

    // Who waits for that takes nothing away from a request.
    let (client, mut stream) = fake.pair().await;
    let serve = async {
        h1_answer(&mut stream, OK).await;
        stream.write_all(b"first").await.unwrap();
        stream.read_u8().await.unwrap_err()
    };
    let ask = async {
        let mut tunnel = client.connect_tcp("a.test:80").await.unwrap();
        assert_eq!(tunnel.recv().await.unwrap().unwrap(), "first");
        tunnel.reset_as(Reset::Cancelled).unwrap();
    };
    let (closed, (), _) = tokio::join!(client.closed(), ask, serve);
    assert!(!closed.unwrap().by_peer);

    // The client, while its tunnel reads.
    let (client, mut tunnel, _stream) = tunnel(&fake).await;
    let close = async { client.closer().close(0, b"") };
    let (end, ()) = tokio::join!(tunnel.ended(), close);
    let here = Closed { by_peer: false, layer: Layer::None, code: 0, reason: "closed here".into() };
    assert_eq!((end, client.closed().await.unwrap()), (StreamEnd::Lost(here.clone()), here));

    // The client in order.
    let (client, mut stream) = fake.pair().await;
    client.shut().await;
    stream.read_to_end(&mut Vec::new()).await.expect("close_notify");
}

#[tokio::test]
async fn a_server_without_alpn_speaks_http_1() {
    let fake = TcpFake::start_as(Http::H1, &[&rustls::version::TLS12], &[]).await;
    let (client, mut stream) = fake.pair().await;
    let (tunnel, head) = tokio::join!(client.connect_tcp("a.test:80"), h1_answer(&mut stream, OK));
    assert!(tunnel.is_ok() && head.starts_with("CONNECT "));
}

#[tokio::test]
async fn what_is_sent_raw_arrives_as_it_is() {
    let fake = TcpFake::start(Http::H1).await;
    let (client, mut stream) = fake.pair().await;
    let mut exchange = client.exchange().await.unwrap();
    exchange.send.send_raw(Bytes::from_static(b"WHAT? ever\r\n\r\n")).await.unwrap();
    assert_eq!(h1_head(&mut stream).await, "WHAT? ever\r\n\r\n");
    drop(stream);
    assert!(matches!(exchange.answer().await, Err(ProbeError::Closed(Closed { by_peer: true, .. }))));
}
