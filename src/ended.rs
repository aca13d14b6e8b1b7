//! Every end of a tunnel or a connection: its words, its log level, and what the other side is told.

use std::io;

use crate::proto::codes::h3;

/// How a stream is reset, whatever the HTTP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The target's TCP connection broke: H3_CONNECT_ERROR (RFC 9114 §4.4).
    Connect,
    /// The request is no longer wanted: H3_REQUEST_CANCELLED.
    Cancelled,
    /// Not processed at all: H3_REQUEST_REJECTED.
    Rejected,
    /// A malformed message: H3_MESSAGE_ERROR.
    Message,
    /// A broken HTTP Datagram: H3_DATAGRAM_ERROR (RFC 9297 §2.1).
    Datagram,
    /// A fault of the relay: H3_INTERNAL_ERROR.
    Internal,
    /// Nothing is wrong, but no more is read: H3_NO_ERROR.
    Nothing,
}

/// The one reason a tunnel is over.
#[derive(Debug)]
pub enum Ended {
    /// Both sides finished.
    Done,
    /// The client ended a UDP tunnel by finishing its stream.
    ClientFinished,
    /// The client reset its side of the stream, with this code of its HTTP version.
    ClientReset(u64),
    /// The client stopped reading, with this code of its HTTP version.
    ClientStopped(u64),
    /// The client's connection is gone; says how, in words.
    ClientLost(String),
    /// The target reset or refused (an ICMP error on UDP) or broke in another way.
    TargetLost(io::Error),
    /// Neither side sent anything for the idle limit.
    Idle,
    /// A capsule ended early or a known one was malformed (RFC 9297 §3.3).
    Malformed(&'static str),
    /// A payload no UDP packet can hold (RFC 9298 §5).
    PayloadTooLong,
    /// An HTTP Datagram for a tunnel that has none (RFC 9297 §2.1).
    DatagramOnTcp,
    /// The client left a capsule half read for too long.
    Stalled,
    /// The client broke HTTP's framing; the whole connection closes with this HTTP/3 code.
    Misframed { code: u64, why: String },
    /// The relay is shutting down and the grace is over.
    Drained,
}
