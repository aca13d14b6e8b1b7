//! HTTP/2 frame by frame (RFC 9113 §4, §6), right and wrong.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{PATIENCE, Relay, TOKEN, USER, tls, within};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
/// Of PING and SETTINGS.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113 §7).
pub(crate) mod code {
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
    pub(crate) const CANCEL: u32 = 8;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
}

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("a code"))
    }
}

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An answer.
    Status(u16),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code.
    Closed(u32),
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it fits").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field block without compression: each a literal that is not indexed (RFC 7541 §6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // A prefix of seven bits (RFC 7541 §5.1).
            if text.len() < 127 {
                block.push(u8::try_from(text.len()).expect("below 127"));
            } else {
                block.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    block.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                block.push(rest as u8);
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A classic CONNECT to `target` by the relay's user.
pub(crate) fn connect_fields(target: &str) -> Vec<(&'static str, String)> {
    vec![(":method", "CONNECT".into()), (":authority", target.into()), credentials()]
}

/// A CONNECT-UDP to `host` and `port` by the relay's user.
pub(crate) fn udp_fields(host: &str, port: u16) -> Vec<(&'static str, String)> {
    vec![
        (":method", "CONNECT".into()),
        (":protocol", "connect-udp".into()),
        (":scheme", "https".into()),
        (":authority", super::NAME.into()),
        (":path", format!("/.well-known/masque/udp/{host}/{port}/")),
        credentials(),
    ]
}

fn credentials() -> (&'static str, String) {
    ("proxy-authorization", format!("Basic {}", STANDARD.encode(format!("{USER}:{TOKEN}"))))
}

/// A connection whose preface and SETTINGS are sent.
pub(crate) struct Raw {
    stream: TlsStream<TcpStream>,
}

impl Raw {
    pub(crate) async fn open(relay: &Relay) -> Self {
        let stream = tls::connect(relay, &["h2"]).await.expect("a TLS connection");
        let mut raw = Self { stream };
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send(&frame(SETTINGS, 0, 0, &[])).await;
        raw
    }

    /// Sends bytes; a relay that has closed the connection meanwhile is no failure here.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, async {
            self.stream.write_all(bytes).await.unwrap_or_default();
            self.stream.flush().await.unwrap_or_default();
        })
        .await
        .expect("the relay takes what is sent");
    }

    /// Sends as much of `bytes` as the relay takes within a moment; how much is not told.
    pub(crate) async fn push(&mut self, bytes: &[u8]) {
        timeout(Duration::from_secs(1), async {
            self.stream.write_all(bytes).await.unwrap_or_default();
            self.stream.flush().await.unwrap_or_default();
        })
        .await
        .unwrap_or_default();
    }

    pub(crate) async fn request(&mut self, stream: u32, flags: u8, fields: &[(&'static str, String)]) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.send(&frame(HEADERS, END_HEADERS | flags, stream, &block(&fields))).await;
    }

    /// The next frame; `None` once the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        within("a frame", self.next_late()).await
    }

    /// The same, however long it takes.
    pub(crate) async fn next_late(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().expect("four bytes"));
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of one of these kinds, unless the connection ends first.
    pub(crate) async fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// The next frame that is `right`, the others passed over.
    pub(crate) async fn find(&mut self, what: &str, right: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let Some(frame) = self.next().await else { panic!("the connection ended before {what}") };
            if right(&frame) {
                return frame;
            }
        }
    }

    /// The answer to a request, whatever it says: its HEADERS frame.
    pub(crate) async fn answer(&mut self, stream: u32) -> Frame {
        self.find("an answer", |frame| frame.kind == HEADERS && frame.stream == stream).await
    }

    /// A request with these fields, right or wrong.
    pub(crate) async fn request_fields(&mut self, stream: u32, fields: &[(String, String)]) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.send(&frame(HEADERS, END_HEADERS, stream, &block(&fields))).await;
    }

    /// What comes of the request on `stream`, whichever it is.
    pub(crate) async fn verdict(&mut self, stream: u32) -> Verdict {
        let mine = |frame: &Frame| frame.stream == stream && [HEADERS, RST_STREAM].contains(&frame.kind) || frame.kind == GOAWAY;
        let frame = self.find("an answer or a reset", mine).await;
        match frame.kind {
            HEADERS => Verdict::Status(status(&frame)),
            RST_STREAM => Verdict::Reset(frame.code()),
            _ => Verdict::Closed(frame.code()),
        }
    }

    /// The code of the RST_STREAM on `stream`.
    pub(crate) async fn reset(&mut self, stream: u32) -> u32 {
        self.find("a reset", |frame| frame.kind == RST_STREAM && frame.stream == stream).await.code()
    }

    /// The code of the GOAWAY that says an error.
    pub(crate) async fn goaway(&mut self) -> u32 {
        self.find("GOAWAY", |frame| frame.kind == GOAWAY && frame.code() != 0).await.code()
    }
}

/// The status of an answer of ours: indexed in the static table for the usual ones, else a literal behind index 8 (RFC 7541 appendix A).
pub(crate) fn status(answer: &Frame) -> u16 {
    match answer.payload[0] {
        0x88 => 200,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        _ => {
            let length = usize::from(answer.payload[1] & 0x7f);
            let value = &answer.payload[2..2 + length];
            if answer.payload[1] & 0x80 == 0 {
                return String::from_utf8_lossy(value).parse().expect("a status");
            }
            huffman_digits(value)
        }
    }
}

/// Digits in the code of RFC 7541 appendix B: 0, 1 and 2 have five bits (0, 1, 2), 3 to 9 six (0x19 to 0x1f).
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u16> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
    let (mut status, mut at) = (0, 0);
    let value = |at: usize, count: usize| bits[at..at + count].iter().fold(0, |value, bit| value << 1 | bit);
    for _ in 0..3 {
        let short = value(at, 5);
        let (digit, count) = if short <= 2 { (short, 5) } else { (value(at, 6) - 0x19 + 3, 6) };
        status = status * 10 + digit;
        at += count;
    }
    status
}
