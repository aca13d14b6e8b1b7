//! Rules on where a client may go, compiled from the configuration, and the addresses no relay should reach by itself.

use std::net::SocketAddr;

use crate::{config::Protocol, refusal::Refusal, request::Target};

/// Compiled rules. They judge twice: the target as named, before DNS, and every address, after it.
#[derive(Debug)]
pub struct Rules { /* private */ }

impl Rules {
    /// Compiles; `own` are the relay's own listening addresses.
    pub fn new(rules: &crate::config::Rules, own: Vec<SocketAddr>) -> Self { todo!() }

    /// Before DNS: what can be said by name, port and protocol alone.
    pub fn judge_target(&self, protocol: Protocol, target: &Target) -> Result<(), Refusal> { todo!() }

    /// After DNS: one address the target resolved to (or is). The first matching rule decides; then the special-purpose blocks.
    pub fn judge_address(&self, protocol: Protocol, target: &Target, address: SocketAddr) -> Result<(), Refusal> { todo!() }
}
