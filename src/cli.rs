//! Arguments and help. The commands themselves are in the files beside: each gets its arguments, the clock's time, and gives a [`Failure`] or nothing.

pub mod cert;
pub mod check;
mod credential;
pub mod dev;
pub mod doctor;
pub mod echo;
pub mod explain;
pub mod faults;
mod identity;
pub mod log;
pub mod probe;
pub mod profile;
pub mod report;
pub mod serve;
pub mod sessions;

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, builder::BoolishValueParser, parser::ValueSource};

use crate::config::{
    Config,
    file::{Settings, Source},
    keys, listen_address,
};
use report::Failure;

/// A MASQUE relay: CONNECT and CONNECT-UDP over HTTP/3, HTTP/2 and HTTP/1.1
#[derive(Debug, Parser)]
#[command(name = "masque-relay", version, max_term_width = 100, after_help = TRY, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the relay
    #[command(after_help = serve::HELP)]
    Serve(ServeArguments),
    /// Check a configuration, or a running relay, without starting one
    #[command(after_help = check::HELP)]
    Check(CheckArguments),
    /// Make and inspect certificates and tokens
    #[command(subcommand, after_help = cert::HELP, disable_help_subcommand = true)]
    Cert(cert::CertCommand),
    /// Write what devices are told: configuration profile, declaration, Swift; and check one
    #[command(subcommand, after_help = profile::HELP, disable_help_subcommand = true)]
    Profile(profile::ProfileCommand),
    /// Open one tunnel through a relay, on stdin and stdout
    #[command(after_help = probe::HELP)]
    Probe(probe::ProbeArguments),
    /// Examine a relay from outside, as an Apple client would find it
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::DoctorArguments),
    /// Show the connections of a running relay, and what happened on one
    #[command(after_help = sessions::HELP)]
    Sessions(sessions::SessionsArguments),
    /// Make a running relay misbehave, or behave again, for tests of clients
    #[command(after_help = faults::HELP)]
    Fault(faults::SwitchArguments),
    /// Explain a log of Apple's client: what it shows, and what would settle the rest
    #[command(after_help = explain::HELP)]
    Explain(explain::ExplainArguments),
}

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Need nothing: make CA, certificate, token and echo, on loopback
    #[arg(long)]
    pub dev: bool,
    /// What overrides the file.
    #[command(flatten)]
    pub overrides: Overrides,
    /// How the relay misbehaves.
    #[command(flatten)]
    pub faults: faults::FaultArguments,
    /// How the relay logs.
    #[command(flatten)]
    pub log: log::LogArguments,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Print the configuration as meant, each value with its source, and the memory it may need
    #[arg(long)]
    pub show: bool,
    /// Ask the running relay whether it answers (for health checks)
    #[arg(long)]
    pub health: bool,
    /// What overrides the file.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// The file, and the settings that flags and environment override.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each switch a person may set")]
pub struct Overrides {
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE", env = "MASQUE_RELAY_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// Listen here; repeatable
    #[arg(long, value_name = "ADDR:PORT", env = "MASQUE_RELAY_LISTEN", hide_env = true, value_delimiter = ',', value_parser = listen_address)]
    pub listen: Vec<SocketAddr>,
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE", env = "MASQUE_RELAY_CERT", hide_env = true)]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", env = "MASQUE_RELAY_KEY", hide_env = true)]
    pub key: Option<PathBuf>,
    /// Threads, each with its own sockets; `auto`: one per processor
    #[arg(long, value_name = "N", env = "MASQUE_RELAY_WORKERS", hide_env = true, value_parser = keys::workers)]
    pub workers: Option<usize>,
    /// Ask nobody for a credential
    #[arg(long, env = "MASQUE_RELAY_OPEN", hide_env = true, value_parser = BoolishValueParser::new())]
    pub open: bool,
    /// Let clients reach private addresses
    #[arg(long, env = "MASQUE_RELAY_ALLOW_PRIVATE", hide_env = true, value_parser = BoolishValueParser::new())]
    pub allow_private: bool,
    /// Serve no HTTP/2
    #[arg(long, env = "MASQUE_RELAY_NO_H2", hide_env = true, value_parser = BoolishValueParser::new())]
    pub no_h2: bool,
    /// Serve no HTTP/3
    #[arg(long, env = "MASQUE_RELAY_NO_H3", hide_env = true, value_parser = BoolishValueParser::new())]
    pub no_h3: bool,
    /// Write what QUIC does, packet by packet, into qlog files there
    #[arg(long, value_name = "DIR", env = "MASQUE_RELAY_QLOG", hide_env = true)]
    pub qlog: Option<PathBuf>,
    /// Which of them were given, and how; filled by [`Arguments::from_command_line`].
    #[arg(skip)]
    pub given: Given,
}

/// What was given on the command line or in the environment, as sources of values.
#[derive(Debug, Default)]
pub struct Given(Vec<(&'static str, Source)>);

impl Arguments {
    /// From the process's arguments and environment. Help, version and wrong usage end the process here: 0 and 2.
    pub fn from_command_line() -> Self {
        let matches = Self::command().get_matches();
        let mut arguments = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if let (Some(overrides), Some((_, matches))) = (arguments.command.overrides(), matches.subcommand()) {
            overrides.given = Given::from(matches);
        }
        arguments
    }
}

impl Command {
    fn overrides(&mut self) -> Option<&mut Overrides> {
        match self {
            Self::Serve(arguments) => Some(&mut arguments.overrides),
            Self::Check(arguments) => Some(&mut arguments.overrides),
            Self::Cert(_) | Self::Doctor(_) | Self::Profile(_) | Self::Probe(_) | Self::Sessions(_) | Self::Fault(_) | Self::Explain(_) => {
                None
            }
        }
    }
}

impl Overrides {
    /// File, then environment, then flags, over what `settings` holds.
    pub fn lay(&self, settings: &mut Settings) -> Result<(), Failure> {
        if let Some(path) = &self.config {
            settings.read(path)?;
        }
        self.lay_given(settings);
        Ok(())
    }

    /// Environment and flags alone.
    pub fn lay_given(&self, settings: &mut Settings) {
        let mut set = |id, key, change: &dyn Fn(&mut Config)| {
            if let Some(source) = self.given.source(id) {
                settings.set(key, source, change);
            }
        };
        set("listen", "listen", &|config| config.listen.clone_from(&self.listen));
        set("cert", "certificate.chain", &|config| config.certificate.chain = self.cert.clone().unwrap_or_default());
        set("key", "certificate.key", &|config| config.certificate.key = self.key.clone().unwrap_or_default());
        set("workers", "workers", &|config| config.workers = self.workers.unwrap_or(config.workers));
        set("open", "access.open", &|config| config.access.open = self.open);
        set("allow_private", "rules.allow_private", &|config| config.rules.allow_private = self.allow_private);
        set("no_h2", "http2", &|config| config.http.h2 = !self.no_h2);
        set("no_h3", "http3", &|config| config.http.h3 = !self.no_h3);
        set("qlog", "log.qlog", &|config| config.log.qlog.clone_from(&self.qlog));
    }
}

impl Given {
    /// Where the argument `id` is from; none: it was not given.
    pub fn source(&self, id: &str) -> Option<Source> {
        self.0.iter().find(|(given, _)| *given == id).map(|(_, source)| source.clone())
    }

    fn from(matches: &ArgMatches) -> Self {
        let given = OVERRIDES.into_iter().filter_map(|(id, flag, variable)| match matches.value_source(id)? {
            ValueSource::CommandLine => Some((id, Source::Flag(flag))),
            ValueSource::EnvVariable => Some((id, Source::Environment(variable))),
            _ => None,
        });
        Self(given.collect())
    }
}

/// The settings that are flags: clap's name, the flag, the variable.
const OVERRIDES: [(&str, &str, &str); 10] = [
    ("config", "--config", "MASQUE_RELAY_CONFIG"),
    ("listen", "--listen", "MASQUE_RELAY_LISTEN"),
    ("cert", "--cert", "MASQUE_RELAY_CERT"),
    ("key", "--key", "MASQUE_RELAY_KEY"),
    ("workers", "--workers", "MASQUE_RELAY_WORKERS"),
    ("open", "--open", "MASQUE_RELAY_OPEN"),
    ("allow_private", "--allow-private", "MASQUE_RELAY_ALLOW_PRIVATE"),
    ("no_h2", "--no-h2", "MASQUE_RELAY_NO_H2"),
    ("no_h3", "--no-h3", "MASQUE_RELAY_NO_H3"),
    ("qlog", "--qlog", "MASQUE_RELAY_QLOG"),
];

const TRY: &str = "Try it: masque-relay serve --dev";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_override_is_a_flag_with_its_variable() {
        let command = Arguments::command();
        let serve = command.find_subcommand("serve").unwrap();
        for (id, flag, variable) in OVERRIDES {
            let argument = serve.get_arguments().find(|argument| argument.get_id() == id).unwrap();
            assert_eq!(format!("--{}", argument.get_long().unwrap()), flag);
            assert_eq!(argument.get_env().unwrap(), variable);
        }
        // And those of the log and of faults, which no file holds.
        let with_variable = serve.get_arguments().filter(|argument| argument.get_env().is_some()).count();
        assert_eq!(with_variable, OVERRIDES.len() + 3);
    }
}
