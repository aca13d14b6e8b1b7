//! Relays with faults, all on one set of certificates, before one echo.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use masque_relay::{
    certs::issue::Authority,
    cli::echo::Echo,
    config::{Certificate, Config, Token},
    doctor::{Limits, Plan, Report, Target, examine},
    fault::Fault,
    probe::Http,
    server::Server,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;

/// What they share.
pub(crate) struct Rig {
    files: TempDir,
    echo: Echo,
    root: CertificateDer<'static>,
    now: SystemTime,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let (files, now) = (tempfile::tempdir().expect("a directory"), now());
        let authority = Authority::new("masque-relay test CA", now).expect("a CA");
        let leaf = authority.server(&["relay.test".into()], Duration::from_secs(90 * 24 * 3600), now).expect("a leaf");
        let write = |name: &str, text: &str| fs::write(files.path().join(name), text).expect("a temporary file");
        write("ca.pem", authority.pem());
        write("ca.key", &authority.key_pem());
        write("chain.pem", &leaf.chain);
        write("key.pem", &leaf.key);
        let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
        Self { files, echo: Echo::start().await.expect("an echo"), root, now }
    }

    /// A relay with these faults, seen over these versions.
    pub(crate) async fn examine(&self, faults: &[Fault], versions: &[Http]) -> Report {
        let server = Server::start(self.config(faults)).expect("the relay starts");
        let report = examine(&self.plan(server.addresses(), versions)).await;
        server.drain(Duration::ZERO).await;
        report
    }

    pub(crate) async fn finish(self) {
        self.echo.finish().await;
    }

    fn config(&self, faults: &[Fault]) -> Config {
        let mut config = Config { listen: vec![(Ipv4Addr::LOCALHOST, 0).into()], ..Config::default() };
        config.certificate = Certificate { chain: self.file("chain.pem"), key: self.file("key.pem") };
        config.access.tokens = vec![Token::new("user", "secret")];
        config.rules.allow_private = true;
        config.fault.allow = true;
        config.fault.on = faults.to_vec();
        config.fault.authority = Some(Certificate { chain: self.file("ca.pem"), key: self.file("ca.key") });
        config
    }

    fn plan(&self, addresses: &[SocketAddr], versions: &[Http]) -> Plan {
        let mut plan = Plan::new(&format!("https://relay.test:{}", addresses[0].port()), self.now).expect("a URL");
        plan.addresses = addresses.to_vec();
        plan.versions = versions.to_vec();
        plan.roots = vec![self.root.clone()];
        plan.fields = vec![("proxy-authorization".into(), "Bearer secret".into())];
        plan.tcp = Some(Target::parse(&self.echo.tcp.to_string()).expect("an address"));
        plan.udp = Some(Target::parse(&self.echo.udp.to_string()).expect("an address"));
        // Whatever certificate is shown: it is this relay's.
        plan.trusting = true;
        plan.limits = Limits {
            handshake: Duration::from_secs(3),
            flight: Duration::from_secs(1),
            settings: Duration::from_secs(3),
            answer: Duration::from_secs(4),
            stall: Duration::from_secs(2),
            quiet: Duration::from_millis(1200),
            bulk: 192 << 10,
        };
        plan
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates made now are judged now")]
fn now() -> SystemTime {
    SystemTime::now()
}
