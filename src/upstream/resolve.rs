//! Names to addresses, with the rcode kept for Proxy-Status.

use std::{net::IpAddr, time::Duration};

use crate::refusal::Refusal;

/// A caching resolver; one per worker, since its connections live on the worker's runtime.
#[derive(Debug)]
pub struct Resolver { /* private */ }

impl Resolver {
    /// With the configured servers, or the system's. Must be called on the runtime that will use it.
    pub fn new(dns: &crate::config::Dns, timeout: Duration) -> std::io::Result<Self> { todo!() }
}
