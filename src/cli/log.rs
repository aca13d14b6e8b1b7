//! Logs: text on a terminal, JSON lines otherwise, always on stderr.

use std::{
    env,
    io::{self, IsTerminal},
};

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use super::report::{Exit, Failure};

/// How the relay logs.
#[derive(Debug, Args)]
pub struct LogArguments {
    /// What is logged: error to trace, or a filter
    #[arg(long = "log", value_name = "LEVEL", env = "MASQUE_RELAY_LOG", hide_env = true, default_value = "info")]
    pub level: String,
    /// How it looks; auto: text on a terminal, JSON otherwise
    #[arg(
        long = "log-format",
        value_name = "auto|text|json",
        env = "MASQUE_RELAY_LOG_FORMAT",
        hide_env = true,
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub format: Format,
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON otherwise
    Auto,
    /// For people
    Text,
    /// For machines
    Json,
}

impl LogArguments {
    /// Installs the log for the rest of the process.
    pub fn install(&self) -> Result<(), Failure> {
        let filter = EnvFilter::try_new(&self.level).map_err(|error| {
            Failure::new(Exit::Wrong, &error, None)
                .hint("`--log` takes error, warn, info, debug, trace, or a filter like `info,masque_relay=debug`")
        })?;
        let terminal = io::stderr().is_terminal();
        // Without the module a line is from: tracing calls it `target`, which here is where a client wants to go, and no object has room for both.
        let layer = fmt::layer().with_writer(io::stderr).with_target(false);
        let layer = match self.format {
            Format::Json => layer.json().flatten_event(true).boxed(),
            Format::Auto if !terminal => layer.json().flatten_event(true).boxed(),
            // https://no-color.org
            Format::Auto | Format::Text => layer.with_ansi(terminal && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())).boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(layer)
            .try_init()
            .map_err(|error| Failure::says(Exit::Failed, format!("cannot set up the log: {error}")))
    }
}
