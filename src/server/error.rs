//! Why a relay does not start, and what to do about it.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::{
    admin::AdminError,
    certs::{CertError, issue::IssueError},
    fault::Fault,
};

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {protocol} {addr}")]
    Bind {
        /// `udp` for HTTP/3, `tcp` for the others.
        protocol: &'static str,
        /// Which.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate cannot be served.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// Nobody could be refused, on an address others reach.
    #[error("cannot start: no token is configured, and {addr} can be reached from other machines")]
    OpenToAll {
        /// Which.
        addr: SocketAddr,
    },
    /// Faults are asked for, and not allowed.
    #[error("cannot start with the fault `{}`: this relay may not misbehave", faults.first().map(ToString::to_string).unwrap_or_default())]
    NoFaults {
        /// Those asked for.
        faults: Vec<Fault>,
    },
    /// The CA of bad certificates cannot be used.
    #[error(transparent)]
    Misfits(#[from] IssueError),
    /// The TLS library lacks what QUIC starts with.
    #[error("cannot set up QUIC's encryption")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The system's resolver configuration cannot be read.
    #[error("cannot read the system's DNS configuration")]
    Dns {
        /// Why.
        source: io::Error,
    },
    /// There is no admin socket.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The file for records cannot be opened.
    #[error("cannot open the file for records {}", path.display())]
    Records {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory for qlog files cannot be used.
    #[error("cannot use the directory for qlog files {}", path.display())]
    Qlog {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread or its runtime cannot be made.
    #[error("cannot start a worker")]
    Worker {
        /// Why.
        source: io::Error,
    },
}

impl StartError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { addr, source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(format!(
                "ports below 1024 need CAP_NET_BIND_SERVICE; or listen above, like `--listen {}`",
                SocketAddr::new(addr.ip(), 8443)
            )),
            Self::Bind { protocol, addr, source } if source.kind() == io::ErrorKind::AddrInUse => Some(format!(
                "`ss -l{}np 'sport = :{}'` shows who has it; another port is `--listen {}`",
                &protocol[..1],
                addr.port(),
                SocketAddr::new(addr.ip(), 0)
            )),
            Self::Bind { addr, source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Some(format!("no interface of this machine has {}; `ip address` lists those it has", addr.ip()))
            }
            Self::Certificate(error) => error.hint(),
            Self::OpenToAll { .. } => {
                Some("`masque-relay cert token` makes a token and its line of configuration; `access.client_ca` takes client certificates; `--open` lets everybody in".into())
            }
            Self::NoFaults { .. } => {
                Some("`--dev` lets it, and so does `allow = true` under `[fault]`; not where anybody depends on it".into())
            }
            Self::Misfits(error) => error.hint(),
            Self::Dns { .. } => Some("name the servers yourself: `dns.servers = [\"192.0.2.53:53\"]`".into()),
            Self::Admin(error) => error.hint(),
            Self::Records { .. } => Some("`log.records` names it; the user that runs the relay must be allowed to write there".into()),
            Self::Qlog { .. } => {
                Some("`--qlog` or `log.qlog` names it; the user that runs the relay must be allowed to write there".into())
            }
            Self::Bind { source, .. } | Self::Worker { source } if matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                Some("no descriptor is left: raise the limit (`LimitNOFILE=` of systemd, `ulimit -n`)".into())
            }
            Self::Bind { .. } | Self::Quic(_) | Self::Worker { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_descriptors_the_limit_is_named() {
        let worker = |errno| StartError::Worker { source: io::Error::from_raw_os_error(errno) };
        assert!(worker(libc::EMFILE).hint().unwrap().contains("ulimit -n"));
        assert_eq!(worker(libc::EPERM).hint(), None);
    }
}
