use std::{
    fs,
    io::Write,
    net::TcpStream,
    sync::{Arc, Mutex},
};

use rustls::{
    ClientConfig, ClientConnection,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tempfile::TempDir;
use tokio::time::sleep;

use super::*;
use crate::{
    certs::issue::{Authority, Pair},
    config::Certificate,
    probe::Judge,
};

#[test]
fn the_url_is_the_first_name_with_the_first_port() {
    let address: SocketAddr = "[::]:4433".parse().unwrap();
    for (names, want) in [
        (&["relay.example", "192.0.2.7"][..], "https://relay.example:4433"),
        (&["192.0.2.7"], "https://192.0.2.7:4433"),
        (&["2001:db8::7"], "https://[2001:db8::7]:4433"),
        (&["*.example", "a.example"], "https://a.example:4433"),
        (&["*.example"], "https://[::]:4433"),
    ] {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(url(&names, address), want);
        assert_eq!(ready(&names, &[address, "127.0.0.1:9".parse().unwrap()]), format!("ready {want}\n"));
    }
}

#[test]
fn every_tunnel_and_every_worker_needs_descriptors() {
    let config = Config { workers: 2, ..Config::default() };
    let base = descriptors(&config);
    let mut more = config.clone();
    more.limits.tunnels += 1;
    assert_eq!(descriptors(&more), base + 1);
    let more = Config { workers: 3, ..config };
    assert_eq!(descriptors(&more), base + 9);
}

/// The clock is paused: ten seconds pass whenever everybody waits. The relay's own threads have clocks of theirs.
#[tokio::test(start_paused = true)]
async fn c80_files_that_change_are_served_without_a_signal_and_bad_ones_are_told_of_once() {
    let said = Said::default();
    let _listening = said.listen();
    let files = Files::new();
    let first = files.renew();
    let config = Config { listen: vec!["127.0.0.1:0".parse().unwrap()], certificate: files.certificate.clone(), ..Config::default() };
    let server = Server::start(config).unwrap();
    let address = server.addresses()[0];
    let mut signals = Signals::listen().unwrap();
    let story = async {
        assert_eq!(shown(address), first);
        let second = files.renew();
        assert_eq!(shown(address), first, "nobody has looked yet");
        sleep(A_LOOK).await;
        assert_eq!(shown(address), second);
        assert_eq!(said.count("they serve new connections"), 1);

        // Half of a renewal, for as long as three looks take.
        fs::write(&files.certificate.chain, files.pair().chain).unwrap();
        for _ in 0..3 {
            sleep(A_LOOK).await;
            assert_eq!(shown(address), second);
            assert_eq!(said.count("the certificates are new and bad, those before stay"), 1);
        }
        assert_eq!(said.count("the private key belongs to another certificate"), 1);

        // The other half.
        let third = files.renew();
        sleep(A_LOOK).await;
        assert_eq!(shown(address), third);
        assert_eq!(said.count("they serve new connections"), 2);
        assert_eq!(said.count("SIGHUP"), 0);
    };
    tokio::select! {
        // First, so that of two that wake at once the relay looks before the story goes on.
        biased;
        ended = run_until_signalled(server, &mut signals, None, Duration::ZERO) => panic!("nobody signalled: {ended:?}"),
        () = story => {}
    }
}

/// Long enough for the relay to look once, and not twice.
const A_LOOK: Duration = WATCH.saturating_add(Duration::from_millis(1));

/// A certificate's files, in a directory of their own.
struct Files {
    authority: Authority,
    certificate: Certificate,
    _home: TempDir,
}

impl Files {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let certificate = Certificate { chain: home.path().join("cert.pem"), key: home.path().join("key.pem") };
        Self { authority: Authority::new("Test CA", clock()).unwrap(), certificate, _home: home }
    }

    fn pair(&self) -> Pair {
        self.authority.server(&["relay.test".to_owned()], Duration::from_secs(86_400), clock()).unwrap()
    }

    /// Writes a new certificate and its key.
    fn renew(&self) -> CertificateDer<'static> {
        let pair = self.pair();
        fs::write(&self.certificate.chain, &pair.chain).unwrap();
        fs::write(&self.certificate.key, pair.key.as_bytes()).unwrap();
        CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()
    }
}

/// The certificate that a new connection gets. Blocks, so that no time passes here meanwhile.
fn shown(address: SocketAddr) -> CertificateDer<'static> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Judge::new(|_, _| Ok(()))))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("relay.test").unwrap()).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).unwrap();
    }
    tls.peer_certificates().unwrap()[0].clone()
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// From now on, until the guard is dropped.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let said = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || said.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// How many lines have these words in them.
    fn count(&self, words: &str) -> usize {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().filter(|line| line.contains(words)).count()
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
