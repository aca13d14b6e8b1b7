//! The process that is measured: a relay of ours, a floor, or a peer somebody else has started.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use masque_relay::{
    certs::issue::Authority,
    probe::{Client, Http, Options, Tickets},
    sys,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{Failure, envoy, floor::Floor, options::Arguments, paths::Controller, records::Keep};

/// What all subjects need: certificates, and a core for each side.
pub(crate) struct Ground<'a> {
    arguments: &'a Arguments,
    files: TempDir,
    /// Where subjects run that have one.
    core: usize,
    /// Where this process runs.
    own: usize,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The relay, ours or the peer.
    Relay,
    /// Ours with a worker on each of two cores, the load's own among them.
    TwoWorkers,
    /// The rival that `--envoy` brings.
    Envoy,
    /// The same work without a relay.
    Floor(Floor),
}

/// A running one. Ended when dropped, unless it is a peer.
pub(crate) struct Subject {
    /// Which it is.
    pub(crate) on: On,
    /// Its process.
    pub(crate) pid: u32,
    /// Little work only.
    pub(crate) quick: bool,
    options: Options,
    child: Option<Child>,
}

impl<'a> Ground<'a> {
    /// Makes certificates and moves this thread, and what it starts from now on, to the last core there is.
    pub(crate) fn prepare(arguments: &'a Arguments, now: SystemTime) -> Result<Self, Failure> {
        let cores = sys::allowed_cpus()?;
        let (Some(core), Some(own)) = (cores.first().copied(), cores.last().copied()) else { return Err("no core to run on".into()) };
        if core == own {
            eprintln!("warning: there is one core for relay and load; figures are worth little");
        }
        sys::pin_to(own)?;

        let files = tempfile::tempdir()?;
        let authority = Authority::new("masque-relay bench CA", now)?;
        let pair = authority.server(&[NAME.to_owned()], Duration::from_hours(24), now)?;
        let hash: String = digest::digest(&digest::SHA256, TOKEN.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(files.path().join("ca.pem"), authority.pem())?;
        fs::write(files.path().join("chain.pem"), &pair.chain)?;
        fs::write(files.path().join("key.pem"), pair.key.as_bytes())?;
        // Without Retry: a thousand handshakes a second are no attack here.
        fs::write(
            files.path().join("relay.toml"),
            format!(
                "listen = [\"{NAME}:0\"]\nworkers = 1\n[certificate]\nchain = \"chain.pem\"\nkey = \"key.pem\"\n\
                 [access]\ntokens = [{{ user = \"bench\", sha256 = \"{hash}\" }}]\n[rules]\nallow_private = true\n\
                 [quic]\nretry = \"never\"\n"
            ),
        )?;
        Ok(Self { arguments, files, core, own })
    }

    /// Starts what is to be measured, or points at the peer.
    pub(crate) async fn subject(&self, on: On) -> Result<Subject, Failure> {
        if on == On::TwoWorkers {
            fs::write(self.files.path().join("two.toml"), self.relay_toml()?.replace("workers = 1\n", "workers = 2\n"))?;
            return self.started(on, "two.toml", &[]).await;
        }
        self.started(on, "relay.toml", &[]).await
    }

    /// The same with this congestion controller.
    pub(crate) async fn congested(&self, on: On, controller: Controller) -> Result<Subject, Failure> {
        let name = controller.name();
        // The file ends with the section that the key belongs to.
        let config = self.configured(name, "", &format!("congestion = \"{name}\"\n"))?;
        self.started(on, &config, &["--congestion", name]).await
    }

    /// Our relay with an admin socket, and where that is.
    pub(crate) async fn administered(&self) -> Result<(Subject, PathBuf), Failure> {
        let config = self.configured("administered", "admin = \"admin.sock\"\n", "")?;
        Ok((self.started(On::Relay, &config, &[]).await?, self.files.path().join("admin.sock")))
    }

    /// Where the files of all subjects lie.
    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }

    /// Our relay as a part of this program, with these records; callgrind counts its instructions into the file `counted`.
    pub(crate) async fn keeping(&self, keep: Keep, counted: Option<&Path>) -> Result<Subject, Failure> {
        let own = std::env::current_exe()?;
        let mut command = Command::new(if counted.is_some() { Path::new("valgrind") } else { &own });
        if let Some(file) = counted {
            let mut out = OsString::from("--callgrind-out-file=");
            out.push(file);
            command.args(["--tool=callgrind", "--quiet"]).arg(out).arg(&own);
        }
        command.args(["--serve-relay", keep.name()]).stdin(Stdio::piped());
        self.ready(On::Relay, command).await
    }

    /// `more` is for a floor.
    async fn started(&self, on: On, config: &str, more: &[&str]) -> Result<Subject, Failure> {
        let mut command;
        match (on, &self.arguments.peer) {
            (On::Relay, Some(url)) => return self.peer(url).await,
            (On::TwoWorkers, Some(_)) => return Err("how many workers a peer has is its own affair".into()),
            (On::Relay | On::TwoWorkers, None) => {
                command = Command::new(env!("CARGO_BIN_EXE_masque-relay"));
                command.args(["serve", "--config", config]);
            }
            (On::Envoy, _) => return self.envoy().await,
            (On::Floor(floor), _) => {
                command = Command::new(std::env::current_exe()?);
                command.args(["--serve-floor", floor.name()]).args(more);
            }
        }
        self.ready(on, command).await
    }

    /// One that says where it listens.
    async fn ready(&self, on: On, mut command: Command) -> Result<Subject, Failure> {
        let log = self.files.path().join("log");
        // Not the environment of whoever runs this: it may configure the relay.
        command.env_clear().current_dir(&self.files).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let (one, two) = ([self.core], [self.core, self.own]);
        let started = self.start(&mut command, if on == On::TwoWorkers { &two } else { &one });
        let mut child = started.map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("it was not piped")?).read_line(&mut line)?;
        let mut subject = self.of(on, child);
        let Some(url) = line.strip_prefix("ready ") else {
            return Err(format!("{on:?} does not start: {line}{}", fs::read_to_string(log)?).into());
        };
        subject.options = Options::resolve(url.trim()).await?;
        subject.options.trust_pem(&fs::read(self.files.path().join("ca.pem"))?)?;
        subject.options.bearer(TOKEN);
        adjust(&mut subject.options);
        Ok(subject)
    }

    /// A configuration file like `relay.toml` with more at its front and its end.
    fn configured(&self, name: &str, front: &str, end: &str) -> Result<String, Failure> {
        let name = format!("{name}.toml");
        fs::write(self.files.path().join(&name), format!("{front}{}{end}", self.relay_toml()?))?;
        Ok(name)
    }

    fn relay_toml(&self) -> Result<String, Failure> {
        Ok(fs::read_to_string(self.files.path().join("relay.toml"))?)
    }

    async fn envoy(&self) -> Result<Subject, Failure> {
        let port = envoy::free_port()?;
        let [config, log] = ["envoy.json", "envoy.log"].map(|name| self.files.path().join(name));
        let [chain, key] = ["chain.pem", "key.pem"].map(|name| self.files.path().join(name));
        fs::write(&config, envoy::config(port, &chain, &key, envoy::BOTH).to_string())?;
        let mut command = Command::new(envoy::fetch()?);
        command.arg("--config-path").arg(config).args(["--concurrency", "1", "--log-level", "error"]);
        command.args(["--disable-hot-restart"]).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut subject = self.of(On::Envoy, self.start(&mut command, &[self.core])?);
        let child = subject.child.as_mut().ok_or("it was started")?;
        envoy::wait(port, child).await.map_err(|error| format!("{error}\n{}", fs::read_to_string(log).unwrap_or_default()))?;
        subject.options = Options::resolve(&format!("https://{NAME}:{port}")).await?;
        subject.options.trust_pem(&fs::read(self.files.path().join("ca.pem"))?)?;
        adjust(&mut subject.options);
        // Its own packets grow to the length of the client's first ones, which a hello with a post-quantum key share fills; 1200-byte payloads would
        // not fit otherwise.
        (subject.options.initial_mtu, subject.options.post_quantum) = (1350, true);
        Ok(subject)
    }

    /// On these cores, which it inherits.
    fn start(&self, command: &mut Command, cores: &[usize]) -> Result<Child, Failure> {
        let mut set = CpuSet::new();
        for core in cores {
            set.set(*core);
        }
        sched_setaffinity(None, &set)?;
        let started = command.spawn();
        sys::pin_to(self.own)?;
        Ok(started?)
    }

    /// Ends `child` with the subject, whatever goes wrong from here on.
    fn of(&self, on: On, child: Child) -> Subject {
        let options = Options::new(([127, 0, 0, 1], 0).into(), NAME);
        Subject { on, pid: child.id(), quick: self.arguments.quick, options, child: Some(child) }
    }

    async fn peer(&self, url: &str) -> Result<Subject, Failure> {
        let mut options = Options::resolve(url).await?;
        match &self.arguments.ca {
            Some(ca) => options.trust_pem(&fs::read(ca)?)?,
            None => options.trust_system()?,
        }
        if let Some(token) = &self.arguments.token {
            options.bearer(token);
        }
        adjust(&mut options);
        let pid = self.arguments.pid.ok_or("`--pid` is missing")?;
        Ok(Subject { on: On::Relay, pid, quick: self.arguments.quick, options, child: None })
    }
}

/// A load that is not the narrow place: packets as large as the path takes from the start, and room for bursts.
fn adjust(options: &mut Options) {
    options.initial_mtu = 1452;
    options.datagram_send = 1 << 20;
    options.datagram_receive = Some(4 << 20);
    options.post_quantum = false;
}

impl Subject {
    /// A connection to it.
    pub(crate) async fn client(&self, http: Http) -> Result<Client, Failure> {
        self.client_with(|options| options.http = http).await
    }

    /// A connection for packets: one that does not come soon is lost. Without datagrams, all that comes must come in capsules.
    pub(crate) async fn client_for_packets(&self, http: Http, datagrams: bool) -> Result<Client, Failure> {
        self.client_with(|options| {
            options.http = http;
            options.patience = Some(PATIENCE);
            if !datagrams {
                options.datagram_receive = None;
                options.settings.0.clear();
            }
        })
        .await
    }

    /// A connection with other options.
    pub(crate) async fn client_with(&self, change: impl FnOnce(&mut Options)) -> Result<Client, Failure> {
        let mut options = self.options();
        change(&mut options);
        Ok(Client::open(options).await?)
    }

    /// Every connection has a TLS session of its own.
    fn options(&self) -> Options {
        let mut options = self.options.clone();
        options.tickets = Tickets::default();
        options
    }

    /// A connection to it without HTTP/3.
    pub(crate) async fn quinn(&self) -> Result<(quinn::Endpoint, quinn::Connection), Failure> {
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
        let connection = endpoint.connect_with(self.options().quinn()?, self.address(), NAME)?.await?;
        Ok((endpoint, connection))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.options.addresses[0]
    }

    /// The same, reached at another address.
    pub(crate) fn behind(mut self, address: SocketAddr) -> Self {
        self.options.addresses = vec![address];
        self
    }

    /// Ends one whose stdin is ours, and waits for its end.
    pub(crate) async fn ended(mut self) -> Result<(), Failure> {
        let child = self.child.as_mut().ok_or("it is not ours to end")?;
        drop(child.stdin.take());
        for _ in 0..ENDING.as_millis() / STEP.as_millis() {
            if let Some(status) = child.try_wait()? {
                return if status.success() { Ok(()) } else { Err(format!("it ended with {status}").into()) };
            }
            sleep(STEP).await;
        }
        Err(format!("it does not end within {ENDING:?}").into())
    }

    /// How much to do.
    pub(crate) fn amount(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }

    /// Packets that it forwards for one echo: out and back, where a floor answers at once.
    pub(crate) fn hops(&self) -> f64 {
        if matches!(self.on, On::Floor(_)) { 1.0 } else { 2.0 }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself, which the row has noticed.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// One that is told to end has ended by now, even under callgrind.
const ENDING: Duration = Duration::from_secs(60);

/// How often that is looked at.
const STEP: Duration = Duration::from_millis(20);

/// Where all subjects of ours listen, and what their certificate is for.
const NAME: &str = "127.0.0.1";

const TOKEN: &str = "the bench's own";

/// A packet that has not come by now is lost.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);
