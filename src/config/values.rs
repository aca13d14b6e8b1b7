//! Single values as written, each with its range. Every refusal says what would be right.

use std::{
    net::{IpAddr, SocketAddr},
    ops::{Range, RangeInclusive},
    path::PathBuf,
    time::Duration,
};

use http::HeaderName;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Congestion, Privacy, Protocol, Retry};
use crate::refusal::Denial;

/// A value with its place in the file.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// Something about a value that cannot be.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Where, bytes of the file.
    pub(super) at: Range<usize>,
    /// The predicate: `must be 1 to 256, not 0`.
    pub(super) says: String,
}

/// One value, or everything that is wrong with it.
pub(super) type Read<T> = Result<T, Vec<Wrong>>;

pub(super) fn wrong<T>(value: &Value<'_>, says: impl Into<String>) -> Read<T> {
    Err(vec![Wrong { at: value.span(), says: says.into() }])
}

pub(super) fn boolean(value: &Value<'_>) -> Read<bool> {
    match value.get_ref() {
        DeValue::Boolean(yes) => Ok(*yes),
        other => wrong(value, format!("must be true or false, not {}", kind(other))),
    }
}

pub(super) fn number(value: &Value<'_>, range: RangeInclusive<u64>) -> Read<u64> {
    let DeValue::Integer(written) = value.get_ref() else {
        return wrong(value, format!("must be a number from {} to {}, not {}", range.start(), range.end(), kind(value.get_ref())));
    };
    match u64::from_str_radix(written.as_str(), written.radix()) {
        Ok(number) if range.contains(&number) => Ok(number),
        Ok(_) | Err(_) => wrong(value, format!("must be {} to {}, not {written}", range.start(), range.end())),
    }
}

pub(super) fn text<'a>(value: &'a Value<'_>) -> Read<&'a str> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        other => wrong(value, format!("must be a text in quotes, not {}", kind(other))),
    }
}

/// A text that `parse` understands.
pub(super) fn parsed<T>(value: &Value<'_>, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<T> {
    parse(text(value)?).or_else(|says| wrong(value, says))
}

/// One of a few words.
pub(super) fn choice<T: Copy>(value: &Value<'_>, words: &[(&str, T)]) -> Read<T> {
    let written = text(value)?;
    if let Some((_, meant)) = words.iter().find(|(word, _)| *word == written) {
        Ok(*meant)
    } else {
        let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        wrong(value, format!("must be {}, not `{}`", words.join(" or "), written.escape_debug()))
    }
}

/// A list of at most `most` elements; what is wrong with any of them is kept.
pub(super) fn list<T>(value: &Value<'_>, most: usize, mut read: impl FnMut(&Value<'_>) -> Read<T>) -> Read<Vec<T>> {
    let DeValue::Array(elements) = value.get_ref() else {
        return wrong(value, format!("must be a list in brackets, not {}", kind(value.get_ref())));
    };
    if elements.len() > most {
        return wrong(value, format!("must have at most {most} elements, not {}", elements.len()));
    }
    let (mut all, mut wrongs) = (Vec::new(), Vec::new());
    for element in elements {
        match read(element) {
            Ok(meant) => all.push(meant),
            Err(more) => wrongs.extend(more),
        }
    }
    if wrongs.is_empty() { Ok(all) } else { Err(wrongs) }
}

/// `"30s"`, `"250ms"`, `"2m"`, `"1h"`, or a number of seconds.
pub(super) fn duration(value: &Value<'_>, range: RangeInclusive<Duration>) -> Read<Duration> {
    let span = || format!("{} to {}", show_duration(*range.start()), show_duration(*range.end()));
    let meant = match value.get_ref() {
        DeValue::Integer(seconds) => u64::from_str_radix(seconds.as_str(), seconds.radix()).ok().map(Duration::from_secs),
        DeValue::String(text) => parse_duration(text),
        _ => None,
    };
    match meant {
        Some(meant) if range.contains(&meant) => Ok(meant),
        Some(meant) => wrong(value, format!("must be {}, not {}", span(), show_duration(meant))),
        None => wrong(value, format!("must be a time like \"30s\" or \"2m\" ({}), or a number of seconds", span())),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

/// The shortest form that [`duration`] reads back.
pub(super) fn show_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match span.subsec_millis() {
        0 if seconds == 0 => "0s".into(),
        0 if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        0 if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        0 => format!("{seconds}s"),
        _ => format!("{}ms", span.as_millis()),
    }
}

/// `ADDR:PORT` to listen on.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(addr) => format!("must be an address with a port like `{}`, not `{addr}`", SocketAddr::new(addr, 443)),
        Err(_) => format!("must be an address with a port like `[::]:443` or `192.0.2.1:443`, not `{}`", text.escape_debug()),
    })
}

/// A resolver: port 53 unless it says otherwise.
pub(super) fn resolver(text: &str) -> Result<SocketAddr, String> {
    let wrong = |_| format!("must be an address like `192.0.2.53` or `[2001:db8::53]:53`, not `{}`", text.escape_debug());
    text.parse().or_else(|_| text.parse().map(|addr| SocketAddr::new(addr, 53))).map_err(wrong)
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must name a file".into()) } else { Ok(text.into()) }
}

/// A token of structured fields (RFC 9651 §3.3.4): how `Proxy-Status` names the relay.
pub(super) fn relay_name(text: &str) -> Result<String, String> {
    match sfv::TokenRef::from_str(text) {
        Ok(_) if text.len() <= 64 => Ok(text.into()),
        Ok(_) | Err(_) => Err(format!("must be a letter and at most 63 letters, digits, `-`, `.`, `_`, not `{}`", text.escape_debug())),
    }
}

/// A field that may carry a credential; lower case.
pub(super) fn field_name(text: &str) -> Result<String, String> {
    let name =
        HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("must be the name of a field, not `{}`", text.escape_debug()))?;
    if TAKEN.contains(&name.as_str()) {
        return Err(format!("cannot be `{name}`: that field has a meaning of its own"));
    }
    Ok(name.as_str().into())
}

/// Fields that HTTP reads itself, or that are malformed on HTTP/3 (RFC 9114 §4.2).
const TAKEN: [&str; 12] = [
    "capsule-protocol",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A table with no key but `known` ones.
pub(super) fn table<'a, 'b>(value: &'a Value<'b>, known: &[&'static str], like: &str) -> Read<&'a DeTable<'b>> {
    let DeValue::Table(table) = value.get_ref() else {
        return wrong(value, format!("must hold tables like {like}, not {}", kind(value.get_ref())));
    };
    let wrongs: Vec<_> = table
        .iter()
        .filter(|(key, _)| !known.contains(&key.get_ref().as_ref()))
        .map(|(key, _)| Wrong { at: key.span(), says: format!("has the unknown key {}", unknown(key.get_ref(), known.iter().copied())) })
        .collect();
    if wrongs.is_empty() { Ok(table) } else { Err(wrongs) }
}

/// An unknown word, and the known one that was likely meant.
pub(super) fn unknown<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let shown = word.escape_debug();
    let close = known.into_iter().map(|known| (strsim::jaro_winkler(word, known), known)).filter(|(close, _)| *close > 0.8);
    match close.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, meant)) => format!("`{shown}`: did you mean `{meant}`?"),
        None => format!("`{shown}`"),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) const DENIALS: [(&str, Denial); 4] =
    [("block", Denial::Block), ("direct", Denial::Direct), ("filtered", Denial::Filtered), ("forbidden", Denial::Forbidden)];
pub(super) const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
pub(super) const RETRIES: [(&str, Retry); 3] = [("never", Retry::Never), ("load", Retry::Load), ("always", Retry::Always)];
pub(super) const CONGESTIONS: [(&str, Congestion); 2] = [("cubic", Congestion::Cubic), ("bbr", Congestion::Bbr)];
pub(super) const PRIVACIES: [(&str, Privacy); 3] = [("full", Privacy::Full), ("domain", Privacy::Domain), ("none", Privacy::None)];
