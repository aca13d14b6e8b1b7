//! The fixture: a relay of its own for every test, on port 0, with a CA of its own.
//!
//! ```text
//! let relay = Relay::spawn(|config| config.timeouts.head = Duration::from_millis(300)).await;
//! let client = relay.client().await;
//! …
//! relay.finish().await;
//! ```
//!
//! [`Relay::finish`] closes the clients, drains the relay and fails the test where a tunnel, a gauge, a thread, a socket or a descriptor is left
//! over, or where a task of the relay panicked. The relay's log is printed when the test fails.

pub(crate) mod client;
pub(crate) mod descriptors;
pub(crate) mod dns;
pub(crate) mod h2;
pub(crate) mod identities;
pub(crate) mod log;
pub(crate) mod namespace;
#[path = "../path/emulator.rs"]
#[expect(dead_code, reason = "these tests need less of it than those of the paths")]
pub(crate) mod path;
pub(crate) mod process;
pub(crate) mod request;
pub(crate) mod siege;
pub(crate) mod tap;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod tunnels;
pub(crate) mod udp;
pub(crate) mod versions;
pub(crate) mod via;

use std::{
    fmt::Debug,
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use masque_relay::{
    config::{Config, Token},
    diagnosis::Record,
    fault::Faults,
    metrics::Snapshot,
    probe::{Http, Options},
    server::{Counters, Reload, Server},
};
use tokio::time::{interval, timeout};

pub(crate) use client::Client;
use client::Closers;
use descriptors::Descriptors;
use dns::ScriptedDns;
pub(crate) use versions::on_versions;

/// The one user of every relay here.
pub(crate) const USER: &str = "user";

/// Its token.
pub(crate) const TOKEN: &str = "secret";

/// The DNS name the relay's certificate carries, beside 127.0.0.1 and ::1.
pub(crate) const NAME: &str = "relay.test";

/// No wait in a test is longer. A test has ten seconds in all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A running relay and what belongs to it.
pub(crate) struct Relay {
    /// Answers the relay's questions about names: NXDOMAIN for all that is not scripted.
    pub(crate) dns: ScriptedDns,
    server: Option<Server>,
    counters: Counters,
    addresses: Vec<SocketAddr>,
    ca: String,
    /// [`Self::finish`] was called.
    finished: bool,
    /// Lines of the log before it started.
    log_start: usize,
    before: Descriptors,
    /// As it was started.
    config: Config,
    /// Closed at the end, so that a test need not drop what it holds.
    clients: Closers,
    files: tempfile::TempDir,
}

impl Relay {
    /// Starts a relay on 127.0.0.1; `change` gets its configuration first. Private targets are allowed, the one user is [`USER`].
    pub(crate) async fn spawn(change: impl FnOnce(&mut Config)) -> Self {
        Self::spawn_at(&[Ipv4Addr::LOCALHOST.into()], change).await
    }

    /// The same on 127.0.0.1 and ::1, in this order.
    pub(crate) async fn spawn_dual(change: impl FnOnce(&mut Config)) -> Self {
        Self::spawn_at(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], change).await
    }

    async fn spawn_at(addresses: &[IpAddr], change: impl FnOnce(&mut Config)) -> Self {
        let log_start = log::capture();
        let before = Descriptors::now();
        let dns = ScriptedDns::start().await;
        let files = tempfile::tempdir().expect("a directory for the certificate");
        let identity = identity(&[NAME, "127.0.0.1", "::1"]);

        let mut config = Config { listen: addresses.iter().map(|ip| SocketAddr::new(*ip, 0)).collect(), ..Config::default() };
        config.certificate.chain = written(files.path(), "chain.pem", &identity.chain);
        config.certificate.key = written(files.path(), "key.pem", &identity.key);
        // Bad certificates are of the same CA.
        let authority = [("ca.pem", &identity.ca), ("ca.key", &identity.ca_key)].map(|(name, text)| written(files.path(), name, text));
        config.fault.authority = Some(masque_relay::config::Certificate { chain: authority[0].clone(), key: authority[1].clone() });
        // Every version, as the tests are of all of them.
        config.http.h1 = true;
        config.access.tokens = vec![token(USER, TOKEN)];
        config.rules.allow_private = true;
        config.dns.servers = vec![dns.address()];
        change(&mut config);

        let server = Server::start(config.clone()).expect("the relay starts");
        let addresses = server.addresses().to_vec();
        Self {
            dns,
            counters: server.counters(),
            server: Some(server),
            addresses,
            ca: identity.ca,
            log_start,
            finished: false,
            before,
            config,
            clients: Closers::default(),
            files,
        }
    }

    /// Where it listens, first address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where its certificate `chain.pem` and its `key.pem` lie.
    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }

    /// The CA of its certificate, PEM.
    pub(crate) fn ca(&self) -> &str {
        &self.ca
    }

    /// Options for a client of this relay: the CA trusted, the credentials added.
    pub(crate) fn options(&self) -> Options {
        let mut options = self.stranger();
        options.basic(USER, TOKEN);
        options
    }

    /// The same without credentials.
    pub(crate) fn stranger(&self) -> Options {
        let mut options = Options::new(self.address(), NAME);
        options.trust_pem(self.ca.as_bytes()).expect("the CA just made");
        options.timeout = PATIENCE;
        options.patience = Some(PATIENCE);
        options
    }

    /// A connected client with credentials.
    pub(crate) async fn client(&self) -> Client {
        self.client_with(|_| {}).await
    }

    /// The same over one version of HTTP; that over TCP is on the port of the same number.
    pub(crate) async fn client_over(&self, http: Http) -> Client {
        self.client_with(|options| options.http = http).await
    }

    /// The same without credentials.
    pub(crate) async fn stranger_over(&self, http: Http) -> Client {
        let mut options = self.stranger();
        options.http = http;
        self.open(options).await
    }

    /// One with credentials, its options changed first.
    pub(crate) async fn client_with(&self, change: impl FnOnce(&mut Options)) -> Client {
        let mut options = self.options();
        change(&mut options);
        self.open(options).await
    }

    /// A client with options made elsewhere.
    pub(crate) async fn open(&self, options: Options) -> Client {
        Client::open(options, self.clients.clone()).await.expect("the relay takes a connection")
    }

    /// How it misbehaves; to be changed where `fault.allow` is on.
    pub(crate) fn faults(&self) -> &Faults {
        self.server.as_ref().expect("it runs").faults()
    }

    /// What changes it while it runs.
    pub(crate) fn reload(&self) -> Reload {
        self.server.as_ref().expect("it runs").reload()
    }

    /// Has it read the configuration it was started with again, which somebody has changed.
    pub(crate) fn reread(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self.config.clone();
        change(&mut config);
        self.reload().load(config, now()).expect("a good configuration");
    }

    /// The lines the relay has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        log::lines(self.log_start)
    }

    /// Waits for a line of the relay's log that contains `needle`.
    pub(crate) async fn logged(&self, needle: &str) -> String {
        within(&format!("a log line with {needle:?}"), log::line(self.log_start, needle)).await
    }

    /// The relay's counters now.
    pub(crate) fn metrics(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// Connections, tunnels and places under caps that are taken now.
    pub(crate) fn still_open(&self) -> u64 {
        self.counters.open()
    }

    /// Each worker's counters now.
    pub(crate) fn workers(&self) -> Vec<Snapshot> {
        self.counters.by_worker()
    }

    /// The records of connections now.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.server.as_ref().map(Server::records).unwrap_or_default()
    }

    /// Waits for a record of which this holds.
    pub(crate) async fn recorded(&self, what: &str, right: impl Fn(&Record) -> bool) -> Record {
        until(what, || self.records(), |records| records.iter().any(&right)).await;
        self.records().into_iter().find(&right).expect("just seen, and what is right of a record stays so")
    }

    /// The server itself, to drain it in the middle of a test; nothing but [`Self::finish`] is of use afterwards.
    pub(crate) fn take_server(&mut self) -> Server {
        self.server.take().expect("it is taken once")
    }

    /// Ends everything and fails if something is left over.
    pub(crate) async fn finish(mut self) {
        self.stop().await;
        let own = descriptors::Own { dns: self.dns.address(), relay: self.addresses.clone() };
        if descriptors::alone() {
            until("the relay's descriptors to be closed", || self.before.left_over(&own), Vec::is_empty).await;
        }
    }

    /// The same but for descriptors: those of another relay that goes on beside it cannot be told from its own.
    pub(crate) async fn stop(&mut self) {
        self.finished = true;
        self.clients.close();
        if let Some(server) = self.server.take() {
            // Without the drain's help: nothing keeps a connection or a tunnel that its client has given up.
            until("connections and tunnels to be over", || self.counters.open(), |open| *open == 0).await;
            let cut = within("the relay to drain", server.drain(PATIENCE / 2)).await;
            assert_eq!(cut, 0, "tunnels outlived their client");
        }
        assert_eq!(self.counters.open(), 0, "a gauge or a cap counts something: {:#?}", self.counters);
        let panics = log::panics();
        assert!(panics.is_empty(), "the relay panicked: {panics:#?}");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::print(self.log_start);
            return;
        }
        assert!(self.finished, "the test did not call Relay::finish");
    }
}

/// Runs `future` for at most [`PATIENCE`]; fails the test for `what` otherwise.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    // Boxed: what a test waits for may be a large future.
    timeout(PATIENCE, Box::pin(future)).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for {what}"))
}

/// Looks again and again until what is seen is `right`, where there is no event to wait for; fails with what was seen last.
pub(crate) async fn until<T: Debug>(what: &str, mut look: impl FnMut() -> T, right: impl Fn(&T) -> bool) {
    let mut ticks = interval(Duration::from_millis(5));
    let mut seen = look();
    let wait = async {
        while !right(&seen) {
            ticks.tick().await;
            seen = look();
        }
    };
    let came = timeout(PATIENCE, wait).await.is_ok();
    assert!(came, "waited {PATIENCE:?} in vain for {what}: {seen:#?}");
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "certificates made now are judged now")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// A token as the configuration holds it.
pub(crate) fn token(user: &str, token: &str) -> Token {
    let sha256 = digest::digest(&digest::SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes");
    Token { user: user.into(), sha256 }
}

/// PEM texts of a CA and of a leaf it issued.
pub(crate) struct Identity {
    ca: String,
    ca_key: String,
    /// The leaf.
    pub(crate) chain: String,
    /// Its key.
    pub(crate) key: String,
}

/// Made without the relay's own code for it, so that a fault there shows.
pub(crate) fn identity(names: &[&str]) -> Identity {
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "masque-relay test CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let (ca_pem, ca_key_pem) = (ca.self_signed(&ca_key).expect("a CA").pem(), ca_key.serialize_pem());
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().expect("a key");
    let mut leaf = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let chain = leaf.signed_by(&key, &issuer).expect("a leaf").pem();
    Identity { ca: ca_pem, ca_key: ca_key_pem, chain, key: key.serialize_pem() }
}

pub(crate) fn written(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a temporary file");
    path
}
