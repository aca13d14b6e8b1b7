//! Whether packets get there.

use super::{Check, Found, ms, told};
use crate::{
    doctor::{Evidence, Plan, Visit, chain},
    probe::{Http, ProbeError},
};

pub(super) const CHECKS: &[Check] = &[
    Check::relay("reach.name", "reach", &[], name),
    Check::relay("reach.udp", "reach", &["reach.name"], udp),
    Check::relay("reach.tcp", "reach", &["reach.name"], tcp),
];

fn name(plan: &Plan, evidence: &Evidence) -> Found {
    let host = &plan.url.host;
    match &evidence.addresses {
        _ if !chain::is_name(host) => {
            Found::fail(format!("`{}` is no name that TLS can ask for", host.escape_debug())).hint("take another name for the relay")
        }
        Ok(found) => {
            let found: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
            Found::ok(format!("{host} is at {}", found.join(", ")))
        }
        Err(error) => Found::fail(format!("{host} cannot be resolved: {error}"))
            .hint("the name in the URL needs an A or AAAA record that clients see"),
    }
}

fn udp(plan: &Plan, evidence: &Evidence) -> Found {
    let Some(visit) = evidence.visit(Http::H3) else { return Found::skip("HTTP/3 is not asked for") };
    let (at, port) = (visit.address, plan.url.port);
    let sizes: Vec<_> = visit.wire.first.iter().map(ToString::to_string).collect();
    let sizes = sizes.join(" and ");
    match &visit.opened {
        Ok(took) => Found::ok(format!("udp {at} answers first packets of {sizes} bytes; handshake in {}", ms(*took))),
        Err(_) if visit.wire.answered => Found::ok(format!("udp {at} answers first packets of {sizes} bytes")),
        Err(error @ (ProbeError::Bind { .. } | ProbeError::Start { .. })) => Found::fail(format!("udp {at}: {}", told(error))),
        Err(_) if visit.smaller => Found::fail(format!("udp {at} answers packets of 1200 bytes, and none to those of {sizes} bytes"))
            .hint("a link or tunnel on the way carries less than 1350 bytes of UDP: clients send such first packets"),
        Err(_) => Found::fail(format!("udp {at} does not answer in {}", ms(plan.limits.handshake)))
            .hint(if evidence.visit(Http::H2).is_some_and(|visit| without_tcp(visit).is_some()) {
                format!("nothing answers, over TCP neither: does the relay run, and is {port} its port? Then open UDP {port} in every firewall on the way")
            } else {
                format!("open UDP {port} in every firewall on the way; until then clients need an HTTP/2 URL")
            })
            .fault("tcp-only"),
    }
}

fn tcp(plan: &Plan, evidence: &Evidence) -> Found {
    let Some(visit) = evidence.visit(Http::H2) else { return Found::skip("HTTP/2 is not asked for") };
    let at = visit.address;
    if let Some(why) = without_tcp(visit) {
        return Found::fail(why)
            .hint(format!("serve HTTP/2 on TCP {}: where a network blocks UDP, clients have nothing else", plan.url.port))
            .fault("udp-only");
    }
    match &visit.opened {
        Err(error @ ProbeError::Bind { .. }) => Found::fail(format!("tcp {at}: {}", told(error))),
        Ok(took) => Found::ok(format!("tcp {at} answers; TLS in {}", ms(*took))),
        Err(_) => Found::ok(format!("tcp {at} answers")),
    }
}

/// Why nothing came of TCP, where that is so.
fn without_tcp(visit: &Visit) -> Option<String> {
    let at = visit.address;
    match &visit.opened {
        Err(ProbeError::ConnectTcp { source, .. }) if !super::http::is_tls(source) => Some(format!("tcp {at}: {source}")),
        Err(ProbeError::TimedOut { after, .. }) => Some(format!("tcp {at} does not answer in {}", ms(*after))),
        _ => None,
    }
}
