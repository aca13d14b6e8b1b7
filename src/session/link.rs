//! A client's QUIC connection, which remembers why the relay closed it.

use std::{
    borrow::Cow,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    diagnosis::{By, Close, Layer, millis, record::Path},
    ended::Ended,
    proto::codes,
    record::{Figures, Log, Meter, What},
};

/// A client's QUIC connection; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Link {
    quinn: quinn::Connection,
    closed: Arc<OnceLock<(u64, Cow<'static, str>)>>,
    writes: Arc<AtomicU64>,
    log: Arc<Log>,
}

impl Link {
    pub(super) fn new(quinn: quinn::Connection, log: Arc<Log>) -> Self {
        log.meter(meter(quinn.clone()));
        Self { quinn, closed: Arc::default(), writes: Arc::default(), log }
    }

    /// Notes something in the connection's record: of a stream, or 0.
    pub(super) fn note(&self, stream: u64, what: What) {
        self.log.note(stream, what);
    }

    /// The connection's record.
    pub(super) const fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// quinn has taken bytes of a stream, which it sends behind all datagrams.
    pub(super) fn wrote(&self) {
        self.writes.fetch_add(1, Relaxed);
    }

    /// How often it has.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Relaxed)
    }

    /// Closes the connection with an HTTP/3 code; the first reason stands.
    pub(super) fn close(&self, code: u64, why: impl Into<Cow<'static, str>>) {
        let (code, why) = self.closed.get_or_init(|| (code, why.into()));
        self.quinn.close(varint(*code), why.as_bytes());
    }

    /// Who closed the connection and why, in words; `None` while it is open.
    pub(super) fn end(&self) -> Option<String> {
        let reason = self.quinn.close_reason()?;
        Some(match (reason, self.closed.get()) {
            (quinn::ConnectionError::LocallyClosed, Some((code, why))) => format!("the relay closed: {}, {why}", name(*code)),
            (quinn::ConnectionError::LocallyClosed, None) => "the relay stopped".into(),
            (quinn::ConnectionError::ApplicationClosed(close), _) => {
                format!("the client closed: {}{}", name(close.error_code.into_inner()), reason_words(&close.reason))
            }
            (quinn::ConnectionError::ConnectionClosed(close), _) => {
                let code = u64::from(close.error_code);
                let name = codes::quic_name(code).unwrap_or_else(|| format!("{code:#x}"));
                format!("the client's transport closed: {name}{}", reason_words(&close.reason))
            }
            (quinn::ConnectionError::TimedOut, _) => "the client went silent".into(),
            (quinn::ConnectionError::Reset, _) => "the client knows the connection no more: stateless reset".into(),
            (quinn::ConnectionError::TransportError(error), _) => format!("the relay's transport closed: {error}"),
            (error @ (quinn::ConnectionError::VersionMismatch | quinn::ConnectionError::CidsExhausted), _) => error.to_string(),
        })
    }

    /// The same for the record.
    pub(super) fn closed_how(&self) -> Option<Close> {
        self.quinn.close_reason().map(|error| close(&error, self.closed.get()))
    }

    /// Why a stream of this connection can no longer be used.
    pub(super) fn lost(&self) -> Ended {
        Ended::ClientLost(self.end().unwrap_or_else(|| "the connection is closing".into()))
    }
}

impl Deref for Link {
    type Target = quinn::Connection;

    fn deref(&self) -> &quinn::Connection {
        &self.quinn
    }
}

/// How a connection ended, for its record; `ours` is what the relay closed it with.
pub(super) fn close(error: &quinn::ConnectionError, ours: Option<&(u64, Cow<'static, str>)>) -> Close {
    let (by, said) = match error {
        quinn::ConnectionError::LocallyClosed => (By::Relay, ours.map(|(code, why)| (Layer::Application, *code, why.to_string()))),
        quinn::ConnectionError::ApplicationClosed(close) => {
            (By::Client, Some((Layer::Application, close.error_code.into_inner(), phrase(&close.reason))))
        }
        quinn::ConnectionError::ConnectionClosed(close) => {
            (By::Client, Some((Layer::Transport, u64::from(close.error_code), phrase(&close.reason))))
        }
        quinn::ConnectionError::TransportError(error) => (By::Relay, Some((Layer::Transport, u64::from(error.code), error.reason.clone()))),
        quinn::ConnectionError::Reset => {
            return Close::silent(By::Client, "stateless reset");
        }
        quinn::ConnectionError::TimedOut => return Close::silent(By::Neither, "time-out"),
        quinn::ConnectionError::VersionMismatch | quinn::ConnectionError::CidsExhausted => {
            return Close::silent(By::Neither, error.to_string());
        }
    };
    match said {
        Some((layer, code, reason)) => Close { by, layer: Some(layer), code: Some(code), reason },
        None => Close::silent(by, ""),
    }
}

/// What QUIC counts.
fn meter(quinn: quinn::Connection) -> Meter {
    Box::new(move || {
        let stats = quinn.stats();
        let path = Path {
            // No digit more: a reader of JSON may not give all of them back.
            rtt_ms: millis(i64::try_from(stats.path.rtt.as_micros()).unwrap_or(i64::MAX)),
            mtu: stats.path.current_mtu,
            sent: stats.path.sent_packets,
            lost: stats.path.lost_packets,
            received: stats.udp_rx.datagrams,
            congestion: stats.path.congestion_events,
            black_holes: stats.path.black_holes_detected,
        };
        Figures { bytes: [stats.udp_rx.bytes, stats.udp_tx.bytes], path: Some(path) }
    })
}

/// An error code as quinn wants it. Codes beyond 62 bits do not exist on the wire.
pub(super) fn varint(code: u64) -> quinn::VarInt {
    quinn::VarInt::from_u64(code).unwrap_or(quinn::VarInt::MAX)
}

fn name(code: u64) -> String {
    codes::h3_name(code).map_or_else(|| format!("{code:#x}"), Into::into)
}

/// A peer's reason phrase, as much as is kept of it.
fn phrase(reason: &[u8]) -> String {
    String::from_utf8_lossy(reason).chars().take(100).collect()
}

/// A peer's reason phrase is its own text: shown escaped and short.
fn reason_words(reason: &[u8]) -> String {
    if reason.is_empty() {
        return String::new();
    }
    format!(", \"{}\"", phrase(reason).escape_default())
}
