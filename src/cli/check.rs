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
    let identity = serving.first();
    identity.check(now)?;
    for complaint in identity.facts().complaints(now) {
        say(format_args!("warning: the certificate {}: {complaint}", meant.config.certificate.chain.display()));
    }
    if arguments.health {
        return health::ask(&meant.config, identity);
    }
    say(summary(&meant.config, identity));
    Ok(())
}

fn summary(config: &Config, identity: &Identity) -> String {
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    let who = match (config.access.open, config.access.tokens.len()) {
        (true, _) => "open to everybody".to_owned(),
        (false, tokens) if config.access.client_ca.is_some() => format!("{} and client certificates", count(tokens, "token")),
        (false, tokens) => count(tokens, "token"),
    };
    format!(
        "ok: {} as {} (until {}), {who}, {}, {}",
        listen.join(", "),
        identity.names().join(", "),
        utc(identity.facts().not_after),
        count(config.rules.list.len(), "rule"),
        count(config.workers, "worker"),
    )
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// Beneath the help of `check`.
pub const HELP: &str = "Example: masque-relay check --config relay.toml --show";
