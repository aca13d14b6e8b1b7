//! `serve --fault`, and `fault`, which switches them while the relay runs.

use std::path::PathBuf;

use clap::Args;
use tracing::warn;

use super::{
    report::{Exit, Failure, print, say},
    sessions::{connect, places},
};
use crate::{
    admin::{Answer, Ask, client::AskError},
    config::Config,
    fault::{self, Fault, FaultError, Faults},
};

/// How a relay is told to misbehave.
#[derive(Debug, Args)]
pub struct FaultArguments {
    /// Misbehave; repeatable; `--fault help` lists the ways
    #[arg(long, value_name = "NAME[=ARG]", env = "MASQUE_RELAY_FAULT", hide_env = true, value_delimiter = ',', value_parser = wanted)]
    pub fault: Vec<Wanted>,
    /// Of faults that are random
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub seed: u64,
}

/// `fault`.
#[derive(Debug, Args)]
pub struct SwitchArguments {
    /// Switch these on; `help` lists all there are
    #[arg(value_name = "NAME[=ARG]", value_parser = wanted)]
    on: Vec<Wanted>,
    /// Switch this one off; repeatable
    #[arg(long, value_name = "NAME")]
    off: Vec<String>,
    /// Switch all off first
    #[arg(long)]
    clear: bool,
    /// The relay's admin socket, where it is not found by itself
    #[arg(long, value_name = "FILE", env = "MASQUE_RELAY_ADMIN", hide_env = true)]
    admin: Option<PathBuf>,
}

/// Beneath its help.
pub const HELP: &str = "\
What is altered holds from the next handshake, request or packet on. Prints what is on then.
Example: masque-relay fault settings-late=2000 --off goaway";

/// Switches, and prints what is on.
pub fn switch(arguments: &SwitchArguments) -> Result<(), Failure> {
    if arguments.on.contains(&Wanted::Help) {
        return print(&list());
    }
    let on = arguments.on.iter().filter_map(Wanted::fault).map(ToString::to_string).collect();
    let ask = Ask::Fault { clear: arguments.clear, off: arguments.off.clone(), on };
    let mut client = connect(&places(arguments.admin.as_deref()))?;
    for answer in client.ask(&ask).map_err(failed)? {
        if let Answer::Faults(faults) = answer.map_err(failed)? {
            if faults.is_empty() {
                say("no fault is on");
            }
            print(&faults.iter().map(|fault| format!("{fault}\n")).collect::<String>())?;
        }
    }
    Ok(())
}

fn failed(error: AskError) -> Failure {
    Failure::new(Exit::Failed, &error, None)
}

/// What `--fault` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The list of faults.
    Help,
    /// A fault.
    Fault(Fault),
}

impl Wanted {
    const fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) => Some(fault),
            Self::Help => None,
        }
    }
}

fn wanted(text: &str) -> Result<Wanted, FaultError> {
    if text == "help" { Ok(Wanted::Help) } else { text.parse().map(Wanted::Fault) }
}

impl FaultArguments {
    /// Whether the list is asked for.
    pub fn help(&self) -> bool {
        self.fault.contains(&Wanted::Help)
    }

    /// Over what `config` holds.
    pub fn lay(&self, config: &mut Config) {
        config.fault.seed = self.seed;
        config.fault.on.extend(self.fault.iter().filter_map(Wanted::fault));
    }
}

/// What `--fault help` prints.
pub fn list() -> String {
    format!("ways to misbehave, and the versions of HTTP in which each shows:\n{}", fault::help())
}

/// A line for each fault that is on: nobody should wonder why nothing works.
pub fn warn_of(faults: &Faults) {
    for fault in faults.list() {
        warn!("the fault `{fault}` is on: this relay {}", fault.about().help);
    }
}
