//! Every other system: one packet a call, no steering, no pinning. One worker is what it is good for.
#![expect(unsafe_code, reason = "system calls that no library we use offers in this form")]

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
pub(super) fn send_joined(_: &UdpSocket, _: &[Bytes]) -> io::Result<usize> {
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Receives one packet, without blocking.
pub fn receive<'a>(socket: &UdpSocket, arena: &'a mut Arena) -> io::Result<Received<'a>> {
    arena.len = socket.recv(&mut arena.bytes)?;
    Ok(Received(arena))
}

/// There is no error queue.
pub fn drain_errors(_: &UdpSocket) -> Option<io::Error> {
    None
}

/// Nobody tells.
pub fn overrun(_: &UdpSocket) -> u64 {
    0
}

/// Makes a socket fit for a tunnel: IPv4 packets are not fragmented where the system can be told so (C-69). A connected socket reports a refused
/// port by itself (C-68).
pub fn prepare_upstream(socket: &UdpSocket) -> io::Result<()> {
    if socket.local_addr()?.is_ipv4() { dont_fragment(socket) } else { Ok(()) }
}

#[cfg(target_vendor = "apple")]
fn dont_fragment(socket: &UdpSocket) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of a live value.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_DONTFRAG, (&raw const on).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_vendor = "apple"))]
fn dont_fragment(_: &UdpSocket) -> io::Result<()> {
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

/// Raises the soft limit of open descriptors as far as it goes, and gives it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    // macOS calls its hard limit infinite, and takes no more than this.
    const OPEN_MAX: libc::rlim_t = 10_240;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for wanted in [limit.rlim_max, limit.rlim_max.min(OPEN_MAX)] {
        let raised = libc::rlimit { rlim_cur: wanted, ..limit };
        // SAFETY: the kernel reads one rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            return Ok(wanted);
        }
    }
    Err(io::Error::last_os_error())
}
