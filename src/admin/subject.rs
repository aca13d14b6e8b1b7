//! What can be asked about: the relay, as far as the admin socket sees it.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Health;
use crate::{
    diagnosis::Record,
    fault::{EVERY, Fault, Faults},
    metrics::{Sample, Snapshot},
    record::{Counts, Id, Log, Lost, Note, Records, told},
};

/// What can be asked about.
pub struct Subject {
    /// Where the relay listens.
    pub listen: Vec<SocketAddr>,
    /// All workers' counters.
    pub counters: Box<dyn Fn() -> Snapshot + Send + Sync>,
    /// Each worker's records.
    pub records: Vec<Arc<Records>>,
    /// What begins and ends.
    pub notes: broadcast::Sender<Note>,
    /// How it misbehaves.
    pub faults: Arc<Faults>,
    /// Whether that may be changed.
    pub may_misbehave: bool,
    /// The relay takes no new work.
    pub draining: CancellationToken,
}

impl Subject {
    /// Switches faults, all or none of what is asked for; gives those that are on.
    pub(super) fn switch(&self, clear: bool, off: &[String], on: &[String]) -> Result<Vec<String>, String> {
        if (clear || !off.is_empty() || !on.is_empty()) && !self.may_misbehave {
            return Err("it may not misbehave: start it with `--dev`, or with `allow = true` under `[fault]`".into());
        }
        let on = on.iter().map(|text| text.parse::<Fault>().map_err(|error| error.to_string())).collect::<Result<Vec<_>, _>>()?;
        let now = self.faults.list();
        for name in off {
            if !now.iter().any(|fault| fault.name() == name) {
                return Err(format!("the fault `{}` is not on", name.escape_debug()));
            }
        }
        let fixed = EVERY
            .iter()
            .map(Fault::about)
            .find(|about| !about.live && (on.iter().any(|fault| fault.name() == about.name) || off.iter().any(|name| name == about.name)));
        if let Some(about) = fixed {
            return Err(format!("`{}` is decided when the relay starts: `serve --fault {}`", about.name, about.form()));
        }
        if clear {
            self.faults.clear_all();
        }
        for name in off {
            self.faults.clear(name);
        }
        for fault in on {
            self.faults.set(fault);
        }
        let after = self.faults.list();
        let names: Vec<_> = after.iter().map(ToString::to_string).collect();
        if after != now {
            warn!(on = names.join(" "), "faults were switched");
        }
        Ok(names)
    }

    pub(super) fn health(&self) -> Health {
        let snapshot = (self.counters)();
        let (mut records, mut records_lost) = (Counts::default(), Lost::default());
        for worker in &self.records {
            let counts = worker.counts();
            records.open += counts.open;
            records.closed += counts.closed;
            records.turned_away += counts.turned_away;
            // One file for all.
            records_lost = worker.lost();
        }
        Health {
            status: if self.draining.is_cancelled() { "draining" } else { "ok" }.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            listen: self.listen.clone(),
            workers: self.records.len(),
            connections: snapshot.connections_open,
            tunnels: snapshot.tunnels_open,
            records,
            records_lost,
        }
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        let lost = self.records.first().map(|worker| worker.lost()).unwrap_or_default();
        let mut samples = (self.counters)().samples();
        samples.push(Sample::new("records_lost_total", lost.no_room).label("why", "no_room"));
        samples.push(Sample::new("records_lost_total", lost.not_written).label("why", "not_written"));
        samples
    }

    /// In the order in which they began.
    pub(super) fn logs(&self) -> Vec<Arc<Log>> {
        let mut logs: Vec<_> = self.records.iter().flat_map(|worker| worker.all()).collect();
        logs.sort_by_key(|log| log.start());
        logs
    }

    pub(super) fn record(&self, id: &str) -> Option<Record> {
        let id: Id = id.parse().ok()?;
        self.records.iter().find_map(|worker| worker.find(id)).map(|log| told(&log, &self.records))
    }
}
