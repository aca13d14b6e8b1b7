//! `check`: what `serve` would say about a configuration, without serving; and whether a running relay answers.

use std::time::SystemTime;

use super::{
    CheckArguments,
    report::{Failure, print, say},
};
use crate::{
    certs::{Identity, facts::utc},
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
    let identity = Identity::load(&meant.config.certificate)?;
    identity.check(now)?;
    for complaint in identity.facts().complaints(now) {
        say(format_args!("warning: the certificate {}: {complaint}", meant.config.certificate.chain.display()));
    }
    if arguments.health {
        return Ok(());
    }
    say(summary(&meant.config, &identity));
    Ok(())
}

fn summary(config: &Config, identity: &Identity) -> String {
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    let who = match (config.access.open, config.access.tokens.len()) {
        (true, _) => "open to everybody".to_owned(),
        (false, 1) => "1 token".to_owned(),
        (false, tokens) => format!("{tokens} tokens"),
    };
    format!(
        "ok: {} as {} (until {}), {who}, {} rules, {} workers",
        listen.join(", "),
        identity.names().join(", "),
        utc(identity.facts().not_after),
        config.rules.list.len(),
        config.workers,
    )
}

/// Beneath the help of `check`.
pub const HELP: &str = "Example: masque-relay check --config relay.toml --show";
