//! What a process spends, from /proc.

use std::{fs, path::Path, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::Failure;

/// Measures from [`Meter::start`] to [`Meter::stop`].
pub(crate) struct Meter {
    pid: u32,
    before: Cpu,
    own: Cpu,
    started: Instant,
}

/// One run of one row. `cost` is CPU seconds a unit until the row's unit scales it, everything else is as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// For one unit of work.
    pub(crate) cost: f64,
    /// The share of it spent outside the kernel; sampled by the kernel's tick, so rough in short runs.
    pub(crate) user: Option<f64>,
    /// Units a second.
    pub(crate) rate: Option<f64>,
    /// Packets that did not come, as a share of those sent.
    pub(crate) loss: Option<f64>,
    /// Round trips in microseconds.
    pub(crate) p50: Option<f64>,
    /// Likewise.
    pub(crate) p99: Option<f64>,
    /// How much of its core the load took: near 1, it may be the load that was slow.
    pub(crate) load: Option<f64>,
    /// How long relay and load stood ready without a core, as a share of the time: above a few per cent, others were at work on this machine.
    pub(crate) waited: Option<f64>,
}

impl Figure {
    /// Of something that is no CPU.
    pub(crate) fn of(cost: f64) -> Self {
        Self { cost, user: None, rate: None, loss: None, p50: None, p99: None, load: None, waited: None }
    }
}

impl Meter {
    /// Begins once process `pid` has had time to come to rest.
    pub(crate) async fn start(pid: u32) -> Result<Self, Failure> {
        sleep(SETTLE).await;
        Ok(Self { pid, before: Cpu::of(pid)?, own: Cpu::of(std::process::id())?, started: Instant::now() })
    }

    /// What `units` of work have cost. Waits a little for what the process does behind the last of them.
    pub(crate) async fn stop(self, units: f64) -> Result<Figure, Failure> {
        let wall = self.started.elapsed().as_secs_f64();
        let own = Cpu::of(std::process::id())?.since(&self.own);
        sleep(SETTLE).await;
        let spent = Cpu::of(self.pid)?.since(&self.before);
        let ticks = spent.user + spent.system;
        Ok(Figure {
            user: (ticks > 0).then(|| spent.user as f64 / ticks as f64),
            rate: Some(units / wall),
            load: Some(own.total.as_secs_f64() / wall),
            waited: Some((own.waited + spent.waited).as_secs_f64() / wall),
            ..Figure::of(spent.total.as_secs_f64() / units)
        })
    }
}

/// What a process has spent so far.
pub(crate) struct Cpu {
    /// Of all its threads, to the nanosecond. (Threads that have ended are forgotten: a relay's stay.)
    pub(crate) total: Duration,
    /// What its threads have waited for a core.
    pub(crate) waited: Duration,
    /// In ticks, only good for the ratio of the two.
    user: u64,
    system: u64,
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        let (mut total, mut waited) = (0, 0);
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // One that ends while we look is not missed.
            if let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) {
                total += field(&text, 0)?;
                waited += field(&text, 1)?;
            }
        }
        let stat = read(format!("/proc/{pid}/stat"))?;
        // The name is in parentheses and may hold anything; utime and stime are the 14th and 15th field, the 12th and 13th behind it.
        let behind = stat.rsplit_once(')').ok_or("/proc/PID/stat has no name")?.1;
        let (total, waited) = (Duration::from_nanos(total), Duration::from_nanos(waited));
        Ok(Self { total, waited, user: field(behind, 11)?, system: field(behind, 12)? })
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            total: self.total - before.total,
            waited: self.waited - before.waited,
            user: self.user - before.user,
            system: self.system - before.system,
        }
    }
}

/// Bytes of memory the process has resident.
pub(crate) fn resident(pid: u32) -> Result<f64, Failure> {
    // Exact, where /proc/PID/status lags behind by some pages for every CPU.
    let text = read(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Rss:")).ok_or("smaps_rollup has no Rss")?;
    Ok(field(line, 1)? as f64 * 1024.0)
}

fn field(text: &str, at: usize) -> Result<u64, Failure> {
    Ok(text.split_whitespace().nth(at).ok_or("a short line in /proc")?.parse()?)
}

fn read(path: impl AsRef<Path>) -> Result<String, Failure> {
    fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.as_ref().display()).into())
}

/// For acknowledgements, timers and ends of tunnels that come a little later.
const SETTLE: Duration = Duration::from_millis(60);
