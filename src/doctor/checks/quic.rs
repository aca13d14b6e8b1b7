//! The QUIC connection below HTTP/3.

use super::{Check, Found, ms, told};
use crate::{
    doctor::{Plan, Visit},
    probe::{Closed, Layer, ProbeError},
    proto::codes,
};

pub(super) const CHECKS: &[Check] = &[
    Check::h3("handshake", CONNECTION, &["reach.udp"], handshake),
    Check::h3("retry", CONNECTION, &["reach.udp"], retry),
    Check::h3("connection-id", CONNECTION, &["reach.udp"], connection_id),
    Check::h3("datagram-parameter", CONNECTION, &["handshake"], datagram_parameter),
    Check::h3("request-streams", CONNECTION, &["handshake"], request_streams),
    Check::h3("idle", CONNECTION, &["handshake"], idle),
];

/// The group.
pub(super) const CONNECTION: &str = "connection";

fn handshake(_: &Plan, visit: &Visit) -> Found {
    let error = match &visit.opened {
        Ok(took) => return Found::ok(format!("QUIC v1, TLS 1.3, ALPN h3, in {}", ms(*took))),
        Err(error) => error,
    };
    if visit.wire.versions {
        return Found::fail("the relay does not speak QUIC version 1").hint("Apple's clients speak version 1 alone");
    }
    let alert = match error {
        ProbeError::Connect { source, .. } => alert(&Closed::from(source)),
        _ => None,
    };
    match alert {
        Some(NO_ALPN) => Found::fail("the relay does not choose ALPN h3").hint("is this another QUIC service than HTTP/3?"),
        Some(alert) => {
            let name = codes::alert_name(alert).map_or_else(|| format!("alert {alert}"), str::to_owned);
            Found::fail(format!("TLS failed: {name} ({})", told(error))).hint("the relay's log says what it did not like")
        }
        None => Found::fail(told(error)),
    }
}

fn retry(_: &Plan, visit: &Visit) -> Found {
    if !visit.wire.retry {
        return Found::ok("no Retry packet");
    }
    Found::warn("the relay answers the first packet with Retry")
        .hint("it costs a round trip, and an iOS client was reported to fail with it: use it under load alone (masque-relay: `quic.retry`)")
        .fault("retry")
}

fn connection_id(_: &Plan, visit: &Visit) -> Found {
    match visit.wire.cid {
        None => Found::skip("no packet of the relay's handshake came"),
        Some(length) if length > LONG_CID => Found::warn(format!("the relay's connection ID has {length} bytes"))
            .hint("trouble was reported of IDs of 19 bytes: 8 are enough")
            .fault("cid"),
        Some(length) => Found::ok(format!("the relay's connection ID has {length} bytes")),
    }
}

fn datagram_parameter(_: &Plan, visit: &Visit) -> Found {
    match visit.parameters.number(0x20) {
        None | Some(0) => Found::fail("no transport parameter max_datagram_frame_size")
            .hint("without it a client has no room for UDP payloads: the relay must allow QUIC datagrams (RFC 9221)")
            .fault("no-datagram-parameter"),
        Some(size) if size < 1200 => Found::warn(format!("max_datagram_frame_size is {size}"))
            .hint("QUIC inside the tunnel needs payloads of 1200 bytes: allow 65535"),
        Some(size) => Found::ok(format!("max_datagram_frame_size is {size}")),
    }
}

fn request_streams(_: &Plan, visit: &Visit) -> Found {
    match visit.parameters.number(0x08).unwrap_or(0) {
        0 => Found::fail("the relay allows no request stream (initial_max_streams_bidi is 0)").hint("allow 100 (RFC 9114 section 6.1)"),
        few @ 1..16 => {
            Found::warn(format!("the relay allows {few} requests at once")).hint("a device opens many: allow 100 (RFC 9114 section 6.1)")
        }
        many => Found::ok(format!("the relay allows {many} requests at once")),
    }
}

/// By what the relay says: nobody waits here for two minutes.
fn idle(_: &Plan, visit: &Visit) -> Found {
    match visit.parameters.number(0x01).unwrap_or(0) {
        0 => Found::ok("the relay announces no idle time-out (not tried)"),
        ms if ms < 120_000 => {
            Found::warn(format!("the relay announces that it gives up an idle connection after {} s (not tried)", ms / 1000))
                .hint("clients go idle for a minute and more: allow 120 s at least")
        }
        ms => Found::ok(format!("the relay announces that it keeps an idle connection for {} s (not tried)", ms / 1000)),
    }
}

/// The TLS alert that ended a QUIC connection (RFC 9001 §4.8).
pub(super) fn alert(closed: &Closed) -> Option<u8> {
    let of_tls = closed.layer == Layer::Transport && (0x100..0x200).contains(&closed.code);
    of_tls.then_some((closed.code & 0xff) as u8)
}

/// no_application_protocol (RFC 7301 §3.2).
const NO_ALPN: u8 = 120;

/// What is used for load balancing (QUIC-LB) stays below.
const LONG_CID: usize = 16;
