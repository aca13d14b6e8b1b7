//! Bytes both ways, until one reason ends it. A tunnel knows its client's side only by the traits here, one pair for TCP and one for UDP,
//! so that it is the same for every HTTP version.

mod activity;
mod read_size;
pub mod tcp;
pub mod udp;

use std::{collections::VecDeque, future::Future};

use bytes::{Bytes, BytesMut};

use crate::ended::{Ended, Reset};
pub use read_size::ReadSize;

/// Bytes a tunnel leaves free in front of a payload it hands to [`ClientWrite::write`], for the framing of the HTTP version.
pub const HEADROOM: usize = 16;

/// The client's half of a TCP tunnel towards the target.
pub trait ClientRead: Send {
    /// Appends what has arrived, at least one byte, at most about 256 KiB. `Ok(false)` once the client has finished cleanly. Cancel safe.
    fn read(&mut self, into: &mut VecDeque<Bytes>) -> impl Future<Output = Result<bool, Ended>> + Send;

    /// The target took `bytes` of what was read: the client may send as many again.
    fn consumed(&mut self, bytes: usize);

    /// The target has taken nothing for a while although there is more, or takes again: what waits here must not hold up other tunnels.
    fn stalled(&mut self, stalled: bool);

    /// No more is read; tells the client why.
    fn stop(&mut self, reset: Reset);
}

/// The client's half of a TCP tunnel from the target.
pub trait ClientWrite: Send {
    /// Sends the payload after the first [`HEADROOM`] bytes of `buffer`; waits for flow control. Not cancel safe: a cancelled write must be followed by `reset`.
    fn write(&mut self, buffer: BytesMut) -> impl Future<Output = Result<(), Ended>> + Send;

    /// The target has finished: so does this side. Waits at most for what is still to be written.
    fn finish(&mut self) -> impl Future<Output = Result<(), Ended>> + Send;

    /// This side breaks off.
    fn reset(&mut self, reset: Reset);

    /// Waits until the client no longer reads (STOP_SENDING), or is gone. Cancel safe.
    fn stopped(&mut self) -> impl Future<Output = Ended> + Send;

    /// Once this side has finished: waits until the client has broken off or is gone. Cancel safe.
    fn gone(&mut self) -> impl Future<Output = Ended> + Send;
}

/// The client's side of a UDP tunnel: DATAGRAM frames or capsules.
pub trait Lane: Send {
    /// UDP payloads that came on the request stream as capsules are appended; also moves on what is half written. `Err` once the client has
    /// ended the tunnel. Cancel safe.
    fn recv(&mut self, into: &mut Vec<Bytes>) -> impl Future<Output = Result<(), Ended>> + Send;

    /// Hands UDP payloads to the client; each is carried or dropped, and counted. Never waits.
    fn send(&mut self, packets: &crate::sys::Received<'_>, flow: &udp::Flow);

    /// The tunnel is over: ends the request stream accordingly.
    fn end(self, ended: &Ended) -> impl Future<Output = ()> + Send;
}
