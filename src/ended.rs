//! Every end of a tunnel: its words, its log level, and what the client is told.

use std::io;

use tracing::Level;

use crate::proto::codes::{h2_name, h3, h3_name};

/// How a stream is reset, whatever the HTTP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The target's TCP connection broke: H3_CONNECT_ERROR (RFC 9114 §4.4), CONNECT_ERROR (RFC 9113 §8.5).
    Connect,
    /// The request is no longer wanted: H3_REQUEST_CANCELLED.
    Cancelled,
    /// Not processed at all: H3_REQUEST_REJECTED.
    Rejected,
    /// The stream ended before its request was whole: H3_REQUEST_INCOMPLETE.
    Incomplete,
    /// A malformed message: H3_MESSAGE_ERROR.
    Message,
    /// A broken HTTP Datagram: H3_DATAGRAM_ERROR (RFC 9297 §2.1).
    Datagram,
    /// Nothing is wrong, but no more is read: H3_NO_ERROR.
    Nothing,
}

impl Reset {
    /// The HTTP/3 error code.
    pub const fn h3(self) -> u64 {
        match self {
            Self::Connect => h3::CONNECT_ERROR,
            Self::Cancelled => h3::REQUEST_CANCELLED,
            Self::Rejected => h3::REQUEST_REJECTED,
            Self::Incomplete => h3::REQUEST_INCOMPLETE,
            Self::Message => h3::MESSAGE_ERROR,
            Self::Datagram => h3::DATAGRAM_ERROR,
            Self::Nothing => h3::NO_ERROR,
        }
    }
}

impl Reset {
    /// The HTTP/2 error code (RFC 9113 §7), which knows fewer reasons.
    pub const fn h2(self) -> h2::Reason {
        match self {
            Self::Connect => h2::Reason::CONNECT_ERROR,
            Self::Cancelled => h2::Reason::CANCEL,
            Self::Rejected => h2::Reason::REFUSED_STREAM,
            Self::Incomplete | Self::Message | Self::Datagram => h2::Reason::PROTOCOL_ERROR,
            Self::Nothing => h2::Reason::NO_ERROR,
        }
    }
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
    /// The target's TCP connection broke.
    TargetLost(io::Error),
    /// An ICMP error says that the UDP target cannot be reached.
    Unreachable(io::Error),
    /// Neither side sent anything for the idle limit.
    Idle,
    /// A capsule ended early or a known one was malformed (RFC 9297 §3.3).
    Malformed(&'static str),
    /// A payload no UDP packet can hold (RFC 9298 §5).
    PayloadTooLong,
    /// An HTTP Datagram for a tunnel that has none (RFC 9297 §2.1).
    DatagramOnTcp,
    /// The client left an answer or half a capsule unread for too long.
    Stalled,
    /// The client broke HTTP's framing; the connection closes with this code, or on HTTP/2 the stream.
    Misframed {
        /// The code.
        code: u64,
        /// The rule, in words.
        why: String,
    },
    /// The relay misbehaves on purpose; names the fault.
    Misbehaved(&'static str),
    /// Whoever opened it may no longer: the credential has been taken away.
    Revoked,
    /// The relay is shutting down and the grace is over.
    Drained,
}

impl Ended {
    /// For the log: who, and what.
    pub fn words(&self) -> String {
        match self {
            Self::Done => "both sides finished".into(),
            Self::ClientFinished => "the client finished".into(),
            Self::ClientReset(code) => format!("the client reset the stream: {}", code_name(*code)),
            Self::ClientStopped(code) => format!("the client stopped reading: {}", code_name(*code)),
            Self::ClientLost(how) => format!("the client's connection is gone: {how}"),
            Self::TargetLost(error) => format!("the target's connection broke: {error}"),
            Self::Unreachable(error) => format!("the target cannot be reached: {error}"),
            Self::Idle => "neither side sent anything for too long".into(),
            Self::Malformed(what) => format!("the client sent {what}"),
            Self::PayloadTooLong => "the client sent a payload no UDP packet can hold".into(),
            Self::DatagramOnTcp => "the client sent a datagram for a TCP tunnel".into(),
            Self::Stalled => "the client left an answer or half a capsule unread for too long".into(),
            Self::Misframed { code, why } => format!("the client broke HTTP: {}, {why}", code_name(*code)),
            Self::Misbehaved(fault) => format!("the fault `{fault}` is on"),
            Self::Revoked => "the user's credential no longer counts".into(),
            Self::Drained => "the relay stopped".into(),
        }
    }

    /// For counters: one word or two.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ClientFinished => "client_finished",
            Self::ClientReset(_) => "client_reset",
            Self::ClientStopped(_) => "client_stopped",
            Self::ClientLost(_) => "client_lost",
            Self::TargetLost(_) => "target_lost",
            Self::Unreachable(_) => "unreachable",
            Self::Idle => "idle",
            Self::Malformed(_) => "malformed",
            Self::PayloadTooLong => "payload_too_long",
            Self::DatagramOnTcp => "datagram_on_tcp",
            Self::Stalled => "stalled",
            Self::Misframed { .. } => "misframed",
            Self::Misbehaved(_) => "misbehaved",
            Self::Revoked => "revoked",
            Self::Drained => "drained",
        }
    }

    /// How loud: a client going away is normal, one that breaks rules is worth a look.
    pub const fn level(&self) -> Level {
        match self {
            Self::Done
            | Self::ClientFinished
            | Self::ClientReset(_)
            | Self::ClientStopped(_)
            | Self::ClientLost(_)
            | Self::TargetLost(_)
            | Self::Unreachable(_)
            | Self::Idle
            | Self::Stalled
            | Self::Misbehaved(_)
            | Self::Revoked
            | Self::Drained => Level::INFO,
            Self::Malformed(_) | Self::PayloadTooLong | Self::DatagramOnTcp | Self::Misframed { .. } => Level::WARN,
        }
    }

    /// How the client's stream ends: reset, or (`None`) cleanly.
    pub const fn reset(&self) -> Option<Reset> {
        match self {
            // RFC 9298 §3.1: a UDP tunnel whose target is gone is closed; nothing of it is cut off.
            Self::Done | Self::ClientFinished | Self::Unreachable(_) | Self::Idle => None,
            Self::TargetLost(_) => Some(Reset::Connect),
            Self::ClientReset(_)
            | Self::ClientStopped(_)
            | Self::ClientLost(_)
            | Self::Stalled
            | Self::Misframed { .. }
            | Self::Misbehaved(_)
            | Self::Revoked
            | Self::Drained => Some(Reset::Cancelled),
            Self::Malformed(_) | Self::PayloadTooLong => Some(Reset::Message),
            Self::DatagramOnTcp => Some(Reset::Datagram),
        }
    }
}

fn code_name(code: u64) -> String {
    h3_name(code).or_else(|| h2_name(code)).map_or_else(|| format!("{code:#x}"), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_says_who_and_what() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(Ended::ClientReset(0x10c).words(), "the client reset the stream: H3_REQUEST_CANCELLED");
        assert_eq!(Ended::ClientStopped(0x7).words(), "the client stopped reading: REFUSED_STREAM");
        assert_eq!(Ended::Unreachable(refused).words(), "the target cannot be reached: Connection refused (os error 111)");
    }

    #[test]
    fn c76_a_broken_target_is_a_connect_error() {
        let reset = Ended::TargetLost(io::Error::from_raw_os_error(libc::ECONNRESET)).reset();
        assert_eq!(reset.map(Reset::h3), Some(0x10f));
        assert_eq!(reset.map(Reset::h2), Some(h2::Reason::CONNECT_ERROR));
        assert_eq!(Ended::Malformed("x").reset().map(Reset::h3), Some(0x10e));
        assert_eq!(Ended::DatagramOnTcp.reset().map(Reset::h3), Some(0x33));
        assert_eq!(Ended::Idle.reset(), None);
    }
}
