//! Where it goes: a [`Permit`] becomes a connected socket. Names are resolved once, every address is vetted, and the vetted address is dialled.

pub mod resolve;

use std::{net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use crate::{policy::Permit, refusal::Refusal};
use resolve::Resolver;

/// Connects permits to targets. One per worker.
#[derive(Debug)]
pub struct Dialer { /* private: Resolver, dns time-out, connect time-out */ }

impl Dialer {
    /// With these budgets.
    pub fn new(resolver: Resolver, dns: Duration, connect: Duration) -> Self { todo!() }

    /// Connects by Happy Eyeballs (RFC 8305). Cancelled by dropping. TCP_NODELAY is set.
    pub async fn tcp(&self, permit: &Permit) -> Result<(TcpStream, SocketAddr), Refusal> { todo!() }

    /// A UDP socket connected to the first allowed address that has a route: DF set, Not-ECT, ICMP errors reported, non-blocking.
    pub async fn udp(&self, permit: &Permit) -> Result<(std::net::UdpSocket, SocketAddr), Refusal> { todo!() }
}
