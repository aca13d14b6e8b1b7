//! What is examined, and how long one waits for it.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{pki_types::CertificateDer, sign::CertifiedKey};

use crate::{
    probe::Http,
    proto::url::{Url, UrlError},
};

/// A relay, and what is known of it.
#[derive(Clone)]
pub struct Plan {
    /// Where it is.
    pub url: Url,
    /// Its addresses; empty: the name is resolved.
    pub addresses: Vec<SocketAddr>,
    /// The versions of HTTP that it should serve.
    pub versions: Vec<Http>,
    /// Trusted certificate authorities.
    pub roots: Vec<CertificateDer<'static>>,
    /// Public keys (SubjectPublicKeyInfo, DER), one of which the relay must have instead of a certificate that is trusted; empty: none is asked for.
    pub public_keys: Vec<Vec<u8>>,
    /// Fields of every request: credentials for the most part.
    pub fields: Vec<(String, String)>,
    /// What is shown to a relay that asks for a client certificate.
    pub identity: Option<Arc<CertifiedKey>>,
    /// A client has no other credentials than these: a relay that asks for one more will never get it.
    pub complete: bool,
    /// A TCP echo that the relay lets this client reach.
    pub tcp: Option<Target>,
    /// A UDP echo likewise.
    pub udp: Option<Target>,
    /// Whether credentials go also to a relay whose certificate is not trusted.
    pub trusting: bool,
    /// The date by which certificates are judged.
    pub now: SystemTime,
    /// How long one waits.
    pub limits: Limits,
}

/// A target as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Without brackets.
    pub host: String,
    /// From 1 on.
    pub port: u16,
    /// As written: the `:authority` of a classic CONNECT.
    pub text: String,
}

/// How long one waits, and how much is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a handshake.
    pub handshake: Duration,
    /// For SETTINGS in the relay's first flight, while it waits for our Finished.
    pub flight: Duration,
    /// For SETTINGS in all.
    pub settings: Duration,
    /// For the answer to a request: DNS and dial included.
    pub answer: Duration,
    /// For the next bytes of a TCP tunnel that has carried some.
    pub stall: Duration,
    /// For the next payload of a UDP tunnel.
    pub quiet: Duration,
    /// Bytes carried through a TCP tunnel each way.
    pub bulk: usize,
}

impl Plan {
    /// For `https://HOST[:PORT][/TEMPLATE]`, both versions, nobody trusted, nothing reached.
    pub fn new(url: &str, now: SystemTime) -> Result<Self, UrlError> {
        Ok(Self {
            url: Url::parse(url)?,
            addresses: Vec::new(),
            versions: vec![Http::H3, Http::H2],
            roots: Vec::new(),
            public_keys: Vec::new(),
            fields: Vec::new(),
            identity: None,
            complete: false,
            tcp: None,
            udp: None,
            trusting: false,
            now,
            limits: Limits::default(),
        })
    }
}

impl Default for Limits {
    /// For relays far away, behind links that lose packets.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(3),
            flight: Duration::from_secs(1),
            settings: Duration::from_secs(3),
            answer: Duration::from_secs(11),
            stall: Duration::from_secs(3),
            quiet: Duration::from_millis(1500),
            bulk: 1 << 20,
        }
    }
}

impl Target {
    /// `HOST:PORT`, an IPv6 address in brackets.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("must be a name or an address with a port, like `example.com:443` or `[2001:db8::1]:53`, not `{}`", text.escape_debug())
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        if host.is_empty() || host.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err(wrong());
        }
        Ok(Self { host: host.into(), port, text: text.into() })
    }
}

/// Fields and identity are secrets.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("url", &self.url).field("versions", &self.versions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_what_connect_takes() {
        for (text, host, port) in
            [("example.com:443", "example.com", 443), ("192.0.2.1:1", "192.0.2.1", 1), ("[2001:db8::1]:65535", "2001:db8::1", 65535)]
        {
            assert_eq!(Target::parse(text).unwrap(), Target { host: host.into(), port, text: text.into() });
        }
        for text in
            ["", "example.com", "example.com:", "example.com:0", "example.com:65536", ":443", "2001:db8::1:443", "[::1:443", "a b:1"]
        {
            assert!(Target::parse(text).unwrap_err().contains("must be"), "{text:?}");
        }
    }
}
