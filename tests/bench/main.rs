//! `cargo bench`: what the relay costs.
//!
//! ```text
//!           first core                              last core
//!   masque-relay, or a peer, or a floor  ◀────▶  this process: clients and targets
//! ```
//!
//! 1. *CPU of the relay's process for a unit of work* is what is judged, from /proc around a fixed amount of it. The load has one core too and
//!    works as hard: packets a second are shown, and mean little.
//! 2. *Every run has a process of its own*, warmed up before it is measured; rounds go through all rows, so that what the machine does meanwhile
//!    hits all alike.
//! 3. *The floor is measured beside*: the same work without a relay.
//!
//! [`rows`] is the list of what is measured.

#![expect(clippy::cast_precision_loss, reason = "counts far below 2^52, on their way to three digits")]
#![expect(clippy::unchecked_time_subtraction, reason = "what is counted only grows")]

#[path = "../path/emulator.rs"]
#[expect(dead_code, reason = "nothing moves or changes here")]
mod emulator;
mod envoy;
mod fair;
mod floor;
mod meter;
mod options;
mod paths;
mod records;
mod report;
mod rows;
mod setup;
mod soak;
mod subject;
mod tcp;
mod udp;
mod wire;

use std::{
    error::Error,
    fs,
    io::{Write, stderr, stdout},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::Parser;
use masque_relay::sys;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use options::Arguments;
use report::Report;
use rows::Row;
use subject::{Ground, On};

/// Whatever went wrong, in words.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[expect(clippy::disallowed_methods, reason = "this is the edge where time comes in")]
    let now = SystemTime::now();
    let ended = runtime::Builder::new_current_thread().enable_all().build().map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            sys::raise_descriptor_limit()?;
            if let Some(floor) = arguments.serve_floor {
                return floor.serve(arguments.congestion).await;
            }
            if let Some(keep) = arguments.serve_relay {
                return keep.serve().await;
            }
            // What was started ends with its guard, which a signal alone would not drop.
            let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            tokio::select! {
                measured = measure(&arguments, now) => measured,
                _ = interrupt.recv() => Err("interrupted".into()),
                _ = terminate.recv() => Err("terminated".into()),
            }
        })
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments, now: SystemTime) -> Result<(), Failure> {
    let mut rows = rows::selected(&arguments.rows)?;
    // How many workers a peer has is its own affair.
    rows.retain(|row| row.on != On::TwoWorkers || arguments.peer.is_none());
    let mut report = Report::new(&rows, arguments.against.as_deref(), arguments.quick)?;
    let ground = Ground::prepare(arguments, now)?;
    if arguments.paths {
        return paths::measure(&ground, arguments).await;
    }
    if let Some(minutes) = arguments.soak {
        return soak::run(&ground, arguments, minutes).await;
    }
    if arguments.records {
        return records::run(&ground, arguments).await;
    }
    if arguments.envoy {
        envoy::fetch()?;
    }
    for round in 1..=arguments.runs() {
        for row in &rows {
            write!(stderr(), "{round}/{} {:<41} ", arguments.runs(), row.name)?;
            let ours = run(&ground, row, row.on).await;
            write!(stderr(), "{}", report::line(row.unit, &ours))?;
            report.add(row.name, ours);
            if row.on == On::Relay && arguments.envoy {
                let its = run(&ground, row, On::Envoy).await;
                write!(stderr(), "; Envoy {}", report::line(row.unit, &its))?;
                report.add_rival(row.name, its);
            }
            writeln!(stderr())?;
        }
    }
    let table = if arguments.markdown { report.markdown() } else { report.table() };
    stdout().write_all(table.as_bytes())?;
    if let Some(path) = &arguments.json {
        let relay = arguments.peer.as_deref().unwrap_or(concat!("masque-relay ", env!("CARGO_PKG_VERSION")));
        let json = report.json(relay);
        fs::write(path, json).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let failures = report.failures();
    if failures.is_empty() { Ok(()) } else { Err(format!("rows failed\n  {}", failures.join("\n  ")).into()) }
}

/// One run of one row.
async fn run(ground: &Ground<'_>, row: &Row, on: On) -> Result<meter::Figure, Failure> {
    let subject = ground.subject(on).await?;
    timeout(PATIENCE, (row.run)(&subject)).await.map_err(|_| format!("it takes longer than {PATIENCE:?}"))?
}

/// No run takes longer, not even of a slow peer.
const PATIENCE: Duration = Duration::from_mins(2);
