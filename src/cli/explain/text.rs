//! An explanation as people read it.

use std::fmt::Display;

use crate::{
    cli::report::printable,
    diagnosis::{
        Certainty, Finding,
        hypotheses::{Standing, Weighed},
        milliseconds,
        record::clock,
    },
    explain::{Explained, Explanation, Joining, errands::Errand, since_first, story::Tally},
};

/// The whole of it.
pub(super) fn explanation(name: &str, explanation: &Explanation) -> String {
    let mut page = Page::default();
    page.log(name, explanation);
    if let Some(joining) = &explanation.records {
        page.joining(joining);
    }
    let (wrong, fine): (Vec<_>, Vec<_>) = explanation.attempts.iter().partition(|explained| explained.attempt.sight.went_wrong());
    let mut told: Option<(usize, &[Weighed])> = None;
    for (number, explained) in (1..).zip(&wrong) {
        page.line(0, "");
        page.line(0, format!("attempt {number}: {}", explained.summary));
        if number <= IN_FULL {
            page.attempt(explained, told);
            told = told.or_else(|| (!explained.hypotheses.is_empty()).then_some((number, explained.hypotheses.as_slice())));
        }
    }
    page.section(0, "worked, or still going on", fine.iter().take(FINE).map(|explained| &explained.summary));
    if fine.len() > FINE {
        page.line(1, format!("and {} more; `--json` has them all", fine.len() - FINE));
    }
    if wrong.len() > IN_FULL {
        page.line(0, "");
        page.line(0, format!("only the first {IN_FULL} attempts are told in full; `--json` has them all"));
    }
    if explanation.attempts.is_empty() {
        page.line(0, "");
        page.line(0, "no connection in this log goes through a relay: it was not asked for, or the log does not reach back to it");
    }
    page.errands(&explanation.errands);
    page.0
}

/// One finding alone.
pub(super) fn finding(finding: &Finding) -> String {
    let mut page = Page::default();
    page.finding(0, finding);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// What a log says gets no further than its line, and drives no terminal.
    fn line(&mut self, depth: usize, text: impl Display) {
        let line = format!("{}{}", "  ".repeat(depth), printable(&text.to_string()));
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn section(&mut self, depth: usize, title: &str, lines: impl IntoIterator<Item = impl Display>) {
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_some() {
            self.line(0, "");
            self.line(depth, title);
            for line in lines {
                self.line(depth + 1, line);
            }
        }
    }

    fn log(&mut self, name: &str, explanation: &Explanation) {
        let Tally { lines, understood, not_understood, kept, not_kept, cut, forgotten, framings } = &explanation.log;
        let framings: Vec<_> = framings.iter().map(|(framing, lines)| format!("{} {lines}", framing.word())).collect();
        self.line(0, format!("{name}: {}, {understood} understood ({})", count(*lines, "line"), framings.join(", ")));
        let attempts = explanation.attempts.iter().filter(|explained| explained.attempt.through_relay).count();
        self.line(
            0,
            format!("{}, {} to use a relay", count(explanation.connections as u64, "connection"), count(attempts as u64, "attempt")),
        );
        if *not_understood > 0 {
            self.line(
                0,
                format!(
                    "not understood: {}; `--json` has {}",
                    count(*not_understood, "line"),
                    if *not_kept == 0 { "them all" } else { "the first of them" }
                ),
            );
            for line in kept.iter().filter(|line| !line.trim().is_empty()).take(KEPT) {
                self.line(1, line.chars().take(WIDTH).collect::<String>());
            }
        }
        if *cut > 0 {
            self.line(0, format!("cut: {} longer than 64 KiB", count(*cut, "line")));
        }
        if *forgotten > 0 {
            self.line(0, format!("forgotten, for there were too many: {}", count(*forgotten, "connection")));
        }
    }

    fn joining(&mut self, joining: &Joining) {
        self.line(0, format!("{} of the relay, {} joined to an attempt", count(joining.records as u64, "record"), joining.joined));
        match &joining.skew {
            Some(skew) => self.line(0, format!("clock skew: {skew}")),
            None => self.line(0, "clock skew: not known, for neither address nor byte counts joined anything; taken as none"),
        }
    }

    fn attempt(&mut self, explained: &Explained, told: Option<(usize, &[Weighed])>) {
        if !explained.attempt.through_relay {
            self.line(1, "no line says that this connection goes through a relay");
        }
        let mut steps: Vec<_> = since_first(&explained.attempt.steps)
            .map(|(step, since)| {
                let time = step.at.map_or_else(|| "-".into(), clock);
                let since = since.map_or(String::new(), |ms| format!("+{}", milliseconds(ms)));
                format!("{time:<15}  {since:>8}  {:<8}  {:<9}  {}", step.cid, step.phase.word(), step.what)
            })
            .collect();
        if explained.attempt.steps_cut > 0 {
            steps.push(format!("({} in between are not kept)", count(explained.attempt.steps_cut, "step")));
        }
        self.section(1, "what happened", steps);
        self.findings("known", &explained.known);
        if let Some(joined) = &explained.joined {
            self.findings(
                &format!("the relay's record ({} to be this connection's, by {})", joined.certainty.word(), joined.by.join(", ")),
                &explained.relay,
            );
        }
        self.section(1, "not known", &explained.not_known);
        match told {
            _ if explained.hypotheses.is_empty() => {}
            Some((number, told)) if told == explained.hypotheses => self.section(1, "hypotheses", [format!("as for attempt {number}")]),
            _ => self.hypotheses(&explained.hypotheses, explained.joined.is_some()),
        }
    }

    fn findings(&mut self, title: &str, findings: &[Finding]) {
        if !findings.is_empty() {
            self.line(0, "");
            self.line(1, title);
        }
        for finding in findings {
            self.finding(2, finding);
        }
    }

    fn finding(&mut self, depth: usize, finding: &Finding) {
        self.line(depth, &finding.seen);
        if !finding.means.is_empty() {
            self.line(depth + 1, format!("{}: {}", finding.certainty.word(), finding.means));
        }
        if let Some(next) = &finding.next {
            self.line(depth + 1, format!("do: {next}"));
        }
    }

    fn hypotheses(&mut self, all: &[Weighed], joined: bool) {
        self.line(0, "");
        self.line(
            1,
            if joined {
                "hypotheses, the likeliest first"
            } else {
                "hypotheses, the likeliest first; the log alone decides none of them, and their order is a guess"
            },
        );
        for weighed in all {
            self.line(2, format!("{:?}  {:<9}  {}", weighed.hypothesis, weighed.standing.word(), weighed.hypothesis.claim()));
            for (sign, reasons) in [("for", &weighed.speaks_for), ("against", &weighed.speaks_against)] {
                for reason in reasons {
                    self.line(4, format!("{sign}: {reason}"));
                }
            }
            if weighed.standing == Standing::Stands(Certainty::Possible) {
                self.line(4, format!("settled by: {}", weighed.hypothesis.settled_by()));
            }
        }
    }

    fn errands(&mut self, errands: &[Errand]) {
        if errands.is_empty() {
            return;
        }
        self.line(0, "");
        self.line(0, "what to do to learn more");
        for errand in errands {
            self.line(1, format!("{}: {}", errand.place, errand.settles));
            self.line(2, &errand.command);
        }
    }
}

fn count(number: u64, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// Attempts told in full: a page holds one.
const IN_FULL: usize = 5;

/// Attempts that need no telling.
const FINE: usize = 20;

/// Lines shown that were not understood, and how much of each.
const KEPT: usize = 5;
const WIDTH: usize = 120;
