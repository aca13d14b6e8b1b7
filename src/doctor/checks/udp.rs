//! UDP tunnels: CONNECT-UDP.

use std::time::Duration;

use super::{
    Check, Found, full, ms,
    tcp::{no_target, not_asked, refused},
    told,
};
use crate::{
    doctor::{Plan, Visit, visit::UdpTalk},
    probe::{Answer, Means},
};

pub(super) const CHECKS: &[Check] = &[
    Check::both("udp", UDP, &["goaway", "lasts", "extended-connect"], opened),
    Check::both("udp-well-known", UDP, &["goaway", "lasts", "extended-connect"], well_known),
    Check::both("capsule-protocol", UDP, &["udp"], capsule_protocol),
    Check::both("udp-context", UDP, &["udp"], context),
    Check::h3("udp-stream", UDP, &["udp"], stream),
    Check::both("udp-loss", UDP, &["udp"], loss),
    Check::both("udp-delay", UDP, &["udp"], delay),
    Check::h3("udp-capsules", UDP, &["udp-loss"], capsules),
    Check::both("udp-several", UDP, &["udp-loss"], several),
];

const UDP: &str = "UDP";

fn opened(plan: &Plan, visit: &Visit) -> Found {
    let template = if plan.url.template.is_some() { "the URL's template" } else { "the well-known path" };
    if let Some(talk) = &visit.asks.udp {
        return match &talk.answer {
            Ok(answer) if answer.success() => Found::ok(format!("a tunnel to the target opens by {template}")),
            Ok(answer) => absent(answer, template).unwrap_or_else(|| refused(visit, answer)),
            Err(error) => Found::fail(format!("no tunnel to the target by {template}: {}", told(error))),
        };
    }
    let Some(bare) = &visit.asks.bare_udp else { return not_asked(visit) };
    match &bare.answer {
        Ok(answer) if answer.success() => Found::ok(format!("CONNECT-UDP is served by {template}")),
        Ok(answer) => {
            absent(answer, template).unwrap_or_else(|| Found { verdict: super::Verdict::Skip, ..no_target("--target-udp", "UDP") })
        }
        Err(error) => Found::fail(format!("no answer to CONNECT-UDP by {template}: {}", told(error))),
    }
}

/// The answers of a relay that does not know CONNECT-UDP, or not there.
fn absent(answer: &Answer, path: &str) -> Option<Found> {
    matches!(answer.status, 404 | 405 | 501).then(|| {
        Found::fail(format!("CONNECT-UDP by {path} is answered with {}", answer.status))
            .hint("UDP of every app arrives so: serve the template of the URL, and /.well-known/masque/udp/{target_host}/{target_port}/")
    })
}

fn well_known(_: &Plan, visit: &Visit) -> Found {
    let Some(asked) = &visit.asks.well_known else { return Found::ok("the URL's template is the well-known path") };
    match &asked.answer {
        Ok(answer) if answer.success() => Found::ok("the well-known path is served beside the URL's template"),
        Ok(answer) => Found::warn(format!("the well-known path is answered with {}", answer.status))
            .hint("a client may ignore the template's path: serve /.well-known/masque/udp/{target_host}/{target_port}/ always"),
        Err(error) => Found::warn(format!("the well-known path is not answered: {}", told(error))),
    }
}

fn capsule_protocol(_: &Plan, visit: &Visit) -> Found {
    let answer = visit.asks.udp.as_ref().map(|talk| &talk.answer).or(visit.asks.bare_udp.as_ref().map(|asked| &asked.answer));
    let Some(Ok(answer)) = answer else { return not_asked(visit) };
    match answer.field("capsule-protocol").as_deref() {
        Some("?1") => Found::ok("the answer has `capsule-protocol: ?1`"),
        Some(other) => Found::warn(format!("the answer has `capsule-protocol: {}`", other.escape_debug()))
            .hint("write exactly `?1`: not every client reads it as a structured field")
            .fault("capsule-protocol-parameter"),
        None => Found::warn("the answer has no `capsule-protocol`")
            .hint("say `capsule-protocol: ?1` in the answer to CONNECT-UDP (RFC 9298 section 3.5)")
            .fault("no-capsule-protocol"),
    }
}

/// What a check of payloads needs.
fn talk(visit: &Visit) -> Result<&UdpTalk, Found> {
    let Some(talk) = &visit.asks.udp else { return Err(no_target("--target-udp", "UDP")) };
    if let Some(end) = talk.end.as_ref().filter(|_| talk.back == 0) {
        return Err(Found::fail(format!("the tunnel breaks: {end}")).hint("the relay must keep an open tunnel until the client ends it"));
    }
    Ok(talk)
}

fn context(_: &Plan, visit: &Visit) -> Found {
    match talk(visit) {
        Err(_) => waits(visit),
        Ok(talk) if talk.strange > 0 => Found::fail(format!("{} payloads came under a context that nobody registered", talk.strange))
            .hint("UDP payloads go under context ID 0 (RFC 9298 section 5): others are dropped by clients")
            .fault("datagram-context"),
        Ok(_) => Found::ok("payloads come under context ID 0"),
    }
}

fn stream(_: &Plan, visit: &Visit) -> Found {
    match talk(visit) {
        Err(_) => waits(visit),
        Ok(_) if sum(visit, |talk| talk.astray) > 0 => {
            Found::fail(format!("{} datagrams came to another stream than theirs", sum(visit, |talk| talk.astray)))
                .hint("the quarter stream ID is the ID of the request's stream divided by four (RFC 9297 section 2.1)")
                .fault("datagram-stream")
        }
        Ok(_) => Found::ok("datagrams come to their own stream"),
    }
}

/// Over both tunnels.
fn sum(visit: &Visit, number: impl Fn(&UdpTalk) -> usize) -> usize {
    [&visit.asks.udp, &visit.asks.second].into_iter().flatten().map(number).sum()
}

fn loss(plan: &Plan, visit: &Visit) -> Found {
    let talk = match talk(visit) {
        Err(found) => return found,
        Ok(talk) => talk,
    };
    // What goes to another stream comes to the other tunnel: only together do they tell what is lost.
    let (sent, arrived) = (sum(visit, |talk| talk.sent), sum(visit, |talk| talk.back + talk.strange + talk.astray));
    let lost = sent.saturating_sub(arrived);
    let how = match talk.means {
        Some(Means::Capsule) => " in capsules",
        Some(Means::Datagram) => " in datagrams",
        None => "",
    };
    if arrived == 0 && talk.other > 0 {
        return Found::ok("the target answers; it is no echo");
    }
    if arrived == 0 {
        return Found::fail(format!("none of {sent} payloads came back in {}", ms(plan.limits.quiet)))
            .hint("either the relay loses them, or the target is no echo")
            .fault("datagram-drop");
    }
    if lost * 20 > sent {
        return Found::warn(format!("{lost} of {sent} payloads did not come back"))
            .hint("a network may lose one in a hundred: look for full queues and buffers at the relay")
            .fault("datagram-drop");
    }
    Found::ok(format!("{arrived} of {sent} payloads come back{how}"))
}

fn delay(_: &Plan, visit: &Visit) -> Found {
    let Ok(talk) = talk(visit) else { return waits(visit) };
    let Some(fastest) = talk.fastest else { return Found::skip("no payload came back to its tunnel") };
    let tcp = visit.asks.tcp.as_ref();
    let greeting = tcp.filter(|tcp| tcp.greeting.whole()).map(|tcp| tcp.greeting.took);
    let answered = tcp.filter(|tcp| tcp.answer.is_ok()).map(|tcp| tcp.took);
    let usual =
        [greeting, answered, Some(talk.took), visit.asks.second.as_ref().map(|second| second.took), visit.opened.as_ref().ok().copied()];
    let usual = usual.into_iter().flatten().min().unwrap_or_default();
    if fastest > usual + SLOW {
        return Found::warn(format!("the fastest payload took {}, anything else {}", ms(fastest), ms(usual)))
            .hint("a queue on the way holds them: UDP may lose, it may not lag")
            .fault("datagram-delay");
    }
    Found::ok(format!("the fastest payload took {}", ms(fastest)))
}

fn capsules(_: &Plan, visit: &Visit) -> Found {
    match talk(visit) {
        Err(_) => waits(visit),
        Ok(talk) if talk.back == 0 => Found::skip("no payload came back to its tunnel"),
        Ok(talk) => match talk.capsule {
            Some(true) => Found::ok("a payload in a DATAGRAM capsule comes back too"),
            Some(false) => Found::fail("no payload in a DATAGRAM capsule comes back")
                .hint("capsules must be taken beside datagrams (RFC 9297 section 3.5)"),
            None => Found::ok("payloads go in capsules"),
        },
    }
}

fn several(_: &Plan, visit: &Visit) -> Found {
    let (Ok(talk), Some(second)) = (talk(visit), &visit.asks.second) else { return not_asked(visit) };
    if talk.back == 0 {
        return Found::skip("no payload came back to its tunnel");
    }
    match &second.answer {
        Ok(answer) if answer.success() && second.back > 0 => Found::ok("a second tunnel carries its own payloads beside the first"),
        Ok(answer) if answer.success() && talk.back < talk.sent => Found::skip("payloads are lost"),
        Ok(answer) if answer.success() => Found::fail("a second tunnel opens, and none of its payloads comes back")
            .hint("datagrams are sorted by quarter stream ID: the relay must keep its tunnels apart"),
        Ok(answer) => Found::fail(format!("a second tunnel is refused with {}", answer.status)).hint("a device opens many at once"),
        Err(error) => Found::fail(format!("a second tunnel is not answered: {}", told(error))),
    }
}

/// The loss of payloads says it; here it is only why nothing can be told.
fn waits(visit: &Visit) -> Found {
    Found::needs(full(Some(visit.http), "udp-loss"))
}

/// Above it no scheduler's whim explains it, with dozens of payloads.
const SLOW: Duration = Duration::from_millis(250);
