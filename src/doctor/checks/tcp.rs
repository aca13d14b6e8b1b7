//! TCP tunnels: classic CONNECT.

use super::{
    Check, Found, full, ms,
    refusals::{asks_for_credential, unanswered},
    told,
};
use crate::{
    doctor::{Plan, Visit, visit::TcpTalk},
    probe::{Answer, StreamEnd},
};

pub(super) const CHECKS: &[Check] = &[
    Check::both("connect", TCP, &["goaway", "lasts"], connect),
    Check::both("tcp", TCP, &["connect"], opened),
    Check::both("tcp-head", TCP, &["tcp"], head),
    Check::both("tcp-carries", TCP, &["tcp"], carries),
    Check::both("tcp-bulk", TCP, &["tcp-carries"], bulk),
    Check::both("tcp-half-close", TCP, &["tcp-bulk"], half_close),
];

const TCP: &str = "TCP";

/// Whether classic CONNECT is answered at all, whatever the answer.
fn connect(_: &Plan, visit: &Visit) -> Found {
    let Some(nowhere) = &visit.asks.nowhere else { return not_asked(visit) };
    let to_target = visit.asks.tcp.as_ref().map(|talk| &talk.answer);
    for answer in [Some(&nowhere.answer), to_target].into_iter().flatten() {
        match answer {
            Ok(answer) if matches!(answer.status, 405 | 501) => {
                return Found::fail(format!("classic CONNECT is answered with {}", answer.status))
                    .hint("TCP of every app arrives by classic CONNECT: the relay must serve it beside CONNECT-UDP");
            }
            Ok(_) => {}
            Err(error) if unanswered(answer).is_some_and(|code| !visit.aborts().contains(&code)) => {
                return Found::fail(format!("classic CONNECT is not answered: {}", told(error)))
                    .hint("a CONNECT without :path is well-formed (RFC 9114 section 4.4): answer it with a status")
                    .fault("connect-reset");
            }
            Err(error) => return Found::fail(format!("classic CONNECT is not answered: {}", told(error))),
        }
    }
    Found::ok(match &nowhere.answer {
        Ok(answer) if answer.success() => {
            return Found::warn(format!("classic CONNECT to a port that nobody serves is answered with {}", answer.status)).hint(
                "2xx says that the target is connected (RFC 9110 section 9.3.6): is this a relay, and does it connect before it answers?",
            );
        }
        Ok(answer) => format!("classic CONNECT to a port that nobody serves is answered with {}", answer.status),
        Err(_) => "classic CONNECT is answered".into(),
    })
}

fn opened(plan: &Plan, visit: &Visit) -> Found {
    let Some(talk) = &visit.asks.tcp else {
        return if plan.tcp.is_none() { no_target("--target-tcp", "TCP") } else { not_asked(visit) };
    };
    match &talk.answer {
        Ok(answer) if answer.success() => Found::ok(format!("a tunnel to the target opens in {}", ms(talk.took))),
        Ok(answer) => refused(visit, answer),
        Err(error) => Found::fail(format!("no tunnel to the target: {}", told(error))),
    }
}

fn head(_: &Plan, visit: &Visit) -> Found {
    let Some(Ok(answer)) = visit.asks.tcp.as_ref().map(|talk| &talk.answer) else { return not_asked(visit) };
    match CONTENT.iter().find(|name| answer.field(name).is_some()) {
        Some(name) => Found::warn(format!("the 2xx has `{name}`")).hint("a tunnel has no content and no capsules (RFC 9110 section 9.3.6)"),
        None => Found::ok(format!("the {} has no field that does not belong there", answer.status)),
    }
}

fn carries(_: &Plan, visit: &Visit) -> Found {
    let Some(talk) = &visit.asks.tcp else { return not_asked(visit) };
    let greeting = &talk.greeting;
    match &greeting.end {
        _ if greeting.whole() => Found::ok(format!("{} bytes come back in {}", greeting.back, ms(greeting.took))),
        _ if greeting.back > 0 && greeting.same => stalled(greeting.back, greeting.sent),
        _ if greeting.back > 0 => Found::ok("the target answers; it is no echo"),
        Some(StreamEnd::Finished) => Found::ok("the target ends the connection; it is no echo"),
        Some(end) => Found::fail(format!("the tunnel breaks: {end}")).hint("the relay must keep an open tunnel until a side ends it"),
        None => Found::fail(format!("{} bytes went out, nothing came back in {}", greeting.sent, ms(greeting.took)))
            .hint("either the relay carries nothing, or the target is no echo")
            .fault("tcp-blackhole"),
    }
}

fn bulk(_: &Plan, visit: &Visit) -> Found {
    let Some(bulk) = visit.asks.tcp.as_ref().and_then(|talk| talk.bulk.as_ref()) else {
        return Found::skip("the target is no echo").hint("name an echo (RFC 862) with `--target-tcp`; `serve --dev` has one");
    };
    match &bulk.end {
        _ if bulk.whole() => Found::ok(format!("{} KiB come back in {}", bulk.back / 1024, ms(bulk.took))),
        _ if !bulk.same => {
            Found::fail(format!("what comes back differs within {} bytes", bulk.back)).hint("bytes were lost, doubled or mixed up")
        }
        Some(end) => Found::fail(format!("the tunnel breaks after {} of {} bytes: {end}", bulk.back, bulk.sent)),
        None => stalled(bulk.back, bulk.sent),
    }
}

fn stalled(back: usize, sent: usize) -> Found {
    Found::fail(format!("after {back} of {sent} bytes nothing more comes back"))
        .hint("flow control or a buffer is stuck: windows must be given back as bytes are taken (MAX_STREAM_DATA, WINDOW_UPDATE)")
        .fault("stall")
}

fn half_close(_: &Plan, visit: &Visit) -> Found {
    match visit.asks.tcp.as_ref().and_then(|talk: &TcpTalk| talk.ended.as_ref()) {
        None => Found::skip("the target is no echo"),
        Some(StreamEnd::Finished) => Found::ok("our end reaches the target, and its end comes back"),
        Some(end) => Found::fail(format!("our end was not answered by the target's: {end}"))
            .hint("a side that ends must not end the other (half-close)"),
    }
}

/// The relay does not open the tunnel that it should.
pub(super) fn refused(visit: &Visit, answer: &Answer) -> Found {
    let status = answer.status;
    if asks_for_credential(answer) {
        return Found::needs(full(Some(visit.http), "credential"));
    }
    let Some(proxy_status) = answer.field("proxy-status") else {
        return Found::fail(format!("the tunnel to the target is refused: status {status}"))
            .hint("without Proxy-Status nobody can tell whether the relay or the target is to blame");
    };
    Found::fail(format!("the tunnel to the target is refused: status {status}, Proxy-Status {proxy_status}"))
        .hint("the relay lets nobody there, or cannot reach it: its Proxy-Status says which")
        .fault("status")
}

/// Why there is nothing to judge.
pub(super) fn not_asked(visit: &Visit) -> Found {
    if visit.withheld {
        return Found::skip("the credential was not sent, since the certificate is not to be trusted")
            .hint("mend the certificate first; `--insecure` sends it anyway");
    }
    Found::skip("not asked")
}

/// Why a tunnel was not tried.
pub(super) fn no_target(flag: &str, what: &str) -> Found {
    Found::skip("no target").hint(format!("name a {what} echo that the relay may reach: `{flag} HOST:PORT`"))
}

/// Fields that have no place in an answer that opens a TCP tunnel.
const CONTENT: [&str; 4] = ["content-length", "transfer-encoding", "content-type", "capsule-protocol"];
