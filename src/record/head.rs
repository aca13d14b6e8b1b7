//! A request's head as it may be written down.

use std::fmt::Write;

use crate::{diagnosis::record::Field, proto::head::Head};

/// Fields whose values say something about a client and nothing about its secrets or its targets. Never one that carries credentials here.
const HARMLESS: [&str; 12] = [
    ":method",
    ":protocol",
    ":scheme",
    "accept-encoding",
    "capsule-protocol",
    "connection",
    "content-length",
    "priority",
    "proxy-connection",
    "te",
    "upgrade",
    "user-agent",
];

/// Fields that say where a client wants to go.
const TARGETS: [&str; 3] = [":authority", ":path", "host"];

/// The longest value or name kept, bytes.
const LONG: usize = 64;
/// The longest text of a head, bytes.
const MOST: usize = 320;

/// `name: value` for what is harmless, `name (17)` for what is not, a line each. Where it wants to go (`:authority`, `:path`, `host`) has its place
/// elsewhere, and not even a length here.
pub(super) fn shown(head: &Head, credential: &str) -> String {
    // Once a request: written in place, and no further than it is kept.
    let mut text = String::with_capacity(MOST / 2);
    for (name, value) in &head.fields {
        let start = text.len();
        plain(&mut text, name);
        let name = &text[start..];
        let (target, kept) = (TARGETS.contains(&name), HARMLESS.contains(&name) && name != credential);
        if kept {
            text.push_str(": ");
            plain(&mut text, value);
        } else if !target {
            write!(text, " ({})", value.len()).expect("a String takes all");
        }
        if text.len() > MOST {
            text.truncate(start);
            text.push_str("…\n");
            break;
        }
        text.push('\n');
    }
    text
}

/// The fields of what [`shown`] wrote.
pub(super) fn fields(text: &str) -> Vec<Field> {
    text.lines().map(field).collect()
}

fn field(line: &str) -> Field {
    // A pseudo-header field begins with a colon, so the mark is one behind which there is a space.
    if let Some((name, value)) = line.split_once(": ") {
        return Field { name: name.into(), value: Some(value.into()), length: None };
    }
    match line.strip_suffix(')').and_then(|line| line.rsplit_once(" (")) {
        Some((name, length)) => Field { name: name.into(), value: None, length: length.parse().ok() },
        None => Field { name: line.into(), value: None, length: None },
    }
}

/// A client's text: short, and nothing in it that could be taken for ours.
fn plain(text: &mut String, bytes: &[u8]) {
    let kept = &bytes[..bytes.len().min(LONG)];
    match str::from_utf8(kept) {
        Ok(ascii) if kept.iter().all(|byte| matches!(byte, b' '..=b'~')) => text.push_str(ascii),
        _ => text.extend(String::from_utf8_lossy(kept).chars().map(|c| if c.is_control() { '?' } else { c })),
    }
    if kept.len() < bytes.len() {
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_harmless_keeps_its_value() {
        let mut head = Head::default();
        for (name, value) in [
            (":method", "CONNECT"),
            (":authority", "hidden.example:443"),
            ("proxy-authorization", "Basic c2VjcmV0"),
            ("user-agent", "curl/8"),
            ("x-new: y", "secret"),
            ("te", "a\r\nb"),
        ] {
            head.push(name, value);
        }
        let text = shown(&head, "proxy-authorization");
        assert_eq!(text, ":method: CONNECT\n:authority\nproxy-authorization (14)\nuser-agent: curl/8\nx-new: y (6)\nte: a??b\n");
        let fields = fields(&text);
        assert_eq!(fields[0], Field { name: ":method".into(), value: Some("CONNECT".into()), length: None });
        assert_eq!(fields[2], Field { name: "proxy-authorization".into(), value: None, length: Some(14) });
        // Whatever field the operator chose for credentials.
        assert!(shown(&head, "user-agent").contains("user-agent (6)"));
    }

    #[test]
    fn a_head_of_any_size_takes_little() {
        let mut head = Head::default();
        for number in 0..1000 {
            head.push(format!("x-{number}-{}", "x".repeat(100)), "y".repeat(100));
        }
        let text = shown(&head, "");
        assert!(text.len() <= MOST + 4 && text.ends_with("…\n"), "{} bytes", text.len());
    }
}
