//! Frames that break RFC 9113: the right error at the right scope.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Relay,
    dns::Reply,
    h2::{DATA, GOAWAY, HEADERS, Raw, SETTINGS, WINDOW_UPDATE, block, code, connect_fields, frame, status},
    tcp::TcpEcho,
    tls, within,
};

/// A tunnel can still be opened.
async fn assert_lives(raw: &mut Raw, stream: u32, echo: &TcpEcho) {
    raw.request(stream, 0, &connect_fields(&echo.address().to_string())).await;
    assert_eq!(status(&raw.answer(stream).await), 200);
}

#[tokio::test]
async fn what_breaks_the_connection_closes_it_with_its_code() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let request = |stream| {
        let fields = connect_fields(&echo.address().to_string());
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        frame(HEADERS, 4, stream, &block(&fields))
    };
    for (what, bytes, want) in [
        ("a frame above the limit", frame(DATA, 0, 1, &vec![0; (64 << 10) + 1]), code::FRAME_SIZE_ERROR),
        // RFC 9113 §6.5 wants FRAME_SIZE_ERROR: the h2 crate has one code for every SETTINGS frame it cannot read.
        ("SETTINGS that end inside a pair", frame(SETTINGS, 0, 0, &[0; 5]), code::PROTOCOL_ERROR),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), code::PROTOCOL_ERROR),
        ("the connection's window overflows", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), code::FLOW_CONTROL_ERROR),
        ("a stream of ours", request(2), code::PROTOCOL_ERROR),
        ("a stream below the last", [request(5), request(3)].concat(), code::PROTOCOL_ERROR),
        ("DATA on a stream never opened", frame(DATA, 0, 9, b"x"), code::PROTOCOL_ERROR),
        // RFC 9113 §4.3 wants COMPRESSION_ERROR; the same.
        ("HEADERS that are no HPACK", frame(HEADERS, 4, 1, &[0xbf]), code::PROTOCOL_ERROR),
    ] {
        let mut raw = Raw::open(&relay).await;
        raw.send(&bytes).await;
        let goaway = raw.find(what, |frame| frame.kind == GOAWAY && frame.code() != 0).await;
        assert_eq!(goaway.code(), want, "{what}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn what_breaks_a_stream_resets_it_alone() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let mut raw = Raw::open(&relay).await;

    assert_lives(&mut raw, 1, &echo).await;
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])).await;
    assert_eq!(raw.reset(1).await, code::FLOW_CONTROL_ERROR);

    // C-12: h2 answers itself, by a reset.
    let fields = [connect_fields("a.test:1"), vec![(":path", "/".into())]].concat();
    raw.request(3, 0, &fields).await;
    assert_eq!(raw.reset(3).await, code::PROTOCOL_ERROR);

    assert_lives(&mut raw, 5, &echo).await;
    drop(raw);
    relay.finish().await;
}

#[tokio::test]
async fn more_than_the_stream_may_hold_is_a_flow_control_error() {
    let relay = Relay::spawn(|_| {}).await;
    relay.dns.always("held.test", &Reply::Silence);
    let mut raw = Raw::open(&relay).await;
    raw.request(1, 0, &connect_fields("held.test:80")).await;
    // The connection's window is 64 KiB until the client is known, 16 MiB then; a stream's is 8 MiB.
    raw.find("credit", |frame| frame.kind == WINDOW_UPDATE && frame.stream == 0).await;
    let data = frame(DATA, 0, 1, &vec![0; 32 << 10]);
    raw.send(&data.repeat((8 << 20) / (32 << 10) + 1)).await;
    assert_eq!(raw.reset(1).await, code::FLOW_CONTROL_ERROR);
    drop(raw);
    relay.finish().await;
}

#[tokio::test]
async fn c09_too_large_a_head_is_431_and_costs_its_stream() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let mut raw = Raw::open(&relay).await;
    let fields = [connect_fields("a.test:1"), vec![("x", "y".repeat(17 << 10))]].concat();
    raw.request(1, 0, &fields).await;
    assert_eq!(status(&raw.answer(1).await), 431);
    assert_lives(&mut raw, 3, &echo).await;
    drop(raw);
    relay.finish().await;
}

#[tokio::test]
async fn no_preface_no_connection() {
    let relay = Relay::spawn(|_| {}).await;
    let mut stream = tls::connect(&relay, &["h2"]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    // SETTINGS may come first; then it is over, with or without an alert.
    within("the end", stream.read_to_end(&mut rest)).await.unwrap_or_default();
    relay.finish().await;
}
