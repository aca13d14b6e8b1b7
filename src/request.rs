//! What the client asks for: a head, whatever the HTTP version, becomes a [`Request`] or a refusal.

use std::{fmt, net::IpAddr, num::NonZeroU16};

use crate::{config::{Privacy, Protocol}, proto::{head::Head, template::Template}, refusal::Refusal};

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
    /// A literal, in any spelling that is one.
    Address(IpAddr),
}

impl Request {
    /// Reads a request head; `templates` are those served, the well-known one included.
    pub fn parse(head: &Head, templates: &[Template]) -> Result<Self, Refusal> { todo!() }
}

impl Target {
    /// As much of the target as `privacy` lets be written down: `[2001:db8::1]:443`, `example.com:443`, `…example.com:443`, `-`.
    pub fn shown(&self, privacy: Privacy) -> String { todo!() }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { todo!() }
}
