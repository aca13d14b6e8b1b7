//! A connection over TCP, from its TLS handshake to the HTTP version that it agrees on.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{Worker, h1, h2, ms};
use crate::{
    certs::Tls,
    listener::Seen,
    listener::tcp::{self, Http, Outbox, Stream, TlsError},
    policy::limits::{ConnectionSlots, Slot},
};

/// A connection whose TLS handshake is done.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) outbox: Outbox,
    pub(super) address: SocketAddr,
    /// What the client offered.
    pub(super) seen: Seen,
    /// Its place among those of unknown clients.
    pub(super) unauthenticated: Slot,
    pub(super) started: Instant,
    /// When the client must be known.
    pub(super) deadline: Instant,
}

/// Serves one connection from its first byte to its last.
pub async fn serve(stream: TcpStream, address: SocketAddr, slots: ConnectionSlots, tls: Arc<Tls>, worker: Arc<Worker>) {
    let seen = Seen::default();
    let started = Instant::now();
    let ConnectionSlots { connection: _connection, unauthenticated } = slots;
    let deadline = started + worker.config.timeouts.authenticate;
    let handshake = tokio::select! {
        handshake = tcp::handshake(stream, &tls, &seen) => handshake.map_err(|error| words(&error)),
        () = sleep_until(deadline) => Err("no handshake in time".into()),
        () = worker.cut.cancelled() => Err("the relay stopped".into()),
    };
    match handshake {
        Ok((stream, outbox, http)) => {
            let accepted = Accepted { stream, outbox, address, seen, unauthenticated, started, deadline };
            match http {
                Http::Two => h2::serve(accepted, worker).await,
                Http::One => h1::serve(accepted, worker).await,
            }
        }
        Err(why) => debug!(client = %address, http = "tls", ms = ms(started), ja4 = seen.ja4(), why, "handshake failed"),
    }
}

fn words(error: &TlsError) -> String {
    error.to_string()
}
