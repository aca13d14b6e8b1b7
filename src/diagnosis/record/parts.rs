//! The parts of a record that tell more than a diagnosis needs: for the timeline that a person reads.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::diagnosis::{By, record::Act};

/// A field of a request's head. Only values known to be harmless are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The length of a value that is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
}

/// The end of one direction of a request stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When.
    #[serde(default)]
    pub at_ms: Option<f64>,
    /// Who ended it.
    pub by: By,
    /// How.
    pub act: Act,
    /// The error code, where the act has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u64>,
}

/// What a tunnel carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Bytes to the target.
    pub bytes_out: u64,
    /// Bytes from the target.
    pub bytes_back: u64,
    /// UDP packets to the target.
    #[serde(default)]
    pub packets_out: u64,
    /// UDP packets from the target.
    #[serde(default)]
    pub packets_back: u64,
    /// UDP packets lost on the way through the relay.
    #[serde(default)]
    pub dropped: u64,
}

/// The client's address changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// When it was noticed, which is later than it happened.
    pub at_ms: f64,
    /// The new address.
    pub client: SocketAddr,
}

/// A packet of a QUIC version that is not spoken here, and the Version Negotiation packet that answered it (RFC 9000 §6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negotiation {
    /// The packet's version.
    pub offered: u32,
    /// Bytes of its destination and of its source connection ID.
    pub connection_ids: [u8; 2],
    /// What the answer listed, in its order, GREASE included.
    pub answered: Vec<u32>,
}

/// Figures of the path, as QUIC knows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// Round trip, smoothed.
    pub rtt_ms: f64,
    /// The largest UDP payload that is known to pass.
    pub mtu: u16,
    /// Packets sent.
    #[serde(default)]
    pub sent: u64,
    /// Packets of them lost; probes of the MTU are not counted.
    #[serde(default)]
    pub lost: u64,
    /// Packets received.
    #[serde(default)]
    pub received: u64,
    /// Times that loss or ECN told to slow down.
    #[serde(default)]
    pub congestion: u64,
    /// Times that large packets ceased to pass.
    #[serde(default)]
    pub black_holes: u64,
}
