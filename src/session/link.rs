//! A client's QUIC connection, which remembers why the relay closed it.

use std::{
    borrow::Cow,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use crate::{ended::Ended, proto::codes};

/// A client's QUIC connection; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Link {
    quinn: quinn::Connection,
    closed: Arc<OnceLock<(u64, Cow<'static, str>)>>,
}

impl Link {
    pub(super) fn new(quinn: quinn::Connection) -> Self {
        Self { quinn, closed: Arc::default() }
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

/// An error code as quinn wants it. Codes beyond 62 bits do not exist on the wire.
pub(super) fn varint(code: u64) -> quinn::VarInt {
    quinn::VarInt::from_u64(code).unwrap_or(quinn::VarInt::MAX)
}

fn name(code: u64) -> String {
    codes::h3_name(code).map_or_else(|| format!("{code:#x}"), Into::into)
}

/// A peer's reason phrase is its own text: shown escaped and short.
fn reason_words(reason: &[u8]) -> String {
    if reason.is_empty() {
        return String::new();
    }
    let shown: String = String::from_utf8_lossy(reason).chars().take(100).flat_map(char::escape_default).collect();
    format!(", \"{shown}\"")
}
