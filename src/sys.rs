//! The few system calls that tokio, socket2 and quinn do not make for us. Linux has the fast way and holds the only `unsafe` of the relay; every
//! other system has a plain twin with the same names, which is not compiled here.

#[cfg(target_os = "linux")]
#[path = "sys/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "sys/plain.rs"]
mod system;
mod readable;

use std::{io, net::UdpSocket};

use bytes::Bytes;

pub use readable::{READABLE_OR_BROKEN, watch_reading};
pub use system::{
    Arena, Received, allowed_cpus, drain_errors, pin_to, prepare_upstream, raise_descriptor_limit, receive, steer_by_connection_id,
};

/// Segments in one send: the kernel's UDP_MAX_SEGMENTS was 64 for long, and every kernel takes that many.
pub const MAX_RUN: usize = 64;

/// Bytes in one send: an IPv4 packet's limit, which holds for a joined send too.
const MAX_RUN_BYTES: usize = 65_000;

/// What became of the payloads of one [`send`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Payloads the kernel took.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Payloads for which the socket's buffer had no room.
    pub no_room: u64,
    /// Payloads larger than the path carries unfragmented.
    pub too_big: u64,
    /// Payloads the kernel refused for another reason that costs only them.
    pub refused: u64,
}

/// Sends `payloads` to the connected `socket`, in runs of one length where several come together (UDP_SEGMENT), never blocking.
/// The only error is an ICMP error that ends the tunnel (see [`is_fatal`]); what came before it is lost too.
pub fn send(socket: &UdpSocket, payloads: &[Bytes]) -> io::Result<Sent> {
    let mut sent = Sent::default();
    let mut rest = payloads;
    while !rest.is_empty() {
        let (run, behind) = rest.split_at(run_length(rest));
        rest = behind;
        match run {
            [single] => sent.note(single, socket.send(single))?,
            run => match system::send_joined(socket, run) {
                Ok(()) => {
                    sent.packets += run.len() as u64;
                    sent.bytes += run.iter().map(|payload| payload.len() as u64).sum::<u64>();
                }
                // The joined send is refused where a single one may pass: no offload on this route, or a segment larger than its MTU.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO)) => {
                    for single in run {
                        sent.note(single, socket.send(single))?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sent.no_room += run.len() as u64,
                Err(error) if is_fatal(&error) => return Err(error),
                Err(_) => sent.refused += run.len() as u64,
            },
        }
    }
    Ok(sent)
}

/// Whether a socket error means that the target cannot be reached at all (RFC 9298 §3.1): a port or host that is not there, or no route.
/// Every other error costs its packet only.
pub fn is_fatal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH))
}

impl Sent {
    fn note(&mut self, payload: &[u8], result: io::Result<usize>) -> io::Result<()> {
        match result {
            Ok(len) => {
                self.packets += 1;
                self.bytes += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.no_room += 1,
            // RFC 9298 §3.1 forbids fragmenting, so an overlong packet is silently lost.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => self.too_big += 1,
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => {
                tracing::trace!(len = payload.len(), %error, "a payload was refused");
                self.refused += 1;
            }
        }
        Ok(())
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
