//! Every "no": one exhaustive match turns it into a status and a Proxy-Status (RFC 9209).
//!
//! Two promises, each with a test of the same name:
//!
//! 1. *Every refusal is one Proxy-Status member* with a registered error type, and the status the registry recommends beside it.
//! 2. *Nothing of the client's comes back unescaped*, and no policy refusal tells what a name resolved to.

use std::{fmt::Write, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use sfv::{BareItem, ItemSerializer, KeyRef, ListSerializer, TokenRef};

use crate::proto::head::Head;

/// How a policy refusal looks to the client. An Apple device reads Proxy-Status on 5xx only, and decides by it what it does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Denial {
    /// 502 `connection_refused`: the device gives up.
    #[default]
    Block,
    /// 503 `destination_unavailable`: the device goes direct.
    Direct,
    /// 502 `dns_error` with info-code 17: the device shows "filtered".
    Filtered,
    /// 403 `http_request_denied`: for clients that are not Apple's.
    Forbidden,
}

/// Why a request is refused.
#[derive(Debug)]
pub enum Refusal {
    /// The head breaks HTTP or RFC 9298: 400. Says which rule.
    Malformed(&'static str),
    /// The field section is larger than the limit: 431.
    HeadTooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// No credentials, or wrong ones: 407.
    Unauthenticated {
        /// Whether there were any.
        presented: bool,
    },
    /// A `:protocol` this relay does not serve: 501.
    UnsupportedProtocol(String),
    /// A method other than CONNECT: 405.
    UnsupportedMethod(String),
    /// A path that no template of ours makes: 404.
    UnknownPath,
    /// A rule says no.
    Denied {
        /// How it looks.
        style: Denial,
    },
    /// Every address of the target is one this relay does not connect to: 502.
    ProhibitedAddress,
    /// A cap is reached: 503.
    LimitReached {
        /// The cap.
        what: &'static str,
    },
    /// DNS says no: 502 with rcode (RFC 9209 §2.3.2).
    Unresolvable {
        /// The name of the response code (`NXDOMAIN`), if there was a response.
        rcode: Option<String>,
        /// The extended error (RFC 8914), if there was one.
        info_code: Option<u16>,
    },
    /// DNS did not answer in time: 504.
    DnsTimedOut {
        /// The budget.
        after: Duration,
    },
    /// The target refused, or no route leads to it: 502.
    Unreachable {
        /// The last one tried.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The target did not answer in time: 504.
    ConnectTimedOut {
        /// The budget.
        after: Duration,
    },
    /// The relay has no descriptors or memory left: 503.
    Exhausted {
        /// What the system said.
        source: io::Error,
    },
    /// The relay misbehaves on purpose: the fault `status`, or `bare-status`, with whatever status was asked for.
    Misbehaved {
        /// The status.
        status: StatusCode,
        /// Without Proxy-Status.
        bare: bool,
    },
    /// The relay itself broke: 500.
    Internal {
        /// What the system said; never sent to the client.
        source: io::Error,
    },
}

impl Refusal {
    /// The status a client sees.
    pub fn status(&self) -> StatusCode {
        self.answer().0
    }

    /// The error type of RFC 9209 §2.3.
    pub fn error_type(&self) -> &'static str {
        self.answer().1
    }

    /// The whole answer: status, `proxy-status` naming the relay `name`, `proxy-authenticate` on 407, `allow` on 405, `content-length: 0`.
    pub fn head(&self, name: &str) -> Head {
        let mut fields = vec![field(":status", self.status().as_str())];
        if !matches!(self, Self::Misbehaved { bare: true, .. }) {
            fields.push(field("proxy-status", self.proxy_status(name)));
        }
        match self {
            Self::Unauthenticated { .. } => {
                let realm = ItemSerializer::new().bare_item(&text(name)).finish();
                fields.push(field("proxy-authenticate", format!("Basic realm={realm}")));
                // RFC 6750 §3 wants a parameter here too.
                fields.push(field("proxy-authenticate", format!("Bearer realm={realm}")));
            }
            Self::UnsupportedMethod(_) => fields.push(field("allow", "CONNECT")),
            _ => {}
        }
        // Without it Firefox waits for a body that FIN alone does not end.
        fields.push(field("content-length", "0"));
        Head { fields }
    }

    /// In words, for the log: no client input unescaped, no secret, and no address: how much of a target may be written is for the caller to say.
    pub fn words(&self) -> String {
        match self {
            Self::Malformed(why) => format!("malformed: {why}"),
            Self::HeadTooLarge { limit } => format!("head larger than {limit} bytes"),
            Self::Unauthenticated { presented: false } => {
                "no credentials; the client's profile has none, or another field carries them".into()
            }
            Self::Unauthenticated { presented: true } => "credentials not accepted".into(),
            Self::UnsupportedProtocol(protocol) => format!("protocol not served: {}", printable(protocol)),
            Self::UnsupportedMethod(method) => format!("method not served: {}", printable(method)),
            Self::UnknownPath => "no template makes this path".into(),
            Self::Denied { style } => match style {
                Denial::Block => "denied by a rule: block".into(),
                Denial::Direct => "denied by a rule: direct".into(),
                Denial::Filtered => "denied by a rule: filtered".into(),
                Denial::Forbidden => "denied by a rule: forbidden".into(),
            },
            Self::ProhibitedAddress => "every address of the target is prohibited".into(),
            Self::LimitReached { what } => format!("limit reached: {what}"),
            Self::Unresolvable { rcode, info_code } => {
                let mut words = format!("cannot resolve the target: {}", printable(rcode.as_deref().unwrap_or("no answer")));
                if let Some(code) = info_code {
                    write!(words, " (extended error {code})").expect("a String takes any text");
                }
                words
            }
            Self::DnsTimedOut { after } => format!("cannot resolve the target: no answer in {after:?}"),
            Self::Unreachable { source, .. } => format!("cannot connect to the target: {source}"),
            Self::ConnectTimedOut { after } => format!("cannot connect to the target: no answer in {after:?}"),
            Self::Exhausted { source } => format!("cannot open a socket: {source}"),
            Self::Misbehaved { bare: false, .. } => "the fault `status` is on".into(),
            Self::Misbehaved { bare: true, .. } => "the fault `bare-status` is on".into(),
            Self::Internal { source } => format!("the relay broke: {source}"),
        }
    }

    /// Status and error type side by side, as RFC 9209 §2.3 pairs them; the client errors that it does not list say `http_request_error`.
    fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "http_request_error"),
            Self::HeadTooLarge { .. } => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error"),
            Self::Unauthenticated { .. } => (StatusCode::PROXY_AUTHENTICATION_REQUIRED, "http_request_denied"),
            Self::UnsupportedProtocol(_) => (StatusCode::NOT_IMPLEMENTED, "http_request_error"),
            Self::UnsupportedMethod(_) => (StatusCode::METHOD_NOT_ALLOWED, "http_request_error"),
            Self::UnknownPath => (StatusCode::NOT_FOUND, "http_request_error"),
            Self::Denied { style } => match style {
                Denial::Block => (StatusCode::BAD_GATEWAY, "connection_refused"),
                Denial::Direct => (StatusCode::SERVICE_UNAVAILABLE, "destination_unavailable"),
                Denial::Filtered => (StatusCode::BAD_GATEWAY, "dns_error"),
                Denial::Forbidden => (StatusCode::FORBIDDEN, "http_request_denied"),
            },
            Self::ProhibitedAddress => (StatusCode::BAD_GATEWAY, "destination_ip_prohibited"),
            Self::Unresolvable { .. } => (StatusCode::BAD_GATEWAY, "dns_error"),
            Self::DnsTimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "dns_timeout"),
            Self::Unreachable { source, .. } => unreachable_target(source),
            Self::ConnectTimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
            // Not `destination_unavailable`: a busy relay must not make a device go around it.
            Self::LimitReached { .. } | Self::Exhausted { .. } => (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached"),
            // An answer of the proxy's own making, with whatever status (RFC 9209 §2.3).
            Self::Misbehaved { status, .. } => (*status, "proxy_internal_response"),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "proxy_internal_error"),
        }
    }

    /// What follows the error type: its own parameters (RFC 9209 §2.3) and `details`, in our words.
    fn parameters(&self) -> Vec<(&'static str, BareItem)> {
        let details = |words: &str| vec![("details", text(words))];
        match self {
            Self::Malformed(why) => details(why),
            Self::HeadTooLarge { limit } => details(&format!("field section larger than {limit} bytes")),
            Self::Unauthenticated { presented: false } => details("credentials are needed"),
            Self::Unauthenticated { presented: true } => details("credentials are not accepted"),
            Self::UnsupportedProtocol(protocol) => details(&format!("protocol not served: {}", printable(protocol))),
            Self::UnsupportedMethod(method) => details(&format!("method not served: {}", printable(method))),
            Self::UnknownPath => details("no template makes this path"),
            Self::Denied { style: Denial::Filtered } => vec![("info-code", FILTERED.into())],
            Self::Denied { style: Denial::Block | Denial::Direct | Denial::Forbidden } => details("denied by a rule"),
            Self::LimitReached { what } => details(&format!("limit reached: {what}")),
            Self::Unresolvable { rcode, info_code } => {
                let rcode = rcode.as_deref().map(|rcode| ("rcode", text(rcode)));
                rcode.into_iter().chain(info_code.map(|code| ("info-code", code.into()))).collect()
            }
            // The address passed the rules, so it is no secret: success would have told it too.
            Self::Unreachable { address, .. } => vec![("next-hop", text(&address.to_string()))],
            Self::Exhausted { .. } => details("the relay has no room for another socket"),
            Self::Misbehaved { .. } => details("the fault `status` is on"),
            Self::ProhibitedAddress | Self::DnsTimedOut { .. } | Self::ConnectTimedOut { .. } | Self::Internal { .. } => Vec::new(),
        }
    }

    fn proxy_status(&self, name: &str) -> String {
        let error = TokenRef::from_str(self.error_type()).expect("error types are tokens");
        let mut parameters = vec![("error", error.to_owned().into())];
        parameters.append(&mut self.parameters());
        member(name, &parameters)
    }
}

/// The head of success: 200 and `proxy-status` with the address dialled. `capsules`, which is to say CONNECT-UDP, adds `capsule-protocol: ?1`
/// (RFC 9297 §3.4); Apple's client compares it byte for byte. No `content-length`: RFC 9110 §9.3.6 forbids it.
pub fn accepted(name: &str, address: SocketAddr, capsules: bool) -> Head {
    let mut fields = vec![field(":status", "200"), field("proxy-status", next_hop(name, address))];
    if capsules {
        fields.push(field("capsule-protocol", "?1"));
    }
    Head { fields }
}

/// The value of `proxy-status` on success (RFC 9209 §2.1.2): `NAME; next-hop="192.0.2.1:443"`.
pub fn next_hop(name: &str, address: SocketAddr) -> String {
    member(name, &[("next-hop", text(&address.to_string()))])
}

/// Status and error type when connecting failed.
fn unreachable_target(error: &io::Error) -> (StatusCode, &'static str) {
    match error.kind() {
        // The registry has an error type for "no route" with 502. `destination_unavailable` with 503 would say nothing more, and would send
        // an Apple device around the relay for a hiccup in routing. AddrNotAvailable: no source address in the target's family;
        // InvalidInput: a link-local target without an interface.
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::InvalidInput => (StatusCode::BAD_GATEWAY, "destination_ip_unroutable"),
        // A system without IPv6.
        _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => (StatusCode::BAD_GATEWAY, "destination_ip_unroutable"),
        // The system gave up before our own budget ended.
        io::ErrorKind::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
        _ => (StatusCode::BAD_GATEWAY, "connection_refused"),
    }
}

/// One member of Proxy-Status, a structured-field list (RFC 9209 §2).
fn member(name: &str, parameters: &[(&'static str, BareItem)]) -> String {
    let relay = TokenRef::from_str(name).map_or_else(|_| text(name), |token| token.to_owned().into());
    let mut list = ListSerializer::new();
    let mut item = list.bare_item(&relay);
    for (key, value) in parameters {
        item = item.parameter(KeyRef::from_str(key).expect("parameter names are keys"), value);
    }
    list.finish().expect("a list with one member")
}

/// A structured-field string of what is printable in `words`.
fn text(words: &str) -> BareItem {
    sfv::String::from_string(printable(words)).expect("only printable ASCII is left").into()
}

/// Printable ASCII of `words`, everything else as `?`, cut at [`LONGEST_TEXT`]: fit for a field and for a log line.
fn printable(words: &str) -> String {
    words.chars().take(LONGEST_TEXT).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

fn field(name: &'static str, value: impl Into<Vec<u8>>) -> (Bytes, Bytes) {
    (Bytes::from_static(name.as_bytes()), Bytes::from(value.into()))
}

/// Extended DNS error "Filtered" (RFC 8914 §4.18).
const FILTERED: u16 = 17;

/// Characters of one text in an answer: our own sentences fit, and a client cannot make us answer with its megabytes.
const LONGEST_TEXT: usize = 96;

#[cfg(test)]
mod tests {
    use sfv::{ListEntry, Parser};

    use super::*;

    fn every_refusal() -> Vec<(Refusal, u16, &'static str)> {
        let io = |kind| io::Error::from(kind);
        let address = "[2001:db8::1]:443".parse().unwrap();
        let unreachable = |kind| Refusal::Unreachable { address, source: io(kind) };
        let after = Duration::from_secs(5);
        vec![
            (Refusal::Malformed("no port"), 400, r#"r;error=http_request_error;details="no port""#),
            (Refusal::HeadTooLarge { limit: 16_384 }, 431, r#"r;error=http_request_error;details="field section larger than 16384 bytes""#),
            (Refusal::Unauthenticated { presented: false }, 407, r#"r;error=http_request_denied;details="credentials are needed""#),
            (Refusal::Unauthenticated { presented: true }, 407, r#"r;error=http_request_denied;details="credentials are not accepted""#),
            (Refusal::UnsupportedProtocol("x-none".into()), 501, r#"r;error=http_request_error;details="protocol not served: x-none""#),
            (Refusal::UnsupportedMethod("GET".into()), 405, r#"r;error=http_request_error;details="method not served: GET""#),
            (Refusal::UnknownPath, 404, r#"r;error=http_request_error;details="no template makes this path""#),
            (Refusal::Denied { style: Denial::Block }, 502, r#"r;error=connection_refused;details="denied by a rule""#),
            (Refusal::Denied { style: Denial::Direct }, 503, r#"r;error=destination_unavailable;details="denied by a rule""#),
            (Refusal::Denied { style: Denial::Filtered }, 502, "r;error=dns_error;info-code=17"),
            (Refusal::Denied { style: Denial::Forbidden }, 403, r#"r;error=http_request_denied;details="denied by a rule""#),
            (Refusal::ProhibitedAddress, 502, "r;error=destination_ip_prohibited"),
            (Refusal::LimitReached { what: "tunnels" }, 503, r#"r;error=connection_limit_reached;details="limit reached: tunnels""#),
            (
                Refusal::Unresolvable { rcode: Some("NXDOMAIN".into()), info_code: Some(15) },
                502,
                r#"r;error=dns_error;rcode="NXDOMAIN";info-code=15"#,
            ),
            (Refusal::Unresolvable { rcode: None, info_code: None }, 502, "r;error=dns_error"),
            (Refusal::DnsTimedOut { after }, 504, "r;error=dns_timeout"),
            (unreachable(io::ErrorKind::ConnectionRefused), 502, r#"r;error=connection_refused;next-hop="[2001:db8::1]:443""#),
            (unreachable(io::ErrorKind::NetworkUnreachable), 502, r#"r;error=destination_ip_unroutable;next-hop="[2001:db8::1]:443""#),
            (unreachable(io::ErrorKind::HostUnreachable), 502, r#"r;error=destination_ip_unroutable;next-hop="[2001:db8::1]:443""#),
            (unreachable(io::ErrorKind::TimedOut), 504, r#"r;error=connection_timeout;next-hop="[2001:db8::1]:443""#),
            (Refusal::ConnectTimedOut { after }, 504, "r;error=connection_timeout"),
            (
                Refusal::Exhausted { source: io(io::ErrorKind::OutOfMemory) },
                503,
                r#"r;error=connection_limit_reached;details="the relay has no room for another socket""#,
            ),
            (Refusal::Internal { source: io(io::ErrorKind::Other) }, 500, "r;error=proxy_internal_error"),
        ]
    }

    fn value(head: &Head, name: &str) -> Option<String> {
        let mut values = head.fields.iter().filter(|(n, _)| n == name);
        let value = values.next().map(|(_, v)| String::from_utf8(v.to_vec()).unwrap());
        assert!(name == "proxy-authenticate" || values.next().is_none(), "{name} twice");
        value
    }

    #[test]
    fn every_refusal_is_one_proxy_status_member() {
        for (refusal, status, proxy_status) in every_refusal() {
            let head = refusal.head("r");
            assert_eq!(head.fields[0], field(":status", status.to_string()), "{refusal:?}");
            assert_eq!(value(&head, "proxy-status").as_deref(), Some(proxy_status), "{refusal:?}");
            assert_eq!(value(&head, "content-length").as_deref(), Some("0"), "{refusal:?}");
            assert_eq!(value(&head, "capsule-protocol"), None, "{refusal:?}");
            assert_eq!(value(&head, "allow").is_some(), status == 405, "{refusal:?}");
            assert_eq!(value(&head, "proxy-authenticate").is_some(), status == 407, "{refusal:?}");
        }
    }

    #[test]
    fn nothing_of_the_clients_comes_back_unescaped() {
        let hostile = "a\r\nset-cookie: x=\"1\\\"\u{0}é\u{202e}".to_owned() + &"z".repeat(100_000);
        let refusals = [
            Refusal::UnsupportedProtocol(hostile.clone()),
            Refusal::UnsupportedMethod(hostile.clone()),
            Refusal::Unresolvable { rcode: Some(hostile.clone()), info_code: None },
        ];
        for refusal in refusals {
            let proxy_status = value(&refusal.head(&hostile), "proxy-status").unwrap();
            assert!(proxy_status.len() < 500 && proxy_status.bytes().all(|b| (0x20..0x7f).contains(&b)), "{proxy_status}");
            let list = Parser::new(&proxy_status).parse::<sfv::List>().unwrap();
            let [ListEntry::Item(member)] = &list[..] else { panic!("{proxy_status}") };
            assert!(member.params.contains_key(KeyRef::from_str("error").unwrap()));
            assert!(refusal.words().len() < 200 && refusal.words().bytes().all(|b| (0x20..0x7f).contains(&b)));
        }
    }

    #[test]
    fn a_refusal_of_policy_or_of_the_relay_itself_tells_no_inside() {
        let inside = || io::Error::other("open /etc/secret");
        for refusal in [Refusal::Internal { source: inside() }, Refusal::Exhausted { source: inside() }] {
            assert!(!value(&refusal.head("r"), "proxy-status").unwrap().contains("secret"));
        }
        let refusal = Refusal::Unreachable { address: "192.0.2.1:443".parse().unwrap(), source: io::ErrorKind::ConnectionRefused.into() };
        assert!(!refusal.words().contains("192.0.2.1"), "the log line says as much of the target as `privacy` lets it");
    }

    #[test]
    fn a_407_offers_basic_and_bearer() {
        let head = Refusal::Unauthenticated { presented: false }.head("my-relay");
        let offers: Vec<_> = head.fields.iter().filter(|(name, _)| name == "proxy-authenticate").map(|(_, value)| &value[..]).collect();
        assert_eq!(offers, [&br#"Basic realm="my-relay""#[..], &br#"Bearer realm="my-relay""#[..]]);
    }

    #[test]
    fn success_names_the_next_hop_and_capsules_only_on_udp() {
        let udp = accepted("masque-relay", "[2001:db8::1]:443".parse().unwrap(), true);
        assert_eq!(
            udp.fields,
            [
                field(":status", "200"),
                field("proxy-status", r#"masque-relay;next-hop="[2001:db8::1]:443""#),
                field("capsule-protocol", "?1"),
            ]
        );
        let tcp = accepted("masque-relay", "192.0.2.1:80".parse().unwrap(), false);
        assert_eq!(tcp.fields, [field(":status", "200"), field("proxy-status", r#"masque-relay;next-hop="192.0.2.1:80""#)]);
    }

    #[test]
    fn a_name_that_is_no_token_is_quoted() {
        assert_eq!(next_hop("relay 1", "192.0.2.1:80".parse().unwrap()), r#""relay 1";next-hop="192.0.2.1:80""#);
    }
}
