//! What an HTTP/2 client gets that is not known yet.

use crate::support::{
    Relay,
    h2::{END_HEADERS, END_STREAM, HEADERS, Raw, block, frame, status},
};

/// Far more requests in one go than are looked at side by side, each head as large as a few bytes can make it: all are answered.
#[tokio::test]
async fn c09_many_requests_of_a_stranger_are_answered_a_few_at_a_time() {
    let relay = Relay::spawn(|_| {}).await;
    let mut raw = Raw::open(&relay).await;
    let mut bytes = Vec::new();
    for n in 0..400_u32 {
        // 0x90: `accept-encoding: gzip, deflate` of the static table (RFC 7541 appendix A), in one byte.
        let head = [block(&[(":method", "CONNECT"), (":authority", "a.test:80")]), vec![0x90; 200]].concat();
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head));
    }
    raw.push(&bytes).await;
    assert_eq!(status(&raw.answer(1).await), 407);
    // The others refer to the first by the table of the connection.
    for _ in 1..400 {
        raw.find("an answer", |frame| frame.kind == HEADERS).await;
    }
    drop(raw);
    relay.finish().await;
}
