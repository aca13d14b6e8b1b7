//! How Envoy becomes a relay: for the bench, which compares, and for the tests, which examine it.

use std::path::Path;

use serde_json::{Value, json};

/// Both methods of a relay, as [`config`] takes them.
pub(crate) const BOTH: &[&str] = &["CONNECT", "CONNECT-UDP"];

/// More than anybody opens here.
const MANY: u32 = 1_000_000;

/// What `upgrades` names of CONNECT and CONNECT-UDP, to any target, over HTTP/3 and HTTP/2, on 127.0.0.1. JSON is YAML too. No limits of its own, no log, no credentials:
/// it does less than the relay does.
pub(crate) fn config(port: u16, chain: &Path, key: &Path, upgrades: &[&str]) -> Value {
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
                        "filters": [http("HTTP3", upgrades)],
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
                        "filters": [http("HTTP2", upgrades)],
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

fn http(codec: &str, upgrades: &[&str]) -> Value {
    let with = |make: fn(&str) -> Value| upgrades.iter().copied().map(make).collect::<Vec<_>>();
    json!({
        "name": "http",
        "typed_config": {
            "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "relay",
            "codec_type": codec,
            "http2_protocol_options": { "allow_connect": true },
            "http3_protocol_options": { "allow_extended_connect": true, "quic_protocol_options": { "max_concurrent_streams": 1024 } },
            "upgrade_configs": with(|upgrade| json!({ "upgrade_type": upgrade })),
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
                        "upgrade_configs": with(|upgrade| json!({ "upgrade_type": upgrade, "connect_config": {} })),
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
