//! Debian's curl, with the relay for its HTTPS proxy: CONNECT, over HTTP/1.1.

use std::{fs, process::Command};

use tempfile::TempDir;

use crate::{
    child::{output_of, tool},
    relay::Relay,
    servers::{TLS, free_port, nginx, write_noise},
};

#[test]
fn a_file_comes_as_it_is() {
    let relay = Relay::start();
    let web = TempDir::new().unwrap();
    relay.certify("127.0.0.1", web.path());
    let (file, fetched) = (web.path().join("blob"), web.path().join("fetched"));
    write_noise(&file, LEN);
    let (_nginx, port) = nginx(web.path(), TLS);

    output_of(curl(&relay, &relay.token()).arg(format!("https://127.0.0.1:{port}/blob")).arg("--output").arg(&fetched));

    let hashes = output_of(tool("sha256sum").arg(&file).arg(&fetched));
    let hashes: Vec<_> = hashes.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(hashes[0], hashes[1]);
    tunnel_on_http1(relay, port);
}

#[test]
fn a_file_goes_as_it_is() {
    let relay = Relay::start();
    let web = TempDir::new().unwrap();
    relay.certify("127.0.0.1", web.path());
    let (file, uploaded) = (web.path().join("blob"), web.path().join("uploaded"));
    write_noise(&file, LEN);
    let (_nginx, port) = nginx(web.path(), &format!("{TLS} dav_methods PUT;"));

    let url = format!("https://127.0.0.1:{port}/uploaded");
    let status = output_of(curl(&relay, &relay.token()).arg("--upload-file").arg(&file).arg(url).args(["--write-out", "%{http_code}"]));

    assert_eq!(status, "201");
    assert!(fs::read(&file).unwrap() == fs::read(&uploaded).unwrap(), "other bytes arrived");
    tunnel_on_http1(relay, port);
}

#[test]
fn a_refusal_is_told() {
    let relay = Relay::start();
    let token = relay.token();
    // Nobody listens there.
    let closed = free_port();
    for (target, token, status, why) in [
        (format!("127.0.0.1:{closed}"), token.as_str(), "502", "error=connection_refused"),
        (format!("127.0.0.1:{}", relay.port), &token, "502", "error=destination_ip_prohibited"),
        ("127.0.0.1:443".into(), "wrong", "407", "proxy-authenticate: "),
    ] {
        let mut command = curl(&relay, token);
        command.args(["--dump-header", "-", "--write-out", "%{http_connect} %{http_code}"]).arg(format!("https://{target}/"));
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        // 56: the proxy refused, as curl says it.
        assert_eq!(output.status.code(), Some(56), "{target}: {output:?}");
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {told}");
        assert!(told.ends_with(&format!("{status} 000")), "{target}: {told}");
        assert!(told.to_ascii_lowercase().contains(why), "{target}: {told}");
    }
}

/// curl through the relay; both certificates are of the relay's CA, and both are verified.
fn curl(relay: &Relay, token: &str) -> Command {
    let mut command = tool("curl");
    command
        .args(["--disable", "--silent", "--show-error", "--max-time", "100", "--proxy"])
        .arg(relay.url())
        .args(["--proxy-header", &format!("Proxy-Authorization: Bearer {token}"), "--proxy-cacert"])
        .arg(relay.ca())
        .arg("--cacert")
        .arg(relay.ca());
    command
}

/// The one tunnel the relay had was to `port`, on HTTP/1.1.
fn tunnel_on_http1(relay: Relay, port: u16) {
    let log = relay.end();
    let tunnels: Vec<_> = log.iter().filter(|line| line["message"] == "tunnel closed").collect();
    assert_eq!(tunnels.len(), 1, "{log:#?}");
    assert_eq!((&tunnels[0]["http"], &tunnels[0]["target"]), (&"h1".into(), &format!("127.0.0.1:{port}").into()));
}

const LEN: usize = 50_000_000;
