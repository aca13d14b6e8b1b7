//! Counters, and gauges as guards. Each worker owns one [`Metrics`]; they are added up when read.

/// The direction of a packet or byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Client to target.
    Out,
    /// Target to client.
    Back,
}

/// Why a packet went no further. Every loss is counted; none is logged by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A queue or a socket buffer was full.
    NoRoom,
    /// Larger than the path or a DATAGRAM frame carries (RFC 9298 §6.1).
    TooBig,
    /// No context ID, or one that does not parse.
    Malformed,
    /// A context ID nobody registered (RFC 9298 §4).
    UnknownContext,
    /// The target has not answered, and the cap on packets to a silent target is reached.
    Unanswered,
    /// For a request that is not open (yet, or any more), or that was refused.
    NoTunnel,
    /// The client does not read its capsules.
    Unread,
    /// The socket said no in a way that costs only this packet.
    Socket,
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct Metrics { /* atomics: carried and dropped by way and loss; requests, refusals by status; ended tunnels by reason; gauges as guards: connections, tunnels */ }
