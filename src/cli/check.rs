//! `check`: what `serve` would say about a configuration, without serving; and whether a running relay answers.

mod health;

use std::time::SystemTime;

use super::{
    CheckArguments,
    report::{Failure, print, say},
};
use crate::{
    certs::{Identity, Serving, facts::utc},
    config::{Config, file::Settings, memory::bytes},
    sys,
};

/// Checks the configuration and the certificate it names; with `--show` prints it, with `--health` asks the running relay.
pub fn run(arguments: &CheckArguments, now: SystemTime) -> Result<(), Failure> {
    let mut settings = Settings::new();
    arguments.overrides.lay(&mut settings)?;
    let meant = settings.finish()?;
    if arguments.show {
        print(&meant.show())?;
        if let Some(warning) = sys::memory().and_then(|memory| too_much(&meant.config, memory)) {
            say(warning);
        }
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

/// Whether clients within the limits could need more than the machine's `memory`.
fn too_much(config: &Config, memory: u64) -> Option<String> {
    let (connections, tunnels) = config.limits_that_fit(memory)?;
    let worst = config.worst_case_memory().total;
    Some(format!(
        "warning: at worst {}, and this machine has {}: `limits.connections = {connections}` with `limits.tunnels = {tunnels}` would fit",
        bytes(worst),
        bytes(memory),
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_beyond_the_machine_are_warned_of() {
        let mut config = Config { workers: 2, ..Config::default() };
        assert_eq!(too_much(&config, 1 << 50), None);
        let warning = too_much(&config, 8 << 30).unwrap();
        let wanted =
            "warning: at worst 1.2 TiB, and this machine has 8 GiB: `limits.connections = 45` with `limits.tunnels = 455` would fit";
        assert_eq!(warning, wanted);
        (config.limits.connections, config.limits.tunnels) = (2, 2);
        assert_eq!(too_much(&config, 8 << 30), None);
    }
}
