//! Field sections as they may come, and as they may not.

use masque_relay::proto::{codes::h3, frame};

use crate::support::{
    Relay,
    tcp::TcpEcho,
    tunnels::{assert_closed, assert_echoes},
};

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
