//! Known floods: what they cost is bounded, and their connection bears it alone.

use masque_relay::probe::Http;

use crate::support::{
    Relay,
    dns::Reply,
    h2::{
        CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, block, code, connect_fields,
        frame, status,
    },
    tcp::TcpEcho,
    tunnels::assert_works,
};

fn request(stream: u32, target: &str) -> Vec<u8> {
    let fields = connect_fields(target);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    frame(HEADERS, END_HEADERS, stream, &block(&fields))
}

/// Another client is served as if nothing were.
async fn assert_others_live(relay: &Relay) {
    let echo = TcpEcho::start().await;
    for http in [Http::H2, Http::H3] {
        assert_works(&relay.client_over(http).await, &echo).await;
    }
}

/// CVE-2023-44487.
#[tokio::test]
async fn h2_5_rapid_reset_is_told_to_calm_down() {
    let relay = Relay::spawn(|_| {}).await;
    relay.dns.always("slow.test", &Reply::Silence);
    let mut raw = Raw::open(&relay).await;
    let bytes: Vec<u8> = (0..5_000_u32)
        .flat_map(|n| [request(2 * n + 1, "slow.test:80"), frame(RST_STREAM, 0, 2 * n + 1, &code::CANCEL.to_be_bytes())].concat())
        .collect();
    raw.push(&bytes).await;
    assert_eq!(raw.goaway().await, code::ENHANCE_YOUR_CALM);
    assert_others_live(&relay).await;
    drop(raw);
    relay.finish().await;
}

/// The same, each after the relay has begun with it.
#[tokio::test]
async fn h2_5_requests_cancelled_one_by_one_are_counted_too() {
    let relay = Relay::spawn(|_| {}).await;
    relay.dns.always("slow.test", &Reply::Silence);
    let mut raw = Raw::open(&relay).await;
    let streams: Vec<u32> = (0..20_000).map(|n| 2 * n + 1).collect();
    let mut told = None;
    for batch in streams.chunks(64) {
        for bytes in [
            batch.iter().flat_map(|stream| request(*stream, "slow.test:80")).collect::<Vec<_>>(),
            batch.iter().flat_map(|stream| frame(RST_STREAM, 0, *stream, &code::CANCEL.to_be_bytes())).collect(),
        ] {
            // The answer to the PING says that the relay has seen what came before.
            raw.push(&[bytes, frame(PING, 0, 0, &[0; 8])].concat()).await;
            told = raw.next_of(&[PING, GOAWAY]).await.filter(|frame| frame.kind == GOAWAY);
            if told.is_some() {
                break;
            }
        }
        if told.is_some() {
            break;
        }
    }
    assert_eq!(told.expect("twenty thousand cancelled requests were served").code(), code::ENHANCE_YOUR_CALM);
    assert_others_live(&relay).await;
    drop(raw);
    relay.finish().await;
}

/// CVE-2024-27316 and its kin.
#[tokio::test]
async fn h2_5_endless_continuation_ends_the_connection() {
    let relay = Relay::spawn(|_| {}).await;
    let mut raw = Raw::open(&relay).await;
    let more = frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(1000))]));
    raw.push(&[frame(HEADERS, 0, 1, &block(&[(":method", "CONNECT")])), more.repeat(10_000)].concat()).await;
    assert_eq!(raw.goaway().await, code::ENHANCE_YOUR_CALM);
    assert_others_live(&relay).await;
    drop(raw);
    relay.finish().await;
}

/// CVE-2019-9512 (PING), CVE-2019-9515 (SETTINGS), CVE-2019-9518 (empty DATA), CVE-2019-9511 (tiny credit): none of the answers is read.
#[tokio::test]
async fn h2_5_floods_of_small_frames_are_the_senders_own_trouble() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    for (what, one) in [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("SETTINGS with a value", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
        ("empty DATA", frame(DATA, 0, 1, &[])),
        ("tiny DATA", frame(DATA, 0, 1, &[0])),
        ("tiny credit", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 16])),
        ("unknown frames", frame(0xfa, 0, 1, &[0; 16])),
    ] {
        let mut raw = Raw::open(&relay).await;
        raw.send(&request(1, &echo.address().to_string())).await;
        assert_eq!(status(&raw.answer(1).await), 200, "{what}");
        raw.push(&one.repeat(20_000)).await;
        assert_others_live(&relay).await;
    }
    relay.finish().await;
}

/// CVE-2019-9514: every request is malformed, and no reset is read.
#[tokio::test]
async fn h2_5_a_flood_of_broken_requests_ends_the_connection() {
    let relay = Relay::spawn(|_| {}).await;
    let mut raw = Raw::open(&relay).await;
    let bytes: Vec<u8> = (0..20_000_u32).flat_map(|n| frame(HEADERS, END_HEADERS, 2 * n + 1, &block(&[(":path", "/")]))).collect();
    raw.push(&bytes).await;
    assert_eq!(raw.goaway().await, code::ENHANCE_YOUR_CALM);
    assert_others_live(&relay).await;
    drop(raw);
    relay.finish().await;
}

#[tokio::test]
async fn h2_5_half_open_streams_are_bounded() {
    let relay = Relay::spawn(|config| config.limits.tunnels_per_connection = 8).await;
    relay.dns.always("slow.test", &Reply::Silence);
    let mut raw = Raw::open(&relay).await;
    // 8 tunnels, 64 that may be refused, and one more.
    for n in 0..73 {
        raw.send(&request(2 * n + 1, "slow.test:80")).await;
    }
    let refused = raw.find("a refusal of the stream", |frame| frame.kind == RST_STREAM && frame.code() == 7).await;
    assert_eq!(refused.stream, 145, "the last one");
    assert_others_live(&relay).await;
    drop(raw);
    relay.finish().await;
}
