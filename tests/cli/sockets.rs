//! What a relay listens on: its port for clients, and a file for its own user. A tunnel leads to an address, so no client comes to the file.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use super::{Process, Relay};
use crate::Home;

/// With a umask that keeps nobody out.
fn open_handed(home: &Home, arguments: &[&str]) -> Relay {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 0; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_masque-relay")]).args(arguments);
    command.current_dir(home.path(".")).env_clear();
    let mut process = Process::start(command);
    let ready = process.line();
    let url = ready.strip_prefix("ready ").unwrap_or_else(|| panic!("{ready}")).to_owned();
    Relay { process, url }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn nothing_listens_but_the_port_for_clients_and_a_file_for_the_relays_user() {
    let home = Home::new().with_certificate();
    fs::create_dir(home.path("run")).expect("a directory");
    drop(Relay::configured(&home, "admin = \"run/admin.sock\"\n"));
    let relay = open_handed(&home, &["serve", "--config", "relay.toml"]);
    let port: u16 = relay.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let process = Path::new("/proc").join(relay.process.child.id().to_string());
    let own = Own::of(&process);
    assert_eq!(own.ports("tcp", Some("0A")), [port], "TCP");
    assert_eq!(own.ports("udp", None), [port], "UDP");
    assert_eq!(own.files(), ["run/admin.sock"]);
    assert_eq!(mode(&home.path("run/admin.sock")), 0o600);
    // Its user may ask.
    home.stdout(&["sessions", "--admin", "run/admin.sock"]);
}

#[test]
fn whatever_the_umask_nobody_else_may_write_where_a_development_relay_keeps_its_files() {
    let home = Home::new();
    let relay = open_handed(&home, &["serve", "--dev", "--listen", "127.0.0.1:0"]);
    for directory in ["certs", "certs/dev"] {
        assert_eq!(mode(&home.path(directory)), 0o755, "{directory}");
    }
    for secret in ["admin.sock", "token", "key.pem", "ca.key", "relay.mobileconfig"] {
        assert_eq!(mode(&home.path("certs/dev").join(secret)), 0o600, "{secret}");
    }
    drop(relay);
}

/// The sockets of a process, by their inodes.
struct Own<'a> {
    process: &'a Path,
    sockets: Vec<String>,
}

impl<'a> Own<'a> {
    fn of(process: &'a Path) -> Self {
        let descriptors = fs::read_dir(process.join("fd")).expect("a process of ours");
        let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        let inode = |link: &Path| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned);
        Self { process, sockets: links.filter_map(|link| inode(&link)).collect() }
    }

    /// Lines of a table in which field number `at` is the inode of one of them.
    fn lines(&self, table: &str, at: usize) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.process.join("net").join(table)).expect("a table of the kernel's");
        let lines = text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|fields| fields.get(at).is_some_and(|inode| self.sockets.contains(inode))).collect()
    }

    /// Local ports over IPv4 and IPv6, of those in this state.
    fn ports(&self, protocol: &str, state: Option<&str>) -> Vec<u16> {
        let tables = [protocol.to_owned(), format!("{protocol}6")];
        let lines = tables.iter().flat_map(|table| self.lines(table, 9));
        let lines = lines.filter(|fields| state.is_none_or(|state| fields[3] == state));
        lines.map(|fields| u16::from_str_radix(fields[1].rsplit(':').next().expect("a port"), 16).expect("hexadecimal")).collect()
    }

    /// Paths of Unix sockets that listen.
    fn files(&self) -> Vec<String> {
        let listening = self.lines("unix", 6).into_iter().filter(|fields| fields[3] == "00010000");
        listening.map(|mut fields| fields.pop().expect("a path")).collect()
    }
}
