//! The relay, a process like the others.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::child::{Child, output_of, python};

/// `masque-relay serve` on 127.0.0.1, in a directory of its own.
pub(crate) struct Relay {
    /// UDP and TCP.
    pub(crate) port: String,
    process: Child,
    // Last: goes when the process is gone.
    directory: TempDir,
}

impl Relay {
    /// `serve --dev`: every version of HTTP, and any target.
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let mut relay = Self::serve(directory, &["--dev"]);
        // It examines itself, through tunnels that are not the test's.
        relay.process.forget_until("doctor: ");
        relay
    }

    /// A relay that asks for no credential, and for names nobody but the DNS server on `dns`.
    pub(crate) fn open_to_everybody(dns: u16) -> Self {
        let directory = TempDir::new().unwrap();
        let config = format!(
            "certificate = {{ chain = 'certs/dev/cert.pem', key = 'certs/dev/key.pem' }}\n\
             rules.allow_private = true\n\
             dns.servers = ['127.0.0.1:{dns}']\n"
        );
        fs::write(directory.path().join("relay.toml"), config).unwrap();
        let certs = Path::new("certs/dev");
        output_of(binary(&directory).args(["cert", "ca", "--out"]).arg(certs));
        issue(&directory, "127.0.0.1", certs);
        Self::serve(directory, &["--config", "relay.toml", "--open"])
    }

    fn serve(directory: TempDir, arguments: &[&str]) -> Self {
        let mut command = binary(&directory);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let (process, ready) = Child::start(&mut command, "ready https://");
        let port = ready.rsplit(':').next().unwrap_or_default().to_owned();
        Self { port, process, directory }
    }

    /// Its URL, as a proxy has it.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The CA of its certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.certs().join("ca.pem")
    }

    /// The token of a relay started with `--dev`.
    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.certs().join("token")).unwrap().trim().to_owned()
    }

    /// Issues `cert.pem` and `key.pem` for an origin, by the relay's own CA, into `directory`.
    pub(crate) fn certify(&self, name: &str, directory: &Path) {
        issue(&self.directory, name, directory);
    }

    /// Runs a client of this folder against the relay, over `http`; returns what it prints.
    pub(crate) fn client(&self, http: &str, script: &str, arguments: &[&dyn AsRef<OsStr>]) -> String {
        output_of(python(script, &[&http, &self.port, &self.certs()]).args(arguments))
    }

    /// Ends it in order; its log.
    pub(crate) fn end(self) -> Vec<Value> {
        self.process.end().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn certs(&self) -> PathBuf {
        self.directory.path().join("certs/dev")
    }
}

pub(crate) fn issue(directory: &TempDir, name: &str, out: &Path) {
    output_of(binary(directory).args(["cert", "server", name, "--ca", "certs/dev", "--out"]).arg(out));
}

/// The relay's program, in the directory of a relay.
pub(crate) fn binary(directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masque-relay"));
    command.current_dir(directory.path());
    command
}
