//! From a configuration to a running relay, and its orderly end.
//!
//! A worker is a thread with a runtime of its own, its own sockets on the shared port, its own endpoint, resolver and counters. Nothing on the path of
//! a packet crosses workers.

mod bind;
mod error;
mod reload;

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
    admin::{Admin, Subject},
    apple::Quirk,
    certs::Tls,
    config::{self, Config},
    diagnosis,
    fault::Faults,
    listener::{
        quic::{self, Shared},
        tcp,
    },
    metrics::{Metrics, Snapshot},
    policy::{Policy, limits::Limits},
    proto::template::Template,
    record::{self, Qlog, Records, Writer},
    session::{self, Worker, h3},
    sys,
    upstream::{Dialer, resolve::Resolver},
};
use bind::{Bound, Sockets, bind_all};
pub use error::StartError;
pub use reload::{Found, Reload};

/// Workers at most: one byte of a connection ID names them.
pub const MAX_WORKERS: usize = 256;
/// What a worker's connections have to say to their clients, and their sockets to send, when it stops.
const LAST_PACKETS: Duration = Duration::from_secs(1);

/// A running relay: its workers' threads. Dropping it stops it at once.
pub struct Server {
    addresses: Vec<SocketAddr>,
    warnings: Vec<String>,
    counters: Counters,
    faults: Arc<Faults>,
    plan: Arc<Plan>,
    /// The certificates' files as they were read.
    digest: reload::Digest,
    draining: CancellationToken,
    cut: CancellationToken,
    threads: Vec<Thread>,
    /// Each worker's records.
    records: Vec<Arc<Records>>,
    admin: Option<Admin>,
    /// Waits, when the threads are over, for the last record to be written.
    _writer: Option<Writer>,
    /// The same for qlog files.
    _qlog: Option<Qlog>,
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

/// What every worker is made from.
struct Plan {
    config: Arc<Config>,
    quic: Arc<Shared>,
    /// TLS for what comes over TCP.
    tls: Arc<ArcSwap<Tls>>,
    policy: Arc<ArcSwap<Policy>>,
    limits: Arc<Limits>,
    faults: Arc<Faults>,
    draining: CancellationToken,
    cut: CancellationToken,
}

impl Server {
    /// Binds every address, starts the workers, and returns once all of them listen.
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        if let Some(addr) = config.open_to_all() {
            return Err(StartError::OpenToAll { addr });
        }
        if config.templates.is_empty() {
            // It is served anyway, beside nothing: no quirk to be counted.
            config.apple.set(Quirk::WellKnown, false);
        }
        if !config.fault.allow && !config.fault.on.is_empty() {
            return Err(StartError::NoFaults { faults: config.fault.on });
        }
        let faults = Arc::new(Faults::new(config.fault.on.iter().copied(), config.fault.seed));
        let digest = reload::digest(&config);
        let serving = reload::serving(&config, &faults)?;
        let derive = |label: &str| serving.first().derive_key(label);
        let qlog = config.log.qlog.as_ref().map(|path| Qlog::open(path).map_err(|source| StartError::Qlog { path: path.clone(), source }));
        let qlog = qlog.transpose()?;
        let quic =
            Shared::new(&config, &serving.tls_for_quic()?, h3::STREAMS, Arc::clone(&faults), qlog.as_ref().map(Qlog::traces), derive)?;
        let workers = config.workers.clamp(1, MAX_WORKERS);
        let tls = serving.tls_for_tcp(config.http, config.tls12)?;
        let Bound { addresses, workers: sockets, mut warnings } = bind_all(&config, workers)?;
        let limits = Limits::new(&config.limits);
        let writer =
            config.log.records.as_ref().map(|path| Writer::open(path).map_err(|source| StartError::Records { path: path.clone(), source }));
        let writer = writer.transpose()?;
        let notes = Records::notes();
        let records = (0..workers).map(|number| {
            let (privacy, credential) = (config.log.privacy, &config.access.header);
            let records = Records::new(number as u8, workers, privacy, credential, writer.as_ref().map(Writer::queue), notes.clone());
            Arc::new(if config.log.forget { records.forgetful() } else { records })
        });
        let records: Vec<_> = records.collect();
        let cut = CancellationToken::new();
        let plan = Arc::new(Plan {
            policy: Arc::new(ArcSwap::from_pointee(Policy::new(&config, addresses.clone(), serving.authorities(), cut.child_token()))),
            quic: Arc::new(quic),
            tls: Arc::new(ArcSwap::from_pointee(tls)),
            faults: Arc::clone(&faults),
            limits: Arc::clone(&limits),
            config: Arc::new(config),
            draining: CancellationToken::new(),
            cut,
        });
        let mut server = Self {
            addresses,
            warnings: Vec::new(),
            counters: Counters { workers: Vec::new(), limits },
            faults,
            plan: Arc::clone(&plan),
            digest,
            draining: plan.draining.clone(),
            cut: plan.cut.clone(),
            threads: Vec::new(),
            records,
            admin: None,
            _writer: writer,
            _qlog: qlog,
        };
        let cpus = sys::allowed_cpus().map_err(|source| StartError::Worker { source })?;
        for (number, sockets) in sockets.into_iter().enumerate() {
            // One worker alone runs where there is room.
            let cpu = (workers > 1).then(|| cpus[number % cpus.len()]);
            warnings.extend(server.start_worker(&plan, number, cpu, sockets)?);
        }
        server.warnings = warnings;
        if let config::Admin::At(path) = &plan.config.admin {
            let counters = server.counters();
            let subject = Subject {
                listen: server.addresses.clone(),
                counters: Box::new(move || counters.snapshot()),
                records: server.records.clone(),
                notes,
                faults: Arc::clone(&server.faults),
                may_misbehave: plan.config.fault.allow,
                draining: server.draining.clone(),
            };
            server.admin = Some(Admin::start(path, subject)?);
        }
        Ok(server)
    }

    /// The addresses listened on, in the configuration's order, with the ports that port 0 became.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How it misbehaves; can be changed only where the configuration allows it.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// What changes certificates and policy while it runs.
    pub fn reload(&self) -> Reload {
        Reload::new(Arc::clone(&self.plan), self.addresses.clone(), self.digest)
    }

    /// What is not as it was asked for, in words.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// All workers' counters now.
    pub fn metrics(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// The records of connections now: of clients not let in, of connections that are over, of open ones; worker by worker.
    pub fn records(&self) -> Vec<diagnosis::Record> {
        self.records.iter().flat_map(|records| records.all()).map(|log| record::told(&log, &self.records)).collect()
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
        sockets: Sockets,
    ) -> Result<Option<String>, StartError> {
        let (started, listens) = mpsc::channel();
        let metrics = Arc::new(Metrics::default());
        let done = CancellationToken::new();
        let (plan, counters, guard) = (Arc::clone(plan), Arc::clone(&metrics), done.clone().drop_guard());
        let own = (counters, Arc::clone(&self.records[number]));
        let handle = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                let _done = guard;
                let pinned = cpu.map_or(Ok(()), sys::pin_to).err().map(|error| format!("worker {number} is not pinned to a CPU: {error}"));
                match runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime.block_on(work(&plan, number, sockets, own, pinned, started)),
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

    /// Each worker's counters now, in the order of workers.
    pub fn by_worker(&self) -> Vec<Snapshot> {
        self.workers.iter().map(|metrics| metrics.snapshot()).collect()
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
    sockets: Sockets,
    own: Own,
    warning: Option<String>,
    started: mpsc::Sender<Result<Option<String>, StartError>>,
) {
    let listening = listen(plan, number, sockets, own);
    let (worker, endpoints, listeners) = match listening {
        Ok(listening) => listening,
        Err(error) => return started.send(Err(error)).unwrap_or_default(),
    };
    started.send(Ok(warning)).unwrap_or_default();

    let sessions = TaskTracker::new();
    let gone = CancellationToken::new();
    let accepting = TaskTracker::new();
    for endpoint in endpoints.iter().cloned() {
        let (worker, sessions) = (Arc::clone(&worker), sessions.clone());
        let records = Arc::clone(&worker.records);
        let admit = move |connecting, slots, record| {
            sessions.spawn(h3::serve(connecting, slots, record, Arc::clone(&worker)));
        };
        accepting.spawn(quic::accept(
            endpoint,
            Arc::clone(&plan.quic),
            Arc::clone(&plan.limits),
            records,
            plan.draining.clone(),
            gone.clone(),
            admit,
        ));
    }
    for listener in listeners {
        let records = Arc::clone(&worker.records);
        let (worker, sessions, tls) = (Arc::clone(&worker), sessions.clone(), Arc::clone(&plan.tls));
        let admit = move |stream, source, slots| {
            sessions.spawn(session::tcp::serve(stream, source, slots, tls.load_full(), Arc::clone(&worker)));
        };
        accepting.spawn(tcp::accept(listener, Arc::clone(&plan.limits), Arc::clone(&plan.faults), records, plan.draining.clone(), admit));
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

/// What a worker counts and records into.
type Own = (Arc<Metrics>, Arc<Records>);

/// A worker with its endpoints and its listeners.
type Listening = (Arc<Worker>, Vec<quinn::Endpoint>, Vec<tokio::net::TcpListener>);

fn listen(plan: &Plan, number: usize, sockets: Sockets, (metrics, records): Own) -> Result<Listening, StartError> {
    let config = &plan.config;
    let resolver = Resolver::new(&config.dns, config.timeouts.dns).map_err(|source| StartError::Dns { source })?;
    let mut endpoints = Vec::with_capacity(sockets.udp.len());
    for socket in sockets.udp {
        let number = u8::try_from(number).expect("at most 256 workers are started");
        endpoints.push(plan.quic.endpoint(number, socket, &metrics, &records).map_err(|source| StartError::Worker { source })?);
    }
    let listeners = sockets.tcp.into_iter().map(tokio::net::TcpListener::from_std).collect::<io::Result<Vec<_>>>();
    let listeners = listeners.map_err(|source| StartError::Worker { source })?;
    let well_known = config.apple.has(Quirk::WellKnown) || config.templates.is_empty();
    let mut templates: Vec<_> = well_known.then(Template::well_known).into_iter().collect();
    templates.extend(config.templates.iter().cloned());
    let worker = Worker {
        templates,
        policy: Arc::clone(&plan.policy),
        limits: Arc::clone(&plan.limits),
        dialer: Dialer::new(resolver, config.timeouts.dns, config.timeouts.connect),
        metrics,
        faults: Arc::clone(&plan.faults),
        records,
        draining: plan.draining.clone(),
        cut: plan.cut.clone(),
        config: Arc::clone(config),
    };
    Ok((Arc::new(worker), endpoints, listeners))
}
