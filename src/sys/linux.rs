//! Linux: UDP_SEGMENT, recvmmsg with UDP_GRO, the error queue, reuseport steering, pinning.
#![expect(unsafe_code, reason = "system calls that no library we use offers in this form")]

use std::{
    io, mem,
    net::UdpSocket,
    os::fd::{AsRawFd, RawFd},
    ptr,
};

use bytes::Bytes;

/// Messages taken in one receive, at most.
const SLOTS: usize = 32;
/// Messages asked for until a receive comes back full: each one asked for costs, used or not.
const FEW_SLOTS: usize = 4;
/// Bytes of one message: the kernel joins received packets up to this (UDP_GRO).
const SLOT: usize = 65_536;
/// Room for one control message: a segment size, or an ICMP error with the address it came from.
const CONTROL: usize = 64;

/// Where received packets lie until they are handed on: one for each worker, never one for each tunnel. Its 2 MiB are touched as they are used.
#[derive(Debug)]
pub struct Arena {
    bytes: Vec<u8>,
    control: Box<[Control; SLOTS]>,
    /// Length and segment size of each message of the last receive.
    messages: Vec<(usize, usize)>,
    /// The last receive came back full.
    busy: bool,
}

/// Control messages start with a `cmsghdr`, which wants this alignment.
#[repr(align(8))]
#[derive(Clone, Copy, Debug)]
struct Control([u8; CONTROL]);

impl Default for Arena {
    fn default() -> Self {
        Self {
            bytes: vec![0; SLOTS * SLOT],
            control: Box::new([Control([0; CONTROL]); SLOTS]),
            messages: Vec::with_capacity(SLOTS),
            busy: false,
        }
    }
}

/// The packets of one receive, in their order; joined ones are cut apart.
#[derive(Debug)]
pub struct Received<'a> {
    arena: &'a Arena,
    full: bool,
}

impl Received<'_> {
    /// Every payload, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.arena.messages.iter().enumerate().flat_map(|(slot, (len, segment))| {
            let message = &self.arena.bytes[slot * SLOT..slot * SLOT + len];
            // An empty packet is a packet: `chunks` would give none.
            let empty = (*len == 0).then_some(message);
            empty.into_iter().chain(message.chunks(*segment))
        })
    }

    /// System messages, each one packet or several joined.
    pub fn messages(&self) -> usize {
        self.arena.messages.len()
    }

    /// Whether the receive filled every slot, so that more may be waiting; a short one means dry.
    pub fn full(&self) -> bool {
        self.full
    }
}

/// Sends payloads of one length (the last may be shorter) in one call, and gives their bytes.
pub(super) fn send_joined(socket: &UdpSocket, run: &[Bytes]) -> io::Result<usize> {
    let segment = u16::try_from(run[0].len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let mut parts: [libc::iovec; super::MAX_RUN] = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; super::MAX_RUN];
    for (part, payload) in parts.iter_mut().zip(run) {
        *part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    }
    let mut control = Control([0; CONTROL]);
    // SAFETY: msghdr is plain data, for which zero is a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = run.len().min(parts.len()) as _;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as _;
    // SAFETY: the control buffer is aligned and larger than CMSG_SPACE of a u16, so that the first header and its data lie inside.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(segment);
    }
    // SAFETY: all pointers lead to live buffers; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives what is waiting on `socket`, without blocking.
pub fn receive<'a>(socket: &UdpSocket, arena: &'a mut Arena) -> io::Result<Received<'a>> {
    let full =
        if arena.busy { receive_into::<SLOTS>(socket, arena)? == SLOTS } else { receive_into::<FEW_SLOTS>(socket, arena)? == FEW_SLOTS };
    arena.busy = full;
    Ok(Received { arena, full })
}

fn receive_into<const N: usize>(socket: &UdpSocket, arena: &mut Arena) -> io::Result<usize> {
    // SAFETY: mmsghdr and iovec are plain data, for which zero is a value.
    let (mut headers, mut parts): ([libc::mmsghdr; N], [libc::iovec; N]) = unsafe { (mem::zeroed(), mem::zeroed()) };
    let slots = arena.bytes.chunks_exact_mut(SLOT).zip(arena.control.iter_mut());
    for ((header, part), (slot, control)) in headers.iter_mut().zip(parts.iter_mut()).zip(slots) {
        *part = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT };
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = CONTROL as _;
    }
    // SAFETY: the headers lead to live buffers of the lengths they state: there are at least N slots.
    let count = unsafe { libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), N as u32, libc::MSG_DONTWAIT, ptr::null_mut()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    arena.messages.clear();
    arena.messages.extend(headers.iter().take(count).map(|header| {
        let len = (header.msg_len as usize).min(SLOT);
        (len, segment_size(&header.msg_hdr).unwrap_or(len).max(1))
    }));
    Ok(count)
}

/// The length of the packets that were joined into one message.
fn segment_size(message: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel filled the control buffer that the message leads to, and CMSG_FIRSTHDR checks its length.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        if header.is_null() || (*header).cmsg_level != libc::SOL_UDP || (*header).cmsg_type != libc::UDP_GRO {
            return None;
        }
        usize::try_from(libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned()).ok()
    }
}

/// Empties the error queue, so that it does not fill the receive buffer. Gives an error in it that ends the tunnel, if there is one: emptying
/// the queue also clears what a receive would have said.
pub fn drain_errors(socket: &UdpSocket) -> Option<io::Error> {
    let mut fatal = None;
    // More than a receive buffer holds: a bound, should the network be faster than this loop.
    for _ in 0..1024 {
        let mut control = Control([0; CONTROL]);
        // SAFETY: msghdr is plain data, for which zero is a value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL as _;
        // SAFETY: the control buffer is live and as long as stated; nothing else is asked for.
        if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) } < 0 {
            break;
        }
        fatal = queued_error(&message).filter(super::is_fatal).or(fatal);
    }
    fatal
}

fn queued_error(message: &libc::msghdr) -> Option<io::Error> {
    // SAFETY: the kernel filled the control buffer that the message leads to, and CMSG_FIRSTHDR checks its length; the buffer has room for a
    // whole sock_extended_err, of which errno is the first member.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        if header.is_null()
            || !matches!(
                ((*header).cmsg_level, (*header).cmsg_type),
                (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            )
        {
            return None;
        }
        let errno = libc::CMSG_DATA(header).cast::<u32>().read_unaligned();
        i32::try_from(errno).ok().map(io::Error::from_raw_os_error)
    }
}

/// Makes a socket fit for a tunnel: nothing is fragmented (C-69), ICMP errors are reported (C-68), packets are joined on receipt, and nothing is
/// marked ECN-capable, which is what a fresh socket does (C-71).
pub fn prepare_upstream(socket: &UdpSocket) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    // PROBE and not DO: the path's MTU is the business of the protocol inside, which finds it by its own losses; DF is set either way.
    if socket.local_addr()?.is_ipv4() {
        set(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
        set(fd, libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
    } else {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
    }
    match set(fd, libc::SOL_UDP, libc::UDP_GRO, 1) {
        // Before Linux 5.0: packets come one by one, which is slower and no less right.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

/// Packets that found the socket's receive buffer full, since it was made. A burst that came joined counts as one.
pub fn overrun(socket: &UdpSocket) -> u64 {
    // SO_MEMINFO gives nine counters, of which this is the last (since Linux 4.12; an older kernel says no, and nothing is known).
    let mut counters = [0_u32; 9];
    let mut len = size_of_val(&counters) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes of a live array.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, (&raw mut counters).cast(), &raw mut len) };
    if result == 0 { counters[8].into() } else { 0 }
}

/// Steers packets among the sockets of a reuseport group, of which `socket` is one: short headers and Handshake packets go to the socket whose
/// index (in the order of binding) stands in byte 1 of the connection ID, everything else by the kernel's hash.
pub fn steer_by_connection_id(socket: &UdpSocket, workers: u32) -> io::Result<()> {
    const BY_HASH: u32 = u32::MAX; // an index no group has
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, offset);
    // Offset 0 is the first byte of the UDP payload. A jump counts the instructions it skips: when true, when false.
    let mut program = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 9, 8), // shorter than what is read below: by hash
        load(0),
        op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 2, 0, 0x80), // a long header: look further
        load(2),                                                      // byte 1 of a short header's connection ID
        op(libc::BPF_JMP | libc::BPF_JA, 0, 0, 3),
        op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x30), // the long header's type
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 3, 0x20), // not Handshake: by hash
        load(7),                                                     // byte 1 of its connection ID
        op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, 0, workers),
        op(libc::BPF_RET | BPF_A, 0, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, BY_HASH),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, program)
}

/// Return what the accumulator holds; libc does not name it on every target.
const BPF_A: u32 = 0x10;

/// The CPUs this process may use, in order.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is plain data, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes at most the size given.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: CPU_ISSET reads within the set for every number below its size.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Keeps the calling thread on one CPU.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    // SAFETY: cpu_set_t is plain data, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the number is below the set's size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads the size given.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Raises the soft limit of open descriptors to the hard one, and gives it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

pub(super) fn set<T: Copy>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of a live value.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<T>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What [`set`] set.
#[cfg(test)]
pub(super) fn option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let (mut value, mut len): (libc::c_int, _) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `len` bytes of a live value.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
