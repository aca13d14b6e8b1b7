//! What a client's log says of one attempt to use a relay, and the findings that follow from it alone.

use serde::Serialize;

use super::{
    By,
    Certainty::{Certain, Likely, Possible},
    Close, Finding, errno, micros, millis, milliseconds, tenth,
};
use crate::proto::codes;

/// One attempt in the client's words. Empty where its log says nothing. Times are microseconds on the log's clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing a log says or does not say")]
pub struct Sight {
    /// The program that asked.
    pub process: String,
    /// The relay's host and port, or what redaction left of them.
    pub relay: Option<String>,
    /// The relay as the log prints it with its scheme: `http://192.0.2.1:4433`.
    pub relay_url: Option<String>,
    /// Where the program wanted to go.
    pub target: Option<String>,
    /// The client's own address and port.
    pub local: Option<String>,
    /// `quic` or `tcp`: that it was connected.
    pub transport: Option<String>,
    /// `http3` or `http2`: that it was joined.
    pub http: Option<String>,
    /// When it was.
    #[serde(skip)]
    pub joined: Option<i64>,
    /// How long TLS took.
    #[serde(serialize_with = "tenth")]
    pub tls_ms: Option<f64>,
    /// What the log gives for the round trip.
    #[serde(serialize_with = "tenth")]
    pub rtt_ms: Option<f64>,
    /// From the connection's first packet to its end.
    #[serde(serialize_with = "tenth")]
    pub duration_ms: Option<f64>,
    /// When the client cancelled the connection.
    #[serde(skip)]
    pub cancel: Option<i64>,
    /// When the connection was over.
    #[serde(skip)]
    pub ended: Option<i64>,
    /// Bytes in and out.
    pub bytes: Option<(u64, u64)>,
    /// Packets in and out.
    pub packets: Option<(u64, u64)>,
    /// Bytes sent again.
    pub retransmitted: Option<u64>,
    /// The error of the attempt.
    pub errno: Option<i32>,
    /// Whether the proxy's leg was reported as failed to what had asked for it.
    pub failed: bool,
    /// Whether the attempt worked.
    pub ready: bool,
    /// Whether another leg of the same connection worked.
    pub other_leg_ready: bool,
    /// How it was closed, if a line says so.
    pub close: Option<Close>,
    /// The client reset a stream of its own.
    pub reset: bool,
    /// A fatal TLS alert: whether the client read it, and its words.
    pub alert: Option<(bool, String)>,
    /// Apple's TLS status.
    pub tls_status: Option<i32>,
    /// The verdict on the certificate.
    pub certificate: Option<String>,
    /// Keep-alives went unanswered.
    pub keep_alive_lost: bool,
    /// The socket's own error.
    pub socket_errno: Option<i32>,
    /// There is no network at all.
    pub no_path: bool,
    /// Whether the log has lines of QUIC itself, where a close would stand.
    pub quic_lines: bool,
}

impl Sight {
    /// What `other` says where this says nothing: the two are one attempt.
    pub fn join(&mut self, other: &Self) {
        macro_rules! take {
            ($($field:ident),*) => { $(if self.$field.is_none() { self.$field.clone_from(&other.$field); })* };
        }
        take!(relay, relay_url, target, local, transport, http, joined, tls_ms, rtt_ms, duration_ms, cancel, ended, bytes, packets);
        take!(retransmitted, errno, close, alert, tls_status, certificate, socket_errno);
        for (mine, theirs) in [
            (&mut self.failed, other.failed),
            (&mut self.reset, other.reset),
            (&mut self.keep_alive_lost, other.keep_alive_lost),
            (&mut self.no_path, other.no_path),
            (&mut self.quic_lines, other.quic_lines),
            (&mut self.ready, other.ready && other.target.is_some()),
        ] {
            *mine |= theirs;
        }
    }

    /// It ended badly, or was cancelled before it worked.
    pub fn went_wrong(&self) -> bool {
        self.failed
            || self.errno.is_some()
            || self.tls_status.is_some()
            || self.socket_errno.is_some()
            || (self.cancel.is_some() && !self.ready)
    }

    /// The handshake was done.
    pub fn connected(&self) -> bool {
        self.transport.is_some() || self.http.is_some() || self.tls_ms.is_some()
    }

    /// It broke off behind the handshake, and no line says why: what the hypotheses are for.
    pub fn broke_off(&self) -> bool {
        let said = self.alert.is_some() || self.tls_status.is_some() || self.socket_errno.is_some() || self.keep_alive_lost || self.no_path;
        self.went_wrong() && self.connected() && !said && !matches!(self.errno, Some(50 | 51 | 60 | 64 | 65 | 80))
    }

    /// From HTTP joined to the client's own cancel.
    pub fn joined_to_cancel_ms(&self) -> Option<f64> {
        Some(millis(self.cancel? - self.joined?)).filter(|ms| *ms >= 0.0)
    }

    /// When the connection began: its end less its duration.
    pub fn start(&self) -> Option<i64> {
        Some(self.ended? - micros(self.duration_ms?))
    }

    /// The relay's URL has the scheme `http`, as the log prints it.
    pub fn prints_http(&self) -> bool {
        self.relay_url.as_ref().is_some_and(|url| url.starts_with("http://"))
    }

    /// The relay is named by an address.
    pub fn relay_is_address(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| {
            relay.starts_with("IPv4#") || relay.starts_with("IPv6#") || super::host(relay).parse::<std::net::IpAddr>().is_ok()
        })
    }

    /// What the log says of this attempt, first things first.
    pub fn findings(&self) -> Vec<Finding> {
        [self.path_findings(), self.handshake_findings(), self.end_findings()].concat()
    }

    /// What this log leaves open, `joined` to a record of the relay or not.
    pub fn unknowns(&self, joined: bool) -> Vec<String> {
        let mut open = Vec::new();
        if self.http.is_some() && !self.ready && !joined {
            open.push("whether a request left, and whether the relay answered it: no line says so".to_owned());
        }
        if let (Some(rtt), Some(waited)) = (self.rtt_ms, self.joined_to_cancel_ms())
            && waited < rtt
        {
            open.push(format!(
                "whether the client waited for an answer: the round trip it gives ({}) includes the relay's work in the handshake; on a local \
                 network the true one may be shorter than the {} it waited",
                milliseconds(rtt),
                milliseconds(waited)
            ));
        }
        if self.broke_off() && self.close.is_none() {
            let why = if self.quic_lines {
                "the lines of QUIC in this log do not say"
            } else {
                "the log has no lines of QUIC itself (they come at level debug)"
            };
            open.push(format!("with which code the client closed: {why}"));
        }
        if !joined {
            open.push("what the relay saw and did: no record of it is joined to this attempt".to_owned());
        }
        open
    }

    fn path_findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.no_path {
            let seen = Finding::fact("the device says that no path satisfies the connection");
            found.push(
                seen.means(Likely, "the device was offline, or a rule of the profile kept it off this network")
                    .next("look at the network first"),
            );
        }
        if let Some(error) = self.socket_errno {
            let (means, next) = match error {
                61 => ("nothing listens on the relay's port", "is the relay up, and is it this port, for UDP and TCP?"),
                _ => ("the network did not carry the packets to the relay", "check address and routes from the same network"),
            };
            found.push(Finding::fact(format!("the client's socket reports {}", errno(error))).means(Likely, means).next(next));
        }
        found
    }

    fn handshake_findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(tls) = self.tls_ms {
            found.push(
                Finding::fact(format!("the TLS handshake took {}", milliseconds(tls)))
                    .means(Likely, "the client let the relay's certificate pass"),
            );
        }
        if let Some(verdict) = self.certificate.as_ref().filter(|verdict| verdict.as_str() != "OK") {
            let seen = Finding::fact(format!("the client's verdict on the certificate is `{}`", verdict.escape_debug()));
            found.push(
                seen.means(Certain, "it does not trust the relay").next("`masque-relay cert inspect FILE`; install and trust the CA"),
            );
        }
        if let Some(status) = self.tls_status {
            let finding = Finding::fact(format!("TLS failed with {status}"));
            found.push(match codes::apple_tls(status) {
                Some(words) => finding.means(Certain, words).next("`masque-relay cert inspect FILE` says what the certificate is"),
                None => finding,
            });
        }
        if let Some((read, words)) = &self.alert {
            let (who, next) = if *read {
                ("the relay sent", "the relay's log has its side of the handshake")
            } else {
                ("the client sent", "the alert names what it did not like; `masque-relay cert inspect FILE`")
            };
            found.push(Finding::fact(format!("{who} a fatal TLS alert: {}", words.escape_debug())).next(next));
        }
        if let Some(http) = &self.http {
            let finding = Finding::fact(format!("{} was joined", spoken(http)));
            found.push(finding.means(Certain, "the handshake is behind: address, port, TLS and ALPN suit the client"));
        }
        found
    }

    fn end_findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(ms) = self.joined_to_cancel_ms() {
            let seen = format!(
                "the client itself cancelled the connection, {} after {} was joined",
                milliseconds(ms),
                spoken(self.http.as_deref().unwrap_or("HTTP"))
            );
            found.push(Finding::fact(seen));
        } else if self.cancel.is_some() && !self.ready {
            found.push(Finding::fact("the client itself cancelled the connection"));
        }
        if let Some(sent) = self.sent() {
            found.push(sent);
        }
        if let Some(close) = &self.close {
            let finding = Finding::fact(close.to_string());
            found.push(if close.by == By::Client && close.is_critical_stream() {
                finding.means(Certain, "the client saw a control or QPACK stream end")
            } else if close.is_orderly() {
                finding.means(Certain, "an orderly end: it names no fault")
            } else {
                finding
            });
        }
        if self.keep_alive_lost {
            let seen = Finding::fact("keep-alives went unanswered");
            found.push(
                seen.means(Likely, "the path went away under the connection, or the relay forgot it")
                    .next("look for the connection in the relay's log: did it time out there too, or was the relay restarted?"),
            );
        }
        if let Some(error) = self.errno {
            found.push(errno_finding(error));
        }
        if self.ready && !self.went_wrong() {
            found.push(Finding::fact("the connection through the relay became ready").means(Likely, "the relay answered 2xx"));
        }
        found
    }

    /// How much went over the wire, and whether it was lost.
    fn sent(&self) -> Option<Finding> {
        let (bytes_in, bytes_out) = self.bytes?;
        let packets = self.packets.map_or(String::new(), |(packets_in, packets_out)| format!(" in {packets_in} and {packets_out} packets"));
        let finding = Finding::fact(format!("{bytes_in} bytes came in and {bytes_out} went out{packets}"));
        Some(match self.retransmitted {
            Some(0) => finding.means(Likely, "nothing was sent again: there is no sign of lost packets"),
            Some(again) => finding.means(Likely, format!("{again} bytes were sent again: packets were lost, or the relay was silent")),
            None => finding,
        })
    }
}

/// What others report of these errors ranks a guess, and no more.
fn errno_finding(error: i32) -> Finding {
    let finding = Finding::fact(format!("the attempt ended with {}", errno(error)));
    match error {
        53 => finding.means(Likely, "the client gave the connection up; the number does not say why"),
        54 => finding.means(Likely, "the other side, or something on the way, reset the connection"),
        57 => finding.means(Possible, "the relay closed the connection").next("the relay's record of the connection says who closed"),
        60 => finding.means(Possible, "UDP is blocked on the way, or the relay is silent").next(
            "run `masque-relay probe` from the same network with `--http 3`, then `--http 2`; is there an HTTP2RelayURL in the profile?",
        ),
        61 => finding
            .means(Possible, "a closed port, or an answer that is not 2xx and has no Proxy-Status to excuse it")
            .next("look up the status in the relay's log"),
        64 | 65 => finding
            .means(Possible, "the target is down or cannot be reached, as Proxy-Status of a 5xx told the client")
            .next("try the target from the relay's host"),
        80 => finding
            .means(Possible, "the relay did not accept the credential")
            .next("look for 407 in the relay's log; the credential belongs into AdditionalHTTPHeaderFields"),
        89 => finding.means(Likely, "the program cancelled what it had asked for"),
        100 => finding
            .means(Possible, "the relay broke a rule of HTTP/3")
            .next("the code of the client's close, in the relay's record, names the rule"),
        _ => finding,
    }
}

/// `http3` as people write it.
pub fn spoken(http: &str) -> &str {
    match http {
        "http3" => "HTTP/3",
        "http2" => "HTTP/2",
        "http1" => "HTTP/1.1",
        other => other,
    }
}
