//! Which descriptors and sockets this process has, by `/proc`.
//!
//! The relay under test lives in the test's own process. A socket whose *remote* address is a target's can only be the relay's: that holds
//! whatever else runs beside it. What is left over after the end is only judged where the process is the test's alone (nextest).

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{LazyLock, Mutex, PoisonError},
};

/// The descriptors of a moment: what each leads to, and how many lead there.
#[derive(Debug)]
pub(crate) struct Descriptors(BTreeMap<String, usize>);

/// A socket of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// `tcp` or `udp`.
    pub(crate) protocol: &'static str,
    /// Where it is bound.
    pub(crate) local: SocketAddr,
    /// Where it is connected to; unspecified if it is not.
    pub(crate) remote: SocketAddr,
    /// The kernel's number for it.
    inode: u64,
}

/// What belongs to the fixture and what to the relay, where addresses tell it.
pub(crate) struct Own {
    /// The scripted name server.
    pub(crate) dns: SocketAddr,
    /// Where the relay listened.
    pub(crate) relay: Vec<SocketAddr>,
}

impl Descriptors {
    /// Now.
    pub(crate) fn now() -> Self {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir("/proc/self/fd").expect("Linux has /proc").flatten() {
            // The descriptor of this very listing is closed by the time it is asked for, or leads back to it.
            if let Ok(link) = fs::read_link(entry.path()) {
                let link = link.to_string_lossy().into_owned();
                // Timers of their own have the emulated paths alone: the relay's are its runtime's.
                if !link.ends_with("/fd") && link != "anon_inode:[timerfd]" {
                    *found.entry(link).or_default() += 1;
                }
            }
        }
        Self(found)
    }

    /// What is open now, was not then, and is the relay's; each in words.
    pub(crate) fn left_over(&self, own: &Own) -> Vec<String> {
        let sockets = sockets();
        let mut left = Vec::new();
        for (link, count) in Self::now().0 {
            let more = count.saturating_sub(self.0.get(&link).copied().unwrap_or_default());
            let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse::<u64>().ok());
            let socket = inode.and_then(|inode| sockets.iter().find(|socket| socket.inode == inode));
            if more > 0 && socket.is_none_or(|socket| !socket.is_the_fixtures(own)) {
                left.push(format!("{more} × {link} {socket:?}"));
            }
        }
        left
    }
}

impl Socket {
    /// Targets are known by their ports, clients by being UDP, unconnected and not on the relay's port, or TCP and
    /// connected to it.
    fn is_the_fixtures(&self, own: &Own) -> bool {
        let target = TARGETS.lock().unwrap_or_else(PoisonError::into_inner).contains(&self.local.port());
        let unconnected = self.protocol == "udp" && self.remote.port() == 0;
        let is_relay = |address: SocketAddr| own.relay.iter().any(|relay| relay.port() == address.port());
        let client = self.protocol == "tcp" && is_relay(self.remote);
        self.local == own.dns || target || client || unconnected && !is_relay(self.local)
    }
}

/// Whether this process runs one test only, so that every descriptor of the relay's is this test's.
pub(crate) fn alone() -> bool {
    std::env::var("NEXTEST_EXECUTION_MODE").as_deref() == Ok("process-per-test")
}

/// Bytes of memory this process has.
pub(crate) fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of KiB") << 10
}

/// Notes that `address` is a target's.
pub(crate) fn is_target(address: SocketAddr) {
    TARGETS.lock().unwrap_or_else(PoisonError::into_inner).insert(address.port());
}

/// The sockets of this process that are connected to `target`: the relay's.
pub(crate) fn towards(target: SocketAddr) -> Vec<Socket> {
    let own = Descriptors::now();
    // What fills a black hole is connected to it too.
    let targets = TARGETS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = sockets();
    found.retain(|socket| {
        let relay = socket.remote == target && !targets.contains(&socket.local.port());
        relay && own.0.contains_key(&format!("socket:[{}]", socket.inode))
    });
    found
}

/// Waits until no socket is connected to `target` any more.
pub(crate) async fn none_towards(target: SocketAddr) {
    super::until(&format!("the sockets towards {target} to be closed"), || towards(target), Vec::is_empty).await;
}

/// Ports of targets.
static TARGETS: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// Every socket of this network namespace.
fn sockets() -> Vec<Socket> {
    let mut found = Vec::new();
    for (file, protocol) in [("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")] {
        let text = fs::read_to_string(format!("/proc/self/net/{file}")).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            Some(Socket {
                protocol,
                local: address(columns.get(1)?)?,
                remote: address(columns.get(2)?)?,
                inode: columns.get(9)?.parse().ok()?,
            })
        }));
    }
    found
}

/// `0100007F:1F90`: 32-bit words in the machine's order, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words = (0..ip.len()).step_by(8).map(|at| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok());
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}
