//! Every "no": one exhaustive match turns it into a status and a Proxy-Status (RFC 9209).

use std::{io, time::Duration};

use http::StatusCode;

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
    HeadTooLarge { limit: usize },
    /// No credentials, or wrong ones: 407.
    Unauthenticated { presented: bool },
    /// A `:protocol` this relay does not serve: 501.
    UnsupportedProtocol(String),
    /// A method other than CONNECT: 405.
    UnsupportedMethod(String),
    /// A path that no template of ours makes: 404.
    UnknownPath,
    /// A rule says no.
    Denied { style: Denial },
    /// Every address of the target is one this relay does not connect to: 502.
    ProhibitedAddress,
    /// A cap is reached: 503. Names the cap.
    LimitReached { what: &'static str },
    /// DNS says no: 502 with rcode (RFC 9209 §2.3.2).
    Unresolvable { rcode: Option<String>, info_code: Option<u16> },
    /// DNS did not answer in time: 504.
    DnsTimedOut { after: Duration },
    /// The target refused or cannot be reached: 502 (503 for no route). `address` is the last one tried.
    Unreachable { address: std::net::SocketAddr, source: io::Error },
    /// The target did not answer in time: 504.
    ConnectTimedOut { after: Duration },
    /// The relay has no descriptors or memory left: 503.
    Exhausted { source: io::Error },
    /// The relay itself broke: 500.
    Internal { source: io::Error },
}

impl Refusal {
    /// The status a client sees.
    pub fn status(&self) -> StatusCode { todo!() }

    /// The error type of RFC 9209 §2.3.
    pub fn error_type(&self) -> &'static str { todo!() }

    /// The whole answer: status, `proxy-status` naming the relay `name`, `proxy-authenticate` on 407, `allow` on 405, `content-length: 0`.
    pub fn head(&self, name: &str) -> Head { todo!() }

    /// In words, for the log: no client input unescaped, no secret.
    pub fn words(&self) -> String { todo!() }
}

/// The value of `proxy-status` on success (RFC 9209 §2.1.2): `NAME; next-hop="192.0.2.1:443"`.
pub fn next_hop(name: &str, address: std::net::SocketAddr) -> String { todo!() }
