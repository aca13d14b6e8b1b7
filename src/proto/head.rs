//! A request or response head, verbatim: the fields as they came, in their order (RFC 9114 §4.2, §4.3).

use bytes::Bytes;

/// The fields of a head; pseudo-header fields are fields too. Names and values are bytes as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// In the order of the wire.
    pub fields: Vec<(Bytes, Bytes)>,
}

/// A head that breaks a rule of HTTP; says which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// The pseudo-header fields of a request, each at most once and in front of all others.
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
    pub fn push(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) { todo!() }

    /// The first value of field `name` (lower case).
    pub fn get(&self, name: &str) -> Option<&Bytes> { todo!() }

    /// Every value of field `name` (lower case).
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bytes> { std::iter::empty() }

    /// Validates a request head whatever it asks for (RFC 9114 §4.2, §4.3, §4.3.1): names lower case and valid, values valid,
    /// pseudo-header fields known, once, first; no connection-specific field, `te` only `trailers`; `host` once and equal to `:authority`.
    /// What CONNECT itself demands is [`crate::request`]'s.
    pub fn pseudo(&self) -> Result<Pseudo<'_>, Malformed> { todo!() }

    /// `:status` of a response head, validated likewise (RFC 9114 §4.3.2).
    pub fn status(&self) -> Result<u16, Malformed> { todo!() }
}
