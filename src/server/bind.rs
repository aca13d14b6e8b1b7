//! The sockets of all workers, bound before any of them starts.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use super::StartError;
use crate::{
    config::Config,
    listener::{quic, tcp},
};

/// One worker's sockets.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// One an address, unless HTTP/3 is off.
    pub(super) udp: Vec<UdpSocket>,
    /// One an address, unless only HTTP/3 is on.
    pub(super) tcp: Vec<TcpListener>,
}

/// What was bound.
pub(super) struct Bound {
    /// As configured, port 0 replaced.
    pub(super) addresses: Vec<SocketAddr>,
    /// In the order of workers.
    pub(super) workers: Vec<Sockets>,
    /// What is not as it was asked for.
    pub(super) warnings: Vec<String>,
}

/// How often another port is tried for port 0, when UDP's is taken on TCP.
const TRIES: usize = 16;

/// Binds every address for each of `workers`.
pub(super) fn bind_all(config: &Config, workers: usize) -> Result<Bound, StartError> {
    let mut bound = Bound { addresses: Vec::new(), workers: (0..workers).map(|_| Sockets::default()).collect(), warnings: Vec::new() };
    for asked in &config.listen {
        let addr = free(config, *asked)?;
        if config.http.h3 {
            bound.udp(config, addr).map_err(|source| StartError::Bind { protocol: "udp", addr, source })?;
        }
        if config.http.over_tcp() {
            bound.tcp(addr).map_err(|source| StartError::Bind { protocol: "tcp", addr, source })?;
        }
        bound.addresses.push(addr);
    }
    Ok(bound)
}

/// Looks once whether the address is free, since a shared port hides another process on it, and gives port 0 a number that UDP and TCP both have.
fn free(config: &Config, asked: SocketAddr) -> Result<SocketAddr, StartError> {
    let mut tries = TRIES;
    loop {
        let mut addr = asked;
        if config.http.h3 {
            let alone = quic::bind(addr, false).and_then(|socket| socket.local_addr());
            addr = alone.map_err(|source| StartError::Bind { protocol: "udp", addr, source })?;
        }
        if !config.http.over_tcp() {
            return Ok(addr);
        }
        match tcp::bind(addr, false).and_then(|socket| socket.local_addr()) {
            Ok(addr) => return Ok(addr),
            Err(error) if asked.port() == 0 && error.kind() == io::ErrorKind::AddrInUse && tries > 0 => tries -= 1,
            Err(source) => return Err(StartError::Bind { protocol: "tcp", addr, source }),
        }
    }
}

impl Bound {
    fn udp(&mut self, config: &Config, addr: SocketAddr) -> io::Result<()> {
        let count = self.workers.len();
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let socket = quic::bind(addr, count > 1)?;
            let warning = quic::ask_for_buffers(&socket, config.quic.socket_buffer)?;
            self.warnings.extend(warning.filter(|warning| !self.warnings.contains(warning)));
            if count > 1
                && number == count - 1
                && let Err(error) = quic::steer(&socket, count)
            {
                self.warnings.push(format!("connections cannot be kept with their worker when clients move: {error}"));
            }
            worker.udp.push(socket);
        }
        Ok(())
    }

    fn tcp(&mut self, addr: SocketAddr) -> io::Result<()> {
        let share_port = self.workers.len() > 1;
        for worker in &mut self.workers {
            worker.tcp.push(tcp::bind(addr, share_port)?);
        }
        Ok(())
    }
}
