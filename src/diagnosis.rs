//! From what was seen to what it means.
//!
//! Two witnesses: the relay's own [`Record`] of a connection, and a [`Sight`], what a client's log says of an attempt to use a relay. Out of them come
//! [`Finding`]s, and for an attempt that broke off without a stated cause the [`hypotheses`].
//!
//! *Never a certainty that is not there*: a witness's own words are certain, what follows from a rule of an RFC is at most likely, what somebody
//! reported once is possible. What rests on a record that may be another connection's is no surer than the join.

pub mod hypotheses;
pub mod record;
pub mod sight;
pub mod timeline;

use serde::{Serialize, Serializer};

use crate::proto::codes;
pub use record::Record;
pub use sight::Sight;

/// How sure one may be, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// It would explain what was seen; so would something else.
    Possible,
    /// It explains what was seen better than anything else known.
    Likely,
    /// A witness says so.
    Certain,
}

impl Certainty {
    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// What was seen, what it means, how sure that is, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was seen.
    pub seen: String,
    /// What it means; empty where what was seen says it all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub means: String,
    /// How sure the meaning is.
    pub certainty: Certainty,
    /// What to do about it; nothing where nothing is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    /// A fact: a witness's own words.
    pub fn fact(seen: impl Into<String>) -> Self {
        Self { seen: seen.into(), means: String::new(), certainty: Certainty::Certain, next: None }
    }

    /// With what it means, and how sure that is.
    #[must_use]
    pub fn means(self, certainty: Certainty, means: impl Into<String>) -> Self {
        Self { means: means.into(), certainty, ..self }
    }

    /// With something to do about it.
    #[must_use]
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }
}

/// A side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The client.
    Client,
    /// The relay.
    Relay,
    /// Neither: it timed out, or was lost.
    Neither,
}

/// The layer that a close speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// QUIC itself (CONNECTION_CLOSE of type 0x1c), TLS included.
    Transport,
    /// HTTP (CONNECTION_CLOSE of type 0x1d, GOAWAY of HTTP/2).
    Application,
}

/// How a connection was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Close {
    /// Who closed.
    pub by: By,
    /// The layer it speaks for; none if nothing was said.
    #[serde(default)]
    pub layer: Option<Layer>,
    /// Its error code; none if nothing was said.
    #[serde(default)]
    pub code: Option<u64>,
    /// The reason, in the words of who closed.
    #[serde(default)]
    pub reason: String,
}

impl Close {
    /// An end for which no code was sent.
    pub fn silent(by: By, reason: impl Into<String>) -> Self {
        Self { by, layer: None, code: None, reason: reason.into() }
    }

    /// An error that is QUIC's or TLS's.
    pub fn is_transport_error(&self) -> bool {
        self.layer == Some(Layer::Transport) && self.code.is_some_and(|code| code != 0)
    }

    /// A TLS alert that says no to the certificate (RFC 8446 §6.2): bad, unsupported, revoked, expired, unknown, of an unknown CA, or with a signature
    /// that does not hold (`decrypt_error`).
    pub fn is_about_the_certificate(&self) -> bool {
        self.layer == Some(Layer::Transport) && self.code.is_some_and(|code| matches!(code, 0x12a..=0x12e | 0x130 | 0x133))
    }

    /// `H3_CLOSED_CRITICAL_STREAM`, by HTTP.
    pub fn is_critical_stream(&self) -> bool {
        self.layer == Some(Layer::Application) && self.code == Some(codes::h3::CLOSED_CRITICAL_STREAM)
    }

    /// An orderly end: `NO_ERROR` of either layer.
    pub fn is_orderly(&self) -> bool {
        matches!((self.layer, self.code), (Some(Layer::Transport), Some(0)) | (Some(Layer::Application), Some(codes::h3::NO_ERROR)))
    }
}

impl std::fmt::Display for Close {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = match self.by {
            By::Client => "the client closed",
            By::Relay => "the relay closed",
            By::Neither => "nobody closed; it timed out or was lost",
        };
        f.write_str(who)?;
        if let Some(code) = self.code {
            let name = match self.layer {
                Some(Layer::Transport) => codes::quic_name(code),
                _ => codes::h3_name(code).or_else(|| codes::h2_name(code)).map(str::to_owned),
            };
            let name = name.unwrap_or_else(|| "no registered name".into());
            write!(f, " with {code:#x} ({name})")?;
        }
        match self.reason.as_str() {
            "" => Ok(()),
            reason => write!(f, ", reason `{}`", reason.escape_debug()),
        }
    }
}

/// A number of milliseconds as people read it: `4.4 ms`, `111 ms`, `2.5 s`.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms.abs() >= 1000.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms.abs() >= 100.0 || ms.fract() == 0.0 => format!("{ms:.0} ms"),
        ms => format!("{ms:.1} ms"),
    }
}

/// Error 53 as people look it up: `error 53 (ECONNABORTED, "Software caused connection abort")`.
pub fn errno(errno: i32) -> String {
    codes::darwin(errno).map_or_else(|| format!("error {errno}"), |(name, words)| format!("error {errno} ({name}, \"{words}\")"))
}

/// What a value of `getLastClientErrors` (`NERelayManager`) says: its name, what it means, what to do; `None` for one that Apple does not document.
pub fn client_error(value: u32) -> Option<(&'static str, Finding)> {
    use Certainty::{Certain, Likely};
    let (name, sure, means, next) = match value {
        1 => (
            "none",
            Certain,
            "the client has no error to report",
            "if traffic still does not pass, the relay was not chosen: check the match \
                                 and exclude lists of the profile",
        ),
        2 => (
            "dnsFailed",
            Likely,
            "the relay's own name did not resolve on the device",
            "resolve the host of the relay's URL on the device's network",
        ),
        3 => (
            "serverUnreachable",
            Likely,
            "nothing answered at the relay's address: UDP or TCP port closed on the way, or the relay is down",
            "run `masque-relay probe` from the same network with `--http 3`, then `--http 2`; give the profile an HTTP2RelayURL too",
        ),
        4 => (
            "serverDisconnected",
            Certainty::Possible,
            "the relay was reached and the connection ended; others report it for answers of 4xx and 5xx as well",
            "look for this client's connection in the relay's log: who closed it, and which status its requests got",
        ),
        5 => (
            "certificateMissing",
            Likely,
            "the relay asks for a client certificate and the profile has none",
            "give the relay's entry in the \
                                              profile a PayloadCertificateUUID",
        ),
        6 => (
            "certificateInvalid",
            Likely,
            "the client certificate of the profile was not accepted",
            "check which CA the relay accepts clients from, \
                                             and that the identity's chain ends there",
        ),
        7 => (
            "certificateExpired",
            Likely,
            "the client certificate of the profile has expired",
            "issue a new one and install the profile again",
        ),
        8 => (
            "serverCertificateInvalid",
            Likely,
            "the device does not trust the relay's certificate: its CA is not installed and trusted, or the URL's name is not in the SAN",
            "`masque-relay cert inspect FILE` names what Apple's clients do not like about it",
        ),
        9 => (
            "serverCertificateExpired",
            Likely,
            "the relay's certificate has expired, or the device's clock is wrong",
            "renew it, and restart the \
                                                    relay",
        ),
        10 => ("other", Certain, "the client has an error with no value of its own", "collect its log: `masque-relay explain --help`"),
        _ => return None,
    };
    Some((name, Finding::fact(format!("getLastClientErrors says {value}, {name}")).means(sure, means).next(next)))
}

/// Microseconds as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "what lasts so long that a microsecond is lost in 52 bits lasts a hundred years")]
pub fn millis(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

/// Milliseconds as microseconds: thirty years at most, whatever a log or a record claims.
pub fn micros(millis: f64) -> i64 {
    (millis * 1000.0).clamp(-1e15, 1e15) as i64
}

/// Rounds to a tenth for JSON: the log has no more.
#[expect(clippy::ref_option, reason = "serde calls it with the field")]
pub(crate) fn tenth<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|value| (value * 10.0).round() / 10.0).serialize(serializer)
}

/// Words of the relay's, in which something of a client's may stand: no control character gets through.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() }).collect()
}

/// The host of `host:port`, without brackets; Apple writes the port of an IPv6 address behind a dot.
pub fn host(endpoint: &str) -> &str {
    if let Some((host, _)) = endpoint.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    match endpoint.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        None => endpoint,
        Some(_) => endpoint.rsplit_once('.').map_or(endpoint, |(host, _)| host),
    }
}
