//! Whether the client may: credentials, then rules, then caps. The answer is a [`Permit`], and nothing dials without one.

pub mod limits;
pub mod rules;

use std::sync::Arc;

use crate::{config::{Config, Protocol}, proto::head::Head, refusal::Refusal, request::{Request, Target}};

use limits::{Limits, Slot};
use rules::Rules;

/// What is decided by the configuration, compiled. Swapped as a whole on reload.
#[derive(Debug)]
pub struct Policy { /* private */ }

/// Leave to reach one target. Only [`Policy::permit`] makes one.
#[derive(Debug)]
pub struct Permit {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where to.
    pub target: Target,
    /// Who asked.
    pub user: Arc<str>,
    /// Judges every address before it is dialled.
    pub rules: Arc<Rules>,
    /// The tunnel counts against the caps while this lives.
    pub slot: Slot,
}

impl Policy {
    /// Compiles the configuration. `own` are the relay's own listening addresses: never a target.
    pub fn new(config: &Config, own: Vec<std::net::SocketAddr>) -> Self { todo!() }

    /// Who sent this head: the user's name (`-` where access is open), or 407. In constant time for a given number of tokens.
    pub fn authenticate(&self, head: &Head) -> Result<Arc<str>, Refusal> { todo!() }

    /// Decides for a client that is known. Order: unsupported, rules on the target as named, caps.
    pub fn permit(&self, request: Request, user: Arc<str>, limits: &Arc<Limits>) -> Result<Permit, Refusal> { todo!() }
}
