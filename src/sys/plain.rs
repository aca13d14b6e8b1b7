//! Every other system: one packet a call, no steering, no pinning. One worker is what it is good for.

use std::{io, net::UdpSocket};

use bytes::Bytes;

/// Where a received packet lies until it is handed on.
#[derive(Debug)]
pub struct Arena {
    bytes: Vec<u8>,
    len: usize,
}

impl Default for Arena {
    fn default() -> Self {
        Self { bytes: vec![0; 65_536], len: 0 }
    }
}

/// The packet of one receive.
#[derive(Debug)]
pub struct Received<'a>(&'a Arena);

impl Received<'_> {
    /// The payload.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        std::iter::once(&self.0.bytes[..self.0.len])
    }

    /// Always one.
    pub fn messages(&self) -> usize {
        1
    }

    /// More may always be waiting.
    pub fn full(&self) -> bool {
        true
    }
}

/// Never joined here: the caller sends singly.
pub(super) fn send_joined(_: &UdpSocket, _: &[Bytes]) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Receives one packet, without blocking.
pub fn receive<'a>(socket: &UdpSocket, arena: &'a mut Arena) -> io::Result<Received<'a>> {
    arena.len = socket.recv(&mut arena.bytes)?;
    Ok(Received(arena))
}

/// There is no error queue.
pub fn drain_errors(_: &UdpSocket) {}

/// A connected socket reports a refused port by itself.
pub fn prepare_upstream(_: &UdpSocket) -> io::Result<()> {
    Ok(())
}

/// Not here: run one worker.
pub fn steer_by_connection_id(_: &UdpSocket, _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// One, by the name 0.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    Ok(vec![0])
}

/// Threads stay where the system puts them.
pub fn pin_to(_: usize) -> io::Result<()> {
    Ok(())
}

/// Unknown, and so is any shortage.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    Ok(u64::MAX)
}
