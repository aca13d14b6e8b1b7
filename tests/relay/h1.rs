//! What is HTTP/1.1's own.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Relay, TOKEN, descriptors,
    tcp::TcpEcho,
    tls::{connect, exchange},
    udp::UdpTarget,
    within,
};

/// A request line and fields, with the relay's credentials.
fn request(line: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line} HTTP/1.1\r\nHost: relay.test\r\nProxy-Authorization: Bearer {TOKEN}\r\n{fields}\r\n")
}

const UPGRADE: [&str; 3] = ["Connection: Upgrade", "Upgrade: connect-udp", "Capsule-Protocol: ?1"];

#[tokio::test]
async fn c16_an_upgrade_to_connect_udp_is_101_with_the_same_fields() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = UdpTarget::echo().await;
    let mut stream = connect(&relay, &["http/1.1"]).await.unwrap();
    let line = format!("GET /.well-known/masque/udp/127.0.0.1/{}/", echo.address().port());
    // Sent on the strength of a yes, in the same packet.
    let capsule = [0, 4, 0, b'o', b'n', b'e'];
    stream.write_all(&[request(&line, &UPGRADE).as_bytes(), &capsule].concat()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(&capsule) {
        assert!(within("the echo", stream.read_buf(&mut got)).await.unwrap() > 0, "{}", String::from_utf8_lossy(&got));
    }
    let head = String::from_utf8(got[..got.len() - capsule.len()].to_vec()).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\n"), "{head}");
    assert!(head.contains("\r\ncapsule-protocol: ?1\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("content-length") && !head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    stream.shutdown().await.unwrap();
    descriptors::none_towards(echo.address()).await;
    drop(stream);
    relay.finish().await;
}

#[tokio::test]
async fn c16_a_malformed_upgrade_is_400() {
    let relay = Relay::spawn(|_| {}).await;
    let path = "/.well-known/masque/udp/127.0.0.1/9/";
    for (what, text) in [
        ("POST", request(&format!("POST {path}"), &UPGRADE)),
        ("no Connection", request(&format!("GET {path}"), &UPGRADE[1..])),
        ("port 0", request("GET /.well-known/masque/udp/127.0.0.1/0/", &UPGRADE)),
        ("content-length", request(&format!("GET {path}"), &[&UPGRADE[..], &["Content-Length: 0"]].concat())),
        ("transfer-encoding", request(&format!("GET {path}"), &[&UPGRADE[..], &["Transfer-Encoding: chunked"]].concat())),
        ("no Host", format!("GET {path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\n\r\n")),
        ("no target port", request("CONNECT a.test", &[])),
        ("no HTTP", "\x00\x01\x02\r\n\r\n".into()),
    ] {
        let answer = exchange(&relay, &text).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{what}: {answer}");
        assert!(answer.contains("error=http_request_error") && answer.contains("Connection: close"), "{what}: {answer}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn c17_nothing_behind_a_refused_request_is_taken_for_another() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let more = request(&format!("CONNECT {}", echo.address()), &[]);
    for (what, first, status) in [
        ("upgrade", request("GET /.well-known/masque/udp/127.0.0.1/0/", &UPGRADE), 400),
        ("another upgrade", request("GET /chat", &["Connection: Upgrade", "Upgrade: websocket"]), 501),
        ("connect", request("CONNECT nobody.test:80", &[]), 502),
        ("stranger", "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n".into(), 407),
        ("get", request("GET /", &[]), 405),
    ] {
        let first = first.replace("Host: relay.test", if what == "connect" { "Host: nobody.test:80" } else { "Host: relay.test" });
        let answer = exchange(&relay, &(first + &more)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer}");
    }
    assert_eq!(echo.accepted(), 0);
    relay.finish().await;
}

#[tokio::test]
async fn c09_too_large_a_head_is_431() {
    let relay = Relay::spawn(|_| {}).await;
    let answer = exchange(&relay, &request("GET /", &[&format!("x: {}", "y".repeat(17 << 10))])).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    relay.finish().await;
}
