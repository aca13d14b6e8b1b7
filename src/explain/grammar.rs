//! A message of Apple's network log: whose it is, and what it tells.
//!
//! ```text
//! FUNC [CID ENDPOINT STATE MODE (PATH)] TEXT      FUNC [CID:N] [HEX-HEX] TEXT      FUNC(LINE) [CID:N][0xHEX] TEXT
//! [CID UUID ENDPOINT PARAMETERS] cancelled        KEY: VALUE, KEY: VALUE
//! ```
//!
//! A host may be a token of redaction wherever it stands: `<private>`, `<mask.hash: '…'>`, `Hostname#1a2b3c4d`, `IPv4#124bdc4d`. Summaries are read by
//! their keys, never by position.

use crate::{
    diagnosis::{By, Close, Layer},
    proto::codes::darwin_errno,
};

/// Whose message it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// The connection: `C1.1.1`, without what stands behind a colon.
    pub cid: &'a str,
    /// Its endpoint, as printed.
    pub endpoint: Option<&'a str>,
    /// `in_progress`, `ready`, `failed`, …
    pub state: Option<&'a str>,
    /// Words behind the endpoint: `proxy`, `socket-flow`, `quic`.
    pub mode: Option<&'a str>,
    /// The function's name.
    pub function: &'a str,
}

impl Head<'_> {
    /// The number of the connection that this belongs to: 1 of `C1.1.2`.
    pub fn number(&self) -> Option<u32> {
        self.cid.trim_start_matches('C').split('.').next()?.parse().ok()
    }
}

/// What a message tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// `Transport protocol connected (quic)`: which, and at what level.
    Connected(String, String),
    /// `Output protocol disconnected`.
    Disconnected,
    /// `event: flow:finish_transport @0.131s, error …`.
    Flow {
        /// `flow:finish_transport`.
        name: String,
        /// Seconds since the connection's start, in milliseconds.
        at_ms: Option<f64>,
        /// Its error's words.
        error: Option<String>,
    },
    /// `cancel`.
    Cancel,
    /// `cancelled`.
    Cancelled,
    /// `Privacy proxy failed with error 53 (… masque Proxy: http://…)`.
    ProxyFailed {
        /// Its number.
        errno: i32,
        /// The relay as printed.
        relay: Option<String>,
    },
    /// `QUIC connection established in 121.693 ms, RTT 98.812 ms`.
    Established {
        /// The handshake.
        ms: f64,
        /// The round trip.
        rtt_ms: Option<f64>,
    },
    /// `keep-alive timer fired, exceeding 2 outstanding keep-alives`.
    KeepAliveLost,
    /// `sending APPLICATION_CLOSE, code 0x100, reason <null>`.
    Closed(Close),
    /// `[S300] sending RESET_STREAM`.
    Stream {
        /// The client did it.
        sent: bool,
        /// `RESET_STREAM` or `STOP_SENDING`.
        frame: String,
    },
    /// `Receive failed with error "Operation timed out"`.
    ReceiveFailed(String),
    /// `Socket SO_ERROR [61: Connection refused]`.
    SocketError(i32),
    /// `Certificate verification result: OK`.
    Certificate(String),
    /// `TLS connected [version(0x0304) … alpn(h3) … connect_time(119ms) … rtt(100ms)]`.
    TlsConnected {
        /// The protocol agreed on.
        alpn: Option<String>,
        /// The handshake.
        ms: Option<f64>,
        /// The round trip.
        rtt_ms: Option<f64>,
    },
    /// `read alert, level: fatal, description: internal error`.
    Alert {
        /// The client received it.
        read: bool,
        /// In words.
        words: String,
    },
    /// `failed to connect 3:-9838, reason -1`.
    ConnectFailed(i32),
    /// `KEY: VALUE, KEY: VALUE`.
    Summary(Summary),
    /// A connection and its two ends: the first line of a summary.
    Ends {
        /// The client's.
        local: String,
        /// The relay's.
        remote: String,
    },
}

/// What a summary says, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// `Duration`.
    pub duration_ms: Option<f64>,
    /// `QUIC @…` or `TCP @…`.
    pub transport: Option<String>,
    /// `TLS 1.3 took`.
    pub tls_ms: Option<f64>,
    /// `bytes in/out`.
    pub bytes: Option<(u64, u64)>,
    /// `packets in/out`.
    pub packets: Option<(u64, u64)>,
    /// `rtt`.
    pub rtt_ms: Option<f64>,
    /// `retransmitted bytes`.
    pub retransmitted: Option<u64>,
    /// `Connected Path`, where it is not satisfied.
    pub unsatisfied: bool,
}

/// Whose message, and what it tells; `None` for either: nobody's that can be told, nothing that is known.
pub fn read(message: &str) -> (Option<Head<'_>>, Option<Event>) {
    match head(message) {
        Some((head, text, ends)) => {
            let event = ends.or_else(|| event(text)).or_else(|| summary(text));
            (Some(head), event)
        }
        None => (None, summary(message.trim())),
    }
}

/// The head, the text behind it, and the two ends if they are all the line has.
fn head(message: &str) -> Option<(Head<'_>, &str, Option<Event>)> {
    if let Some((number, text)) = message.strip_prefix("Connection ").and_then(|rest| rest.split_once(": ")) {
        // Its `C` is not in the text; the number alone names it.
        let named = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty();
        return named.then(|| (Head { cid: number, ..Head::default() }, text, None));
    }
    let open = message.find('[')?;
    let function = message[..open].trim();
    let function = function.split_once('(').map_or(function, |(name, _)| name);
    if function.contains(' ') || !function.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let (inside, mut text) = bracket(&message[open..])?;
    let (first, mut rest) = token(inside);
    let cid = first.split(':').next().unwrap_or_default();
    let digits = cid.strip_prefix('C')?;
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    // `[0x1]`, `[-010f00aa]`, `[S300]`: names inside QUIC and TLS.
    while let Some((name, behind)) = bracket(text.trim_start()).filter(|(name, _)| is_name(name)) {
        text = behind;
        debug_assert!(!name.is_empty());
    }
    let mut head = Head { cid, function, ..Head::default() };
    let mut ends = None;
    let (word, behind) = token(rest);
    if is_uuid(word) {
        rest = behind;
    }
    let (endpoint, behind) = token(rest);
    if let Some((local, remote)) = endpoint.split_once("<->") {
        head.endpoint = Some(remote);
        ends = Some(Event::Ends { local: local.into(), remote: remote.into() });
    } else if !endpoint.is_empty() {
        head.endpoint = Some(endpoint);
        let (state, behind) = token(behind);
        let (mode, _) = token(behind);
        (head.state, head.mode) = (Some(state.trim_end_matches(',')), Some(mode.trim_end_matches(',')));
    }
    Some((head, text.trim(), ends.filter(|_| text.trim().is_empty())))
}

/// What the text of a message tells.
fn event(text: &str) -> Option<Event> {
    match text {
        "cancel" => return Some(Event::Cancel),
        "cancelled" => return Some(Event::Cancelled),
        _ => {}
    }
    if let Some((level, rest)) = text.split_once(" protocol ") {
        if rest == "disconnected" || rest.starts_with("disconnected ") {
            return Some(Event::Disconnected);
        }
        let which = rest.strip_prefix("connected")?.trim().trim_matches(['(', ')']);
        return (!level.contains(' ')).then(|| Event::Connected(level.into(), which.into()));
    }
    if let Some(rest) = text.strip_prefix("event: ") {
        let (rest, error) = rest.split_once(", error ").map_or((rest, None), |(rest, error)| (rest, Some(error.to_owned())));
        let (name, at) = rest.split_once(" @").map_or((rest, None), |(name, at)| (name, Some(at)));
        let at_ms = at.and_then(|at| duration(at.split(',').next()?));
        return Some(Event::Flow { name: name.trim_end_matches(',').into(), at_ms, error });
    }
    if let Some((_, rest)) = text.split_once("Privacy proxy failed with error ") {
        let relay = rest.split_once("Proxy: ").map(|(_, relay)| relay.trim_end_matches(')').trim().to_owned());
        return Some(Event::ProxyFailed { errno: leading(rest)?, relay });
    }
    if let Some(rest) = text.strip_prefix("QUIC connection established in ") {
        let rtt_ms = text.split_once("RTT ").and_then(|(_, rtt)| duration(rtt));
        return Some(Event::Established { ms: duration(rest.split(',').next()?)?, rtt_ms });
    }
    if text.starts_with("keep-alive timer fired, exceeding ") {
        return Some(Event::KeepAliveLost);
    }
    if let Some(verdict) = text.strip_prefix("Certificate verification result: ") {
        return Some(Event::Certificate(verdict.trim().into()));
    }
    if let Some(list) = text.strip_prefix("TLS connected [") {
        let item = |name: &str| list.split_once(&format!("{name}(")).and_then(|(_, rest)| rest.split_once(')')).map(|(value, _)| value);
        let alpn = item("alpn").map(str::to_owned);
        return Some(Event::TlsConnected { alpn, ms: item("connect_time").and_then(duration), rtt_ms: item(" rtt").and_then(duration) });
    }
    if let Some(rest) = text.strip_prefix("failed to connect ") {
        return Some(Event::ConnectFailed(leading(rest.split_once(':')?.1)?));
    }
    if let Some((_, rest)) = text.split_once("SO_ERROR [") {
        return Some(Event::SocketError(leading(rest)?));
    }
    if let Some((_, rest)) = text.split_once("eceive failed with error ") {
        return Some(Event::ReceiveFailed(rest.trim_matches('"').into()));
    }
    alert(text).or_else(|| frame(text))
}

/// `read alert, level: fatal, description: internal error`.
fn alert(text: &str) -> Option<Event> {
    let (way, rest) = text.split_once(" alert, level: ")?;
    let words = rest.strip_prefix("fatal")?.split_once("description: ")?.1;
    Some(Event::Alert { read: way.ends_with("read"), words: words.trim().into() })
}

/// `sending CONNECTION_CLOSE, code 0xa, reason …`, `received RESET_STREAM`.
fn frame(text: &str) -> Option<Event> {
    let (way, rest) = text.split_once(' ')?;
    let sent = match way {
        "sending" | "sent" => true,
        "received" | "receiving" => false,
        _ => return None,
    };
    let name = rest.split([',', ' ']).next()?;
    let layer = match name {
        "APPLICATION_CLOSE" => Layer::Application,
        "CONNECTION_CLOSE" => Layer::Transport,
        "RESET_STREAM" | "STOP_SENDING" => return Some(Event::Stream { sent, frame: name.into() }),
        _ => return None,
    };
    let code = rest.split_once("code ").and_then(|(_, code)| number(code));
    let reason = rest.split_once("reason ").map_or("", |(_, reason)| reason.trim());
    let reason = if reason == "<null>" { "" } else { reason };
    let by = if sent { By::Client } else { By::Relay };
    Some(Event::Closed(Close { by, layer: Some(layer), code, reason: reason.into() }))
}

/// `KEY: VALUE, KEY: VALUE`, by what the keys are.
fn summary(text: &str) -> Option<Event> {
    if let Some(path) = text.strip_prefix("Connected Path: ") {
        return Some(Event::Summary(Summary { unsatisfied: path.starts_with("unsatisfied"), ..Summary::default() }));
    }
    let (mut summary, mut known) = (Summary::default(), false);
    for part in text.split(", ") {
        if let Some((what, took)) = part.split_once(" took ") {
            let what = what.split(" @").next().unwrap_or_default();
            match what.split(' ').next() {
                Some("TLS") => summary.tls_ms = duration(took),
                Some(transport @ ("QUIC" | "TCP")) => summary.transport = Some(transport.to_lowercase()),
                _ => continue,
            }
            known = true;
        } else if let Some((key, value)) = part.split_once(": ") {
            match key {
                "Duration" => summary.duration_ms = duration(value),
                "bytes in/out" => summary.bytes = pair(value),
                "packets in/out" => summary.packets = pair(value),
                "rtt" => summary.rtt_ms = duration(value),
                "retransmitted bytes" => summary.retransmitted = value.trim().parse().ok(),
                "out-of-order bytes" | "ecn packets sent/acked/marked/lost" => {}
                _ => continue,
            }
            known = true;
        }
    }
    known.then_some(Event::Summary(summary))
}

/// The errno of some words: `Software caused connection abort`, `61: Connection refused`.
pub fn errno_of(words: &str) -> Option<i32> {
    darwin_errno(words).or_else(|| leading(words))
}

/// `[…]` at the start, with brackets inside it: what it holds, and what follows.
fn bracket(text: &str) -> Option<(&str, &str)> {
    if !text.starts_with('[') {
        return None;
    }
    let mut depth = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return (at > 0).then(|| (&text[1..at], &text[at + 1..]));
        }
    }
    None
}

/// The first word; a token of redaction is one, whatever it has inside.
fn token(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let mut inside = false;
    let end = text.bytes().enumerate().find(|(at, byte)| {
        match byte {
            // `<->` joins two ends.
            b'<' if !text[at + 1..].starts_with("->") => inside = true,
            b'>' => inside = false,
            _ => {}
        }
        *byte == b' ' && !inside
    });
    text.split_at(end.map_or(text.len(), |(at, _)| at))
}

/// `0x1`, `-010f00aa`, `S300`.
fn is_name(text: &str) -> bool {
    let hex = text.trim_start_matches("0x").trim_start_matches('S');
    !text.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// `0.131s`, `119ms`, `121.693 ms`, in milliseconds.
fn duration(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.bytes().position(|byte| !byte.is_ascii_digit() && byte != b'.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    match unit.trim_start() {
        unit if unit.starts_with("ms") => Some(number),
        unit if unit.starts_with('s') => Some(number * 1000.0),
        _ => None,
    }
}

/// `2880/4322`.
fn pair(text: &str) -> Option<(u64, u64)> {
    let (one, other) = text.split_once('/')?;
    Some((one.trim().parse().ok()?, other.trim().parse().ok()?))
}

/// The integer at the start, with its sign.
fn leading(text: &str) -> Option<i32> {
    let text = text.trim_start();
    let sign = usize::from(text.starts_with('-'));
    let end = text.bytes().skip(sign).position(|byte| !byte.is_ascii_digit()).map_or(text.len(), |at| at + sign);
    text[..end].parse().ok()
}

/// `0x100`, `256`.
fn number(text: &str) -> Option<u64> {
    let word = text.split([',', ' ']).next()?;
    word.strip_prefix("0x").map_or_else(|| word.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
}

#[cfg(test)]
#[path = "grammar_tests.rs"]
mod tests;
