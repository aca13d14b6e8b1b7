//! Certificates: load and check them, and make them (`issue`).

pub mod issue;

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use crate::config::Certificate;

/// A certificate chain with its key, read and understood.
#[derive(Debug)]
pub struct Identity { /* private: chain, key, leaf facts */ }

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file cannot be read.
    #[error("cannot read the certificate {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    // … the key; no certificate in the file; no key in the file; a certificate that does not parse; key and certificate do not match;
    // expired; not yet valid; no name in the SAN.
}

impl CertError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> { todo!() }
}

impl Identity {
    /// Reads chain and key and checks that they fit. Dates are [`Self::check`]'s.
    pub fn load(files: &Certificate) -> Result<Self, CertError> { todo!() }

    /// Refuses an expired, not yet valid or nameless leaf.
    pub fn check(&self, now: SystemTime) -> Result<(), CertError> { todo!() }

    /// DNS names and addresses of the leaf's SAN, in order.
    pub fn names(&self) -> &[String] { todo!() }

    /// The TLS side of QUIC: TLS 1.3 only, ALPN `h3`, AES-128-GCM first, X25519MLKEM768 allowed, tickets by one shared ticketer, no 0-RTT.
    pub fn tls(&self) -> Result<Arc<rustls::ServerConfig>, CertError> { todo!() }

    /// 64 bytes derived from the private key (HKDF-SHA256, `info` as label): keys that survive a restart and differ from the TLS key.
    pub fn derive_key(&self, info: &str) -> [u8; 64] { todo!() }
}
