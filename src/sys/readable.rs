//! A socket on the runtime, registered for reading only.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor that a standard socket keeps")]

use std::{io, net::UdpSocket};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a non-blocking socket for reading only: with writing, every packet sent would wake its task once more when the kernel frees it.
pub fn watch_reading(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: a UdpSocket owns its descriptor and always gives the same one, open until it is dropped.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(Into::into)
}
