//! A connection over TCP, from its TLS handshake to the HTTP version that it agrees on.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{
    Worker, h1, h2,
    summary::{self, by_relay},
};
use crate::{
    certs::{Tls, client::Shown},
    diagnosis::{By, Close, Layer},
    listener::Seen,
    listener::tcp::{self, Http, Outbox, Stream, TlsError},
    policy::limits::{ConnectionSlots, Slot},
    record::{self, Figures},
};

/// A connection whose TLS handshake is done.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) outbox: Outbox,
    pub(super) address: SocketAddr,
    /// Its place among those of unknown clients.
    pub(super) unauthenticated: Slot,
    pub(super) record: record::Open,
    /// The certificate it has shown.
    pub(super) shown: Option<Arc<Shown>>,
    /// When the client must be known.
    pub(super) deadline: Instant,
}

/// Serves one connection from its first byte to its last.
pub async fn serve(stream: TcpStream, address: SocketAddr, slots: ConnectionSlots, tls: Arc<Tls>, worker: Arc<Worker>) {
    let started = Instant::now();
    let record = worker.records.begin(address);
    let seen = Seen::default();
    record.log().hello(seen.offer());
    let ConnectionSlots { connection: _connection, unauthenticated } = slots;
    let deadline = started + worker.config.timeouts.authenticate;
    let handshake = tokio::select! {
        handshake = tcp::handshake(stream, &tls, &seen) => handshake.map_err(|error| (error.to_string(), close(&error))),
        () = sleep_until(deadline) => Err(by_relay("no handshake in time")),
        () = worker.cut.cancelled() => Err(by_relay("the relay stopped")),
    };
    match handshake {
        Ok((stream, outbox, http)) => {
            record.log().http(if http == Http::Two { 2 } else { 1 });
            record.log().handshake_done();
            let counted = outbox.counted();
            record.log().meter(Box::new(move || Figures { bytes: counted.now(), path: None }));
            let shown = stream.get_ref().1.peer_certificates().and_then(Shown::read).map(Arc::new);
            let accepted = Accepted { stream, outbox, address, unauthenticated, record, shown, deadline };
            match http {
                Http::Two => h2::serve(accepted, worker).await,
                Http::One => h1::serve(accepted, worker).await,
            }
        }
        Err((why, close)) => summary::handshake_failed("tls", record, &why, close),
    }
}

/// An alert says what the client did not like; its code as QUIC has it (RFC 9001 §4.8), so that one table names both.
fn close(error: &TlsError) -> Close {
    let reason = error.to_string();
    match error {
        TlsError::NoAlpn => Close { by: By::Relay, layer: Some(Layer::Transport), code: Some(0x178), reason },
        // unexpected_message: what rustls says to it.
        TlsError::NotTls => Close { by: By::Relay, layer: Some(Layer::Transport), code: Some(0x10a), reason },
        TlsError::Handshake(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::AlertReceived(alert)) => Close {
                by: By::Client,
                layer: Some(Layer::Transport),
                code: Some(0x100 + u64::from(u8::from(*alert))),
                reason: String::new(),
            },
            Some(rustls::Error::InvalidCertificate(why)) => Close {
                by: By::Relay,
                layer: Some(Layer::Transport),
                code: Some(0x100 + u64::from(u8::from(rustls::AlertDescription::from(why.clone())))),
                reason,
            },
            Some(_) => Close { by: By::Relay, layer: Some(Layer::Transport), code: None, reason },
            None => Close::silent(By::Neither, reason),
        },
    }
}
