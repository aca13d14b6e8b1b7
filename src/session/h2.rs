//! One client's HTTP/2 connection, after its TLS handshake.
//!
//! ```text
//! preface, SETTINGS ─▶ requests, a task each, over the h2 crate ─▶ what they wrote gathered ─▶ closed, one line in the log
//! ```
//!
//! Promises, the same as on HTTP/3:
//!
//! 1. *A silent client is let go*: no authenticated request within the limit, and the connection closes (C-08); so does one without requests, at once if
//!    its client may no longer ask (C-80).
//! 2. *A slow tunnel costs itself*: credit comes back as its target takes bytes, and stalled tunnels do not eat up the connection's.
//! 3. *A drain loses nothing it took*: the h2 crate sends both GOAWAYs and ignores what comes above the last (C-79).

mod exchange;
mod halves;

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server};
use http::Request;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Client, REFUSABLE, Worker,
    gate::{self, Gate},
    requests::{LAST_WORDS, Requests},
    summary::{self, Over, by_relay},
    tcp::Accepted,
    window::{Share, Window},
};
use crate::{
    certs::client::Shown,
    config::memory,
    diagnosis::{By, Close, Layer},
    fault::Fault,
    listener::{
        Pace,
        tcp::{self, Outbox, Stream},
    },
    policy::Policy,
    proto::codes::h2_name,
    record::Log,
};
use exchange::H2Exchange;

/// Requests that a client may cancel in a second before they were answered. Many are normal: of a UDP and a TCP attempt one is given up. More
/// than this is the work of CVE-2023-44487 (rapid reset).
const CANCELLED: u32 = 500;
/// Requests that were reset before they were even looked at: the same, within one read from the socket.
const UNSEEN: usize = 100;
/// Requests of a client that is not known yet that are being answered.
const BEFORE: usize = memory::HEADS as usize;
/// Bytes that h2 may spend on small DATA frames, beyond their payload: by default half of the connection's window, which is too little for the first
/// packets of a UDP tunnel while that is small.
const SMALL_FRAMES: usize = 1 << 20;
/// How long the first GOAWAY may take to be answered.
const ANNOUNCED: Duration = Duration::from_secs(1);
/// How often it is looked whether a client has all that is still on its way to it.
const DELIVERED: Duration = Duration::from_millis(100);

/// A request and the way to answer it, as h2 gives them.
type Incoming = (Request<RecvStream>, server::SendResponse<Bytes>);

/// Serves one connection to its end.
pub(super) async fn serve(accepted: Accepted, worker: Arc<Worker>) {
    let Accepted { stream, outbox, address, unauthenticated, record, shown, deadline } = accepted;
    let opened = tokio::select! {
        opened = open(stream, &worker) => opened.map_err(|error| over(&error)),
        () = sleep_until(deadline) => Err(by_relay("no HTTP/2 preface in time")),
        () = worker.cut.cancelled() => Err(by_relay("the relay stopped")),
    };
    let connection = match opened {
        Ok(connection) => connection,
        Err((why, close)) => return summary::handshake_failed("h2", record, &why, close),
    };
    record.log().settings_sent(&announced(&worker));
    outbox.gather();
    let _open = worker.metrics.connection_open();
    let session = Session {
        transport: Transport { connection, outbox },
        address,
        gate: Arc::new(Gate::new(unauthenticated)),
        window: Arc::default(),
        requests: Requests::new(address),
        cancelled: Arc::default(),
        closing: None,
        log: Arc::clone(record.log()),
        shown,
        worker: Arc::clone(&worker),
    };
    let (requests, (why, close)) = session.run(deadline).await;
    summary::connection_closed("h2", record, requests, &why, close);
}

/// SETTINGS out, and the client's preface in.
async fn open(mut stream: Stream, worker: &Worker) -> Result<server::Connection<Stream, Bytes>, h2::Error> {
    if let Some(late) = worker.faults.settings_late() {
        sleep(late).await;
    }
    if worker.faults.on(Fault::SettingsNever) {
        // Until the client gives up.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap_or_default();
        return Err(Reason::SETTINGS_TIMEOUT.into());
    }
    settings(worker).handshake(stream).await
}
/// What a client must know before it asks, and what it is held to.
fn settings(worker: &Worker) -> server::Builder {
    let mut builder = server::Builder::new();
    if extended_connect(worker) {
        builder.enable_connect_protocol();
    }
    builder
        .initial_window_size(memory::STREAM_WINDOW as u32)
        .initial_connection_window_size(memory::WINDOW_BEFORE as u32)
        .max_header_list_size(memory::HEAD as u32)
        .max_frame_size(memory::FRAME as u32)
        .max_concurrent_streams((worker.config.limits.tunnels_per_connection + REFUSABLE) as u32)
        .max_pending_accept_reset_streams(UNSEEN)
        .data_frame_budget(SMALL_FRAMES)
        .max_send_buffer_size(memory::STREAM_UNSENT as usize);
    builder
}

/// The same as it stands in SETTINGS (RFC 9113 §6.5.2, RFC 8441 §3), for the record: h2 writes them, and shows the client's to nobody.
fn announced(worker: &Worker) -> Vec<(u64, u64)> {
    let streams = (worker.config.limits.tunnels_per_connection + REFUSABLE) as u64;
    let mut said = vec![(0x3, streams), (0x4, memory::STREAM_WINDOW), (0x5, memory::FRAME), (0x6, memory::HEAD)];
    if extended_connect(worker) {
        said.push((0x8, 1));
    }
    said
}

/// Whether SETTINGS_ENABLE_CONNECT_PROTOCOL is sent.
fn extended_connect(worker: &Worker) -> bool {
    worker.config.bisect.extended_connect && !worker.faults.on(Fault::NoExtendedConnect)
}

/// h2's connection and the way out of its socket.
struct Transport {
    connection: server::Connection<Stream, Bytes>,
    outbox: Outbox,
}

impl Transport {
    /// Moves the connection on, then sends what that and the requests have written. A new request only if `accept`. From a client that is not
    /// `known` nothing is received while requests of its wait: what h2 has read of them takes far more memory than it took bytes.
    fn poll(&mut self, cx: &mut Context<'_>, accept: bool, known: bool) -> Poll<Option<Result<Incoming, Over>>> {
        let mut polled;
        if known {
            self.outbox.receive_any();
            polled = self.poll_h2(cx, accept);
        } else {
            self.outbox.receive_once(false);
            polled = self.poll_h2(cx, accept);
            if polled.is_pending() && accept {
                self.outbox.receive_once(true);
                polled = self.poll_h2(cx, accept);
                if polled.is_pending() && self.outbox.wants_to_receive() {
                    cx.waker().wake_by_ref();
                }
            }
        }
        match self.outbox.poll_send(cx) {
            // h2 learns of it by its next read or write; there may be none.
            Poll::Ready(Err(error)) if polled.is_pending() => Poll::Ready(Some(Err((broken(&error), lost(&error))))),
            _ => polled,
        }
    }
}

impl Transport {
    fn poll_h2(&mut self, cx: &mut Context<'_>, accept: bool) -> Poll<Option<Result<Incoming, Over>>> {
        if accept {
            self.connection.poll_accept(cx).map(|accepted| accepted.map(|incoming| incoming.map_err(|error| over(&error))))
        } else {
            self.connection.poll_closed(cx).map(|closed| closed.err().map(|error| Err(over(&error))))
        }
    }
}

struct Session {
    transport: Transport,
    address: SocketAddr,
    gate: Arc<Gate>,
    window: Arc<Window>,
    requests: Requests,
    /// Requests cancelled before their answer, and not counted yet.
    cancelled: Arc<AtomicU32>,
    /// Why the relay closes it.
    closing: Option<(Reason, &'static str)>,
    log: Arc<Log>,
    /// The certificate the client has shown.
    shown: Option<Arc<Shown>>,
    worker: Arc<Worker>,
}

impl Session {
    /// Takes requests until the connection is over; gives how many there were, and who ended it and why.
    async fn run(mut self, deadline: Instant) -> (u64, Over) {
        let worker = Arc::clone(&self.worker);
        let (gate, window) = (Arc::clone(&self.gate), Arc::clone(&self.window));
        let idle = worker.config.timeouts.idle;
        let (mut silence, mut quiet) = (pin!(sleep_until(deadline)), pin!(sleep(idle)));
        let (mut announced, mut last_words) = (pin!(sleep(ANNOUNCED)), pin!(sleep(LAST_WORDS)));
        let (mut draining, mut cut) = (false, false);
        // Whether what the client was let in by may not count any more, and whether it does not.
        let (mut doubted, mut lost) = (false, false);
        let mut policy = worker.policy.load_full();
        let mut pace = Pace::new(CANCELLED, Instant::now());
        if worker.faults.on(Fault::Goaway) {
            self.close(Reason::NO_ERROR, "the fault `goaway` is on");
        }
        let end = loop {
            let (idle_now, room, closing) = (self.requests.len() == 0, self.has_room(), self.closing.is_some());
            // A client that has not answered the first GOAWAY by now gets no more.
            let refusing = draining && announced.is_elapsed();
            let known = gate.is_open() || closing;
            tokio::select! {
                // What the requests have said before they ended leaves first: a GOAWAY that closes the connection overtakes it within h2.
                biased;
                polled = poll_fn(|cx| self.transport.poll(cx, room, known)) => match polled {
                    Some(Ok((_, mut respond))) if refusing => respond.send_reset(Reason::REFUSED_STREAM),
                    Some(Ok(incoming)) => self.take(incoming),
                    Some(Err(why)) => break Some(why),
                    None => break None,
                },
                () = self.requests.one_ended() => {
                    quiet.as_mut().reset(Instant::now() + idle);
                    if (0..self.cancelled.swap(0, Relaxed)).any(|_| pace.is_high(Instant::now())) {
                        self.close(Reason::ENHANCE_YOUR_CALM, "the client cancels requests too fast");
                    }
                }
                () = gate.opened() => self.open_window(),
                () = window.changed(), if gate.is_open() => self.open_window(),
                () = &mut silence, if (!gate.is_open() || lost) && !closing => {
                    if gate.is_open() {
                        lost = self.close_if_lost(&policy);
                    } else {
                        self.close(Reason::NO_ERROR, "no authenticated request in time");
                    }
                }
                () = &mut quiet, if idle_now && !closing => self.close(Reason::NO_ERROR, "the client asks for nothing"),
                () = worker.draining.cancelled(), if !draining => {
                    draining = true;
                    announced.as_mut().reset(Instant::now() + ANNOUNCED);
                    self.transport.connection.graceful_shutdown();
                }
                () = &mut announced, if (draining || lost) && idle_now && !closing => {
                    if self.transport.connection.has_streams() {
                        // The end of a tunnel is still on its way to its client.
                        announced.as_mut().reset(Instant::now() + if draining { ANNOUNCED } else { DELIVERED });
                    } else if draining {
                        self.close(Reason::NO_ERROR, "the relay is drained");
                    } else {
                        lost = self.close_if_lost(&policy);
                    }
                }
                () = gate.expired(), if !lost => doubted = true,
                () = policy.replaced(), if !cut => {
                    cut = worker.cut.is_cancelled();
                    policy = worker.policy.load_full();
                    (doubted, lost) = (true, false);
                }
                () = &mut last_words, if closing => break None,
            }
            // Each tunnel ends for that reason first, and says so to its client.
            if cut && self.requests.len() == 0 && self.closing.is_none() {
                self.close(Reason::NO_ERROR, "the relay stopped");
            }
            if std::mem::take(&mut doubted) && gate.is_lost(&policy) {
                lost = true;
                let now = Instant::now();
                silence.as_mut().reset(now + worker.config.timeouts.authenticate);
                if !draining {
                    announced.as_mut().reset(now);
                }
            }
            if !closing && self.closing.is_some() {
                last_words.as_mut().reset(Instant::now() + LAST_WORDS);
            }
        };
        let Self { transport, mut requests, closing, .. } = self;
        // The requests learn of it by the connection's end.
        drop(transport.connection);
        requests.finish(|()| {}).await;
        if closing.is_none() {
            last_words.as_mut().reset(Instant::now() + LAST_WORDS);
        }
        // Its credit is still on the way to us; closed in its face, it would lose what it has not taken yet (C-79).
        tokio::select! {
            () = transport.outbox.linger() => {}
            () = last_words => {}
        }
        let end = match (closing, end) {
            (Some((reason, why)), _) => (format!("the relay closed: {why}"), said(By::Relay, reason, why)),
            (None, Some(end)) => end,
            (None, None) if draining => ("the relay is drained".into(), said(By::Relay, Reason::NO_ERROR, "the relay is drained")),
            (None, None) => {
                let close = Close::silent(By::Client, "");
                ("the client closed the connection".into(), close)
            }
        };
        (requests.count, end)
    }

    fn open_window(&mut self) {
        self.transport.connection.set_target_window_size(self.window.size() as u32);
    }

    /// Beyond that requests wait within h2, which bounds them by the streams permitted, or on the wire.
    fn has_room(&self) -> bool {
        let most = if self.gate.is_open() { self.worker.config.limits.tunnels_per_connection + REFUSABLE } else { BEFORE };
        self.requests.len() < most
    }

    fn take(&mut self, (request, respond): Incoming) {
        let worker = Arc::clone(&self.worker);
        if let Some(code) = worker.faults.close() {
            return self.close(code.into(), "the fault `close` is on");
        }
        let full = self.requests.len() >= worker.config.limits.tunnels_per_connection;
        let client = Client { address: self.address, http: "h2", full, log: Arc::clone(&self.log), shown: self.shown.clone() };
        let gate = Arc::clone(&self.gate);
        let exchange = H2Exchange::new(
            request,
            respond,
            Arc::clone(&self.log),
            Arc::clone(&self.cancelled),
            Share::of(&self.window),
            worker.config.timeouts.capsule_stall,
        );
        self.requests.spawn(async move { super::serve(exchange, client, &worker, |standing| gate.open(standing)).await });
    }

    /// Closes a connection whose client may ask nothing any more; gives whether it is one.
    fn close_if_lost(&mut self, policy: &Policy) -> bool {
        let lost = self.gate.is_lost(policy);
        if lost {
            self.close(Reason::NO_ERROR, gate::LOST);
        }
        lost
    }

    /// Says GOAWAY and stops; the h2 crate then ends the connection.
    fn close(&mut self, reason: Reason, why: &'static str) {
        self.closing.get_or_insert((reason, why));
        self.transport.connection.abrupt_shutdown(reason);
    }
}

fn said(by: By, reason: Reason, why: &str) -> Close {
    Close { by, layer: Some(Layer::Application), code: Some(u32::from(reason).into()), reason: why.into() }
}

fn over(error: &h2::Error) -> Over {
    let close = match (error.get_io(), error.reason()) {
        (Some(error), _) => lost(error),
        (None, Some(reason)) => said(if error.is_remote() { By::Client } else { By::Relay }, reason, ""),
        (None, None) => Close { by: By::Relay, layer: Some(Layer::Application), code: None, reason: error.to_string() },
    };
    (words(error), close)
}

/// The connection is gone without a word of HTTP's.
fn lost(error: &io::Error) -> Close {
    let by = match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => By::Client,
        _ => By::Neither,
    };
    Close::silent(by, tcp::broke(error))
}

/// Who ended a connection and why.
fn words(error: &h2::Error) -> String {
    let reason = || {
        error.reason().map_or_else(
            || error.to_string(),
            |reason| {
                let code = u32::from(reason);
                h2_name(code.into()).map_or_else(|| format!("{code:#x}"), Into::into)
            },
        )
    };
    match error.get_io() {
        Some(error) => broken(error),
        None if error.is_remote() => format!("the client closed: {}", reason()),
        None => format!("the relay closed: {}", reason()),
    }
}

fn broken(error: &io::Error) -> String {
    format!("the client's connection broke: {}", tcp::broke(error))
}
