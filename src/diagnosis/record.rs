//! What the relay keeps of one connection, as a line of JSON: what a diagnosis and a join with a client's log need, and no more.
//!
//! ```json
//! {"start":"2026-03-01T16:43:04.346Z","duration_ms":121.2,"client":"192.168.4.139:53898","http":3,"bytes_in":4322,"bytes_out":2880,
//!  "settings_sent_ms":1.9,"critical":[{"at_ms":2.0,"by":"relay","act":"stopped","stream":"control"}],
//!  "requests":[{"at_ms":115.0,"method":"CONNECT","status":200,"answered_ms":116.1,"ended":"client done"}],
//!  "close":{"by":"client","layer":"application","code":260,"reason":""}}
//! ```
//!
//! `start` and `client` must be there; whoever writes more fields is read all the same. Offsets are milliseconds since `start`.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{By, Certainty, Close, Finding, milliseconds};
use crate::proto::codes;

/// One connection, as the relay saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The arrival of its first packet.
    pub start: Utc,
    /// From its first packet to its end; none while it is open.
    #[serde(default)]
    pub duration_ms: Option<f64>,
    /// Where the client sent from, at first.
    pub client: SocketAddr,
    /// The version of HTTP: 1, 2 or 3; none if it never came so far.
    #[serde(default)]
    pub http: Option<u8>,
    /// Bytes of UDP or TCP payload that came from the client.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes of UDP or TCP payload that went to the client.
    #[serde(default)]
    pub bytes_out: u64,
    /// When the relay's SETTINGS were sent.
    #[serde(default)]
    pub settings_sent_ms: Option<f64>,
    /// What ended on critical streams; none if the relay did not watch them.
    #[serde(default)]
    pub critical: Option<Vec<Critical>>,
    /// The requests, in their order.
    #[serde(default)]
    pub requests: Vec<Request>,
    /// How it ended; none while it is open.
    #[serde(default)]
    pub close: Option<Close>,
}

/// An end on a critical stream: control, or QPACK.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Critical {
    /// When.
    #[serde(default)]
    pub at_ms: Option<f64>,
    /// Who did it.
    pub by: By,
    /// What was done.
    pub act: Act,
    /// Which stream, by its type: `control`, `encoder`, `decoder`.
    pub stream: String,
}

/// How a critical stream is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// FIN.
    Finished,
    /// RESET_STREAM.
    Reset,
    /// STOP_SENDING.
    Stopped,
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// When its head was whole.
    #[serde(default)]
    pub at_ms: Option<f64>,
    /// Its method.
    pub method: String,
    /// Its `:protocol`, where it has one.
    #[serde(default)]
    pub protocol: Option<String>,
    /// The answer; none if there was none.
    #[serde(default)]
    pub status: Option<u16>,
    /// When the answer was sent.
    #[serde(default)]
    pub answered_ms: Option<f64>,
    /// The code with which the relay reset the stream, where it did.
    #[serde(default)]
    pub reset: Option<u64>,
    /// Why it ended, in the relay's words; none while it is open.
    #[serde(default)]
    pub ended: Option<String>,
}

impl Request {
    /// CONNECT without `:protocol`: what TCP becomes.
    pub fn is_plain_connect(&self) -> bool {
        self.method == "CONNECT" && self.protocol.is_none()
    }

    /// 2xx.
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl Record {
    /// What this record says by itself, first things first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(close) = &self.close {
            found.push(close_finding(close));
        }
        for critical in self.critical.iter().flatten().filter(|critical| critical.by == By::Relay) {
            let seen = format!("the relay {} the {} stream", critical.act.word(), critical.stream);
            found.push(
                Finding::fact(seen).means(Certainty::Certain, "RFC 9114 §6.2.1 forbids it; a client closes with H3_CLOSED_CRITICAL_STREAM"),
            );
        }
        match self.settings_sent_ms {
            None if self.http == Some(3) => found.push(
                Finding::fact("the relay sent no SETTINGS")
                    .means(Certainty::Likely, "a client that waits for them never sends a request for UDP"),
            ),
            _ => {}
        }
        if self.requests.is_empty() {
            found.push(
                Finding::fact("no request came on this connection")
                    .means(Certainty::Certain, "whatever ended it, no answer of the relay did"),
            );
        }
        for request in &self.requests {
            found.push(request.finding());
        }
        found
    }
}

impl Request {
    fn finding(&self) -> Finding {
        let what = match &self.protocol {
            Some(protocol) => format!("{} ({})", self.method.escape_debug(), protocol.escape_debug()),
            None => self.method.escape_debug().to_string(),
        };
        let after = match (self.at_ms, self.answered_ms) {
            (Some(at), Some(answered)) => format!(" after {}", milliseconds(answered - at)),
            _ => String::new(),
        };
        let ended = self.ended.as_ref().map_or(String::new(), |ended| format!("; ended: {}", ended.escape_debug()));
        let finding = match self.status {
            Some(status) => Finding::fact(format!("{what} was answered {status}{after}{ended}")),
            None => Finding::fact(format!("{what} was not answered{ended}")),
        };
        match self.status {
            Some(407) => finding
                .means(Certainty::Certain, "the credential was missing or wrong")
                .next("put it into AdditionalHTTPHeaderFields of the profile: there is no second round to count on"),
            None if self.reset.is_some() => {
                let code = self.reset.unwrap_or_default();
                finding.means(
                    Certainty::Certain,
                    format!("the relay reset its stream with {code:#x} ({})", codes::h3_name(code).unwrap_or("no registered name")),
                )
            }
            _ => finding,
        }
    }
}

fn close_finding(close: &Close) -> Finding {
    let finding = Finding::fact(close.to_string());
    match close {
        _ if close.by == By::Client && close.is_critical_stream() => finding
            .means(Certainty::Certain, "the client saw a control or QPACK stream end")
            .next("the relay must keep them open until the connection ends"),
        _ if close.by == By::Client && close.is_transport_error() => finding
            .means(Certainty::Certain, "the client says that the relay broke a rule of QUIC or TLS")
            .next("the code and the reason name the rule"),
        _ if close.is_orderly() => finding.means(Certainty::Certain, "an orderly end: it names no fault"),
        _ => finding,
    }
}

impl Act {
    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Stopped => "stopped",
        }
    }
}

/// A time of the relay's clock: microseconds since 1970, in JSON as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc(pub i64);

impl Utc {
    /// From RFC 3339; a fraction finer than a microsecond is cut.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let day = day(date)?;
        let (clock, zone) = if let Some(clock) = rest.strip_suffix(['Z', 'z']) {
            (clock, 0)
        } else {
            let (clock, zone) = rest.split_at_checked(rest.len().checked_sub(6)?)?;
            (clock, zone_minutes(&zone.replacen(':', "", 1))?)
        };
        let micros = clock_micros(clock.strip_prefix(['T', 't', ' '])?)?;
        Some(Self(day * DAY + micros - i64::from(zone) * 60_000_000))
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, micros) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = civil(day);
        write!(f, "{year:04}-{month:02}-{day:02}T{}Z", clock(micros))
    }
}

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Utc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a time like 2026-03-01T16:43:04.346Z"))
    }
}

/// A day in microseconds.
pub const DAY: i64 = 86_400_000_000;

/// `09:43:04.459517`, of microseconds since midnight.
pub fn clock(micros: i64) -> String {
    let (seconds, micros) = (micros.rem_euclid(DAY) / 1_000_000, micros.rem_euclid(1_000_000));
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Microseconds since midnight, of `09:43:04` with or without a fraction.
pub fn clock_micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let mut parts = whole.split(':').map(|part| (part.len() == 2).then(|| digits(part)).flatten());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let fraction = fraction.get(..fraction.len().min(6))?;
    let micros = digits(fraction)? * 10_i64.pow(6 - fraction.len() as u32);
    Some((hour * 3600 + minute * 60 + second) * 1_000_000 + micros)
}

/// Minutes east of Greenwich, of `+0800`.
pub fn zone_minutes(text: &str) -> Option<i16> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let number = digits(text.get(1..).filter(|digits| digits.len() == 4)?)? as i16;
    (number % 100 < 60 && number <= 1400).then_some(sign * (number / 100 * 60 + number % 100))
}

/// Days since 1970, of `2026-03-01`.
pub fn day(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (digits(parts.next()?)?, digits(parts.next()?)?, digits(parts.next()?)?);
    if parts.next().is_some() || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Some(year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468)
}

/// Year, month and day, of days since 1970.
fn civil(day: i64) -> (i64, i64, i64) {
    let since = day + 719_468;
    let (era, of_era) = (since.div_euclid(146_097), since.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (year * 365 + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + carry, month, day)
}

fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00.5Z", 951_825_600_500_000),
            ("2026-03-01T16:43:04.346Z", 1_772_383_384_346_000),
            ("2026-03-01T09:43:04.346-07:00", 1_772_383_384_346_000),
            ("2026-03-02 00:43:04.346000999+08:00", 1_772_383_384_346_000),
        ] {
            assert_eq!(Utc::parse(text), Some(Utc(micros)), "{text}");
        }
        for text in [
            "",
            "2026-03-01",
            "2026-03-01T16:43:04",
            "2026-13-01T16:43:04Z",
            "2026-03-01T24:43:04Z",
            "2026-03-01T16:43Z",
            "ä026-03-01T16:43Z",
            "2026-03-01T1ä:43:04Z",
        ] {
            assert_eq!(Utc::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_reads_as_it_was_written(micros in 0..253_402_300_800_000_000_i64) {
            prop_assert_eq!(Utc::parse(&Utc(micros).to_string()), Some(Utc(micros)));
        }

        #[test]
        fn no_text_is_too_strange_for_a_time(text in ".{0,40}") {
            let _: Option<Utc> = Utc::parse(&text);
        }
    }

    #[test]
    fn a_record_may_say_little_and_may_say_more() {
        let little: Record = serde_json::from_str(r#"{"start":"2026-03-01T16:43:04Z","client":"192.0.2.1:5","more":[1]}"#).unwrap();
        assert_eq!((little.bytes_in, little.close.is_none(), little.critical.is_none()), (0, true, true));
        let again: Record = serde_json::from_str(&serde_json::to_string(&little).unwrap()).unwrap();
        assert_eq!(again, little);
        assert!(serde_json::from_str::<Record>(r#"{"start":"yesterday","client":"192.0.2.1:5"}"#).is_err());
    }

    /// What the module says a record looks like is one.
    #[test]
    fn the_example_is_a_record() {
        let source = include_str!("record.rs");
        let example: String = source
            .lines()
            .skip_while(|line| !line.ends_with("```json"))
            .skip(1)
            .take_while(|line| !line.ends_with("```"))
            .map(|line| line.trim_start_matches("//!"))
            .collect();
        let record: Record = serde_json::from_str(&example).unwrap();
        assert!(record.requests[0].is_plain_connect() && record.requests[0].succeeded());
        let findings: Vec<_> = record.findings().into_iter().map(|finding| finding.seen).collect();
        assert_eq!(
            findings,
            [
                "the client closed with 0x104 (H3_CLOSED_CRITICAL_STREAM)",
                "the relay stopped the control stream",
                "CONNECT was answered 200 after 1.1 ms; ended: client done"
            ]
        );
    }
}
