//! Why a client breaks off right behind the handshake: H1 to H6, what speaks for and against each, and what would settle it.
//!
//! With a log alone the order is a guess, and says so: unconfirmed reports may move a hypothesis up or down, they never decide one. What decides is
//! the relay's own record, as far as it is the record of this very connection.

use serde::Serialize;

use super::{By, Certainty, Finding, Record, Sight, milliseconds, record::Request};
use crate::proto::codes;

/// One of six.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Hypothesis {
    /// A transport rule.
    H1,
    /// A critical stream.
    H2,
    /// CONNECT answered by a reset.
    H3,
    /// A status and an abort in one flight.
    H4,
    /// The URL or the certificate.
    H5,
    /// Not the relay.
    H6,
}

impl Hypothesis {
    /// In their order.
    pub const ALL: [Self; 6] = [Self::H1, Self::H2, Self::H3, Self::H4, Self::H5, Self::H6];

    /// What it says.
    pub const fn claim(self) -> &'static str {
        match self {
            Self::H1 => "the relay's first flight behind the handshake breaks a transport rule for this client",
            Self::H2 => "the relay stopped, reset or finished a control or QPACK stream",
            Self::H3 => "plain CONNECT is answered by a reset of its stream instead of a status",
            Self::H4 => "the answer is not 2xx, and stream or connection are aborted in the same flight",
            Self::H5 => "the relay's URL says `http://`, or names an IP address that is not in the SAN",
            Self::H6 => "it is not the relay: another leg won, or the program went away",
        }
    }

    /// What would settle it.
    pub const fn settled_by(self) -> &'static str {
        match self {
            Self::H1 => "the client's CONNECTION_CLOSE in the relay's record: a transport code, and its reason",
            Self::H2 => "the relay's record: FIN, RESET or STOP_SENDING on such a stream; the client closes with 0x104",
            Self::H3 => "a CONNECT sent by `probe --tcp`: a status, or a reset; the relay's record has both",
            Self::H4 => "the relay's record: the status, and a close within a millisecond",
            Self::H5 => "the URL in the profile, and `cert inspect` of the certificate",
            Self::H6 => "another request of the same client that succeeded at the same time",
        }
    }
}

/// What became of a hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It stands, this sure.
    Stands(Certainty),
    /// The relay's record contradicts it.
    RuledOut,
}

impl Standing {
    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stands(certainty) => certainty.word(),
            Self::RuledOut => "ruled out",
        }
    }
}

/// A hypothesis, weighed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Weighed {
    /// Which one.
    pub hypothesis: Hypothesis,
    /// What became of it.
    pub standing: Standing,
    /// What speaks for it.
    pub speaks_for: Vec<String>,
    /// What speaks against it.
    pub speaks_against: Vec<String>,
}

/// A record that was joined to an attempt, and how surely it is the record of the same connection.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    /// The record.
    pub record: &'a Record,
    /// That it is the right one.
    pub certainty: Certainty,
    /// Another connection of the same client had a request answered 2xx at that time.
    pub other_succeeded: bool,
}

impl Joined<'_> {
    /// What the record says, no surer than that it is the right one.
    pub fn findings(&self) -> Vec<Finding> {
        let cap = |finding: Finding| Finding { certainty: finding.certainty.min(self.certainty), ..finding };
        self.record.findings().into_iter().map(cap).collect()
    }
}

/// All six, the likeliest first. Equal ones stay in their order.
pub fn weigh(sight: &Sight, joined: Option<Joined<'_>>) -> Vec<Weighed> {
    let mut all = Hypothesis::ALL.map(|hypothesis| {
        let mut scale = Scale {
            weighed: Weighed { hypothesis, standing: Standing::Stands(Certainty::Possible), speaks_for: vec![], speaks_against: vec![] },
        };
        scale.by_sight(sight);
        if let Some(joined) = joined {
            scale.by_record(joined);
        }
        scale.weighed
    });
    all.sort_by_key(|weighed| {
        let balance = weighed.speaks_against.len().cast_signed() - weighed.speaks_for.len().cast_signed();
        match weighed.standing {
            Standing::Stands(certainty) => (std::cmp::Reverse(Some(certainty)), balance, weighed.hypothesis),
            Standing::RuledOut => (std::cmp::Reverse(None), balance, weighed.hypothesis),
        }
    });
    all.into()
}

struct Scale {
    weighed: Weighed,
}

impl Scale {
    fn speaks_for(&mut self, holds: bool, words: impl Into<String>) {
        if holds {
            self.weighed.speaks_for.push(words.into());
        }
    }

    fn speaks_against(&mut self, holds: bool, words: impl Into<String>) {
        if holds {
            self.weighed.speaks_against.push(words.into());
        }
    }

    /// No surer than the join; the surest of all that is said counts.
    fn stands(&mut self, certainty: Certainty, words: impl Into<String>) {
        self.speaks_for(true, words);
        if let Standing::Stands(so_far) = self.weighed.standing {
            self.weighed.standing = Standing::Stands(so_far.max(certainty));
        }
    }

    /// A record that may be another connection's, or was cut, rules nothing out.
    fn ruled_out(&mut self, joined: Joined<'_>, words: impl Into<String>) {
        self.speaks_against(true, words);
        if joined.certainty > Certainty::Possible && !joined.record.cut && self.weighed.standing == Standing::Stands(Certainty::Possible) {
            self.weighed.standing = Standing::RuledOut;
        }
    }

    /// What the client's log has to say.
    fn by_sight(&mut self, sight: &Sight) {
        let transport_close = sight.close.as_ref().is_some_and(|close| close.by == By::Client && close.is_transport_error());
        let critical_close = sight.close.as_ref().is_some_and(|close| close.by == By::Client && close.is_critical_stream());
        let behind_http = sight.http.is_some() && !sight.ready;
        match self.weighed.hypothesis {
            Hypothesis::H1 => {
                if transport_close {
                    self.stands(Certainty::Certain, "the log has the client's close with a transport error");
                }
                self.speaks_for(sight.connected() && !transport_close, "it broke off right behind the handshake");
                self.speaks_against(
                    behind_http && !transport_close,
                    "HTTP was joined first: until then the log shows no complaint about QUIC",
                );
            }
            Hypothesis::H2 => {
                if critical_close {
                    self.stands(Certainty::Certain, "the log has the client's close with 0x104 (H3_CLOSED_CRITICAL_STREAM)");
                }
                self.speaks_for(behind_http && !critical_close, "it broke off after HTTP was joined and before anything worked");
                self.speaks_for(sight.errno == Some(100), "error 100 was reported where a relay broke HTTP/3 (unconfirmed)");
            }
            Hypothesis::H3 => {
                self.speaks_for(behind_http, "it broke off after HTTP was joined and before anything worked");
                let web = sight.target.as_deref().is_some_and(|target| target.ends_with(":80") || target.ends_with(":443"));
                self.speaks_for(
                    web,
                    format!(
                        "the target {} is most often reached over TCP, and TCP becomes plain CONNECT",
                        sight.target.as_deref().unwrap_or_default()
                    ),
                );
                self.speaks_for(sight.reset, "the client reset a stream of its own");
            }
            Hypothesis::H4 => {
                self.speaks_for(behind_http, "it broke off after HTTP was joined and before anything worked");
                self.speaks_for(sight.errno == Some(61), "error 61 was reported for answers that are not 2xx (unconfirmed)");
                self.speaks_for(sight.errno == Some(57), "error 57 was reported where the relay closed (unconfirmed)");
            }
            Hypothesis::H5 => {
                let url = sight.relay_url.as_deref().unwrap_or_default();
                self.speaks_for(sight.prints_http(), format!("the log prints the relay as {url} (whether the profile does is not in it)"));
                self.speaks_for(sight.relay_is_address(), "the relay is named by an IP address, which the SAN must hold");
                self.speaks_against(sight.connected(), "the handshake was done, so the client let the certificate pass");
            }
            Hypothesis::H6 => {
                self.speaks_for(sight.other_leg_ready, "another leg of the same connection became ready");
                self.speaks_for(sight.cancel.is_some(), "the client cancelled the connection itself");
                self.speaks_for(sight.errno == Some(89), "error 89 is what a program gets that cancels");
                self.speaks_against(sight.failed, "the failure was reported to what had asked for it: it was still there");
                self.speaks_against(!sight.other_leg_ready, "the log shows no other leg that worked");
            }
        }
    }

    /// What the relay's record has to say: it decides.
    fn by_record(&mut self, joined: Joined<'_>) {
        let (record, sure) = (joined.record, joined.certainty);
        let close = record.close.as_ref();
        let by_client = close.filter(|close| close.by == By::Client);
        match self.weighed.hypothesis {
            Hypothesis::H1 => match by_client {
                Some(close) if close.is_about_the_certificate() => {
                    self.ruled_out(joined, "relay's record: the client closed for the certificate");
                }
                Some(close) if close.is_transport_error() => self.stands(sure, format!("relay's record: {close}")),
                // RFC 9000 §11 only asks it to say what it found.
                Some(close) if close.code.is_some() => self.speaks_against(true, format!("relay's record: {close}")),
                _ => {}
            },
            Hypothesis::H2 => {
                let ended = record.critical.iter().flatten().find(|critical| critical.by == By::Relay);
                if let Some(ended) = ended {
                    self.stands(
                        sure.min(Certainty::Likely),
                        format!("relay's record: the relay {} the {} stream", ended.act.word(), ended.stream),
                    );
                }
                match by_client {
                    Some(close) if close.is_critical_stream() => self.stands(sure, format!("relay's record: {close}")),
                    Some(_) if record.critical.is_some() && ended.is_none() => {
                        self.ruled_out(joined, "relay's record: it ended no critical stream");
                    }
                    _ => {}
                }
            }
            Hypothesis::H3 => self.connect(joined),
            Hypothesis::H4 => self.refusal(joined),
            Hypothesis::H5 => {
                if let Some(close) = by_client.filter(|close| close.is_about_the_certificate()) {
                    self.stands(sure.min(Certainty::Likely), format!("relay's record: {close}"));
                }
                self.speaks_against(
                    !record.requests.is_empty(),
                    "relay's record: a request came over this connection, so the client trusted it",
                );
            }
            Hypothesis::H6 => {
                if joined.other_succeeded {
                    self.stands(
                        sure.min(Certainty::Likely),
                        "relay's record: another connection of this client had a request answered 2xx meanwhile",
                    );
                }
            }
        }
    }

    fn connect(&mut self, joined: Joined<'_>) {
        // That it happened is in the record; that the client broke off for it is not.
        let seen = joined.certainty.min(Certainty::Likely);
        let connects: Vec<&Request> = joined.record.requests.iter().filter(|request| request.is_plain_connect()).collect();
        let unanswered = connects.iter().find(|request| request.status.is_none());
        match (unanswered, connects.is_empty()) {
            (Some(Request { reset: Some(code), .. }), _) => {
                let name = codes::h3_name(*code).unwrap_or("no registered name");
                self.stands(seen, format!("relay's record: it reset a plain CONNECT with {code:#x} ({name})"));
            }
            (Some(_), _) => self.speaks_for(true, "relay's record: a plain CONNECT was not answered"),
            (None, true) => self.ruled_out(joined, "relay's record: no plain CONNECT came"),
            (None, false) => self.ruled_out(joined, "relay's record: every plain CONNECT was answered with a status"),
        }
    }

    fn refusal(&mut self, joined: Joined<'_>) {
        let seen = joined.certainty.min(Certainty::Likely);
        let record = joined.record;
        let Some(refused) = record.requests.iter().find(|request| request.status.is_some_and(|status| status >= 300)) else {
            return self.ruled_out(joined, "relay's record: it sent no answer that is not 2xx");
        };
        let status = refused.status.unwrap_or_default();
        self.speaks_for(true, format!("relay's record: a request was answered {status}"));
        if refused.reset.is_some() {
            return self.stands(seen, "relay's record: and its stream was reset");
        }
        if let Some(apart) = record.closed_behind(refused) {
            self.stands(seen, format!("relay's record: and the relay closed the connection {} later", milliseconds(apart)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::{Close, Layer};

    fn sight() -> Sight {
        Sight {
            relay: Some("192.0.2.1:443".into()),
            target: Some("example.com:443".into()),
            transport: Some("quic".into()),
            http: Some("http3".into()),
            errno: Some(53),
            failed: true,
            ..Sight::default()
        }
    }

    fn record(json: &str) -> Record {
        serde_json::from_str(&format!(r#"{{"start":"2026-03-01T16:43:04Z","client":"192.0.2.9:5000",{json}}}"#)).unwrap()
    }

    fn first(json: &str, certainty: Certainty, other_succeeded: bool) -> (Hypothesis, Standing) {
        let record = record(json);
        let weighed = weigh(&sight(), Some(Joined { record: &record, certainty, other_succeeded }));
        assert_eq!(weighed.len(), 6);
        (weighed[0].hypothesis, weighed[0].standing)
    }

    #[test]
    fn a_log_alone_decides_nothing() {
        for weighed in weigh(&sight(), None) {
            assert_eq!(weighed.standing, Standing::Stands(Certainty::Possible), "{weighed:?}");
        }
    }

    #[test]
    fn a_record_decides_each_of_them() {
        use Hypothesis::{H1, H2, H3, H4, H5, H6};
        let orderly = r#""close":{"by":"client","layer":"application","code":256}"#;
        for (json, other, hypothesis, certainty) in [
            (r#""close":{"by":"client","layer":"transport","code":8,"reason":"cid"}"#.into(), false, H1, Certainty::Certain),
            (r#""close":{"by":"client","layer":"transport","code":304}"#.into(), false, H5, Certainty::Likely),
            (r#""close":{"by":"client","layer":"application","code":260}"#.into(), false, H2, Certainty::Certain),
            (format!(r#""critical":[{{"by":"relay","act":"stopped","stream":"control"}}],{orderly}"#), false, H2, Certainty::Likely),
            (format!(r#""requests":[{{"method":"CONNECT","reset":270}}],{orderly}"#), false, H3, Certainty::Likely),
            (format!(r#""requests":[{{"method":"CONNECT","status":403,"reset":256}}],{orderly}"#), false, H4, Certainty::Likely),
            (
                r#""duration_ms":9.5,"requests":[{"method":"CONNECT","status":502,"answered_ms":9.1}],"close":{"by":"relay","layer":"application","code":256}"#.into(),
                false,
                H4,
                Certainty::Likely,
            ),
            (format!(r#""critical":[],"requests":[{{"method":"CONNECT","status":200}}],{orderly}"#), true, H6, Certainty::Likely),
        ] {
            assert_eq!(first(&json, Certainty::Certain, other), (hypothesis, Standing::Stands(certainty)), "{json}");
        }
    }

    #[test]
    fn nothing_is_surer_than_the_join() {
        let json = r#""close":{"by":"client","layer":"application","code":260}"#;
        for certainty in [Certainty::Possible, Certainty::Likely, Certainty::Certain] {
            assert_eq!(first(json, certainty, false), (Hypothesis::H2, Standing::Stands(certainty)));
        }
        // And a record that may be another's, or was cut, rules nothing out.
        let whole = record(r#""close":{"by":"client","layer":"application","code":256}"#);
        let cut = Record { cut: true, ..whole.clone() };
        for (record, certainty, ruled_out) in
            [(&whole, Certainty::Possible, 0), (&whole, Certainty::Likely, 2), (&cut, Certainty::Certain, 0)]
        {
            let weighed = weigh(&sight(), Some(Joined { record, certainty, other_succeeded: false }));
            assert_eq!(weighed.iter().filter(|weighed| weighed.standing == Standing::RuledOut).count(), ruled_out, "{weighed:?}");
        }
    }

    #[test]
    fn a_close_in_the_log_decides_too() {
        let close = |layer, code| Some(Close { by: By::Client, layer: Some(layer), code: Some(code), reason: String::new() });
        for (close, hypothesis) in [(close(Layer::Transport, 0xa), Hypothesis::H1), (close(Layer::Application, 0x104), Hypothesis::H2)] {
            let weighed = &weigh(&Sight { close, ..sight() }, None)[0];
            assert_eq!((weighed.hypothesis, weighed.standing), (hypothesis, Standing::Stands(Certainty::Certain)));
        }
    }
}
