//! The one line a request leaves in the log: who, where to, what came of it, and who ended it.

use std::{borrow::Cow, sync::Arc};

use tokio::time::Instant;
use tracing::Level;

use super::{Client, Worker};
use crate::{
    config::Privacy,
    diagnosis::{
        By,
        record::{Act, Totals},
    },
    ended::Ended,
    record::{self, What},
    refusal::Refusal,
    request::{Ask, Request},
    tunnel::{tcp, udp},
};

/// What is known of a request so far.
pub(super) struct Line {
    pub(super) client: Client,
    number: u64,
    started: Instant,
    user: Option<Arc<str>>,
    kind: &'static str,
    target: Cow<'static, str>,
}

/// One event at a level known only at run time.
macro_rules! event_at {
    ($level:expr, $($rest:tt)*) => {
        match $level {
            Level::ERROR => tracing::error!($($rest)*),
            Level::WARN => tracing::warn!($($rest)*),
            Level::INFO => tracing::info!($($rest)*),
            _ => tracing::debug!($($rest)*),
        }
    };
}

impl Line {
    pub(super) fn new(client: Client, number: u64) -> Self {
        Self { client, number, started: Instant::now(), user: None, kind: "-", target: "-".into() }
    }

    fn note(&self, what: What) {
        self.client.log.note(self.number, what);
    }

    /// The client is known, and what it asks for.
    pub(super) fn asked(&mut self, request: &Request, user: Arc<str>, privacy: Privacy) {
        self.user = Some(Arc::clone(&user));
        (self.kind, self.target) = match &request.ask {
            Ask::Tunnel(protocol, target) => (protocol.name(), target.shown(privacy).into()),
            // The refusal names a protocol or method that is not served (C-14). A path is named by nothing: it may hold a target.
            Ask::UnsupportedProtocol(_) | Ask::UnsupportedMethod(_) | Ask::UnknownPath => ("-", "-".into()),
        };
        let target = if self.target == "-" { "" } else { &*self.target };
        self.note(What::Asked(Box::new(record::Asked { user, target: target.into() })));
    }

    /// The answer is on its way: `status`.
    pub(super) fn accepted(&self, status: u16) {
        self.note(What::Accepted { status });
    }

    /// `hint`: what in a client's profile explains it.
    pub(super) fn refused(&self, refusal: &Refusal, hint: Option<&'static str>, worker: &Worker) {
        let status = refusal.status().as_u16();
        self.note(What::Refused(Box::new(record::Refused { status, error: refusal.error_type(), why: refusal.words().into() })));
        worker.metrics.refused(status);
        tracing::info!(
            client = %self.client.address, http = self.client.http, stream = self.number, user = self.user(), kind = self.kind,
            target = %self.target, ms = self.ms(), status, why = refusal.words(), hint, "request refused"
        );
    }

    /// The client left, or the relay had to, before there was a tunnel.
    pub(super) fn abandoned(&self, ended: &Ended, worker: &Worker) {
        worker.metrics.ended(ended);
        self.over(ended, None);
        tracing::debug!(
            client = %self.client.address, http = self.client.http, stream = self.number, user = self.user(), kind = self.kind,
            target = %self.target, ms = self.ms(), why = ended.words(), "request abandoned"
        );
    }

    pub(super) fn tcp_closed(&self, ended: &Ended, totals: tcp::Totals, worker: &Worker) {
        worker.metrics.ended(ended);
        worker.metrics.tcp_carried(totals.bytes_out, totals.bytes_back);
        self.over(ended, Some(Totals { bytes_out: totals.bytes_out, bytes_back: totals.bytes_back, ..Totals::default() }));
        event_at!(
            ended.level(), client = %self.client.address, http = self.client.http, stream = self.number, user = self.user(), kind = self.kind,
            target = %self.target, ms = self.ms(), bytes_out = totals.bytes_out, bytes_back = totals.bytes_back,
            why = ended.words(), "tunnel closed"
        );
    }

    pub(super) fn udp_closed(&self, ended: &Ended, totals: udp::Totals, worker: &Worker) {
        worker.metrics.ended(ended);
        let udp::Totals { bytes_out, bytes_back, packets_out, packets_back, dropped } = totals;
        self.over(ended, Some(Totals { bytes_out, bytes_back, packets_out, packets_back, dropped }));
        event_at!(
            ended.level(), client = %self.client.address, http = self.client.http, stream = self.number, user = self.user(), kind = self.kind,
            target = %self.target, ms = self.ms(), packets_out = totals.packets_out, bytes_out = totals.bytes_out,
            packets_back = totals.packets_back, bytes_back = totals.bytes_back, dropped = totals.dropped,
            why = ended.words(), "tunnel closed"
        );
    }

    /// The request is over. On HTTP/3 the halves of its stream note how they end; over TCP that follows from the reason.
    fn over(&self, ended: &Ended, carried: Option<Totals>) {
        if self.client.http != "h3" {
            let (by, code) = match ended {
                Ended::ClientReset(code) | Ended::ClientStopped(code) => (By::Client, Some(*code)),
                ended => (By::Relay, ended.reset().map(|reset| u32::from(reset.h2()).into())),
            };
            let said = code.is_some() && !matches!(ended, Ended::ClientLost(_));
            if said {
                self.note(What::End { by, act: Act::Reset, code });
            }
        }
        self.note(What::Ended(Box::new(record::Ended { why: ended.words().into(), carried })));
    }

    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("-")
    }

    fn ms(&self) -> u64 {
        super::ms(self.started)
    }
}
