//! Heads of HTTP/1.1: ours in its form, the relay's in ours.

use bytes::Bytes;

use crate::{probe::Answer, proto::head::Head};

/// A request head as bytes. CONNECT asks for `:authority`; a head with `:protocol` becomes the GET that upgrades (RFC 9298 §3.2).
pub(super) fn request(head: &Head) -> Result<Vec<u8>, &'static str> {
    let field = |name| head.get(name).ok_or("HTTP/1.1: a head without method, authority or path");
    let authority = field(":authority")?;
    let protocol = head.get(":protocol");
    let (method, target): (&[u8], &[u8]) = match (&field(":method")?[..], protocol) {
        (b"CONNECT", None) => (b"CONNECT", authority),
        (b"CONNECT", Some(_)) => (b"GET", field(":path")?),
        (method, _) => (method, field(":path")?),
    };
    let mut bytes = [method, b" ", target, b" HTTP/1.1\r\n"].concat();
    let mut push = |name: &[u8], value: &[u8]| bytes.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
    if head.get("host").is_none() {
        push(b"Host", authority);
    }
    if let Some(protocol) = protocol {
        push(b"Connection", b"Upgrade");
        push(b"Upgrade", protocol);
    }
    for (name, value) in head.fields.iter().filter(|(name, _)| !name.starts_with(b":")) {
        push(name, value);
    }
    bytes.extend_from_slice(b"\r\n");
    Ok(bytes)
}

/// The head of an answer at the front of `bytes`, and its length; `None`: more is needed. Says which rule is broken otherwise.
pub(super) fn answer(bytes: &[u8]) -> Result<Option<(Answer, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("a malformed answer: {error} (RFC 9112 §2.1)")),
    };
    if response.version != Some(1) {
        return Err("an answer of HTTP/1.0 to HTTP/1.1 (RFC 9110 §2.5)".into());
    }
    let status = response.code.expect("a whole answer has one");
    let mut head = Head::default();
    head.push(":status", status.to_string());
    for field in &*response.headers {
        head.push(field.name.to_ascii_lowercase(), Bytes::copy_from_slice(field.value));
    }
    Ok(Some((Answer { status, head }, length)))
}

/// The bytes of content that follow an answer which opens no tunnel, where it says so (RFC 9112 §6.3).
pub(super) fn content_length(answer: &Answer) -> Option<u64> {
    if answer.status < 300 {
        return None;
    }
    answer.field("content-length")?.parse().ok()
}

/// What a 101 must say to open a UDP tunnel (RFC 9298 §3.3, RFC 9110 §7.8).
pub(in crate::probe) fn check_upgrade(answer: &Answer) -> Result<(), &'static str> {
    let tokens = |name| answer.head.all(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if !tokens("connection").any(|token| token.eq_ignore_ascii_case(b"upgrade")) {
        return Err("101 without Connection: Upgrade (RFC 9298 §3.3)");
    }
    let mut upgrades = tokens("upgrade");
    match (upgrades.next(), upgrades.next()) {
        (Some(upgrade), None) if upgrade.eq_ignore_ascii_case(b"connect-udp") => Ok(()),
        _ => Err("101 without Upgrade: connect-udp alone (RFC 9298 §3.3)"),
    }
}

/// More fields are no answer of a relay.
const MOST_FIELDS: usize = 100;
