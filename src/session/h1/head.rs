//! Reading an HTTP/1.1 head (RFC 9112), and saying it as the later versions do (RFC 9298 §3.2 beside §3.4).

use bytes::{Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Status};
use tokio::io::{AsyncReadExt, ReadHalf};

use crate::{
    config::memory,
    listener::tcp::{Stream, broke},
    proto::head::Head,
    refusal::Refusal,
};

/// The largest head, bytes.
const MAX_HEAD: usize = memory::HEAD as usize;
/// The most fields.
const MAX_FIELDS: usize = 100;

/// What came at the start of a connection.
pub(super) enum Read {
    /// A head, and what followed it.
    Whole { head: Head, left: Bytes },
    /// It can be answered, but not with yes.
    Refused(Refusal),
    /// Nothing that could be answered; says why.
    Nothing(String),
}

/// Reads one head. Cancelling it loses what was read.
pub(super) async fn read(stream: &mut ReadHalf<Stream>) -> Read {
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return Read::Nothing("the client closed the connection".into()),
            Ok(_) => {}
            Err(error) => return Read::Nothing(format!("the client's connection broke: {}", broke(&error))),
        }
        match parse(&buffer) {
            Ok(Some((head, length))) => {
                let left = buffer.split_off(length).freeze();
                return Read::Whole { head, left };
            }
            Ok(None) if buffer.len() < MAX_HEAD => {}
            Ok(None) => return Read::Refused(Refusal::HeadTooLarge { limit: MAX_HEAD }),
            Err(refusal) => return Read::Refused(refusal),
        }
    }
}

/// The head at the front of `bytes`, and its length; `None` while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(Status::Complete(_)) | Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge { limit: MAX_HEAD }),
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(Refusal::Malformed("the head is no HTTP/1.1")),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else { return Ok(None) };
    if version != 1 {
        return Err(Refusal::Malformed("the version is not HTTP/1.1"));
    }
    Ok(Some((translate(method, target, request.headers)?, length)))
}

/// The same request as HTTP/2 and HTTP/3 have it.
fn translate(method: &str, target: &str, fields: &[httparse::Header<'_>]) -> Result<Head, Refusal> {
    let all = |name: &'static str| fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
    // RFC 9112 §3.2: exactly one.
    let mut hosts = all("host");
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) => return Err(Refusal::Malformed("`host` is missing")),
        (Some(_), Some(_)) => return Err(Refusal::Malformed("`host` stands twice")),
    };
    let mut head = Head::default();
    let mut push = |name: &'static str, value: &[u8]| head.push(name, Bytes::copy_from_slice(value));
    let upgrade = all("upgrade").next();
    match (method, upgrade) {
        ("CONNECT", None) => {
            push(":method", b"CONNECT");
            push(":authority", target.as_bytes());
            push("host", host);
        }
        (method, Some(protocol)) => {
            if method != "GET" {
                return Err(Refusal::Malformed("an upgrade goes with GET only"));
            }
            if !all("connection").any(|value| has_token(value, b"upgrade")) {
                return Err(Refusal::Malformed("`upgrade` stands without `connection: upgrade`"));
            }
            if all("upgrade").count() > 1 {
                return Err(Refusal::Malformed("`upgrade` stands twice"));
            }
            push(":method", b"CONNECT");
            push(":protocol", &protocol.to_ascii_lowercase());
            push(":scheme", b"https");
            push(":authority", host);
            push(":path", path(target).as_bytes());
        }
        (method, None) => {
            push(":method", method.as_bytes());
            push(":scheme", b"https");
            push(":authority", host);
            push(":path", path(target).as_bytes());
        }
    }
    for field in fields.iter().filter(|field| !is_hop_by_hop(field.name)) {
        head.push(field.name.to_ascii_lowercase(), Bytes::copy_from_slice(field.value));
    }
    Ok(head)
}

/// Said in another way above, or of no meaning behind it. `transfer-encoding` stays, to be refused: there is no body to encode.
fn is_hop_by_hop(name: &str) -> bool {
    ["host", "connection", "upgrade", "proxy-connection", "keep-alive", "te"].iter().any(|hop| name.eq_ignore_ascii_case(hop))
}

/// The path of a target in origin form or in absolute form (RFC 9112 §3.2.1, §3.2.2).
fn path(target: &str) -> &str {
    let rest = ["https://", "http://"].iter().find_map(|scheme| target.strip_prefix(scheme));
    match rest {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    }
}

/// RFC 9110 §7.6.1: a list of names.
fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<(Head, usize)>, Refusal> {
        parse(text.as_bytes())
    }

    fn shown(head: &Head) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        head.fields.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect()
    }

    #[test]
    fn a_connect_keeps_its_target_and_loses_what_is_of_the_hop() {
        let text = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Connection: Keep-Alive\r\nUser-Agent: x\r\n\r\nrest";
        let (head, length) = head(text).unwrap().unwrap();
        assert_eq!(shown(&head), [":method=CONNECT", ":authority=a.test:443", "host=a.test:443", "user-agent=x"]);
        assert_eq!(length, text.len() - 4);
    }

    #[test]
    fn c16_an_upgrade_is_an_extended_connect() {
        for target in ["/x/1/", "https://relay.test/x/1/"] {
            let text = format!(
                "GET {target} HTTP/1.1\r\nhost: relay.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: Connect-UDP\r\nCapsule-Protocol: ?1\r\n\r\n"
            );
            let (head, _) = head(&text).unwrap().unwrap();
            let want = [
                ":method=CONNECT",
                ":protocol=connect-udp",
                ":scheme=https",
                ":authority=relay.test",
                ":path=/x/1/",
                "capsule-protocol=?1",
            ];
            assert_eq!(shown(&head), want);
        }
    }

    #[test]
    fn c16_what_breaks_a_rule_is_named() {
        for (text, says) in [
            ("GET / HTTP/1.1\r\n\r\n", "`host` is missing"),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", "`host` stands twice"),
            ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", "the version is not HTTP/1.1"),
            ("POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: connect-udp\r\n\r\n", "an upgrade goes with GET only"),
            ("GET / HTTP/1.1\r\nhost: a\r\nupgrade: connect-udp\r\n\r\n", "`upgrade` stands without `connection: upgrade`"),
            ("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: a\r\nupgrade: b\r\n\r\n", "`upgrade` stands twice"),
            ("GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n", "the head is no HTTP/1.1"),
            ("\x16\x03\x01 / HTTP/1.1\r\n\r\n", "the head is no HTTP/1.1"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the head is no HTTP/1.1"),
        ] {
            let refusal = head(text).unwrap_err();
            assert!(matches!(refusal, Refusal::Malformed(why) if why == says), "{text}: {refusal:?}");
        }
    }

    #[test]
    fn every_front_of_a_head_waits_for_the_rest() {
        let text = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
        for end in 0..text.len() {
            assert!(head(&text[..end]).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn too_many_fields_are_too_large_a_head() {
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS));
        assert!(matches!(head(&text), Err(Refusal::HeadTooLarge { .. })));
    }
}
