//! How the relay says no.

use super::{Check, Found, tcp::not_asked, told};
use crate::{
    doctor::{Plan, Visit, visit::Refusal},
    probe::{Answer, ProbeError, StreamEnd},
};

pub(super) const CHECKS: &[Check] = &[
    Check::both("proxy-status", REFUSALS, &["goaway", "lasts"], proxy_status),
    Check::both("polite", REFUSALS, &["goaway", "lasts"], polite),
    Check::both("credential", REFUSALS, &["goaway", "lasts"], credential),
];

const REFUSALS: &str = "refusals";

fn proxy_status(_: &Plan, visit: &Visit) -> Found {
    let refused: Vec<_> = visit.answers().filter_map(Result::ok).filter(|answer| !answer.success()).collect();
    let bare = refused.iter().find(|answer| answer.field("proxy-status").is_none());
    match (bare, refused.first()) {
        (None, None) => not_asked(visit),
        (None, Some(answer)) => Found::ok(format!("a refusal with {} has Proxy-Status", answer.status)),
        (Some(answer), _) => {
            let says = format!("a refusal with {} has no Proxy-Status", answer.status);
            let found = if answer.status < 500 { Found::warn(says) } else { Found::fail(says) };
            found.hint("clients blame the relay for a bare status, and may drop it: say whose fault it is (RFC 9209)").fault("bare-status")
        }
    }
}

fn polite(_: &Plan, visit: &Visit) -> Found {
    if let Some(end) = visit.endings().find(|end| matches!(end, StreamEnd::Reset(_) | StreamEnd::Stopped(_))) {
        return aborted(&format!("behind an answer {end}"));
    }
    if !visit.aborts().is_empty() {
        return aborted("every request is reset, whatever it asks for");
    }
    let mut refused = visit.refusals().filter(|refusal| refusal.answer.as_ref().is_ok_and(|answer| !answer.success()));
    match refused.next().and_then(|refusal| refusal.end.as_ref()) {
        None => not_asked(visit),
        Some(StreamEnd::Finished) => Found::ok("a refusal ends with the end of the stream"),
        Some(end) => Found::warn(format!("a refusal does not end: {end}")).hint("finish the stream behind the answer (FIN, END_STREAM)"),
    }
}

fn aborted(what: &str) -> Found {
    Found::fail(what)
        .hint("a client may never see the answer that a reset follows: finish the stream, and read the request's side to its end")
        .fault("abort-after-response")
}

fn credential(plan: &Plan, visit: &Visit) -> Found {
    let shown = plan.identity.is_some() && visit.seen.asked.is_some();
    if let Some(status) = visit.own_answers().filter_map(Result::ok).find(|answer| asks_for_credential(answer)).map(|answer| answer.status)
    {
        let fail = |what| Found::fail(format!("{what} (status {status})"));
        return match (plan.fields.is_empty(), shown) {
            (false, _) => fail("the credential is not accepted").hint("it is wrong, or not in the field where the relay looks for it"),
            (true, true) => fail("the client certificate is not accepted as a credential")
                .hint("the relay may have revoked it, or not know its user; or it wants a token beside it"),
            (true, false) if plan.complete => fail("the relay asks for a credential, and the profile has none")
                .hint("put it into AdditionalHTTPHeaderFields, or give the relay an identity (PayloadCertificateUUID)"),
            (true, false) => Found::skip(format!("the relay asks for a credential (status {status}), and none is given"))
                .hint("`--token-file FILE`, `--header 'NAME: VALUE'` or `--identity FILE`"),
        };
    }
    if plan.fields.is_empty() {
        return Found::skip("no credential was sent, so nothing is known of one");
    }
    let Some(stranger) = &visit.asks.stranger else { return not_asked(visit) };
    match &stranger.answer {
        Ok(answer) if answer.success() => {
            Found::warn("a request without the credential opens a tunnel").hint("is the relay open to everybody? Access must be asked for")
        }
        Ok(answer) if answer.status < 500 => Found::ok(format!("a request without the credential is answered with {}", answer.status)),
        Ok(answer) => Found::ok(format!("a request without the credential opens no tunnel (status {})", answer.status)),
        Err(error) => Found::skip(format!("a request without the credential is not answered: {}", told(error))),
    }
}

impl Visit {
    /// The requests that were not to open a tunnel, or only to see whether one opens.
    fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.own_refusals().chain(&self.asks.stranger)
    }

    /// Those of them that carried the credential, if there is one.
    fn own_refusals(&self) -> impl Iterator<Item = &Refusal> {
        let asks = &self.asks;
        [&asks.nowhere, &asks.well_known, &asks.bare_udp].into_iter().flatten()
    }

    /// Every answer, or why there was none.
    fn answers(&self) -> impl Iterator<Item = Result<&Answer, &ProbeError>> {
        self.own_answers().chain(self.asks.stranger.as_ref().map(|stranger| stranger.answer.as_ref()))
    }

    /// Those to requests that carried the credential, if there is one.
    fn own_answers(&self) -> impl Iterator<Item = Result<&Answer, &ProbeError>> {
        let asks = &self.asks;
        let talks = [asks.tcp.as_ref().map(|talk| &talk.answer), asks.udp.as_ref().map(|talk| &talk.answer)];
        self.own_refusals().map(|refusal| &refusal.answer).chain(talks.into_iter().flatten()).map(Result::as_ref)
    }

    /// How streams ended behind an answer, tunnels that carried something left out.
    fn endings(&self) -> impl Iterator<Item = &StreamEnd> {
        let asks = &self.asks;
        let tcp = asks.tcp.as_ref().filter(|talk| talk.greeting.back == 0).and_then(|talk| talk.greeting.end.as_ref());
        let udp = asks.udp.as_ref().filter(|talk| talk.back == 0).and_then(|talk| talk.end.as_ref());
        self.refusals().filter(|refusal| refusal.answer.is_ok()).filter_map(|refusal| refusal.end.as_ref()).chain(tcp).chain(udp)
    }

    /// The codes of the aborts that do not look at what was asked: behind an answer, or of every kind of request.
    pub(super) fn aborts(&self) -> Vec<u64> {
        let asks = &self.asks;
        let udp = [&asks.udp, &asks.second]
            .into_iter()
            .flatten()
            .map(|talk| &talk.answer)
            .chain(asks.bare_udp.as_ref().map(|asked| &asked.answer));
        let tcp = asks.nowhere.as_ref().map(|asked| &asked.answer).into_iter().chain(asks.tcp.as_ref().map(|talk| &talk.answer));
        let tcp: Vec<_> = tcp.filter_map(unanswered).collect();
        let alike = udp.filter_map(unanswered).filter(|code| tcp.contains(code));
        self.endings().filter_map(cut).chain(alike).collect()
    }
}

/// 407 is what RFC 9110 section 11.7.1 wants of a proxy; some say 401.
pub(super) fn asks_for_credential(answer: &Answer) -> bool {
    matches!(answer.status, 401 | 407)
}

/// The code of a request that was reset without an answer, unless the relay takes no request at all.
pub(super) fn unanswered(answer: &Result<Answer, ProbeError>) -> Option<u64> {
    match answer {
        Err(ProbeError::Unanswered(end)) => cut(end).filter(|code| !REJECTED.contains(code)),
        _ => None,
    }
}

/// The code of a stream that was cut off.
fn cut(end: &StreamEnd) -> Option<u64> {
    match end {
        StreamEnd::Reset(code) | StreamEnd::Stopped(code) => Some(*code),
        _ => None,
    }
}

/// H3_REQUEST_REJECTED and REFUSED_STREAM: try another connection.
const REJECTED: [u64; 2] = [0x10b, 0x7];
