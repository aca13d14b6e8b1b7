//! `explain`: a log of Apple's client in, what it means out. Text for people, `--json` for programs, both on stdout.

mod text;

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use clap::Args;

use super::report::{Exit, Failure, print, say};
use crate::{
    diagnosis,
    explain::{self, Explanation, errands::PREDICATE, records},
};

/// `explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The log, in any of its framings; none or `-`: stdin
    #[arg(value_name = "LOG")]
    log: Option<PathBuf>,
    /// The relay's records, a line of JSON each: joined by address, byte counts and time
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// All there is to say, as JSON
    #[arg(long)]
    json: bool,
    /// Explain a value of `getLastClientErrors` instead
    #[arg(long, value_name = "N", conflicts_with_all = ["log", "records"])]
    client_error: Option<u32>,
}

/// Explains, and prints.
pub fn run(arguments: &ExplainArguments) -> Result<(), Failure> {
    if let Some(value) = arguments.client_error {
        return client_error(value, arguments.json);
    }
    let records = arguments.records.as_deref().map(read_records).transpose()?;
    let (explanation, name) = read_log(arguments.log.as_deref(), records.as_deref())?;
    if explanation.log.understood == 0 {
        return Err(nothing(&name, &explanation));
    }
    if arguments.json {
        return print_json(&explanation);
    }
    print(&text::explanation(&name, &explanation))
}

fn client_error(value: u32, json: bool) -> Result<(), Failure> {
    let Some((name, finding)) = diagnosis::client_error(value) else {
        return Err(Failure::says(Exit::Wrong, format!("cannot explain the client error {value}")).hint("Apple documents 1 to 10"));
    };
    if json {
        return print_json(&serde_json::json!({ "value": value, "name": name, "finding": finding }));
    }
    print(&text::finding(&finding))
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).expect("what is explained has only keys that are strings");
    print(&(text + "\n"))
}

/// The explanation, and how the log is called.
fn read_log(path: Option<&Path>, records: Option<&[diagnosis::Record]>) -> Result<(Explanation, String), Failure> {
    let (name, log): (String, Box<dyn Read>) = match path {
        Some(path) if path != Path::new("-") => (path.display().to_string(), Box::new(open(path)?)),
        _ => {
            if io::stdin().is_terminal() {
                say("reading a log from stdin; end it with Ctrl-D");
            }
            ("stdin".into(), Box::new(io::stdin().lock()))
        }
    };
    let explanation = explain::explain(log, records).map_err(|source| Failure::io(format!("cannot read {name}"), &source))?;
    Ok((explanation, name))
}

fn read_records(path: &Path) -> Result<Vec<diagnosis::Record>, Failure> {
    let name = path.display();
    let read = records::read(open(path)?).map_err(|source| Failure::io(format!("cannot read {name}"), &source))?;
    if let Some((line, why)) = &read.first_unreadable {
        if read.kept.is_empty() {
            let failure = Failure::says(Exit::Failed, format!("cannot read {name}: line {line}: {why}"));
            return Err(failure.hint("each line must be a record in JSON, like the relay writes them"));
        }
        let more = if read.unreadable > 1 { format!(", and {} more lines", read.unreadable - 1) } else { String::new() };
        say(format_args!("warning: cannot read line {line}{more} of {name}: {why}"));
    }
    if read.dropped > 0 {
        say(format_args!("warning: {name} has more than {} records: the first {} are not looked at", records::MOST, read.dropped));
    }
    Ok(read.kept)
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|source| Failure::io(format!("cannot read {}", path.display()), &source))
}

fn nothing(name: &str, explanation: &Explanation) -> Failure {
    let what = match explanation.log.lines {
        0 => "it is empty".to_owned(),
        1 => "its line is none of Apple's network log".to_owned(),
        lines => format!("none of its {lines} lines is one of Apple's network log"),
    };
    Failure::says(Exit::Failed, format!("cannot explain {name}: {what}"))
        .hint(format!("collect one on the Mac: log show --info --debug --last 10m --style compact --predicate '{PREDICATE}' > mac.log"))
}

/// Beneath the help of `explain`.
pub const HELP: &str = "\
Collect a log on the Mac, just after the failure:
  log show --info --debug --last 10m --style compact --predicate \\
    'subsystem == \"com.apple.network\" OR subsystem == \"com.apple.networkextension\"' > mac.log
Example: masque-relay explain mac.log";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Arguments;

    /// The commands that it tells people to type are commands of this program.
    #[test]
    fn its_errands_can_be_run() {
        let log = include_bytes!("../../tests/logs/macos-abort.log");
        let explanation = explain::explain(&log[..], None).expect("bytes in memory can be read");
        let ours = explanation
            .errands
            .iter()
            .filter_map(|errand| errand.command.split("&& ").last())
            .filter(|command| command.starts_with("masque-relay "));
        let ours: Vec<_> = ours.map(|command| command.split(" 2>").next().unwrap_or_default()).collect();
        assert_eq!(ours.len(), 5, "{ours:?}");
        for command in ours {
            if let Err(error) = Arguments::command().try_get_matches_from(command.split(' ')) {
                panic!("{command}: {error}");
            }
        }
        assert!(HELP.contains(PREDICATE));
    }
}
