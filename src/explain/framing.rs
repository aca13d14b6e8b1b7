//! What stands around a message: time, level, program. Apple's log comes in several framings, and one file may mix them.
//!
//! | framing | a line |
//! | --- | --- |
//! | Console's copy | `default⇥18:37:45.718683+0800⇥curl⇥MESSAGE`, or the same with spaces |
//! | compact | `2026-03-01 09:43:04.459 Df curl[591:1a2b] [com.apple.network:connection] MESSAGE` |
//! | `log show` | `2026-03-01 09:43:04.459517-0700 0x1a2b Default 0x0 591 0 curl: (Network) [com.apple.network:connection] MESSAGE` |
//! | syslog | `2026-03-01 09:43:04.459517-0700 localhost curl[591]: (Network) MESSAGE`, `Mar  1 09:43:04 iPhone curl(Network)[591] <Notice>: MESSAGE` |
//! | JSON | an object of `log show --style json` or `ndjson` |
//! | bare | a message alone, or its further lines |

use serde::Serialize;

use super::lines::Object;
use crate::diagnosis::record::{DAY, clock_micros, day, zone_minutes};

/// How a line is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// A copy out of the Console app.
    Console,
    /// `log stream --style compact`.
    Compact,
    /// `log show`.
    Show,
    /// A device's syslog, or `log show --style syslog`.
    Syslog,
    /// `log show --style json`.
    Json,
    /// None.
    Bare,
}

impl Framing {
    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Console => "Console copy",
            Self::Compact => "compact",
            Self::Show => "log show",
            Self::Syslog => "syslog",
            Self::Json => "JSON",
            Self::Bare => "no framing",
        }
    }
}

/// A time on the client's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds of local time: since 1970, or since midnight if there is no date.
    pub micros: i64,
    /// The date is known.
    pub dated: bool,
    /// Minutes east of Greenwich, if known.
    pub zone: Option<i16>,
}

/// A line out of its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The frame.
    pub framing: Framing,
    /// When.
    pub at: Option<Moment>,
    /// The program, and its number if there is one: `curl`, `curl[591]`.
    pub process: String,
    /// What it said.
    pub message: &'a str,
}

/// Takes a line out of its frame. What has none is bare: the whole line is the message.
pub fn unframe(line: &str) -> Line<'_> {
    console(line).or_else(|| dated(line)).or_else(|| syslog(line)).unwrap_or(Line {
        framing: Framing::Bare,
        at: None,
        process: String::new(),
        message: line,
    })
}

/// The frame of an object: its lines are its message's.
pub fn object(object: &Object) -> Line<'_> {
    let program = object.process_image_path.as_deref().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    Line {
        framing: Framing::Json,
        at: object.timestamp.as_deref().and_then(moment).map(|(at, _)| at),
        process: named(program, object.process_id.map(|pid| pid.to_string()).as_deref()),
        message: object.event_message.as_deref().unwrap_or_default(),
    }
}

fn console(line: &str) -> Option<Line<'_>> {
    let (level, rest) = line.split_once([' ', '\t'])?;
    if !LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known)) {
        return None;
    }
    let (at, rest) = moment(rest.trim_start())?;
    let (process, message) = match rest.strip_prefix('\t') {
        Some(rest) => rest.split_once('\t').unwrap_or((rest, "")),
        None => word(rest),
    };
    Some(Line { framing: Framing::Console, at: Some(at), process: process.trim().into(), message })
}

/// The framings that begin with a date.
fn dated(line: &str) -> Option<Line<'_>> {
    let (at, rest) = moment(line).filter(|(at, _)| at.dated)?;
    let rest = rest.trim_start();
    let (first, behind) = word(rest);
    let (framing, process, message) = if SHORT_LEVELS.contains(&first) {
        let (process, message) = compact_process(behind)?;
        (Framing::Compact, process, message)
    } else if first.starts_with("0x") {
        // Thread, level, activity, process, time to live.
        let (_level, behind) = word(behind);
        let (_activity, behind) = word(behind);
        let (pid, behind) = word(behind);
        let (_time_to_live, behind) = word(behind);
        let (program, message) = behind.split_once(": ").or_else(|| Some((behind.strip_suffix(':')?, "")))?;
        (Framing::Show, named(program.trim(), Some(pid)), message)
    } else if let Some((head, message)) = rest.split_once(">: ") {
        let (process, _) = device_process(head)?;
        (Framing::Syslog, process, message)
    } else {
        let (head, message) = rest.split_once("]: ").or_else(|| Some((rest.strip_suffix("]:")?, "")))?;
        let (program, pid) = head.rsplit_once('[')?;
        let program = program.split_once(' ').map_or(program, |(_, program)| program);
        (Framing::Syslog, named(program, Some(pid)), message)
    };
    Some(Line { framing, at: Some(at), process, message: sender(message) })
}

/// `curl[591:1a2b] MESSAGE`.
fn compact_process(text: &str) -> Option<(String, &str)> {
    let open = text.find('[')?;
    let (inside, message) = text[open + 1..].split_once(']')?;
    let (pid, thread) = inside.split_once(':').unwrap_or((inside, "0"));
    let numbers = pid.bytes().all(|byte| byte.is_ascii_digit()) && thread.bytes().all(|byte| byte.is_ascii_hexdigit());
    (numbers && !pid.is_empty()).then(|| (named(text[..open].trim(), Some(pid)), message.trim_start_matches(' ')))
}

/// `Mar  1 09:43:04 iPhone curl(Network)[591] <Notice>: MESSAGE`, with or without the device's name.
fn syslog(line: &str) -> Option<Line<'_>> {
    let (month, rest) = word(line);
    let (of_month, rest) = word(rest);
    if !MONTHS.contains(&month) || !(1..=2).contains(&of_month.len()) || !of_month.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (at, rest) = moment(rest)?;
    let (process, message) = if let Some((head, message)) = rest.split_once(">: ") {
        (device_process(head)?.0, message)
    } else {
        let (head, message) = rest.split_once(": ")?;
        (device_process(head)?.0, message)
    };
    Some(Line { framing: Framing::Syslog, at: Some(at), process, message: sender(message) })
}

/// `iPhone curl(Network)[591] <Notice`.
fn device_process(head: &str) -> Option<(String, &str)> {
    let head = head.split_once(" <").map_or(head, |(head, _)| head).trim();
    let (program, pid) = head.strip_suffix(']')?.rsplit_once('[')?;
    let program = program.split(['(', '{']).next().unwrap_or_default().trim();
    // A device has a name of one word in these logs, and programs seldom more.
    let program = program.rsplit_once(' ').map_or(program, |(_, program)| program);
    Some((named(program, Some(pid)), head))
}

/// The message without `(Library)` and `[subsystem:category]` in front of it.
fn sender(message: &str) -> &str {
    let mut rest = message;
    if let Some((library, behind)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(") "))
        && !library.contains([' ', '('])
    {
        rest = behind;
    }
    match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        // `[C2:1]` is no subsystem: those have dots before their colon.
        Some((inside, behind))
            if !inside.contains(' ')
                && inside.split_once(':').is_some_and(|(system, _)| system.contains('.') && !system.starts_with('C')) =>
        {
            behind.strip_prefix(' ').unwrap_or(behind)
        }
        _ => rest,
    }
}

fn named(program: &str, pid: Option<&str>) -> String {
    match pid {
        Some(pid) if !pid.is_empty() => format!("{program}[{pid}]"),
        _ => program.to_owned(),
    }
}

/// `[DATE ]TIME[ZONE]` at the start, and what follows it.
fn moment(text: &str) -> Option<(Moment, &str)> {
    let date = text.get(..10).and_then(day);
    let text = match date {
        Some(_) => text[10..].strip_prefix([' ', 'T'])?,
        None => text,
    };
    let length = text.bytes().position(|byte| !(byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b','))).unwrap_or(text.len());
    let (clock, rest) = text.split_at(length);
    let micros = clock_micros(clock)?;
    let zone = rest.get(..5).and_then(zone_minutes);
    let rest = if zone.is_some() { &rest[5..] } else { rest };
    Some((Moment { micros: date.unwrap_or_default() * DAY + micros, dated: date.is_some(), zone }, rest))
}

/// The first word, and what follows it without the blanks between.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim_start_matches([' ', '\t']))
}

const LEVELS: [&str; 6] = ["default", "info", "debug", "error", "fault", "notice"];

/// Of the compact framing; `A` and `Ac` are activities.
const SHORT_LEVELS: [&str; 9] = ["Df", "I", "In", "Db", "E", "Er", "F", "A", "Ac"];

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::*;

    #[test]
    fn every_framing_gives_the_same_message() {
        const MESSAGE: &str = "nw_read_request_report [C69] Receive failed with error \"Operation timed out\"";
        let t = 34_984_459_517; // 09:43:04.459517
        let d = 20_513 * DAY;
        for (frame, framing, process, micros, zone) in [
            ("default\t09:43:04.459517-0700\tcurl\t", Framing::Console, "curl", t, Some(-420)),
            ("default 09:43:04.459517-0700 curl ", Framing::Console, "curl", t, Some(-420)),
            ("Error\t2026-03-01 09:43:04.459517+0530\tGoogle Chrome\t", Framing::Console, "Google Chrome", d + t, Some(330)),
            ("2026-03-01 09:43:04.459 Df curl[591:1a2b] [com.apple.network:connection] ", Framing::Compact, "curl[591]", d + t - 517, None),
            (
                "2026-03-01 09:43:04.459 E  Google Chrome[7:ff] (Network) [com.apple.network:] ",
                Framing::Compact,
                "Google Chrome[7]",
                d + t - 517,
                None,
            ),
            (
                "2026-03-01 09:43:04.459517-0700 0x1a2b     Default     0x0                  591    0    curl: (Network) [com.apple.network:connection] ",
                Framing::Show,
                "curl[591]",
                d + t,
                Some(-420),
            ),
            (
                "2026-03-01 09:43:04.459517-0700  localhost curl[591]: (Network) [com.apple.network:connection] ",
                Framing::Syslog,
                "curl[591]",
                d + t,
                Some(-420),
            ),
            ("Mar  1 09:43:04 iPhone curl(Network)[591] <Notice>: ", Framing::Syslog, "curl[591]", t - 459_517, None),
            ("Mar 1 09:43:04.459517 curl(libnetwork.dylib)[591] <Error>: ", Framing::Syslog, "curl[591]", t, None),
            ("2026-03-01 09:43:04.459517 curl{Network}[591] <DEFAULT>: ", Framing::Syslog, "curl[591]", d + t, None),
        ] {
            let line = format!("{frame}{MESSAGE}");
            let got = unframe(&line);
            assert_eq!((got.framing, got.process.as_str(), got.message), (framing, process, MESSAGE), "{frame}");
            assert_eq!(got.at, Some(Moment { micros, dated: micros >= d, zone }), "{frame}");
        }
        assert_eq!(unframe(MESSAGE), Line { framing: Framing::Bare, at: None, process: String::new(), message: MESSAGE });
    }

    #[test]
    fn a_bracket_of_the_message_is_no_subsystem() {
        for message in ["[C2:1][0x1] x", "[C2 192.0.2.1:443 quic] cancel", "(null) x y", "[no.sub system:x] y"] {
            let want = message.strip_prefix("(null) ").unwrap_or(message);
            assert_eq!(unframe(&format!("2026-03-01 09:43:04.459 Df curl[5:a] [com.apple.network:x] {message}")).message, message);
            assert_eq!(sender(message), want);
        }
    }

    #[test]
    fn an_object_is_a_frame() {
        let json =
            r#"{"eventMessage":"[C1] x","timestamp":"2026-03-01 09:43:04.459517-0700","processImagePath":"/usr/bin/curl","processID":591}"#;
        let read: Object = serde_json::from_str(json).unwrap();
        let line = object(&read);
        assert_eq!((line.process.as_str(), line.message, line.at.and_then(|at| at.zone)), ("curl[591]", "[C1] x", Some(-420)));
    }

    proptest! {
        #[test]
        fn a_message_is_the_end_of_its_line(front in "(default|Mar 1|2026-03-01)?[ \t]?[0-9:.+-]{0,20}[ \t](Df |0x1 |x )?[a-z\\[\\]0-9:<>() é]{0,40}", line in ".{0,60}") {
            for line in [format!("{front}{line}"), line] {
                prop_assert!(line.ends_with(unframe(&line).message));
            }
        }
    }
}
