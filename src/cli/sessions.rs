//! `sessions`: the connections of a running relay, as its admin socket tells them.

mod text;

use std::{
    collections::HashSet,
    env, io,
    path::{Path, PathBuf},
};

use clap::Args;

use super::report::{Exit, Failure, print};
use crate::admin::{
    Answer, Ask,
    client::{AskError, Client},
};

/// `sessions`.
#[derive(Debug, Args)]
pub struct SessionsArguments {
    /// One connection: what happened on it, in the order of time, and what that means
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Go on with what happens
    #[arg(long)]
    follow: bool,
    /// A line of JSON for each
    #[arg(long)]
    json: bool,
    /// The relay's admin socket, where it is not found by itself
    #[arg(long, value_name = "FILE", env = "MASQUE_RELAY_ADMIN", hide_env = true)]
    admin: Option<PathBuf>,
}

/// Asks, and prints.
pub fn run(arguments: &SessionsArguments) -> Result<(), Failure> {
    let mut client = connect(&places(arguments.admin.as_deref()))?;
    match (&arguments.id, arguments.follow) {
        (None, false) => list(&mut client, arguments.json),
        (None, true) => follow(&mut client, arguments.json),
        (Some(id), follow) => one(&mut client, id, follow, arguments.json),
    }
}

/// Where a relay of this machine may have its socket, the likeliest first.
pub(super) fn places(named: Option<&Path>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.into()];
    }
    in_runtime_directory().into_iter().chain([Path::new(SYSTEM).into(), Path::new(super::dev::DIRECTORY).join(SOCKET)]).collect()
}

/// Where a service manager wants it.
pub(super) fn in_runtime_directory() -> Option<PathBuf> {
    let directories = env::var_os("RUNTIME_DIRECTORY")?;
    env::split_paths(&directories).next().filter(|first| !first.as_os_str().is_empty()).map(|first| first.join(SOCKET))
}

/// How the socket's file is called.
pub(super) const SOCKET: &str = "admin.sock";
/// Where the unit of the README has it.
const SYSTEM: &str = "/run/masque-relay/admin.sock";

fn connect(places: &[PathBuf]) -> Result<Client, Failure> {
    for place in places {
        let error = match Client::connect(place) {
            Ok(client) => return Ok(client),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => error,
        };
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "the socket is for the relay's own user: run this as that user, or as root",
            io::ErrorKind::ConnectionRefused => "the relay that made it is gone; start it again, or name another with `--admin`",
            _ => "the key `admin` of the relay's configuration names its socket",
        };
        return Err(Failure::io(format!("cannot ask the relay at {}", place.display()), &error).hint(hint));
    }
    let shown: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    Err(Failure::says(Exit::Failed, format!("no relay runs here: there is no admin socket at {}", shown.join(" or ")))
        .hint("start one, like `masque-relay serve --dev`; or name its socket (the key `admin`) with `--admin FILE`"))
}

fn list(client: &mut Client, json: bool) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for answer in client.ask(&Ask::Sessions).map_err(failed)? {
        match answer.map_err(failed)? {
            Answer::Session(session) if json => print_json(&session)?,
            Answer::Session(session) => rows.push(text::row(&session)),
            _ => {}
        }
    }
    if json { Ok(()) } else { print(&text::table(&rows)) }
}

fn follow(client: &mut Client, json: bool) -> Result<(), Failure> {
    if !json {
        print(&text::heading())?;
    }
    for answer in client.ask(&Ask::Follow { id: None }).map_err(failed)? {
        let answer = answer.map_err(failed)?;
        match &answer {
            _ if json => print_json(&answer)?,
            Answer::Opened(session) | Answer::Closed(session) => print(&text::line(&text::row(session)))?,
            Answer::Missed(missed) => print(&format!("({missed} lines were missed: they came faster than they were read)\n"))?,
            _ => {}
        }
    }
    Ok(())
}

fn one(client: &mut Client, id: &str, follow: bool, json: bool) -> Result<(), Failure> {
    let ask = if follow { Ask::Follow { id: Some(id.into()) } } else { Ask::Session { id: id.into() } };
    let (mut told, mut last) = (HashSet::new(), None);
    for answer in client.ask(&ask).map_err(failed)? {
        let Answer::Record(record) = answer.map_err(failed)? else { continue };
        if json {
            print_json(&record)?;
            continue;
        }
        if last.is_none() {
            print(&text::title(&record))?;
        }
        // A record grows: what was told stays told.
        let fresh: Vec<_> = record.timeline().into_iter().filter(|moment| told.insert(text::moment(moment))).collect();
        print(&text::moments(&fresh))?;
        last = Some(record);
    }
    match last {
        Some(record) => print(&text::end(&record)),
        None => Ok(()),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).expect("an answer has only keys that are strings");
    print(&(text + "\n"))
}

fn failed(error: AskError) -> Failure {
    let hint = match &error {
        AskError::Refused(_) => Some("`masque-relay sessions` lists those that are known".to_owned()),
        AskError::Lost(_) => None,
        AskError::Unreadable(_) => Some("is it another version of masque-relay?".to_owned()),
    };
    Failure::new(Exit::Failed, &error, hint)
}

/// Beneath the help of `sessions`.
pub const HELP: &str = "\
Known are the open connections and the last 1,024 that are over. The socket is that of `--admin`
or MASQUE_RELAY_ADMIN, or admin.sock in $RUNTIME_DIRECTORY, /run/masque-relay or certs/dev.
Example: masque-relay sessions 0.17";
