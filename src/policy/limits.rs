//! Caps, counted across workers by guards.

use std::{net::IpAddr, sync::Arc};

/// The counts behind the caps; shared by all workers.
#[derive(Debug)]
pub struct Limits { /* private */ }

/// One of something counted, until dropped.
#[derive(Debug)]
#[must_use = "it counts only while this lives"]
pub struct Slot { /* private */ }

/// What a connection counts as.
#[derive(Debug)]
pub struct ConnectionSlots {
    /// One of all connections.
    pub connection: Slot,
    /// One of its source's unauthenticated ones; dropped at the first authenticated request.
    pub unauthenticated: Slot,
}

impl Limits {
    /// With the caps of the configuration.
    pub fn new(caps: &crate::config::Limits) -> Arc<Self> { todo!() }

    /// A connection from `source`, or the name of the cap that is reached. A source is an IPv4 address or an IPv6 /56.
    pub fn connection(self: &Arc<Self>, source: IpAddr) -> Result<ConnectionSlots, &'static str> { todo!() }

    /// A tunnel, or the name of the cap that is reached. (The cap per connection is kept by its session.)
    pub fn tunnel(self: &Arc<Self>) -> Result<Slot, &'static str> { todo!() }

    /// Open connections now.
    pub fn connections(&self) -> usize { todo!() }

    /// Open tunnels now.
    pub fn tunnels(&self) -> usize { todo!() }
}
