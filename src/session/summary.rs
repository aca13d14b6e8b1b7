//! The one line that a connection leaves in the log, with what is wrong by its record.

use tracing::{Level, debug, enabled, info};

use crate::{
    diagnosis::{By, Close, timeline::in_a_line},
    record::Open,
};

/// Who ended a connection and why, in words and for the record.
pub(super) type Over = (String, Close);

/// The relay ended it, for a reason that has no code.
pub(super) fn by_relay(why: &str) -> Over {
    (why.into(), Close::silent(By::Relay, why))
}

/// It came so far that requests could come.
pub(super) fn connection_closed(http: &str, record: Open, requests: u64, why: &str, close: Close) {
    let log = record.log().clone();
    let finding = record.end(close, enabled!(Level::INFO)).map(|finding| in_a_line(&finding));
    info!(
        session = %log.id(), client = %log.client(), http, ms = log.ms(), requests, why, finding = finding.as_deref(), "connection closed"
    );
}

/// Alerts about a certificate, from bad_certificate to unknown_ca, and certificate_required (RFC 8446 §6), as QUIC numbers them.
const CERTIFICATE_ALERTS: [u64; 8] = [0x12a, 0x12b, 0x12c, 0x12d, 0x12e, 0x130, 0x133, 0x174];

/// It did not. What a client has to say about that is worth a look; scans and losses are not.
pub(super) fn handshake_failed(http: &str, record: Open, why: &str, close: Close) {
    let log = record.log().clone();
    // The relay examines nothing else that has to do with certificates.
    let examined = close.by == By::Relay && close.code.is_some_and(|code| CERTIFICATE_ALERTS.contains(&code));
    let why = if examined { &format!("the client's certificate is refused: {why}") } else { why };
    let said = examined || (close.by == By::Client && close.code.is_some());
    let finding = record.end(close, said).map(|finding| in_a_line(&finding));
    if said {
        let ja4 = log.ja4();
        info!(session = %log.id(), client = %log.client(), http, ms = log.ms(), ja4 = ja4.as_deref(), why, finding = finding.as_deref(), "handshake failed");
    } else {
        debug!(session = %log.id(), client = %log.client(), http, ms = log.ms(), ja4 = log.ja4().as_deref(), why, "handshake failed");
    }
}
