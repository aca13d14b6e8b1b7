//! `cargo bench -- --records`: what it costs that every connection leaves a record.
//!
//! The same relay, in a process of this program's own, with records and without, which no configuration can say.
//!
//! 1. *Instructions*, counted by callgrind, which is ten times and more slower and minds little what else the machine does. A connection is an
//!    HTTP/3 handshake, a UDP tunnel with a packet each way, and the end of both. Some connections come first, more of them than the relay keeps records
//!    of: what a start costs and what grows until then are no part of the difference of two runs.
//! 2. *Memory* is what is resident for an open connection with a tunnel, without callgrind.
//! 3. *The log is that of `serve`*: a connection's line tells what is wrong by its record, and that is counted too.

use std::{
    fs,
    io::{Write, stdout},
    path::Path,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use masque_relay::{
    cli::{self, Command},
    config::file::Settings,
    probe::Http,
    proto::codes::h3,
    server::Server,
};
use tokio::io::{AsyncReadExt, stdin};

use crate::{
    Failure,
    options::Arguments,
    setup,
    subject::{Ground, Subject},
    wire::tunnel,
};

/// What becomes of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keep {
    /// There are none.
    Nothing,
    /// They stay in memory, as they always do.
    Memory,
    /// They are written into a file as well.
    File,
}

impl Keep {
    /// As the command line says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Memory => "memory",
            Self::File => "file",
        }
    }

    /// Is a relay, as `serve --config relay.toml` is one, until stdin ends.
    pub(crate) async fn serve(self) -> Result<(), Failure> {
        let line = cli::Arguments::try_parse_from(["masque-relay", "serve", "--config", "relay.toml"])?;
        let Command::Serve(serve) = line.command else { return Err("`serve` is another command".into()) };
        serve.log.install().map_err(|failure| failure.to_string())?;
        let mut settings = Settings::new();
        serve.overrides.lay(&mut settings).map_err(|failure| failure.to_string())?;
        let mut config = settings.finish()?.config;
        config.log.forget = self == Self::Nothing;
        config.log.records = (self == Self::File).then(|| FILE.into());
        let server = Server::start(config)?;
        println!("ready https://{}", server.addresses().first().ok_or("it listens nowhere")?);
        stdin().read_to_end(&mut Vec::new()).await?;
        match server.drain(GRACE).await {
            0 => Ok(()),
            cut => Err(format!("{cut} tunnels were left over").into()),
        }
    }
}

/// Measures, tells, and judges by the bounds.
pub(crate) async fn run(ground: &Ground<'_>, arguments: &Arguments) -> Result<(), Failure> {
    let quick = arguments.quick;
    let (before, counted) = if quick { (3, 6) } else { (BEFORE, COUNTED) };
    // In turns: what a run costs more than another, by acknowledgements that come together or not, must not be all of one kind's.
    let mut runs: [Vec<f64>; 3] = Default::default();
    for run in 1..=arguments.runs() {
        for (keep, each) in [Keep::Nothing, Keep::Memory, Keep::File].into_iter().zip(&mut runs) {
            let fewer = instructions_of(ground, keep, before).await?;
            let all = instructions_of(ground, keep, before + counted).await?;
            let one = all.saturating_sub(fewer) as f64 / counted as f64;
            eprintln!("{run}/{} {:<8} {one:.0} instructions a connection", arguments.runs(), keep.name());
            each.push(one);
        }
    }
    let instructions = runs.map(|mut runs| {
        runs.sort_by(f64::total_cmp);
        runs[runs.len() / 2]
    });
    let lines = fs::read_to_string(ground.files().join(FILE)).map_err(|error| format!("cannot read the records: {error}"))?;
    let line = lines.lines().last().ok_or("no record was written")?.len();

    let mut resident = [0.0; 2];
    for (keep, each) in [Keep::Nothing, Keep::Memory].into_iter().zip(&mut resident) {
        let subject = ground.keeping(keep, None).await?;
        *each = setup::memory(&subject, Http::H3, subject.amount(1000, 20), 0).await?.cost;
    }

    let [without, with, written] = instructions;
    let [more, more_written] = [with, written].map(|with| (with / without - 1.0) * 100.0);
    let taken = (resident[1] - resident[0]) / 1024.0;
    write!(
        stdout(),
        "a connection with a UDP tunnel, its records kept nowhere, in memory, and in a file too\n  \
         instructions  {without:>10.0}  {with:>10.0}, {more:.2} % more  {written:>10.0}, {more_written:.2} % more (bound: {MOST} %)\n  \
         memory, KiB   {:>10.1}  {:>10.1}, {taken:.1} more (bound: {ROOM})\n  \
         a line in the file has {line} bytes\n",
        resident[0] / 1024.0,
        resident[1] / 1024.0,
    )?;
    if quick || (more <= MOST && taken <= ROOM) { Ok(()) } else { Err("records cost more than they may".into()) }
}

/// What callgrind counts of a relay, from its start to its end, that has `connections` one after another.
async fn instructions_of(ground: &Ground<'_>, keep: Keep, connections: u64) -> Result<u64, Failure> {
    let count = ground.files().join("callgrind.out");
    let subject = ground.keeping(keep, Some(&count)).await?;
    for _ in 0..connections {
        connect(&subject).await?;
    }
    subject.ended().await?;
    totals(&count)
}

async fn connect(subject: &Subject) -> Result<(), Failure> {
    let client = subject.client(Http::H3).await?;
    let (mut tunnel, _target) = tunnel(&client).await?;
    tunnel.finish()?;
    tunnel.ended().await;
    client.close(h3::NO_ERROR, b"");
    Ok(())
}

/// The last line of callgrind's file.
fn totals(file: &Path) -> Result<u64, Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read what callgrind counted: {error}"))?;
    let totals = text.lines().rev().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind has not come to its end")?;
    Ok(totals.trim().parse()?)
}

/// Where records are written, beside the other files.
const FILE: &str = "records.jsonl";

/// Connections that come first: more than the 1,024 whose records stay.
const BEFORE: u64 = 1_100;

/// Connections that are counted.
const COUNTED: u64 = 600;

/// For the last connections of a relay under callgrind to be over.
const GRACE: Duration = Duration::from_secs(20);

/// Per cent of the instructions of a connection with a tunnel.
const MOST: f64 = 3.0;

/// KiB of a connection.
const ROOM: f64 = 4.0;
