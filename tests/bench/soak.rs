//! `cargo bench -- --soak`: mixed load at about half of the relay's capacity for some minutes, then everything is closed and the accounts are made.
//!
//! 1. *Half*: TCP tunnels carry as much as keeps the relay's process at half of its core, or less where the load's own core is too busy for that; all
//!    else has a rate of its own.
//! 2. *Flat*: memory is looked at all the time, and judged by the slope of its second half, when pools, tables and the ring of records are full.
//! 3. *Nothing stays*: every tunnel ends as it was asked to, gauges fall to zero, and descriptors to what they were.
//! 4. *Everything is accounted for*: what the load counted at both ends is what the relay counted, and what it dropped has a reason. What may be
//!    missing is what the kernel of this machine says it dropped from UDP sockets, and what clients know to have lost.

mod accounts;
mod load;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use masque_relay::{
    admin::{Answer, Ask, client::Client as Admin},
    metrics::Sample,
    probe::Http,
};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Failure,
    meter::{Cpu, resident},
    options::Arguments,
    subject::Ground,
};
use accounts::{Account, Seen};
use load::{Flows, Ledger, Load, TICK, Targets};

/// Runs for as long as asked and judges.
pub(crate) async fn run(ground: &Ground<'_>, arguments: &Arguments, minutes: u64) -> Result<(), Failure> {
    let span = if arguments.quick { QUICK } else { Duration::from_mins(minutes) };
    let (subject, socket) = ground.administered().await?;
    let relay = Relay { pid: subject.pid, socket };
    let (ledger, mut targets, mut flows) = (Arc::new(Ledger::new()), Flows::new(), Flows::new());
    let load = Load {
        subject: Arc::new(subject),
        ledger: Arc::clone(&ledger),
        targets: Targets::start(&mut targets, &ledger).await?,
        stop: CancellationToken::new(),
        bulk: Arc::new(AtomicU64::new(BULK_FIRST)),
    };
    let (descriptors, dropped) = (relay.descriptors()?.len(), kernel_dropped()?);
    start(&mut flows, &load, if arguments.quick { 10 } else { 1 });

    let watched = watch(&relay, &load, &mut flows, span).await?;
    load.stop.cancel();
    timeout(ENDING, async {
        while let Some(ended) = flows.join_next().await {
            ended??;
        }
        Ok::<_, Failure>(())
    })
    .await
    .map_err(|_| format!("not all of the load ends within {ENDING:?}: a tunnel is stuck"))??;

    let mut seen = Seen::default();
    // What a connection leaves behind is counted a moment after its end.
    for _ in 0..PATIENCE_STEPS {
        // In this order: who asks for metrics is a descriptor too.
        seen = Seen {
            descriptors: [descriptors, relay.descriptors()?.len()],
            relay: relay.metrics()?,
            kernel_dropped: kernel_dropped()? - dropped,
        };
        if accounts::judge(&ledger, &seen, &watched, arguments.quick).iter().all(|account| account.fits) {
            break;
        }
        sleep(STEP).await;
    }
    let accounts = accounts::judge(&ledger, &seen, &watched, arguments.quick);
    std::io::stdout().write_all(accounts::table(&accounts, &ledger, &seen, &watched).as_bytes())?;
    let wrong: Vec<_> = accounts.iter().filter(|account| !account.fits).map(|Account { what, .. }| *what).collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("the soak failed: {}", wrong.join(", ")).into()) }
}

/// All of the load; rates are divided by `by`.
fn start(flows: &mut Flows, load: &Load, by: u32) {
    for (http, length, a_second) in
        [(Http::H3, 160, 100), (Http::H3, 700, 1000), (Http::H3, 1200, 5000), (Http::H2, 160, 100), (Http::H2, 1200, 500)]
    {
        flows.spawn(load.clone().steady(http, length, a_second / by));
    }
    for http in [Http::H3, Http::H2] {
        for back in [false, true] {
            flows.spawn(load.clone().bulk(http, back));
        }
        flows.spawn(load.clone().tunnels_come_and_go(http, Duration::from_millis(20) * by));
    }
    flows.spawn(load.clone().connections_come_and_go(Duration::from_millis(40) * by));
    for every in [300, 700, 1100] {
        flows.spawn(load.clone().moving(Duration::from_millis(every)));
    }
}

/// What was seen at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Since the start, seconds.
    at: f64,
    /// Bytes resident.
    memory: f64,
    /// The latest round trip of a steady tunnel, milliseconds.
    trip: f64,
    /// Bytes that wait in the kernel's queues of the relay's UDP sockets. (TCP's are bounded by its windows, and full whenever a side is slow.)
    queued: f64,
    /// The relay's share of its core since the look before.
    busy: f64,
}

/// Looks until `span` is over, and keeps the relay half busy.
async fn watch(relay: &Relay, load: &Load, flows: &mut Flows, span: Duration) -> Result<Vec<Look>, Failure> {
    let started = Instant::now();
    let every = (span / 100).clamp(Duration::from_millis(100), Duration::from_secs(1));
    let (mut looks, mut ticks) = (Vec::new(), interval(every));
    let mut spent = [Cpu::of(relay.pid)?, Cpu::of(std::process::id())?];
    let (mut last, mut told) = (started, started);
    while started.elapsed() < span {
        tokio::select! {
            _ = ticks.tick() => {}
            // None ends before it is told to, but by a failure.
            Some(ended) = flows.join_next() => return Err(ended?.err().unwrap_or_else(|| "a part of the load ended before its time".into())),
        }
        let wall = last.elapsed().as_secs_f64();
        if wall < every.as_secs_f64() / 2.0 {
            continue;
        }
        let now = [Cpu::of(relay.pid)?, Cpu::of(std::process::id())?];
        let [relays, own] = [now[0].since(&spent[0]), now[1].since(&spent[1])];
        (spent, last) = (now, Instant::now());
        let busy = relays.total.as_secs_f64() / wall;
        // A load that is late itself, or that others keep from its core, shows nothing of the relay.
        let stretched = (own.total + own.waited).as_secs_f64() / wall;
        let bulk = load.bulk.load(Relaxed);
        let bulk = if busy < HALF && stretched < STRETCHED { bulk + bulk / 4 } else { bulk - bulk / 5 }.clamp(BULK_LEAST, BULK_MOST);
        load.bulk.store(bulk, Relaxed);
        looks.push(Look {
            at: started.elapsed().as_secs_f64(),
            memory: resident(relay.pid)?,
            trip: load.ledger.trip.load(Relaxed) as f64 / 1000.0,
            queued: relay.queued()?,
            busy,
        });
        if told.elapsed() > TELL {
            told = Instant::now();
            let look = looks[looks.len() - 1];
            writeln!(
                std::io::stderr(),
                "{:>4.0} s: {:.1} MiB, {} descriptors, {} packets sent, round trip {:.1} ms, {:.0} bytes queued, {:.0} % of a core, 4 × {:.1} MB/s",
                look.at,
                look.memory / 1_048_576.0,
                relay.descriptors()?.len(),
                load.ledger.sent.packets.load(Relaxed),
                look.trip,
                look.queued,
                busy * 100.0,
                bulk as f64 / TICK.as_secs_f64() / 1e6,
            )?;
        }
    }
    Ok(looks)
}

/// The relay's process, from outside.
struct Relay {
    pid: u32,
    socket: PathBuf,
}

impl Relay {
    fn metrics(&self) -> Result<Vec<Sample>, Failure> {
        // It has a thread of its own: it answers at once.
        match Admin::connect(&self.socket)?.ask(&Ask::Metrics { text: false })?.next() {
            Some(Ok(Answer::Metrics(samples))) => Ok(samples),
            other => Err(format!("the relay does not tell its metrics: {other:?}").into()),
        }
    }

    fn descriptors(&self) -> Result<Vec<PathBuf>, Failure> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid))?;
        // One that is closed while we look is none.
        Ok(entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect())
    }

    /// Bytes in the receive and send queues of its UDP sockets.
    fn queued(&self) -> Result<f64, Failure> {
        let inode = |link: &PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned);
        let own: HashSet<_> = self.descriptors()?.iter().filter_map(inode).collect();
        let mut bytes = 0;
        for table in ["udp", "udp6"] {
            let path = format!("/proc/{}/net/{table}", self.pid);
            for line in fs::read_to_string(Path::new(&path)).unwrap_or_default().lines().skip(1) {
                let mut fields = line.split_whitespace();
                let (Some(queues), Some(inode)) = (fields.nth(4), fields.nth(4)) else { continue };
                if own.contains(inode) {
                    bytes += queues.split(':').filter_map(|queue| u64::from_str_radix(queue, 16).ok()).sum::<u64>();
                }
            }
        }
        Ok(bytes as f64)
    }
}

/// UDP packets that found a socket full, of all processes of this machine.
fn kernel_dropped() -> Result<u64, Failure> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().ok_or("no UDP in /proc/net/snmp")?, lines.next().ok_or("no UDP in /proc/net/snmp")?);
    let counters: BTreeMap<_, _> = names.split_whitespace().zip(values.split_whitespace()).collect();
    ["RcvbufErrors", "SndbufErrors"].into_iter().map(|name| Ok(counters.get(name).ok_or(name)?.parse::<u64>()?)).sum()
}

/// Of the relay's core.
const HALF: f64 = 0.5;

/// Of the load's core, run on and waited for.
const STRETCHED: f64 = 0.7;

/// Bytes of a bulk flow in a tick: 1, 0.1 and 400 MB/s.
const BULK_FIRST: u64 = 10_000;
const BULK_LEAST: u64 = 1_000;
const BULK_MOST: u64 = 4_000_000;

/// Long enough for everything to happen some times, short enough for every run of the tests.
const QUICK: Duration = Duration::from_secs(10);

/// How often something is told.
const TELL: Duration = Duration::from_secs(10);

/// All of the load has to end within this.
const ENDING: Duration = Duration::from_secs(30);

/// The accounts have to fit within this after that.
const STEP: Duration = Duration::from_millis(100);
const PATIENCE_STEPS: u32 = 100;
