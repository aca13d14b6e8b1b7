//! A record as a story: when, who, what, with a name for every code.

use super::{
    By, Finding, Record, milliseconds, plain,
    record::{Act, Field, Negotiation, Request, Totals, version},
};
use crate::proto::{
    codes,
    settings::{ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, MAX_FIELD_SECTION_SIZE},
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// Milliseconds since the first packet.
    pub at_ms: f64,
    /// Who did it.
    pub by: By,
    /// What.
    pub what: String,
}

impl Record {
    /// What happened, in the order of time.
    pub fn timeline(&self) -> Vec<Moment> {
        let mut story = Story(Vec::new());
        story.begins(self);
        for critical in self.critical.iter().flatten() {
            story.tell(critical.at_ms, critical.by, format!("{} {} stream", critical.act.word(), whose(&critical.stream, critical.act)));
        }
        for request in &self.requests {
            story.request(request, self.http);
        }
        for moved in &self.moved {
            story.tell(Some(moved.at_ms), By::Client, format!("moved to {}", moved.client));
        }
        if let Some(close) = &self.close {
            story.tell(self.duration_ms, close.by, close.to_string());
        }
        story.0.sort_by(|one, other| one.at_ms.total_cmp(&other.at_ms));
        story.0
    }
}

struct Story(Vec<Moment>);

impl Story {
    fn tell(&mut self, at: Option<f64>, by: By, what: impl Into<String>) {
        if let Some(at_ms) = at {
            self.0.push(Moment { at_ms, by, what: what.into() });
        }
    }

    fn begins(&mut self, record: &Record) {
        if let Some(negotiation) = &record.negotiation {
            return self.negotiation(negotiation);
        }
        let first = match (&record.turned_away, record.proven) {
            (Some(why), _) if why == "retry" => "first packet; answered with Retry".into(),
            (Some(why), _) => format!("first packet; refused: {}", why.escape_debug()),
            (None, true) => "first packet, its address proven by a token".into(),
            (None, false) => "first packet".to_owned(),
        };
        self.tell(Some(0.0), By::Client, first);
        if let Some(id) = &record.negotiated {
            self.tell(Some(0.0), By::Neither, format!("Version Negotiation with the same address came before: {}", plain(id)));
        }
        if let Some(hello) = &record.hello {
            let what = match &hello.unread {
                Some(why) => format!("a ClientHello that could not be read: {}", plain(why)),
                None => format!("ClientHello for {}, {}", plain(hello.sni.as_deref().unwrap_or("no name")), plain(&hello.ja4)),
            };
            self.tell(Some(0.0), By::Client, what);
        }
        self.tell(record.settings_sent_ms, By::Relay, format!("SETTINGS {}", settings(&record.settings_sent, record.http)));
        self.tell(record.handshake_ms, By::Neither, "the handshake is complete");
        self.tell(record.settings_received_ms, By::Client, format!("SETTINGS {}", settings(&record.settings_received, record.http)));
    }

    fn negotiation(&mut self, negotiation: &Negotiation) {
        let Negotiation { offered, connection_ids: [destination, source], answered } = negotiation;
        let offered = format!("packet of QUIC version {}, connection IDs of {destination} and {source} bytes", version(*offered));
        self.tell(Some(0.0), By::Client, offered);
        let answered: Vec<_> = answered.iter().copied().map(version).collect();
        self.tell(Some(0.0), By::Relay, format!("Version Negotiation: {}", answered.join(", ")));
    }

    fn request(&mut self, request: &Request, http: Option<u8>) {
        let on = request.stream.map_or(String::new(), |stream| format!("stream {stream}: "));
        self.tell(request.opened_ms.filter(|opened| request.at_ms.is_none_or(|at| at - opened > 1.0)), By::Client, format!("{on}opened"));
        let mut asks = format!("{on}{}", request.what());
        if let Some(target) = &request.target {
            asks += &format!(" to {}", plain(target));
        }
        if let Some(user) = &request.user {
            asks += &format!(", as {}", plain(user));
        }
        self.tell(request.at_ms, By::Client, asks + &fields(&request.head));
        if let Some(status) = request.status {
            let why = match (&request.proxy_status, &request.why) {
                (Some(error), Some(why)) => format!(", {error}: {}", plain(why)),
                _ => String::new(),
            };
            self.tell(request.answered_ms, By::Relay, format!("{on}{status}{why}"));
        }
        for end in &request.ends {
            let code = end.code.map_or(String::new(), |code| format!(" with {}", name(code, http)));
            self.tell(end.at_ms, end.by, format!("{on}{}{code}", sent(end.act)));
        }
        if let Some(ended) = &request.ended {
            let carried = request.carried.map_or(String::new(), |totals| carried(&totals));
            self.tell(request.ended_ms, By::Neither, format!("{on}over: {}{carried}", plain(ended)));
        }
    }
}

/// Who stops a stream does not send on it.
fn whose(stream: &str, act: Act) -> String {
    match act {
        Act::Stopped => format!("the other side's {stream}"),
        Act::Finished | Act::Reset => format!("its own {stream}"),
    }
}

const fn sent(act: Act) -> &'static str {
    match act {
        Act::Finished => "FIN",
        Act::Reset => "RESET",
        Act::Stopped => "STOP_SENDING",
    }
}

fn name(code: u64, http: Option<u8>) -> String {
    let name = if http == Some(3) { codes::h3_name(code) } else { codes::h2_name(code) };
    format!("{code:#x} ({})", name.unwrap_or("no registered name"))
}

/// The fields that are not told otherwise.
fn fields(head: &[Field]) -> String {
    let rest = head.iter().filter(|field| !field.name.starts_with(':') && field.name != "host");
    let shown: Vec<_> = rest
        .map(|field| match (&field.value, field.length) {
            (Some(value), _) => format!("{}: {}", field.name.escape_debug(), value.escape_debug()),
            (None, Some(length)) => format!("{} ({length} bytes)", field.name.escape_debug()),
            (None, None) => field.name.escape_debug().to_string(),
        })
        .collect();
    if shown.is_empty() { String::new() } else { format!("; {}", shown.join(", ")) }
}

fn carried(totals: &Totals) -> String {
    let Totals { bytes_out, bytes_back, packets_out, packets_back, dropped } = totals;
    match (packets_out + packets_back, dropped) {
        (0, 0) => format!("; {bytes_out} bytes out, {bytes_back} back"),
        (_, 0) => format!("; {bytes_out} bytes in {packets_out} packets out, {bytes_back} in {packets_back} back"),
        _ => format!("; {bytes_out} bytes in {packets_out} packets out, {bytes_back} in {packets_back} back, {dropped} packets lost"),
    }
}

fn settings(pairs: &[(u64, u64)], http: Option<u8>) -> String {
    let shown: Vec<_> = pairs
        .iter()
        .map(|(id, value)| {
            let name = match (http, *id) {
                (_, MAX_FIELD_SECTION_SIZE) => "max field section",
                (_, ENABLE_CONNECT_PROTOCOL) => "extended CONNECT",
                (Some(3), H3_DATAGRAM) => "datagrams",
                (Some(3), 0x1) => "QPACK table",
                (Some(3), 0x7) => "QPACK blocked streams",
                // draft-ietf-masque-h3-datagram-04, which clients of that time still send.
                (Some(3), 0xff_d277) => "datagrams of draft-04",
                (Some(3), 0x276) => "datagrams of draft-00",
                (Some(3), id) if id >= 0x21 && (id - 0x21) % 0x1f == 0 => "GREASE",
                (Some(2), 0x1) => "header table",
                (Some(2), 0x2) => "push",
                (Some(2), 0x3) => "streams",
                (Some(2), 0x4) => "stream window",
                (Some(2), 0x5) => "max frame",
                _ => "unknown",
            };
            format!("{id:#x} ({name}) = {value}")
        })
        .collect();
    if shown.is_empty() { "without a value".into() } else { shown.join(", ") }
}

/// Where a moment stands, as people read it: `+0.0 ms`.
pub fn at(moment: &Moment) -> String {
    format!("+{}", milliseconds((moment.at_ms * 10.0).round() / 10.0))
}

/// A finding in a line: `what was seen: what it means`.
pub fn in_a_line(finding: &Finding) -> String {
    match finding.means.as_str() {
        "" => finding.seen.clone(),
        means => format!("{}: {means}", finding.seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_in_the_order_of_time_and_names_codes() {
        let record: Record = serde_json::from_str(
            r#"{"start":"2026-03-01T16:43:04Z","client":"192.0.2.9:5000","http":3,"duration_ms":2500,"settings_sent_ms":1.94,
                "settings_sent":[[6,16384],[8,1],[51,1]],"handshake_ms":9.5,"settings_received_ms":10.2,"settings_received":[[33,7],[51,1]],
                "moved":[{"at_ms":2000,"client":"192.0.2.9:5001"}],"critical":[{"at_ms":2400,"by":"relay","act":"stopped","stream":"control"}],
                "requests":[{"stream":4,"opened_ms":10,"at_ms":10.5,"method":"CONNECT","target":"…example.com:443","user":"alice",
                  "head":[{"name":":method","value":"CONNECT"},{"name":"priority","value":"u=3"},{"name":"proxy-authorization","length":21}],
                  "status":200,"answered_ms":11.6,"ends":[{"at_ms":20,"by":"client","act":"reset","code":268}],
                  "ended":"the client reset the stream","ended_ms":20,"carried":{"bytes_out":517,"bytes_back":3000}}],
                "close":{"by":"client","layer":"application","code":260,"reason":"no"}}"#,
        )
        .unwrap();
        let shown: Vec<_> = record.timeline().iter().map(|moment| format!("{:>8}  {:?}  {}", at(moment), moment.by, moment.what)).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
           +0 ms  Client  first packet
         +1.9 ms  Relay  SETTINGS 0x6 (max field section) = 16384, 0x8 (extended CONNECT) = 1, 0x33 (datagrams) = 1
         +9.5 ms  Neither  the handshake is complete
        +10.2 ms  Client  SETTINGS 0x21 (GREASE) = 7, 0x33 (datagrams) = 1
        +10.5 ms  Client  stream 4: CONNECT to …example.com:443, as alice; priority: u=3, proxy-authorization (21 bytes)
        +11.6 ms  Relay  stream 4: 200
          +20 ms  Client  stream 4: RESET with 0x10c (H3_REQUEST_CANCELLED)
          +20 ms  Neither  stream 4: over: the client reset the stream; 517 bytes out, 3000 back
          +2.0 s  Client  moved to 192.0.2.9:5001
          +2.4 s  Relay  stopped the other side's control stream
          +2.5 s  Client  the client closed with 0x104 (H3_CLOSED_CRITICAL_STREAM), reason `no`
        ");
    }

    #[test]
    fn version_negotiation_is_told_by_names_and_so_is_that_it_came_before() {
        let told = |more: &str| {
            let record: Record =
                serde_json::from_str(&format!(r#"{{"start":"2026-03-01T16:43:04Z","client":"192.0.2.9:5000",{more}}}"#)).unwrap();
            record.timeline().iter().map(|moment| format!("{:?}  {}\n", moment.by, moment.what)).collect::<String>()
        };
        let offered = r#""negotiation":{"offered":1798521807,"connection_ids":[8,0],"answered":[169486906,1,4278190109]}"#;
        insta::assert_snapshot!(told(&format!(r#""turned_away":"version negotiation",{offered}"#)), @r"
        Client  packet of QUIC version 0x6b3343cf (v2), connection IDs of 8 and 0 bytes
        Relay  Version Negotiation: 0xa1a2a3a (GREASE), 0x1 (v1), 0xff00001d (draft-29)
        ");
        insta::assert_snapshot!(told(r#""negotiated":"0.7""#), @r"
        Client  first packet
        Neither  Version Negotiation with the same address came before: 0.7
        ");
    }
}
