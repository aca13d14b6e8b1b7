//! The report as a person reads it.

use std::fmt::Write;

use crate::{
    cli::report::printable,
    doctor::{Finding, Report, Verdict},
};

/// All reports, one behind the other.
pub(super) fn of(reports: &[Report]) -> String {
    reports.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(report: &Report) -> String {
    let mut text = format!("{}\n", report.relay.escape_debug());
    for group in report.findings.chunk_by(|a, b| a.group == b.group) {
        writeln!(text, "{}", group[0].group).expect(TAKES);
        // Many that tell nothing for one and the same reason would bury that reason.
        for alike in group.chunk_by(|a, b| a.needs.is_some() && a.needs == b.needs) {
            match alike {
                [finding] => text += &shown(finding),
                [first, ..] => {
                    let needs = first.needs.as_deref().unwrap_or_default();
                    writeln!(text, "  skip  {} checks: they need `{needs}` to be ok", alike.len()).expect(TAKES);
                }
                [] => {}
            }
        }
    }
    writeln!(text, "\n{}", summary(report)).expect(TAKES);
    text
}

fn shown(finding: &Finding) -> String {
    let word = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Skip => "skip",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    // Others are said to need it, and `--json` has it under this name.
    let about = if finding.verdict == Verdict::Ok { String::new() } else { format!("{}: ", finding.check) };
    let mut text = format!("  {word:<6}{about}{}\n", printable(&finding.evidence));
    if let Some(hint) = &finding.hint {
        writeln!(text, "        hint: {}", printable(hint)).expect(TAKES);
    }
    if let Some(fault) = finding.fault {
        writeln!(text, "        like `serve --fault {fault}`").expect(TAKES);
    }
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
    let checks = report.findings.len();
    format!("{checks} {}: {}", if checks == 1 { "check" } else { "checks" }, counts.join(", "))
}

const TAKES: &str = "a String takes everything";
