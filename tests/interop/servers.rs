//! The servers behind the relay.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    net::TcpListener,
    path::{Path, PathBuf},
};

use crate::child::{Child, output_of, tool};

/// nginx, serving the files of `directory`; returns its port.
///
/// A single process: killing a master would leave its workers behind. `more` goes into the configuration of the server;
/// [`TLS`] makes it one of HTTPS. Every request is a line of what it says: `served GET /blob 200`.
pub(crate) fn nginx(directory: &Path, more: &str) -> (Child, u16) {
    let port = free_port();
    let tls = if more.contains("ssl_certificate") { "ssl" } else { "" };
    let conf = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr notice;
         events {{ }}
         http {{
             log_format served 'served $request_method $uri $status';
             access_log /dev/stdout served;
             types {{ text/html html; text/javascript js; text/css css; image/svg+xml svg; }}
             client_max_body_size 0;
             client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
             uwsgi_temp_path tmp; scgi_temp_path tmp;
             server {{ listen 127.0.0.1:{port} {tls}; root {}; {more} }}
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

/// Makes nginx an HTTPS server, with `cert.pem` and `key.pem` beside its configuration.
pub(crate) const TLS: &str = "ssl_certificate cert.pem; ssl_certificate_key key.pem;";

/// dnsmasq with one record, untouched by the machine's own configuration; returns its port.
///
/// It knows no other name, and nobody to ask.
pub(crate) fn dnsmasq(record: &str) -> (Child, u16) {
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
pub(crate) fn self_signed(directory: &Path) -> (PathBuf, PathBuf) {
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
pub(crate) fn write_noise(path: &Path, len: usize) {
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
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
