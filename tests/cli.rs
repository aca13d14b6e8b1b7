//! What a person sees: the real binary, whole output, exit code.

#[path = "cli/cert.rs"]
mod cert;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/explain.rs"]
mod explain;
#[path = "cli/faults.rs"]
mod faults;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/profile.rs"]
mod profile;
#[path = "cli/secrets.rs"]
mod secrets;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/walk.rs"]
mod walk;

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A directory of its own, with nothing of this machine's environment.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file in the temporary directory");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file in the temporary directory")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_masque-relay"));
        command.args(arguments).current_dir(self.0.path()).env_clear();
        command
    }

    /// Runs to the end: exit code, stdout, stderr.
    fn run(&self, arguments: &[&str]) -> String {
        shown(self.command(arguments))
    }

    /// The same, only stdout, and it must succeed.
    fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).stdin(Stdio::null()).output().expect("the binary runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A CA and a certificate for `relay.example`, under `certs/`.
    fn with_certificate(self) -> Self {
        self.stdout(&["cert", "ca"]);
        self.stdout(&["cert", "server", "relay.example", "192.0.2.7"]);
        self
    }
}

/// Runs to the end, with an empty stdin.
fn shown(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the binary runs");
    let mut shown = Vec::new();
    let code = output.status.code().map_or("signal".into(), |code| code.to_string());
    writeln!(shown, "exit {code}").expect("a Vec takes everything");
    for (name, text) in [("stdout", output.stdout), ("stderr", output.stderr)] {
        if !text.is_empty() {
            writeln!(shown, "-- {name}").expect("a Vec takes everything");
            shown.extend(text);
        }
    }
    String::from_utf8(shown).expect("UTF-8")
}
