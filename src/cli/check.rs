//! `check`: what `serve` would say about a configuration, without serving; and whether a running relay answers.

mod health;

use std::time::SystemTime;

use super::{
    CheckArguments,
    report::{Failure, print, say},
};
use crate::{
    certs::{Identity, Serving, facts::utc},
    config::{Config, file::Settings},
};

/// Checks the configuration and the certificate it names; with `--show` prints it, with `--health` asks the running relay.
pub fn run(arguments: &CheckArguments, now: SystemTime) -> Result<(), Failure> {
    let mut settings = Settings::new();
    arguments.overrides.lay(&mut settings)?;
    let meant = settings.finish()?;
    if arguments.show {
        print(&meant.show())?;
    }
    let serving = Serving::load(&meant.config)?;
    serving.check(now)?;
    for (identity, files) in serving.identities().iter().zip(meant.config.certificates()) {
        for complaint in identity.facts().complaints(now) {
            say(format_args!("warning: the certificate {}: {complaint}", files.chain.display()));
        }
    }
    if arguments.health {
        return health::ask(&meant.config, serving.first());
    }
    say(summary(&meant.config, serving.identities()));
    Ok(())
}

fn summary(config: &Config, identities: &[Identity]) -> String {
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    let who = match (config.access.open, config.access.tokens.len()) {
        (true, _) => "open to everybody".to_owned(),
        (false, tokens) if config.access.client_ca.is_some() => format!("{} and client certificates", count(tokens, "token")),
        (false, tokens) => count(tokens, "token"),
    };
    let names = identities.iter().map(|identity| format!("{} (until {})", identity.names().join(", "), utc(identity.facts().not_after)));
    format!(
        "ok: {} as {}, {who}, {}, {}",
        listen.join(", "),
        names.collect::<Vec<_>>().join(" and "),
        count(config.rules.list.len(), "rule"),
        count(config.workers, "worker"),
    )
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// Beneath the help of `check`.
pub const HELP: &str = "Example: masque-relay check --config relay.toml --show";
