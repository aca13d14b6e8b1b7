//! How errors and hints are shown, and with which exit code the process ends.
//!
//! ```text
//! error: cannot listen on udp 0.0.0.0:443
//!   caused by: permission denied (os error 13)
//!
//! hint: ports below 1024 need CAP_NET_BIND_SERVICE; or listen above, like `--listen 0.0.0.0:8443`
//! ```

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use crate::{
    certs::{CertError, files::WriteError, issue::IssueError},
    config::file::ConfigError,
    server::StartError,
};

/// Why a command ends without having done its work.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    error: String,
    causes: Vec<String>,
    hint: Option<String>,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The thing failed: 1.
    Failed,
    /// The command or the configuration is wrong: 2.
    Wrong,
}

impl Failure {
    /// From an error with its causes.
    pub fn new(exit: Exit, error: &dyn Error, hint: Option<String>) -> Self {
        let mut causes: Vec<String> = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(lower(&cause.to_string()));
            next = cause.source();
        }
        causes.dedup();
        Self { exit, error: error.to_string(), causes, hint }
    }

    /// In words alone.
    pub fn says(exit: Exit, error: impl Into<String>) -> Self {
        Self { exit, error: error.into(), causes: Vec::new(), hint: None }
    }

    /// An I/O error with what was tried: `cannot read the token certs/dev/token`.
    pub fn io(error: impl Into<String>, source: &io::Error) -> Self {
        Self { exit: Exit::Failed, error: error.into(), causes: vec![lower(&source.to_string())], hint: None }
    }

    /// With something to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// All of it in a line, for the log.
    pub fn line(&self) -> String {
        let mut line = self.error.replace("\n  ", "; ");
        self.causes.iter().for_each(|cause| line += &format!(": {cause}"));
        self.hint.iter().for_each(|hint| line += &format!(" (hint: {hint})"));
        line
    }

    /// It ends without a word.
    pub const fn is_silent(&self) -> bool {
        self.error.is_empty()
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self.exit {
            Exit::Failed => ExitCode::from(1),
            Exit::Wrong => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.error)?;
        for cause in &self.causes {
            write!(f, "\n  caused by: {cause}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Wrong, &error, error.hint())
    }
}

impl From<CertError> for Failure {
    fn from(error: CertError) -> Self {
        Self::new(Exit::Wrong, &error, error.hint())
    }
}

impl From<IssueError> for Failure {
    fn from(error: IssueError) -> Self {
        let exit = match error {
            IssueError::Make(_) => Exit::Failed,
            _ => Exit::Wrong,
        };
        Self::new(exit, &error, error.hint())
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::new(Exit::Failed, &error, error.hint())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match error {
            StartError::Certificate(_) | StartError::OpenToAll { .. } | StartError::NoFaults { .. } | StartError::Misfits(_) => Exit::Wrong,
            StartError::Admin(_)
            | StartError::Bind { .. }
            | StartError::Quic(_)
            | StartError::Dns { .. }
            | StartError::Records { .. }
            | StartError::Qlog { .. }
            | StartError::Worker { .. } => Exit::Failed,
        };
        Self::new(exit, &error, error.hint())
    }
}

/// Prints data on stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same of what may not be text.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|source| match source.kind() {
        // Whoever read it has seen enough, like `head`: that is no news to anybody.
        io::ErrorKind::BrokenPipe => Failure::says(Exit::Failed, ""),
        _ => Failure::io("cannot write to stdout", &source),
    })
}

/// Says something on stderr. That nobody can hear it is nobody's error.
pub fn say(text: impl fmt::Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// What a peer sent, for a terminal: no control character gets through, nor one that turns the direction of what follows.
pub fn printable(text: &str) -> String {
    let unseen =
        |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    text.chars().map(|c| if unseen(c) { c.escape_default().to_string() } else { c.into() }).collect()
}

/// `Permission denied` reads `permission denied` after a colon; `DNS` and `CA` stay.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_causes_and_its_hint() {
        let source = io::Error::from_raw_os_error(13);
        let failure = Failure::from(CertError::ReadKey { path: "k.pem".into(), source });
        assert_eq!(
            failure.to_string(),
            "error: cannot read the private key k.pem\n  caused by: permission denied (os error 13)\n\n\
             hint: let the user that runs the relay read it, like `chown USER k.pem`"
        );
        assert_eq!(failure.exit, Exit::Wrong);
        assert_eq!(Failure::says(Exit::Failed, "it broke").to_string(), "error: it broke");
    }

    #[test]
    fn a_peers_text_cannot_drive_the_terminal() {
        assert_eq!(printable("a; b=\"c\"\x1b[2J\u{9b}\n\u{202e}é"), "a; b=\"c\"\\u{1b}[2J\\u{9b}\\n\\u{202e}é");
    }

    #[test]
    fn abbreviations_keep_their_capitals() {
        for (text, want) in [("Permission denied", "permission denied"), ("DNS is gone", "DNS is gone"), ("", ""), ("x", "x")] {
            assert_eq!(lower(text), want);
        }
    }
}
