//! Relays with faults, all on one set of certificates, before one echo.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread::{self, JoinHandle},
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
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What they share.
pub(crate) struct Rig {
    files: TempDir,
    /// On a thread of its own: it must not lose packets because this one is busy.
    echo: JoinHandle<()>,
    /// Several, so that the packets of two dozen relays find room.
    targets: Vec<(Target, Target)>,
    next: AtomicUsize,
    stop: CancellationToken,
    drains: TaskTracker,
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
        let stop = CancellationToken::new();
        let (echo, targets) = echo(stop.clone()).await;
        Self { files, echo, targets, next: AtomicUsize::new(0), stop, drains: TaskTracker::new(), root, now }
    }

    /// A relay with these faults, seen over these versions.
    pub(crate) async fn examine(&self, faults: &[Fault], versions: &[Http]) -> Report {
        self.examine_with(faults, versions, |_| {}).await
    }

    /// The same with another plan.
    pub(crate) async fn examine_with(&self, faults: &[Fault], versions: &[Http], change: impl FnOnce(&mut Plan)) -> Report {
        let config = self.config(faults);
        // It waits for its threads; the others go on meanwhile.
        let started = tokio::task::spawn_blocking(|| Server::start(config));
        let server = started.await.expect("it does not panic").expect("the relay starts");
        let mut plan = self.plan(server.addresses(), versions);
        change(&mut plan);
        let report = Box::pin(examine(&plan)).await;
        // Its clients have gone; the last packets to them are not waited for here.
        self.drains.spawn(async move { server.drain(Duration::ZERO).await });
        report
    }

    /// Waits until every relay is gone.
    pub(crate) async fn finish(self) {
        self.drains.close();
        self.drains.wait().await;
        self.stop.cancel();
        self.echo.join().expect("the echo does not panic");
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
        let (tcp, udp) = self.targets[self.next.fetch_add(1, Relaxed) % ECHOES].clone();
        (plan.tcp, plan.udp) = (Some(tcp), Some(udp));
        // Whatever certificate is shown: it is this relay's.
        plan.trusting = true;
        plan.limits = Limits {
            handshake: Duration::from_secs(3),
            flight: Duration::from_secs(1),
            settings: Duration::from_millis(2500),
            answer: Duration::from_secs(3),
            stall: Duration::from_secs(2),
            quiet: Duration::from_millis(1200),
            bulk: 80 << 10,
        };
        plan
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }
}

/// Echoes, and where they are.
async fn echo(stop: CancellationToken) -> (JoinHandle<()>, Vec<(Target, Target)>) {
    let (started, addresses) = oneshot::channel();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut echoes = Vec::new();
            for _ in 0..ECHOES {
                echoes.push(Echo::start().await.expect("an echo"));
            }
            let target = |address: SocketAddr| Target::parse(&address.to_string()).expect("an address");
            started.send(echoes.iter().map(|echo| (target(echo.tcp), target(echo.udp))).collect()).expect("somebody waits for it");
            stop.cancelled().await;
            for echo in echoes {
                echo.finish().await;
            }
        });
    });
    (thread, addresses.await.expect("the echo starts"))
}

#[expect(clippy::disallowed_methods, reason = "certificates made now are judged now")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// As many as are examined at once, or nearly.
const ECHOES: usize = 16;
