//! Sockets towards clients, and who is let in.

pub mod quic;

use std::net::IpAddr;

/// A connection that was not let in; the log's words for why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// Whose it was.
    pub source: IpAddr,
    /// The cap that is reached.
    pub why: &'static str,
}
