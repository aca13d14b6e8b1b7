//! The real log in every framing, and bytes that are no log.

use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, proptest};
use serde_json::json;

use super::*;
use crate::diagnosis::hypotheses::Hypothesis;

const LOG: &str = include_str!("../../tests/logs/macos-abort.log");

fn of(log: &str) -> Explanation {
    explain(log.as_bytes(), None).expect("bytes in memory can be read")
}

/// The log's entries: time, and a message that may have several lines.
fn entries() -> Vec<(&'static str, String)> {
    let mut entries: Vec<(&str, String)> = Vec::new();
    for line in LOG.lines() {
        if let Some(rest) = line.strip_prefix("default ") {
            entries.push((&rest[..15], rest[26..].to_owned()));
        } else {
            let (_, message) = entries.last_mut().expect("the first line has a frame");
            *message += "\n";
            *message += line;
        }
    }
    entries
}

fn framed(frame: impl Fn(&str, &str) -> String) -> String {
    entries().iter().map(|(time, message)| frame(time, message) + "\n").collect()
}

#[test]
fn the_real_log_says_the_same_in_every_framing() {
    let object = |time: &str, message: &str| json!({"timestamp": format!("2026-03-01 {time}-0700"), "eventMessage": message, "processImagePath": "/usr/bin/curl", "processID": 591, "messageType": "Default"});
    let want = &of(LOG).attempts[0];
    assert_eq!(want.hypotheses[0].hypothesis, Hypothesis::H3);
    let pretty: Vec<_> = entries().iter().map(|(time, message)| object(time, message)).collect();
    for log in [
        framed(|time, message| format!("default\t{time}-0700\tcurl\t{message}")),
        framed(|time, message| format!("2026-03-01 {time} Df curl[591:1a2b] [com.apple.network:connection] {message}")),
        framed(|time, message| {
            format!(
                "2026-03-01 {time}-0700 0x1a2b     Default     0x0        591    0    curl: (Network) [com.apple.network:connection] {message}"
            )
        }),
        framed(|time, message| format!("2026-03-01 {time}-0700  localhost curl[591]: (Network) [com.apple.network:connection] {message}")),
        framed(|time, message| format!("Mar  1 {time} iPhone curl(Network)[591] <Notice>: {message}")),
        framed(|time, message| object(time, message).to_string()),
        serde_json::to_string_pretty(&pretty).expect("it is JSON"),
        LOG.replace('\n', "\r\n"),
        format!("\u{feff}{LOG}"),
    ] {
        let explanation = of(&log);
        assert_eq!(explanation.log.not_understood, 0, "{:?}\n{log}", explanation.log.kept);
        let got = &explanation.attempts[0];
        let mut sight = got.attempt.sight.clone();
        assert_eq!(sight.joined_to_cancel_ms(), Some(4.37));
        sight.process.clone_from(&want.attempt.sight.process);
        (sight.joined, sight.cancel, sight.ended) = (want.attempt.sight.joined, want.attempt.sight.cancel, want.attempt.sight.ended);
        assert_eq!(sight, want.attempt.sight, "{log}");
        assert_eq!(got.hypotheses, want.hypotheses);
    }
}

/// The same without its frames: no time is known, and nothing that would follow from it is said.
#[test]
fn a_log_without_frames_has_no_times() {
    let explanation = of(&framed(|_, message| message.to_owned()));
    let sight = &explanation.attempts[0].attempt.sight;
    assert_eq!((sight.errno, sight.joined_to_cancel_ms(), sight.start()), (Some(53), None, None));
    assert!(since_first(&explanation.attempts[0].attempt.steps).all(|(_, since)| since.is_none()));
}

#[test]
fn midnight_is_no_step_back() {
    let log = LOG.replace("09:43:04.459", "23:59:59.999").replace("09:43:04.46", "00:00:00.06");
    let sight = &of(&log).attempts[0].attempt.sight;
    assert_eq!(sight.joined_to_cancel_ms(), Some(4.37));
}

#[test]
fn what_is_not_understood_is_kept_as_it_is() {
    let explanation = of("hello\ndefault 09:43:04.459517-0700 curl something else\n[C1] what?\n\n");
    assert_eq!(explanation.log.kept, ["hello", "default 09:43:04.459517-0700 curl something else", "[C1] what?", ""]);
    let long = "é".repeat(1000);
    let many = of(&format!("{long}\n").repeat(story::KEPT + 7));
    assert_eq!((many.log.kept.len(), many.log.not_kept, many.log.not_understood), (story::KEPT, 7, story::KEPT as u64 + 7));
    assert_eq!(many.log.kept[0].chars().count(), 401);
}

#[test]
fn what_is_kept_is_bounded_and_says_so() {
    let line = |number: usize, text: &str| {
        format!("default 09:43:04.459517-0700 curl [C{number}.1 192.0.2.1:443 in_progress proxy (satisfied)] {text}\n")
    };
    let mut log: String = (0..story::CONNECTIONS + 9).map(|number| line(number, "event: flow:start_connect @0.1s")).collect();
    log += &line(300, "event: flow:changed @0.2s").repeat(3 * story::STEPS);
    log += &line(300, "Privacy proxy failed with error 60");
    let explanation = of(&log);
    assert_eq!((explanation.attempts.len(), explanation.log.forgotten), (story::CONNECTIONS, 10));
    let last = &explanation.attempts[story::CONNECTIONS - 1].attempt;
    assert_eq!((last.steps.len(), last.steps_cut), (2 * story::STEPS, story::STEPS as u64 + 1));
    assert!(last.steps[2 * story::STEPS - 1].what.contains("ETIMEDOUT"));
}

/// Two programs number their connections alike.
#[test]
fn a_word_without_end_is_not_kept_whole() {
    let endless = "é".repeat(30_000);
    let line = format!("default 09:43:05.000000-0700 curl nw_read_request_report [C1] Receive failed with error \"{endless}\"\n");
    let explained = of(&format!("{LOG}{line}"));
    assert_eq!(explained.log.not_understood, 0);
    let longest = explained.attempts[0].attempt.steps.iter().map(|step| step.what.len()).max();
    assert!(longest.is_some_and(|longest| (2000..=4200).contains(&longest)), "{longest:?}");
}

#[test]
fn programs_are_kept_apart() {
    let other = LOG
        .replace(" curl ", " Safari ")
        .replace("error 53", "error 60")
        .replace("Software caused connection abort", "Operation timed out");
    let mixed: String = LOG
        .lines()
        .zip(other.lines())
        .filter(|(one, _)| one.starts_with("default"))
        .map(|(one, other)| format!("{one}\n{other}\n"))
        .collect();
    let seen: Vec<_> =
        of(&mixed).attempts.into_iter().map(|explained| (explained.attempt.sight.process, explained.attempt.sight.errno)).collect();
    assert_eq!(seen, [("curl".to_owned(), Some(53)), ("Safari".to_owned(), Some(60))]);
}

#[test]
fn without_the_lines_of_a_proxy_it_only_may_be_a_relay() {
    let lines: String = LOG.lines().filter(|line| !line.contains("proxy")).map(|line| format!("{line}\n")).collect();
    let explanation = of(&lines);
    assert!(!explanation.attempts.is_empty() && explanation.attempts.iter().all(|explained| !explained.attempt.through_relay));
    // And one that works is nobody's business.
    assert!(
        of("default 09:43:04.459517-0700 curl [C1 192.0.2.1:443 ready socket-flow (satisfied)] event: flow:finish_connect @0.1s")
            .attempts
            .is_empty()
    );
}

#[test]
fn an_attempt_that_worked_is_not_explained_away() {
    let log = "default 09:43:04.4-0700 curl nw_flow_connected [C1.1.1 192.0.2.1:443 in_progress socket-flow (satisfied)] Joined protocol connected (http3)\n\
               default 09:43:04.5-0700 curl [C1.1 example.com:443 ready proxy (satisfied)] event: flow:finish_connect @0.2s\n\
               default 09:43:05.0-0700 curl [C1 example.com:443 quic] cancel\n";
    let explained = &of(log).attempts[0];
    assert!(explained.summary.ends_with("for example.com:443: worked"), "{}", explained.summary);
    assert!(explained.hypotheses.is_empty() && explained.not_known.is_empty());
}

#[test]
fn a_cause_that_the_log_states_needs_no_hypotheses() {
    for (line, seen) in [
        (
            "boringssl_context_handle_fatal_alert(2313) [C1.1.1:2][0x1] read alert, level: fatal, description: internal error",
            "the relay sent a fatal TLS alert: internal error",
        ),
        ("Connection 1: failed to connect 3:-9838, reason -1", "TLS failed with -9838"),
        (
            "nw_socket_handle_socket_event [C1.1.1:1] Socket SO_ERROR [61: Connection refused]",
            r#"the client's socket reports error 61 (ECONNREFUSED, "Connection refused")"#,
        ),
        (
            "quic_conn_keepalive_handler [C1.1.1.1:2] [-0178f846] keep-alive timer fired, exceeding 2 outstanding keep-alives",
            "keep-alives went unanswered",
        ),
    ] {
        let log = format!("{LOG}default 09:43:05.000000-0700 curl {line}\n");
        let explained = &of(&log).attempts[0];
        assert!(explained.known.iter().any(|finding| finding.seen == seen), "{seen}: {:?}", explained.known);
        assert!(explained.hypotheses.is_empty());
    }
}

fn holds_together(bytes: &[u8]) -> Explanation {
    let explanation = explain(bytes, None).expect("bytes in memory can be read");
    let lines = bytes.split(|byte| *byte == b'\n').count() - usize::from(bytes.last().is_none_or(|last| *last == b'\n'));
    let log = &explanation.log;
    assert_eq!(log.lines, lines as u64);
    assert_eq!(log.understood + log.not_understood, log.lines);
    assert_eq!(log.framings.values().sum::<u64>(), log.lines);
    assert!(log.kept.len() as u64 + log.not_kept >= log.not_understood);
    explanation
}

proptest! {
    #[test]
    fn no_line_is_lost(bytes in vec(any::<u8>(), 0..300)) {
        let explanation = holds_together(&bytes);
        prop_assert_eq!(explanation.log.not_kept, 0);
    }

    /// The real log with lines taken out, doubled, broken and moved.
    #[test]
    fn no_line_of_a_broken_log_is_lost(picks in vec((0..14_usize, 0..80_usize, ".{0,3}"), 0..40)) {
        let lines: Vec<_> = LOG.lines().collect();
        let broken: Vec<_> = picks.iter().map(|(line, at, noise)| {
            let (front, back) = lines[*line].split_at((*at).min(lines[*line].len()));
            format!("{front}{}{back}", noise.replace('\n', ""))
        }).collect();
        let explanation = holds_together(broken.join("\n").as_bytes());
        for kept in explanation.log.kept {
            prop_assert!(broken.iter().any(|line| line.starts_with(kept.trim_end_matches('…')) || line.contains(&kept)));
        }
    }
}
