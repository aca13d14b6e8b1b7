//! Every way a probe fails, and every way a stream or a connection ends.

use std::{fmt, io, net::SocketAddr, time::Duration};

use rustls::pki_types::pem;

use super::Http;
use crate::{
    ended::Reset,
    proto::{codes, head::Head, template::TemplateError},
};

/// Why something asked of a relay did not come about.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the message names, and the cause below it")]
pub enum ProbeError {
    /// The URL is not one of a relay.
    #[error("cannot use the URL {url}: {says}")]
    Url { url: String, says: &'static str },
    /// The URL's path is no CONNECT-UDP template.
    #[error("cannot use the URL's template")]
    Template { source: TemplateError },
    /// The relay's name has no address.
    #[error("cannot resolve {host}")]
    Resolve { host: String, source: io::Error },
    /// A PEM text that is damaged.
    #[error("cannot read the certificate authorities")]
    RootPem { source: pem::Error },
    /// A text without a certificate.
    #[error("cannot trust anybody: no certificate in the file")]
    NoRoots,
    /// None of the usual files.
    #[error("cannot find the system's certificate authorities")]
    NoSystemRoots,
    /// An option that QUIC cannot express.
    #[error("cannot use {0}")]
    Options(&'static str),
    /// rustls refuses the configuration.
    #[error("cannot set up TLS")]
    Tls { source: rustls::Error },
    /// No local socket.
    #[error("cannot open a socket on {address}")]
    Bind { address: SocketAddr, source: io::Error },
    /// quinn refuses the address or the server name.
    #[error("cannot connect to {address}")]
    Start { address: SocketAddr, source: quinn::ConnectError },
    /// The handshake failed.
    #[error("cannot connect to {address}")]
    Connect { address: SocketAddr, source: quinn::ConnectionError },
    /// TCP or TLS over it failed.
    #[error("cannot connect to {address}")]
    ConnectTcp { address: SocketAddr, source: io::Error },
    /// TLS is there, and the relay chose another protocol in ALPN, or none.
    #[error("cannot speak {http} with this relay: it did not choose it in ALPN")]
    Alpn { http: Http },
    /// The relay answered, with another status than 2xx.
    #[error("refused: {0}")]
    Refused(Box<Refused>),
    /// The request stream ended before an answer was whole.
    #[error("no answer: {0}")]
    Unanswered(StreamEnd),
    /// The connection is over.
    #[error("connection over: {0}")]
    Closed(Closed),
    /// It took too long.
    #[error("cannot wait any longer for {what}: nothing in {after:?}")]
    TimedOut { what: &'static str, after: Duration },
    /// The relay broke a rule; the connection was closed for it.
    #[error("the relay broke a rule: {0}")]
    Violation(Violation),
    /// The relay does not offer what is needed; says which setting or parameter.
    #[error("cannot do this with this relay: it did not announce {0}")]
    Unsupported(&'static str),
    /// This version of HTTP has no such thing.
    #[error("cannot do this over {http}: it has no {what}")]
    Missing { http: Http, what: &'static str },
    /// A second request on a connection of HTTP/1.1.
    #[error("cannot ask again: this connection of HTTP/1.1 has carried its one request")]
    UsedUp,
    /// A payload larger than a DATAGRAM frame can carry now.
    #[error("cannot send {size} bytes in a DATAGRAM frame: {most} is the most")]
    TooLarge { size: usize, most: usize },
}

/// An answer other than 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// `:status`
    pub status: u16,
    /// `proxy-status` as received, if it came (RFC 9209).
    pub proxy_status: Option<String>,
    /// All of it.
    pub head: Head,
}

/// How one direction of a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Cleanly: with FIN, END_STREAM, or close_notify.
    Finished,
    /// The relay reset its side, or over HTTP/2 both, with this code of the HTTP version.
    Reset(u64),
    /// The relay stopped reading ours (STOP_SENDING; over HTTP/2 RST_STREAM), with this code of the HTTP version.
    Stopped(u64),
    /// It was ended here before.
    EndedHere,
    /// The connection is over.
    Lost(Closed),
    /// What came breaks a rule.
    Violation(Violation),
    /// Nothing was sent: this version of HTTP has no way to say it; says what.
    Unsendable(&'static str),
    /// Nothing came for as long as [`Options::patience`](super::Options::patience) allows.
    TimedOut,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Whether the relay closed it.
    pub by_peer: bool,
    /// Whose code it is.
    pub layer: Layer,
    /// The error code; 0 where there was none to see (idle time-out, stateless reset).
    pub code: u64,
    /// The reason phrase, or how it ended without one.
    pub reason: String,
}

/// Whose error code a close carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// QUIC's (RFC 9000 §20.1).
    Transport,
    /// That of HTTP/3 (RFC 9114 §8.1) or HTTP/2 (RFC 9113 §7: GOAWAY).
    Application,
    /// None: nobody said anything.
    None,
}

/// A rule the relay broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What was wrong, with the rule's place.
    pub rule: String,
    /// The code of the HTTP version that the connection was closed with, over HTTP/2 perhaps the stream alone; 0 over HTTP/1.1.
    pub code: u64,
}

/// How the relay ended a stream on which the connection depends: control, or QPACK's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CriticalEnd {
    /// It finished its own, of this type.
    Finished(u64),
    /// It reset its own, of this type, with this code.
    Reset(u64, u64),
    /// It stopped reading ours, of this type, with this code.
    Stopped(u64, u64),
}

impl ProbeError {
    /// The refusal, if it is one.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }
}

impl StreamEnd {
    /// Whether the relay cut the stream off as `reset`, in the words of `http`: with its code, or over HTTP/1.1 by a TCP connection that ends
    /// without close_notify.
    pub fn is_reset(&self, http: Http, reset: Reset) -> bool {
        match self {
            Self::Reset(code) | Self::Stopped(code) => http != Http::H1 && *code == http.code(reset),
            Self::Lost(closed) => http == Http::H1 && closed.by_peer,
            _ => false,
        }
    }
}

/// The end of a stream as the failure of a request.
impl From<StreamEnd> for ProbeError {
    fn from(end: StreamEnd) -> Self {
        match end {
            StreamEnd::Violation(violation) => Self::Violation(violation),
            StreamEnd::Lost(closed) => Self::Closed(closed),
            end => Self::Unanswered(end),
        }
    }
}

impl Closed {
    /// Without a code.
    pub(super) fn silent(by_peer: bool, reason: impl Into<String>) -> Self {
        Self { by_peer, layer: Layer::None, code: 0, reason: reason.into() }
    }
}

impl From<&quinn::ConnectionError> for Closed {
    fn from(error: &quinn::ConnectionError) -> Self {
        use quinn::ConnectionError::{
            ApplicationClosed, CidsExhausted, ConnectionClosed, LocallyClosed, Reset, TimedOut, TransportError, VersionMismatch,
        };
        match error {
            ApplicationClosed(close) => Self {
                by_peer: true,
                layer: Layer::Application,
                code: close.error_code.into_inner(),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionClosed(close) => Self {
                by_peer: true,
                layer: Layer::Transport,
                code: close.error_code.into(),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            TransportError(error) => {
                Self { by_peer: false, layer: Layer::Transport, code: error.code.into(), reason: error.reason.clone() }
            }
            Reset => Self::silent(true, "stateless reset"),
            TimedOut => Self::silent(false, "idle time-out"),
            VersionMismatch => Self::silent(true, "no common QUIC version"),
            LocallyClosed => Self::silent(false, "closed here"),
            CidsExhausted => Self::silent(false, "no connection IDs left"),
        }
    }
}

/// A relay's text goes to a terminal: no control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.into() }).collect()
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.proxy_status {
            Some(proxy_status) => write!(f, "status {}, Proxy-Status {}", self.status, printable(proxy_status)),
            None => write!(f, "status {}", self.status),
        }
    }
}

impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the relay finished the stream"),
            Self::Reset(code) => write!(f, "the relay reset the stream with {}", named(*code)),
            Self::Stopped(code) => write!(f, "the relay stopped reading the stream with {}", named(*code)),
            Self::EndedHere => f.write_str("the stream was ended here"),
            Self::Lost(closed) => write!(f, "the connection is over: {closed}"),
            Self::Violation(violation) => write!(f, "the relay broke a rule: {violation}"),
            Self::Unsendable(what) => write!(f, "not sent: {what}"),
            Self::TimedOut => f.write_str("nothing came in time"),
        }
    }
}

impl std::error::Error for StreamEnd {}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.by_peer { "by the relay" } else { "here" };
        let reason = self.reason.escape_debug();
        match self.layer {
            Layer::None => write!(f, "{reason}"),
            Layer::Application => write!(f, "closed {who} with {}: {reason}", named(self.code)),
            Layer::Transport => match codes::quic_name(self.code) {
                Some(name) => write!(f, "closed {who} with {name}: {reason}"),
                None => write!(f, "closed {who} with QUIC code {:#x}: {reason}", self.code),
            },
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rule)
    }
}

/// A code of HTTP/3 or HTTP/2 by its name, or its number: the two do not meet.
fn named(code: u64) -> String {
    codes::h3_name(code).or_else(|| codes::h2_name(code)).map_or_else(|| format!("code {code:#x}"), str::to_owned)
}
