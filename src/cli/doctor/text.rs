//! The report as a person reads it.

use std::fmt::Write;

use crate::{
    cli::report::printable,
    doctor::{Report, Verdict},
};

/// All reports, one behind the other.
pub(super) fn of(reports: &[Report]) -> String {
    reports.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(report: &Report) -> String {
    let mut text = format!("{}\n", report.relay.escape_debug());
    let mut group = "";
    for finding in &report.findings {
        if finding.group != group {
            group = &finding.group;
            writeln!(text, "{group}").expect(TAKES);
        }
        let word = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Skip => "skip",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        // What is skipped shows nothing else that it is about.
        let about = if finding.verdict == Verdict::Skip { format!("{}: ", finding.check) } else { String::new() };
        writeln!(text, "  {word:<6}{about}{}", printable(&finding.evidence)).expect(TAKES);
        if let Some(hint) = &finding.hint {
            writeln!(text, "        hint: {}", printable(hint)).expect(TAKES);
        }
        if let Some(fault) = finding.fault {
            writeln!(text, "        like `serve --fault {fault}`").expect(TAKES);
        }
    }
    writeln!(text, "\n{}", summary(report)).expect(TAKES);
    text
}

/// `5 checks: 2 ok, 1 warning, 1 failed, 1 skipped`
pub(in crate::cli) fn summary(report: &Report) -> String {
    let count = |verdict| report.count(verdict);
    let warnings = count(Verdict::Warn);
    let counts = [
        (count(Verdict::Ok), "ok"),
        (warnings, if warnings == 1 { "warning" } else { "warnings" }),
        (count(Verdict::Fail), "failed"),
        (count(Verdict::Skip), "skipped"),
    ];
    let counts: Vec<_> = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    format!("{} checks: {}", report.findings.len(), counts.join(", "))
}

const TAKES: &str = "a String takes everything";
