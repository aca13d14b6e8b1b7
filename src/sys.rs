//! The few system calls that tokio, socket2 and quinn do not make for us, and with them the only `unsafe` of the relay. Linux has the fast way;
//! every other system has a plain twin with the same names, which is not compiled here.

#[cfg(target_os = "linux")]
#[path = "sys/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "sys/plain.rs"]
mod system;
mod readable;

use std::{io, net::UdpSocket};

use bytes::Bytes;

pub use readable::{READABLE_OR_BROKEN, watch_reading, watch_writing};
pub use system::{
    Arena, Received, allowed_cpus, drain_errors, overrun, pin_to, prepare_upstream, raise_descriptor_limit, receive, steer_by_connection_id,
};

/// Segments in one send: the kernel's UDP_MAX_SEGMENTS was 64 for long, and every kernel takes that many.
pub const MAX_RUN: usize = 64;

/// Bytes in one send: the payload of the largest IPv4 packet, which bounds a joined send too.
const MAX_RUN_BYTES: usize = 65_507;

/// What became of the payloads of one [`send`].
#[derive(Debug, Default)]
pub struct Sent {
    /// Payloads the kernel took.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Payloads for which the socket's buffer had no room.
    pub no_room: u64,
    /// Payloads larger than the path carries unfragmented.
    pub too_big: u64,
    /// Payloads the kernel refused for another reason.
    pub refused: u64,
    /// An error that ends the tunnel ([`is_fatal`]); what stood behind it is refused.
    pub fatal: Option<io::Error>,
}

/// Sends `payloads` to the connected `socket`, in runs of one length where several come together (UDP_SEGMENT), never blocking.
pub fn send(socket: &UdpSocket, payloads: &[Bytes]) -> Sent {
    let mut sent = Sent::default();
    let mut rest = payloads;
    while !rest.is_empty() {
        let (run, behind) = rest.split_at(run_length(rest));
        let full = sent.no_room;
        match run {
            [single] => sent.note(run, socket.send(single)),
            run => match system::send_joined(socket, run) {
                // No offload on this route, or a segment larger than its MTU: singly some may pass.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO)) => {
                    for single in run.chunks(1) {
                        sent.note(single, socket.send(&single[0]));
                    }
                }
                result => sent.note(run, result),
            },
        }
        rest = behind;
        // A full buffer does not empty while this loop runs.
        if sent.no_room > full {
            sent.no_room += rest.len() as u64;
            return sent;
        }
        if sent.fatal.is_some() {
            sent.refused += rest.len() as u64;
            return sent;
        }
    }
    sent
}

/// Bytes of memory this process may use: the machine's, or less where its control group says so. `None` where the system does not tell.
pub fn memory() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = machine.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10;
    // The root of what a container sees; a service's own group lies deeper, and is the operator's to know.
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = group.iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    Some(machine.min(group.unwrap_or(u64::MAX)))
}

/// Whether a socket error means that the target cannot be reached at all (RFC 9298 §3.1): a port or host that is not there, or no route.
/// Every other error costs its packet only.
pub fn is_fatal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH))
}

impl Sent {
    fn note(&mut self, payloads: &[Bytes], result: io::Result<usize>) {
        let count = payloads.len() as u64;
        match result {
            Ok(bytes) => {
                self.packets += count;
                self.bytes += bytes as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.no_room += count,
            // RFC 9298 §3.1 forbids fragmenting, so an overlong packet is silently lost.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => self.too_big += count,
            Err(error) if is_fatal(&error) => {
                self.refused += count;
                self.fatal = Some(error);
            }
            Err(_) => self.refused += count,
        }
    }
}

/// How many payloads from the front go in one send: all of one length, the last may be shorter; an empty one goes alone.
fn run_length(payloads: &[Bytes]) -> usize {
    let segment = payloads[0].len();
    if segment == 0 {
        return 1;
    }
    let most = (MAX_RUN_BYTES / segment).clamp(1, MAX_RUN);
    let equal = payloads.iter().take(most).take_while(|payload| payload.len() == segment).count();
    match payloads.get(equal) {
        Some(last) if equal < most && !last.is_empty() && last.len() < segment => equal + 1,
        _ => equal,
    }
}

#[cfg(test)]
mod tests;
