//! A request or response head, verbatim: the fields as they came, in their order (RFC 9114 §4.2, §4.3).
//!
//! What is wrong with a head is said in fixed words: nothing of what the peer sent reaches a log or an answer from here.

use std::{fmt, str};

use bytes::Bytes;

/// The fields of a head; pseudo-header fields are fields too. Names and values are bytes as received.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// In the order of the wire.
    pub fields: Vec<Field>,
}

/// A field's name and its value.
pub type Field = (Bytes, Bytes);

/// A head that breaks a rule of HTTP; says which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// The pseudo-header fields of a request, each at most once and in front of all others.
///
/// All are visible ASCII; `method` and `protocol` are tokens, and no field that is there is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pseudo<'a> {
    /// `:method`; always there.
    pub method: &'a str,
    /// `:scheme`
    pub scheme: Option<&'a str>,
    /// `:authority`
    pub authority: Option<&'a str>,
    /// `:path`
    pub path: Option<&'a str>,
    /// `:protocol` (RFC 8441 §4, RFC 9220)
    pub protocol: Option<&'a str>,
}

impl Head {
    /// Adds a field at the end.
    pub fn push(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.fields.push((name.into(), value.into()));
    }

    /// The first value of field `name` (lower case).
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// Every value of field `name` (lower case).
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bytes> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value)
    }

    /// Validates a request head whatever it asks for (RFC 9114 §4.2, §4.3, §4.3.1): names lower case and valid, values valid,
    /// pseudo-header fields known, once, first and not empty; no connection-specific field, `te` only `trailers`; `host` once and equal
    /// to `:authority`; `:scheme` and `:path` unless it is CONNECT. What CONNECT itself demands is [`crate::request`]'s.
    pub fn pseudo(&self) -> Result<Pseudo<'_>, Malformed> {
        let (front, rest) = self.halves();
        let mut method = None;
        let mut pseudo = Pseudo::default();
        for (name, value) in front {
            let (seen, twice) = match &name[..] {
                b":method" => (&mut method, "`:method` stands twice"),
                b":scheme" => (&mut pseudo.scheme, "`:scheme` stands twice"),
                b":authority" => (&mut pseudo.authority, "`:authority` stands twice"),
                b":path" => (&mut pseudo.path, "`:path` stands twice"),
                b":protocol" => (&mut pseudo.protocol, "`:protocol` stands twice"),
                b":status" => return Err(Malformed("`:status` stands in a request")),
                _ => return Err(Malformed("an unknown pseudo-header field")),
            };
            if seen.replace(text(value)?).is_some() {
                return Err(Malformed(twice));
            }
        }
        pseudo.method = method.ok_or(Malformed("`:method` is missing"))?;
        pseudo.check()?;
        check_regular(rest)?;
        check_host(self, pseudo.authority)?;
        Ok(pseudo)
    }

    /// `:status` of a response head, validated likewise (RFC 9114 §4.3.2): three digits, the first not 0.
    pub fn status(&self) -> Result<u16, Malformed> {
        let (front, rest) = self.halves();
        let value = match front {
            [(name, value)] if name == ":status" => value,
            [] => return Err(Malformed("`:status` is missing")),
            [(name, _), (again, _), ..] if name == ":status" && name == again => return Err(Malformed("`:status` stands twice")),
            _ => return Err(Malformed("a pseudo-header field other than `:status` in a response")),
        };
        check_regular(rest)?;
        match value[..] {
            [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
                Ok([hundreds, tens, ones].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
            }
            _ => Err(Malformed("`:status` is not three digits")),
        }
    }

    /// The pseudo-header fields in front, and everything from the first other field on.
    fn halves(&self) -> (&[Field], &[Field]) {
        let front = self.fields.iter().take_while(|(name, _)| name.starts_with(b":")).count();
        self.fields.split_at(front)
    }
}

/// Shows values of pseudo-header fields only: any other may be a secret, in a field the operator chose.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in &self.fields {
            if name.starts_with(b":") {
                map.entry(name, value);
            } else {
                map.entry(name, &format_args!("[{} bytes]", value.len()));
            }
        }
        map.finish()
    }
}

impl Pseudo<'_> {
    /// What each value must be, and which must be there (RFC 9114 §4.3.1).
    fn check(&self) -> Result<(), Malformed> {
        if !is_token(self.method) {
            return Err(Malformed("`:method` is not a token"));
        }
        if self.protocol.is_some_and(|protocol| !is_token(protocol)) {
            return Err(Malformed("`:protocol` is not a token"));
        }
        if self.scheme.is_some_and(|scheme| !is_scheme(scheme)) {
            return Err(Malformed("`:scheme` is not a scheme"));
        }
        match self.authority {
            Some("") => return Err(Malformed("`:authority` is empty")),
            Some(authority) if authority.contains('@') => return Err(Malformed("`:authority` holds user information")),
            Some(_) | None => {}
        }
        if self.path == Some("") {
            return Err(Malformed("`:path` is empty"));
        }
        if self.method != "CONNECT" && self.scheme.is_none() {
            return Err(Malformed("`:scheme` is missing"));
        }
        if self.method != "CONNECT" && self.path.is_none() {
            return Err(Malformed("`:path` is missing"));
        }
        Ok(())
    }
}

/// The value of a pseudo-header field: none of them has room for a space, a control character or anything beyond ASCII.
fn text(value: &[u8]) -> Result<&str, Malformed> {
    let text = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    text.ok_or(Malformed("a pseudo-header field holds characters that cannot stand in it"))
}

/// Every field behind the pseudo-header fields (RFC 9114 §4.2, §10.3).
fn check_regular(fields: &[Field]) -> Result<(), Malformed> {
    for (name, value) in fields {
        if name.starts_with(b":") {
            return Err(Malformed("a pseudo-header field stands behind another field"));
        }
        if name.iter().any(u8::is_ascii_uppercase) {
            return Err(Malformed("a field name holds upper-case letters"));
        }
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Malformed("a field name is not a token"));
        }
        check_value(value)?;
        match &name[..] {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                return Err(Malformed("a connection-specific field"));
            }
            b"te" if !value.eq_ignore_ascii_case(b"trailers") => return Err(Malformed("`te` other than `trailers`")),
            _ => {}
        }
    }
    Ok(())
}

/// RFC 9110 §5.5: visible characters, obsolete text, and blanks between them. RFC 9114 §10.3 makes anything else malformed.
fn check_value(value: &[u8]) -> Result<(), Malformed> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Malformed("a field value holds control characters"));
    }
    if value.first().is_some_and(blank) || value.last().is_some_and(blank) {
        return Err(Malformed("a field value begins or ends with a blank"));
    }
    Ok(())
}

/// RFC 9110 §7.2, RFC 9114 §4.3.1: one `host`, and it says what `:authority` says. Hosts do not differ by case.
fn check_host(head: &Head, authority: Option<&str>) -> Result<(), Malformed> {
    let mut hosts = head.all("host");
    let Some(host) = hosts.next() else { return Ok(()) };
    if hosts.next().is_some() {
        return Err(Malformed("`host` stands twice"));
    }
    if authority.is_some_and(|authority| !host.eq_ignore_ascii_case(authority.as_bytes())) {
        return Err(Malformed("`host` and `:authority` differ"));
    }
    Ok(())
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "target.example:443")];
    const CONNECT_UDP: [(&str, &str); 5] = [
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":path", "/.well-known/masque/udp/192.0.2.6/443/"),
        (":authority", "relay.example"),
    ];

    #[test]
    fn a_classic_connect_gives_its_method_and_authority() {
        let head = head(&CONNECT);
        let pseudo = head.pseudo().unwrap();
        assert_eq!(pseudo, Pseudo { method: "CONNECT", authority: Some("target.example:443"), ..Pseudo::default() });
    }

    #[test]
    fn an_extended_connect_gives_all_five_in_any_order() {
        let fields: Vec<_> = CONNECT_UDP.into_iter().rev().chain([("capsule-protocol", "?1")]).collect();
        let head = head(&fields);
        let wanted = Pseudo {
            method: "CONNECT",
            protocol: Some("connect-udp"),
            scheme: Some("https"),
            path: Some("/.well-known/masque/udp/192.0.2.6/443/"),
            authority: Some("relay.example"),
        };
        assert_eq!(head.pseudo().unwrap(), wanted);
    }

    #[test]
    fn each_broken_pseudo_header_rule_is_named() {
        for (fields, says) in [
            (&[][..], "`:method` is missing"),
            (&[(":method", "CONNECT"), (":method", "CONNECT")], "`:method` stands twice"),
            (&[(":method", "CONNECT"), (":authority", "a:1"), (":authority", "b:1")], "`:authority` stands twice"),
            (&[(":method", "CONNECT"), (":scheme", "https"), (":scheme", "https")], "`:scheme` stands twice"),
            (&[(":method", "CONNECT"), (":path", "/"), (":path", "/")], "`:path` stands twice"),
            (&[(":method", "CONNECT"), (":protocol", "a"), (":protocol", "b")], "`:protocol` stands twice"),
            (&[(":method", "CONNECT"), (":status", "200")], "`:status` stands in a request"),
            (&[(":method", "CONNECT"), (":other", "x")], "an unknown pseudo-header field"),
            (&[(":method", "CONNECT"), (":Path", "/")], "an unknown pseudo-header field"),
            (&[(":method", "CONNECT"), (":", "/")], "an unknown pseudo-header field"),
            (&[(":method", "")], "`:method` is not a token"),
            (&[(":method", "CON,NECT")], "`:method` is not a token"),
            (&[(":method", "CONNECT"), (":protocol", "")], "`:protocol` is not a token"),
            (&[(":method", "CONNECT"), (":scheme", "")], "`:scheme` is not a scheme"),
            (&[(":method", "CONNECT"), (":scheme", "1s")], "`:scheme` is not a scheme"),
            (&[(":method", "CONNECT"), (":authority", "")], "`:authority` is empty"),
            (&[(":method", "CONNECT"), (":authority", "me@a:1")], "`:authority` holds user information"),
            (&[(":method", "CONNECT"), (":path", "")], "`:path` is empty"),
            (&[(":method", "GET"), (":path", "/")], "`:scheme` is missing"),
            (&[(":method", "GET"), (":scheme", "https")], "`:path` is missing"),
        ] {
            assert_eq!(head(fields).pseudo(), Err(Malformed(says)), "{fields:?}");
        }
    }

    #[test]
    fn pseudo_header_values_are_visible_ascii() {
        for value in [&b"a b:1"[..], b"a:1 ", b"a\0:1", b"a\r\n:1", b"\xc3\xa4:1", b"\xff:1", b"\x7f:1"] {
            let mut head = head(&[(":method", "CONNECT")]);
            head.push(":authority", Bytes::copy_from_slice(value));
            let says = Malformed("a pseudo-header field holds characters that cannot stand in it");
            assert_eq!(head.pseudo(), Err(says), "{value:?}");
        }
    }

    #[test]
    fn each_broken_rule_of_other_fields_is_named() {
        for (name, value, says) in [
            (":path", &b"/"[..], "a pseudo-header field stands behind another field"),
            ("Accept", b"x", "a field name holds upper-case letters"),
            ("", b"x", "a field name is not a token"),
            ("a b", b"x", "a field name is not a token"),
            ("a:", b"x", "a field name is not a token"),
            ("\u{e4}", b"x", "a field name is not a token"),
            ("a", b"x\0y", "a field value holds control characters"),
            ("a", b"x\ry", "a field value holds control characters"),
            ("a", b"x\ny", "a field value holds control characters"),
            ("a", b"x\x1by", "a field value holds control characters"),
            ("a", b"x\x7fy", "a field value holds control characters"),
            ("a", b" x", "a field value begins or ends with a blank"),
            ("a", b"x\t", "a field value begins or ends with a blank"),
            ("a", b" ", "a field value begins or ends with a blank"),
            ("connection", b"close", "a connection-specific field"),
            ("keep-alive", b"x", "a connection-specific field"),
            ("proxy-connection", b"x", "a connection-specific field"),
            ("transfer-encoding", b"chunked", "a connection-specific field"),
            ("upgrade", b"connect-udp", "a connection-specific field"),
            ("te", b"gzip", "`te` other than `trailers`"),
            ("te", b"trailers, gzip", "`te` other than `trailers`"),
        ] {
            let mut request = head(&CONNECT);
            let mut response = head(&[(":status", "200")]);
            for head in [&mut request, &mut response] {
                head.push("first", "1");
                head.push(Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value));
            }
            assert_eq!(request.pseudo(), Err(Malformed(says)), "{name}: {value:?}");
            assert_eq!(response.status(), Err(Malformed(says)), "{name}: {value:?}");
        }
    }

    #[test]
    fn unusual_but_valid_fields_pass() {
        for (name, value) in [("a", &b""[..]), ("a", b"x\ty z"), ("a", b"\x80\xff"), ("!#$%&'*+-.^_`|~09az", b"x"), ("te", b"Trailers")] {
            let mut head = head(&CONNECT);
            head.push(name, value);
            assert!(head.pseudo().is_ok(), "{name}: {value:?}");
        }
    }

    #[test]
    fn c13_authority_and_host_agree_and_host_stands_once() {
        for (hosts, wanted) in [
            (&["target.example:443"][..], Ok(())),
            (&["Target.EXAMPLE:443"], Ok(())),
            (&["target.example"], Err(Malformed("`host` and `:authority` differ"))),
            (&[""], Err(Malformed("`host` and `:authority` differ"))),
            (&["target.example:443", "target.example:443"], Err(Malformed("`host` stands twice"))),
        ] {
            let mut head = head(&CONNECT);
            for host in hosts {
                head.push("host", *host);
            }
            assert_eq!(head.pseudo().map(drop), wanted, "{hosts:?}");
        }
        assert!(head(&[(":method", "CONNECT"), ("host", "target.example:443")]).pseudo().is_ok());
    }

    #[test]
    fn a_status_is_three_digits_and_stands_alone() {
        assert_eq!(head(&[(":status", "200"), ("capsule-protocol", "?1")]).status(), Ok(200));
        assert_eq!(head(&[(":status", "100")]).status(), Ok(100));
        assert_eq!(head(&[(":status", "999")]).status(), Ok(999));
        for value in ["", "20", "2000", "099", "+20", "2x0", " 200"] {
            assert_eq!(head(&[(":status", value)]).status(), Err(Malformed("`:status` is not three digits")), "{value}");
        }
        let other = Malformed("a pseudo-header field other than `:status` in a response");
        for (fields, says) in [
            (&[][..], Malformed("`:status` is missing")),
            (&[("a", "b")], Malformed("`:status` is missing")),
            (&[(":status", "200"), (":status", "200")], Malformed("`:status` stands twice")),
            (&[(":status", "200"), (":path", "/")], other.clone()),
            (&[(":method", "CONNECT")], other),
        ] {
            assert_eq!(head(fields).status(), Err(says), "{fields:?}");
        }
    }

    #[test]
    fn fields_are_found_by_name_in_their_order() {
        let head = head(&[("a", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(head.get("a"), Some(&Bytes::from("1")));
        assert_eq!(head.get("c"), None);
        assert_eq!(head.all("a").collect::<Vec<_>>(), ["1", "3"]);
    }

    #[test]
    fn debug_shows_no_value_that_may_be_a_secret() {
        let head = head(&[(":method", "CONNECT"), ("x-token", "hunter2")]);
        assert_eq!(format!("{head:?}"), r#"{b":method": b"CONNECT", b"x-token": [7 bytes]}"#);
    }

    proptest! {
        #[test]
        fn no_head_panics(fields in prop::collection::vec((":?[a-z]{0,9}", prop::collection::vec(any::<u8>(), 0..9)), 0..6)) {
            let mut head = Head::default();
            for (name, value) in fields {
                head.push(name, value);
            }
            if let Ok(pseudo) = head.pseudo() {
                prop_assert_eq!(head.get(":method").map(|method| &method[..]), Some(pseudo.method.as_bytes()));
                prop_assert!(head.status().is_err());
            }
        }
    }

    fn head(fields: &[(&'static str, &'static str)]) -> Head {
        let mut head = Head::default();
        for (name, value) in fields {
            head.push(*name, *value);
        }
        head
    }
}
