//! The HTTP connection: what it says at first, and whether it lasts.

use std::io;

use super::{Check, Found, full, ms, quic::CONNECTION, told};
use crate::{
    certs::facts::hex,
    doctor::{Plan, Visit, visit::Arrival},
    probe::{Closed, CriticalEnd, Http, Layer, ProbeError},
    proto::{
        codes,
        settings::{ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM},
    },
};

pub(super) const CHECKS: &[Check] = &[
    Check::h2("handshake", CONNECTION, &["reach.tcp"], handshake),
    Check::both("client-certificate", CONNECTION, &["handshake"], client_certificate),
    Check::both("settings", CONNECTION, &["handshake", "client-certificate"], settings),
    Check::both("settings-early", CONNECTION, &["settings"], settings_early),
    Check::both("extended-connect", CONNECTION, &["settings"], extended_connect),
    Check::h3("h3-datagram", CONNECTION, &["settings"], h3_datagram),
    Check::h3("control-stopped", CONNECTION, &["handshake", "client-certificate"], control_stopped),
    Check::h3("control-closed", CONNECTION, &["handshake", "client-certificate"], control_closed),
    Check::both("rules", CONNECTION, &["handshake", "client-certificate"], rules),
    Check::both("goaway", CONNECTION, &["handshake", "client-certificate"], goaway),
    Check::both("lasts", CONNECTION, &["handshake", "client-certificate"], lasts),
    Check::h3("migration", CONNECTION, &["goaway", "lasts"], migration),
];

fn handshake(_: &Plan, visit: &Visit) -> Found {
    match &visit.opened {
        Ok(took) => Found::ok(format!("TCP, TLS, ALPN h2, in {}", ms(*took))),
        Err(ProbeError::Alpn { .. }) => Found::fail("the relay does not choose ALPN h2").hint(
            "serve HTTP/2 on this port: where a network blocks UDP, clients have nothing else; is this the relay, or another server?",
        ),
        Err(error) => Found::fail(format!("TLS failed: {}", told(error))).hint("the relay's log says what it did not like"),
    }
}

fn client_certificate(plan: &Plan, visit: &Visit) -> Found {
    let Some(authorities) = &visit.seen.asked else { return Found::ok("the relay asks for no client certificate") };
    let takes = match &authorities[..] {
        [] => "of any authority".to_owned(),
        names => format!("of {}", names.iter().map(|name| authority(name)).collect::<Vec<_>>().join(", ")),
    };
    let refused = visit.closed.as_ref().is_some_and(|closed| closed.by_peer && closed.layer != Layer::Application);
    match (refused, plan.identity.is_some()) {
        (false, true) => Found::ok(format!("the relay asks for a client certificate {takes}, and takes ours")),
        (false, false) => Found::ok(format!("the relay asks for a client certificate {takes}, and goes on without one")),
        (true, true) => Found::fail(format!("the relay wants a client certificate {takes}, and does not take ours"))
            .hint("the identity must be issued by one of these authorities, for clientAuth, and be valid now"),
        (true, false) => Found::fail(format!("the relay wants a client certificate {takes}"))
            .hint("give one with `--identity FILE`, and the devices one in the profile (PayloadCertificateUUID)")
            .fault("client-cert"),
    }
}

fn settings(plan: &Plan, visit: &Visit) -> Found {
    match &visit.settings {
        Some(settings) => {
            let all: Vec<_> = settings.0.iter().map(|(id, value)| format!("{id:#x} = {value}")).collect();
            Found::ok(format!("SETTINGS: {}", if all.is_empty() { "empty".into() } else { all.join(", ") }))
        }
        None if visit.closed.is_some() => Found::needs(full(Some(visit.http), "lasts")),
        None => Found::fail(format!("no SETTINGS in {}", ms(plan.limits.settings)))
            .hint("a client that gets no SETTINGS opens no UDP tunnel, and may give up: the relay must send them at once")
            .fault("settings-never"),
    }
}

fn settings_early(_: &Plan, visit: &Visit) -> Found {
    match (visit.http, visit.arrival) {
        (_, Arrival::First) => Found::ok("they come in the relay's first flight, before it has our Finished"),
        (_, Arrival::Never) => Found::needs(full(Some(visit.http), "settings")),
        (Http::H3, Arrival::After(_)) if visit.wire.spent() => {
            Found::ok("they could not come in the first flight: the certificates fill it (RFC 9000 section 8.1)")
        }
        (Http::H3, Arrival::After(late)) => {
            Found::warn(format!("they come {} after our Finished, not in the relay's first flight", ms(late)))
                .hint("requests wait for them: send SETTINGS as 0.5-RTT data, before the handshake is complete")
                .fault("settings-late")
        }
        (_, Arrival::After(late)) if late.as_millis() >= LATE_MS => Found::warn(format!("they come {} after the handshake", ms(late)))
            .hint("requests wait for them: send SETTINGS at once")
            .fault("settings-late"),
        (_, Arrival::After(late)) => Found::ok(format!("they come {} after the handshake", ms(late))),
    }
}

fn extended_connect(_: &Plan, visit: &Visit) -> Found {
    announced(visit, ENABLE_CONNECT_PROTOCOL, "SETTINGS_ENABLE_CONNECT_PROTOCOL (0x08)", "a client may not ask for a UDP tunnel without it")
        .unwrap_or_else(|found| found.fault("no-extended-connect"))
}

fn h3_datagram(_: &Plan, visit: &Visit) -> Found {
    announced(visit, H3_DATAGRAM, "SETTINGS_H3_DATAGRAM (0x33)", "a client may not send UDP payloads in QUIC datagrams without it")
        .unwrap_or_else(|found| found.fault("no-h3-datagram"))
}

fn announced(visit: &Visit, id: u64, name: &str, why: &str) -> Result<Found, Found> {
    match visit.settings.as_ref().and_then(|settings| settings.get(id)) {
        Some(1) => Ok(Found::ok(format!("{name} is 1"))),
        Some(other) => Err(Found::fail(format!("{name} is {other}")).hint(format!("{why}: it must be 1"))),
        None => Err(Found::fail(format!("{name} is not announced")).hint(format!("{why}: it must be 1"))),
    }
}

fn control_stopped(_: &Plan, visit: &Visit) -> Found {
    let stopped = visit.critical.iter().find_map(|end| match end {
        CriticalEnd::Stopped(kind, code) => Some((*kind, *code)),
        _ => None,
    });
    let Some((kind, code)) = stopped else { return Found::ok("the relay stops none of our critical streams") };
    let found = Found::fail(format!("the relay sent STOP_SENDING({code:#x}) for our {}", stream(kind))).hint(CRITICAL);
    if kind == 0 { found.fault("stop-client-control") } else { found }
}

fn control_closed(_: &Plan, visit: &Visit) -> Found {
    let ended = visit.critical.iter().find_map(|end| match end {
        CriticalEnd::Finished(kind) => Some((*kind, "finished".to_owned())),
        CriticalEnd::Reset(kind, code) => Some((*kind, format!("reset ({code:#x})"))),
        CriticalEnd::Stopped(..) => None,
    });
    let Some((kind, how)) = ended else { return Found::ok("the relay keeps its critical streams open") };
    let found = Found::fail(format!("the relay {how} its {}", stream(kind))).hint(CRITICAL);
    if kind == 0 { found.fault("finish-control") } else { found }
}

fn rules(_: &Plan, visit: &Visit) -> Found {
    // Critical streams have checks of their own.
    match visit.violations.iter().find(|violation| violation.code != codes::h3::CLOSED_CRITICAL_STREAM) {
        Some(violation) => {
            Found::fail(format!("the relay broke a rule: {violation}")).hint("a strict client closes the connection for this")
        }
        None => Found::ok("no rule of HTTP was broken"),
    }
}

fn goaway(_: &Plan, visit: &Visit) -> Found {
    match (&visit.goaways[..], &visit.closed) {
        ([], _) => Found::ok("no GOAWAY"),
        (_, Some(closed)) if !farewell(closed) => Found::needs(full(Some(visit.http), "lasts")),
        ([first, ..], _) if visit.unwelcome => Found::fail(format!("the relay sent GOAWAY {first} to a new connection"))
            .hint("it takes no requests: is it shutting down, or a front end of it?")
            .fault("goaway"),
        ([first, ..], _) => Found::warn(format!("the relay sent GOAWAY {first} once it had been asked for something"))
            .hint("one request that it refuses makes it give up the connection, and the client's other tunnels with it"),
    }
}

fn lasts(_: &Plan, visit: &Visit) -> Found {
    match &visit.closed {
        None => Found::ok("the relay keeps the connection open"),
        Some(closed) if farewell(closed) && !visit.unwelcome && !visit.goaways.is_empty() => {
            Found::ok("the relay keeps the connection open until its GOAWAY")
        }
        Some(closed) if farewell(closed) => Found::needs(full(Some(visit.http), "goaway")),
        Some(closed) if closed.by_peer && closed.layer == Layer::Application => Found::fail(format!("the connection was {closed}"))
            .hint("clients log this as an abort: the relay's record says why it did so")
            .fault("close"),
        Some(closed) => Found::fail(format!("the connection broke: {closed}")).hint("the relay's log and record say why"),
    }
}

fn migration(_: &Plan, visit: &Visit) -> Found {
    match visit.moved {
        None => Found::skip("not tried"),
        Some(true) => Found::ok("the connection goes on from another port"),
        Some(false) => Found::warn("the connection does not go on from another port")
            .hint("devices move between Wi-Fi and cellular: connections must survive that (RFC 9000 section 9); a load balancer must steer by connection ID"),
    }
}

/// The connection ended with a GOAWAY that accuses nobody: over HTTP/2 a client goes by itself then.
fn farewell(closed: &Closed) -> bool {
    closed.by_peer && closed.layer == Layer::Application && closed.code == 0
}

/// TLS over TCP failed, and not TCP.
pub(super) fn is_tls(error: &io::Error) -> bool {
    error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>()).is_some()
}

/// A critical stream by its type.
fn stream(kind: u64) -> &'static str {
    match kind {
        0 => "control stream",
        2 => "QPACK encoder stream",
        3 => "QPACK decoder stream",
        _ => "stream",
    }
}

/// A distinguished name in DER, readable if it parses.
fn authority(der: &[u8]) -> String {
    use x509_parser::prelude::{FromDer, X509Name};
    X509Name::from_der(der).map_or_else(|_| hex(der), |(_, name)| format!("`{name}`"))
}

const CRITICAL: &str = "clients close the connection with H3_CLOSED_CRITICAL_STREAM (RFC 9114 section 6.2.1)";

/// Over TCP nothing tells what the relay waited for, so what is late must be very late.
const LATE_MS: u128 = 1000;
