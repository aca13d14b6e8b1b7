//! `cert`: makes and inspects certificates and tokens.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};

use super::report::{Failure, print, say};
use crate::{
    certs::{
        CertError,
        facts::{Facts, hex, utc},
        files::{Access, Existing, NewFile, write},
        issue::{self, Authority, Pair},
        read_chain,
    },
    config::{Token, user_name},
};

/// What to make, or to look at.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// Make a CA: DIR/ca.pem for the clients, DIR/ca.key to issue with
    #[command(after_help = "Example: masque-relay cert ca --name 'Example Inc. relay CA'")]
    Ca(CaArguments),
    /// Issue a server certificate: DIR/cert.pem and DIR/key.pem
    #[command(after_help = "Example: masque-relay cert server relay.example 192.0.2.7")]
    Server(ServerArguments),
    /// Issue a client identity: DIR/USER.pem and DIR/USER.key
    #[command(after_help = "Example: masque-relay cert client alice")]
    Client(ClientArguments),
    /// Say what a certificate is, and what Apple's clients would not like about it
    #[command(after_help = "Example: masque-relay cert inspect certs/cert.pem")]
    Inspect(InspectArguments),
    /// Print a new token, and the entry for `access.tokens` that accepts it
    #[command(after_help = "Example: masque-relay cert token --user alice")]
    Token(TokenArguments),
}

/// `cert ca`.
#[derive(Debug, Args)]
pub struct CaArguments {
    /// The CA's common name
    #[arg(long, value_name = "NAME", default_value = "masque-relay CA")]
    name: String,
    #[command(flatten)]
    output: Output,
}

/// `cert server`.
#[derive(Debug, Args)]
pub struct ServerArguments {
    /// What clients write in the URL: DNS names, IP addresses
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    issue: Issue,
    #[command(flatten)]
    output: Output,
}

/// `cert client`.
#[derive(Debug, Args)]
pub struct ClientArguments {
    /// Who it is for
    #[arg(value_name = "USER", value_parser = user_name)]
    user: String,
    #[command(flatten)]
    issue: Issue,
    #[command(flatten)]
    output: Output,
}

/// `cert inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// PEM file
    file: PathBuf,
}

/// `cert token`.
#[derive(Debug, Args)]
pub struct TokenArguments {
    /// Who it is for
    #[arg(long, value_name = "USER", default_value = "user", value_parser = user_name)]
    user: String,
}

#[derive(Debug, Args)]
struct Issue {
    /// Where `ca.pem` and `ca.key` are
    #[arg(long, value_name = "DIR", default_value = "certs")]
    ca: PathBuf,
    /// How long it is valid, 1 to 825
    #[arg(long, value_name = "DAYS", default_value_t = 397)]
    days: u64,
}

#[derive(Debug, Args)]
struct Output {
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = "certs")]
    out: PathBuf,
    /// Replace what is there
    #[arg(long)]
    force: bool,
}

/// Runs one of the commands.
pub fn run(command: &CertCommand, now: SystemTime) -> Result<(), Failure> {
    match command {
        CertCommand::Ca(arguments) => ca(arguments, now),
        CertCommand::Server(arguments) => server(arguments, now),
        CertCommand::Client(arguments) => client(arguments, now),
        CertCommand::Inspect(arguments) => inspect(&arguments.file, now),
        CertCommand::Token(arguments) => token(&arguments.user),
    }
}

fn ca(arguments: &CaArguments, now: SystemTime) -> Result<(), Failure> {
    let authority = Authority::new(&arguments.name, now)?;
    arguments.output.write("ca.pem", authority.pem(), "ca.key", &authority.key_pem())?;
    say("clients trust the relay once ca.pem is installed on them and trusted there; keep ca.key where the relay does not run");
    Ok(())
}

fn server(arguments: &ServerArguments, now: SystemTime) -> Result<(), Failure> {
    let pair = arguments.issue.authority()?.server(&arguments.names, arguments.issue.lasts(), now)?;
    arguments.output.write_pair("cert.pem", "key.pem", &pair)
}

fn client(arguments: &ClientArguments, now: SystemTime) -> Result<(), Failure> {
    let user = &arguments.user;
    // A user may be called anything, a file may not.
    if user.contains('/') || user.starts_with('.') {
        return Err(issue::IssueError::Name { name: user.clone() }.into());
    }
    let pair = arguments.issue.authority()?.client(user, arguments.issue.lasts(), now)?;
    arguments.output.write_pair(&format!("{user}.pem"), &format!("{user}.key"), &pair)
}

fn inspect(file: &Path, now: SystemTime) -> Result<(), Failure> {
    let mut out = String::new();
    for (index, der) in read_chain(file)?.iter().enumerate() {
        let facts = Facts::read(der).map_err(|says| CertError::Unparsable { path: file.into(), says })?;
        if index > 0 {
            out.push('\n');
        }
        out += &describe(&facts, now);
    }
    print(&out)
}

fn describe(facts: &Facts, now: SystemTime) -> String {
    let usage = match (facts.authority, facts.usage.server, facts.usage.client) {
        (true, _, _) => "CA",
        (false, true, true) => "server, client",
        (false, true, false) => "server",
        (false, false, true) => "client",
        (false, false, false) => "none",
    };
    let names = if facts.names.is_empty() { "none".to_owned() } else { facts.names.join(", ") };
    let mut out = format!(
        "subject  {}\nissuer   {}\nnames    {names}\nvalid    {} to {}\nkey      {}\nusage    {usage}\nserial   {}\nsha-256  {}\n",
        facts.subject,
        facts.issuer,
        utc(facts.not_before),
        utc(facts.not_after),
        facts.key,
        facts.serial,
        facts.sha256,
    );
    // What a leaf must be is nothing a CA or a client has to be.
    if !facts.authority && facts.usage.server {
        for complaint in facts.complaints(now) {
            out += &format!("warning  {complaint}\n");
        }
    }
    out
}

fn token(user: &str) -> Result<(), Failure> {
    let secret = issue::token();
    let entry = format!("{{ user = \"{user}\", sha256 = \"{}\" }}", hex(&Token::new(user, &secret).sha256));
    print(&format!("{}\n{entry}\n", *secret))?;
    say("\nthe client gets the first line; `access.tokens` of the relay gets the second, which reveals nothing");
    Ok(())
}

impl Issue {
    fn authority(&self) -> Result<Authority, Failure> {
        Ok(Authority::load(&self.ca.join("ca.pem"), &self.ca.join("ca.key"))?)
    }

    fn lasts(&self) -> Duration {
        Duration::from_secs(self.days.saturating_mul(24 * 3600))
    }
}

impl Output {
    fn write_pair(&self, chain: &str, key: &str, pair: &Pair) -> Result<(), Failure> {
        self.write(chain, &pair.chain, key, &pair.key)
    }

    fn write(&self, certificate: &str, pem: &str, key: &str, secret: &str) -> Result<(), Failure> {
        let existing = if self.force { Existing::Replace } else { Existing::Keep };
        let (certificate, key) = (self.out.join(certificate), self.out.join(key));
        let files = [
            NewFile { path: &certificate, text: pem.as_bytes(), access: Access::Public },
            NewFile { path: &key, text: secret.as_bytes(), access: Access::Owner },
        ];
        write(&files, existing)?;
        say(format_args!("wrote {} and {}", certificate.display(), key.display()));
        Ok(())
    }
}

/// Beneath the help of `cert`.
pub const HELP: &str = "Example: masque-relay cert ca && masque-relay cert server relay.example";
