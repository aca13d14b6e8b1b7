//! Client certificates: who a client is by the one it shows, and which ones do not count.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use masque_relay::{
    certs::{
        facts::Facts,
        issue::{Authority, Pair},
    },
    probe::{self, Http, Options, ProbeError},
};
use rustls::{
    client::ResolvesClientCert,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tempfile::TempDir;

use crate::support::{Relay, TOKEN, USER, ends::assert_works, on_versions, tcp::TcpEcho, within};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A CA of clients.
struct Clients {
    authority: Authority,
    dir: TempDir,
    /// Nobody's time is over yet.
    now: SystemTime,
}

impl Clients {
    fn new() -> Self {
        // Long enough ago that what is issued for a day from then on is over.
        let now = UNIX_EPOCH + Duration::from_secs(UnixTime::now().as_secs());
        let authority = Authority::new("CA of clients", now - 30 * DAY).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        Self { authority, dir, now }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn alice(&self) -> Pair {
        self.authority.client("alice", DAY, self.now).unwrap()
    }

    /// A relay that takes them, and no token but that of [`USER`].
    async fn relay(&self) -> Relay {
        Relay::spawn(|config| config.access.client_ca = Some(self.file())).await
    }
}

fn leaf(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()
}

fn identity(pair: &Pair) -> Arc<dyn ResolvesClientCert> {
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    Arc::new(SingleCertAndKey::from(CertifiedKey::from_der(vec![leaf(pair)], key, &default_provider()).unwrap()))
}

/// Options of a client without a token that shows this.
fn showing(relay: &Relay, http: Http, pair: &Pair) -> Options {
    let mut options = relay.stranger();
    options.http = http;
    options.identity = Some(identity(pair));
    options
}

/// The status of a refused CONNECT.
async fn refused(relay: &Relay, options: Options, echo: &TcpEcho) -> u16 {
    let error = relay.open(options).await.connect_tcp(&echo.address().to_string()).await.unwrap_err();
    error.refused().unwrap_or_else(|| panic!("{error}")).status
}

/// The handshake ends with an alert, which over TCP a client sees behind its own end of it.
async fn assert_alerted(options: Options, echo: &TcpEcho) {
    let target = echo.address().to_string();
    let tried = async {
        let client = probe::Client::open(options).await?;
        let tunnel = client.connect_tcp(&target).await;
        client.shut().await;
        tunnel.map(drop)
    };
    let error: ProbeError = within("the alert", tried).await.unwrap_err();
    assert!(error.refused().is_none(), "{error}");
    assert_eq!(echo.accepted(), 0);
}

on_versions!(c46_a_client_certificate_counts_as_a_credential: h1 h2 h3);
async fn c46_a_client_certificate_counts_as_a_credential(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    let client = relay.open(showing(&relay, http, &clients.alice())).await;
    assert_works(&client, &echo).await;
    let line = relay.logged("tunnel closed").await;
    assert!(line.contains("alice"), "{line}");
    let record =
        serde_json::to_string(&relay.recorded("a record of alice", |record| format!("{record:?}").contains("alice")).await).unwrap();
    assert!(!record.contains("CERTIFICATE") && !record.contains("PRIVATE"), "{record}");

    // A token still counts.
    let mut options = relay.options();
    options.http = http;
    assert_works(&relay.open(options).await, &echo).await;
    relay.finish().await;
}

on_versions!(c46_without_certificate_or_token_there_is_407: h1 h2 h3);
async fn c46_without_certificate_or_token_there_is_407(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    let mut options = relay.stranger();
    options.http = http;
    assert_eq!(refused(&relay, options, &echo).await, 407);
    // Who says a token is judged by it, whatever else it has.
    let mut options = showing(&relay, http, &clients.alice());
    options.basic(USER, &format!("{TOKEN}x"));
    assert_eq!(refused(&relay, options, &echo).await, 407);
    relay.finish().await;
}

on_versions!(c46_a_certificate_of_another_ca_is_refused_in_the_handshake: h1 h2 h3);
async fn c46_a_certificate_of_another_ca_is_refused_in_the_handshake(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    assert_alerted(showing(&relay, http, &Clients::new().alice()), &echo).await;
    let line = relay.logged("the client's certificate is refused").await;
    assert!(line.contains("INFO") || line.contains("info"), "{line}");
    relay.finish().await;
}

on_versions!(c46_an_expired_certificate_is_refused_in_the_handshake: h1 h2 h3);
async fn c46_an_expired_certificate_is_refused_in_the_handshake(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    let expired = clients.authority.client("alice", DAY, clients.now - 10 * DAY).unwrap();
    assert_alerted(showing(&relay, http, &expired), &echo).await;
    let line = relay.logged("the client's certificate is refused").await;
    assert!(line.to_lowercase().contains("expired"), "{line}");
    relay.finish().await;
}

on_versions!(c46_a_revoked_certificate_gets_407: h1 h2 h3);
async fn c46_a_revoked_certificate_gets_407(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let (first, second, third) = (clients.alice(), clients.alice(), clients.alice());
    let facts = |pair| Facts::read(&leaf(pair)).unwrap();
    let relay = Relay::spawn(|config| {
        config.access.client_ca = Some(clients.file());
        let revoked = [facts(&first).sha256, facts(&second).serial];
        config.access.revoked = revoked.iter().map(|one| masque_relay::config::revocable(one).unwrap()).collect();
    })
    .await;
    for revoked in [&first, &second] {
        assert_eq!(refused(&relay, showing(&relay, http, revoked), &echo).await, 407);
        relay.logged("it is revoked").await;
    }
    assert_works(&relay.open(showing(&relay, http, &third)).await, &echo).await;
    relay.finish().await;
}

on_versions!(c46_a_resumed_session_keeps_its_certificate: h1 h2 h3);
async fn c46_a_resumed_session_keeps_its_certificate(http: Http) {
    let (clients, echo) = (Clients::new(), TcpEcho::start().await);
    let relay = clients.relay().await;
    let client = relay.open(showing(&relay, http, &clients.alice())).await;
    assert_works(&client, &echo).await;
    let tickets = client.options().tickets.clone();
    within("a session ticket", tickets.early_data(1)).await;
    let again = relay.open(client.again()).await;
    assert_eq!(tickets.taken(), 1, "resumption was tried");
    assert_works(&again, &echo).await;
    relay.finish().await;
}
