//! `probe`: one tunnel on stdin and stdout.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::report::Failure;

/// `probe`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub struct ProbeArguments {
    /// The relay, `https://HOST[:PORT][/TEMPLATE]`
    #[arg(value_name = "URL")]
    url: String,
    /// Reach this over TCP: stdin goes there until its end, stdout shows the answer
    #[arg(long, value_name = "HOST:PORT", group = "target")]
    tcp: Option<String>,
    /// Reach this over UDP: every line of stdin is a datagram, and so is every answer
    #[arg(long, value_name = "HOST:PORT", group = "target")]
    udp: Option<String>,
    /// Trust these CAs instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The credential, sent as `Proxy-Authorization: Bearer`
    #[arg(long, value_name = "TOKEN", env = "MASQUE_RELAY_TOKEN", hide_env_values = true, hide_env = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the credential
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Another field of the request; repeatable
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
}

/// TODO
pub fn run(arguments: &ProbeArguments) -> Result<(), Failure> {
    let _ = arguments;
    Ok(())
}

/// Beneath the help of `probe`.
pub const HELP: &str = "\
The token may also be in MASQUE_RELAY_TOKEN. Status, Proxy-Status and timings go to stderr.
Example: echo hello | masque-relay probe https://localhost:4433 --ca certs/dev/ca.pem \\
           --token-file certs/dev/token --tcp 127.0.0.1:7";
