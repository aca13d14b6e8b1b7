//! HTTP/2 (RFC 9113), by the h2 crate: it keeps the relay to the rules of framing, and [`tap`] sees what it does not tell.

mod head;
mod stream;
mod tap;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use tokio::{
    task::JoinSet,
    time::{Instant, interval_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Closed, Layer, ProbeError, StreamEnd,
    shared::{Shared, within},
    tcp,
};

pub(super) use stream::{Receiving, Sending};
use tap::Tap;

/// The client's end of a connection.
#[derive(Debug)]
pub(super) struct Link {
    requests: Option<SendRequest<Bytes>>,
    cut: Cut,
    /// Drives the connection; aborted on drop.
    tasks: JoinSet<()>,
}

/// Ends a connection from outside the task that drives it.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    token: CancellationToken,
    shared: Arc<Shared>,
}

impl Link {
    /// Sends the preface and SETTINGS on a TLS connection.
    pub(super) async fn begin(stream: tcp::Stream, shared: Arc<Shared>) -> Result<Self, ProbeError> {
        let options = &shared.options;
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(options.stream_window.min(MOST_WINDOW))
            .initial_connection_window_size(options.connection_window.min(MOST_WINDOW))
            .max_header_list_size(u32::try_from(options.max_head).unwrap_or(u32::MAX));
        let started = within(Some(options.timeout), builder.handshake(Tap::new(stream, shared.clone()))).await;
        let (requests, connection) = match started {
            Ok(started) => started.map_err(|error| ProbeError::from(ended(&shared, &error)))?,
            Err(after) => return Err(ProbeError::TimedOut { what: "the handshake", after }),
        };
        let cut = Cut { token: CancellationToken::new(), shared };
        let mut tasks = JoinSet::new();
        tasks.spawn(drive(connection, cut.clone()));
        Ok(Self { requests: Some(requests), cut, tasks })
    }

    /// The halves of a new stream, as soon as the relay permits one.
    pub(super) async fn exchange(&self) -> Result<(Sending, Receiving), ProbeError> {
        let shared = &self.cut.shared;
        let requests = self.requests.clone().expect("only `shut` takes it, with the client");
        match within(Some(shared.options.timeout), requests.ready()).await {
            Ok(Ok(requests)) => Ok(stream::halves(requests, shared.clone())),
            Ok(Err(error)) => Err(ended(shared, &error).into()),
            Err(after) => Err(ProbeError::TimedOut { what: "room for a stream", after }),
        }
    }

    pub(super) fn cut(&self) -> Cut {
        self.cut.clone()
    }

    /// Sends GOAWAY and close_notify and waits until they are gone, unless a stream is still open.
    pub(super) async fn shut(&mut self) {
        self.requests = None;
        // A stream that is held keeps the connection; then the time is over, and dropping does the rest.
        within(Some(LEAVE), self.tasks.join_next()).await.ok();
    }
}

impl Cut {
    /// Closes TCP at once. HTTP/2 has GOAWAY for a code, but the h2 crate lets a client send none.
    pub(super) fn close(&self) {
        self.shared.note_closed(Closed::silent(false, "closed here"));
        self.token.cancel();
    }
}

/// Reads and writes until the connection is over, then notes how.
async fn drive<B: bytes::Buf>(mut connection: Connection<Tap<tcp::Stream>, B>, cut: Cut) {
    let pings = connection.ping_pong().expect("it is taken once");
    let ended = tokio::select! {
        biased;
        () = cut.token.cancelled() => return,
        ended = &mut connection => ended,
        () = ping(pings, cut.shared.options.keep_alive) => return,
    };
    let shared = &cut.shared;
    let closed = match ended.map_err(|error| (self::ended(shared, &error), error)) {
        Ok(()) => gone(shared, "TLS closed without GOAWAY"),
        Err((StreamEnd::Lost(closed), _)) => closed,
        Err((_, error)) => Closed { by_peer: false, layer: Layer::Application, code: code(&error), reason: error.to_string() },
    };
    shared.note_closed(closed);
}

/// PINGs for ever, or nothing for ever.
async fn ping(mut pings: h2::PingPong, every: Option<Duration>) {
    let Some(every) = every else { return std::future::pending().await };
    let mut ticks = interval_at(Instant::now() + every, every);
    loop {
        ticks.tick().await;
        if pings.ping(h2::Ping::opaque()).await.is_err() {
            // The connection is over, and who drives it is about to see that.
            return std::future::pending().await;
        }
    }
}

/// What an error of the h2 crate says about the relay.
fn ended(shared: &Shared, error: &h2::Error) -> StreamEnd {
    if error.is_library() {
        return StreamEnd::Violation(shared.note_violation(code(error), format!("{error} (RFC 9113)")));
    }
    if error.is_reset() && error.is_remote() {
        return StreamEnd::Reset(code(error));
    }
    if error.is_io() || error.is_go_away() {
        return shared.lost(gone(shared, error));
    }
    StreamEnd::EndedHere
}

/// The relay is gone: with what its last GOAWAY said, or as `seen`.
fn gone(shared: &Shared, seen: impl ToString) -> Closed {
    let said = shared.state.borrow().farewell.clone();
    said.unwrap_or_else(|| Closed::silent(true, seen.to_string()))
}

fn code(error: &h2::Error) -> u64 {
    error.reason().map_or(0, |reason| u32::from(reason).into())
}

/// RFC 9113 §6.9.1.
const MOST_WINDOW: u32 = (1 << 31) - 1;

/// How long `shut` waits for a connection to end by itself.
const LEAVE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
