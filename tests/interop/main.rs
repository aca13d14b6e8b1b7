//! The relay binary between foreign clients and real servers, every one a process of its own.
//!
//! ```text
//! aioquic ── HTTP/3 ──▶ masque-relay serve --dev ── TCP, UDP ──▶ nginx, dnsmasq, aioquic, echo
//! ```
//!
//! `tests/run` installs what this needs: nginx, dnsmasq, openssl and the Python environment
//! `target/interop-venv` with aioquic.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use child::{Child, output_of, python, tool};
use echo::Echo;

mod child;
mod echo;

#[test]
fn connect_fetches_100_mb_from_nginx() {
    let relay = Relay::start();
    let web = TempDir::new().unwrap();
    let file = web.path().join("blob");
    write_noise(&file, 100_000_000);
    let (_nginx, port) = nginx(web.path());

    let fetched = relay.client("fetch.py", &[&format!("127.0.0.1:{port}"), &"/blob"]);

    let hashed = output_of(tool("sha256sum").arg(&file));
    assert_eq!(Some(fetched.as_str()), hashed.split(' ').next());
}

#[test]
fn connect_udp_resolves_at_dnsmasq() {
    let relay = Relay::start();
    let (_dnsmasq, port) = dnsmasq("--address=/masque.test/192.0.2.7");

    let address = relay.client("resolve.py", &[&port.to_string(), &"masque.test"]);

    assert_eq!(address, "192.0.2.7");
}

#[test]
fn an_http3_request_runs_inside_a_connect_udp_tunnel() {
    let relay = Relay::start();
    let directory = TempDir::new().unwrap();
    let (certificate, key) = self_signed(directory.path());
    let (_origin, ready) = Child::start(&mut python("origin.py", &[&certificate, &key]), "ready ");
    let port = ready.trim_start_matches("ready ");

    let echoed = relay.client("nested.py", &[&port, &certificate]);

    assert_eq!(echoed, "262144");
}

#[test]
fn ten_tunnels_on_one_connection_at_once() {
    let (tcp, udp) = (Echo::tcp(), Echo::udp());
    let relay = Relay::start();
    let ports = [tcp.addr, udp.addr].map(|addr| addr.port().to_string());

    let busy = relay.client("many.py", &[&ports[0], &ports[1]]);

    assert_eq!(busy, "5 5");
}

/// `masque-relay serve --dev` in a directory of its own.
struct Relay {
    port: String,
    _process: Child,
    // Last: goes when the process is gone.
    directory: TempDir,
}

impl Relay {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_masque-relay"));
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0"]).current_dir(directory.path());
        let (process, ready) = Child::start(&mut command, "ready https://");
        let port = ready.rsplit(':').next().unwrap_or_default().to_owned();
        Self { port, _process: process, directory }
    }

    /// Runs a client of this folder against the relay; returns what it prints.
    fn client(&self, script: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
        let certs = self.directory.path().join("certs/dev");
        output_of(python(script, &[&self.port, &certs]).args(arguments))
    }
}

/// nginx, serving the files of `directory`; returns its port.
///
/// A single process: killing a master would leave its workers behind.
fn nginx(directory: &Path) -> (Child, u16) {
    let port = free_port();
    let conf = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr notice;
         events {{ }}
         http {{
             access_log off;
             client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
             uwsgi_temp_path tmp; scgi_temp_path tmp;
             server {{ listen 127.0.0.1:{port}; root {}; }}
         }}",
        directory.display()
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, conf).unwrap();
    let mut command = tool("nginx");
    command.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(file);
    // Said once the sockets listen.
    let (nginx, _) = Child::start(&mut command, "event method");
    (nginx, port)
}

/// dnsmasq with one record, untouched by the machine's own configuration; returns its port.
fn dnsmasq(record: &str) -> (Child, u16) {
    let port = free_port();
    let mut command = tool("dnsmasq");
    command
        .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
        .args(["--listen-address=127.0.0.1", "--bind-interfaces", record])
        .arg(format!("--port={port}"));
    // Said once the sockets are bound.
    let (dnsmasq, _) = Child::start(&mut command, "started, version");
    (dnsmasq, port)
}

/// A certificate for `origin.test` that is its own authority, and its key.
fn self_signed(directory: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    output_of(
        tool("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=origin.test"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-addext", "subjectAltName=DNS:origin.test", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    );
    (certificate, key)
}

/// Bytes without a pattern a mistake could hide in (xorshift64), the same in every run.
fn write_noise(path: &Path, len: usize) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..len / size_of::<u64>() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
}

/// A port that was free a moment ago, for servers that cannot choose one and say which.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
