//! A relay as a process of its own, so that its memory and its descriptors are its alone. The load stays in the test.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use masque_relay::probe::{Http, Options};

use super::{Client, Closers, NAME, PATIENCE, TOKEN, USER, identity, token, until, written};

/// `masque-relay serve` on 127.0.0.1, one worker, private targets allowed, the one user [`USER`]. Killed when dropped.
pub(crate) struct RelayProcess {
    child: Child,
    address: SocketAddr,
    ca: String,
    /// The last lines of its stderr.
    talk: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
    _files: tempfile::TempDir,
}

/// The memory of a process that is in RAM, KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// RSS now.
    pub(crate) rss: u64,
    /// What of it is no file's: heap and stacks.
    pub(crate) anonymous: u64,
    /// The largest RSS so far.
    pub(crate) peak: u64,
}

impl RelayProcess {
    /// Starts it; `more` are further lines of its configuration.
    pub(crate) fn start(more: &str) -> Self {
        let files = tempfile::tempdir().expect("a directory for the relay");
        let identity = identity(&[NAME, "127.0.0.1"]);
        written(files.path(), "chain.pem", &identity.chain);
        written(files.path(), "key.pem", &identity.key);
        let sha256: String = token(USER, TOKEN).sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        let config = format!(
            "listen = [\"127.0.0.1:0\"]\nworkers = 1\nrules.allow_private = true\nlimits.tunnels = 10000\n\
             certificate = {{ chain = \"chain.pem\", key = \"key.pem\" }}\n\
             access.tokens = [{{ user = \"{USER}\", sha256 = \"{sha256}\" }}]\n{more}"
        );
        written(files.path(), "relay.toml", &config);

        let mut command = Command::new(env!("CARGO_BIN_EXE_masque-relay"));
        command.args(["serve", "--config", "relay.toml", "--log", "warn"]).current_dir(files.path()).env_clear();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let talk = Arc::<Mutex<VecDeque<String>>>::default();
        let reader = keep(child.stderr.take().expect("piped"), Arc::clone(&talk));
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("a pipe can be read");
        let port = ready.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| panic!("it is not ready: {ready:?} {talk:#?}"));
        Self { child, address: ([127, 0, 0, 1], port).into(), ca: identity.ca, talk, reader: Some(reader), _files: files }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Options for a client of this relay: the CA trusted, the credentials added.
    pub(crate) fn options(&self) -> Options {
        let mut options = self.stranger();
        options.basic(USER, TOKEN);
        options
    }

    /// The same without credentials.
    pub(crate) fn stranger(&self) -> Options {
        let mut options = Options::new(self.address, NAME);
        options.trust_pem(self.ca.as_bytes()).expect("the CA just made");
        options.timeout = PATIENCE;
        options.patience = Some(PATIENCE);
        options
    }

    /// A connected client with credentials.
    pub(crate) async fn client(&self) -> Client {
        self.client_over(Http::H3).await
    }

    /// The same over one version of HTTP.
    pub(crate) async fn client_over(&self, http: Http) -> Client {
        let mut options = self.options();
        options.http = http;
        Client::open(options, Closers::default()).await.expect("the relay takes a connection")
    }

    /// Its memory, by `/proc`.
    pub(crate) fn memory(&self) -> Memory {
        let status = self.proc_file("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells");
            line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
        };
        Memory { rss: field("VmRSS:"), anonymous: field("RssAnon:"), peak: field("VmHWM:") }
    }

    /// Its open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(self.proc_path("fd")).expect("the relay runs").count()
    }

    /// Waits until it has no more descriptors open than `count`.
    pub(crate) async fn descriptors_back_at(&self, count: usize) {
        until("the relay's descriptors to be closed", || self.descriptors(), |now| *now <= count).await;
    }

    /// SIGTERM, and waits for the end: it must be an orderly one, nothing cut and nothing broken.
    pub(crate) async fn finish(mut self) {
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status().expect("sh runs");
        assert!(sent.success(), "{sent}");
        let ended = |child: &mut Child| child.try_wait().expect("it was started");
        until("the relay to end", || ended(&mut self.child), Option::is_some).await;
        self.reader.take().expect("taken once").join().expect("reading lines does not panic");
        assert!(ended(&mut self.child).as_ref().is_some_and(ExitStatus::success), "{:?}", self.child.wait());
        // JSON, one event a line; a panic would be neither.
        let broken: Vec<_> = lock(&self.talk).iter().filter(|line| !line.contains(r#""level":"WARN""#)).cloned().collect();
        assert!(broken.is_empty(), "something broke in the relay: {broken:#?}");
    }

    fn proc_path(&self, name: &str) -> std::path::PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(self.proc_path(name)).expect("the relay runs")
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        if self.child.kill().is_ok() {
            self.child.wait().expect("it was started");
        }
        if std::thread::panicking() {
            println!("--- the last the relay said ---\n{:#?}", lock(&self.talk));
        }
    }
}

/// Reads lines on a thread, so that the pipe is never full, and keeps the last ones.
fn keep(pipe: impl std::io::Read + Send + 'static, talk: Arc<Mutex<VecDeque<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut talk = lock(&talk);
            if talk.len() == KEPT {
                talk.pop_front();
            }
            talk.push_back(line);
        }
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines kept.
const KEPT: usize = 100;
