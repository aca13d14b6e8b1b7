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

mod parts;
mod time;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{By, Certainty, Close, Finding, milliseconds, plain};
use crate::proto::{codes, hello::Hello, packet};

pub use parts::{End, Field, Moved, Negotiation, Path, Totals};
pub use time::{DAY, Utc, clock, clock_micros, day, zone_minutes};

/// One connection, as the relay saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// How the relay calls it, until it is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
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
    /// What became of a client that was not let in: `retry`, `version negotiation`, or why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turned_away: Option<String>,
    /// The version that it wanted, and those that it was told, where that became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negotiation: Option<Box<Negotiation>>,
    /// The record of Version Negotiation with the same address before this, if it is still kept. Known as long as the relay runs: a file has it not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negotiated: Option<String>,
    /// The client had proven its address, by a Retry or a token of an earlier connection.
    #[serde(default, skip_serializing_if = "is_false")]
    pub proven: bool,
    /// What the client offered: its ClientHello and transport parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<Box<Hello>>,
    /// When the handshake was complete; none if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_ms: Option<f64>,
    /// Bytes of UDP or TCP payload that came from the client.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes of UDP or TCP payload that went to the client.
    #[serde(default)]
    pub bytes_out: u64,
    /// When the relay's SETTINGS were sent.
    #[serde(default)]
    pub settings_sent_ms: Option<f64>,
    /// What they said: identifiers and values, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings_sent: Vec<(u64, u64)>,
    /// When the client's came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_received_ms: Option<f64>,
    /// What they said, known or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings_received: Vec<(u64, u64)>,
    /// What ended on critical streams; none if the relay did not watch them.
    #[serde(default)]
    pub critical: Option<Vec<Critical>>,
    /// The requests, in their order.
    #[serde(default)]
    pub requests: Vec<Request>,
    /// How many there were in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_in_all: Option<u64>,
    /// Changes of the client's address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Moved>,
    /// The path, at its end or now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// How it ended; none while it is open.
    #[serde(default)]
    pub close: Option<Close>,
    /// Something was left out for want of room: what is not here may have been all the same.
    #[serde(default)]
    pub cut: bool,
    /// How many events that were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
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
    /// The number of its stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<u64>,
    /// When its stream was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_ms: Option<f64>,
    /// When its head was whole.
    #[serde(default)]
    pub at_ms: Option<f64>,
    /// Its method; empty if no whole head came.
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
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<f64>,
    /// Its head, in the order of the wire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub head: Vec<Field>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it wanted to go, as far as privacy lets it be written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The error type of Proxy-Status, of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_status: Option<String>,
    /// Why it was refused, in the relay's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The ends of its stream's two directions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<End>,
    /// What its tunnel carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Totals>,
}

impl Request {
    /// One of which nothing is known but its stream.
    pub fn on(stream: u64) -> Self {
        Self {
            stream: Some(stream),
            opened_ms: None,
            at_ms: None,
            method: String::new(),
            protocol: None,
            status: None,
            answered_ms: None,
            reset: None,
            ended: None,
            ended_ms: None,
            head: Vec::new(),
            user: None,
            target: None,
            proxy_status: None,
            why: None,
            ends: Vec::new(),
            carried: None,
        }
    }

    /// `CONNECT`, `CONNECT (connect-udp)`.
    pub fn what(&self) -> String {
        match (&self.protocol, self.method.as_str()) {
            (_, "") => "a request without a whole head".into(),
            (Some(protocol), method) => format!("{} ({})", method.escape_debug(), protocol.escape_debug()),
            (None, method) => method.escape_debug().to_string(),
        }
    }

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
    /// A connection of which nothing is known but its beginning.
    pub fn new(start: Utc, client: SocketAddr) -> Self {
        Self {
            id: None,
            start,
            duration_ms: None,
            client,
            http: None,
            turned_away: None,
            negotiation: None,
            negotiated: None,
            proven: false,
            hello: None,
            handshake_ms: None,
            bytes_in: 0,
            bytes_out: 0,
            settings_sent_ms: None,
            settings_sent: Vec::new(),
            settings_received_ms: None,
            settings_received: Vec::new(),
            critical: None,
            requests: Vec::new(),
            requests_in_all: None,
            moved: Vec::new(),
            path: None,
            close: None,
            cut: false,
            left_out: 0,
        }
    }

    /// What is wrong by this record: the first of its findings that has something to do about it.
    pub fn trouble(&self) -> Option<Finding> {
        self.findings().into_iter().find(|finding| finding.next.is_some())
    }

    /// What this record says by itself, first things first.
    pub fn findings(&self) -> Vec<Finding> {
        if let Some(negotiation) = &self.negotiation {
            return vec![negotiated(negotiation)];
        }
        if let Some(why) = &self.turned_away {
            return vec![turned_away(why)];
        }
        let mut found = Vec::new();
        if let Some(close) = &self.close {
            found.push(close_finding(close));
        }
        for critical in self.critical.iter().flatten().filter(|critical| critical.by == By::Relay) {
            let seen = format!("the relay {} the {} stream", critical.act.word(), critical.stream);
            found.push(
                Finding::fact(seen)
                    .means(Certainty::Certain, "RFC 9114 §6.2.1 forbids it; a client closes with H3_CLOSED_CRITICAL_STREAM")
                    .next("the relay must keep them open until the connection ends: is a fault switched on?"),
            );
        }
        match self.settings_sent_ms {
            None if self.http == Some(3) && self.handshake_failed().is_none() => found.push(
                Finding::fact("the relay sent no SETTINGS")
                    .means(Certainty::Likely, "a client that waits for them never sends a request for UDP"),
            ),
            _ => {}
        }
        if self.cut {
            found.push(Finding::fact("the record was cut for want of room"));
        }
        if self.requests.is_empty() && !self.cut {
            found.push(
                Finding::fact("no request came on this connection")
                    .means(Certainty::Certain, "whatever ended it, no answer of the relay did"),
            );
        }
        for request in &self.requests {
            found.push(request.finding());
            found.extend(self.one_flight(request));
        }
        found
    }

    /// An answer that is not 2xx, and an abort close behind it.
    fn one_flight(&self, request: &Request) -> Option<Finding> {
        let status = request.status.filter(|status| *status >= 300)?;
        let what = match (request.reset, self.closed_behind(request)) {
            (Some(code), _) => format!("and the relay reset the stream with {}", h3(code)),
            (None, Some(ms)) => format!("and the relay closed the connection {} later", milliseconds(ms)),
            (None, None) => return None,
        };
        let seen = Finding::fact(format!("{} was answered {status}, {what}", request.what()));
        let means = "a client may see the abort and not the answer";
        Some(
            seen.means(Certainty::Likely, means)
                .next("the relay must let a refusal arrive before it ends a stream: is a fault switched on?"),
        )
    }

    /// How long after this answer the relay closed the connection, if that may have left in one flight with it.
    pub fn closed_behind(&self, request: &Request) -> Option<f64> {
        let closed = self.close.as_ref().filter(|close| close.by == By::Relay).and(self.duration_ms)?;
        let apart = closed - request.answered_ms?;
        (0.0..=ONE_FLIGHT_MS).contains(&apart).then_some(apart)
    }

    /// How a handshake ended that was never complete.
    pub fn handshake_failed(&self) -> Option<&Close> {
        self.close.as_ref().filter(|_| self.handshake_ms.is_none() && self.id.is_some())
    }
}

/// What leaves within a millisecond may arrive in one flight.
const ONE_FLIGHT_MS: f64 = 1.0;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with the field")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with the field")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A code of HTTP/3 or HTTP/2 with its name.
fn h3(code: u64) -> String {
    format!("{code:#x} ({})", codes::h3_name(code).or_else(|| codes::h2_name(code)).unwrap_or("no registered name"))
}

fn negotiated(negotiation: &Negotiation) -> Finding {
    let offered = version(negotiation.offered);
    Finding::fact(format!("the client offered QUIC version {offered}, which is not spoken here, and was told those that are"))
        .means(
            Certainty::Certain,
            "if it speaks one of them, there is another record of it; if there is none, it does not, or did not get the answer",
        )
        .next("it must speak version 1 (RFC 9000), or HTTP/2 over TCP")
}

/// A version of QUIC: `0x6b3343cf (v2)`.
pub fn version(number: u32) -> String {
    match packet::version_name(number) {
        Some(name) => format!("{number:#x} ({name})"),
        None => format!("{number:#x}"),
    }
}

fn turned_away(why: &str) -> Finding {
    match why {
        "retry" => Finding::fact("the client was asked to prove its address (Retry)")
            .means(Certainty::Certain, "if it did, there is another record of it; if there is none, it does not take Retry")
            .next("`quic.retry = \"never\"` does without"),
        why if why.starts_with("a bad first packet") => Finding::fact(format!("the connection was not accepted: {}", why.escape_debug()))
            .means(Certainty::Likely, "it was damaged on its way, or no client of QUIC sent it"),
        why => Finding::fact(format!("the connection was refused: {}", why.escape_debug()))
            .means(Certainty::Certain, "a client sees CONNECTION_REFUSED, or nothing")
            .next("`limits` in the configuration; `masque-relay sessions` shows who is connected"),
    }
}

impl Request {
    fn finding(&self) -> Finding {
        let what = self.what();
        let after = match (self.at_ms, self.answered_ms) {
            (Some(at), Some(answered)) => format!(" after {}", milliseconds(answered - at)),
            _ => String::new(),
        };
        let ended = self.ended.as_ref().map_or(String::new(), |ended| format!("; ended: {}", plain(ended)));
        let finding = match self.status {
            Some(status) => Finding::fact(format!("{what} was answered {status}{after}{ended}")),
            None => Finding::fact(format!("{what} was not answered{ended}")),
        };
        match self.status {
            None if self.method.is_empty() => Finding::fact(format!("a stream was opened, and no whole head came on it{ended}")),
            Some(407) => finding
                .means(Certainty::Certain, "the credential was missing or wrong")
                .next("put it into AdditionalHTTPHeaderFields of the profile: there is no second round to count on"),
            None if self.reset.is_some() => {
                let means = format!("the relay reset its stream with {}", h3(self.reset.unwrap_or_default()));
                finding.means(Certainty::Certain, means)
            }
            _ => finding,
        }
    }
}

fn close_finding(close: &Close) -> Finding {
    let finding = Finding::fact(close.to_string());
    match close {
        _ if close.by == By::Client && close.is_about_the_certificate() => finding
            .means(Certainty::Certain, "the client does not accept the relay's certificate")
            .next("`masque-relay cert inspect FILE` names what it may dislike; its CA must be installed and trusted on the device"),
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

#[cfg(test)]
mod tests {
    use super::*;

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
