//! The TCP tunnel: bytes between a target's socket and the client's stream, half-close and resets both ways, back-pressure end to end.

use std::time::Duration;

use tokio::net::TcpStream;

use super::{ClientRead, ClientWrite};
use crate::ended::Ended;

/// What one TCP tunnel carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes to the target.
    pub bytes_out: u64,
    /// Bytes to the client.
    pub bytes_back: u64,
}

/// Carries bytes until both sides have finished or one broke; both halves of the client's stream are ended accordingly.
/// `cut` resolves when the relay's grace is over.
pub async fn run(read: impl ClientRead, write: impl ClientWrite, target: TcpStream, idle: Duration, cut: impl Future<Output = Ended> + Send) -> (Ended, Totals) { todo!() }
