//! What the client asks for: a head, whatever the HTTP version, becomes a [`Request`] or a refusal.
//!
//! | head | becomes |
//! | --- | --- |
//! | CONNECT, only `:authority` (RFC 9114 §4.4) | a TCP tunnel |
//! | CONNECT, `:protocol connect-udp`, a path of ours (RFC 9298 §3.4) | a UDP tunnel |
//! | … with any other path | [`Ask::UnknownPath`] |
//! | … with `*` for host and port, another `:protocol`, or the method of draft-03 | [`Ask::UnsupportedProtocol`] |
//! | another method | [`Ask::UnsupportedMethod`] |
//! | anything that breaks a rule | [`Refusal::Malformed`], before anything else is looked at |
//!
//! A host is a name or a strict literal. Whatever a C library would read as an address though it is not written as one (`127.1`, `0x7f.1`,
//! `2130706433`) is malformed: it reaches neither DNS nor the address rules.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
};

use ipnet::IpNet;

use crate::{
    apple::{Quirk, Quirks, is_draft_03, is_ip_path},
    config::{Privacy, Protocol},
    proto::{
        head::{Head, Pseudo},
        template::{Match, Template},
    },
    refusal::Refusal,
};

/// A well-formed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub ask: Ask,
}

/// What a request asks for. Judged only once the client is known, so that nobody unknown learns what is served (C-45).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A tunnel.
    Tunnel(Protocol, Target),
    /// A `:protocol` this relay does not serve: 501.
    UnsupportedProtocol(String),
    /// A method other than CONNECT: 405.
    UnsupportedMethod(String),
    /// connect-udp with a path that is not ours: 404.
    UnknownPath,
}

/// Where a tunnel goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address.
    pub host: Host,
    /// Never 0.
    pub port: NonZeroU16,
}

/// The host of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Lower case, without the final dot, at most 253 bytes of letters, digits, `-`, `_` and `.`; absolute: no search domain is tried.
    Name(String),
    /// A literal: dotted decimal, or IPv6 without a zone. Forms that embed IPv4 stay IPv6 here.
    Address(IpAddr),
}

impl Request {
    /// Reads a request head; `templates` are those served, the well-known one included.
    pub fn parse(head: &Head, templates: &[Template], quirks: Quirks) -> Result<Self, Refusal> {
        let pseudo = head.pseudo().map_err(|malformed| Refusal::Malformed(malformed.0))?;
        let ask = match (pseudo.method, pseudo.protocol) {
            ("CONNECT", None) => classic(&pseudo)?,
            ("CONNECT", Some(protocol)) => extended(head, &pseudo, protocol, templates, quirks)?,
            (_, Some(_)) => return Err(Refusal::Malformed(":protocol goes with CONNECT only")),
            (method, None) if quirks.has(Quirk::Draft03) && is_draft_03(method) => {
                Ask::UnsupportedProtocol("CONNECT-UDP as a method (draft-03)".into())
            }
            (method, None) => Ask::UnsupportedMethod(method.into()),
        };
        Ok(Self { ask })
    }
}

impl Target {
    /// The two parts as a template's variables carry them (RFC 9298 §3): an IPv6 literal needs no brackets.
    fn of_variables(host: &str, port: &str) -> Result<Self, Refusal> {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let host = match literal.parse::<Ipv6Addr>() {
            Ok(address) => Host::Address(address.into()),
            Err(_) => Host::of_name_or_ipv4(host)?,
        };
        Ok(Self { host, port: parse_port(port)? })
    }

    /// `host:port`, where an IPv6 literal is in brackets (RFC 9110 §9.3.6, RFC 3986 §3.2).
    fn of_authority(authority: &str) -> Result<Self, Refusal> {
        let (host, port) = authority.rsplit_once(':').ok_or(Refusal::Malformed("the target of CONNECT has no port"))?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let literal = rest.strip_suffix(']').ok_or(Refusal::Malformed("a bracket of the host is not closed"))?;
                let address = literal.parse::<Ipv6Addr>().map_err(|_| Refusal::Malformed("brackets hold no IPv6 address"))?;
                Host::Address(address.into())
            }
            None => Host::of_name_or_ipv4(host)?,
        };
        Ok(Self { host, port: parse_port(port)? })
    }

    /// As much of the target as `privacy` lets be written down: `[2001:db8::1]:443`, `example.com:443`, `…example.com:443`, `-`.
    pub fn shown(&self, privacy: Privacy) -> String {
        let port = self.port;
        match (privacy, &self.host) {
            (Privacy::None, _) => "-".into(),
            (Privacy::Full, _) => self.to_string(),
            (Privacy::Domain, Host::Name(name)) => match name.rmatch_indices('.').nth(1) {
                Some((dot, _)) => format!("…{}:{port}", &name[dot + 1..]),
                None => self.to_string(),
            },
            (Privacy::Domain, Host::Address(address)) => shown_network(*address, port),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}:{}", self.port),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

impl Host {
    fn of_name_or_ipv4(text: &str) -> Result<Self, Refusal> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() > LONGEST_NAME {
            return Err(Refusal::Malformed("the host is longer than 253 bytes"));
        }
        if name.split('.').any(|label| label.is_empty() || label.len() > LONGEST_LABEL) {
            return Err(Refusal::Malformed("a label of the host is empty or longer than 63 bytes"));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(Refusal::Malformed("the host is neither a name nor an address"));
        }
        if is_number(name.rsplit('.').next().unwrap_or(name)) {
            return Err(Refusal::Malformed("the host is a number that is no dotted-decimal address"));
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

/// CONNECT without `:protocol` (RFC 9114 §4.4).
fn classic(pseudo: &Pseudo<'_>) -> Result<Ask, Refusal> {
    if pseudo.scheme.is_some() || pseudo.path.is_some() {
        return Err(Refusal::Malformed("CONNECT carries no :scheme and no :path"));
    }
    let authority = pseudo.authority.ok_or(Refusal::Malformed("CONNECT needs :authority"))?;
    Ok(Ask::Tunnel(Protocol::Tcp, Target::of_authority(authority)?))
}

/// CONNECT with `:protocol` (RFC 8441 §4, RFC 9220 §3), of which connect-udp is served (RFC 9298 §3.4).
fn extended(head: &Head, pseudo: &Pseudo<'_>, protocol: &str, templates: &[Template], quirks: Quirks) -> Result<Ask, Refusal> {
    let (Some(_), Some(_), Some(path)) = (pseudo.scheme, pseudo.authority, pseudo.path) else {
        return Err(Refusal::Malformed("extended CONNECT needs :scheme, :authority and :path"));
    };
    if protocol != "connect-udp" {
        return Ok(Ask::UnsupportedProtocol(protocol.into()));
    }
    // RFC 9297 §3.2: the Capsule Protocol replaces content.
    if ["content-length", "content-type", "transfer-encoding"].iter().any(|name| head.get(name).is_some()) {
        return Err(Refusal::Malformed("connect-udp carries no content-length, content-type or transfer-encoding"));
    }

    let mut malformed = None;
    for template in templates {
        match template.lay(path) {
            Match::No => {}
            Match::Malformed(why) => malformed = malformed.or(Some(why)),
            // Both wildcards: a request to bind (draft-ietf-masque-connect-udp-listen), not to reach a target.
            Match::Target { host, port } if quirks.has(Quirk::Bind) && host == "*" && port == "*" => {
                return Ok(Ask::UnsupportedProtocol("connect-udp-bind".into()));
            }
            Match::Target { host, port } => return Ok(Ask::Tunnel(Protocol::Udp, Target::of_variables(&host, &port)?)),
        }
    }
    if quirks.has(Quirk::ConnectIp) && is_ip_path(path) {
        return Ok(Ask::UnsupportedProtocol("connect-ip".into()));
    }
    malformed.map_or(Ok(Ask::UnknownPath), |why| Err(Refusal::Malformed(why)))
}

/// Decimal, 1 to 65535, no sign and no leading zero (RFC 9298 §3, RFC 9110 §9.3.6).
fn parse_port(text: &str) -> Result<NonZeroU16, Refusal> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) || text.starts_with('0') {
        return Err(Refusal::Malformed("the port is no decimal number"));
    }
    text.parse().map_err(|_| Refusal::Malformed("the port is above 65535"))
}

/// Whether a last label makes libraries read the whole host as an IPv4 address: digits, or hexadecimal after `0x`.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn shown_network(address: IpAddr, port: NonZeroU16) -> String {
    let prefix = if address.is_ipv4() { 24 } else { 48 };
    let network = IpNet::new(address, prefix).expect("24 and 48 are prefix lengths").trunc();
    if address.is_ipv4() { format!("{network}:{port}") } else { format!("[{network}]:{port}") }
}

/// RFC 1035 §2.3.4, as text without the final dot.
const LONGEST_NAME: usize = 253;

/// RFC 1035 §2.3.4.
const LONGEST_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &[(&str, &str)] = &[
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":authority", "relay.example"),
        (":path", "/.well-known/masque/udp/example.com/443/"),
    ];

    fn head(fields: &[(&'static str, &str)]) -> Head {
        let mut head = Head::default();
        for (name, value) in fields {
            head.push(*name, value.to_string());
        }
        head
    }

    fn parse(fields: &[(&'static str, &str)]) -> Result<Ask, Refusal> {
        let templates = [Template::parse("https://relay.example/masque?h={target_host}&p={target_port}").unwrap(), Template::well_known()];
        Request::parse(&head(fields), &templates, Quirks::default()).map(|request| request.ask)
    }

    fn connect(authority: &str) -> Result<Ask, Refusal> {
        parse(&[(":method", "CONNECT"), (":authority", authority)])
    }

    fn connect_udp(path: &str) -> Result<Ask, Refusal> {
        let mut fields = UDP.to_vec();
        fields[4].1 = path;
        parse(&fields)
    }

    fn name(protocol: Protocol, name: &str, port: u16) -> Ask {
        Ask::Tunnel(protocol, Target { host: Host::Name(name.into()), port: NonZeroU16::new(port).unwrap() })
    }

    fn address(protocol: Protocol, address: &str, port: u16) -> Ask {
        Ask::Tunnel(protocol, Target { host: Host::Address(address.parse().unwrap()), port: NonZeroU16::new(port).unwrap() })
    }

    #[track_caller]
    fn assert_malformed(parsed: &Result<Ask, Refusal>, what: &str) {
        assert!(matches!(parsed, Err(Refusal::Malformed(_))), "{what}: {parsed:?}");
    }

    #[test]
    fn classic_connect_names_its_target_in_authority() {
        for (authority, want) in [
            ("example.com:443", name(Protocol::Tcp, "example.com", 443)),
            ("EXAMPLE.com.:1", name(Protocol::Tcp, "example.com", 1)),
            ("_dmarc.x-y.test:65535", name(Protocol::Tcp, "_dmarc.x-y.test", 65535)),
            ("localhost:80", name(Protocol::Tcp, "localhost", 80)),
            ("192.0.2.1:80", address(Protocol::Tcp, "192.0.2.1", 80)),
            ("[2001:DB8::1]:80", address(Protocol::Tcp, "2001:db8::1", 80)),
            ("[::ffff:192.0.2.1]:80", address(Protocol::Tcp, "::ffff:192.0.2.1", 80)),
        ] {
            assert_eq!(connect(authority).unwrap(), want, "{authority}");
        }
    }

    #[test]
    fn an_authority_that_is_not_host_and_port_is_malformed() {
        for authority in [
            "example.com",
            "example.com:",
            ":443",
            "",
            "user@example.com:443",
            "example.com:443:443",
            "example.com:+443",
            "example.com:-1",
            "example.com:0",
            "example.com:65536",
            "example.com:99999999999999999999",
            "example.com:0443",
            "example.com:0x1bb",
            "example.com:443 ",
            "example.com:٤٤٣",
            "2001:db8::1:443",
            "[2001:db8::1]",
            "[2001:db8::1:443",
            "2001:db8::1]:443",
            "[fe80::1%25eth0]:443",
            "[fe80::1%eth0]:443",
            "[v1.x]:443",
            "[192.0.2.1]:443",
            "[]:443",
            "[[::1]]:443",
            ".:443",
            "..:443",
            "example..com:443",
            ".example.com:443",
            "example.com..:443",
            "exa mple.com:443",
            "ex%61mple.com:443",
            "exämple.com:443",
            "example.com/x:443",
            "*:443",
            "https://example.com:443",
        ] {
            assert_malformed(&connect(authority), authority);
        }
    }

    #[test]
    fn a_number_that_is_no_dotted_decimal_is_malformed() {
        for host in [
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0X7F000001",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.01",
            "127.0.0.0x1",
            "0x7f.0x0.0x0.0x1",
            "127.0.0.1.",
            "127.1.",
            "1.2.3.4.5",
            "256.0.0.1",
            "127.0.0.256",
            "00127.0.0.1",
            "example.1",
            "example.0x1",
            "example.0x",
            "0",
            "0x",
            "4294967296",
            "1.",
        ] {
            assert_malformed(&connect(&format!("{host}:80")), host);
            assert_malformed(&connect_udp(&format!("/.well-known/masque/udp/{host}/80/")), host);
        }
        assert_eq!(connect("1.2.3.example:80").unwrap(), name(Protocol::Tcp, "1.2.3.example", 80));
        assert_eq!(connect("0xyz:80").unwrap(), name(Protocol::Tcp, "0xyz", 80));
    }

    #[test]
    fn a_name_is_at_most_253_bytes_in_labels_of_63() {
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert_eq!(longest.len(), 253);
        assert_eq!(connect(&format!("{longest}.:80")).unwrap(), name(Protocol::Tcp, &longest, 80));
        assert_malformed(&connect(&format!("{longest}b:80")), "254 bytes");
        assert_malformed(&connect(&format!("{}.test:80", "a".repeat(64))), "a label of 64 bytes");
    }

    #[test]
    fn classic_connect_with_scheme_or_path_is_malformed() {
        let (method, authority) = ((":method", "CONNECT"), (":authority", "example.com:443"));
        for extra in [(":scheme", "https"), (":path", "/")] {
            assert_malformed(&parse(&[method, extra, authority]), extra.0);
        }
        assert_malformed(&parse(&[method]), "no authority");
    }

    #[test]
    fn connect_udp_needs_every_pseudo_header_field() {
        assert_eq!(parse(UDP).unwrap(), name(Protocol::Udp, "example.com", 443));
        for missing in 0..UDP.len() {
            let mut fields = UDP.to_vec();
            let (name, _) = fields.remove(missing);
            assert_malformed(&parse(&fields), name);
            let mut fields = UDP.to_vec();
            fields[missing].1 = "";
            assert_malformed(&parse(&fields), name);
        }
    }

    #[test]
    fn connect_udp_names_its_target_in_the_path_of_any_template() {
        for (path, want) in [
            ("/.well-known/masque/udp/192.0.2.1/443/", address(Protocol::Udp, "192.0.2.1", 443)),
            ("/.well-known/masque/udp/2001%3Adb8%3A%3a1/443", address(Protocol::Udp, "2001:db8::1", 443)),
            ("/.well-known/masque/udp/%5B2001%3Adb8%3A%3A1%5D/443/", address(Protocol::Udp, "2001:db8::1", 443)),
            ("/masque?h=example.com&p=65535", name(Protocol::Udp, "example.com", 65535)),
        ] {
            assert_eq!(connect_udp(path).unwrap(), want, "{path}");
        }
        assert_eq!(connect_udp("/elsewhere").unwrap(), Ask::UnknownPath);
    }

    #[test]
    fn a_path_of_ours_with_a_broken_target_is_malformed() {
        for (host, port) in [
            ("", "443"),
            ("example.com", ""),
            ("example.com", "0"),
            ("example.com", "65536"),
            ("example.com", "-1"),
            ("example.com", "+53"),
            ("example.com", "%2B53"),
            ("example.com", "0x35"),
            ("example.com", "53%20"),
            ("example.com", "x"),
            ("example.com", "053"),
            ("fe80%3A%3A1%25eth0", "443"),
            ("fe80%3A%3A1%2525eth0", "443"),
            ("%5B2001%3Adb8%3A%3A1", "443"),
            ("2001%3Adb8%3A%3A1%5D", "443"),
            ("%5B192.0.2.1%5D", "443"),
            ("a%2Fb", "443"),
            ("a%00b", "443"),
            ("127.0.0.%2531", "443"),
            ("a%0Ab", "443"),
            ("*", "443"),
            ("example.com", "*"),
            ("%C3%A9.example", "443"),
            ("a%20b", "443"),
            ("user%40host", "443"),
        ] {
            assert_malformed(&connect_udp(&format!("/.well-known/masque/udp/{host}/{port}/")), &format!("{host} {port}"));
        }
    }

    #[test]
    fn what_is_not_served_is_told_apart_from_what_is_malformed() {
        let with_protocol = |protocol| {
            let mut fields = UDP.to_vec();
            fields[1].1 = protocol;
            parse(&fields)
        };
        for protocol in ["connect-ip", "websocket", "x-none", "CONNECT-UDP", "connect-tcp"] {
            assert_eq!(with_protocol(protocol).unwrap(), Ask::UnsupportedProtocol(protocol.into()));
        }
        let bind = connect_udp("/.well-known/masque/udp/*/*/").unwrap();
        assert_eq!(bind, Ask::UnsupportedProtocol("connect-udp-bind".into()));

        let plain = |method| parse(&[(":method", method), (":scheme", "https"), (":authority", "relay.example"), (":path", "/")]);
        assert!(matches!(plain("CONNECT-UDP").unwrap(), Ask::UnsupportedProtocol(_)));
        for method in ["GET", "HEAD", "POST", "connect"] {
            assert_eq!(plain(method).unwrap(), Ask::UnsupportedMethod(method.into()));
        }

        let mut fields = UDP.to_vec();
        fields[0].1 = "GET";
        assert_malformed(&parse(&fields), ":protocol with GET");
    }

    #[test]
    fn connect_udp_with_content_fields_is_malformed() {
        for extra in [("content-length", "0"), ("content-type", "application/x"), ("transfer-encoding", "chunked")] {
            let mut fields = UDP.to_vec();
            fields.push(extra);
            assert_malformed(&parse(&fields), extra.0);
        }
    }

    #[test]
    fn capsule_protocol_of_any_shape_is_no_error() {
        for value in ["?1", "?0", "1", "?1;x=y", "yes", ""] {
            let mut fields = UDP.to_vec();
            fields.extend([("capsule-protocol", value), ("priority", "u=1"), ("sec-ch-ua", "x")]);
            assert_eq!(parse(&fields).unwrap(), name(Protocol::Udp, "example.com", 443), "{value}");
        }
    }

    #[test]
    fn only_as_much_of_a_target_is_shown_as_privacy_allows() {
        for (authority, full, domain) in [
            ("www.mail.example.com:443", "www.mail.example.com:443", "…example.com:443"),
            ("example.com:443", "example.com:443", "example.com:443"),
            ("localhost:80", "localhost:80", "localhost:80"),
            ("192.0.2.77:443", "192.0.2.77:443", "192.0.2.0/24:443"),
            ("[2001:db8:1:2::3]:443", "[2001:db8:1:2::3]:443", "[2001:db8:1::/48]:443"),
        ] {
            let Ok(Ask::Tunnel(_, target)) = connect(authority) else { panic!("{authority}") };
            assert_eq!(target.shown(Privacy::Full), full);
            assert_eq!(target.shown(Privacy::Domain), domain);
            assert_eq!(target.shown(Privacy::None), "-");
        }
    }
}
