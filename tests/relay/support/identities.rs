//! Clients that are known by a certificate.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use masque_relay::{
    certs::issue::{Authority, Pair},
    probe::{Http, Options},
};
use rustls::{
    client::ResolvesClientCert,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tempfile::TempDir;

use super::{Relay, tcp::TcpEcho};

/// How long what is issued here lasts.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A CA of clients.
pub(crate) struct Clients {
    pub(crate) authority: Authority,
    dir: TempDir,
    /// Nobody's time is over yet.
    pub(crate) now: SystemTime,
}

impl Clients {
    pub(crate) fn new() -> Self {
        // Long enough ago that what is issued for a day from then on is over.
        let now = UNIX_EPOCH + Duration::from_secs(UnixTime::now().as_secs());
        let authority = Authority::new("CA of clients", now - 30 * DAY).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        Self { authority, dir, now }
    }

    /// Its certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn alice(&self) -> Pair {
        self.authority.client("alice", DAY, self.now).unwrap()
    }

    /// A relay that takes them, and no token but that of [`USER`].
    pub(crate) async fn relay(&self) -> Relay {
        Relay::spawn(|config| config.access.client_ca = Some(self.file())).await
    }
}

/// The certificate itself.
pub(crate) fn leaf(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()
}

fn identity(pair: &Pair) -> Arc<dyn ResolvesClientCert> {
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    Arc::new(SingleCertAndKey::from(CertifiedKey::from_der(vec![leaf(pair)], key, &default_provider()).unwrap()))
}

/// Options of a client without a token that shows this.
pub(crate) fn showing(relay: &Relay, http: Http, pair: &Pair) -> Options {
    let mut options = relay.stranger();
    options.http = http;
    options.identity = Some(identity(pair));
    options
}

/// The status of a refused CONNECT.
pub(crate) async fn refused(relay: &Relay, options: Options, echo: &TcpEcho) -> u16 {
    let error = relay.open(options).await.connect_tcp(&echo.address().to_string()).await.unwrap_err();
    error.refused().unwrap_or_else(|| panic!("{error}")).status
}
