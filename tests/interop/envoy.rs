//! `doctor` examines a relay that knows nothing of it: Envoy, which is somebody else's work from the first packet to the last.

use std::{
    collections::BTreeSet,
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    child::{Child, output_of, packaged},
    echo::Echo,
    relay::{binary, issue},
};

#[path = "../envoy/config.rs"]
mod config;

/// It serves all there is, and says no without Proxy-Status.
#[test]
fn doctor_finds_nothing_with_envoy_but_its_bare_refusals() {
    let findings = examine(config::BOTH);
    assert_eq!(failed(&findings), set(["http3.proxy-status", "http2.proxy-status"]), "{findings:#?}");
    // What a relay of UDP is for was seen to work, not left out.
    for check in [
        "http3.udp-loss",
        "http3.udp-capsules",
        "http3.tcp-bulk",
        "http2.tcp-bulk",
        "http2.udp-loss",
        "http3.settings-early",
        "http3.migration",
    ] {
        assert_eq!(verdict(&findings, check), "ok", "{check}");
    }
}

/// Without CONNECT-UDP it is "works with curl, fails with HTTP/3 of every app".
#[test]
fn doctor_names_the_method_that_envoy_does_not_serve() {
    let findings = examine(&["CONNECT"]);
    let seen = ["http3.tcp-bulk", "http3.udp", "http3.goaway"].map(|check| verdict(&findings, check));
    assert_eq!(seen, ["ok", "fail", "warn"], "TCP works, UDP does not, and whoever asks for it loses the connection: {findings:#?}");
}

/// All that `doctor` says of Envoy with these methods, over HTTP/3 and HTTP/2.
fn examine(upgrades: &[&str]) -> Vec<Value> {
    let directory = TempDir::new().unwrap();
    output_of(binary(&directory).args(["cert", "ca", "--out", "certs/dev"]));
    issue(&directory, "127.0.0.1", Path::new("certs/dev"));
    let [chain, key] = ["certs/dev/cert.pem", "certs/dev/key.pem"].map(|file| directory.path().join(file));
    let port = free_port();
    let file = directory.path().join("envoy.json");
    fs::write(&file, config::config(port, &chain, &key, upgrades).to_string()).unwrap();

    let program = packaged("envoy/_bin/envoy");
    // The package forgets the bit.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut envoy = std::process::Command::new(program);
    envoy.arg("--config-path").arg(file).args(["--concurrency", "1", "--disable-hot-restart"]);
    let (_envoy, _) = Child::start(&mut envoy, "starting main dispatch loop");

    let (tcp, udp) = (Echo::tcp(), Echo::udp());
    let mut doctor = binary(&directory);
    doctor.args(["doctor", &format!("https://127.0.0.1:{port}"), "--ca", "certs/dev/ca.pem", "--json"]);
    doctor.arg("--target-tcp").arg(tcp.addr.to_string()).arg("--target-udp").arg(udp.addr.to_string());
    let output = doctor.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "something is wrong with Envoy: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report[0]["findings"].as_array().unwrap().clone()
}

fn failed(findings: &[Value]) -> BTreeSet<&str> {
    let bad = |finding: &&Value| ["fail", "warn"].contains(&finding["verdict"].as_str().unwrap());
    findings.iter().filter(bad).map(|finding| finding["check"].as_str().unwrap()).collect()
}

fn verdict<'a>(findings: &'a [Value], check: &str) -> &'a str {
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("no check {check} in {findings:#?}"))["verdict"].as_str().unwrap()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<&str> {
    names.into()
}

/// For UDP and for TCP; free a moment ago.
fn free_port() -> u16 {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
