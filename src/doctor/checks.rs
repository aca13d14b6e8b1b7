//! The checks: each a record, run on what was seen. Their order is that of the report, and a check comes behind those it needs.

mod certificate;
mod http;
mod quic;
mod reach;
mod refusals;
mod tcp;
mod udp;

use super::{Evidence, Finding, Plan, Verdict, Visit};
use crate::probe::Http;

/// One expectation.
pub(super) struct Check {
    /// Unique among its like; `http3.` or `http2.` goes before that of a visit.
    id: &'static str,
    /// What it belongs to; the version goes before it.
    group: &'static str,
    /// Checks that must not have failed or been skipped, or this one cannot be told.
    needs: &'static [&'static str],
    run: Run,
}

/// What a check looks at.
enum Run {
    /// The relay as a whole.
    Relay(fn(&Plan, &Evidence) -> Found),
    /// A visit over one of these versions.
    Visit(&'static [Http], fn(&Plan, &Visit) -> Found),
}

/// What a check says.
#[derive(Debug)]
struct Found {
    verdict: Verdict,
    evidence: String,
    hint: Option<String>,
    fault: Option<&'static str>,
    needs: Option<String>,
}

impl Check {
    const fn relay(id: &'static str, group: &'static str, needs: &'static [&'static str], run: fn(&Plan, &Evidence) -> Found) -> Self {
        Self { id, group, needs, run: Run::Relay(run) }
    }

    const fn both(id: &'static str, group: &'static str, needs: &'static [&'static str], run: fn(&Plan, &Visit) -> Found) -> Self {
        Self { id, group, needs, run: Run::Visit(&[Http::H3, Http::H2], run) }
    }

    const fn h3(id: &'static str, group: &'static str, needs: &'static [&'static str], run: fn(&Plan, &Visit) -> Found) -> Self {
        Self { id, group, needs, run: Run::Visit(&[Http::H3], run) }
    }

    const fn h2(id: &'static str, group: &'static str, needs: &'static [&'static str], run: fn(&Plan, &Visit) -> Found) -> Self {
        Self { id, group, needs, run: Run::Visit(&[Http::H2], run) }
    }
}

impl Found {
    fn of(verdict: Verdict, evidence: impl Into<String>) -> Self {
        Self { verdict, evidence: evidence.into(), hint: None, fault: None, needs: None }
    }

    fn ok(evidence: impl Into<String>) -> Self {
        Self::of(Verdict::Ok, evidence)
    }

    fn skip(evidence: impl Into<String>) -> Self {
        Self::of(Verdict::Skip, evidence)
    }

    /// It tells nothing while that check is not ok.
    fn needs(check: impl Into<String>) -> Self {
        let check = check.into();
        Self { needs: Some(check.clone()), ..Self::skip(format!("it needs `{check}` to be ok")) }
    }

    fn warn(evidence: impl Into<String>) -> Self {
        Self::of(Verdict::Warn, evidence)
    }

    fn fail(evidence: impl Into<String>) -> Self {
        Self::of(Verdict::Fail, evidence)
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn fault(self, name: &'static str) -> Self {
        Self { fault: Some(name), ..self }
    }
}

/// All that there are.
fn all() -> impl Iterator<Item = &'static Check> {
    [reach::CHECKS, certificate::CHECKS, quic::CHECKS, http::CHECKS, tcp::CHECKS, udp::CHECKS, refusals::CHECKS].into_iter().flatten()
}

/// Runs each on what it looks at.
pub(super) fn run(plan: &Plan, evidence: &Evidence) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for check in all() {
        if let Run::Relay(run) = check.run {
            let finding = one(check, &findings, None, || run(plan, evidence));
            findings.push(finding);
        }
    }
    for visit in &evidence.visits {
        for check in all() {
            if let Run::Visit(versions, run) = check.run
                && versions.contains(&visit.http)
            {
                let finding = one(check, &findings, Some(visit.http), || run(plan, visit));
                findings.push(finding);
            }
        }
    }
    findings
}

/// One check, unless what it needs is missing.
fn one(check: &Check, before: &[Finding], http: Option<Http>, run: impl FnOnce() -> Found) -> Finding {
    let missing = check.needs.iter().find_map(|need| {
        let own = full(http, need);
        let found = before.iter().find(|finding| finding.check == own || finding.check == **need);
        match found {
            Some(Finding { verdict: Verdict::Ok | Verdict::Warn, .. }) => None,
            // What that one waits for in its turn says more.
            Some(finding) => Some(finding.needs.clone().unwrap_or_else(|| finding.check.clone())),
            None => Some(own),
        }
    });
    let found = missing.map_or_else(run, Found::needs);
    Finding {
        check: full(http, check.id),
        group: http.map_or_else(|| check.group.to_owned(), |http| format!("{http} {}", check.group)),
        verdict: found.verdict,
        evidence: found.evidence,
        hint: found.hint,
        fault: found.fault,
        needs: found.needs,
    }
}

fn full(http: Option<Http>, id: &str) -> String {
    match http {
        Some(Http::H3) => format!("http3.{id}"),
        Some(Http::H2) => format!("http2.{id}"),
        Some(Http::H1) => format!("http1.{id}"),
        None => id.into(),
    }
}

/// An error with its causes, on one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

/// A time as a person reads it: three digits at most.
fn ms(time: std::time::Duration) -> String {
    match time.as_micros() {
        us if us < 10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        us if us < 10_000_000 => format!("{} ms", us / 1000),
        us => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_comes_behind_those_it_needs() {
        let mut before: Vec<&str> = Vec::new();
        for check in all() {
            for need in check.needs {
                assert!(before.contains(need), "{} needs {need}", check.id);
            }
            before.push(check.id);
        }
    }

    #[test]
    fn a_version_has_each_check_once() {
        for http in [Http::H3, Http::H2] {
            let ids: Vec<_> =
                all().filter(|check| matches!(check.run, Run::Visit(on, _) if on.contains(&http))).map(|check| check.id).collect();
            let mut each = ids.clone();
            each.sort_unstable();
            each.dedup();
            assert_eq!(each.len(), ids.len(), "{ids:?}");
        }
    }
}
