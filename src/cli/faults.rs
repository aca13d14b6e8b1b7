//! `serve --fault`: which faults, and the words about them.

use clap::Args;
use tracing::warn;

use crate::{
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

/// What `--fault` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The list of faults.
    Help,
    /// A fault.
    Fault(Fault),
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
        config.fault.on.extend(self.fault.iter().filter_map(|wanted| match wanted {
            Wanted::Fault(fault) => Some(*fault),
            Wanted::Help => None,
        }));
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
