//! The UDP tunnel (RFC 9298): packets between a connected socket and the client's [`Lane`](super::Lane).

use std::{io, net::UdpSocket, sync::Arc, time::Duration};

use bytes::Bytes;

use super::Lane;
use crate::{ended::Ended, metrics::{Loss, Metrics, Way}};

/// The upstream of one UDP tunnel, shared between the tunnel's task and the connection's pump.
#[derive(Debug)]
pub struct Flow { /* private */ }

impl Flow {
    /// Takes a connected, non-blocking socket onto the current runtime.
    pub fn new(socket: UdpSocket, unanswered_packets: u32, metrics: Arc<Metrics>) -> io::Result<Self> { todo!() }

    /// Out: sends UDP payloads to the target, in runs of one length. Never waits: what does not fit is dropped and counted. An ICMP error that
    /// ends the tunnel is kept for its task.
    pub fn send(&self, payloads: &[Bytes]) { todo!() }

    /// Ends the tunnel from outside its task, once; later calls change nothing.
    pub fn abort(&self, ended: Ended) { todo!() }

    /// Counts packets that went on.
    pub fn carried(&self, way: Way, packets: u64, bytes: u64) { todo!() }

    /// Counts packets that did not.
    pub fn dropped(&self, way: Way, loss: Loss, packets: u64) { todo!() }

    /// What was carried so far, for the log line: packets and bytes, out and back, and drops.
    pub fn totals(&self) -> Totals { todo!() }
}

/// What one UDP tunnel carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets to the target.
    pub packets_out: u64,
    /// Payload bytes to the target.
    pub bytes_out: u64,
    /// Packets to the client.
    pub packets_back: u64,
    /// Payload bytes to the client.
    pub bytes_back: u64,
    /// Packets lost either way.
    pub dropped: u64,
}

/// Carries packets until a side ends the tunnel or both stay silent for `idle`; then ends the lane and gives the reason.
pub async fn run(lane: impl Lane, flow: Arc<Flow>, idle: Duration, cut: impl Future<Output = Ended> + Send) -> Ended { todo!() }
