//! HTTP's versions, as a client tells them apart.

use std::fmt;

use crate::ended::Reset;

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1 over TLS over TCP: one request a connection.
    H1,
    /// HTTP/2 over TLS over TCP.
    H2,
    /// HTTP/3 over QUIC.
    #[default]
    H3,
}

impl Http {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::H1, Self::H2, Self::H3];

    /// The code on the wire for `reset`; HTTP/1.1 has none, and 0 stands for it.
    pub fn code(self, reset: Reset) -> u64 {
        match self {
            Self::H1 => 0,
            Self::H2 => u32::from(reset.h2()).into(),
            Self::H3 => reset.h3(),
        }
    }

    /// The protocol in ALPN (RFC 9113 §3.2, RFC 9114 §3.1, RFC 7301 §6).
    pub(super) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::H1 => b"http/1.1",
            Self::H2 => b"h2",
            Self::H3 => b"h3",
        }
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H1 => "HTTP/1.1",
            Self::H2 => "HTTP/2",
            Self::H3 => "HTTP/3",
        })
    }
}
