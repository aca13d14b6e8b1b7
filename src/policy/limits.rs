//! Caps, counted across workers by guards.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The counts behind the caps; shared by all workers.
#[derive(Debug)]
pub struct Limits {
    connections: Count,
    tunnels: Count,
    per_source: usize,
    /// Only sources with a connection that counts: never more entries than connections.
    sources: Mutex<HashMap<Source, usize>>,
}

/// One of something counted, until dropped.
#[derive(Debug)]
#[must_use = "it counts only while this lives"]
pub struct Slot {
    limits: Arc<Limits>,
    of: Counted,
}

/// What a connection counts as.
#[derive(Debug)]
pub struct ConnectionSlots {
    /// One of its source's unauthenticated ones; dropped at the first authenticated request.
    pub unauthenticated: Slot,
    /// One of all connections.
    pub connection: Slot,
}

impl Limits {
    /// With the caps of the configuration.
    pub fn new(caps: &crate::config::Limits) -> Arc<Self> {
        Arc::new(Self {
            connections: Count { now: AtomicUsize::new(0), most: caps.connections },
            tunnels: Count { now: AtomicUsize::new(0), most: caps.tunnels },
            per_source: caps.unauthenticated_per_source,
            sources: Mutex::default(),
        })
    }

    /// A connection from `source`, or the name of the cap that is reached. A source is an IPv4 address or an IPv6 /56.
    pub fn connection(self: &Arc<Self>, source: IpAddr) -> Result<ConnectionSlots, &'static str> {
        let connection = self.slot(Counted::Connection).ok_or("connections")?;
        let unauthenticated = self.slot(Counted::Unauthenticated(Source::of(source))).ok_or("unauthenticated connections of one source")?;
        Ok(ConnectionSlots { unauthenticated, connection })
    }

    /// A tunnel, or the name of the cap that is reached. (The cap per connection is kept by its session.)
    pub fn tunnel(self: &Arc<Self>) -> Result<Slot, &'static str> {
        self.slot(Counted::Tunnel).ok_or("tunnels")
    }

    /// Open connections now.
    pub fn connections(&self) -> usize {
        self.connections.now.load(Relaxed)
    }

    /// Open tunnels now.
    pub fn tunnels(&self) -> usize {
        self.tunnels.now.load(Relaxed)
    }

    /// Slots held now, of every kind.
    pub fn held(&self) -> usize {
        self.connections() + self.tunnels() + self.sources().values().sum::<usize>()
    }

    fn slot(self: &Arc<Self>, of: Counted) -> Option<Slot> {
        let room = match of {
            Counted::Connection => self.connections.take(),
            Counted::Tunnel => self.tunnels.take(),
            Counted::Unauthenticated(source) => self.take_source(source),
        };
        room.then(|| Slot { limits: Arc::clone(self), of })
    }

    fn take_source(&self, source: Source) -> bool {
        if self.per_source == 0 {
            return false;
        }
        let mut sources = self.sources();
        let count = sources.entry(source).or_insert(0);
        let room = *count < self.per_source;
        *count += usize::from(room);
        room
    }

    fn give_source(&self, source: Source) {
        if let Entry::Occupied(mut entry) = self.sources().entry(source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        // A count is whole between any two statements, so a panic elsewhere does not spoil it.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        match self.of {
            Counted::Connection => self.limits.connections.give(),
            Counted::Tunnel => self.limits.tunnels.give(),
            Counted::Unauthenticated(source) => self.limits.give_source(source),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Counted {
    Connection,
    Tunnel,
    Unauthenticated(Source),
}

/// What one subscriber usually holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4(Ipv4Addr),
    /// The /56.
    V6([u8; 7]),
}

impl Source {
    /// An IPv4-mapped address is how a dual-stack socket shows an IPv4 client.
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let octets = address.octets();
                Self::V6(*octets.first_chunk().expect("16 bytes begin with 7"))
            }
        }
    }
}

#[derive(Debug)]
struct Count {
    now: AtomicUsize,
    most: usize,
}

impl Count {
    fn take(&self) -> bool {
        self.now.fetch_update(Relaxed, Relaxed, |now| (now < self.most).then_some(now + 1)).is_ok()
    }

    fn give(&self) {
        self.now.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize, tunnels: usize, unauthenticated_per_source: usize) -> Arc<Limits> {
        Limits::new(&crate::config::Limits { connections, tunnels, unauthenticated_per_source, ..Default::default() })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_slot_is_given_and_the_next_is_not() {
        let limits = limits(2, 1, 9);
        let tunnel = limits.tunnel().unwrap();
        assert_eq!(limits.tunnel().unwrap_err(), "tunnels");
        let first = limits.connection(ip("192.0.2.1")).unwrap();
        let second = limits.connection(ip("192.0.2.2")).unwrap();
        assert_eq!(limits.connection(ip("192.0.2.3")).unwrap_err(), "connections");
        assert_eq!((limits.connections(), limits.tunnels()), (2, 1));

        drop((tunnel, first, second));
        assert_eq!((limits.connections(), limits.tunnels()), (0, 0));
        assert!(limits.tunnel().is_ok() && limits.connection(ip("192.0.2.3")).is_ok());
    }

    #[test]
    fn a_source_counts_only_what_has_not_authenticated() {
        let limits = limits(9, 9, 1);
        let ConnectionSlots { unauthenticated, connection: _held } = limits.connection(ip("192.0.2.1")).unwrap();
        assert_eq!(limits.connection(ip("192.0.2.1")).unwrap_err(), "unauthenticated connections of one source");
        assert_eq!(limits.connections(), 1, "a refused connection does not count");
        assert!(limits.connection(ip("192.0.2.2")).is_ok());

        drop(unauthenticated);
        assert!(limits.connection(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_56() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:0:100::1", "2001:db8:0:1ff:ffff::2", true),
            ("2001:db8:0:100::1", "2001:db8:0:200::1", false),
        ] {
            let limits = limits(9, 9, 1);
            let _held = limits.connection(ip(one)).unwrap();
            assert_eq!(limits.connection(ip(other)).is_err(), same, "{one} {other}");
        }
    }

    #[test]
    fn the_table_of_sources_forgets_what_is_gone() {
        let limits = limits(1_000, 9, 2);
        let held: Vec<_> = (0..1_000_u32).map(|n| limits.connection(Ipv4Addr::from(n).into()).unwrap()).collect();
        assert_eq!(limits.sources().len(), 1_000);
        assert!(limits.connection(ip("203.0.113.1")).is_err());
        assert_eq!(limits.sources().len(), 1_000, "a refused connection leaves no entry");
        drop(held);
        assert!(limits.sources().is_empty());
    }

    #[test]
    fn a_cap_of_zero_lets_nobody_in() {
        assert!(limits(1, 0, 1).tunnel().is_err());
        let limits = limits(1, 1, 0);
        assert!(limits.connection(ip("192.0.2.1")).is_err());
        assert!(limits.sources().is_empty());
    }
}
