//! A socket on the runtime, registered for reading and errors only, or for writing only.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor that a standard socket keeps")]

use std::{io, net::UdpSocket};

use tokio::io::{Interest, unix::AsyncFd};

/// What a tunnel's task waits for. Not for writing: every packet sent would wake it once more when the kernel frees it. An ICMP error is no data
/// to read, and has to be waited for by its own name.
#[cfg(target_os = "linux")]
pub const READABLE_OR_BROKEN: Interest = Interest::READABLE.add(Interest::ERROR);
/// What a tunnel's task waits for: elsewhere an error makes a socket readable.
#[cfg(not(target_os = "linux"))]
pub const READABLE_OR_BROKEN: Interest = Interest::READABLE;

/// Registers a non-blocking socket for [`READABLE_OR_BROKEN`].
pub fn watch_reading(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: a UdpSocket owns its descriptor and always gives the same one, open until it is dropped.
    unsafe { AsyncFd::register_with_interest(socket, READABLE_OR_BROKEN) }.map_err(Into::into)
}

/// Registers a non-blocking socket for writing only.
pub fn watch_writing(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: as above.
    unsafe { AsyncFd::register_with_interest(socket, Interest::WRITABLE) }.map_err(Into::into)
}
