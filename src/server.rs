//! From a configuration to a running relay, and its orderly end.
//!
//! A worker is a thread with a runtime of its own, its own sockets on the shared port, its own endpoint, resolver and counters. Nothing on the path of
//! a packet crosses workers.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    runtime,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    certs::{CertError, Identity},
    config::Config,
    listener::quic::{self, Shared},
    metrics::{Metrics, Snapshot},
    policy::{Policy, limits::Limits},
    proto::template::Template,
    session::{Worker, h3},
    sys,
    upstream::{Dialer, resolve::Resolver},
};

/// Workers at most: one byte of a connection ID names them.
pub const MAX_WORKERS: usize = 256;
/// What a worker's connections have to say to their clients, and their sockets to send, when it stops.
const LAST_PACKETS: Duration = Duration::from_secs(1);

/// A running relay: its workers' threads. Dropping it stops it at once.
pub struct Server {
    addresses: Vec<SocketAddr>,
    warnings: Vec<String>,
    counters: Counters,
    draining: CancellationToken,
    cut: CancellationToken,
    threads: Vec<Thread>,
}

/// The counters of a relay, running or over.
#[derive(Clone, Debug)]
pub struct Counters {
    workers: Vec<Arc<Metrics>>,
    limits: Arc<Limits>,
}

struct Thread {
    handle: Option<JoinHandle<()>>,
    /// Cancelled when the worker has nothing left to do.
    done: CancellationToken,
}

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on udp {addr}")]
    Bind {
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
    /// The TLS library lacks what QUIC starts with.
    #[error("cannot set up QUIC's encryption")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The system's resolver configuration cannot be read.
    #[error("cannot read the system's DNS configuration")]
    Dns {
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
            Self::Bind { addr, source } if source.kind() == io::ErrorKind::PermissionDenied => Some(format!(
                "ports below 1024 need CAP_NET_BIND_SERVICE; or listen above, like `--listen {}`",
                SocketAddr::new(addr.ip(), 8443)
            )),
            Self::Bind { addr, source } if source.kind() == io::ErrorKind::AddrInUse => Some(format!(
                "`ss -lunp 'sport = :{}'` shows who has it; another port is `--listen {}`",
                addr.port(),
                SocketAddr::new(addr.ip(), 0)
            )),
            Self::Bind { addr, source } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Some(format!("no interface of this machine has {}; `ip address` lists those it has", addr.ip()))
            }
            Self::Certificate(error) => error.hint(),
            Self::OpenToAll { .. } => {
                Some("`masque-relay cert token` makes a token and its line of configuration; `--open` lets everybody in".into())
            }
            Self::Dns { .. } => Some("name the servers yourself: `dns.servers = [\"192.0.2.53:53\"]`".into()),
            Self::Bind { .. } | Self::Quic(_) | Self::Worker { .. } => None,
        }
    }
}

/// What every worker is made from.
struct Plan {
    config: Arc<Config>,
    shared: Shared,
    policy: Arc<ArcSwap<Policy>>,
    limits: Arc<Limits>,
    draining: CancellationToken,
    cut: CancellationToken,
}

impl Server {
    /// Binds every address, starts the workers, and returns once all of them listen.
    pub fn start(config: Config) -> Result<Self, StartError> {
        if let Some(addr) = config.open_to_all() {
            return Err(StartError::OpenToAll { addr });
        }
        let identity = Identity::load(&config.certificate)?;
        let shared = Shared::new(&config, identity.tls()?, h3::STREAMS, |label| identity.derive_key(label))?;
        let workers = config.workers.clamp(1, MAX_WORKERS);
        let (addresses, sockets, mut warnings) = bind_all(&config, workers)?;
        let limits = Limits::new(&config.limits);
        let plan = Arc::new(Plan {
            policy: Arc::new(ArcSwap::from_pointee(Policy::new(&config, addresses.clone()))),
            shared,
            limits: Arc::clone(&limits),
            config: Arc::new(config),
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
        });
        let mut server = Self {
            addresses,
            warnings: Vec::new(),
            counters: Counters { workers: Vec::new(), limits },
            draining: plan.draining.clone(),
            cut: plan.cut.clone(),
            threads: Vec::new(),
        };
        let cpus = sys::allowed_cpus().map_err(|source| StartError::Worker { source })?;
        for (number, sockets) in sockets.into_iter().enumerate() {
            // One worker alone runs where there is room.
            let cpu = (workers > 1).then(|| cpus[number % cpus.len()]);
            warnings.extend(server.start_worker(&plan, number, cpu, sockets)?);
        }
        server.warnings = warnings;
        Ok(server)
    }

    /// The addresses listened on, in the configuration's order, with the ports that port 0 became.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What is not as it was asked for, in words.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// All workers' counters now.
    pub fn metrics(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// The counters, to be read after the relay's end too.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// Refuses new work, lets tunnels end for at most `grace`, then cuts them. Gives how many were cut. Dropping the future stops at once.
    pub async fn drain(mut self, grace: Duration) -> usize {
        self.draining.cancel();
        let mut cut = 0;
        if timeout(grace, self.done()).await.is_err() {
            cut = self.counters.limits.tunnels();
            self.cut.cancel();
            self.done().await;
        }
        self.join();
        cut
    }

    async fn done(&self) {
        for thread in &self.threads {
            thread.done.cancelled().await;
        }
    }

    fn join(&mut self) {
        for thread in &mut self.threads {
            // A worker that broke has printed its panic.
            if thread.handle.take().is_some_and(|handle| handle.join().is_err()) {
                tracing::error!("a worker broke");
            }
        }
    }

    /// Starts one worker and waits until it listens; gives a warning about how.
    fn start_worker(
        &mut self,
        plan: &Arc<Plan>,
        number: usize,
        cpu: Option<usize>,
        sockets: Vec<std::net::UdpSocket>,
    ) -> Result<Option<String>, StartError> {
        let (started, listens) = mpsc::channel();
        let metrics = Arc::new(Metrics::default());
        let done = CancellationToken::new();
        let (plan, counters, guard) = (Arc::clone(plan), Arc::clone(&metrics), done.clone().drop_guard());
        let handle = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                let _done = guard;
                let pinned = cpu.map_or(Ok(()), sys::pin_to).err().map(|error| format!("worker {number} is not pinned to a CPU: {error}"));
                match runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime.block_on(work(&plan, number, sockets, counters, pinned, started)),
                    // Nobody waits any more only if the start was given up.
                    Err(source) => started.send(Err(StartError::Worker { source })).unwrap_or_default(),
                }
            })
            .map_err(|source| StartError::Worker { source })?;
        self.threads.push(Thread { handle: Some(handle), done });
        self.counters.workers.push(metrics);
        listens.recv().map_err(|_| StartError::Worker { source: io::Error::other("it broke while it started") })?
    }
}

impl Counters {
    /// All workers' counters now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::sum(self.workers.iter().map(|metrics| metrics.snapshot()))
    }

    /// Everything that is counted as open now, by the gauges and by the caps; 0 once nobody is served.
    pub fn open(&self) -> u64 {
        let Snapshot { connections_open, tunnels_open, .. } = self.snapshot();
        connections_open + tunnels_open + self.limits.held() as u64
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.draining.cancel();
        self.cut.cancel();
        self.join();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).field("workers", &self.threads.len()).finish_non_exhaustive()
    }
}

/// The life of a worker: listens, serves, and ends when the relay does and its last connection is over.
async fn work(
    plan: &Plan,
    number: usize,
    sockets: Vec<std::net::UdpSocket>,
    metrics: Arc<Metrics>,
    warning: Option<String>,
    started: mpsc::Sender<Result<Option<String>, StartError>>,
) {
    let listening = listen(plan, number, sockets, metrics);
    let (worker, endpoints) = match listening {
        Ok(listening) => listening,
        Err(error) => return started.send(Err(error)).unwrap_or_default(),
    };
    started.send(Ok(warning)).unwrap_or_default();

    let sessions = TaskTracker::new();
    let gone = CancellationToken::new();
    let accepting = TaskTracker::new();
    for endpoint in endpoints.iter().cloned() {
        let (worker, sessions) = (Arc::clone(&worker), sessions.clone());
        let admit = move |connecting, slots| {
            sessions.spawn(h3::serve(connecting, slots, Arc::clone(&worker)));
        };
        accepting.spawn(quic::accept(
            endpoint,
            Arc::clone(&plan.limits),
            plan.config.quic.retry,
            plan.draining.clone(),
            gone.clone(),
            admit,
        ));
    }
    plan.draining.cancelled().await;
    sessions.close();
    sessions.wait().await;
    gone.cancel();
    accepting.close();
    accepting.wait().await;
    for endpoint in endpoints {
        // Closes are repeated to clients that did not hear them, for three round trips; a client far away must not hold the relay.
        tokio::select! {
            () = endpoint.wait_idle() => {}
            () = sleep(LAST_PACKETS) => {}
        }
    }
}

fn listen(
    plan: &Plan,
    number: usize,
    sockets: Vec<std::net::UdpSocket>,
    metrics: Arc<Metrics>,
) -> Result<(Arc<Worker>, Vec<quinn::Endpoint>), StartError> {
    let config = &plan.config;
    let resolver = Resolver::new(&config.dns, config.timeouts.dns).map_err(|source| StartError::Dns { source })?;
    let mut endpoints = Vec::with_capacity(sockets.len());
    for socket in sockets {
        let number = u8::try_from(number).expect("at most 256 workers are started");
        endpoints.push(plan.shared.endpoint(number, socket).map_err(|source| StartError::Worker { source })?);
    }
    let mut templates = vec![Template::well_known()];
    templates.extend(config.templates.iter().cloned());
    let worker = Worker {
        templates,
        policy: Arc::clone(&plan.policy),
        limits: Arc::clone(&plan.limits),
        dialer: Dialer::new(resolver, config.timeouts.dns, config.timeouts.connect),
        metrics,
        draining: plan.draining.clone(),
        cut: plan.cut.clone(),
        config: Arc::clone(config),
    };
    Ok((Arc::new(worker), endpoints))
}

/// Every address, with one socket for each worker in the order of workers; what the port 0 became; what is not as asked for.
type Bound = (Vec<SocketAddr>, Vec<Vec<std::net::UdpSocket>>, Vec<String>);

fn bind_all(config: &Config, workers: usize) -> Result<Bound, StartError> {
    let mut addresses = Vec::new();
    let mut sockets: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    let mut warnings: Vec<String> = Vec::new();
    for addr in &config.listen {
        let failed = |source| StartError::Bind { addr: *addr, source };
        // A shared port hides another process on it: look once without sharing.
        let alone = quic::bind(*addr, false).map_err(failed)?;
        let addr = alone.local_addr().map_err(failed)?;
        drop(alone);
        for (number, worker) in sockets.iter_mut().enumerate() {
            let socket = quic::bind(addr, workers > 1).map_err(failed)?;
            let warning = quic::ask_for_buffers(&socket, config.quic.socket_buffer).map_err(failed)?;
            warnings.extend(warning.filter(|warning| !warnings.contains(warning)));
            if workers > 1
                && number == workers - 1
                && let Err(error) = quic::steer(&socket, workers)
            {
                warnings.push(format!("connections cannot be kept with their worker when clients move: {error}"));
            }
            worker.push(socket);
        }
        addresses.push(addr);
    }
    Ok((addresses, sockets, warnings))
}
