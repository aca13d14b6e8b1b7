//! The only `unsafe` of the relay: the few lines a system call needs, each with its reason. Linux has the fast way; every other system has
//! a plain twin with the same names (not compiled here).

use std::{io, net::UdpSocket};

use bytes::Bytes;

/// Segments in one send: the kernel's UDP_MAX_SEGMENTS.
pub const MAX_RUN: usize = 64;

/// Where received packets lie until they are handed on: one for each worker, never one for each tunnel.
#[derive(Debug)]
pub struct Arena { /* private */ }

/// The packets of one receive, in their order; coalesced ones (UDP_GRO) are cut apart.
#[derive(Debug)]
pub struct Received<'a> { _arena: &'a Arena /* private */ }

impl Received<'_> {
    /// Every payload, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> { std::iter::empty() }

    /// Whether the receive filled every slot, so that more may be waiting; a short one means dry.
    pub fn full(&self) -> bool { todo!() }
}

/// Sends `run` to the connected `socket` in one call where it can: all payloads of one length, the last may be shorter; at most [`MAX_RUN`].
/// Gives the number of payloads the kernel took. EINVAL, EMSGSIZE and EIO of the joined send are answered by sending singly.
pub fn send_run(socket: &UdpSocket, run: &[Bytes]) -> io::Result<usize> { todo!() }

/// Receives what is waiting on `socket`, without blocking.
pub fn receive<'a>(socket: &UdpSocket, arena: &'a mut Arena) -> io::Result<Received<'a>> { todo!() }
