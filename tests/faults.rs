//! The matrix: every fault against `doctor`. Each is named, alone and beside every other that does not hide it, and nothing else is; a healthy relay
//! gets no name at all.
//!
//! What hides what is data (`fault::MASKS`). A mask that is listed and does not hide fails here as well: the names must be exact.

#[path = "faults/rig.rs"]
mod rig;

use std::fmt::Write;

use futures_util::{StreamExt, stream};
use masque_relay::{
    doctor::{Report, Verdict},
    fault::{EVERY, Fault, masked},
    probe::Http,
};
use rig::Rig;

/// Relays examined at once: most of the time they wait.
const AT_ONCE: usize = 24;

#[tokio::test]
async fn a_healthy_relay_raises_none() {
    let rig = Rig::new().await;
    let report = rig.examine(&[], &[Http::H3, Http::H2]).await;
    let complaints: Vec<_> = report.findings.iter().filter(|finding| finding.verdict > Verdict::Skip).collect();
    assert!(complaints.is_empty() && report.faults().is_empty(), "{complaints:#?}");
    assert_eq!(report.findings.iter().filter(|finding| finding.verdict == Verdict::Skip).count(), 0, "{:#?}", report.findings);
    rig.finish().await;
}

#[tokio::test]
async fn without_targets_what_needs_them_is_skipped_and_says_how_to_give_them() {
    let rig = Rig::new().await;
    let report = rig.examine_with(&[], &[Http::H3, Http::H2], |plan| (plan.tcp, plan.udp) = (None, None)).await;
    assert_eq!((report.count(Verdict::Fail), report.count(Verdict::Warn)), (0, 0), "{}", shown(&report));
    let hinted = |flag: &str| report.findings.iter().any(|finding| finding.hint.as_ref().is_some_and(|hint| hint.contains(flag)));
    assert!(report.count(Verdict::Skip) > 0 && hinted("--target-tcp") && hinted("--target-udp"), "{:#?}", report.findings);
    rig.finish().await;
}

#[tokio::test]
async fn every_fault_is_named_alone_on_each_of_its_versions() {
    let rig = Rig::new().await;
    let cases = EVERY.iter().flat_map(|fault| versions(fault).into_iter().map(move |http| (*fault, http)));
    let rig_ref = &rig;
    let seen: Vec<_> = stream::iter(cases)
        .map(|(fault, http)| async move { (fault, http, rig_ref.examine(&[fault], &[http]).await) })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let wrong: Vec<_> = seen
        .iter()
        .filter(|(fault, _, report)| report.faults() != [fault.name()])
        .map(|(fault, http, report)| format!("{fault} over {http}: {:?}\n{}", report.faults(), shown(report)))
        .collect();
    println!("{} relays with one fault", seen.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    rig.finish().await;
}

#[tokio::test]
async fn every_pair_is_named_in_full_but_for_what_is_masked() {
    let rig = Rig::new().await;
    let pairs: Vec<_> = EVERY.iter().enumerate().flat_map(|(at, a)| EVERY[at + 1..].iter().map(move |b| (*a, *b))).collect();
    let rig_ref = &rig;
    let seen: Vec<_> = stream::iter(pairs)
        .map(|(a, b)| async move { (a, b, rig_ref.examine(&[a, b], &[Http::H3, Http::H2]).await) })
        .buffered(AT_ONCE)
        .collect()
        .await;
    println!("{}", matrix(&seen));
    let wrong: Vec<_> = seen
        .iter()
        .filter(|(a, b, report)| !right(*a, *b, &report.faults()))
        .map(|(a, b, report)| format!("{a} with {b}: {:?}\n{}", report.faults(), shown(report)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} pairs are named wrongly:\n{}", wrong.len(), seen.len(), wrong.join("\n"));
    rig.finish().await;
}

/// Whether exactly those are named that nothing hides; of two that hide each other it is the one or the other.
fn right(a: Fault, b: Fault, named: &[&str]) -> bool {
    let mut named: Vec<_> = named.to_vec();
    named.sort_unstable();
    let (a, b) = (a.name(), b.name());
    let mut want = match (masked(a, b), masked(b, a)) {
        (Some(_), Some(_)) => return named == [a] || named == [b],
        (Some(_), None) => vec![b],
        (None, Some(_)) => vec![a],
        (None, None) => vec![a, b],
    };
    want.sort_unstable();
    named == want
}

/// `+`: both named; `<`: that of the row hides the other; `^`: that of the column does; `x`: each hides the other.
fn matrix(seen: &[(Fault, Fault, Report)]) -> String {
    let mut text =
        String::from("Each row against each column: + both are named, < the row's hides the column's, ^ the other way, x one of the two\n");
    for (at, row) in EVERY.iter().enumerate() {
        write!(text, "{:>2} {:<27}", at, row.name()).expect("a String takes everything");
        for (other, column) in EVERY.iter().enumerate() {
            let cell = match seen.iter().find(|(a, b, _)| a == row && b == column) {
                None if other == at => '\\',
                None => ' ',
                Some((a, b, report)) if !right(*a, *b, &report.faults()) => '!',
                Some((a, b, _)) => match (masked(a.name(), b.name()), masked(b.name(), a.name())) {
                    (None, None) => '+',
                    (None, Some(_)) => '<',
                    (Some(_), None) => '^',
                    (Some(_), Some(_)) => 'x',
                },
            };
            text.push(cell);
        }
        text.push('\n');
    }
    let hidden = seen.iter().filter(|(a, b, _)| masked(a.name(), b.name()).is_some() || masked(b.name(), a.name()).is_some()).count();
    writeln!(text, "{} pairs, {hidden} of them with one that is hidden", seen.len()).expect("a String takes everything");
    text
}

/// What is not well.
fn shown(report: &Report) -> String {
    let line = |finding: &masque_relay::doctor::Finding| {
        format!("    {:?} {}: {} {}\n", finding.verdict, finding.check, finding.evidence, finding.fault.unwrap_or_default())
    };
    report.findings.iter().filter(|finding| finding.verdict > Verdict::Skip).map(line).collect()
}

/// The versions in which a fault shows, of those that `doctor` tries.
fn versions(fault: &Fault) -> Vec<Http> {
    let version = |name: &&str| match *name {
        "h3" => Some(Http::H3),
        "h2" => Some(Http::H2),
        _ => None,
    };
    fault.about().http.iter().filter_map(version).collect()
}
