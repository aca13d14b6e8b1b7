//! No image is built here. What can be known without: the configuration loads, the commands exist, the files that are copied are there.

use std::{fs, path::Path};

use clap::CommandFactory;
use masque_relay::{
    cli::Arguments,
    config::{
        Config,
        file::{ConfigError, Meant, Settings},
    },
};

#[test]
fn the_configuration_loads_once_it_has_a_token() {
    let text = read("docker/relay.toml");
    let with_token = text.replace("tokens = []", &format!(r#"tokens = [{{ user = "alice", sha256 = "{}" }}]"#, "5a".repeat(32)));
    assert_ne!(text, with_token);
    let config = load(&with_token).expect("docker/relay.toml is right but for the token").config;
    assert_eq!(config.certificate.chain, Path::new("/etc/masque-relay/certs/cert.pem"));
}

/// A relay that anybody may use is nothing to find out later.
#[test]
fn without_a_token_it_does_not_start() {
    let Err(ConfigError::Problems { problems, .. }) = load(&read("docker/relay.toml")) else { panic!("it loads") };
    let says: Vec<_> = problems.iter().map(|problem| problem.says.as_str()).collect();
    assert!(matches!(says[..], [only] if only.starts_with("no token is configured")), "{says:?}");
}

#[test]
fn every_command_exists() {
    let dockerfile = read("docker/Dockerfile");
    let entry = argv(one(&dockerfile, "ENTRYPOINT "));
    let serve: Vec<_> = entry.iter().cloned().chain(argv(one(&dockerfile, "CMD "))).collect();
    let health = argv(one(&dockerfile, "HEALTHCHECK ").split_once("CMD ").expect("the health check's command").1);
    assert_eq!(health[0], entry[0], "the health check runs the relay's binary");
    assert!(health.contains(&"--health".to_owned()));
    let compose = read("docker/compose.yaml");
    let by_hand = compose.lines().filter_map(|line| line.split_once("docker compose run --rm relay "));
    let by_hand: Vec<_> = by_hand.map(|(_, arguments)| words(&format!("masque-relay {arguments}"))).collect();
    assert_eq!(by_hand.len(), 2);
    let relay_toml = read("docker/relay.toml");
    let in_comments = relay_toml.lines().filter_map(|line| line.find("masque-relay ").map(|at| words(&line[at..])));
    for argv in by_hand.into_iter().chain(in_comments).chain([serve, health]) {
        if let Err(error) = Arguments::command().try_get_matches_from(&argv) {
            panic!("{}: {error}", argv.join(" "));
        }
    }
}

#[test]
fn every_copied_file_is_there_and_not_ignored() {
    let ignored = read("docker/Dockerfile.dockerignore");
    let dockerfile = read("docker/Dockerfile");
    let copied = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    let sources: Vec<_> = copied.flat_map(|line| line.split(' ').rev().skip(1).collect::<Vec<_>>()).collect();
    assert!(sources.contains(&"src") && sources.contains(&"docker/relay.toml"), "{sources:?}");
    for source in sources {
        assert!(Path::new(source).exists(), "{source} is copied and does not exist");
        assert!(ignored.lines().any(|line| line == format!("!{source}")), "{source} is copied and ignored");
    }
}

/// What cargo builds in the image is what it builds here.
#[test]
fn the_builder_is_the_rust_of_the_manifest() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let rust = manifest["package"]["rust-version"].as_str().expect("a rust-version");
    assert!(read("docker/Dockerfile").contains(&format!("FROM rust:{rust}-slim-")), "rust-version is {rust}");
}

/// HTTP/3 over UDP, and HTTP/2 over TCP for networks that block it.
#[test]
fn every_exposed_port_is_published() {
    let (dockerfile, compose) = (read("docker/Dockerfile"), read("docker/compose.yaml"));
    for port in one(&dockerfile, "EXPOSE ").split(' ') {
        let (number, _) = port.split_once('/').expect("a port and its protocol");
        assert!(compose.contains(&format!("- \"{number}:{port}\"")), "{port} is not published");
    }
}

#[test]
fn the_container_leaves_room_for_the_defaults() {
    let compose = read("docker/compose.yaml");
    let defaults = Config::default();
    let grace: u64 = one(&compose, "stop_grace_period: ").trim_end_matches('s').parse().expect("seconds");
    assert!(grace > defaults.timeouts.drain.as_secs(), "the drain is cut short");
    for limit in ["soft: ", "hard: "] {
        let files: usize = one(&compose, limit).parse().expect("a number of files");
        assert!(files > defaults.limits.tunnels + 1000, "{limit}{files} is too little for limits.tunnels");
    }
    assert!(compose.contains(&format!("net.core.rmem_max={0} net.core.wmem_max={0}", defaults.quic.socket_buffer)));
}

fn load(text: &str) -> Result<Meant, ConfigError> {
    let mut settings = Settings::new();
    settings.parse(Path::new("/etc/masque-relay/relay.toml"), text);
    settings.finish()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// What follows `start` in the one line that starts with it.
fn one<'a>(text: &'a str, start: &str) -> &'a str {
    let found: Vec<_> = text.lines().filter_map(|line| line.trim_start().strip_prefix(start)).collect();
    assert_eq!(found.len(), 1, "lines that start with `{start}`: {found:?}");
    found[0]
}

/// `["a", "b"]`, the form that needs no shell.
fn argv(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text} is no list of words: {error}"))
}

/// A command in prose ends at the backquote that closes it.
fn words(text: &str) -> Vec<String> {
    let text = text.split_once('`').map_or(text, |(command, _)| command);
    text.split_whitespace().map(str::to_owned).collect()
}
